//! World: virtual time, the queue of what happens next, and the faults of the plan.
//!
//! Everything random comes from the dice, and everything happens in the order of the queue: the same options give the same
//! run. What a machine does with an event is in `shell`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::consensus::leader::Leaders;
use crate::consensus::planted::Planted;
use crate::consensus::{Event, Timer};
use crate::ledger::MemoryState;
use crate::types::{BlockHash, Epoch, NodeId, Round, View};
use crate::wire::{Certificate, Message, ProposedBlock, VerifiedTx};

use super::Outcome;
use super::app::{App, LightApp};
use super::books::Books;
use super::checker::Checker;
use super::dice::Dice;
use super::disk::Disk;
use super::duty::Wish;
use super::fault;
use super::ledger::{Common, LedgerApp};
use super::machine::{Machine, Wanted, first_epoch};
use super::network::Network;
use super::options::Options;
use super::plan::{Fault, Plan, Role, Weather};
use super::ring::{GENESIS, Ring};
use super::script::Script;
use super::shape::{self, Mark};
use super::trace::Trace;
use super::traffic::Traffic;
use super::verdict::{Failure, Verdict};

/// Heights that must be final after the faults have ended.
const HEIGHTS_AFTER: u64 = 3;
/// Virtual time for that, ms: the back-off cap of a few views, and some more.
const PATIENCE: u64 = 40_000;
/// Events of one run; more are a storm.
const EVENTS_MAX: u64 = 100_000;

/// Blocks that a peer hands over, each with its certificate if that is known.
pub type Segment = Vec<(Arc<ProposedBlock>, Option<Certificate>)>;

/// What goes from machine to machine.
#[derive(Clone)]
pub enum Parcel {
    /// A message of the core.
    Message(Arc<Message>),
    /// A request for final blocks above a height.
    Request(u64),
    /// The answer.
    Answer(Arc<Segment>),
    /// A transaction, as gossip passes it on.
    Tx(VerifiedTx),
}

/// What happens at a time.
pub enum Happening {
    /// A parcel arrives: sender, receiver.
    Arrival(usize, usize, Parcel),
    /// The own message comes back: machine, its start.
    Echo(usize, u32, Arc<Message>),
    /// A timer runs out: machine, its start, which, when it was set.
    Timer(usize, u32, Timer, u64),
    /// A write is durable.
    Written(usize, u32),
    /// A block is executed.
    Executed(usize, u32, Arc<ProposedBlock>),
    /// A block can be built.
    Built(usize, u32, Wanted),
    /// A machine starts.
    Start(usize),
    /// The plan's next fault.
    Fault(usize),
    /// All faults end.
    Heal,
    /// A script's message leaves.
    Scripted(usize, Vec<usize>, Arc<Message>),
    /// A user hands in a transaction: machine.
    Submission(usize, Wish),
}

/// The world of one run.
pub struct World {
    pub(super) plan: Plan,
    pub(super) planted: Planted,
    restore_signs: bool,
    pub(super) now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u32, u64), Happening>,
    pub(super) dice: Dice,
    pub(super) machines: Vec<Machine>,
    pub(super) network: Network<Parcel>,
    pub(super) ring: Ring,
    pub(super) checker: Checker,
    pub(super) trace: Trace,
    pub(super) plots: BTreeMap<BlockHash, Vec<usize>>,
    pub(super) sides: Vec<Option<bool>>,
    /// What has to be reached, once the faults have ended.
    goal: Option<u64>,
    views_to_goal: Option<u64>,
    /// Most views in a row that faulty leaders have.
    views_in_a_row: u64,
    events: u64,
    marks: Vec<Mark>,
    /// Time from the end of the faults to the next final block on every machine.
    recovered: Option<u64>,
}

