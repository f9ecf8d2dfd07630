//! What a block has to be, and what is not the block's fault.

use bytes::Bytes;

use super::*;
use crate::node::testing::{app, blocks, genesis, store, validator};

const AN_HOUR_AHEAD: u64 = 3_600_000;

fn fixture() -> (tempfile::TempDir, LedgerApp, Arc<ProposedBlock>) {
    let (home, genesis) = (tempfile::tempdir().expect("a directory"), genesis());
    let ahead = Clock::start().now().saturating_add(Millis::new(AN_HOUR_AHEAD));
    let block = blocks(home.path(), &genesis, Clock::at(ahead), 1).remove(0);
    let app = app(&store(home.path(), [2; 32], &genesis), &genesis, &validator(), Clock::start());
    (home, app, block)
}

fn with_other_payload(block: &ProposedBlock) -> Arc<ProposedBlock> {
    let mut block = block.clone();
    block.block.payload = Bytes::from_static(&[1, 0, 0, 0]);
    Arc::new(block)
}

#[test]
fn a_block_executes_on_a_node_whose_clock_is_late() {
    let (_home, mut app, block) = fixture();
    assert!(matches!(app.check(&block), Ok(Outcome::Valid(_))));
}

#[test]
fn another_payload_under_the_same_header_is_not_the_blocks_fault() {
    let (_home, mut app, block) = fixture();
    let other = with_other_payload(&block);
    assert!(matches!(app.check(&other), Ok(Outcome::Tampered(_))));
    assert!(matches!(app.check(&block), Ok(Outcome::Valid(_))));
    assert!(matches!(app.check(&other), Ok(Outcome::Tampered(_))), "also when the block itself was executed");
}
