//! Output: results to stdout, talk to stderr, JSON where it was asked for.
//!
//! With `--json` every line on stdout is one JSON value; those of long commands carry `type`: progress, item, warning or
//! summary. A failure is the last line on stderr, `{"type":"error","code",..}`. Without it, results are for reading, and
//! a progress bar is drawn only on a terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use comfy_table::Table;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use super::errors::CliError;

/// Least time between two JSON progress lines.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Where and how a command speaks.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
    quiet: bool,
    verbose: bool,
    terminal: bool,
}

impl Output {
    /// As the flags say.
    pub fn new(json: bool, quiet: bool, verbose: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { json, quiet, verbose, terminal: io::stderr().is_terminal() && !dumb }
    }

    /// Whether results are JSON.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// The command's one result: as JSON, or as the text. Errors: stdout cannot be written.
    pub fn result(self, value: &impl Serialize, text: impl FnOnce() -> String) -> io::Result<()> {
        if self.json { print(&serde_json::to_string(value)?) } else { print(&visible(&text())) }
    }

    /// One line of a long command: the value with its `type`, or the text if there is any.
    /// Errors: stdout cannot be written.
    pub fn line(self, kind: &str, value: &impl Serialize, text: impl FnOnce() -> Option<String>) -> io::Result<()> {
        if self.json {
            return print(&typed(kind, value)?);
        }
        text().map_or(Ok(()), |text| print(&visible(&text)))
    }

    /// Talk: what is happening. Silent with `-q` and with `--json`.
    pub fn say(self, text: impl AsRef<str>) {
        if !self.quiet && !self.json {
            let _ = writeln!(io::stderr(), "{}", text.as_ref());
        }
    }

    /// Talk for those who asked for more with `-v`.
    pub fn detail(self, text: impl AsRef<str>) {
        if self.verbose {
            let _ = writeln!(io::stderr(), "{}", text.as_ref());
        }
    }

    /// Something that the user should know although the command goes on.
    pub fn warn(self, text: impl AsRef<str>) {
        let text = text.as_ref();
        if self.json {
            let _ = self.line("warning", &json!({ "message": text }), || None);
        } else {
            let _ = writeln!(io::stderr(), "warning: {}", visible(text));
        }
    }

    /// The failure that ends the program.
    pub fn error(self, error: &CliError) {
        let mut out = io::stderr();
        if self.json {
            let _ = writeln!(out, "{}", error_line(error).unwrap_or_default());
            return;
        }
        let colour = self.terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let label = if colour { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" };
        let _ = writeln!(out, "{label} {}", visible(&error.message));
        if let Some(hint) = &error.hint {
            let _ = writeln!(out, "  hint: {hint}");
        }
    }

    /// Progress over bytes, of a known or unknown number.
    pub fn progress(self, phase: &'static str, total: Option<u64>, done: u64) -> Progress {
        let bar = (self.terminal && !self.quiet && !self.json).then(|| bar(phase, total));
        if let Some(bar) = &bar {
            bar.set_position(done);
            bar.reset_eta();
        }
        let state = Mutex::new((done, Instant::now()));
        Progress { out: self, phase, total, bar, state }
    }
}

/// The JSON of a failure, one line. Errors: none in practice, these are plain texts and a number.
pub fn error_line(error: &CliError) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Failure<'a> {
        code: u8,
        kind: &'a str,
        message: &'a str,
        hint: Option<&'a str>,
    }
    let (code, hint) = (error.code as u8, error.hint.as_deref());
    typed("error", &Failure { code, kind: &error.kind, message: &error.message, hint })
}

/// A struct as a JSON object whose first field is its type. Errors: the value is no struct.
pub fn typed(kind: &str, value: &impl Serialize) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Typed<'a, T> {
        r#type: &'a str,
        #[serde(flatten)]
        value: &'a T,
    }
    serde_json::to_string(&Typed { r#type: kind, value })
}

/// Bytes that were done of those that are to be done.
pub struct Progress {
    out: Output,
    phase: &'static str,
    total: Option<u64>,
    bar: Option<ProgressBar>,
    state: Mutex<(u64, Instant)>,
}

impl Progress {
    /// So many more bytes are done.
    pub fn add(&self, bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        state.0 += bytes;
        if let Some(bar) = &self.bar {
            bar.set_position(state.0);
        }
        if self.out.json && state.1.elapsed() >= PROGRESS_EVERY {
            state.1 = Instant::now();
            let value = json!({ "phase": self.phase, "bytes": state.0, "total": self.total });
            let _ = self.out.line("progress", &value, || None);
        }
    }

    /// What happens while no bytes move.
    pub fn phase(&self, text: &'static str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        }
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(phase: &'static str, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{msg} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}, {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{msg} {spinner} {binary_bytes} {binary_bytes_per_sec}"),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style.progress_chars("=> "));
    bar.set_message(phase);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A text without commands to the terminal: the reasons that other nodes give, and names of files, are free text.
fn visible(text: &str) -> String {
    let hidden = |c: char| c.is_control() && c != '\n' && c != '\t';
    text.chars().map(|c| if hidden(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// One text to stdout, ended with a newline.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// A table without frame, for reading and for `awk`.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header.map(str::to_uppercase));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Facts of one thing, one a line.
pub fn facts<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    rows.into_iter().map(|(name, value)| format!("{name:<18} {value}\n")).collect()
}

/// Bytes for reading.
pub fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

/// A duration for reading.
pub fn age(ms: u64) -> String {
    if ms < 10_000 {
        return format!("{}.{} s", ms / 1000, ms % 1000 / 100);
    }
    humantime::format_duration(Duration::from_secs(ms / 1000)).to_string()
}

/// The first 16 digits of an id: enough to tell ids apart in a table.
pub fn short(id: &str) -> String {
    id.chars().take(16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::errors::Exit;

    #[test]
    fn a_line_of_a_long_command_says_its_type_first() {
        #[derive(Serialize)]
        struct Done {
            bytes: u64,
        }
        let line = typed("summary", &Done { bytes: 3 }).expect("plain JSON");
        assert_eq!(line, r#"{"type":"summary","bytes":3}"#);
    }

    #[test]
    fn an_error_line_has_code_kind_message_and_hint() {
        let error = CliError::new(Exit::Denied, "wrong password").hint("try again");
        let expected = r#"{"type":"error","code":12,"kind":"denied","message":"wrong password","hint":"try again"}"#;
        assert_eq!(error_line(&error).expect("plain JSON"), expected);
    }

    #[test]
    fn tables_have_aligned_columns_and_no_frame() {
        let text = table(["name", "pid"], [["validator-1".into(), "7".into()], ["u".into(), "12".into()]]);
        assert_eq!(text, "NAME         PID\nvalidator-1  7\nu            12\n");
    }

    #[test]
    fn a_text_sends_no_command_to_the_terminal() {
        assert_eq!(visible("a\tb\n\u{1b}[2Jc\r\u{9b}d"), "a\tb\n\u{fffd}[2Jc\u{fffd}\u{fffd}d");
    }

    #[test]
    fn ages_are_short() {
        assert_eq!((age(1_250), age(75_000)), ("1.2 s".to_owned(), "1m 15s".to_owned()));
    }
}