impl World {
    /// The world of these options, before anything happens.
    pub fn new(options: &Options) -> Self {
        let plan = Plan::draw(options);
        let ring = Ring::new(&plan.weights, plan.real);
        let traffic = options.scenario.has_ledger().then(|| Traffic::draw(options.seed, &plan, ring.set()));
        let common = traffic.as_ref().map(|traffic| Common {
            genesis: traffic.genesis.clone(),
            set: ring.set().clone(),
            capacity: traffic.capacity,
            planted: fault::ledger_fault(options),
        });
        let app = |node| -> Box<dyn App> {
            match &common {
                Some(common) => Box::new(LedgerApp::new(node, common.clone())),
                None => Box::new(LightApp::new(GENESIS)),
            }
        };
        let state = || common.as_ref().map(|common| MemoryState::clone(&common.genesis));
        let honest: Vec<_> = plan.places.iter().map(|place| is_honest(&place.role)).collect();
        let nodes: Vec<NodeId> = (0..plan.validators).map(|index| ring.node(index)).collect();
        let innocent = honest[..nodes.len()].to_vec();
        let machine = |place: &super::plan::Place| Machine {
            node: ring.node(place.validator),
            disk: Disk { state: state(), ..Disk::default() },
            copy: None,
            silent_until: None,
            running: None,
            starts: 0,
            paused_until: 0,
            doom: None,
            last_words: None,
            waiting: false,
            app: app(ring.node(place.validator)),
            script: match &place.role {
                Role::Scripted(habits) => Some(Script::new(habits.clone(), place.validator)),
                _ => None,
            },
            place: place.clone(),
        };
        let machines = plan.places.iter().map(machine).collect();
        let mut world = Self {
            planted: fault::planted(options),
            restore_signs: fault::restore_signs(options),
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            dice: Dice::new(options.seed, 2),
            machines,
            network: Network::new(plan.places.len(), plan.weather),
            checker: Checker::new(honest, nodes, innocent, plan.epoch_blocks, traffic.as_ref().map(Books::new)),
            trace: Trace::new(options.trace),
            plots: BTreeMap::new(),
            sides: plan.sides(),
            goal: None,
            views_to_goal: None,
            views_in_a_row: views_in_a_row(&plan, &ring),
            events: 0,
            marks: Vec::new(),
            recovered: None,
            ring,
            plan,
        };
        world.begin(traffic);
        world
    }

    fn begin(&mut self, traffic: Option<Traffic>) {
        for (when, at, wish) in traffic.iter().flat_map(Traffic::wishes) {
            self.after(when, Happening::Submission(at, wish));
        }
        for at in 0..self.machines.len() {
            if self.machines[at].place.role != Role::Dead {
                let after = self.dice.between(0, 20);
                self.after(after, Happening::Start(at));
            }
        }
        for at in 0..self.plan.faults.len() {
            let when = self.plan.faults[at].0;
            self.after(when, Happening::Fault(at));
        }
        self.after(self.plan.heal_at, Happening::Heal);
    }

    /// Runs to the end. What is wrong first, if anything is.
    pub fn run(&mut self) -> Verdict {
        loop {
            if let Some(failure) = self.checker.failure() {
                return Verdict::Failed { failure: failure.clone(), at: self.now };
            }
            if let Some(verdict) = self.finished() {
                return verdict;
            }
            let Some(((time, ..), happening)) = self.queue.pop_first() else {
                return self.stalled();
            };
            if self.events >= EVENTS_MAX {
                return Verdict::Failed { failure: Failure::Storm { events: self.events }, at: self.now };
            }
            self.now = time;
            self.events += 1;
            self.happen(happening);
        }
    }

    /// What came of it.
    pub fn outcome(self, options: &Options, verdict: Verdict) -> Outcome {
        let (trace_hash, trace) = self.trace.finish();
        let transactions = self.checker.books.as_ref().map_or(String::new(), |books| format!("{books}\n"));
        Outcome {
            is_expected: if options.scenario.must_fork() { verdict.is_fork() } else { verdict.is_clean() },
            schedule: format!("{}{transactions}{verdict}\n", self.plan.describe()),
            heights: self.checker.height(),
            views: self.views_to_goal.unwrap_or_else(|| self.checker.views()),
            evidence: self.checker.evidence,
            transactions: self.checker.books.as_ref().map_or(0, |books| books.transactions),
            events: self.events,
            millis: self.now,
            marks: self.marks,
            recovered: self.recovered,
            view_cap: self.plan.pacing[3],
            trace_hash,
            trace,
            verdict,
        }
    }

    /// Puts something into the queue. Things of the same millisecond happen in random order.
    pub(super) fn after(&mut self, millis: u64, happening: Happening) {
        self.sequence += 1;
        let tie = self.dice.any();
        self.queue.insert((self.now + millis, tie, self.sequence), happening);
    }

    fn finished(&mut self) -> Option<Verdict> {
        let goal = self.goal?;
        if !self.plan.live {
            return (self.now > self.plan.heal_at + 100).then_some(Verdict::Clean);
        }
        if self.recovered.is_none() && self.laggard(goal - HEIGHTS_AFTER + 1).is_none() {
            self.recovered = Some(self.now - self.plan.heal_at);
        }
        let (views, allowed) = (self.checker.views(), self.views_allowed());
        if self.checker.height() >= goal {
            self.views_to_goal.get_or_insert(views);
        } else if views > allowed {
            return Some(Verdict::Failed { failure: Failure::Slow { views, allowed }, at: self.now });
        }
        if self.now > self.plan.heal_at + PATIENCE {
            return Some(self.stalled());
        }
        self.laggard(goal).is_none().then(|| self.at_the_end())
    }

