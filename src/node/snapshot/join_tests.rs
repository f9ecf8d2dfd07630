//! Joining from peers of which some lie: each lie is found, named, and changes nothing of what is joined.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::crypto::SecretKey;
use crate::ledger::genesis::GenesisAccount;
use crate::node::app::validators;
use crate::node::chain::exec::{Application, BuildRequest};
use crate::node::clock::Clock;
use crate::node::light::question::Answerer;
use crate::node::snapshot::{Shelf, make};
use crate::node::testing;
use crate::store::{FinalBlock, Identity, KeyOrigin, Options};
use crate::types::{Amount, Epoch, Round, View};
use crate::wire::VoteKind;

/// What a peer does to its answers.
type Lie = Box<dyn Fn(&Question, Vec<u8>) -> Option<Vec<u8>> + Send + Sync>;

struct Crowd {
    answerer: Answerer,
    lies: BTreeMap<NodeId, Lie>,
    blamed: Mutex<Vec<NodeId>>,
    pieces: Mutex<u32>,
}

impl Peers for Crowd {
    fn connected(&self) -> Vec<NodeId> {
        self.lies.keys().copied().collect()
    }
    async fn ask(&self, node: NodeId, question: &Question) -> Option<Bytes> {
        if matches!(question, Question::Piece { .. }) {
            *self.pieces.lock().expect("no panic") += 1;
        }
        let honest = self.answerer.answer(&wire::encode(question)).expect("a readable store")?;
        self.lies[&node](question, honest).map(Bytes::from)
    }
    fn blame(&self, node: NodeId, _: &str) {
        self.blamed.lock().expect("no panic").push(node);
    }
}

fn genesis() -> Genesis {
    let mut genesis = testing::genesis();
    let account = |n: u8| SecretKey::from_seed(&[n; 32]).public().account_id();
    let more = (100..200).map(|n| GenesisAccount { account: account(n), balance: Amount::new(u64::from(n)) });
    genesis.accounts.extend(more);
    genesis.sorted()
}

/// A chain up to the end of its first epoch, with a snapshot of its state.
pub(in crate::node) fn chain(home: &std::path::Path, genesis: &Genesis) -> (Store, Arc<Shelf>) {
    let store = testing::store(home, [1; 32], genesis);
    let mut app = testing::app(&store, genesis, &testing::validator(), Clock::start());
    let mut justify = Certificate::genesis(genesis.block().expect("a genesis block").hash());
    for height in 1..=genesis.epoch_blocks {
        let round = Round::new(Epoch::ZERO, View::new(height));
        let request = BuildRequest { round, justify, height: Height::new(height), even_empty: true };
        let executed = app.build(&request).expect("a readable state").expect("a block");
        justify = testing::certify(genesis, VoteKind::Prepare, &executed.block);
        let commit = testing::certify(genesis, VoteKind::Commit, &executed.block);
        let mut batch = store.batch().expect("a batch");
        let last = FinalBlock {
            block: &executed.block,
            certificate: Some(&commit),
            receipts: &executed.receipts,
            txs: &executed.txs,
            state: &executed.state,
            tree: &executed.tree,
        };
        batch.finalize(&last).expect("it follows");
        batch.commit().expect("durable");
        app.finalized(&[executed]);
    }
    let shelf = Arc::new(Shelf::open(home.join("snapshots")));
    let snapshot = store.reader().snapshot().expect("a snapshot");
    make::make(&shelf, &snapshot, 0).expect("it is made");
    (store, shelf)
}

fn empty(home: &std::path::Path, genesis: &Genesis) -> Store {
    let path = home.join("new.redb");
    let seed = zeroize::Zeroizing::new([7; 32]);
    let identity = Identity { chain: genesis.chain_id(), seed, origin: KeyOrigin::Generated, incarnation: [7; 32] };
    Store::create(&path, &identity).expect("a database");
    Store::open(&path, &Options::default()).expect("it opens")
}

