//! Keys: the password-protected keystore, and what is derived from an account's key.
//!
//! password ▸ argon2id ▸ key-encryption key ▸ master seed ▸ signing key and file wrapping key. The password guards one
//! blob of 72 bytes, so a new password rewrites that and nothing else. Cost parameters and salt stand in the keystore
//! and are bound to the blob; they are bounded before memory is taken for them.
//! Pure: seed, salt and nonce are arguments, and must be random.
//! Not here: where the keystore lies (`config`), what is signed with the keys (`wire`).

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use borsh::{BorshDeserialize, BorshSerialize};
use zeroize::Zeroizing;

use super::seal::{FileKey, NONCE_BYTES, SECRET_OVERHEAD, SealKey};
use super::sign::SecretKey;
use crate::types::{AccountId, limits};

/// Bytes of a keystore's salt (RFC 9106, section 3.1).
pub const SALT_BYTES: usize = 16;

/// The version of the keystore's format that this program writes and reads.
const VERSION: u16 = 1;

/// What a guess at the password costs (argon2id, RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct KdfParams {
    /// Memory, KiB; at least 8 for each lane.
    pub memory_kib: u32,
    /// Passes over the memory, at least 1.
    pub passes: u32,
    /// Lanes, at least 1.
    pub lanes: u32,
}

impl KdfParams {
    /// 64 MiB, 3 passes, 4 lanes: the second choice of RFC 9106, section 4; about 0.1 s.
    pub const STANDARD: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 4 };
    /// Next to nothing: for tests and for testnets, whose keys guard nothing.
    pub const TESTNET: Self = Self { memory_kib: 64, passes: 1, lanes: 1 };

    fn check(self) -> Result<Params, KeystoreError> {
        let within = self.memory_kib <= limits::KDF_MEMORY_KIB_MAX
            && self.passes <= limits::KDF_PASSES_MAX
            && self.lanes <= limits::KDF_LANES_MAX;
        let params = within.then(|| Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).ok()).flatten();
        params.ok_or(KeystoreError::Cost(self))
    }

    fn key(self, password: &[u8], salt: &[u8; SALT_BYTES]) -> Result<SealKey, KeystoreError> {
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, self.check()?);
        let mut key = Zeroizing::new([0; 32]);
        #[cfg(test)]
        work::add(self);
        // Checked parameters leave a password over 4 GiB as the only reason to fail.
        argon2.hash_password_into(password, salt, key.as_mut()).map_err(|_| KeystoreError::Password)?;
        Ok(SealKey::from_bytes(*key))
    }
}

/// How much argon2id has done on this thread: tests count it, because time tells nothing.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;

    use super::KdfParams;

    thread_local!(static DONE: Cell<u64> = const { Cell::new(0) });

    pub(super) fn add(kdf: KdfParams) {
        DONE.set(DONE.get() + u64::from(kdf.memory_kib) * u64::from(kdf.passes));
    }
    /// KiB that were passed over while something was done.
    pub(crate) fn of(doing: impl FnOnce()) -> u64 {
        let before = DONE.get();
        doing();
        DONE.get() - before
    }
}

/// Why a keystore does not open or cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeystoreError {
    /// The password is wrong, or the keystore was changed.
    #[error("wrong password, or the keystore is damaged")]
    Password,
    /// A version that this program does not know.
    #[error("keystore format {0} is not known")]
    Version(u16),
    /// Cost parameters that argon2 does not know or that ask for too much.
    #[error("argon2id with {} KiB, {} passes, {} lanes; at most {} KiB, {} passes and {} lanes are allowed, at least 8 KiB a lane",
        .0.memory_kib, .0.passes, .0.lanes, limits::KDF_MEMORY_KIB_MAX, limits::KDF_PASSES_MAX, limits::KDF_LANES_MAX)]
    Cost(KdfParams),
    /// It opened, but to the keys of another account than it names.
    #[error("the keystore names account {named} but holds the keys of {held}")]
    Account {
        /// In the keystore's text.
        named: AccountId,
        /// Of the keys inside.
        held: AccountId,
    },
}

/// What an account can do: sign, and open its files. Wiped from memory when dropped.
#[derive(Clone)]
pub struct AccountKeys {
    /// Signs transactions; its public half is the account.
    pub signing: SecretKey,
    /// Wraps the keys of the account's files.
    pub wrapping: SealKey,
}

impl AccountKeys {
    /// The keys that follow from an account's master seed, 32 random bytes.
    pub fn from_master(seed: &[u8; 32]) -> Self {
        let master = SealKey::from_bytes(*seed);
        let signing = master.derive("account signing", &[]);
        Self { signing: SecretKey::from_seed(signing.as_bytes()), wrapping: master.derive("account wrapping", &[]) }
    }
    /// The key that signs transactions.
    pub fn signing(&self) -> &SecretKey {
        &self.signing
    }
    /// The account.
    pub fn account_id(&self) -> AccountId {
        self.signing.public().account_id()
    }
    /// Key and nonce of a file whose upload can be resumed: the same for the same session and source.
    /// `session` is random. `source` is whatever tells one content from another before it is read (length, time of
    /// the last change): two contents under one key would tell an observer their difference.
    pub fn file_secrets(&self, session: &[u8; 32], source: &[u8]) -> (FileKey, [u8; 32]) {
        let context = [session.as_slice(), source].concat();
        let nonce = self.wrapping.derive("file nonce", &context);
        (FileKey::from(self.wrapping.derive("file key", &context)), *nonce.as_bytes())
    }
}

