//! The model against closed forms and against chance.

use proptest::prelude::*;

use super::*;

fn odds(data: u8, slots: u8, loss: f64, repair: f64) -> Odds {
    Odds { data, slots, repair_at: slots - 1, loss, repair }
}

fn close(have: f64, need: f64, within: f64) {
    assert!((have / need - 1.0).abs() <= within, "{have:e}, expected {need:e}");
}

/// Binomial: fewer than `data` of `slots` survive, each with odds `alive`.
fn without_repair(data: u8, slots: u8, alive: f64) -> f64 {
    let chosen = |from: u32, of: u32| (0..of).fold(1.0, |c, i| c * f64::from(from - i) / f64::from(i + 1));
    let n = u32::from(slots);
    let term = |i: u32| chosen(n, i) * alive.powi(i as i32) * (1.0 - alive).powi((n - i) as i32);
    (0..u32::from(data)).map(term).sum()
}

#[test]
fn one_copy_is_lost_as_its_node_is() {
    for years in [1e-6_f64, 0.01, 1.0, 3.0] {
        close(odds(1, 1, 1.0, 0.0).lost_within(years, 1), 1.0 - (-years).exp(), 2e-3);
    }
}

#[test]
fn without_repair_it_is_the_binomial() {
    for (data, slots, loss) in [(3, 5, 0.1_f64), (4, 6, 0.3), (2, 3, 0.01), (1, 4, 0.2)] {
        let alive = (-loss).exp();
        close(odds(data, slots, loss, 0.0).lost_within(1.0, slots), without_repair(data, slots, alive), 1e-2);
    }
}

#[test]
fn with_fast_repair_it_is_the_hazard_of_the_last_step() {
    // Two copies: the second is lost during the repair of the first with odds λ/(λ + μ), 2λ a year.
    let (loss, repair) = (0.3, 8_760.0);
    let hazard = 2.0 * loss * loss / (repair + 3.0 * loss);
    close(odds(1, 2, loss, repair).lost_within(1.0, 2), hazard, 1e-3);
    // k of n: n(n-1)..k · λ^(n-k+1) / ((n-k)! μ^(n-k)), to first order of λ/μ.
    let (loss, repair) = (1e-3, 1e3);
    let first_order = 5.0 * 4.0 * 3.0 * loss * loss * loss / (2.0 * repair * repair);
    // The year begins with all slots there, so the hazard is full only after some repairs.
    close(odds(3, 5, loss, repair).lost_within(1.0, 5), first_order, 5e-3);
}

#[test]
fn small_odds_keep_their_digits() {
    let (loss, repair) = (0.3_f64, 8_760.0_f64);
    let first_order = (11..=20).map(f64::from).product::<f64>() * loss.powi(10)
        / ((1..=9).map(f64::from).product::<f64>() * repair.powi(9));
    let have = odds(11, 20, loss, repair).lost_within(1.0, 20);
    assert!(first_order < 1e-30);
    close(have, first_order, 1e-2);
}

#[test]
fn a_loss_that_is_not_repaired_yet_counts() {
    // One copy left of two: it goes before the other comes back with odds λ/(λ + μ).
    let (loss, repair) = (0.3, 8_760.0);
    let at_risk = loss / (loss + repair);
    let healthy = 2.0 * loss * loss / repair;
    close(odds(1, 2, loss, repair).lost_within(1.0, 1), at_risk + healthy, 1e-3);
}

#[test]
fn waiting_with_repair_costs_odds() {
    let at_once = odds(3, 8, 0.5, 1_000.0);
    let late = Odds { repair_at: 4, ..at_once };
    let never = Odds { repair: 0.0, ..at_once };
    let lost = |odds: Odds| odds.lost_within(1.0, 8);
    assert!(lost(at_once) * 10.0 < lost(late) && lost(late) * 10.0 < lost(never));
}

