//! A script for one replica of four. It has index 0; the leaders of views 1 to 8 are 3, 2, 1, 0, 3, 2, 1, 0.
//!
//! A block's name is its payload. What is logged: everything the replica does, timers aside. Execution succeeds at once,
//! unless the name begins with `bad` (invalid) or `slow` (no answer before `checked NAME`).

use std::collections::BTreeMap;
use std::sync::Arc;

use expect_test::Expect;

use super::harness::{GENESIS, block, config, first_epoch, set};
use crate::consensus::{Action, Event, Replica, Resume, SafetyRecord, Timer, Verdict};
use crate::crypto::{SecretKey, Signature};
use crate::types::{BlockHash, Epoch, Height, Millis, NodeId, Round, View};
use crate::wire::certificate::TimedOut;
use crate::wire::message::{Offer, Proposal, Timeout, Vote};
use crate::wire::{Certificate, Message, Newest, ProposedBlock, Signed, TimeoutCertificate, Unsigned, VoteKind};

const EPOCH_BLOCKS: u64 = 3;

struct Script {
    replica: Replica,
    record: Option<SafetyRecord>,
    disk: Vec<Arc<ProposedBlock>>,
    last_final: Certificate,
    names: BTreeMap<String, Arc<ProposedBlock>>,
    now: u64,
    log: Vec<String>,
}

fn signature(index: u16) -> Signature {
    Signature::from_bytes([index as u8; 64])
}

fn view(word: &str) -> Round {
    let number = word.trim_start_matches('v').parse().expect("a view like v3");
    Round::new(Epoch::ZERO, View::new(number))
}

fn certificate(kind: VoteKind, round: Round, block: &ProposedBlock) -> Certificate {
    let signatures = (1..4).map(|index| Signed { index, signature: signature(index) }).collect();
    Certificate { kind, round, height: block.header().height, block: block.block.hash(), signatures }
}

fn start(record: Option<SafetyRecord>, blocks: Vec<Arc<ProposedBlock>>, last_final: Certificate) -> Replica {
    let config = config(set(4).members()[0].node, EPOCH_BLOCKS);
    Replica::new(config, first_epoch(4), Resume { record, blocks, last_final, silent_until: None })
}

impl Script {
    fn new() -> Self {
        let last_final = Certificate::genesis(GENESIS);
        let replica = start(None, Vec::new(), last_final.clone());
        let (record, disk, names, log) = Default::default();
        let mut script = Self { replica, record, disk, last_final, names, now: 1_000, log };
        script.feed(Event::Start);
        script
    }

    fn node(&self, index: u16) -> NodeId {
        set(4).get(index).expect("one of four").node
    }

    fn qc(&self, name: &str) -> Certificate {
        let Some((name, word)) = name.split_once('@') else {
            let Some(block) = self.names.get(name) else { return Certificate::genesis(GENESIS) };
            return certificate(VoteKind::Prepare, block.header().round, block);
        };
        certificate(VoteKind::Prepare, view(word), &self.names[name])
    }

    fn tc(&self, word: &str, high: &str) -> TimeoutCertificate {
        let high = self.qc(high);
        let timed_out = |index| TimedOut { index, high: high.rank(), signature: signature(index) };
        TimeoutCertificate { round: view(word), timeouts: (1..4).map(timed_out).collect(), high }
    }

    fn newest(&self, high: &str) -> Newest {
        Newest { high: self.qc(high), timeout: None, commit: None }
    }

    fn name(&self, hash: &BlockHash) -> String {
        let found = self.names.iter().find(|(_, block)| block.block.hash() == *hash);
        found.map_or("?".to_owned(), |(name, _)| name.clone())
    }

    fn named(&mut self, name: &str, round: Round, parent: &str) -> Arc<ProposedBlock> {
        let leader = self.node([0, 3, 2, 1][round.view.get() as usize % 4]);
        let justify = self.qc(parent);
        let payload: &'static [u8] = Box::leak(name.to_owned().into_boxed_str()).as_bytes();
        let block = Arc::new(block(round, leader, &justify, payload));
        self.names.insert(name.split('@').next().unwrap_or(name).to_owned(), block.clone());
        block
    }

