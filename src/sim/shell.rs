//! Shell: carries out what the cores ask for, as a node does: in order, and nothing behind a write before it is durable.

use std::sync::Arc;

use crate::consensus::{Action, Config, EpochContext, Event, Timer, To, Verdict, VerifyError};
use crate::ledger::Executed;
use crate::types::{Height, NodeId, Round};
use crate::wire::{Certificate, Message, ProposedBlock, Unsigned, VerifiedTx, VoteKind};

use super::app::Ask;
use super::disk::Write;
use super::machine::{Task, Wanted};
use super::plan::Phase;
use super::ring::CHAIN;
use super::script::{Cue, Stage};
use super::verdict::Failure;
use super::world::{Happening, Parcel, Segment, World};

impl World {
    /// Gives an event to a core, and to it whatever follows at once.
    pub(super) fn feed(&mut self, at: usize, event: Event) {
        let clock = self.machines[at].clock(self.now);
        let config = self.machines[at].config(&self.plan, self.planted.clone());
        let mut next = Some(event);
        while let Some(event) = next.take() {
            let Some(running) = &mut self.machines[at].running else { return };
            for action in running.replica.on(event, clock) {
                match action {
                    Action::Finalize { blocks, certificate } => {
                        let epoch = self.finalize(at, &config, "final", blocks, certificate);
                        next = next.or(epoch.map(Event::NextEpoch));
                    }
                    action => self.plan_action(at, action),
                }
            }
        }
        self.work(at);
        self.look_at_mempool(at);
    }

    /// Blocks are final here: in memory at once, on disk in their turn. The epoch that begins with that.
    fn finalize(
        &mut self,
        at: usize,
        config: &Config,
        how: &str,
        blocks: Vec<Arc<ProposedBlock>>,
        certificate: Certificate,
    ) -> Option<EpochContext> {
        let running = self.machines[at].running.as_mut()?;
        let tip = running.tip();
        running.chain.append(&blocks, &certificate);
        self.checker.finalized(at, tip, &blocks, &certificate, &mut self.ring);
        self.trace.note(self.now, at, how, certificate.round, Some(&certificate.block));
        let executed = self.settle(at, &blocks);
        let machine = &mut self.machines[at];
        let state = machine.app.ledger().map(|ledger| ledger.state());
        let epoch = machine.running.as_mut().and_then(|running| running.begin_epoch(config, state));
        if let Some(epoch) = &epoch {
            self.checker.epoch_begins(at, epoch, state, &mut self.ring);
        }
        let running = self.machines[at].running.as_mut()?;
        running.tasks.push_back(Task::Write(Write::Final(blocks, certificate, executed)));
        epoch
    }

    /// The application takes note of final blocks. What they do to the ledger.
    fn settle(&mut self, at: usize, blocks: &[Arc<ProposedBlock>]) -> Vec<Arc<Executed>> {
        let mut all = Vec::new();
        for block in blocks {
            let height = block.header().height.get();
            match self.machines[at].app.finalize(block) {
                Ok(executed) => all.extend(executed),
                Err(problem) => {
                    self.checker.complain_of(at, Failure::State { at, height, problem });
                    return all;
                }
            }
        }
        if let (Some(last), Some(ledger)) = (blocks.last(), self.machines[at].app.ledger()) {
            self.checker.ledger_at(at, last.header().height.get(), ledger.state(), false);
        }
        all
    }

    /// Tells the core when the mempool has begun or ceased to hold a transaction that is next.
    fn look_at_mempool(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let Some(waiting) = machine.app.ledger().map(|ledger| ledger.is_waiting()) else { return };
        if machine.running.is_some() && machine.waiting != waiting {
            machine.waiting = waiting;
            self.feed(at, Event::Waiting(waiting));
            self.try_build(at, false);
        }
    }

    /// A transaction comes in, from a user or from gossip; what is new goes on to all others.
    pub(super) fn submit(&mut self, at: usize, tx: VerifiedTx) {
        let machine = &mut self.machines[at];
        let Some(ledger) = machine.app.ledger().filter(|_| machine.running.is_some()) else { return };
        match ledger.submit(&tx) {
            Ok(true) => {
                self.deliver(at, &self.others(at), &Parcel::Tx(tx));
                self.look_at_mempool(at);
            }
            Ok(false) => {}
            Err(problem) => self.checker.complain_of(at, Failure::Mempool { at, problem }),
        }
    }