    /// All is well but for what is looked at once: the whole state that each machine works with.
    fn at_the_end(&mut self) -> Verdict {
        for at in 0..self.machines.len() {
            let Machine { running, app, .. } = &mut self.machines[at];
            if let (Some(running), Some(ledger)) = (running, app.ledger()) {
                self.checker.ledger_at(at, running.chain.height(), ledger.state(), true);
            }
        }
        match self.checker.failure() {
            Some(failure) => Verdict::Failed { failure: failure.clone(), at: self.now },
            None => Verdict::Clean,
        }
    }

    /// Views for three more heights. Each height takes one view of a leader that works; of any n views in a row at most f
    /// have another one, also where epochs meet. The view that is open when the faults end is lost, and so may be one
    /// more whose timers began apart; an epoch that ends asks for a tail; then the same once more, because the certificates
    /// of those who were ahead are still on their way.
    fn views_allowed(&self) -> u64 {
        (HEIGHTS_AFTER + 3) * (1 + self.views_in_a_row)
    }

    fn laggard(&self, goal: u64) -> Option<usize> {
        let up = |at: &usize| is_honest(&self.machines[*at].place.role) && !self.is_dead(*at);
        (0..self.machines.len()).filter(up).find(|at| self.height(*at) < goal)
    }

    fn height(&self, at: usize) -> u64 {
        self.machines[at].running.as_ref().map_or(0, |running| running.chain.height())
    }

    fn stalled(&self) -> Verdict {
        let wanted = self.goal.unwrap_or(HEIGHTS_AFTER);
        let at = self.laggard(wanted).unwrap_or(0);
        let height = self.height(at);
        let waited = self.now.saturating_sub(self.plan.heal_at);
        Verdict::Failed { failure: Failure::Stall { at, height, wanted, waited }, at: self.now }
    }

    fn is_dead(&self, at: usize) -> bool {
        match self.machines[at].place.role {
            Role::Dead => true,
            Role::Doomed => self.goal.is_some(),
            _ => false,
        }
    }

    fn happen(&mut self, happening: Happening) {
        let Some(happening) = self.postpone(happening) else { return };
        match happening {
            Happening::Arrival(from, to, parcel) => self.arrive(from, to, parcel),
            Happening::Echo(at, start, message) if self.is_same(at, start) => {
                let (from, message) = (self.machines[at].node, Arc::unwrap_or_clone(message));
                self.feed(at, Event::Received { from, message });
            }
            Happening::Timer(at, start, timer, set) if self.is_same(at, start) => self.expire(at, timer, set),
            Happening::Written(at, start) if self.is_same(at, start) => self.written(at),
            Happening::Executed(at, start, block) if self.is_same(at, start) => self.executed(at, &block),
            Happening::Built(at, start, wanted) if self.is_same(at, start) => self.built(at, wanted),
            Happening::Start(at) => self.start(at),
            Happening::Fault(at) if self.goal.is_none() => self.fault(at),
            Happening::Heal => self.heal(),
            Happening::Scripted(at, to, message) => self.scripted(at, &to, message),
            Happening::Submission(at, wish) => self.wish(at, wish),
            _ => {}
        }
    }

    /// Nothing happens on a machine that stands still.
    fn postpone(&mut self, happening: Happening) -> Option<Happening> {
        let at = match &happening {
            Happening::Arrival(_, at, _)
            | Happening::Echo(at, ..)
            | Happening::Timer(at, ..)
            | Happening::Executed(at, ..)
            | Happening::Written(at, _)
            | Happening::Built(at, ..) => *at,
            _ => return Some(happening),
        };
        let until = self.machines[at].paused_until;
        if until <= self.now {
            return Some(happening);
        }
        self.after(until - self.now, happening);
        None
    }

    /// Whether the machine is up and has not crashed since that start.
    fn is_same(&self, at: usize, start: u32) -> bool {
        self.machines[at].running.is_some() && self.machines[at].starts == start
    }

    fn start(&mut self, at: usize) {
        if self.machines[at].running.is_some() || self.is_dead(at) {
            return;
        }
        let config = self.machines[at].config(&self.plan, self.planted.clone());
        let (set, real) = (self.ring.set().clone(), self.ring.is_real());
        self.machines[at].start(config, &set, real);
        let disk = &self.machines[at].disk;
        self.checker.restarted(at, disk.record.as_ref());
        if let Some(state) = &disk.state {
            self.checker.ledger_at(at, disk.chain.height(), state, true);
        }
        self.trace.note(self.now, at, "start", Round::default(), None);
        self.feed(at, Event::Start);
        let waiting = self.machines[at].waiting;
        self.feed(at, Event::Waiting(waiting));
    }

