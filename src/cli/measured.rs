//! What was measured, in words: `trullo storage metrics`, and what health commands say of the time ahead.

use super::output::{age, facts, size};
use crate::api::measured::{ConsensusMetricsView, LossView, MeasuredView, ODDS_LEAST};

/// A year of 365.25 days, seconds.
const YEAR_S: f64 = 31_557_600.0;

/// Seconds for reading.
pub fn seconds(seconds: f64) -> String {
    age((seconds * 1e3) as u64)
}

/// The odds that a file is lost within a year.
pub fn loss(loss: Option<LossView>) -> String {
    let Some(LossView { probability, is_bound }) = loss else { return "not known yet".to_owned() };
    if probability < ODDS_LEAST {
        return format!("below {ODDS_LEAST:e}");
    }
    let odds = if probability < 0.001 { format!("{probability:.1e}") } else { format!("{:.2} %", probability * 100.0) };
    match is_bound {
        true if probability > 0.5 => "not known yet: too little was seen".to_owned(),
        true => format!("below {odds}"),
        false => format!("about {odds}"),
    }
}

/// The time until all slots are there again.
pub fn full_in(full: Option<f64>) -> String {
    match full {
        Some(0.0) => "now".to_owned(),
        Some(time) => format!("in about {}", seconds(time)),
        None => "not known".to_owned(),
    }
}

/// Losses and repair.
pub fn rows(measured: &MeasuredView) -> Vec<(&'static str, String)> {
    let MeasuredView { nodes_lost, nodes_returned, node_years, .. } = measured;
    let rate = match measured.node_losses_per_year {
        None => "nothing was watched yet".to_owned(),
        Some(rate) => {
            let rate = if rate < 1_000.0 { format!("{rate:.2}") } else { format!("{rate:.1e}") };
            format!("{}{rate} a node and year", if measured.node_loss_is_bound { "below " } else { "" })
        }
    };
    let seen = seconds((node_years * YEAR_S).floor());
    let mean = measured.repair_s.map_or_else(String::new, |time| format!(", {} on average", seconds(time)));
    let oldest = measured.oldest_s.map_or_else(String::new, |time| format!(", the oldest for {}", seconds(time)));
    let queue = match measured.queue_slots {
        0 => "nothing waits".to_owned(),
        slots => format!(
            "{slots} slots, {}{oldest}; full redundancy {}",
            size(measured.queue_bytes),
            full_in(measured.full_in_s)
        ),
    };
    let (lost, rotted, restored) = (measured.slots_lost, measured.slots_rotted, measured.slots_restored);
    vec![
        ("node loss", format!("{rate}; {nodes_lost} lost, {nodes_returned} back, in {seen} of all nodes together")),
        ("slots", format!("{lost} lost ({rotted} by rot), {restored} restored{mean}")),
        ("detection", format!("a dead node is given up within {}", seconds(measured.detection_s))),
        ("repair queue", queue),
    ]
}

/// All metrics.
pub fn overview(metrics: &ConsensusMetricsView) -> String {
    let percent = |share: Option<f64>| share.map_or("none yet".to_owned(), |share| format!("{:.2} %", share * 100.0));
    let ConsensusMetricsView { uploads, deals, time_to_quorum: times, nodes, proofs, .. } = metrics;
    let here = match (times.average_ms, times.p99_ms) {
        (Some(average), Some(p99)) => format!(
            "{average:.0} ms on average, 99 % within {p99:.0} ms, of {} files put here since the node started",
            times.count
        ),
        _ => "no file was put here since the node started".to_owned(),
    };
    let chain = match (times.average_blocks, times.p99_blocks) {
        (Some(average), Some(p99)) => format!("{average:.2} blocks after opening on average, 99 % within {p99}"),
        _ => "no deal yet".to_owned(),
    };
    let mut rows = vec![
        ("height", metrics.height.to_string()),
        (
            "uploads",
            format!(
                "{} stored: {} at once, {} of {} pending later; {} failed, {} refused",
                percent(uploads.success_rate),
                uploads.fulfilled,
                uploads.completed,
                uploads.pending,
                uploads.failed,
                uploads.refused
            ),
        ),
        (
            "deals",
            format!(
                "{} reached quorum: {} of {}; {} expired, {} withdrawn, {} pending",
                percent(deals.quorum_share),
                deals.reached_quorum,
                deals.opened,
                deals.expired,
                deals.withdrawn,
                deals.pending
            ),
        ),
        ("time to quorum", here),
        ("on the chain", chain),
        (
            "nodes",
            format!("{} of {} active; {} of audits answered", nodes.active, nodes.storage, percent(nodes.availability)),
        ),
        (
            "proofs",
            format!(
                "{} due; {} samples asked, {} answered, {} missed",
                proofs.due, proofs.samples_asked, proofs.samples_answered, proofs.samples_missed
            ),
        ),
    ];
    rows.extend(self::rows(&metrics.repair));
    facts(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odds_are_said_as_what_they_are() {
        let said = |probability, is_bound| loss(Some(LossView { probability, is_bound }));
        assert_eq!(said(2.345e-6, false), "about 2.3e-6");
        assert_eq!(said(0.0123, true), "below 1.23 %");
        assert_eq!(said(1e-14, false), "below 1e-9", "nothing measured says less");
        assert_eq!(said(0.999, true), "not known yet: too little was seen");
        assert_eq!(said(0.999, false), "about 99.90 %");
        assert_eq!(loss(None), "not known yet");
    }

    #[test]
    fn the_time_ahead_is_said_in_words() {
        assert_eq!(full_in(Some(0.0)), "now");
        assert_eq!(full_in(Some(75.2)), "in about 1m 15s");
        assert_eq!(full_in(None), "not known");
    }
}
