//! Single files, and the page of one.

use maud::{Markup, html};

use super::{Place, badge, frame, label, pages, shares, size, upload};
use crate::api::page::files::Row;
use crate::api::sharing::ShareView;
use crate::api::views::{FileStatus, FileView};

/// The single files of a user, a page of them.
pub(in crate::api::page) fn list(user: &str, rows: &[Row], next: Option<&str>, later: bool) -> Markup {
    let next = next.map(|next| format!("/files?after={next}"));
    let main = html! {
        h1 { "Single files" }
        p.meta { "Each is stored alone, under its id. What has a path is in " a href="/folders" { "your folders" } "." }
        (upload("Store a single file: drop it here, or choose one", "/upload", false, html! {}, html! {}))
        @if rows.is_empty() {
            p.empty { @if later { "There are no further files." } @else { "No single file is stored." } }
        } @else {
            ul.files { @for row in rows { (entry(row)) } }
        }
        (pages(later.then_some("/files"), next.as_deref()))
    };
    frame("Single files", Some((user, Place::Files)), main)
}

fn entry(row: &Row) -> Markup {
    let (file, label) = (&row.file, label(&row.file));
    html! {
        li data-file=(file.id) data-status=(file.status) {
            h2 { a href={ "/files/" (file.id) } { (label) } }
            p.meta { (badge(&row.health)) " " (bytes(file)) }
            p { (row.health.text) }
            (actions(file, &label, true))
        }
    }
}

fn bytes(file: &FileView) -> String {
    size(file.bytes.unwrap_or(file.cipher_bytes))
}

/// What folders hold is removed by its path.
fn actions(file: &FileView, label: &str, alone: bool) -> Markup {
    html! {
        @if file.status != FileStatus::Ended {
            p.actions {
                a.button href={ "/v1/files/" (file.id) } download aria-label={ "Download " (label) } { "Download" }
                @if alone {
                    " "
                    a.button.danger href={ "/files/" (file.id) "/delete" } aria-label={ "Delete " (label) } { "Delete" }
                }
            }
        }
    }
}

/// One file, and with whom it is shared if the reader may say that.
pub(in crate::api::page) fn file(user: &str, row: &Row, alone: bool, shared: Option<&[ShareView]>) -> Markup {
    let (file, label) = (&row.file, label(&row.file));
    let held = file.slots.iter().filter(|slot| slot.confirmed).count();
    let main = html! {
        p { a href="/files" { "Single files" } }
        h1 { (label) }
        @if !alone { p { "This is the content of a file in your folders." } }
        p data-file=(file.id) data-status=(file.status) { (badge(&row.health)) " " (row.health.text) }
        (actions(file, &label, alone))
        dl {
            dt { "Id" } dd.id { (file.id) }
            dt { "Size" } dd { (bytes(file)) }
            dt { "Parts" } dd { (held) " of " (file.slots.len()) " held; any " (file.data) " restore it" }
            dt { "Kept for" } dd { (file.terms.epochs_left) " more epochs, to block " (file.terms.ends) @if file.terms.ends_soon { " — ends soon" } }
        }
        @if let Some(shared) = shared { (shares::section(&file.id, shared, None)) }
        h2 { "Where its parts are" }
        ul.parts {
            @for slot in &file.slots {
                li {
                    (slot.node_name.as_deref().unwrap_or(&slot.node)) ": "
                    @if slot.lost { "lost" } @else if slot.confirmed { "held" } @else { "not confirmed" }
                }
            }
        }
    };
    frame(&label, Some((user, Place::Files)), main)
}

/// The question before a deletion.
pub(in crate::api::page) fn delete(user: &str, row: &Row) -> Markup {
    let (file, label) = (&row.file, label(&row.file));
    let main = html! {
        h1 { "Delete " (label) "?" }
        p { "The storage nodes free its space, and nobody that it is shared with can read it any more. There is no way to undo it." }
        form method="post" action={ "/files/" (file.id) "/delete" } {
            p.actions {
                button.danger type="submit" { "Delete it" }
                " "
                a.button href="/files" { "Keep it" }
            }
        }
    };
    frame("Delete", Some((user, Place::Files)), main)
}
