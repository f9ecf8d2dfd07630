//! Keys of the state: which records exist, and in which order a scan meets them.
//!
//! A key's bytes are a tag and fixed-length parts, numbers big-endian, so that byte order is number order and all
//! records of a kind, or of an owner, have a common prefix. Only an operator's name, the last part, has its own length.
//! The bytes are part of the format and never change.

use crate::types::{AccountId, Epoch, FileId, Height, NodeId, limits};

/// Names one record of the state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// What the genesis fixed: `Record::Params`.
    Params,
    /// What every block moves on: `Record::Tip`.
    Tip,
    /// The validators of the next block: `Record::Validators`.
    Validators,
    /// Leaders to skip in the current epoch: `Record::SkipList`.
    SkipList,
    /// How many operators have a storage node: `Record::OperatorCount`.
    OperatorCount,
    /// What happened to deals, slots and nodes so far: `Record::Tally`.
    Tally,
    /// The credits behind validators: `Record::Stakes`.
    Stakes,
    /// What validators lost that contradicted themselves: `Record::Forfeited`. Missing while nothing was.
    Forfeited,
    /// The validators whose place others took when an epoch began: `Record::Validators`. Missing where nothing changed.
    Replaced(Epoch),
    /// The version of the rules: `Record::Protocol`. Missing while it is the first.
    Protocol,
    /// An account: `Record::Account`.
    Account(AccountId),
    /// The root of an account's tree of folders: `Record::Root`.
    Root(AccountId),
    /// A node: `Record::Node`.
    Node(NodeId),
    /// How many storage nodes an operator has: `Record::Operator`.
    Operator(String),
    /// A node's sum tree over the slots that it holds, by level and place: `Record::Sums`.
    Sums(NodeId, u8, u64),
    /// What a leaf of that tree stands for: `Record::Held`.
    Held(NodeId, u64),
    /// The audit that a node has to answer: `Record::Challenge`.
    Challenge(NodeId),
    /// The slots that a node is asked for again first: `Record::Missed`.
    Missed(NodeId),
    /// Marks a node that gives its slots away: `Record::Draining`.
    Draining(NodeId),
    /// What a node was punished for: `Record::Offence`.
    Offence(NodeId),
    /// A file's deal: `Record::File`.
    File(FileId),
    /// The public manifest of an open deal: `Record::Manifest`.
    Manifest(FileId),
    /// Marks a file as the owner's: `Record::OwnerFile`.
    OwnerFile(AccountId, FileId),
    /// Marks an open deal whose lost slots others are to rebuild: `Record::Lost`.
    Lost(FileId),
    /// A file's key for an account that it is shared with: `Record::Share`. By account, so that what is shared with one is one scan.
    Share(AccountId, FileId),
    /// Whom a file is shared with: `Record::Shares`.
    Shares(FileId),
    /// Number of deadlines at a height: `Record::DueCount`.
    DueCount(Height),
    /// One deadline at a height: `Record::Due`.
    Due(Height, u32),
}

const PARAMS: u8 = 0x01;
const TIP: u8 = 0x02;
const VALIDATORS: u8 = 0x03;
const SKIP_LIST: u8 = 0x04;
const OPERATOR_COUNT: u8 = 0x05;
const TALLY: u8 = 0x06;
const STAKES: u8 = 0x07;
const FORFEITED: u8 = 0x08;
const REPLACED: u8 = 0x09;
const PROTOCOL: u8 = 0x0a;
const ACCOUNT: u8 = 0x10;
const ROOT: u8 = 0x11;
const NODE: u8 = 0x20;
const OPERATOR: u8 = 0x21;
const SUMS: u8 = 0x22;
const HELD: u8 = 0x23;
const CHALLENGE: u8 = 0x24;
const MISSED: u8 = 0x25;
const DRAINING: u8 = 0x26;
const OFFENCE: u8 = 0x27;
const FILE: u8 = 0x30;
const MANIFEST: u8 = 0x31;
const OWNER_FILE: u8 = 0x32;
const LOST: u8 = 0x33;
const SHARE: u8 = 0x34;
const SHARES: u8 = 0x35;
const DUE_COUNT: u8 = 0x40;
const DUE: u8 = 0x41;

