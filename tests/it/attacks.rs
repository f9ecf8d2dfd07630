//! Forged answers to storage audits, against real processes: they are handed in by HTTP, signed with the keys of the homes.

use std::time::Duration;

use trullo::config::{Config, Layers, genesis};
use trullo::crypto::keys::AccountKeys;
use trullo::files::SlotHasher;
use trullo::ledger::record::{Audit, Challenge, NodeEntry, Sample};
use trullo::ledger::{Key, Outcome, Record, Reject};
use trullo::node::home::{Home, Lock};
use trullo::node::{Handle, Node, Start, start};
use trullo::types::limits::{LEAF_BYTES, SLOT_BLOCK_BYTES};
use trullo::types::{AccountId, Amount, NodeId};
use trullo::wire::block::BLOCK_VERSION;
use trullo::wire::tx::SampleProof;
use trullo::wire::{self, Action, PublicManifest, Tx, TxBody};

use crate::processes::{Testnet, json, trullo, write_sample};

const PATIENCE: Duration = Duration::from_secs(60);

type Proofs = Vec<Option<SampleProof>>;

/// A node of a testnet that runs within the test, so that the test can look into the chain's state.
struct Inside {
    node: Node,
    _lock: Lock,
}

impl Inside {
    /// Takes the place of a process of the testnet.
    async fn instead_of(net: &Testnet, name: &str) -> Self {
        net.kill(name);
        let home = Home::open(&net.dir.path().join(name)).expect("a home");
        let lock = home.lock().expect("its process has ended");
        let text = home.read_config().expect("a configuration");
        let layers = Layers::defaults().expect("defaults").file(&home.config(), &text).expect("a configuration");
        let config = Config::load(&layers).expect("a valid configuration");
        let genesis = genesis::read(&home.read_genesis().expect("a genesis")).expect("a genesis");
        let account = Some(account_of(net, name));
        let node = start(Start { home: home.root().to_owned(), config, genesis, account, known: BLOCK_VERSION })
            .await
            .expect("it starts");
        Self { node, _lock: lock }
    }
    fn handle(&self) -> &Handle {
        self.node.handle()
    }
    fn record(&self, key: &Key) -> Option<Record> {
        self.handle().record(key).expect("a readable state")
    }
    fn entry(&self, node: NodeId) -> NodeEntry {
        match self.record(&Key::Node(node)) {
            Some(Record::Node(entry)) => *entry,
            other => panic!("no node: {other:?}"),
        }
    }
    fn nonce(&self, account: AccountId) -> u64 {
        match self.record(&Key::Account(account)) {
            Some(Record::Account(account)) => account.nonce,
            other => panic!("no account: {other:?}"),
        }
    }
    fn challenge(&self, node: NodeId) -> Option<Challenge> {
        match self.record(&Key::Challenge(node)) {
            Some(Record::Challenge(challenge)) => Some(*challenge),
            _ => None,
        }
    }
    /// Looks with each block until there is something to see.
    async fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let mut tips = self.handle().reader().watch();
        let looking = async {
            loop {
                if let Some(seen) = look() {
                    return seen;
                }
                tips.changed().await.expect("it runs on");
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("not in time: {what}"))
    }
}

fn account_of(net: &Testnet, name: &str) -> AccountKeys {
    let home = Home::open(&net.dir.path().join(name)).expect("a home");
    let password = home.read_password(std::path::Path::new("password")).expect("a testnet's password lies open");
    let keystore = home.read_keystore().expect("a keystore");
    let (_, first) = keystore.first().expect("an account");
    first.open(password.as_bytes()).expect("its own password")
}

/// A storage node whose process has ended: whoever has its home speaks for it.
struct Victim {
    name: &'static str,
    node: NodeId,
    keys: AccountKeys,
}

impl Victim {
    fn of(net: &Testnet, inside: &Inside, name: &'static str) -> Self {
        let keys = account_of(net, name);
        let entries = inside.handle().nodes().expect("a readable state");
        let own = entries.iter().find(|entry| entry.announcement.name == name).expect("a registered node");
        Self { name, node: own.announcement.node, keys }
    }

