//! Exports that end in the middle of a write. A limit on the size of files ends them there: the system kills the
//! process that writes past it, or refuses the write when the signal is ignored.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use super::formats::read_back;
use super::*;

/// Directory with lines, directory to export to, format; tells the test that it is the process to be killed.
const JOB: &str = "TRULLO_TEST_EXPORT_JOB";
/// Blocks of 512 bytes that a file may have.
const LIMITS: [u32; 4] = [1, 20, 60, 180];
const SIGXFSZ: i32 = 25;

/// Runs a test of this program again, as a process whose files may have `limit` blocks.
fn run_limited(test: &str, limit: u32, ignore: bool, job: &str) -> ExitStatus {
    let trap = if ignore { "trap '' XFSZ; " } else { "" };
    let script = format!("{trap}ulimit -c 0; ulimit -f {limit}; exec \"$0\" --exact \"$1\"");
    let this = std::env::current_exe().expect("this program");
    let mut command = Command::new("sh");
    let test = format!("explorer::export::tests::killed::{test}");
    let done = command.arg("-c").arg(script).arg(this).arg(test).env(JOB, job).output().expect("sh is installed");
    done.status
}

/// What the process to be killed was told to do.
fn job() -> Option<(LineFiles, Exporter)> {
    let job = std::env::var(JOB).ok()?;
    let parts: Vec<_> = job.split('\n').collect();
    let format = Format::ALL.into_iter().find(|format| format.name() == parts[2]).expect("a format");
    Some((LineFiles(parts[0].into()), Exporter::new(Path::new(parts[1]), format)))
}

/// What is under its final name is whole, and what the manifest names is there.
fn assert_whole(out: &Path, format: Format, good: &[BTreeMap<String, Vec<u8>>]) {
    let found = contents(out);
    if out.join(MANIFEST).exists() {
        assert!(manifest(out).files.iter().all(|entry| found.contains_key(&entry.file)));
    }
    let unfinished = |name: &str| name.contains(".partial") || name.ends_with("-journal");
    for (name, bytes) in found.iter().filter(|(name, _)| !unfinished(name)) {
        // A database with a journal is whole once SQLite has opened it.
        let whole = format == Format::Sqlite || good.iter().any(|good| good.get(name) == Some(bytes));
        assert!(whole, "{name} is not whole");
    }
}

#[test]
fn a_killed_export_leaves_no_half_file_and_the_next_goes_on() {
    if let Some((mut lines, exporter)) = job() {
        exporter.run(&mut lines, &mut |_| {}).expect("killed or done");
        return;
    }
    let mut story = Story::told();
    let early = expected(&story);
    let lines = [directory(), directory()];
    let mut first = LineFiles::write(&story, lines[0].path());
    story.pay_strangers(200);
    let mut second = LineFiles::write(&story, lines[1].path());
    for format in Format::ALL {
        let export = |lines: &mut LineFiles, out: &Path| {
            Exporter::new(out, format).run(lines, &mut |_| {}).expect("a good export");
        };
        let undisturbed = directory();
        export(&mut first, undisturbed.path());
        let mut good = vec![contents(undisturbed.path())];
        export(&mut second, undisturbed.path());
        good.push(contents(undisturbed.path()));
        let fresh = directory();
        export(&mut second, fresh.path());
        good.push(contents(fresh.path()));
        let mut killed = 0;
        for (limit, begun) in LIMITS.into_iter().flat_map(|limit| [(limit, false), (limit, true)]) {
            let out = directory();
            if begun {
                export(&mut first, out.path());
            }
            let job = format!("{}\n{}\n{format}", lines[1].path().display(), out.path().display());
            let ended = run_limited("a_killed_export_leaves_no_half_file_and_the_next_goes_on", limit, false, &job);
            killed += usize::from(ended.signal() == Some(SIGXFSZ));
            assert!(ended.success() || ended.signal() == Some(SIGXFSZ), "{ended:?}");
            assert_whole(out.path(), format, &good);
            if begun && format == Format::Sqlite && !ended.success() {
                assert_eq!(read_back(out.path(), format), early, "the transaction is rolled back");
            }
            export(&mut second, out.path());
            assert_eq!(read_back(out.path(), format), expected(&story), "{format}, limit {limit}");
            let names = |of: &BTreeMap<String, Vec<u8>>| of.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&contents(out.path())), names(&good[if begun { 1 } else { 2 }]), "nothing is left over");
        }
        assert!(killed >= 4, "{format}: only {killed} were killed");
    }
}

#[test]
fn a_write_that_fails_is_an_error_and_its_file_is_gone() {
    const SELF: &str = "a_write_that_fails_is_an_error_and_its_file_is_gone";
    if let Some((mut lines, exporter)) = job() {
        let done = exporter.run(&mut lines, &mut |_| {});
        assert!(matches!(done, Err(ExportError::Write(_))), "{done:?}");
        return;
    }
    let mut story = Story::told();
    story.pay_strangers(100);
    let lines = directory();
    let mut source = LineFiles::write(&story, lines.path());
    for format in Format::ALL {
        let out = directory();
        let job = format!("{}\n{}\n{format}", lines.path().display(), out.path().display());
        assert!(run_limited(SELF, 7, true, &job).success(), "{format}");
        let names = folder::names(out.path()).expect("a directory");
        let unfinished = names.iter().filter(|name| name.ends_with(".partial"));
        assert_eq!(unfinished.count(), 0, "{names:?}");
        Exporter::new(out.path(), format).run(&mut source, &mut |_| {}).expect("a good export");
        assert_eq!(read_back(out.path(), format), expected(&story), "{format}");
    }
}
