//! `trullo demo`: the main job, shown on a network of real processes on this machine.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use serde::Serialize;

use super::client::Client;
use super::context::{Context, NOTHING_CHANGED, block_on};
use super::errors::{CliError, Exit};
use super::export::{self, Done, FormatName};
use super::output::{Output, size};
use super::testnet::{self, Plan, State};
use super::{get, ledger, put};
use crate::api::bundle;
use crate::api::uploads::PutView;
use crate::api::views::FileStatus;
use crate::config::genesis;
use crate::node::bundle::Anchor;
use crate::node::home::random;

const EXAMPLES: &str = "Examples:
  trullo demo
  trullo demo --size 256MiB --keep
  trullo demo --dir /tmp/demo --keep

A network of 4 validators, 6 storage nodes and 1 user comes up; a random file is put and final on the chain; two storage
nodes and a validator are killed with SIGKILL; the file is read back and compared; its ledger record is proven without
any node; the chain is exported. Everything that was started is stopped and removed at the end, unless --keep.";

/// Who is killed: as many storage nodes as there is parity, and as many validators as four of them tolerate.
const VICTIMS: [&str; 3] = ["storage-1", "storage-2", "validator-1"];

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Args {
    /// Bytes of the file
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    size: bytesize::ByteSize,
    /// Directory of the network; default: a new one in the directory for temporary files
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave the network running and its files in place
    #[arg(long)]
    keep: bool,
}

/// The network of the demo. Its processes do not outlive this, unless they are to be kept.
struct Stage {
    context: Context,
    dir: PathBuf,
    keep: bool,
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.keep || !State::exists(&self.dir) {
            return;
        }
        let quiet = Context { out: Output::new(false, true, false), ..self.context.clone() };
        let stopped = State::load(&self.dir).and_then(|state| testnet::stop_all(&quiet, &state));
        if let Err(error) = stopped {
            self.context.out.warn(format!("stopping the network: {error:#}"));
        }
    }
}

#[derive(Serialize)]
struct Step<'a> {
    step: &'a str,
    seconds: f64,
    result: &'a str,
}

#[derive(Serialize)]
struct Summary {
    dir: String,
    kept: bool,
    seconds: f64,
}

/// Shows everything, step by step.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let started = Instant::now();
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("trullo-demo-{}", hex::encode(random::<4>()?))),
    };
    if State::exists(&dir) {
        let error = CliError::new(Exit::Conflict, format!("there is a network in {}", dir.display()));
        return Err(error.hint("choose another --dir").into());
    }
    let stage = Stage { context: context.clone(), dir, keep: args.keep };
    let shown = stage.show(args.size.as_u64());
    let (dir, kept) = (stage.dir.display().to_string(), args.keep);
    if shown.is_ok() {
        let summary = Summary { dir: dir.clone(), kept, seconds: started.elapsed().as_secs_f64() };
        context.out.line("summary", &summary, || Some(farewell(&summary)))?;
    }
    drop(stage);
    match shown {
        Ok(()) if !kept => std::fs::remove_dir_all(&dir).with_context(|| format!("removing {dir}")),
        Ok(()) => Ok(()),
        Err(error) => Err(error.context(format!("the demo failed; logs and files are kept in {dir}"))),
    }
}

fn farewell(summary: &Summary) -> String {
    let Summary { dir, seconds, .. } = summary;
    let ready = format!("\nAll of it in {seconds:.1} s.");
    if !summary.kept {
        return format!(
            "{ready} The network is stopped and removed. `trullo demo --keep` leaves it running;\n`trullo testnet up --dir D` makes one that stays."
        );
    }
    format!(
        "{ready} The network runs on:\n  trullo testnet status --dir {dir}\n  trullo --home {dir}/user-1 ls\n  \
         trullo --home {dir}/user-1 ledger status\n  the exported chain is in {dir}/export, logs in {dir}/<node>/node.log\n  \
         trullo testnet down --dir {dir}"
    )
}

impl Stage {
    fn show(&self, bytes: u64) -> Result<()> {
        let quiet = Context { out: Output::new(false, true, false), ..self.context.clone() };
        let state = self.step("start 4 validators, 6 storage nodes, 1 user", || {
            let state = testnet::prepare(&quiet, &self.dir, &Plan::standard(), false)?;
            let nodes = block_on("the network is stopped", testnet::launch(&quiet, &state))?;
            let height = nodes.iter().filter_map(|node| node.height).min().unwrap_or_default();
            Ok((state, format!("{} processes, block {height} is final on all", nodes.len())))
        })?;
        let user = Context { home: state.dir().join("user-1"), ..quiet.clone() };
        let source = state.dir().join("demo.bin");
        self.step(&format!("make a random file of {}", size(bytes)), || {
            write_random(&source, bytes).with_context(|| format!("writing {}", source.display()))?;
            Ok(((), source.display().to_string()))
        })?;
        let file = self.step("put it: encrypt, cut into 4+2 slots, place on 6 nodes, agree on it", || {
            let put = store(&user, &source)?;
            let speed = format!("{} confirmations of {}", put.confirmations, put.data + put.parity);
            let text = format!("file {} is final at height {}, {speed}", &put.file_id[..16], put.height);
            Ok((put.file_id, text))
        })?;
        self.step("kill -9 two storage nodes and one validator", || {
            for name in VICTIMS {
                testnet::signal(&state.home(name)?, Signal::KILL)?;
            }
            Ok(((), VICTIMS.join(", ")))
        })?;
        self.step("get it back from those that are left, and compare", || {
            let copy = state.dir().join("demo.copy");
            let args = get::Args::of(&file, &copy);
            let client = user.client()?;
            block_on(NOTHING_CHANGED, get::fetch(&user, &args, &client))?;
            compare(&source, &copy)?;
            Ok(((), "every byte is the same".to_owned()))
        })?;
        self.step("prove its ledger record, with nothing but the genesis file", || self.prove(&user, &state, &file))?;
        self.step("export the chain as Parquet", || {
            let args = export::Args::all(FormatName::Parquet, state.dir().join("export"));
            match export::export(user.out, &user.open_home()?, &args)? {
                Done::Written(report) => Ok(((), format!("{} rows up to height {}", report.rows, report.height))),
                Done::Planned(_) => Ok(((), String::new())),
            }
        })
    }

