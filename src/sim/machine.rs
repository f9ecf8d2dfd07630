//! Machine: one process with its disk, as the scheduler sees it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::consensus::leader::skip_list;
use crate::consensus::planted::Planted;
use crate::consensus::{Action, Config, EpochContext, Replica, Resume, Timer};
use crate::ledger::record::validator_set;
use crate::ledger::{Key, MemoryState, Record};
use crate::types::{BlockHash, Epoch, Millis, NodeId, Round};
use crate::wire::{Certificate, ValidatorSet};

use super::app::App;
use super::disk::{Chain, Disk, Write};
use super::gate::Gate;
use super::plan::{Phase, Place, Plan};
use super::ring::{CHAIN, GENESIS};
use super::script::Script;

/// Virtual time zero on the machines' clocks, milliseconds since the Unix epoch.
const DAWN: u64 = 1_700_000_000_000;

/// Things to be done in order; what stands behind a write waits for it.
pub enum Task {
    /// An action of the core that is not a write.
    Act(Box<Action>),
    /// A write.
    Write(Write),
}

/// What runs while a process is up.
pub struct Running {
    /// The core.
    pub replica: Replica,
    /// What it is given.
    pub gate: Gate,
    /// Epochs that have begun here, all from the first on.
    pub contexts: Vec<EpochContext>,
    /// Final blocks, durable or not.
    pub chain: Chain,
    /// What waits to be done.
    pub tasks: VecDeque<Task>,
    /// A write is under way: the first task.
    pub writing: bool,
    /// The newest start of each timer.
    pub timers: BTreeMap<Timer, u64>,
    /// A block is asked for, once transactions wait.
    pub wanted: Option<Wanted>,
}

/// A leader's demand for a block.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The view.
    pub round: Round,
    /// Certificate of the parent.
    pub justify: Certificate,
    /// A block without transactions is wanted too.
    pub even_empty: bool,
}

/// One machine.
pub struct Machine {
    /// Its place in the plan.
    pub place: Place,
    /// Its node.
    pub node: NodeId,
    /// What it has durable.
    pub disk: Disk,
    /// A copy of that, taken before.
    pub copy: Option<Disk>,
    /// Its record was restored: signs nothing before this epoch.
    pub silent_until: Option<Epoch>,
    /// What is in memory, while it is up.
    pub running: Option<Running>,
    /// How often it has started.
    pub starts: u32,
    /// It stands still until then.
    pub paused_until: u64,
    /// Crashes around its next write, and is down for so long.
    pub doom: Option<(Phase, u64)>,
    /// After the next message to all, crashes and is down for so long.
    pub last_words: Option<u64>,
    /// Transactions wait here.
    pub waiting: bool,
    /// Its application.
    pub app: Box<dyn App>,
    /// Its script, if it follows one.
    pub script: Option<Script>,
}

impl Machine {
    /// Settings of its core.
    pub fn config(&self, plan: &Plan, planted: Planted) -> Config {
        let [idle, base, floor, cap] = plan.pacing.map(Millis::new);
        Config {
            chain: CHAIN,
            genesis: GENESIS,
            epoch_blocks: plan.epoch_blocks,
            idle_interval: idle,
            me: self.node,
            view_base: base,
            view_floor: floor,
            view_cap: cap,
            planted,
        }
    }

    /// Its clock at a virtual time.
    pub fn clock(&self, now: u64) -> Millis {
        Millis::new((DAWN + now).saturating_add_signed(self.place.skew))
    }

    /// The process starts from its disk.
    pub fn start(&mut self, config: Config, set: &Arc<ValidatorSet>, real: bool) {
        let chain = self.disk.chain.clone();
        let mut contexts = vec![first_epoch(set)];
        while let Some(next) = next_epoch(&config, &contexts, &chain, self.disk.state.as_ref()) {
            contexts.push(next);
        }
        let resume = Resume {
            record: self.disk.record.clone(),
            blocks: self.disk.blocks.values().cloned().collect(),
            last_final: chain.last_commit().cloned().unwrap_or_else(|| Certificate::genesis(GENESIS)),
            silent_until: self.silent_until,
        };
        self.app.restart(chain.blocks(), self.disk.state.as_ref());
        if let Some(ledger) = self.app.ledger() {
            self.waiting = ledger.is_waiting();
        }
        let gate = Gate::new(real, &config, &contexts);
        let context = contexts[contexts.len() - 1].clone();
        let replica = Replica::new(config, context, resume);
        let (tasks, timers, wanted) = Default::default();
        self.running = Some(Running { replica, gate, contexts, chain, tasks, writing: false, timers, wanted });
        self.starts += 1;
    }

    /// The process is gone, and all that is not durable.
    pub fn crash(&mut self) {
        self.running = None;
        self.doom = None;
        self.last_words = None;
        self.paused_until = 0;
    }
}

impl Running {
    /// The epoch that final blocks make begin, given the ledger's state after them, if there is a ledger.
    pub fn begin_epoch(&mut self, config: &Config, state: Option<&MemoryState>) -> Option<EpochContext> {
        let next = next_epoch(config, &self.contexts, &self.chain, state)?;
        self.gate.begin_epoch(&next);
        self.contexts.push(next.clone());
        Some(next)
    }

    /// Height and hash of the last final block.
    pub fn tip(&self) -> (u64, BlockHash) {
        (self.chain.height(), self.chain.blocks().last().map_or(GENESIS, |last| last.block.hash()))
    }
}

/// The first epoch.
pub fn first_epoch(set: &Arc<ValidatorSet>) -> EpochContext {
    EpochContext { epoch: Epoch::ZERO, set: set.clone(), skip: Vec::new(), opening: Certificate::genesis(GENESIS) }
}

/// The next epoch, if the chain holds all of the last known one.
fn next_epoch(
    config: &Config,
    contexts: &[EpochContext],
    chain: &Chain,
    state: Option<&MemoryState>,
) -> Option<EpochContext> {
    let last = contexts.last()?;
    let end = config.last_height(last.epoch).get();
    let opening = chain.commits().get(&end)?.clone();
    let begin = end.saturating_sub(config.epoch_blocks) as usize;
    let headers = chain.blocks()[begin..end as usize].iter().map(|block| block.header());
    let (epoch, skip) = (last.epoch.next()?, skip_list(last, headers));
    let set = match state {
        Some(state) => Arc::new(set_of(state, epoch)?),
        None => last.set.clone(),
    };
    Some(EpochContext { epoch, skip: last.set.carry_over(&skip, &set), set, opening })
}

/// The validators of an epoch that has begun: those that the next change replaces, or those of now.
fn set_of(state: &MemoryState, epoch: Epoch) -> Option<ValidatorSet> {
    let replaced = state.records().find(|(key, _)| matches!(key, Key::Replaced(later) if *later > epoch));
    match replaced.map(|(_, record)| record).or_else(|| state.get(&Key::Validators)) {
        Some(Record::Validators(entries)) => validator_set(entries).ok(),
        _ => None,
    }
}