#[test]
fn fewer_slots_than_needed_are_a_loss_and_odd_numbers_do_no_harm() {
    let file = odds(3, 5, 0.1, 10.0);
    assert_eq!((file.lost_within(1.0, 2), file.lost_within(0.0, 5)), (1.0, 0.0));
    assert_eq!(file.lost_within(1.0, 200), file.lost_within(1.0, 5));
    assert_eq!(odds(3, 5, 0.0, 0.0).lost_within(1.0, 5), 0.0);
    let certain = odds(100, 255, 1e9, 1.0).lost_within(1.0, 255);
    assert!((certain - 1.0).abs() < 1e-9, "{certain}");
    assert!(odds(1, 255, 1e-9, 1e12).lost_within(1.0, 255) >= 0.0);
}

#[test]
fn what_was_never_seen_has_a_bound_and_no_estimate() {
    assert_eq!(rate(4, 8.0), Some(Rate { value: 0.5, is_bound: false }));
    assert_eq!(rate(0, 300.0), Some(Rate { value: 0.01, is_bound: true }));
    assert_eq!(rate(0, 0.0), None);
    // Were the rate as high as the bound, nothing at all would be seen in 5 % of the cases.
    close((-rate(0, 300.0).expect("exposure").value * 300.0).exp(), 0.05, 5e-3);
}

/// Follows one file by chance; whether it is lost within a unit of time.
fn is_lost(file: &Odds, random: &mut impl FnMut() -> f64) -> bool {
    let (mut there, mut time) = (u32::from(file.slots), 0.0);
    while there >= u32::from(file.data) {
        let down = f64::from(there) * file.loss;
        let missing = u32::from(file.slots) - there;
        let up = if there <= u32::from(file.repair_at) { f64::from(missing) * file.repair } else { 0.0 };
        time -= random().ln() / (down + up);
        if time > 1.0 {
            return false;
        }
        there = if random() * (down + up) < down { there - 1 } else { there + 1 };
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn chance_gives_the_same_odds(
        data in 1_u8..4, parity in 1_u8..3, lazy: bool, loss in 0.3_f64..2.0, repair in 0.0_f64..8.0, seed: [u8; 32],
    ) {
        const TRIALS: u32 = 4_000;
        let slots = data + parity;
        let file = Odds { data, slots, repair_at: if lazy { data } else { slots - 1 }, loss, repair };
        let mut stream = blake3::Hasher::new_keyed(&seed).finalize_xof();
        let mut random = || {
            let mut bytes = [0; 8];
            stream.fill(&mut bytes);
            (u64::from_le_bytes(bytes) >> 11) as f64 / (1_u64 << 53) as f64 + f64::MIN_POSITIVE
        };
        let lost = (0..TRIALS).filter(|_| is_lost(&file, &mut random)).count();
        let (have, need) = (lost as f64 / f64::from(TRIALS), file.lost_within(1.0, slots));
        // Five standard deviations, and half a percent for the steps of the model.
        let deviation = (need * (1.0 - need) / f64::from(TRIALS)).sqrt();
        prop_assert!((have - need).abs() < 5.0 * deviation + 0.005, "{have} of {file:?}, expected {need}");
    }

    #[test]
    fn odds_are_odds_and_more_time_or_fewer_slots_make_them_no_better(
        data in 1_u8..40, parity in 0_u8..40, loss in 0.0_f64..1e6, repair in 0.0_f64..1e9, time in 0.0_f64..100.0, gone in 0_u8..40,
    ) {
        let file = odds(data, data + parity, loss, repair);
        let now = file.lost_within(time, file.slots);
        prop_assert!((0.0..=1.0).contains(&now));
        prop_assert!(file.lost_within(time * 2.0, file.slots) >= now * (1.0 - 1e-9));
        prop_assert!(file.lost_within(time, file.slots.saturating_sub(gone)) >= now * (1.0 - 1e-9));
    }
}
