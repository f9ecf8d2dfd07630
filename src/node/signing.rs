//! The signing state of a home whose node does not run: looked at, raised, released. The caller holds the home's lock.

use super::chain;
use super::home::Home;
use crate::consensus::Watermarks;
use crate::crypto::SecretKey;
use crate::store::{Options, Quarantine, Store, StoreError};
use crate::types::{ChainId, NodeId};

/// What a home says of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signing {
    /// The chain.
    pub chain: ChainId,
    /// The node whose key it is.
    pub node: NodeId,
    /// The highest views in which it is known to have signed.
    pub signed: Watermarks,
    /// Why it must not sign now, if so.
    pub quarantine: Option<Quarantine>,
}

fn open(home: &Home) -> Result<(Store, Signing), StoreError> {
    let store = Store::open(&home.database(), &Options::default())?;
    let signer = store.signer()?;
    let record = chain::read_safety_record(&store)?;
    let signed = record.as_ref().map(Watermarks::of).unwrap_or_default().raised(signer.seen());
    let node = SecretKey::from_seed(&signer.seed()).public().node_id();
    let signing = Signing { chain: store.chain(), node, signed, quarantine: signer.quarantine() };
    Ok((store, signing))
}

/// Looks at it. Errors: those of the store.
pub fn look(home: &Home) -> Result<Signing, StoreError> {
    Ok(open(home)?.1)
}

/// Raises the watermarks; lower ones change nothing. Returns what holds from then on. Errors: those of the store.
pub fn raise(home: &Home, signed: &Watermarks) -> Result<Signing, StoreError> {
    let (store, before) = open(home)?;
    let raised = before.signed.raised(signed);
    if raised == before.signed {
        return Ok(before);
    }
    let mut batch = store.batch()?;
    // Only what the record does not say itself: above its own last vote a validator has to go on where it was.
    batch.raise_watermarks(&signed.beyond(&before.signed))?;
    batch.commit()?;
    Ok(Signing { signed: raised, ..before })
}

/// Ends a quarantine by the operator's word; watermarks stay. Returns what it was, if there was one. Errors: those of the store.
pub fn release(home: &Home) -> Result<Option<Quarantine>, StoreError> {
    let (store, before) = open(home)?;
    if before.quarantine.is_some() {
        let mut batch = store.batch()?;
        batch.lift_quarantine()?;
        batch.commit()?;
    }
    Ok(before.quarantine)
}
