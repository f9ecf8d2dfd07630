//! A chain that is written step by step, each step one commit, and what must be there after each of them.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use trullo::ledger::effects::Changes;
use trullo::ledger::record::Account;
use trullo::ledger::tree::{self, Overlay, TreeReader, TreeUpdate};
use trullo::ledger::{Key, Record};
use trullo::store::{FinalBlock, Identity, IndexedTx, KeyOrigin, StateChanges, Store, StoreError, TxPlace};
use trullo::types::{AccountId, Amount, BlockHash, ChainId, Height, Millis, NodeId, Round, StateRoot, TxId, View};
use trullo::wire::{Block, Certificate, Header, ProposedBlock, VoteKind};

/// A block with all that comes of it.
struct Made {
    block: ProposedBlock,
    /// Another block of the same height, voted for and never final.
    rival: ProposedBlock,
    certificate: Option<Certificate>,
    receipts: Vec<u8>,
    txs: Vec<IndexedTx>,
    state: StateChanges,
    tree: TreeUpdate,
}

/// The chain. Step 2h keeps the block of height h and its rival as pending, step 2h + 1 makes the block final; each writes
/// its number as the safety record.
pub struct Script {
    made: Vec<Made>,
}

/// The tree's nodes in memory.
#[derive(Default)]
struct Nodes(BTreeMap<Vec<u8>, Vec<u8>>);

impl TreeReader for Nodes {
    type Error = std::convert::Infallible;
    fn node(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Self::Error> {
        Ok(self.0.get(key).cloned())
    }
}

pub fn identity() -> Identity {
    let seed = zeroize::Zeroizing::new([7; 32]);
    Identity { chain: ChainId::from_bytes([1; 32]), seed, origin: KeyOrigin::Generated, incarnation: [9; 32] }
}

fn account(n: u8) -> AccountId {
    AccountId::from_bytes([n; 32])
}

fn block(height: u64, parent: BlockHash, state_root: StateRoot, payload: Vec<u8>) -> ProposedBlock {
    let header = Header {
        version: 1,
        chain: ChainId::from_bytes([1; 32]),
        height: Height::new(height),
        round: Round::default(),
        proposer: NodeId::from_bytes([2; 32]),
        parent,
        tx_root: [3; 32],
        receipt_root: [4; 32],
        state_root,
        validator_set: [5; 32],
        next_set: [5; 32],
        time: Millis::new(height),
        reveal: [6; 32],
    };
    let block = Block { header, payload: Bytes::from(payload) };
    ProposedBlock { block, justify: Certificate::genesis(parent) }
}

fn made(height: u64, parent: BlockHash, nodes: &Nodes, rng: &mut ChaCha8Rng) -> Made {
    let mut changes = Changes::new();
    for _ in 0..rng.random_range(1..8) {
        let record = Record::Account(Account {
            balance: Amount::new(rng.random_range(1..1000)),
            nonce: height,
            ..Account::default()
        });
        let keep = height == 0 || rng.random_bool(0.8);
        changes.insert(Key::Account(account(rng.random_range(0..12))), keep.then_some(record));
    }
    let tree = tree::update(&Overlay::new(nodes, &[]), Height::new(height), &changes).expect("a tree in memory");
    let payload = |rng: &mut ChaCha8Rng| {
        let len = [0, 100, 5_000, 60_000][rng.random_range(0..4)];
        (0..len).map(|_| rng.random()).collect::<Vec<u8>>()
    };
    let proposed = block(height, parent, tree.root(), payload(rng));
    let hash = proposed.block.hash();
    let tx = |n: u64| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(height * 100 + n).to_be_bytes());
        IndexedTx { id: TxId::from_bytes(id), accounts: vec![account(n as u8), account(200)] }
    };
    let certificate = Certificate {
        kind: VoteKind::Commit,
        round: Round { view: View::new(height), ..Round::default() },
        height: Height::new(height),
        block: hash,
        signatures: Vec::new(),
    };
    Made {
        block: proposed,
        rival: block(height, parent, tree.root(), payload(rng).into_iter().chain([1]).collect()),
        certificate: (height % 3 != 1).then_some(certificate),
        receipts: vec![height as u8; 50],
        txs: (0..rng.random_range(0..6)).map(tx).collect(),
        state: changes.iter().map(|(key, record)| (key.bytes(), record.as_ref().map(Record::bytes))).collect(),
        tree,
    }
}

impl Script {
    pub fn new(seed: u64, blocks: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (mut nodes, mut parent, mut all) = (Nodes::default(), BlockHash::from_bytes([0; 32]), Vec::new());
        for height in 0..blocks {
            let mut one = made(height, parent, &nodes, &mut rng);
            // The rival differs in its header as well, as any other block does.
            one.rival.block.header.reveal = [7; 32];
            nodes.0.extend(one.tree.nodes());
            parent = one.block.block.hash();
            all.push(one);
        }
        Self { made: all }
    }
    pub fn steps(&self) -> u64 {
        self.made.len() as u64 * 2
    }

