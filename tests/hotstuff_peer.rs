//! Why trullo has its own consensus core, as a test: `hotstuff_rs` 0.4.0 with four replicas, one of them dead.
//!
//! Its commit rule needs certificates of three consecutive views, and votes go to the next leader only, so four leaders in a
//! row must be alive. Taking turns among four with one dead, they never are.

#[path = "../benches/support/hotstuff.rs"]
mod hotstuff;
#[path = "../benches/support/work.rs"]
#[allow(dead_code, reason = "the benchmark measures more than this test asks for")]
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hotstuff::HotStuff;
use work::{Cluster, REPLICAS, VICTIM, Workload};

/// Short, so that deadlines, which add up within an epoch, do not explain a silence.
const EPOCH_VIEWS: u32 = 4;
const VIEWS_AFTER_DEATH: u64 = 12;
const PATIENCE: Duration = Duration::from_secs(12);

#[test]
fn with_one_of_four_dead_the_peer_passes_view_after_view_and_commits_nothing() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for databases");
    let workload = Arc::new(Workload::new(10));
    let mut cluster = HotStuff::start(dir.path(), &workload, EPOCH_VIEWS);
    let alive: Vec<_> = (0..REPLICAS).filter(|replica| *replica != VICTIM).collect();
    let committed = |cluster: &HotStuff| alive.iter().map(|replica| cluster.height(*replica)).max().flatten();
    let view = |cluster: &HotStuff| alive.iter().map(|replica| cluster.view(*replica)).min().unwrap_or_default();

    assert!(reached(|| committed(&cluster) >= Some(8)), "four live replicas commit");
    cluster.kill();
    // What was certified before the death may still be committed; an epoch later nothing of it is under way.
    let settled = view(&cluster) + u64::from(EPOCH_VIEWS);
    assert!(reached(|| view(&cluster) >= settled), "views go on");
    let height = committed(&cluster);
    assert!(reached(|| view(&cluster) >= settled + VIEWS_AFTER_DEATH), "views go on and on");
    assert_eq!(committed(&cluster), height, "nothing was committed in {VIEWS_AFTER_DEATH} views");
    cluster.abandon();
}

fn reached(condition: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if condition() {
            return true;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    false
}
