//! View: the page's HTML. Everything that comes from users goes through the templates' escaping.

use maud::{DOCTYPE, Markup, html};

use super::Row;
use super::words::{Health, State};
use crate::api::views::{FileStatus, FileView};

fn frame(title: &str, user: Option<&str>, main: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · trullo" }
                link rel="stylesheet" href="/assets/page.css";
                script src="/assets/page.js" defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    a.brand href="/" { "trullo" }
                    @if let Some(user) = user {
                        form method="post" action="/logout" {
                            span.who { (user) }
                            button.quiet type="submit" { "Log out" }
                        }
                    }
                }
                main id="main" tabindex="-1" { (main) }
            }
        }
    }
}

/// The login, with why the last try failed.
pub(super) fn login(failed: Option<&str>) -> Markup {
    let main = html! {
        h1 { "Log in" }
        @if let Some(why) = failed { p.alert role="alert" { (sentence(why)) } }
        form.card method="post" action="/login" {
            label for="name" { "Name" }
            input id="name" name="name" autocomplete="username" autocapitalize="none" spellcheck="false" required maxlength="64" autofocus;
            label for="password" { "Password" }
            input id="password" name="password" type="password" autocomplete="current-password" required maxlength="1024";
            button type="submit" { "Log in" }
        }
    };
    frame("Log in", None, main)
}

/// What went wrong.
pub(super) fn failure(detail: &str) -> Markup {
    let main = html! {
        h1 { "That did not work" }
        p.alert role="alert" { (sentence(detail)) }
        p { a href="/" { "Back to your files" } }
    };
    frame("Error", None, main)
}

/// The files of a user, a page of them.
pub(super) fn list(user: &str, rows: &[Row], next: Option<&str>, later: bool) -> Markup {
    let main = html! {
        h1 { "Your files" }
        form #upload .card method="post" action="/upload" enctype="multipart/form-data" {
            label for="file" { "Store a file: drop it here, or choose one" }
            input id="file" name="file" type="file" required;
            button type="submit" { "Store" }
        }
        ul #uploads aria-live="polite" aria-label="Uploads" {}
        @if rows.is_empty() {
            p.empty { @if later { "There are no further files." } @else { "Nothing is stored yet." } }
        } @else {
            ul.files { @for row in rows { (entry(row)) } }
        }
        @if later || next.is_some() {
            nav aria-label="Pages" {
                @if later { a href="/" { "First page" } }
                @if let Some(next) = next { a href={ "/?after=" (next) } rel="next" { "Next page" } }
            }
        }
    };
    frame("Your files", Some(user), main)
}

fn entry(row: &Row) -> Markup {
    let (file, label) = (&row.file, label(&row.file));
    html! {
        li data-file=(file.id) data-status=(file.status) {
            h2 { a href={ "/files/" (file.id) } { (label) } }
            p.meta { (badge(&row.health)) " " (size(file)) }
            p { (row.health.text) }
            (actions(file, &label))
        }
    }
}

fn actions(file: &FileView, label: &str) -> Markup {
    html! {
        @if file.status != FileStatus::Ended {
            p.actions {
                a.button href={ "/v1/files/" (file.id) } download aria-label={ "Download " (label) } { "Download" }
                " "
                a.button.danger href={ "/files/" (file.id) "/delete" } aria-label={ "Delete " (label) } { "Delete" }
            }
        }
    }
}

/// One file.
pub(super) fn file(user: &str, row: &Row) -> Markup {
    let (file, label) = (&row.file, label(&row.file));
    let held = file.slots.iter().filter(|slot| slot.confirmed).count();
    let main = html! {
        p { a href="/" { "Your files" } }
        h1 { (label) }
        p data-file=(file.id) data-status=(file.status) { (badge(&row.health)) " " (row.health.text) }
        (actions(file, &label))
        dl {
            dt { "Id" } dd.id { (file.id) }
            dt { "Size" } dd { (size(file)) }
            dt { "Parts" } dd { (held) " of " (file.slots.len()) " held; any " (file.data) " restore it" }
            dt { "Kept for" } dd { (file.terms.epochs_left) " more epochs, to block " (file.terms.ends) @if file.terms.ends_soon { " — ends soon" } }
        }
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
    frame(&label, Some(user), main)
}

/// The question before a deletion.
pub(super) fn delete(user: &str, row: &Row) -> Markup {
    let (file, label) = (&row.file, label(&row.file));
    let main = html! {
        h1 { "Delete " (label) "?" }
        p { "The storage nodes free its space. There is no way to undo it." }
        form method="post" action={ "/files/" (file.id) "/delete" } {
            p.actions {
                button.danger type="submit" { "Delete it" }
                " "
                a.button href="/" { "Keep it" }
            }
        }
    };
    frame("Delete", Some(user), main)
}

fn label(file: &FileView) -> String {
    file.name.clone().unwrap_or_else(|| file.id.chars().take(16).collect())
}

fn size(file: &FileView) -> String {
    let bytes = file.bytes.unwrap_or(file.cipher_bytes);
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

fn badge(health: &Health) -> Markup {
    let (class, word) = match health.state {
        State::Well => ("well", "final"),
        State::Weak => ("weak", "final, weakened"),
        State::Waiting => ("waiting", "pending"),
        State::Unreadable => ("bad", "unreadable now"),
        State::Gone => ("gone", "gone"),
    };
    html! { span class={ "badge " (class) } { (word) } }
}

/// Errors are texts without a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_write_is_text_and_never_markup() {
        let page = failure("<script>alert(1)</script>").into_string();
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
        let page = login(Some("\"><img src=x>")).into_string();
        assert!(!page.contains("<img"), "{page}");
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere_and_nothing_stands_in_attributes_that_runs() {
        let page = list("anna", &[], Some("ab"), true).into_string();
        for banned in ["http:", "https:", "onclick", "style=", "javascript:"] {
            assert!(!page.contains(banned), "{banned}: {page}");
        }
        for text in [include_str!("page.js"), include_str!("page.css")] {
            assert!(!text.contains("http") && !text.contains("@import") && !text.contains("innerHTML"));
        }
    }
}