    /// The true proof of a sample, from the bytes on the node's disk.
    fn prove(&self, net: &Testnet, inside: &Inside, sample: &Sample) -> SampleProof {
        let manifest = manifest(inside, sample);
        let info = manifest.slots[usize::from(sample.slot.slot)];
        let root = info.root.to_string();
        let path = net.dir.path().join(self.name).join("slots").join(&root[..2]).join(&root);
        // Behind the slot's bytes its file has the values of its blocks.
        let bytes = std::fs::read(path).expect("a slot")[..info.len as usize].to_vec();
        let mut hasher = SlotHasher::new();
        hasher.update(&bytes);
        let tree = hasher.finish();
        let (leaf, block) = (sample.leaf as usize * LEAF_BYTES, sample.leaf as usize * LEAF_BYTES / SLOT_BLOCK_BYTES);
        let around = &bytes[block * SLOT_BLOCK_BYTES..bytes.len().min((block + 1) * SLOT_BLOCK_BYTES)];
        let path = tree.leaf_path(sample.leaf, around).expect("a leaf of the slot");
        SampleProof { bytes: bytes[leaf..bytes.len().min(leaf + LEAF_BYTES)].to_vec(), path }
    }

    fn answer(&self, net: &Testnet, inside: &Inside, asked: &Challenge) -> Proofs {
        asked.samples.iter().map(|sample| Some(self.prove(net, inside, sample))).collect()
    }
}

fn manifest(inside: &Inside, sample: &Sample) -> PublicManifest {
    match inside.record(&Key::Manifest(sample.slot.file)) {
        Some(Record::Manifest(manifest)) => *manifest,
        other => panic!("no open deal: {other:?}"),
    }
}

/// The public interface of a process.
struct Http {
    base: String,
    token: String,
    http: reqwest::Client,
}

impl Http {
    fn of(net: &Testnet, name: &str) -> Self {
        let home = Home::open(&net.dir.path().join(name)).expect("a home");
        let address = home.read_address().expect("a home").expect("it runs");
        let token = home.read_token().expect("a token").to_string();
        Self { base: format!("http://{address}"), token, http: reqwest::Client::new() }
    }
    async fn submit(&self, tx: &Tx) -> (u16, String) {
        let request = self.http.post(format!("{}/v1/txs", self.base)).bearer_auth(&self.token);
        let answer = request.body(wire::encode(tx)).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.unwrap_or_default())
    }
}

/// Transactions of one account, in their order.
struct Hand<'a> {
    inside: &'a Inside,
    http: &'a Http,
    keys: &'a AccountKeys,
    nonce: u64,
    sent: Vec<(&'static str, Tx)>,
}

impl<'a> Hand<'a> {
    fn of(inside: &'a Inside, http: &'a Http, keys: &'a AccountKeys) -> Self {
        let nonce = inside.nonce(keys.account_id());
        Self { inside, http, keys, nonce, sent: Vec::new() }
    }
    fn add(&mut self, what: &'static str, action: Action) {
        let chain = self.inside.handle().identity().chain;
        let body = TxBody { chain, sender: self.keys.account_id(), nonce: self.nonce, action };
        self.nonce += 1;
        self.sent.push((what, Tx::sign(body, self.keys.signing())));
    }
    /// What became of each.
    async fn outcomes(self) -> Vec<(&'static str, Outcome)> {
        for (_, tx) in &self.sent {
            let (status, text) = self.http.submit(tx).await;
            assert_eq!(status, 202, "{text}");
        }
        let mut outcomes = Vec::new();
        for (what, tx) in &self.sent {
            let id = tx.id();
            let done = self.inside.until(what, || self.inside.handle().final_tx(&id).expect("a readable chain")).await;
            outcomes.push((*what, done.receipt.outcome));
        }
        outcomes
    }
}

fn up(storage: u8) -> Testnet {
    let net = Testnet { dir: tempfile::tempdir().expect("a temporary directory") };
    let storage = storage.to_string();
    let sizes = ["--validators", "1", "--storage", &storage, "--users", "2", "--idle-interval-ms", "50"];
    json(&[["testnet", "up", "--dir", net.path(), "--json"].as_slice(), sizes.as_slice()].concat());
    net
}