impl fmt::Debug for AccountKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountKeys(of {:?})", self.account_id())
    }
}

/// An account's master seed under a password.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Keystore {
    version: u16,
    account: AccountId,
    kdf: KdfParams,
    salt: [u8; SALT_BYTES],
    sealed: Vec<u8>,
}

impl Keystore {
    /// Locks a master seed. Salt and nonce are random and new. Errors: `Cost`.
    pub fn create(
        seed: &[u8; 32],
        password: &[u8],
        kdf: KdfParams,
        salt: [u8; SALT_BYTES],
        nonce: [u8; NONCE_BYTES],
    ) -> Result<Self, KeystoreError> {
        let account = AccountKeys::from_master(seed).account_id();
        let mut store = Self { version: VERSION, account, kdf, salt, sealed: Vec::new() };
        store.sealed = kdf.key(password, &salt)?.seal(&nonce, &store.associated(), seed);
        Ok(store)
    }
    /// The keys. Takes as long as the cost parameters ask for. Errors: each of `KeystoreError`.
    pub fn open(&self, password: &[u8]) -> Result<AccountKeys, KeystoreError> {
        self.unlock(password).map(|(_, keys)| keys)
    }
    /// The master seed, for a recovery phrase. Errors: each of `KeystoreError`.
    pub fn master(&self, password: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeystoreError> {
        self.unlock(password).map(|(seed, _)| seed)
    }
    /// Does for an account that does not exist what `open` does for one that does, so that the time tells nobody which exist.
    /// Never opens. Errors: `Password`, `Cost`.
    pub fn refuse(kdf: KdfParams, password: &[u8]) -> KeystoreError {
        let (account, salt, sealed) = (AccountId::from_bytes([0; 32]), [0; SALT_BYTES], vec![0; 32 + SECRET_OVERHEAD]);
        let none = Self { version: VERSION, account, kdf, salt, sealed };
        none.open(password).err().unwrap_or(KeystoreError::Password)
    }
    /// The same account under another password. Salt and nonce are random and new. Errors: each of `KeystoreError`.
    pub fn change_password(
        &self,
        old: &[u8],
        new: &[u8],
        kdf: KdfParams,
        salt: [u8; SALT_BYTES],
        nonce: [u8; NONCE_BYTES],
    ) -> Result<Self, KeystoreError> {
        let (seed, _) = self.unlock(old)?;
        Self::create(&seed, new, kdf, salt, nonce)
    }
    /// The account whose keys are inside, as the keystore says; `open` checks it.
    pub const fn account(&self) -> &AccountId {
        &self.account
    }
    /// What a guess at the password costs.
    pub const fn kdf(&self) -> KdfParams {
        self.kdf
    }

    fn unlock(&self, password: &[u8]) -> Result<(Zeroizing<[u8; 32]>, AccountKeys), KeystoreError> {
        if self.version != VERSION {
            return Err(KeystoreError::Version(self.version));
        }
        let key = self.kdf.key(password, &self.salt)?;
        let plain = key.open(&self.associated(), &self.sealed).map_err(|_| KeystoreError::Password)?;
        let seed = Zeroizing::new(plain.as_slice().try_into().map_err(|_| KeystoreError::Password)?);
        let keys = AccountKeys::from_master(&seed);
        let held = keys.account_id();
        if held != self.account {
            return Err(KeystoreError::Account { named: self.account, held });
        }
        Ok((seed, keys))
    }

    /// Everything but the sealed seed.
    fn associated(&self) -> Vec<u8> {
        let head = (self.version, self.account, self.kdf, self.salt);
        borsh::to_vec(&head).expect("encoding into memory does not fail")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keystore(kdf: KdfParams) -> Result<Keystore, KeystoreError> {
        Keystore::create(&[1; 32], b"password", kdf, [2; SALT_BYTES], [3; NONCE_BYTES])
    }

    #[test]
    fn the_right_password_opens_and_another_does_not() {
        let store = keystore(KdfParams::TESTNET).expect("valid parameters");
        let keys = store.open(b"password").expect("the right password");
        assert_eq!(keys.account_id(), AccountKeys::from_master(&[1; 32]).account_id());
        assert_eq!(store.account(), &keys.account_id());
        assert_eq!(store.open(b"Password").err(), Some(KeystoreError::Password));
    }

    #[test]
    fn a_new_password_replaces_the_old_one_and_keeps_the_account() {
        let old = keystore(KdfParams::TESTNET).expect("valid parameters");
        let change = |password: &[u8]| old.change_password(password, b"new", KdfParams::TESTNET, [4; 16], [5; 24]);
        assert_eq!(change(b"wrong").err(), Some(KeystoreError::Password));
        let new = change(b"password").expect("the right password");
        assert_eq!(new.open(b"new").map(|keys| keys.account_id()).as_ref(), Ok(old.account()));
        assert_eq!(new.open(b"password").err(), Some(KeystoreError::Password));
    }

    #[test]
    fn costs_out_of_bounds_are_refused_before_memory_is_taken() {
        let cost = |memory_kib, passes, lanes| KdfParams { memory_kib, passes, lanes };
        let over = [cost(u32::MAX, 1, 1), cost(64, u32::MAX, 1), cost(1 << 20, 1, u32::MAX)];
        let under = [cost(7, 1, 1), cost(64, 0, 1), cost(64, 1, 0), cost(31, 1, 4)];
        for kdf in over.into_iter().chain(under) {
            assert_eq!(keystore(kdf), Err(KeystoreError::Cost(kdf)));
        }
        let mut store = keystore(KdfParams::TESTNET).expect("valid parameters");
        store.kdf = cost(u32::MAX, 1, 1);
        assert_eq!(store.open(b"password").err(), Some(KeystoreError::Cost(store.kdf)));
    }

    #[test]
    fn a_wrong_password_costs_what_the_right_one_costs_whatever_else_is_wrong() {
        let store = keystore(KdfParams::TESTNET).expect("valid parameters");
        let right = work::of(|| assert!(store.open(b"password").is_ok()));
        assert_eq!(right, 64, "one pass over 64 KiB");
        let damaged = |change: fn(&mut Keystore)| {
            let mut store = store.clone();
            change(&mut store);
            store
        };
        let wrong = [
            (store.clone(), b"Password".as_slice()),
            (store.clone(), b""),
            (damaged(|store| store.sealed[0] ^= 1), b"password"),
            (damaged(|store| store.sealed.clear()), b"password"),
            (damaged(|store| store.account = AccountId::from_bytes([9; 32])), b"password"),
        ];
        for (store, password) in wrong {
            let work = work::of(|| assert_eq!(store.open(password).err(), Some(KeystoreError::Password)));
            assert_eq!(work, right);
        }
        let nobody = work::of(|| assert_eq!(Keystore::refuse(KdfParams::TESTNET, b"any"), KeystoreError::Password));
        assert_eq!(nobody, right);
    }

    #[test]
    fn the_master_seed_comes_back_for_the_password_alone() {
        let store = keystore(KdfParams::TESTNET).expect("valid parameters");
        assert_eq!(store.master(b"password").as_deref(), Ok(&[1; 32]));
        assert_eq!(store.master(b"Password").err(), Some(KeystoreError::Password));
    }

    #[test]
    fn the_standard_cost_is_allowed() {
        assert!(KdfParams::STANDARD.check().is_ok());
    }

    #[test]
    fn a_keystore_that_names_another_account_or_version_does_not_open() {
        let mut store = keystore(KdfParams::TESTNET).expect("valid parameters");
        store.account = AccountId::from_bytes([9; 32]);
        assert_eq!(store.open(b"password").err(), Some(KeystoreError::Password));
        store.version = 2;
        assert_eq!(store.open(b"password").err(), Some(KeystoreError::Version(2)));
    }

    #[test]
    fn the_format_stays_as_it_is() {
        let store = keystore(KdfParams::TESTNET).expect("valid parameters");
        let raw = borsh::to_vec(&store).expect("encodes");
        expect_test::expect!["010011d9c1d1465a25f969883c2a266dd539cf9dc9827b2a35c34381b7beb19546c94000000001000000010000000202020202020202020202020202020248000000030303030303030303030303030303030303030303030303fa4c4b66ae1e7194c5f855b8e34358b1d38b38cce131a9a89bc45f7f048d3c7fbddad1630398031a23900da690e998aa"].assert_eq(&hex::encode(raw));
    }

    #[test]
    fn file_secrets_depend_on_account_session_and_source() {
        let keys = AccountKeys::from_master(&[1; 32]);
        let base = keys.file_secrets(&[1; 32], b"a");
        assert_eq!(keys.file_secrets(&[1; 32], b"a"), base);
        for other in [
            keys.file_secrets(&[2; 32], b"a"),
            keys.file_secrets(&[1; 32], b"b"),
            AccountKeys::from_master(&[2; 32]).file_secrets(&[1; 32], b"a"),
        ] {
            assert_ne!(other.0, base.0);
            assert_ne!(other.1, base.1);
        }
        assert_ne!(base.0.as_bytes(), &base.1);
    }

    proptest! {
        #[test]
        fn a_changed_bit_does_not_open(at in any::<prop::sample::Index>(), bit in 0_u32..8) {
            let store = keystore(KdfParams::TESTNET).expect("valid parameters");
            let mut raw = borsh::to_vec(&store).expect("encodes");
            let at = at.index(raw.len());
            raw[at] ^= 1_u8 << bit;
            if let Ok(changed) = borsh::from_slice::<Keystore>(&raw) {
                // A changed cost may ask for much memory within the bounds; its refusal is another test.
                prop_assume!(changed.kdf == store.kdf);
                prop_assert!(changed.open(b"password").is_err());
            }
        }
    }
}
