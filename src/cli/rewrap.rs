//! `countersign registry rewrap`: brings every secret of the registry under the current master key, through a gateway that
//! runs, or beside those that share the registry.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::desk::{Common, Desk, Done, Failure, Reason, at_desk};
use super::progress::Progress;
use super::registry::load;
use super::serve::runtime;
use super::text::{clean, counted, text};
use crate::clock::SystemClock;
use crate::config::{Config, Lookup};
use crate::key::sealing::MasterKeys;
use crate::registrar::{Act, Actor, Registrar, Rewrapped};
use crate::registry::opened::Names;
use crate::registry::{Location, open};

/// Bring every secret in it under the current master key
///
/// Gateways serve on meanwhile. The one that runs is asked over its admin API; with --config the registry is opened
/// here, as it can be where it is in PostgreSQL or where no gateway has its file open. When all are through, the earlier
/// master keys can be taken out of `[sealing]`. It can be run again at any time, and broken off at any time.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The configuration that says where it is; without it the gateway that runs is asked
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    reason: Reason,
    #[command(flatten)]
    common: Common,
}

/// Runs it.
pub(super) fn run(
    args: &Args,
    lookup: &dyn Lookup,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<ExitCode> {
    match &args.config {
        Some(path) => here(args, path, lookup, out, err),
        None => at_desk(NAME, &args.common, out, err, |desk| there(args, desk)),
    }
}

/// Has the gateway that runs do it.
fn there(args: &Args, desk: &mut Desk<'_>) -> Done {
    let progress = Progress::of("looked at", None);
    let mut told = Told::default();
    let body = args.reason.beside(json!({}));
    let followed = desk.api.follow("/v1/registry/rewrap", &body, |line| {
        if let Some(total) = line.get("total").and_then(Value::as_u64) {
            progress.expect(total);
        }
        told.take(line);
        progress.at(told.seen);
    });
    progress.end();
    followed?;
    for (record, why) in &told.failed {
        desk.note(&format!("{record}: {why}"))?;
    }
    let Some(mut end) = told.end else {
        let why = told.problem.as_deref().unwrap_or("the gateway stopped telling");
        let seen = counted(told.seen, "record");
        return Err(Failure::Failed(format!("{why}, after {seen}\n  run it again")));
    };
    let failed: Vec<_> = told.failed.iter().map(|(record, _)| record).collect();
    end.insert("failed".into(), json!(failed));
    if desk.common.json {
        desk.document(Value::Object(end))?;
    } else if !desk.common.quiet {
        writeln!(desk.out, "{}", report(told.seen, told.rewrapped, &told.master, failed.len()))?;
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!("not opened: {}", counted(failed.len(), "record"))))
}

fn report(seen: impl Display, rewrapped: impl Display, master: &str, failed: usize) -> String {
    let all = if failed == 0 { "all" } else { "all others" };
    format!(
        "{seen} records looked at, {rewrapped} rewrapped; {all} are under master key \"{master}\""
    )
}

/// What the gateway has told so far.
#[derive(Default)]
struct Told {
    seen: usize,
    rewrapped: u64,
    master: String,
    failed: Vec<(String, String)>,
    /// What it said at the end.
    end: Option<Map<String, Value>>,
    /// Why it broke off.
    problem: Option<String>,
}

impl Told {
    fn take(&mut self, line: Value) {
        let number = |name: &str| line.get(name).and_then(Value::as_u64).unwrap_or(0);
        self.seen = usize::try_from(number("seen")).unwrap_or(usize::MAX);
        self.rewrapped = number("rewrapped");
        self.master = clean(text(&line, "master"));
        for failed in line.get("failed").and_then(Value::as_array).into_iter().flatten() {
            self.failed.push((clean(text(failed, "record")), clean(text(failed, "why"))));
        }
        if let Some(problem) = line.get("problem") {
            let told = |name| clean(text(problem, name));
            self.problem = Some(format!("{}: {}", told("title"), told("detail")));
        }
        if let Value::Object(end) = line
            && end.get("done") == Some(&json!(true))
        {
            self.end = Some(end);
        }
    }
}

/// Does it on the registry that the configuration names.
fn here(
    args: &Args,
    path: &Path,
    lookup: &dyn Lookup,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<ExitCode> {
    let Some(config) = load(path, lookup, err)? else { return Ok(ExitCode::FAILURE) };
    let registrar = match registrar(&config) {
        Ok(registrar) => registrar,
        Err(why) => return refused(&why, err),
    };
    let actor = Actor { name: format!("countersign {NAME}") };
    let act = Act { actor: &actor, reason: args.reason.reason.as_deref(), version: None };
    let progress = Progress::of("looked at", None);
    let done = runtime()?.block_on(async {
        progress.expect(registrar.count_sealed().await?);
        let seen = |now: &Rewrapped| usize::try_from(now.seen).unwrap_or(usize::MAX);
        registrar.rewrap(&act, |now| progress.at(seen(now))).await
    });
    progress.end();
    let done = match done {
        Ok(done) => done,
        Err(error) => return refused(&error, err),
    };
    for (id, why) in &done.failed {
        writeln!(err, "countersign {NAME}: {id}: {why}")?;
    }
    let master = registrar.masters().current();
    if args.common.json {
        let failed: Vec<_> = done.failed.iter().map(|(id, _)| id).collect();
        let report = json!({
            "schema": 1, "done": true, "master": master, "seen": done.seen,
            "rewrapped": done.rewrapped, "failed": failed,
        });
        writeln!(out, "{report}")?;
    } else if !args.common.quiet {
        writeln!(out, "{}", report(done.seen, done.rewrapped, master, done.failed.len()))?;
    }
    Ok(if done.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn registrar(config: &Config) -> Result<Registrar, String> {
    let Some(sealing) = &config.sealing else {
        let cure = "name the master keys under `[sealing]`, the new one as `current`";
        return Err(format!("there is no other master key ({cure})"));
    };
    if matches!(config.registry, Location::Memory) {
        return Err("the registry ends with its gateway".to_owned());
    }
    let in_use = |error: &dyn Display| {
        let file = matches!(config.registry, Location::File(_));
        let hint = if file { "\n  without --config a gateway that runs does it" } else { "" };
        format!("{error}{hint}")
    };
    let registry = open(&config.registry).map_err(|error| in_use(&error))?;
    let masters = MasterKeys::gather(Some(sealing), config.store.state_dir.as_deref());
    let masters = masters.map_err(|error| error.to_string())?;
    let (names, clock) = (Arc::new(Names::of(config)), Arc::new(SystemClock::start()));
    Ok(Registrar::new(registry, masters, names, clock, config.unbound_trade))
}

fn refused(error: &dyn Display, err: &mut dyn Write) -> io::Result<ExitCode> {
    writeln!(err, "countersign {NAME}: {error}")?;
    Ok(ExitCode::FAILURE)
}

const NAME: &str = "registry rewrap";
const EXAMPLES: &str = "\
Example: countersign registry rewrap

  # where no gateway runs
  countersign registry rewrap --config gateway.toml";
