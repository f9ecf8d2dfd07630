//! Until when a file is kept and what it costs, in words.

use super::context::Context;
use crate::api::terms::TermsView;

/// Facts of a file's deal.
pub fn rows(terms: &TermsView) -> [(&'static str, String); 3] {
    let left = match terms.epochs_left {
        0 => format!("height {}", terms.ends),
        left => format!("height {}, in {left} epochs{}", terms.ends, if terms.ends_soon { ": soon" } else { "" }),
    };
    [
        ("ends", left),
        ("price", format!("{} credits for a GiB and epoch", terms.price)),
        ("paid", format!("{} credits paid out, {} in escrow", terms.paid, terms.escrow)),
    ]
}

/// The same in one sentence, after a put.
pub fn sentence(terms: &TermsView) -> String {
    let TermsView { price, escrow, epochs_left, ends, .. } = terms;
    format!("kept for {epochs_left} epochs, up to height {ends}; {escrow} credits in escrow at {price} a GiB and epoch")
}

/// What is left of its time, in a table.
pub fn left(terms: &TermsView) -> String {
    match (terms.epochs_left, terms.ends_soon) {
        (0, _) => String::new(),
        (left, true) => format!("{left}, ends soon"),
        (left, false) => left.to_string(),
    }
}

/// Says which files end soon.
pub fn warn<'a>(context: &Context, files: impl IntoIterator<Item = (&'a str, &'a TermsView)>) {
    for (name, terms) in files.into_iter().filter(|(_, terms)| terms.ends_soon) {
        let epochs = if terms.epochs_left == 1 { "epoch" } else { "epochs" };
        let text = format!("{name} ends in {} {epochs}; keep it: trullo renew {name} --epochs N", terms.epochs_left);
        // In JSON the file says so itself, and the answer is one value.
        if !context.out.is_json() {
            context.out.warn(text);
        }
    }
}
