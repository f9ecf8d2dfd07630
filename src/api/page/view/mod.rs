//! View: the page's HTML. Everything that comes from users goes through the templates' escaping.

use maud::{DOCTYPE, Markup, html};

use super::words::{Health, State};
use crate::api::views::FileView;

pub(super) mod files;
pub(super) mod folders;
pub(super) mod shares;

/// The parts of the page that lead everywhere else.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Folders,
    Files,
    Shared,
}

impl Place {
    const ALL: [(Self, &str, &str); 3] = [
        (Self::Folders, "/folders", "Folders"),
        (Self::Files, "/files", "Single files"),
        (Self::Shared, "/shared", "Shared with you"),
    ];
}

fn frame(title: &str, user: Option<(&str, Place)>, main: Markup) -> Markup {
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
                    @if let Some((user, here)) = user {
                        nav.places aria-label="Main" {
                            @for (place, address, word) in Place::ALL {
                                a href=(address) aria-current=[(place == here).then_some("page")] { (word) }
                            }
                        }
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
        p { a href="/" { "Back to your folders" } }
    };
    frame("Error", None, main)
}

/// A form that stores files, with another button and a note if need be. Without the script it sends them as any form does.
fn upload(label: &str, address: &str, several: bool, also: Markup, note: Markup) -> Markup {
    html! {
        form #upload .card method="post" action=(address) enctype="multipart/form-data" {
            label for="file" { (label) }
            input id="file" name="file" type="file" required multiple[several];
            p.actions {
                button type="submit" { "Store" }
                (also)
            }
            (note)
        }
        ul #uploads aria-live="polite" aria-label="Uploads" {}
    }
}

/// The ways to the first and the next page of a list.
fn pages(first: Option<&str>, next: Option<&str>) -> Markup {
    html! {
        @if first.is_some() || next.is_some() {
            nav aria-label="Pages" {
                @if let Some(first) = first { a href=(first) { "First page" } }
                @if let Some(next) = next { a href=(next) rel="next" { "Next page" } }
            }
        }
    }
}

/// Characters of a text in one row of its field, on a narrow screen.
const ROW_CHARS: usize = 26;

/// A text that is there to be copied; the script has a button for it.
fn copied(id: &str, label: &str, text: &str) -> Markup {
    html! {
        div.copied {
            label for=(id) { (label) }
            textarea id=(id) readonly rows=(text.len().div_ceil(ROW_CHARS)) spellcheck="false" { (text) }
            button.quiet type="button" data-copies=(id) aria-label={ "Copy: " (label) } hidden { "Copy" }
        }
    }
}

fn label(file: &FileView) -> String {
    named(file.name.as_deref(), &file.id)
}

/// A file's name; of one that has none the beginning of its id.
fn named(name: Option<&str>, id: &str) -> String {
    match name {
        None | Some("") => id.chars().take(16).collect(),
        Some(name) => name.to_owned(),
    }
}

fn size(bytes: u64) -> String {
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
    use crate::api::page::folders::Listing;
    use crate::api::sharing::SharedPageView;

    #[test]
    fn what_users_write_is_text_and_never_markup() {
        let page = failure("<script>alert(1)</script>").into_string();
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
        let page = login(Some("\"><img src=x>")).into_string();
        assert!(!page.contains("<img"), "{page}");
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere_and_nothing_stands_in_attributes_that_runs() {
        let listing =
            Listing { path: "/a".to_owned(), lines: Vec::new(), first: None, next: Some("/folders".to_owned()) };
        let shared = SharedPageView { files: Vec::new(), next: Some("ab".to_owned()) };
        for page in [
            files::list("anna", &[], Some("ab"), true),
            folders::list("anna", &listing),
            shares::shared("anna", "ab", &shared, true),
        ] {
            let page = page.into_string();
            for banned in ["http:", "https:", "onclick", "style=", "javascript:"] {
                assert!(!page.contains(banned), "{banned}: {page}");
            }
        }
        for text in [include_str!("../page.js"), include_str!("../page.css")] {
            assert!(!text.contains("http") && !text.contains("@import") && !text.contains("innerHTML"));
        }
    }
}