fn put(net: &Testnet, len: usize) {
    let source = net.dir.path().join(format!("source-{len}"));
    write_sample(&source, len);
    let (user, source) = (net.home("user-1"), source.to_str().expect("UTF-8").to_owned());
    let put = ["--home", &user, "put", &source, "--data", "2", "--parity", "1", "--min-confirmations", "3", "--json"];
    let put = json(&put);
    assert_eq!(put["status"].as_str(), Some("final"), "{put}");
}

fn code(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Applied => "applied",
        Outcome::Rejected(reject) => reject.code(),
    }
}

fn balance(inside: &Inside, account: AccountId) -> Amount {
    match inside.record(&Key::Account(account)) {
        Some(Record::Account(account)) => account.balance,
        other => panic!("no account: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_forged_answer_is_taken_and_none_costs_the_honest_node_anything() {
    let net = up(3);
    put(&net, 700_001);
    put(&net, 600_001);
    let inside = Inside::instead_of(&net, "user-2").await;
    let http = Http::of(&net, "user-1");
    let (victim, other) = (Victim::of(&net, &inside, "storage-1"), Victim::of(&net, &inside, "storage-2"));
    // They would answer at once.
    net.kill(victim.name);
    net.kill(other.name);
    let height = || inside.handle().reader().tip().map_or(0, |tip| tip.height.get());
    let fresh = |node| inside.challenge(node).filter(|asked| asked.at.get() + 8 > height());
    let (asked, asked_other) = inside.until("both are asked", || Some((fresh(victim.node)?, fresh(other.node)?))).await;
    let good = victim.answer(&net, &inside, &asked);
    let (node, epoch) = (victim.node, asked.epoch);
    let (before, credits) = (inside.entry(node).audit, balance(&inside, victim.keys.account_id()));

    let mut hand = Hand::of(&inside, &http, &victim.keys);
    let mut forge = |what, edit: &dyn Fn(&mut Proofs)| {
        let mut proofs = good.clone();
        edit(&mut proofs);
        hand.add(what, Action::ProveStorage { node, epoch, proofs });
    };
    let foreign = other.answer(&net, &inside, &asked_other);
    forge("proof: the answer to another node's challenge", &|proofs| *proofs = foreign.clone());
    forge("proof: a forged length, shorter", &|proofs| _ = proofs[0].as_mut().expect("a proof").bytes.pop());
    forge("proof: a forged length, nothing", &|proofs| proofs[0].as_mut().expect("a proof").bytes.clear());
    let swapped = asked.samples.iter().position(|sample| sample.slot != asked.samples[0].slot);
    let swapped = swapped.expect("16 samples meet both slots");
    forge("proof: a swapped slot", &|proofs| proofs[0] = proofs[swapped].clone());
    forge("proof: a surplus hash", &|proofs| proofs[1].as_mut().expect("a proof").path.push([0; 32]));
    forge("proof: a hash too few", &|proofs| _ = proofs[1].as_mut().expect("a proof").path.pop());
    forge("proof: a changed byte", &|proofs| proofs[2].as_mut().expect("a proof").bytes[0] ^= 1);
    forge("proof_count: a surplus answer", &|proofs| proofs.push(None));
    forge("proof_count: an answer too few", &|proofs| _ = proofs.pop());
    let old = trullo::types::Epoch::new(epoch.get() - 1);
    hand.add("no_challenge: an old epoch", Action::ProveStorage { node, epoch: old, proofs: good.clone() });
    let next = epoch.next().expect("a next epoch");
    hand.add(
        "no_challenge: before the seed is final",
        Action::ProveStorage { node, epoch: next, proofs: good.clone() },
    );
    let mut stranger = Hand::of(&inside, &http, &other.keys);
    stranger.add("node_owner: another's account", Action::ProveStorage { node, epoch, proofs: good.clone() });
    let refused = hand.outcomes().await.into_iter().chain(stranger.outcomes().await);
    for (what, outcome) in refused {
        let need = what.split(':').next().expect("a code");
        assert_eq!(code(&outcome), need, "{what}: {outcome:?}");
    }
    let mut long = Hand::of(&inside, &http, &victim.keys);
    let mut proofs = good.clone();
    proofs[0].as_mut().expect("a proof").bytes.resize(LEAF_BYTES + 1, 0);
    long.add("a forged length, more than a leaf", Action::ProveStorage { node, epoch, proofs });
    let (status, text) = http.submit(&long.sent[0].1).await;
    assert_eq!(status, 400, "no block would hold it: {text}");
    assert_eq!(inside.entry(node).audit, before, "nothing of it counts against the node");
    assert_eq!(balance(&inside, victim.keys.account_id()), credits);

    let mut hand = Hand::of(&inside, &http, &victim.keys);
    hand.add("the true answer", Action::ProveStorage { node, epoch, proofs: good.clone() });
    hand.add("the same again", Action::ProveStorage { node, epoch, proofs: good });
    let outcomes = hand.outcomes().await;
    assert_eq!(outcomes[0].1, Outcome::Applied);
    assert_eq!(outcomes[1].1, Outcome::Rejected(Reject::NoChallenge { node, epoch }), "an answer counts once");
    let Audit { passed, failed, answered, strikes, .. } = inside.entry(node).audit;
    let samples = asked.samples.len() as u64;
    assert_eq!((passed, answered), (before.passed + 1, before.answered + samples));
    assert_eq!((failed, strikes), (before.failed, 0));
    inside.handle().stop_token().cancel();
    inside.node.finish().await.expect("a clean end");
}

#[test]
fn a_node_killed_in_the_middle_of_repair_goes_on_with_it_and_leaves_nothing_behind() {
    let net = up(4);
    let slow = "[storage]";
    for number in 1..=4 {
        let name = format!("storage-{number}");
        net.kill(&name);
        let path = net.dir.path().join(&name).join("config.toml");
        let text = std::fs::read_to_string(&path).expect("a configuration");
        // Slow enough that it can be met at work.
        let text = text.replacen(slow, &format!("{slow}\nrepair_bytes_per_s = \"4 MiB\""), 1);
        std::fs::write(&path, text).expect("a written configuration");
        net.start(&name);
    }
    let source = net.dir.path().join("source");
    let bytes = write_sample(&source, 24 << 20);
    let user = net.home("user-1");
    let put = ["--home", &user, "put", source.to_str().expect("UTF-8"), "--data", "2", "--parity", "1", "--json"];
    let put = json(&put);
    let id = put["file_id"].as_str().expect("an id").to_owned();
    let slots = |number: u8| net.dir.path().join(format!("storage-{number}")).join("slots");
    let bytes_in = |dir: std::path::PathBuf| -> u64 {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|meta| meta.len()).sum()
    };
    let files = |number: u8| -> usize {
        let dirs = std::fs::read_dir(slots(number)).expect("a directory").flatten();
        let slots = dirs.filter(|dir| dir.file_name() != "tmp" && dir.path().is_dir());
        slots.map(|dir| std::fs::read_dir(dir.path()).expect("a directory").count()).sum()
    };
    let spare = (1..=4).find(|number| files(*number) == 0).expect("three of four have a slot");
    let gone = (1..=4).find(|number| *number != spare).expect("another");
    let begun = std::time::Instant::now();
    net.kill(&format!("storage-{gone}"));
    crate::processes::until("the spare node is at work", PATIENCE, || bytes_in(slots(spare).join("tmp")) > 1 << 20);
    net.kill(&format!("storage-{spare}"));
    assert_eq!(files(spare), 0, "it was met in the middle: {:?}", begun.elapsed());
    net.start(&format!("storage-{spare}"));
    let health = || json(&["--home", &user, "file", "health", &id, "--json"]);
    crate::processes::until("the file is whole again", PATIENCE, || {
        let health = health();
        health["held"] == 3 && health["answering"] == 3 && health["lost"].as_array().is_some_and(Vec::is_empty)
    });
    assert_eq!((files(spare), bytes_in(slots(spare).join("tmp"))), (1, 0));
    // The slot alone, with another, restores the file.
    let third = (1..=4).find(|number| *number != spare && *number != gone).expect("a third");
    net.kill(&format!("storage-{third}"));
    let back = net.dir.path().join("back");
    let got = trullo(&["--home", &user, "get", &id, "-o", back.to_str().expect("UTF-8")]);
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    assert!(std::fs::read(&back).expect("a file") == bytes);
}
