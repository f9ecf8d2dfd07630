//! Back: a storage node that the ledger does not know registers by itself, and so does one that it has given up. What that lost
//! meanwhile, and still has, `repair` then claims back.

use std::time::Duration;

use super::Keeper;
use crate::ledger::Key;
use crate::node::handle::NodeError;
use crate::node::validator::fresh;
use crate::types::Height;
use crate::wire::Action;
use crate::wire::tx::NodeAnnouncement;

/// How long to wait until the registration is final.
const WITHIN: Duration = Duration::from_secs(60);
/// What a node waits for that nobody has sent credits.
const WAITS: &str = "a member has to send it credits: trullo account transfer ACCOUNT 1";
/// Longest pause between two returns, in doublings of an epoch: a node that is given up again and again does not hold up
/// the others with slots that it will not keep.
const DOUBLINGS_MAX: u32 = 10;

/// Sees to it that this node takes part, until it stops.
pub async fn run(keeper: Keeper) {
    let mut tips = keeper.tips();
    let mut returns = Returns::default();
    let mut waits = false;
    let epoch_blocks = keeper.handle.genesis().epoch_blocks;
    while let Some(height) = tips.next().await {
        if keeper.is_behind() || !keeper.has_voice() || !returns.may(height) {
            continue;
        }
        match keeper.entry() {
            Ok(None) => match has_account(&keeper) {
                Ok(true) => {
                    returns.count(height, epoch_blocks);
                    match register(&keeper, fresh(&keeper.handle)).await {
                        Ok(()) => tracing::info!("the ledger knows this storage node now"),
                        Err(NodeError::Stopping) => return,
                        Err(error) => tracing::warn!(%error, "this storage node could not register"),
                    }
                }
                Ok(false) if waits => {}
                Ok(false) => {
                    waits = true;
                    let account = keeper.handle.identity().account.map(|account| account.to_string());
                    tracing::warn!(account, "the ledger knows neither this storage node nor its account: {}", WAITS);
                }
                Err(error) => tracing::warn!(%error, "this node's account could not be read"),
            },
            Ok(Some(entry)) if !entry.active => {
                returns.count(height, epoch_blocks);
                match register(&keeper, entry.announcement).await {
                    Ok(()) => tracing::warn!("the network had given this node up; it is registered again"),
                    Err(NodeError::Stopping) => return,
                    Err(error) => tracing::warn!(%error, "this node is given up and could not register again"),
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "this node's entry could not be read"),
        }
    }
}

/// Whether the ledger knows the node's account, so that it can sign.
fn has_account(keeper: &Keeper) -> Result<bool, NodeError> {
    let Some(account) = keeper.handle.identity().account else { return Ok(false) };
    Ok(keeper.handle.record(&Key::Account(account))?.is_some())
}

/// Registers the node. One that is registered already only shows that it is there.
async fn register(keeper: &Keeper, mut announcement: NodeAnnouncement) -> Result<(), NodeError> {
    let account = keeper.handle.keys()?.account_id();
    announcement.bind(&keeper.handle.identity().chain, &account, &keeper.handle.inner.key);
    keeper.handle.act(Action::RegisterNode(Box::new(announcement)), WITHIN).await?;
    Ok(())
}

/// How often the node came back, and from when on it may again.
#[derive(Debug, Default)]
struct Returns {
    times: u32,
    from: Height,
}

impl Returns {
    fn may(&self, at: Height) -> bool {
        at >= self.from
    }
    fn count(&mut self, at: Height, epoch_blocks: u64) {
        let pause = epoch_blocks.saturating_mul(1 << self.times.min(DOUBLINGS_MAX));
        self.times = self.times.saturating_add(1);
        self.from = Height::new(at.get().saturating_add(pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_return_is_at_once_and_each_later_one_takes_longer() {
        let mut returns = Returns::default();
        assert!(returns.may(Height::GENESIS));
        let mut pauses = Vec::new();
        for _ in 0..13 {
            let at = returns.from;
            returns.count(at, 20);
            assert!(!returns.may(at));
            pauses.push(returns.from.get() - at.get());
        }
        assert_eq!((pauses[0], pauses[1], pauses[2], pauses[12]), (20, 40, 80, 20 << DOUBLINGS_MAX));
    }
}