    /// A crash, and the start after it.
    pub(super) fn crash(&mut self, at: usize, down: u64) {
        if self.machines[at].running.is_some() {
            self.trace.note(self.now, at, "crash", Round::default(), None);
            self.machines[at].crash();
            self.after(down, Happening::Start(at));
        }
    }

    fn fault(&mut self, number: usize) {
        let fault = self.plan.faults[number].1.clone();
        self.trace.line(|| format!("{:>6} -- {fault}", self.now));
        match fault {
            Fault::Crash(at, down) => self.crash(at, down),
            Fault::CrashAtWrite(at, phase, down) => self.machines[at].doom = Some((phase, down)),
            Fault::CrashAll(down) => {
                for at in 0..self.machines.len() {
                    let down = self.dice.between(0, down);
                    self.crash(at, down);
                }
            }
            Fault::Pause(at, length) => self.machines[at].paused_until = self.now + length,
            Fault::Partition(shape, cut) => {
                self.mark(shape, shape::gone(&cut, self.machines.len()));
                self.network.partition(&cut);
            }
            Fault::Mend => {
                self.mark("mend", Vec::new());
                self.network.partition(&[]);
            }
            Fault::Clog(at) => self.network.clog(at),
            Fault::Unclog(at) => {
                let go = self.network.unclog(at);
                self.release(go);
            }
            Fault::Waiting(at, waiting) => self.set_waiting(at, waiting),
            Fault::Copy(at) => self.machines[at].copy = Some(self.machines[at].disk.clone()),
            Fault::Restore(at) => self.restore(at),
        }
    }

    fn release(&mut self, parcels: Vec<(usize, usize, Parcel)>) {
        for (from, to, parcel) in parcels {
            let delay = self.network.delay(&mut self.dice);
            self.after(delay, Happening::Arrival(from, to, parcel));
        }
    }

    /// With the ledger it is the mempool that says whether transactions wait.
    fn set_waiting(&mut self, at: usize, waiting: bool) {
        if self.machines[at].app.ledger().is_some() {
            return;
        }
        self.machines[at].waiting = waiting;
        self.feed(at, Event::Waiting(waiting));
        self.try_build(at, false);
    }

    /// Protocol rule 12: who comes back with an old record waits for an epoch that begins after that. Until then the machine
    /// is one more that says nothing, so all other faults but those of the network have to leave the rest alone.
    fn restore(&mut self, at: usize) {
        let Some(copy) = self.machines[at].copy.clone() else { return };
        let newest = self.machines.iter().filter_map(|machine| machine.running.as_ref());
        let newest = newest.filter_map(|running| running.contexts.last()).map(|context| context.epoch.get()).max();
        self.machines[at].crash();
        self.machines[at].disk = copy;
        if !self.restore_signs {
            self.machines[at].silent_until = Some(Epoch::new(newest.unwrap_or(0) + 1));
        }
        self.start(at);
    }

    fn mark(&mut self, what: &str, gone: Vec<usize>) {
        let heights = (0..self.machines.len()).map(|at| self.height(at)).collect();
        self.marks.push(Mark { at: self.now, what: what.to_owned(), gone, heights });
    }

    fn heal(&mut self) {
        self.trace.line(|| format!("{:>6} -- all faults end", self.now));
        self.mark("heal", Vec::new());
        self.goal = Some(self.checker.height() + HEIGHTS_AFTER);
        self.checker.heal();
        let go = self.network.heal(Weather::FAIR);
        self.release(go);
        for at in 0..self.machines.len() {
            self.machines[at].doom = None;
            self.machines[at].last_words = None;
            self.machines[at].paused_until = 0;
            if self.is_dead(at) {
                self.machines[at].crash();
            } else {
                self.start(at);
            }
        }
    }
}

fn is_honest(role: &Role) -> bool {
    matches!(role, Role::Honest | Role::Dead | Role::Doomed)
}

/// Of any n views in a row at most f have a faulty leader, if all weights are equal. Else it is counted; that others may be
/// skipped for a time adds one.
fn views_in_a_row(plan: &Plan, ring: &Ring) -> u64 {
    let equal = u64::from(plan.validators - 1) / 3;
    if plan.is_even() {
        return equal;
    }
    let (faulty, leaders) = (plan.faulty(), Leaders::new(&first_epoch(ring.set())));
    let (mut row, mut most) = (0, 0);
    for view in 1..=2 * ring.set().total_power() {
        let is_faulty = faulty.contains(&leaders.index(Round::new(Epoch::ZERO, View::new(view))));
        row = if is_faulty { row + 1 } else { 0 };
        most = row.max(most);
    }
    equal.max(most) + 1
}
