//! Folders, and the page of a file in one.

use std::time::{Duration, UNIX_EPOCH};

use maud::{Markup, html};

use super::{Place, badge, frame, pages, shares, size, upload};
use crate::api::page::address;
use crate::api::page::folders::{Line, Listing, last, parent};
use crate::api::sharing::ShareView;
use crate::api::tree_views::{ContentView, EntryKind, EntryView};

/// A folder.
pub(in crate::api::page) fn list(user: &str, listing: &Listing) -> Markup {
    let (path, root) = (listing.path.as_str(), listing.path == "/");
    let title = if root { "Your folders" } else { last(path) };
    let target = address("/folders/upload", path);
    let replace = html! {
        " "
        button.quiet type="submit" formaction={ (target) "&replace=true" } { "Store and replace" }
    };
    let note = html! { p.meta { "A file that is replaced keeps what it held as an older version." } };
    let main = html! {
        @if !root { (crumbs(path)) }
        h1 { (title) }
        (upload("Store files in this folder: drop them here, or choose them", &target, true, replace, note))
        details {
            summary { "New folder" }
            form.card.line method="post" action="/folders/new" {
                input type="hidden" name="path" value=(path);
                label for="name" { "Name" }
                input id="name" name="name" required maxlength="255" autocomplete="off";
                button.quiet type="submit" { "Make folder" }
            }
        }
        @if listing.lines.is_empty() {
            p.empty { @if listing.first.is_some() { "There is nothing further." } @else { "This folder is empty." } }
        } @else {
            ul.files.rows { @for line in &listing.lines { (entry(line)) } }
        }
        (pages(listing.first.as_deref(), listing.next.as_deref()))
        @if !root {
            details {
                summary { "Move, rename or remove this folder" }
                (rename(path))
                (removal(path, "Remove this folder"))
            }
        }
    };
    frame(title, Some((user, Place::Folders)), main)
}

/// The way from all folders to a path, which is not that of all folders.
fn crumbs(path: &str) -> Markup {
    let above = path.match_indices('/').skip(1).map(|(at, _)| &path[..at]);
    html! {
        nav.crumbs aria-label="Path" {
            ol {
                li { a href="/folders" { "Folders" } }
                @for folder in above { li { a href=(address("/folders", folder)) { (last(folder)) } } }
                li { span aria-current="page" { (last(path)) } }
            }
        }
    }
}

fn entry(line: &Line) -> Markup {
    let (entry, name) = (&line.entry, last(&line.entry.path));
    html! {
        li data-path=(entry.path) {
            @match (entry.kind, &entry.content) {
                (EntryKind::Folder, _) => {
                    div {
                        h2 { a href=(address("/folders", &entry.path)) { (name) "/" } }
                        p.meta { "folder" @if let Some(time) = changed(entry) { ", " (time) } }
                    }
                }
                (EntryKind::File, Some(content)) => {
                    div {
                        h2 { a href=(address("/folders/file", &entry.path)) { (name) } }
                        p.meta {
                            @if let Some(health) = &line.health { (badge(health)) " " }
                            (size(content.bytes))
                            @if let Some(time) = changed(entry) { ", " (time) }
                            @if !entry.versions.is_empty() { ", older versions: " (entry.versions.len()) }
                        }
                    }
                    p.actions { (download(&entry.path, None, name)) }
                }
                (_, _) => {
                    div {
                        h2 { a href=(address("/folders/file", &entry.path)) { (name) } }
                        p.meta { "link to " (entry.target.as_deref().unwrap_or_default()) }
                    }
                }
            }
        }
    }
}

fn download(path: &str, version: Option<u64>, label: &str) -> Markup {
    let version = version.map(|version| format!("&version={version}")).unwrap_or_default();
    let address = format!("{}{version}", address("/folders/download", path));
    html! { a.button href=(address) download aria-label={ "Download " (label) } { "Download" } }
}

/// When its owner changed it.
fn changed(entry: &EntryView) -> Option<Markup> {
    let nanos = u64::try_from(entry.mtime_ns?).ok()?;
    Some(time(Duration::from_nanos(nanos)))
}

/// A time since 1970, to the minute.
fn time(since: Duration) -> Markup {
    let full = humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string();
    let minute: String = full.chars().take("2026-01-02T03:04".len()).collect();
    html! { time datetime=(full) { (minute.replace('T', " ")) " UTC" } }
}