    /// An action takes its place among the tasks.
    fn plan_action(&mut self, at: usize, action: Action) {
        let Some(running) = &mut self.machines[at].running else { return };
        let task = match action {
            Action::Persist { record, blocks } => {
                let (app, chain) = (&self.machines[at].app, &self.machines[at].running);
                let is_final = |hash: &_| chain.as_ref().is_some_and(|running| running.chain.get(hash).is_some());
                self.checker.recorded(at, &record, |hash| app.has(hash) || is_final(hash));
                Task::Write(Write::Record(record, blocks))
            }
            Action::Evidence(evidence) => return self.checker.accused(at, &evidence, &self.ring),
            action => {
                running.tasks.push_back(Task::Act(Box::new(action)));
                return;
            }
        };
        if let Some(running) = &mut self.machines[at].running {
            running.tasks.push_back(task);
        }
    }

    /// Does what can be done.
    fn work(&mut self, at: usize) {
        loop {
            let machine = &mut self.machines[at];
            let Some(running) = &mut machine.running else { return };
            if running.writing {
                return;
            }
            match running.tasks.pop_front() {
                None => return,
                Some(Task::Act(action)) => self.act(at, *action),
                Some(Task::Write(write)) => {
                    if let Some((phase, down)) = machine.doom.take() {
                        if phase != Phase::Before {
                            machine.disk.apply(write);
                        }
                        match phase {
                            Phase::After => machine.last_words = Some(down),
                            _ => return self.crash(at, down),
                        }
                        continue;
                    }
                    let (low, high) = self.plan.write;
                    let time = self.dice.between(low, high);
                    if time == 0 {
                        self.machines[at].disk.apply(write);
                        continue;
                    }
                    running.writing = true;
                    running.tasks.push_front(Task::Write(write));
                    let start = machine.starts;
                    self.after(time, Happening::Written(at, start));
                }
            }
        }
    }

    /// The write under way is durable.
    pub(super) fn written(&mut self, at: usize) {
        let machine = &mut self.machines[at];
        let Some(running) = &mut machine.running else { return };
        running.writing = false;
        if let Some(Task::Write(write)) = running.tasks.pop_front() {
            machine.disk.apply(write);
        }
        self.work(at);
    }

    fn act(&mut self, at: usize, action: Action) {
        let start = self.machines[at].starts;
        match action {
            Action::Check(block) => {
                let time = self.dice.between(self.plan.execute.0, self.plan.execute.1);
                self.after(time, Happening::Executed(at, start, block));
            }
            Action::Build { round, justify, even_empty, .. } => {
                if let Some(running) = &mut self.machines[at].running {
                    running.wanted = Some(Wanted { round, justify, even_empty });
                }
                self.try_build(at, even_empty);
            }
            Action::Broadcast(unsigned) => self.broadcast(at, unsigned),
            Action::Send { to: To::One(node), message } => self.send_to(at, &node, message),
            Action::Send { to: To::All, message } => {
                let to: Vec<_> = self.others(at);
                self.send(at, &to, Arc::new(message));
            }
            Action::Serve { to, block } => {
                if let Some(held) = self.machines[at].disk.find(&block) {
                    let message = Message::Block(Box::new(ProposedBlock::clone(held)));
                    self.send_to(at, &to, message);
                }
            }
            Action::SetTimer { timer, after } => {
                let after = after.get() * self.machines[at].place.pace / 100;
                if let Some(running) = &mut self.machines[at].running {
                    running.timers.insert(timer, self.now);
                }
                self.after(after, Happening::Timer(at, start, timer, self.now));
            }
            Action::StopTimer(timer) => {
                if let Some(running) = &mut self.machines[at].running {
                    running.timers.remove(&timer);
                }
            }
            Action::CatchUp { from, .. } => {
                let height = self.machines[at].running.as_ref().map_or(0, |running| running.chain.height());
                let from = self.at(&from);
                self.deliver(at, &from, &Parcel::Request(height));
            }
            Action::Persist { .. } | Action::Finalize { .. } | Action::Evidence(_) => {}
        }
    }

    pub(super) fn expire(&mut self, at: usize, timer: Timer, set: u64) {
        let running = self.machines[at].running.as_mut();
        if running.is_some_and(|running| running.timers.get(&timer) == Some(&set)) {
            self.trace.note(self.now, at, "timer", Round::default(), None);
            self.feed(at, Event::Expired(timer));
        }
    }

    /// The machines of a node: two, if it has a twin.
    fn at(&self, node: &NodeId) -> Vec<usize> {
        (0..self.machines.len()).filter(|at| self.machines[*at].node == *node).collect()
    }

