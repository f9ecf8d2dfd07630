//! A queue with a share for each peer, emptied in turns.
//!
//! One peer's flood fills that peer's share and nothing else, and costs the others one turn at a time.
//! Order is kept within a peer. Bounded in bytes, per peer and in all.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::types::{NodeId, limits};

/// Bounds of a queue, bytes. Each item counts its length and a fixed overhead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub per_peer: usize,
    pub total: usize,
    /// What each peer may have waiting beyond the total: those who fill the queue do not keep others' small items out.
    pub assured: usize,
}

/// The queue. One consumer; any number of producers.
pub(super) struct FairQueue<T> {
    bounds: Bounds,
    state: Mutex<State<T>>,
    filled: Notify,
    emptied: Notify,
}

struct State<T> {
    /// Only peers with something waiting have an entry.
    waiting: BTreeMap<NodeId, Share<T>>,
    /// The peers of `waiting`, each once, in the order of their turns.
    turns: VecDeque<NodeId>,
    bytes: usize,
    closed: bool,
}

struct Share<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
}

impl<T> FairQueue<T> {
    pub(super) fn new(bounds: Bounds) -> Self {
        let state = State { waiting: BTreeMap::new(), turns: VecDeque::new(), bytes: 0, closed: false };
        Self { bounds, state: Mutex::new(state), filled: Notify::new(), emptied: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // The state is consistent between statements that can panic: there are none.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends to the peer's share. Gives the item back when there is no room for it, or nobody to take it.
    pub(super) fn try_push(&self, from: NodeId, len: usize, item: T) -> Result<(), T> {
        let cost = len.saturating_add(limits::QUEUED_MESSAGE_OVERHEAD_BYTES);
        let mut guard = self.lock();
        let state = &mut *guard;
        let share = state.waiting.get(&from).map_or(0, |share| share.bytes).saturating_add(cost);
        let crowded = state.bytes.saturating_add(cost) > self.bounds.total && share > self.bounds.assured;
        if share > self.bounds.per_peer || crowded || state.closed {
            return Err(item);
        }
        let share = state.waiting.entry(from).or_insert_with(|| {
            state.turns.push_back(from);
            Share { items: VecDeque::new(), bytes: 0 }
        });
        share.items.push_back((cost, item));
        share.bytes += cost;
        state.bytes += cost;
        drop(guard);
        self.filled.notify_one();
        Ok(())
    }

    /// Appends to the peer's share, waiting for room as long as it takes. Returns false when the queue is closed.
    pub(super) async fn push(&self, from: NodeId, len: usize, item: T) -> bool {
        let mut item = item;
        loop {
            // Registered before the attempt, so that no wake-up between the two is missed.
            let mut emptied = std::pin::pin!(self.emptied.notified());
            emptied.as_mut().enable();
            match self.try_push(from, len, item) {
                Ok(()) => return true,
                Err(_) if self.lock().closed => return false,
                Err(back) => item = back,
            }
            emptied.await;
        }
    }

    /// The next item, if one waits.
    pub(super) fn try_pop(&self) -> Option<(NodeId, T)> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let from = state.turns.pop_front()?;
        let share = state.waiting.get_mut(&from)?;
        let (cost, item) = share.items.pop_front()?;
        share.bytes -= cost;
        state.bytes -= cost;
        if share.items.is_empty() {
            state.waiting.remove(&from);
        } else {
            state.turns.push_back(from);
        }
        drop(guard);
        self.emptied.notify_waiters();
        Some((from, item))
    }

    /// The next item: the oldest one of the peer whose turn it is. Nothing when the queue is closed and empty.
    pub(super) async fn pop(&self) -> Option<(NodeId, T)> {
        loop {
            if let Some(item) = self.try_pop() {
                return Some(item);
            }
            if self.lock().closed {
                return None;
            }
            // One consumer, and `notify_one` keeps one permit: a push since `try_pop` is not missed.
            self.filled.notified().await;
        }
    }

    /// Takes nothing more; what waits can still be popped.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
        self.emptied.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const OVERHEAD: usize = limits::QUEUED_MESSAGE_OVERHEAD_BYTES;

    fn peer(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn queue() -> FairQueue<u32> {
        FairQueue::new(Bounds { per_peer: 4 * OVERHEAD, total: 6 * OVERHEAD, assured: 0 })
    }

    #[test]
    fn a_flood_of_one_peer_costs_the_others_one_turn() {
        let queue = queue();
        for n in 0..4 {
            assert_eq!(queue.try_push(peer(1), 0, n), Ok(()));
        }
        assert_eq!(queue.try_push(peer(1), 0, 4), Err(4), "its share is full");
        assert_eq!(queue.try_push(peer(2), 0, 9), Ok(()));
        let order: Vec<_> = std::iter::from_fn(|| queue.try_pop()).collect();
        assert_eq!(order, [(peer(1), 0), (peer(2), 9), (peer(1), 1), (peer(1), 2), (peer(1), 3)]);
    }

    #[test]
    fn the_bytes_in_all_are_bounded_and_given_back() {
        let queue = queue();
        for n in 0..6_u8 {
            assert_eq!(queue.try_push(peer(n), 0, 0), Ok(()));
        }
        assert_eq!(queue.try_push(peer(9), 0, 0), Err(0));
        assert!(queue.try_pop().is_some());
        assert_eq!(queue.try_push(peer(9), 0, 0), Ok(()));
        while queue.try_pop().is_some() {}
        assert_eq!(queue.lock().bytes, 0);
        assert!(queue.lock().waiting.is_empty());
    }

    #[test]
    fn what_each_peer_is_assured_comes_into_a_queue_that_others_have_filled() {
        let bounds = Bounds { per_peer: 4 * OVERHEAD, total: 6 * OVERHEAD, assured: 2 * OVERHEAD };
        let queue = FairQueue::new(bounds);
        for n in 0..3 {
            assert_eq!(queue.try_push(peer(1), 0, n), Ok(()));
            assert_eq!(queue.try_push(peer(2), 0, n), Ok(()));
        }
        assert_eq!(queue.try_push(peer(1), 0, 3), Err(3), "the queue is full");
        assert_eq!(queue.try_push(peer(3), 2 * OVERHEAD, 9), Err(9), "and has no room for much");
        assert_eq!(queue.try_push(peer(3), OVERHEAD, 9), Ok(()));
        assert_eq!(queue.try_push(peer(3), 0, 10), Err(10), "no more than assured");
    }

    #[test]
    fn a_waiting_producer_goes_on_when_there_is_room_and_stops_at_the_end() {
        let queue = queue();
        let len = 3 * OVERHEAD;
        assert_eq!(queue.try_push(peer(1), len, 1), Ok(()));
        let mut second = std::pin::pin!(queue.push(peer(1), len, 2));
        assert_eq!(second.as_mut().now_or_never(), None);
        assert_eq!(queue.pop().now_or_never(), Some(Some((peer(1), 1))));
        assert_eq!(second.as_mut().now_or_never(), Some(true));
        let mut third = std::pin::pin!(queue.push(peer(1), len, 3));
        assert_eq!(third.as_mut().now_or_never(), None);
        queue.close();
        assert_eq!(third.as_mut().now_or_never(), Some(false));
        assert_eq!(queue.pop().now_or_never(), Some(Some((peer(1), 2))));
        assert_eq!(queue.pop().now_or_never(), Some(None));
    }
}