    fn prove(&self, user: &Context, state: &State, file: &str) -> Result<((), String)> {
        let client: Client = user.client()?;
        let path = format!("/v1/proofs/file/{file}");
        let bytes = block_on(NOTHING_CHANGED, ledger::fetch_bundle(&client, &path))?;
        std::fs::write(state.dir().join("bundle.json"), &bytes).context("writing the bundle")?;
        let text = std::str::from_utf8(&bytes).context("the bundle is no text")?;
        let genesis = std::fs::read_to_string(state.dir().join("genesis.json")).context("reading the genesis file")?;
        let genesis = genesis::read(&genesis)?;
        let verified = bundle::verify(text, &Anchor::Genesis(&genesis))
            .map_err(|error| CliError::new(Exit::Verification, error.to_string()))?;
        let flipped = text.replacen("\"final\"", "\"fimal\"", 1);
        if flipped == text || bundle::verify(&flipped, &Anchor::Genesis(&genesis)).is_ok() {
            return Err(CliError::new(Exit::Verification, "a changed bundle was not refused").into());
        }
        Ok((
            (),
            format!(
                "true at height {}, signed by {} validators; a changed letter is refused",
                verified.height, verified.signers
            ),
        ))
    }

    /// Does one step, and says what it was and how long it took.
    fn step<T>(&self, what: &str, work: impl FnOnce() -> Result<(T, String)>) -> Result<T> {
        self.context.out.say(format!("▸ {what}"));
        let started = Instant::now();
        let (value, result) = work().with_context(|| what.to_owned())?;
        let seconds = started.elapsed().as_secs_f64();
        let step = Step { step: what, seconds, result: &result };
        self.context.out.line("item", &step, || Some(format!("  {seconds:5.1} s  {result}")))?;
        Ok(value)
    }
}

fn store(user: &Context, source: &Path) -> Result<PutView> {
    let client = user.client()?;
    let put = block_on(NOTHING_CHANGED, put::store(user, &put::Args::of(source), &client))?;
    match put.status {
        FileStatus::Final => Ok(put),
        FileStatus::Pending | FileStatus::Ended => {
            let reason = put.reason.unwrap_or_default();
            Err(CliError::new(Exit::NotReady, format!("the file is pending: {reason}")).into())
        }
    }
}

fn write_random(path: &Path, bytes: u64) -> Result<()> {
    const PIECE: usize = 1 << 16;
    let mut file = File::create(path)?;
    let mut left = bytes;
    while left > 0 {
        let piece = random::<PIECE>()?;
        let len = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        file.write_all(&piece[..len])?;
        left -= len as u64;
    }
    Ok(file.sync_all()?)
}

/// Compares two files byte for byte. Errors: exit 7 when they differ.
fn compare(a: &Path, b: &Path) -> Result<()> {
    let differ = || CliError::new(Exit::Verification, format!("{} and {} differ", a.display(), b.display()));
    let open = |path: &Path| File::open(path).with_context(|| format!("opening {}", path.display()));
    let (one, other) = (open(a)?, open(b)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Err(differ().into());
    }
    let (mut one, mut other) = (BufReader::new(one), BufReader::new(other));
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let len = one.read(&mut left)?;
        if len == 0 {
            return Ok(());
        }
        other.read_exact(&mut right[..len])?;
        if left[..len] != right[..len] {
            return Err(differ().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_differ_in_one_byte_or_in_length_differ() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| dir.path().join(name);
        let bytes = vec![7; 200_000];
        let mut changed = bytes.clone();
        changed[150_000] ^= 1;
        for (name, content) in [("a", &bytes[..]), ("b", &bytes[..]), ("c", &changed[..]), ("d", &bytes[1..])] {
            std::fs::write(path(name), content).expect("writable");
        }
        assert!(compare(&path("a"), &path("b")).is_ok());
        for other in ["c", "d"] {
            let error = compare(&path("a"), &path(other)).expect_err("they differ");
            assert_eq!(CliError::of(&error).code, Exit::Verification);
        }
    }
}
