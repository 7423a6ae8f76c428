//! `countersign registry rewrap`: brings every secret of the registry under the current master key.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::serve::runtime;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::key::sealing::MasterKeys;
use crate::registrar::{Act, Actor, Registrar};
use crate::registry::opened::Names;
use crate::registry::{Location, open};

/// Runs it. Gateways go on meanwhile: what was wrapped by either master key opens for whoever has both.
pub(super) fn run(
    config: &Config,
    as_json: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<ExitCode> {
    let Some(sealing) = &config.sealing else {
        let cure = "name the master keys under `[sealing]`, the new one as `current`";
        writeln!(err, "countersign registry rewrap: there is no other master key ({cure})")?;
        return Ok(ExitCode::FAILURE);
    };
    if matches!(config.registry, Location::Memory) {
        writeln!(err, "countersign registry rewrap: the registry ends with its gateway")?;
        return Ok(ExitCode::FAILURE);
    }
    let registry = match open(&config.registry) {
        Ok(registry) => registry,
        Err(error) => return refused(&error, err),
    };
    let masters = match MasterKeys::gather(Some(sealing), config.store.state_dir.as_deref()) {
        Ok(masters) => masters,
        Err(error) => return refused(&error, err),
    };
    let (names, clock) = (Arc::new(Names::of(config)), Arc::new(SystemClock::start()));
    let registrar = Registrar::new(registry, masters, names, clock, config.unbound_trade);
    let actor = Actor { name: "countersign registry rewrap".to_owned() };
    let act = Act { actor: &actor, reason: None, version: None };
    let done = match runtime()?.block_on(registrar.rewrap(&act, |_| {})) {
        Ok(done) => done,
        Err(error) => return refused(&error, err),
    };
    for (id, why) in &done.failed {
        writeln!(err, "countersign registry rewrap: {id}: {why}")?;
    }
    if as_json {
        let failed: Vec<_> = done.failed.iter().map(|(id, _)| id).collect();
        let report = json!({
            "schema": 1, "seen": done.seen, "rewrapped": done.rewrapped, "failed": failed,
        });
        writeln!(out, "{report}")?;
    } else {
        writeln!(out, "{} records looked at, {} rewrapped", done.seen, done.rewrapped)?;
    }
    Ok(if done.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn refused(error: &impl Display, err: &mut impl Write) -> io::Result<ExitCode> {
    writeln!(err, "countersign registry rewrap: {error}")?;
    Ok(ExitCode::FAILURE)
}
