//! Missing blocks: asked for from the signers of the certificate that names them, one request at a time per block
//! (protocol rule 7).

use std::collections::BTreeMap;

use crate::types::{BlockHash, Height, Millis, NodeId, limits};
use crate::wire::{Certificate, ValidatorSet};

struct Want {
    height: Height,
    peers: Vec<NodeId>,
    next: usize,
    /// When the next peer is asked, if the block has not come.
    again: Millis,
}

/// The blocks that are wanted.
#[derive(Default)]
pub struct Fetches {
    wants: BTreeMap<BlockHash, Want>,
}

impl Fetches {
    /// Wants the certificate's block, and asks for it from `when` on, if it has not come by then.
    pub fn want(&mut self, certificate: &Certificate, set: &ValidatorSet, me: &NodeId, when: Millis) {
        if self.wants.contains_key(&certificate.block) || self.wants.len() >= limits::FETCHES_MAX {
            return;
        }
        let signers = certificate.signatures.iter().filter_map(|signed| set.get(signed.index));
        let mut peers: Vec<_> = signers.map(|member| member.node).filter(|node| node != me).collect();
        let signed = peers.len();
        let others = set.members().iter().map(|member| member.node).filter(|node| node != me);
        let others: Vec<_> = others.filter(|node| !peers.contains(node)).collect();
        // Not all begin with the same signer.
        peers.rotate_left(usize::from(me.as_bytes()[0]) % signed.max(1));
        peers.extend(others);
        self.wants.insert(certificate.block, Want { height: certificate.height, peers, next: 0, again: when });
    }

    /// Whether the block is wanted.
    pub fn is_wanted(&self, block: &BlockHash) -> bool {
        self.wants.contains_key(block)
    }

    /// The block came and holds, or is of no use any more.
    pub fn done(&mut self, block: &BlockHash) {
        self.wants.remove(block);
    }

    /// Forgets blocks up to the last final height.
    pub fn prune(&mut self, last_final: Height) {
        self.wants.retain(|_, want| want.height > last_final);
    }

    /// Whom to ask now for what: the next peer for each block whose answer is overdue. `has` tells blocks that came
    /// and wait for execution.
    pub fn overdue(
        &mut self,
        now: Millis,
        patience: Millis,
        has: impl Fn(&BlockHash) -> bool,
    ) -> Vec<(NodeId, BlockHash)> {
        let mut ask = Vec::new();
        for (block, want) in &mut self.wants {
            if want.again > now {
                continue;
            }
            want.again = now.saturating_add(patience);
            if has(block) {
                continue;
            }
            if let Some(peer) = want.peers.get(want.next % want.peers.len().max(1)) {
                ask.push((*peer, *block));
            }
            want.next = want.next.wrapping_add(1);
        }
        ask
    }

    /// When the next request is due.
    pub fn due(&self) -> Option<Millis> {
        self.wants.values().map(|want| want.again).min()
    }
}