    fn receive(&mut self, from: u16, message: Message) {
        let from = self.node(from);
        self.feed(Event::Received { from, message });
    }

    fn feed(&mut self, event: Event) {
        let actions = self.replica.on(event, Millis::new(self.now));
        let mut next = Vec::new();
        for action in actions {
            self.act(action, &mut next);
        }
        next.into_iter().for_each(|event| self.feed(event));
    }

    fn act(&mut self, action: Action, next: &mut Vec<Event>) {
        let line = match action {
            Action::Check(proposed) => {
                let (block, name) = (proposed.block.hash(), self.name(&proposed.block.hash()));
                let verdict = if name.starts_with("bad") { Verdict::Invalid } else { Verdict::Valid };
                if !name.starts_with("slow") {
                    next.push(Event::Checked { block, verdict });
                }
                format!("check {name}")
            }
            Action::Build { round, justify, even_empty, .. } => {
                let even = if even_empty { " even empty" } else { "" };
                format!("build v{} on {}{even}", round.view, self.name(&justify.block))
            }
            Action::Persist { record, blocks } => {
                self.record = Some(*record);
                let names: Vec<_> = blocks.iter().map(|block| self.name(&block.block.hash())).collect();
                self.disk.extend(blocks);
                format!("persist {}", names.join(" "))
            }
            Action::Broadcast(unsigned) => {
                let line = self.describe(&unsigned);
                let message = unsigned.sign(&super::harness::CHAIN, &SecretKey::from_seed(&[1; 32]));
                next.push(Event::Received { from: self.node(0), message });
                line
            }
            Action::Send { message: Message::Fetch(block), .. } => format!("fetch {}", self.name(&block)),
            Action::Send { message: Message::Newest(newest), .. } => {
                format!("answer with {}", self.name(&newest.high.block))
            }
            Action::Send { message: Message::Block(block), .. } => format!("give {}", self.name(&block.block.hash())),
            Action::Serve { .. } => "serve from disk".to_owned(),
            Action::Finalize { blocks, certificate } => {
                self.last_final = certificate;
                let names: Vec<_> = blocks.iter().map(|block| self.name(&block.block.hash())).collect();
                format!("final {}", names.join(" "))
            }
            Action::CatchUp { height, .. } => format!("catch up to {height}"),
            Action::Evidence(evidence) => {
                format!("evidence against {}", set(4).index_of(&evidence.node).expect("a validator"))
            }
            Action::SetTimer { .. } | Action::StopTimer(_) | Action::Send { .. } => return,
        };
        self.log.push(line.trim().to_owned());
    }

    fn describe(&self, unsigned: &Unsigned) -> String {
        match unsigned {
            Unsigned::Proposal { round, offer: Offer::Block(block), .. } => {
                format!("propose v{} {}", round.view, self.name(&block.block.hash()))
            }
            Unsigned::Proposal { round, offer: Offer::Tail { block, .. }, .. } => {
                format!("propose v{} tail of {}", round.view, self.name(block))
            }
            Unsigned::Vote { kind: VoteKind::Prepare, round, block, .. } => {
                format!("vote v{} {}", round.view, self.name(block))
            }
            Unsigned::Vote { kind: VoteKind::Commit, round, block, .. } => {
                format!("commit v{} {}", round.view, self.name(block))
            }
            Unsigned::Timeout { round, newest, .. } => {
                format!("timeout v{} with {}", round.view, self.name(&newest.high.block))
            }
        }
    }