    /// Does one step, durably.
    pub fn step(&self, store: &Store, step: u64) -> Result<(), StoreError> {
        let made = &self.made[(step / 2) as usize];
        let mut batch = store.batch()?;
        batch.put_record(&(step + 1).to_be_bytes())?;
        if step.is_multiple_of(2) {
            batch.put_pending([&made.block, &made.rival])?;
        } else {
            batch.finalize(&FinalBlock {
                block: &made.block,
                certificate: made.certificate.as_ref(),
                receipts: &made.receipts,
                txs: &made.txs,
                state: &made.state,
                tree: &made.tree,
            })?;
        }
        batch.commit()
    }

    /// Number of steps that the store has seen, by its safety record; everything else must agree with it.
    pub fn check(&self, store: &Store) -> Result<u64, StoreError> {
        let signer = store.signer()?;
        assert_eq!(*signer.seed(), [7; 32]);
        assert_eq!(signer.quarantine(), None);
        let record = signer.record().map(|record| record.try_into().expect("8 bytes"));
        let steps = record.map_or(0, u64::from_be_bytes);
        let (finals, pending) = (steps / 2, steps % 2);
        let view = store.reader().snapshot()?;
        assert_eq!(view.tip()?.map(|tip| tip.height.get() + 1).unwrap_or_default(), finals, "the tip");
        assert_eq!(store.reader().tip(), view.tip()?);
        let waiting = view.pending_blocks()?;
        assert_eq!(waiting.len() as u64, 2 * pending, "pending blocks");
        if pending == 1 {
            let made = &self.made[finals as usize];
            assert!(waiting.contains(&made.block) && waiting.contains(&made.rival));
            assert_eq!(view.block_by_hash(&made.rival.block.hash())?.as_ref(), Some(&made.rival));
        }
        let mut state: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (made, height) in self.made.iter().zip(0..finals) {
            self.check_block(made, Height::new(height), &view)?;
            for (key, value) in &made.state {
                match value {
                    Some(value) => state.insert(key.clone(), value.clone()),
                    None => state.remove(key),
                };
            }
        }
        assert_eq!(view.state_scan(&[], None, 1_000)?, state.clone().into_iter().collect::<Vec<_>>());
        if let Some(last) = finals.checked_sub(1) {
            self.check_proofs(&view, last, &state);
        }
        Ok(steps)
    }

    /// Whether all that the store gives back is what was written. Rows may be missing or refused.
    pub fn check_values(&self, store: &Store, blocks: u64) -> Result<(), StoreError> {
        let view = store.reader().snapshot()?;
        let mut first_error = Ok(());
        let mut note =
            |result: Result<(), StoreError>| first_error = std::mem::replace(&mut first_error, Ok(())).and(result);
        for (made, height) in self.made.iter().zip((0..blocks).map(Height::new)) {
            note(view.header(height).map(|found| assert!(found.is_none_or(|h| h == made.block.block.header))));
            note(view.block(height).map(|found| assert!(found.is_none_or(|block| block == made.block))));
            note(view.receipts(height).map(|found| assert!(found.is_none_or(|bytes| bytes == made.receipts))));
            note(view.certificate(height).map(|found| assert!(found.is_none() || found == made.certificate)));
            for (index, tx) in (0..).zip(&made.txs) {
                note(view.tx(&tx.id).map(|found| assert!(found.is_none_or(|at| at == TxPlace { height, index }))));
            }
            for (key, node) in made.tree.nodes() {
                note(view.node(&key).map(|found| assert!(found.is_none_or(|bytes| bytes == node))));
            }
        }
        note(store.signer().map(|signer| assert_eq!(signer.record(), Some((2 * blocks).to_be_bytes().as_slice()))));
        first_error
    }

    fn check_block(&self, made: &Made, height: Height, view: &trullo::store::Snapshot) -> Result<(), StoreError> {
        let hash = made.block.block.hash();
        assert_eq!(view.height_of(&hash)?, Some(height));
        assert_eq!(view.block(height)?.as_ref(), Some(&made.block));
        assert_eq!(view.block_by_hash(&made.rival.block.hash())?, None, "a rival of a final block is gone");
        assert_eq!(view.certificate(height)?, made.certificate);
        assert_eq!(view.receipts(height)?.as_ref(), Some(&made.receipts));
        for (index, tx) in (0..).zip(&made.txs) {
            let place = TxPlace { height, index };
            assert_eq!(view.tx(&tx.id)?, Some(place));
            for account in &tx.accounts {
                assert!(view.account_txs(account, None, usize::MAX)?.contains(&place));
            }
        }
        Ok(())
    }

    /// Every record can be proven against the root of the last final block.
    fn check_proofs(&self, view: &trullo::store::Snapshot, last: u64, state: &BTreeMap<Vec<u8>, Vec<u8>>) {
        let root = self.made[last as usize].tree.root();
        for n in 0..12 {
            let key = Key::Account(account(n));
            let proof = tree::prove(&Overlay::new(view, &[]), Height::new(last), &key).expect("all nodes are there");
            let record = state.get(&key.bytes()).map(Vec::as_slice);
            assert_eq!(proof.verify(&root, &key, record), Ok(()));
        }
    }
}