fn rename(path: &str) -> Markup {
    html! {
        form.card.line method="post" action="/folders/move" {
            input type="hidden" name="path" value=(path);
            label for="to" { "Move or rename: new path" }
            input id="to" name="to" value=(path) required maxlength="4096" autocomplete="off" autocapitalize="none" spellcheck="false";
            button.quiet type="submit" { "Move" }
        }
    }
}

fn removal(path: &str, text: &str) -> Markup {
    html! { p.actions { a.button.danger href=(address("/folders/remove", path)) { (text) } } }
}

/// A file or link at a path, and with whom it is shared if the reader may say that.
pub(in crate::api::page) fn file(user: &str, line: &Line, shared: Option<&[ShareView]>) -> Markup {
    let (entry, path, name) = (&line.entry, line.entry.path.as_str(), last(&line.entry.path));
    let main = html! {
        (crumbs(path))
        h1 { (name) }
        @if let Some(health) = &line.health { p data-path=(path) { (badge(health)) " " (health.text) } }
        @if let Some(content) = &entry.content {
            p.actions { (download(path, None, name)) }
            dl {
                dt { "Path" } dd.id { (path) }
                dt { "Size" } dd { (size(content.bytes)) }
                @if let Some(time) = changed(entry) { dt { "Changed" } dd { (time) } }
                dt { "Version" } dd { (content.version) }
                @for piece in &content.pieces {
                    dt { "Stored as" } dd.id { a href={ "/files/" (piece.file_id) } { (piece.file_id) } }
                }
            }
            (versions(path, &entry.versions))
            @if let (Some(shared), [only]) = (shared, content.pieces.as_slice()) {
                (shares::section(&only.file_id, shared, Some(path)))
            }
        } @else {
            p { "A link to " (entry.target.as_deref().unwrap_or_default()) "." }
        }
        h2 { "Move, rename, remove" }
        (rename(path))
        (removal(path, "Remove this file"))
    };
    frame(name, Some((user, Place::Folders)), main)
}

fn versions(path: &str, versions: &[ContentView]) -> Markup {
    html! {
        h2 { "Older versions" }
        @if versions.is_empty() {
            p { "There is none." }
        } @else {
            ul.files.rows.versions {
                @for version in versions {
                    @let label = format!("version {}", version.version);
                    li {
                        div {
                            h3 { "Version " (version.version) }
                            p.meta { (size(version.bytes)) ", stored " (time(Duration::from_millis(version.put_ms))) }
                        }
                        form.actions method="post" action="/folders/restore" {
                            input type="hidden" name="path" value=(path);
                            input type="hidden" name="version" value=(version.version);
                            (download(path, Some(version.version), &label))
                            " "
                            button.quiet type="submit" aria-label={ "Restore " (label) } { "Restore" }
                        }
                    }
                }
            }
        }
    }
}

/// The question before a path is taken away.
pub(in crate::api::page) fn remove(user: &str, entry: &EntryView) -> Markup {
    let (path, name) = (entry.path.as_str(), last(&entry.path));
    let (what, stay) = match entry.kind {
        EntryKind::Folder => ("With everything that is in it, older versions too.", address("/folders", path)),
        _ => ("With its older versions.", address("/folders/file", path)),
    };
    let main = html! {
        (crumbs(path))
        h1 { "Remove " (name) "?" }
        p { (what) " The storage nodes free the space. There is no way to undo it." }
        form method="post" action="/folders/remove" {
            input type="hidden" name="path" value=(path);
            p.actions {
                button.danger type="submit" { "Remove it" }
                " "
                a.button href=(stay) { "Keep it" }
            }
        }
        p { a href=(address("/folders", parent(path))) { "Back to the folder" } }
    };
    frame("Remove", Some((user, Place::Folders)), main)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_a_path_has_every_folder_above_it() {
        let page = crumbs("/a b/c/d").into_string();
        let links = ["href=\"/folders\"", "href=\"/folders?path=/a%20b\"", "href=\"/folders?path=/a%20b/c\""];
        assert!(links.iter().all(|link| page.contains(link)), "{page}");
        assert_eq!(page.matches("href").count(), 3, "{page}");
        assert!(page.contains("<span aria-current=\"page\">d</span>"), "{page}");
    }

    #[test]
    fn times_are_written_to_the_minute() {
        let text = time(Duration::from_secs(1_000_000_000)).into_string();
        assert_eq!(text, "<time datetime=\"2001-09-09T01:46:40Z\">2001-09-09 01:46 UTC</time>");
    }
}