fn peer(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

fn honest() -> Lie {
    Box::new(|_, answer| Some(answer))
}

/// Changes the records of every piece.
fn pieces(edit: impl Fn(&mut Vec<RawRecord>) + Send + Sync + 'static) -> Lie {
    Box::new(move |question, answer| {
        if !matches!(question, Question::Piece { .. }) {
            return Some(answer);
        }
        let mut records: Option<Vec<RawRecord>> = wire::decode(&answer, answer.len()).expect("an honest answer");
        records.iter_mut().for_each(&edit);
        Some(wire::encode(&records))
    })
}

#[tokio::test]
async fn each_lie_about_a_snapshot_is_found_and_the_state_is_joined_all_the_same() {
    let (home, genesis) = (tempfile::tempdir().expect("a directory"), genesis());
    let (store, shelf) = chain(home.path(), &genesis);
    let answerer = Answerer { reader: store.reader(), shelf };
    let lies: Vec<(&str, Lie)> = vec![
        ("a wrong value", pieces(|records| *records[0].1.last_mut().expect("bytes") ^= 1)),
        ("a missing record", pieces(|records| _ = records.pop())),
        ("a surplus record", pieces(|records| records.push(records[0].clone()))),
        ("another order", pieces(|records| records.reverse())),
        ("no record at all", pieces(Vec::clear)),
        (
            "bytes cut short",
            Box::new(|question, mut answer| {
                let cut = matches!(question, Question::Piece { .. });
                answer.truncate(if cut { answer.len() / 2 } else { answer.len() });
                Some(answer)
            }),
        ),
        (
            "a manifest of another state",
            Box::new(|question, answer| {
                if !matches!(question, Question::Manifest { .. }) {
                    return Some(answer);
                }
                let mut manifest: Option<Manifest> = wire::decode(&answer, answer.len()).expect("an honest answer");
                manifest.iter_mut().for_each(|manifest| manifest.pieces[0] = crate::ledger::pieces::Sum::One([5; 32]));
                Some(wire::encode(&manifest))
            }),
        ),
        (
            "a header of another history",
            Box::new(|question, answer| {
                if !matches!(question, Question::Header { .. }) {
                    return Some(answer);
                }
                let mut head: Option<Head> = wire::decode(&answer, answer.len()).expect("an honest answer");
                head.iter_mut()
                    .for_each(|head| head.headers[0].state_root = crate::types::StateRoot::from_bytes([6; 32]));
                Some(wire::encode(&head))
            }),
        ),
    ];
    for (what, lie) in lies {
        let dir = tempfile::tempdir().expect("a directory");
        let new = empty(dir.path(), &genesis);
        // The liar is asked first.
        let crowd = Crowd {
            answerer: answerer.clone(),
            lies: BTreeMap::from([(peer(1), lie), (peer(2), honest())]),
            blamed: Mutex::default(),
            pieces: Mutex::default(),
        };
        let trusted = Trusted::genesis(&genesis).expect("a genesis");
        let height = join(&new, &crowd, trusted).await.expect("joined");
        assert_eq!(height.get(), genesis.epoch_blocks, "{what}");
        let blamed = crowd.blamed.lock().expect("no panic").clone();
        assert!(!blamed.is_empty() && blamed.iter().all(|node| *node == peer(1)), "{what}: {blamed:?} were blamed");
        let (mine, theirs) = (new.reader().snapshot().expect("one"), store.reader().snapshot().expect("one"));
        let all = |snapshot: &crate::store::Snapshot| snapshot.state_scan(&[], None, 10_000).expect("records");
        assert_eq!(all(&mine), all(&theirs), "{what}");
        assert_eq!(mine.tip().expect("readable"), theirs.tip().expect("readable"), "{what}");
        assert_eq!(validators(&mine).expect("a set"), validators(&theirs).expect("a set"));
        assert_eq!(mine.base().expect("readable"), height);
        assert_eq!(mine.header(Height::new(3)).expect("no damage"), None, "what is before the snapshot is not there");
    }
}

#[tokio::test]
async fn a_checkpoint_stands_in_for_the_genesis_and_another_chains_is_refused() {
    let (home, genesis) = (tempfile::tempdir().expect("a directory"), genesis());
    let (store, shelf) = chain(home.path(), &genesis);
    let crowd = Crowd {
        answerer: Answerer { reader: store.reader(), shelf },
        lies: BTreeMap::from([(peer(2), honest())]),
        blamed: Mutex::default(),
        pieces: Mutex::default(),
    };
    let header =
        store.reader().snapshot().expect("one").header(Height::new(5)).expect("readable").expect("it is there");
    let point = Checkpoint { height: header.height, hash: header.hash() };
    let trusted = anchor(&crowd, &genesis, Some(point)).await.expect("the peer knows it");
    assert_eq!((trusted.height, trusted.hash), (point.height, point.hash));
    let new = empty(home.path(), &genesis);
    assert_eq!(join(&new, &crowd, trusted).await.expect("joined").get(), genesis.epoch_blocks);
    let mut other = genesis.clone();
    other.name = "another".to_owned();
    assert!(anchor(&crowd, &other, Some(point)).await.expect_err("not of that genesis").0.contains("is of chain"));
}

#[tokio::test]
async fn a_join_that_was_interrupted_goes_on_with_the_next_piece() {
    let (home, genesis) = (tempfile::tempdir().expect("a directory"), genesis());
    let (store, shelf) = chain(home.path(), &genesis);
    let crowd = Crowd {
        answerer: Answerer { reader: store.reader(), shelf },
        lies: BTreeMap::from([(peer(2), honest())]),
        blamed: Mutex::default(),
        pieces: Mutex::default(),
    };
    let new = empty(home.path(), &genesis);
    let trusted = Trusted::genesis(&genesis).expect("a genesis");
    let under_way = Join { store: &new, peers: &crowd, trusted: trusted.clone(), liars: Mutex::default() };
    let plan = under_way.begin().await.expect("there is a snapshot");
    assert!(under_way.fetch(&plan).await.expect("they come"));
    let asked = *crowd.pieces.lock().expect("no panic");
    drop(new);
    let new = Store::open(&home.path().join("new.redb"), &Options::default()).expect("it opens");
    assert_eq!(new.reader().tip(), None, "half a state is no chain");
    let joining = new.joining().expect("readable").expect("it is under way");
    assert_eq!(joining.pieces as usize, plan.manifest.pieces.len());
    join(&new, &crowd, trusted).await.expect("joined");
    assert_eq!(*crowd.pieces.lock().expect("no panic"), asked, "no piece is fetched twice");
    assert_eq!(new.joining().expect("readable"), None);
    assert_eq!(
        new.reader().tip().map(|tip| tip.header.state_root),
        store.reader().tip().map(|tip| tip.header.state_root)
    );
}

#[test]
fn a_snapshot_that_is_damaged_on_disk_is_not_served() {
    let (home, genesis) = (tempfile::tempdir().expect("a directory"), genesis());
    let (store, shelf) = chain(home.path(), &genesis);
    let height = store.reader().tip().expect("a tip").height;
    assert_eq!(shelf.heights(), [height]);
    assert!(shelf.piece(height, 0).is_some());
    assert!(shelf.piece(height, u32::MAX).is_none());
    let again = Shelf::open(home.path().join("snapshots"));
    assert_eq!(again.heights(), [height], "it is there after a restart");
    let file = home.path().join(format!("snapshots/{height}.pieces"));
    let mut bytes = std::fs::read(&file).expect("the file");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let count = again.manifest(height).expect("a manifest").pieces.len();
    let served = (0..count).filter(|index| again.piece(height, u32::try_from(*index).expect("few")).is_some()).count();
    assert!(served < count, "the damaged piece is kept back");
    assert!(again.heights().is_empty());
}