    fn run(&mut self, line: &str) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["propose", at, name] => self.propose(view(at), name, "G", None),
            ["propose", at, name, "on", parent] => self.propose(view(at), name, parent, None),
            ["propose", at, name, "on", parent, "tc", tc, high] => {
                let tc = self.tc(tc, high);
                self.propose(view(at), name, parent, Some(tc));
            }
            ["tail", at, name, "tc", tc] => {
                let (justify, round, timeout) = (self.qc(name), view(at), Some(self.tc(tc, name)));
                let offer = Offer::Tail { block: justify.block, height: justify.height, justify: justify.clone() };
                self.offer(round, offer, Newest { high: justify, timeout, commit: None });
            }
            ["vote", index, at, name, "height", height] => self.vote(index, VoteKind::Prepare, at, name, height),
            ["vote", index, at, name] => self.vote(index, VoteKind::Prepare, at, name, ""),
            ["commit", index, at, name] => self.vote(index, VoteKind::Commit, at, name, ""),
            ["qc", name] => {
                let newest = self.newest(name);
                self.receive(1, Message::Newest(Box::new(newest)));
            }
            ["tc", at, high] => {
                let newest = Newest { timeout: Some(self.tc(at, high)), ..self.newest(high) };
                self.receive(1, Message::Newest(Box::new(newest)));
            }
            ["final", at, name] => {
                let commit = Some(certificate(VoteKind::Commit, view(at), &self.names[*name]));
                let newest = Newest { commit, ..self.newest(name) };
                self.receive(1, Message::Newest(Box::new(newest)));
            }
            ["timeout", index, at, high] => {
                let (index, newest) = (index.parse().expect("an index"), self.newest(high));
                let timeout = Timeout { round: view(at), index, newest, signature: signature(index) };
                self.receive(index, Message::Timeout(Box::new(timeout)));
            }
            ["make", at, name, "on", parent] => {
                self.named(name, view(at), parent);
            }
            ["built", name] => {
                let block = self.names[*name].clone();
                self.feed(Event::Built { round: block.header().round, block });
            }
            ["give", name] => {
                let block = ProposedBlock::clone(&self.names[*name]);
                self.receive(1, Message::Block(Box::new(block)));
            }
            ["asked", name] => {
                let block = self.names[*name].block.hash();
                self.receive(1, Message::Fetch(block));
            }
            ["checked", name] => {
                let block = self.names[*name].block.hash();
                self.feed(Event::Checked { block, verdict: Verdict::Valid });
            }
            ["waiting"] => self.feed(Event::Waiting(true)),
            ["after", millis, timer] => {
                self.now += millis.parse::<u64>().expect("milliseconds");
                let timer = match *timer {
                    "view" => Timer::View,
                    "repeat" => Timer::Repeat,
                    "idle" => Timer::Idle,
                    _ => Timer::Fetch,
                };
                self.feed(Event::Expired(timer));
            }
            ["restart"] => {
                self.replica = start(self.record.clone(), self.disk.clone(), self.last_final.clone());
                self.feed(Event::Start);
            }
            other => panic!("no such line: {other:?}"),
        }
    }

    fn propose(&mut self, round: Round, name: &str, parent: &str, timeout: Option<TimeoutCertificate>) {
        let block = self.named(name, round, parent);
        let high = timeout.as_ref().map_or(block.justify.clone(), |timeout| timeout.high.clone());
        self.offer(round, Offer::Block(ProposedBlock::clone(&block)), Newest { high, timeout, commit: None });
    }

    fn offer(&mut self, round: Round, offer: Offer, newest: Newest) {
        let index = [0, 3, 2, 1][round.view.get() as usize % 4];
        let proposal = Proposal { round, index, offer, newest, signature: signature(index) };
        self.receive(index, Message::Proposal(Box::new(proposal)));
    }

    fn vote(&mut self, index: &str, kind: VoteKind, at: &str, name: &str, height: &str) {
        let block = self.names[name].clone();
        let height = height.parse().map_or(block.header().height, Height::new);
        let (index, newest) = (index.parse().expect("an index"), self.newest("G"));
        let block = block.block.hash();
        let vote = Vote { kind, round: view(at), height, block, index, newest, signature: signature(index) };
        self.receive(index, Message::Vote(Box::new(vote)));
    }
}

/// Runs the lines and compares what the replica did.
pub fn check(lines: &[&str], expect: Expect) {
    let mut script = Script::new();
    lines.iter().for_each(|line| script.run(line));
    expect.assert_eq(&script.log.join("\n"));
}