impl Key {
    /// Longest key, bytes.
    pub const BYTES_MAX: usize = 1 + limits::NAME_BYTES_MAX;

    /// The key's bytes, under which the store keeps the record and the state tree proves it.
    pub fn bytes(&self) -> Vec<u8> {
        let (tag, parts): (u8, [&[u8]; 3]) = match self {
            Self::Params => (PARAMS, [&[], &[], &[]]),
            Self::Tip => (TIP, [&[], &[], &[]]),
            Self::Validators => (VALIDATORS, [&[], &[], &[]]),
            Self::SkipList => (SKIP_LIST, [&[], &[], &[]]),
            Self::OperatorCount => (OPERATOR_COUNT, [&[], &[], &[]]),
            Self::Tally => (TALLY, [&[], &[], &[]]),
            Self::Stakes => (STAKES, [&[], &[], &[]]),
            Self::Forfeited => (FORFEITED, [&[], &[], &[]]),
            Self::Protocol => (PROTOCOL, [&[], &[], &[]]),
            Self::Replaced(epoch) => (REPLACED, [&epoch.get().to_be_bytes(), &[], &[]]),
            Self::Account(id) => (ACCOUNT, [id.as_bytes(), &[], &[]]),
            Self::Root(id) => (ROOT, [id.as_bytes(), &[], &[]]),
            Self::Node(id) => (NODE, [id.as_bytes(), &[], &[]]),
            Self::Operator(name) => (OPERATOR, [name.as_bytes(), &[], &[]]),
            Self::Sums(id, level, index) => (SUMS, [id.as_bytes(), std::slice::from_ref(level), &index.to_be_bytes()]),
            Self::Held(id, leaf) => (HELD, [id.as_bytes(), &leaf.to_be_bytes(), &[]]),
            Self::Challenge(id) => (CHALLENGE, [id.as_bytes(), &[], &[]]),
            Self::Missed(id) => (MISSED, [id.as_bytes(), &[], &[]]),
            Self::Draining(id) => (DRAINING, [id.as_bytes(), &[], &[]]),
            Self::Offence(id) => (OFFENCE, [id.as_bytes(), &[], &[]]),
            Self::Lost(id) => (LOST, [id.as_bytes(), &[], &[]]),
            Self::File(id) => (FILE, [id.as_bytes(), &[], &[]]),
            Self::Manifest(id) => (MANIFEST, [id.as_bytes(), &[], &[]]),
            Self::OwnerFile(owner, file) => (OWNER_FILE, [owner.as_bytes(), file.as_bytes(), &[]]),
            Self::Share(to, file) => (SHARE, [to.as_bytes(), file.as_bytes(), &[]]),
            Self::Shares(file) => (SHARES, [file.as_bytes(), &[], &[]]),
            Self::DueCount(height) => (DUE_COUNT, [&height.get().to_be_bytes(), &[], &[]]),
            Self::Due(height, index) => (DUE, [&height.get().to_be_bytes(), &index.to_be_bytes(), &[]]),
        };
        let mut out = vec![tag];
        parts.iter().for_each(|part| out.extend_from_slice(part));
        out
    }
    /// The key of some bytes, or nothing if they are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        let key = match *tag {
            ACCOUNT => Self::Account(AccountId::from_bytes(rest.try_into().ok()?)),
            ROOT => Self::Root(AccountId::from_bytes(rest.try_into().ok()?)),
            NODE => Self::Node(NodeId::from_bytes(rest.try_into().ok()?)),
            OPERATOR if rest.len() <= limits::NAME_BYTES_MAX => Self::Operator(str::from_utf8(rest).ok()?.to_owned()),
            FILE => Self::File(FileId::from_bytes(rest.try_into().ok()?)),
            MANIFEST => Self::Manifest(FileId::from_bytes(rest.try_into().ok()?)),
            SUMS => {
                let (node, rest) = rest.split_first_chunk()?;
                let (level, index) = rest.split_first()?;
                Self::Sums(NodeId::from_bytes(*node), *level, u64::from_be_bytes(index.try_into().ok()?))
            }
            HELD => {
                let (node, leaf) = rest.split_first_chunk()?;
                Self::Held(NodeId::from_bytes(*node), u64::from_be_bytes(leaf.try_into().ok()?))
            }
            CHALLENGE => Self::Challenge(NodeId::from_bytes(rest.try_into().ok()?)),
            MISSED => Self::Missed(NodeId::from_bytes(rest.try_into().ok()?)),
            DRAINING => Self::Draining(NodeId::from_bytes(rest.try_into().ok()?)),
            OFFENCE => Self::Offence(NodeId::from_bytes(rest.try_into().ok()?)),
            LOST => Self::Lost(FileId::from_bytes(rest.try_into().ok()?)),
            OWNER_FILE => {
                let (owner, file) = rest.split_first_chunk()?;
                Self::OwnerFile(AccountId::from_bytes(*owner), FileId::from_bytes(file.try_into().ok()?))
            }
            SHARE => {
                let (to, file) = rest.split_first_chunk()?;
                Self::Share(AccountId::from_bytes(*to), FileId::from_bytes(file.try_into().ok()?))
            }
            SHARES => Self::Shares(FileId::from_bytes(rest.try_into().ok()?)),
            DUE_COUNT => Self::DueCount(Height::new(u64::from_be_bytes(rest.try_into().ok()?))),
            DUE => {
                let (height, index) = rest.split_first_chunk()?;
                let index = u32::from_be_bytes(index.try_into().ok()?);
                Self::Due(Height::new(u64::from_be_bytes(*height)), index)
            }
            REPLACED => Self::Replaced(Epoch::new(u64::from_be_bytes(rest.try_into().ok()?))),
            PARAMS | TIP | VALIDATORS | SKIP_LIST | OPERATOR_COUNT | TALLY | STAKES | FORFEITED | PROTOCOL
                if !rest.is_empty() =>
            {
                return None;
            }
            PARAMS => Self::Params,
            TIP => Self::Tip,
            VALIDATORS => Self::Validators,
            SKIP_LIST => Self::SkipList,
            OPERATOR_COUNT => Self::OperatorCount,
            TALLY => Self::Tally,
            STAKES => Self::Stakes,
            FORFEITED => Self::Forfeited,
            PROTOCOL => Self::Protocol,
            _ => return None,
        };
        Some(key)
    }
    /// What the keys of all sets that others replaced begin with; the epoch is the key's second part.
    pub fn replaced() -> Vec<u8> {
        vec![REPLACED]
    }
    /// What the keys of all accounts begin with, and no other key.
    pub fn accounts() -> Vec<u8> {
        vec![ACCOUNT]
    }
    /// What the keys of all nodes begin with.
    pub fn nodes() -> Vec<u8> {
        vec![NODE]
    }
    /// What the keys of all offences begin with.
    pub fn offences() -> Vec<u8> {
        vec![OFFENCE]
    }
    /// What the keys of all operators begin with.
    pub fn operators() -> Vec<u8> {
        vec![OPERATOR]
    }
    /// What the keys of all audits that wait for an answer begin with.
    pub fn challenges() -> Vec<u8> {
        vec![CHALLENGE]
    }
    /// What the keys of all draining nodes begin with.
    pub fn draining() -> Vec<u8> {
        vec![DRAINING]
    }
    /// What the keys that name a node's slots begin with; the leaf is the key's second part.
    pub fn held_by(node: &NodeId) -> Vec<u8> {
        let mut prefix = vec![HELD];
        prefix.extend_from_slice(node.as_bytes());
        prefix
    }
    /// What the keys of all files with a lost slot begin with.
    pub fn lost() -> Vec<u8> {
        vec![LOST]
    }
    /// What the keys of all files' deals begin with.
    pub fn files() -> Vec<u8> {
        vec![FILE]
    }
    /// What the keys that mark an owner's files begin with; the file is the key's second part.
    pub fn files_of(owner: &AccountId) -> Vec<u8> {
        let mut prefix = vec![OWNER_FILE];
        prefix.extend_from_slice(owner.as_bytes());
        prefix
    }
    /// What the keys of all shares with an account begin with; the file is the key's second part.
    pub fn shared_with(account: &AccountId) -> Vec<u8> {
        let mut prefix = vec![SHARE];
        prefix.extend_from_slice(account.as_bytes());
        prefix
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_key() -> impl Strategy<Value = Key> {
        let id = any::<[u8; 32]>();
        prop_oneof![
            Just(Key::Params),
            Just(Key::Tip),
            Just(Key::Validators),
            Just(Key::SkipList),
            Just(Key::OperatorCount),
            Just(Key::Tally),
            Just(Key::Stakes),
            Just(Key::Forfeited),
            Just(Key::Protocol),
            any::<u64>().prop_map(|epoch| Key::Replaced(Epoch::new(epoch))),
            id.prop_map(|raw| Key::Account(AccountId::from_bytes(raw))),
            id.prop_map(|raw| Key::Root(AccountId::from_bytes(raw))),
            id.prop_map(|raw| Key::Node(NodeId::from_bytes(raw))),
            "[a-zé ]{1,20}".prop_map(Key::Operator),
            (id, any::<u8>(), any::<u64>()).prop_map(|(n, l, i)| Key::Sums(NodeId::from_bytes(n), l, i)),
            (id, any::<u64>()).prop_map(|(n, leaf)| Key::Held(NodeId::from_bytes(n), leaf)),
            id.prop_map(|raw| Key::Challenge(NodeId::from_bytes(raw))),
            id.prop_map(|raw| Key::Missed(NodeId::from_bytes(raw))),
            id.prop_map(|raw| Key::Draining(NodeId::from_bytes(raw))),
            id.prop_map(|raw| Key::Offence(NodeId::from_bytes(raw))),
            id.prop_map(|raw| Key::Lost(FileId::from_bytes(raw))),
            id.prop_map(|raw| Key::File(FileId::from_bytes(raw))),
            id.prop_map(|raw| Key::Manifest(FileId::from_bytes(raw))),
            (id, id).prop_map(|(a, f)| Key::OwnerFile(AccountId::from_bytes(a), FileId::from_bytes(f))),
            (id, id).prop_map(|(a, f)| Key::Share(AccountId::from_bytes(a), FileId::from_bytes(f))),
            id.prop_map(|raw| Key::Shares(FileId::from_bytes(raw))),
            any::<u64>().prop_map(|h| Key::DueCount(Height::new(h))),
            any::<(u64, u32)>().prop_map(|(h, n)| Key::Due(Height::new(h), n)),
        ]
    }

    proptest! {
        #[test]
        fn a_key_and_its_bytes_are_one_to_one_and_in_one_order(a in any_key(), b in any_key()) {
            prop_assert_eq!(Key::from_bytes(&a.bytes()), Some(a.clone()));
            prop_assert_eq!(a.cmp(&b), a.bytes().cmp(&b.bytes()));
            prop_assert!(a.bytes().len() <= Key::BYTES_MAX);
        }

        #[test]
        fn bytes_that_are_a_key_are_the_bytes_of_that_key(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
            if let Some(key) = Key::from_bytes(&bytes) {
                prop_assert_eq!(key.bytes(), bytes);
            }
        }
    }

    #[test]
    fn deadlines_sort_by_height_then_place() {
        let at = |height, index| Key::Due(Height::new(height), index).bytes();
        assert!(at(255, 7) < at(256, 0) && at(256, 0) < at(256, 1));
    }

    #[test]
    fn an_owners_prefix_fits_the_owners_files_alone() {
        let (a, b) = (AccountId::from_bytes([1; 32]), AccountId::from_bytes([2; 32]));
        let file = FileId::from_bytes([9; 32]);
        assert!(Key::OwnerFile(a, file).bytes().starts_with(&Key::files_of(&a)));
        assert!(!Key::OwnerFile(b, file).bytes().starts_with(&Key::files_of(&a)));
    }
}
