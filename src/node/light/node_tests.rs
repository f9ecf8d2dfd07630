//! A light node among peers that lie or are gone: every answer is proven, and who lies is named.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::ledger::Genesis;
use crate::node::bundle::fixtures::{certify, header};
use crate::node::light::question::Answerer;
use crate::node::snapshot::Shelf;
use crate::node::testing;
use crate::types::Amount;
use crate::wire::Certificate;

type Words = Box<dyn Fn(&Question) -> Option<Vec<u8>> + Send + Sync>;

struct Crowd {
    words: BTreeMap<NodeId, Words>,
    blamed: Arc<Mutex<Vec<NodeId>>>,
}

impl Peers for Crowd {
    fn connected(&self) -> Vec<NodeId> {
        self.words.keys().copied().collect()
    }
    async fn ask(&self, node: NodeId, question: &Question) -> Option<Bytes> {
        self.words[&node](question).map(Bytes::from)
    }
    fn blame(&self, node: NodeId, _: &str) {
        self.blamed.lock().expect("no panic").push(node);
    }
}

fn peer(n: u8) -> NodeId {
    NodeId::from_bytes([n; 32])
}

/// A chain of one block, and whom it asks.
fn answerer(home: &std::path::Path, genesis: &Genesis) -> Answerer {
    let store = crate::node::snapshot::fixtures::chain(home, genesis).0;
    let shelf = Arc::new(Shelf::open(home.join("none")));
    Answerer { reader: store.reader(), shelf }
}

fn light(genesis: &Genesis, home: &std::path::Path, words: Vec<(u8, Words)>) -> Light<Crowd> {
    let words = words.into_iter().map(|(n, words)| (peer(n), words)).collect();
    let crowd = Crowd { words, blamed: Arc::default() };
    Light::new(crowd, Trusted::genesis(genesis).expect("a genesis"), home.join("light.state"))
}

fn account(genesis: &Genesis) -> Key {
    Key::Account(genesis.accounts[0].account)
}

#[tokio::test]
async fn who_lies_about_a_record_is_named_and_another_is_asked() {
    let (home, genesis) = (tempfile::tempdir().expect("a directory"), testing::genesis());
    let answerer = answerer(home.path(), &genesis);
    let honest = |answerer: &Answerer| -> Words {
        let answerer = answerer.clone();
        Box::new(move |question| answerer.answer(&wire::encode(question)).expect("a readable store"))
    };
    let rich = answerer.clone();
    let liar: Words = Box::new(move |question| {
        let answer = rich.answer(&wire::encode(question)).expect("a readable store")?;
        if !matches!(question, Question::Record { .. }) {
            return Some(answer);
        }
        let mut bundle: Option<Bundle> = wire::decode(&answer, answer.len()).expect("an honest answer");
        let record = crate::ledger::record::Account { balance: Amount::new(1 << 40), ..Default::default() };
        bundle.iter_mut().for_each(|bundle| bundle.record = Some(Record::Account(record).bytes()));
        Some(wire::encode(&bundle))
    });
    let nonsense: Words = Box::new(|_| Some(vec![9; 100]));
    let node = light(&genesis, home.path(), vec![(1, liar), (2, nonsense), (3, honest(&answerer))]);
    node.round().await.expect("no conflict");
    let proven = node.record(&account(&genesis)).await.expect("peer 3 proves it");
    assert!(matches!(&proven.record, Some(Record::Account(account)) if account.balance == Amount::new(1_000)));
    assert_eq!(proven.peer, peer(3));
    let status = node.status();
    let dropped = |n: u8| status.peers[&peer(n)].dropped.is_some();
    assert_eq!([1, 2, 3].map(dropped), [true, true, false]);
    assert!(node.peers.blamed.lock().expect("no panic").contains(&peer(1)));
    let nobody = node.record(&Key::File(crate::types::FileId::from_bytes([4; 32]))).await.expect("proven");
    assert!(nobody.record.is_none(), "that there is none is proven too");
    let tip = answerer.reader.tip().expect("a tip").height;
    assert_eq!(node.header(None).await.expect("proven").map(|header| header.height), Some(tip));
    let second = node.header(Some(Height::new(2))).await.expect("proven").expect("it is final");
    assert_eq!(second.height, Height::new(2));
    assert_eq!(node.header(tip.next()).await, Ok(None));
    node.save().expect("written");
    assert_eq!(
        Light::<Crowd>::resume(&home.path().join("light.state")).expect("readable").map(|t| t.height),
        Some(Height::GENESIS)
    );
}

#[tokio::test]
async fn where_all_lie_or_are_gone_nothing_is_answered() {
    let (home, genesis) = (tempfile::tempdir().expect("a directory"), testing::genesis());
    let node = light(&genesis, home.path(), vec![(1, Box::new(|_| None)), (2, Box::new(|_| Some(vec![7])))]);
    node.round().await.expect("no conflict");
    let refused = node.record(&account(&genesis)).await.expect_err("nobody proves it").to_string();
    assert!(refused.contains("none of 2 peers") && refused.contains("1 answered wrongly"), "{refused}");
    let node = light(&genesis, home.path(), vec![(2, Box::new(|_| Some(vec![7])))]);
    node.round().await.expect("no conflict");
    let refused = node.record(&account(&genesis)).await.expect_err("nobody proves it").to_string();
    assert!(refused.contains("all 1 peers answered wrongly"), "{refused}");
}

#[tokio::test]
async fn two_certified_histories_end_it() {
    let (home, genesis) = (tempfile::tempdir().expect("a directory"), testing::genesis());
    let keys = vec![testing::validator()];
    let history = |reveal: u8| -> Words {
        let mut header = header(&genesis, 9, &keys, &keys);
        header.reveal = [reveal; 32];
        let certificate: Certificate = certify(&genesis, &header, &keys);
        let head = Head { changes: Vec::new(), headers: vec![header], certificate };
        Box::new(move |_| Some(wire::encode(&Some(head.clone()))))
    };
    let node = light(&genesis, home.path(), vec![(1, history(1)), (2, history(2))]);
    let conflict = node.round().await.expect_err("they contradict each other");
    assert_eq!(conflict.height(), Height::new(9));
    assert_eq!(
        node.record(&account(&genesis)).await.expect_err("it has stopped"),
        LightError::Conflict(Height::new(9))
    );
}