    fn others(&self, at: usize) -> Vec<usize> {
        let node = self.machines[at].node;
        (0..self.machines.len()).filter(|to| self.machines[*to].node != node).collect()
    }

    fn send_to(&mut self, at: usize, node: &NodeId, message: Message) {
        let to = self.at(node);
        self.send(at, &to, Arc::new(message));
    }

    fn send(&mut self, at: usize, to: &[usize], message: Arc<Message>) {
        self.checker.sent(at, &message, &self.machines[at].disk);
        let (what, round, block) = describe(&message);
        self.trace.note(self.now, at, what, round, block.as_ref());
        self.deliver(at, to, &Parcel::Message(message));
    }

    fn deliver(&mut self, at: usize, to: &[usize], parcel: &Parcel) {
        for to in to.iter().copied().filter(|to| *to != at) {
            for delay in self.network.send(&mut self.dice, at, to, parcel) {
                self.after(delay, Happening::Arrival(at, to, parcel.clone()));
            }
        }
    }

    fn broadcast(&mut self, at: usize, unsigned: Unsigned) {
        let (index, start) = (self.machines[at].place.validator, self.machines[at].starts);
        let message = Arc::new(self.ring.sign(index, unsigned.clone()));
        self.after(0, Happening::Echo(at, start, message.clone()));
        if self.machines[at].script.is_some() {
            let cues = self.on_stage(at, |script, stage| script.speak(unsigned, stage));
            return self.perform(at, cues);
        }
        let mut to = self.others(at);
        if let Some(down) = self.machines[at].last_words.take() {
            to = self.dice.shuffled(to);
            to.truncate(self.dice.below(to.len() + 1));
            self.send(at, &to, message);
            return self.crash(at, down);
        }
        self.send(at, &to, message);
    }

    fn on_stage(
        &mut self,
        at: usize,
        play: impl FnOnce(&mut super::script::Script, &mut Stage) -> Vec<Cue>,
    ) -> Vec<Cue> {
        let others = self.others(at);
        let machine = &mut self.machines[at];
        let Some(script) = &mut machine.script else { return Vec::new() };
        let (dice, ring, app) = (&mut self.dice, &mut self.ring, machine.app.as_mut());
        let mut stage = Stage { dice, ring, app, plots: &mut self.plots, others, sides: &self.sides };
        play(script, &mut stage)
    }

    fn perform(&mut self, at: usize, cues: Vec<Cue>) {
        for cue in cues {
            let message = Arc::new(cue.message);
            match cue.after {
                0 => self.send(at, &cue.to, message),
                after => self.after(after, Happening::Scripted(at, cue.to, message)),
            }
        }
    }

    pub(super) fn scripted(&mut self, at: usize, to: &[usize], message: Arc<Message>) {
        self.send(at, to, message);
    }

    pub(super) fn arrive(&mut self, from: usize, to: usize, parcel: Parcel) {
        if self.machines[to].running.is_none() {
            return;
        }
        match parcel {
            Parcel::Message(message) => {
                let (what, round, block) = describe(&message);
                self.trace.note(self.now, to, what, round, block.as_ref());
                if self.machines[to].script.is_some() {
                    let cues = self.on_stage(to, |script, stage| script.hear(&message, stage));
                    self.perform(to, cues);
                }
                self.receive(from, to, Arc::unwrap_or_clone(message));
            }
            Parcel::Request(height) => self.hand_over(to, from, height),
            Parcel::Answer(segment) => self.catch_up(to, &segment),
            Parcel::Tx(tx) => self.submit(to, tx),
        }
    }

    fn receive(&mut self, from: usize, to: usize, message: Message) {
        let node = self.machines[from].node;
        let guilty = self.machines[from].script.is_some() || self.plan.is_twin(from);
        let Some(running) = &mut self.machines[to].running else { return };
        match running.gate.verify(&self.ring, message) {
            Ok(message) => {
                if !guilty {
                    return self.feed(to, Event::Received { from: node, message });
                }
                let now = running.replica.status().round;
                self.feed(to, Event::Received { from: node, message: message.clone() });
                self.checker.heard(to, &message, now, &self.ring);
            }
            Err(VerifyError::LaterEpoch { height, .. }) => self.feed(to, Event::Ahead { from: node, height }),
            Err(_) => {}
        }
    }

