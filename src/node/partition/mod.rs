//! Partition: the node tells by itself that it cannot see a quorum, and who is missing.
//!
//! `judge` decides; here is where it hears of the network, and what the node makes of its verdict: reads are marked, writes
//! are refused before anything is stored or sent, and the log has a line for each change.

mod judge;
#[cfg(test)]
mod judge_tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::handle::{Handle, NodeError};
use crate::types::{Millis, NodeId};
pub use judge::{BEHIND_MAX, Missing, Reach, Verdict};
use judge::{Heard, Judge, Seen, is_bad};

/// How often the network is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How many of those who are away are named in a line of text.
const NAMED_MAX: usize = 7;

/// A verdict with the names of nodes.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// What was judged.
    pub verdict: Verdict,
    /// Names of those who are away, in their order.
    names: Vec<String>,
}

impl Standing {
    /// Names that cannot be read are left out: the node's database fails where it matters.
    fn of(handle: &Handle, verdict: &Verdict) -> Self {
        let nodes = if verdict.missing.is_empty() { Vec::new() } else { handle.nodes().unwrap_or_default() };
        let name = |missing: &Missing| {
            let entry = nodes.iter().find(|entry| entry.announcement.node == missing.node);
            entry.map_or_else(|| missing.node.short(), |entry| entry.announcement.name.clone())
        };
        Self { verdict: verdict.clone(), names: verdict.missing.iter().map(name).collect() }
    }

    /// Whether what this node reads may be older than what is final elsewhere.
    pub fn is_stale(&self) -> bool {
        self.verdict.reach != Reach::Ok
    }

    /// The verdict in a line, at a moment; nothing where all is well.
    pub fn text(&self, now: Millis) -> String {
        let Verdict { heard, quorum, total, .. } = self.verdict;
        let reached = format!("validators with {heard} of {total} of the voting power are in reach");
        match self.verdict.reach {
            Reach::Ok => String::new(),
            Reach::Behind => "validators have blocks as final that this node does not have yet".to_owned(),
            Reach::Halted => format!("halted: {reached}, and no block becomes final"),
            Reach::Partitioned => {
                format!("partitioned: {reached}, and a quorum is {quorum}; missing: {}", self.missing(now))
            }
        }
    }

    fn missing(&self, now: Millis) -> String {
        let name = |(missing, name): (&Missing, &String)| {
            let seconds = now.saturating_sub(missing.since).get() / 1_000;
            let relayed = if missing.relayed { ", heard of through others" } else { "" };
            format!("{name} (for {seconds} s{relayed})")
        };
        let named: Vec<_> = self.verdict.missing.iter().zip(&self.names).take(NAMED_MAX).map(name).collect();
        let rest = self.names.len().saturating_sub(NAMED_MAX);
        let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        named.join(", ") + &more
    }
}

impl Handle {
    /// How the network looks from here.
    pub fn standing(&self) -> Arc<Standing> {
        self.inner.standing.borrow().clone()
    }
    /// Time since a block became final here.
    pub fn final_age(&self) -> Duration {
        let final_at = self.status().map_or(self.clock().now(), |status| status.final_at);
        Duration::from_millis(self.clock().now().saturating_sub(final_at).get())
    }
    /// Time between the blocks of an idle network.
    pub fn idle_interval(&self) -> Millis {
        self.config().consensus.idle_interval.unwrap_or(self.genesis().timing.idle_interval)
    }
    /// Waits while no quorum is in reach. Errors: `Stopping`.
    pub(super) async fn quorum(&self) -> Result<(), NodeError> {
        let mut standings = self.inner.standing.clone();
        let reached = standings.wait_for(|standing| standing.verdict.reach != Reach::Partitioned).await;
        reached.map(|_| ()).map_err(|_| NodeError::Stopping)
    }
    /// Errors: `Partitioned` while no quorum is in reach.
    pub(super) fn reaches_a_quorum(&self) -> Result<(), NodeError> {
        let standing = self.inner.standing.borrow();
        match standing.verdict.reach {
            Reach::Partitioned => Err(NodeError::Partitioned(standing.text(self.clock().now()))),
            Reach::Ok | Reach::Behind | Reach::Halted => Ok(()),
        }
    }
}

/// Looks at the network until the node stops.
pub(super) async fn watch(handle: Handle, told: watch::Sender<Arc<Standing>>) {
    let mut judge = Judge::default();
    let mut tips = handle.reader().watch();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let waits = is_bad(judge.verdict().reach);
        tokio::select! {
            _ = looks.tick() => {}
            // The block that ends it is not waited for any longer than need be.
            changed = tips.changed(), if waits => if changed.is_err() { return },
            () = handle.stop_token().cancelled() => return,
        }
        let Some(status) = handle.status() else { continue };
        let (now, me) = (handle.clock().now(), handle.identity().node);
        let others = status.set.members().iter().filter(|member| member.node != me);
        let nodes: Vec<NodeId> = others.clone().map(|member| member.node).collect();
        let heard = others.zip(handle.net().heard(&nodes)).map(|(member, (direct, relayed))| Heard {
            node: member.node,
            power: member.power,
            direct: direct.map(millis),
            relayed: relayed.map(millis),
        });
        let seen = Seen {
            now,
            final_at: status.final_at,
            set: &status.set,
            me,
            heard: heard.collect(),
            behind: handle.behind(),
            idle: handle.idle_interval(),
            paused: handle.disk_low().is_some(),
        };
        let before = judge.verdict().clone();
        let changed = judge.look(&seen);
        let verdict = judge.verdict();
        if *verdict == before {
            continue;
        }
        let standing = Standing::of(&handle, verdict);
        match verdict.reach {
            _ if !changed => {}
            Reach::Ok => tracing::info!(was = before.reach.name(), "blocks become final again"),
            Reach::Behind => tracing::info!("{}", standing.text(now)),
            Reach::Halted | Reach::Partitioned => tracing::warn!("{}", standing.text(now)),
        }
        told.send_replace(Arc::new(standing));
    }
}

fn millis(time: Duration) -> Millis {
    Millis::new(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
