//! Sharing: the part of a file's page, capabilities, and what others share.

use maud::{Markup, html};

use super::{Place, copied, frame, named, pages, size};
use crate::api::sharing::{CapView, ShareView, SharedPageView, SharedView, VerifyView};

/// How long a share may last, seconds.
const LASTS: [(u64, &str); 5] =
    [(3_600, "an hour"), (86_400, "a day"), (604_800, "a week"), (2_592_000, "30 days"), (31_536_000, "a year")];

/// With whom an own file is shared, and how it is. `path` is where the file is in folders.
pub(super) fn section(id: &str, shares: &[ShareView], path: Option<&str>) -> Markup {
    let path = html! { @if let Some(path) = path { input type="hidden" name="path" value=(path); } };
    html! {
        h2 #sharing { "Sharing" }
        @if !path.0.is_empty() {
            p { "Shared is what the file holds now. Who reads it sees neither its name nor its folder." }
        }
        @if shares.is_empty() { p { "It is shared with nobody." } } @else {
            ul.files.rows.shares {
                @for share in shares {
                    li {
                        div {
                            h3.id { (share.account) }
                            p.meta { (until(share)) }
                        }
                        form.actions method="post" action={ "/files/" (id) "/unshare" } {
                            (path)
                            input type="hidden" name="account" value=(share.account);
                            button.quiet.danger type="submit" aria-label={ "Stop sharing with " (share.account) } { "Stop sharing" }
                        }
                    }
                }
            }
            p.meta { "Who has read the file may have kept it, and its key." }
        }
        form.card method="post" action={ "/files/" (id) "/share" } {
            (path)
            label for="account" { "Share with the account" }
            input id="account" name="account" required pattern="\\s*[0-9a-f]{64}\\s*" title="64 hexadecimal digits" autocomplete="off" autocapitalize="none" spellcheck="false" aria-describedby="account-help";
            p.meta #account-help { "64 hexadecimal digits; others see theirs on this page under “Shared with you”." }
            label for="lasts" { "For how long" }
            select id="lasts" name="lasts" {
                option value="" { "as long as the file is kept" }
                @for (seconds, text) in LASTS { option value=(seconds) { "about " (text) } }
            }
            button type="submit" { "Share" }
        }
        h2 { "Capabilities" }
        p { "A capability is a right to this file as one text, for whoever has the text. It needs no account to be named." }
        form.card method="post" action={ "/files/" (id) "/capability" } {
            (path)
            p #read-help { strong { "To read:" } " whoever has it can read the file as long as it is kept. It is a secret, and it cannot be taken back." }
            button.quiet type="submit" name="kind" value="read" aria-describedby="read-help" { "Show the read capability" }
            p #verify-help { strong { "To verify:" } " whoever has it can check that the file is whole, and cannot read it. It is no secret." }
            button.quiet type="submit" name="kind" value="verify" aria-describedby="verify-help" { "Show the verify capability" }
        }
    }
}

fn until(share: &ShareView) -> String {
    match (share.over, share.until_in_s) {
        (true, _) => "over".to_owned(),
        (false, None) => "as long as the file is kept".to_owned(),
        (false, Some(seconds)) => format!("for about {}", about(seconds)),
    }
}

/// A time in its largest unit.
fn about(seconds: u64) -> String {
    let units = [(86_400, "days"), (3_600, "hours"), (60, "minutes")];
    // One and a half of a unit says too little in it.
    let found = units.into_iter().find(|(length, _)| seconds >= 2 * length);
    found.map_or_else(
        || format!("{seconds} seconds"),
        |(length, unit)| format!("{} {unit}", seconds.saturating_add(length / 2) / length),
    )
}