    pub(super) fn executed(&mut self, at: usize, block: &Arc<ProposedBlock>) {
        let hash = block.block.hash();
        let running = self.machines[at].running.as_ref();
        let is_final = running.is_some_and(|running| running.chain.get(&hash).is_some());
        let verdict = if is_final { Some(Verdict::Valid) } else { self.machines[at].app.check(&block.block) };
        match verdict {
            Some(verdict) => self.feed(at, Event::Checked { block: hash, verdict }),
            // Its parent may have been overtaken by a conflicting final block while it waited.
            None if self.is_outdated(at, block.header().height) => {}
            None => self.checker.complain(Failure::Orphan { at, block: hash }),
        }
    }

    fn is_outdated(&self, at: usize, height: Height) -> bool {
        self.machines[at].running.as_ref().is_some_and(|running| running.chain.height() >= height.get())
    }

    /// Starts to build the block that is asked for, if it may.
    pub(super) fn try_build(&mut self, at: usize, even_empty: bool) {
        let machine = &mut self.machines[at];
        let (start, waiting) = (machine.starts, machine.waiting);
        let Some(running) = &mut machine.running else { return };
        if let Some(wanted) = running.wanted.take_if(|_| even_empty || waiting) {
            let time = self.dice.between(self.plan.execute.0, self.plan.execute.1);
            self.after(time, Happening::Built(at, start, wanted));
        }
    }

    pub(super) fn built(&mut self, at: usize, wanted: Wanted) {
        let (Some(height), nonce) = (wanted.justify.height.next(), u64::from(self.dice.any())) else { return };
        let machine = &mut self.machines[at];
        let ask = Ask {
            chain: CHAIN,
            round: wanted.round,
            height,
            parent: wanted.justify.block,
            proposer: machine.node,
            time: machine.clock(self.now),
            validator_set: [0; 32],
            nonce,
            even_empty: wanted.even_empty,
        };
        if let Some(block) = machine.app.build(&ask) {
            let block = Arc::new(ProposedBlock { block, justify: wanted.justify });
            self.feed(at, Event::Built { round: wanted.round, block });
        } else if let Some(running) = machine.running.as_mut().filter(|_| !wanted.even_empty) {
            // Answered once transactions come, unless something newer is asked for by then.
            running.wanted.get_or_insert(wanted);
        }
    }

    /// Gives final blocks above a height, as far as a certificate is known.
    fn hand_over(&mut self, at: usize, to: usize, height: u64) {
        let Some(running) = &self.machines[at].running else { return };
        let chain = &running.chain;
        let block = |height: u64| (chain.blocks()[height as usize - 1].clone(), chain.commits().get(&height).cloned());
        let segment: Segment = (height + 1..=chain.height()).map(block).collect();
        if !segment.is_empty() {
            self.deliver(at, &[to], &Parcel::Answer(Arc::new(segment)));
        }
    }

    /// Takes final blocks from a peer, certificate by certificate.
    fn catch_up(&mut self, at: usize, segment: &Segment) {
        let config = self.machines[at].config(&self.plan, self.planted.clone());
        let mut blocks = Vec::new();
        for (block, certificate) in segment {
            let Some(running) = &mut self.machines[at].running else { return };
            if block.header().height.get() <= running.chain.height() {
                continue;
            }
            blocks.push(block.clone());
            let Some(certificate) = certificate else { continue };
            let tip = running.tip();
            let blocks = std::mem::take(&mut blocks);
            let follows = blocks[0].header().height.get() == tip.0 + 1 && blocks[0].header().parent == tip.1;
            if !follows || !self.ring.certifies(certificate) {
                return;
            }
            let epoch = self.finalize(at, &config, "caught up", blocks, certificate.clone());
            self.feed(at, Event::CaughtUp { block: block.clone(), certificate: certificate.clone() });
            if let Some(epoch) = epoch {
                self.feed(at, Event::NextEpoch(epoch));
            }
        }
    }
}

fn describe(message: &Message) -> (&'static str, Round, Option<crate::types::BlockHash>) {
    match message {
        Message::Proposal(proposal) => ("propose", proposal.round, Some(proposal.offer.hash())),
        Message::Vote(vote) if vote.kind == VoteKind::Prepare => ("vote", vote.round, Some(vote.block)),
        Message::Vote(vote) => ("commit", vote.round, Some(vote.block)),
        Message::Timeout(timeout) => ("timeout", timeout.round, None),
        Message::Newest(newest) => ("newest", newest.high.rank(), Some(newest.high.block)),
        Message::Fetch(block) => ("fetch", Round::default(), Some(*block)),
        Message::Block(block) => ("block", block.header().round, Some(block.block.hash())),
    }
}
