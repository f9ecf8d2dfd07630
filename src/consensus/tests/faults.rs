//! Random faults on the lock-step network: a quick check of the core alone. The campaign is `sim`'s.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::harness::Net;

/// Loss, reordering, partitions, crashes; then all links heal and one replica dies. How long the others take, in
/// milliseconds, to three more blocks.
fn recovery(seed: u64) -> u64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let n = if seed % 3 == 2 { 7 } else { 4 };
    let mut net = Net::new(n, rng.random_range(3..8));
    net.hop = 50;
    net.loss = rng.random_range(0..40);
    net.jitter = rng.random_range(0..300);
    net.rng = ChaCha8Rng::seed_from_u64(!seed);
    (0..n).for_each(|at| net.start(at));
    net.set_waiting(rng.random_bool(0.7));
    for _ in 0..12 {
        disturb(&mut net, &mut rng);
        net.run(rng.random_range(50..3_000));
    }
    let dead = rng.random_range(0..n);
    net.cut.clear();
    (net.loss, net.jitter) = (0, 20);
    net.crash(dead);
    (0..n).filter(|at| *at != dead).for_each(|at| revive(&mut net, at));
    let goal = (0..n).map(|at| net.height(at)).max().unwrap_or(0) + 3;
    let healed = net.now;
    while (0..n).any(|at| at != dead && net.height(at) < goal) {
        net.run(100);
        assert!(net.now < healed + 60_000, "seed {seed} stalls below height {goal} with {dead} dead");
    }
    net.check_agreement();
    assert!(net.nodes.iter().all(|node| node.evidence.is_empty()), "seed {seed}: an honest replica contradicts itself");
    net.now - healed
}

fn disturb(net: &mut Net, rng: &mut ChaCha8Rng) {
    let n = net.nodes.len();
    match rng.random_range(0..8) {
        0 | 1 => {
            let side: Vec<_> = (0..n).map(|_| rng.random_bool(0.5)).collect();
            let pairs = (0..n).flat_map(|a| (0..n).map(move |b| (a, b)));
            net.cut = pairs.filter(|(a, b)| side[*a] != side[*b]).collect();
        }
        2 => net.cut.clear(),
        3 | 4 => net.crash(rng.random_range(0..n)),
        5 => (0..n).for_each(|at| net.crash(at)),
        _ => (0..n).filter(|_| rng.random_bool(0.7)).for_each(|at| revive(net, at)),
    }
}

fn revive(net: &mut Net, at: usize) {
    if net.nodes[at].replica.is_none() {
        net.start(at);
    }
}

#[test]
fn replicas_agree_through_random_faults_and_recover_with_one_dead() {
    for seed in 0..12 {
        recovery(seed);
    }
}