/// A capability, and what it is good for.
pub(in crate::api::page) fn capability(user: &str, made: &CapView, back: &str) -> Markup {
    let read = made.kind == "read";
    let title = if read { "Read capability" } else { "Verify capability" };
    let main = html! {
        h1 { (title) }
        @if read {
            p { "Whoever has this text can " strong { "read the file" } " as long as it is kept, on any node of this network: here under “Shared with you”, or with " code { "trullo get" } "." }
            p.alert { "It is a secret. It cannot be taken back; only deleting the file ends it." }
        } @else {
            p { "Whoever has this text can " strong { "check that the file is whole" } ", and cannot read it: here under “Shared with you”, or with " code { "trullo file verify" } ". It is no secret." }
        }
        (copied("capability", title, &made.capability))
        p { a href=(back) { "Back to the file" } }
    };
    frame(title, Some((user, if back.starts_with("/files/") { Place::Files } else { Place::Folders })), main)
}

/// What others share with a user, a page of it, and a place for capabilities.
pub(in crate::api::page) fn shared(user: &str, account: &str, page: &SharedPageView, later: bool) -> Markup {
    let next = page.next.as_ref().map(|next| format!("/shared?after={next}"));
    let main = html! {
        h1 { "Shared with you" }
        @if page.files.is_empty() {
            p.empty { @if later { "There is nothing further." } @else { "Nobody shares a file with you." } }
        } @else {
            ul.files.rows { @for file in &page.files { (received(file)) } }
        }
        (pages(later.then_some("/shared"), next.as_deref()))
        h2 { "Your account" }
        p { "Who wants to share a file with you needs this. It is no secret." }
        (copied("account", "Account", account))
        h2 { "Use a capability" }
        form.card method="post" action="/shared/use" {
            label for="capability" { "Capability" }
            textarea id="capability" name="capability" rows="4" required maxlength="400" autocomplete="off" autocapitalize="none" spellcheck="false" aria-describedby="use-help" {}
            p.meta #use-help { "One to read downloads the file. Any checks that all of its parts are there." }
            p.actions {
                button type="submit" name="do" value="download" { "Download" }
                " "
                button.quiet type="submit" name="do" value="check" { "Check" }
            }
        }
    };
    frame("Shared with you", Some((user, Place::Shared)), main)
}

fn received(file: &SharedView) -> Markup {
    let label = named(file.name.as_deref(), &file.file);
    let owner: String = file.owner.chars().take(16).collect();
    html! {
        li data-file=(file.file) {
            div {
                h2 { (label) }
                p.meta {
                    (file.status)
                    @if let Some(bytes) = file.bytes { ", " (size(bytes)) }
                    ", from account " span.id { (owner) } "…"
                    @if let Some(seconds) = file.until_in_s { ", for about " (about(seconds)) }
                }
            }
            form.actions method="post" action="/shared/decline" {
                input type="hidden" name="file" value=(file.file);
                a.button href={ "/v1/files/" (file.file) } download aria-label={ "Download " (label) } { "Download" }
                " "
                button.quiet type="submit" aria-label={ "Take " (label) " off this list" } { "Take off this list" }
            }
        }
    }
}

/// What a check of a file found.
pub(in crate::api::page) fn checked(user: &str, found: &VerifyView) -> Markup {
    let title = if found.whole { "The file is whole" } else { "The file is not whole" };
    let whole = found.slots.iter().filter(|slot| slot.state == "whole").count();
    let main = html! {
        p { a href="/shared" { "Shared with you" } }
        h1 { (title) }
        p { (whole) " of its " (found.slots.len()) " parts were read and are what they must be; any " (found.needed) " restore it." }
        @if found.consistent == Some(false) { p.alert { "Its parts do not belong together: it cannot be restored from them." } }
        ul.parts {
            @for slot in &found.slots {
                li {
                    (slot.node_name.as_deref().unwrap_or(&slot.node)) ": " (slot.state.replace('_', " "))
                    @if let Some(reason) = &slot.reason { " (" (reason) ")" }
                }
            }
        }
        dl { dt { "Id" } dd.id { (found.file) } }
    };
    frame(title, Some((user, Place::Shared)), main)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_largest_unit_that_says_enough() {
        let told = [5, 119, 120, 7_199, 7_200, 172_799, 604_799, 31_536_000].map(about);
        let wanted =
            ["5 seconds", "119 seconds", "2 minutes", "120 minutes", "2 hours", "48 hours", "7 days", "365 days"];
        assert_eq!(told, wanted);
    }
}
