//! `countersign registry`: brings the tables of a registry up to date, its secrets under the current master key, and says
//! what is in one.

use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Map, json};

use super::{check, rewrap};
use crate::config::{Config, Lookup, System};
use crate::registry::Location;
use crate::registry::book::RegistryError;
use crate::registry::migrate::{Migrated, Status, migrate, status};

/// Look after the registry, where keys and all that belongs to them are recorded.
///
/// Example: countersign registry migrate --config gateway.toml
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring its tables up to date
    ///
    /// Makes the tables where there are none. All steps are taken or none, by one process at a time, and never back.
    /// Gateways make no tables in PostgreSQL: run this before the first one starts, and before a newer program does.
    ///
    /// Example: countersign registry migrate --config gateway.toml
    Migrate(Which),
    /// Say where it is, how new, and what is in it
    ///
    /// The exit status is 1 when its tables are not those that this program needs.
    ///
    /// Example: countersign registry status --config gateway.toml
    Status(Which),
    Rewrap(Box<rewrap::Args>),
}

#[derive(clap::Args, Debug)]
struct Which {
    /// The configuration that says where it is
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut impl Write, err: &mut impl Write) -> io::Result<ExitCode> {
    act(&args.command, &System, out, err)
}

fn act(
    command: &Command,
    lookup: &dyn Lookup,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<ExitCode> {
    let which = match command {
        Command::Rewrap(args) => return rewrap::run(args, lookup, out, err),
        Command::Migrate(which) | Command::Status(which) => which,
    };
    let Some(config) = load(&which.config, lookup, err)? else { return Ok(ExitCode::FAILURE) };
    let location = &config.registry;
    let done = if matches!(command, Command::Migrate(_)) {
        migrate(location).map(|done| show_migrated(&done, location, which.json, out))
    } else {
        status(location).map(|found| show_status(&found, location, which.json, out))
    };
    match done {
        Ok(shown) => shown,
        Err(error) => {
            writeln!(err, "countersign registry: {}{error}", place(location, &error))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Reads a configuration; what is wrong with it is told.
pub(super) fn load(
    path: &Path,
    lookup: &dyn Lookup,
    mut err: &mut dyn Write,
) -> io::Result<Option<Config>> {
    match Config::load(path, lookup) {
        Ok(loaded) => Ok(Some(loaded.config)),
        Err(refused) => {
            check::report(&mut err, "", &refused.errors, io::stderr().is_terminal())?;
            Ok(None)
        }
    }
}

/// What errors of a file say themselves.
fn place(location: &Location, error: &RegistryError) -> String {
    match (location, error) {
        (Location::File(path), error) if error.to_string().contains(&*path.to_string_lossy()) => {
            String::new()
        }
        (location, _) => format!("{location}: "),
    }
}

fn show_migrated(
    done: &Migrated,
    location: &Location,
    as_json: bool,
    out: &mut impl Write,
) -> io::Result<ExitCode> {
    let Migrated { from, to, steps } = done;
    if as_json {
        let report = json!({
            "schema": 1, "kind": location.kind(), "location": location.to_string(),
            "from": from, "format": to, "steps": steps,
        });
        writeln!(out, "{report}")?;
        return Ok(ExitCode::SUCCESS);
    }
    for step in steps {
        writeln!(out, "{step}")?;
    }
    if steps.is_empty() {
        writeln!(out, "the registry {location} is of format {to} already")?;
    } else {
        writeln!(out, "the registry {location} is of format {to} now; it was of format {from}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show_status(
    found: &Status,
    location: &Location,
    as_json: bool,
    out: &mut impl Write,
) -> io::Result<ExitCode> {
    let Status { format, newest, revision, records } = found;
    let code = if format == newest { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if as_json {
        let records: Map<_, _> =
            records.iter().map(|(kind, count)| (kind.name().to_owned(), json!(count))).collect();
        let report = json!({
            "schema": 1, "kind": location.kind(), "location": location.to_string(),
            "format": format, "newest": newest, "revision": revision, "records": records,
        });
        writeln!(out, "{report}")?;
        return Ok(code);
    }
    writeln!(out, "registry: {}, {location}", location.kind())?;
    if format < newest {
        let cure = "run `countersign registry migrate`";
        writeln!(out, "format: {format}, and this program needs {newest}: {cure}")?;
        return Ok(code);
    }
    if format > newest {
        writeln!(out, "format: {format}, and this program knows up to {newest}: use a newer one")?;
        return Ok(code);
    }
    writeln!(out, "format: {format}, the newest")?;
    writeln!(out, "revision: {revision}")?;
    for (kind, count) in records {
        writeln!(out, "{:<12} {count}", kind.name())?;
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn ran(
        directory: &Path,
        text: &str,
        command: fn(Which) -> Command,
    ) -> (ExitCode, Value, String) {
        let config = directory.join("gateway.toml");
        std::fs::write(&config, text).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let which = Which { config, json: true };
        let code = act(&command(which), &System, &mut out, &mut err).unwrap();
        let report = serde_json::from_slice(&out).unwrap_or_default();
        (code, report, String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_file_is_made_and_what_is_in_it_told() {
        let directory = tempfile::tempdir().unwrap();
        let with_file =
            crate::config::DEFAULTS.replace("kind = \"embedded\"", "path = \"keys.redb\"");
        let (code, report, err) = ran(directory.path(), &with_file, Command::Migrate);
        assert_eq!((code, &*err), (ExitCode::SUCCESS, ""));
        assert_eq!((&report["from"], &report["format"]), (&json!(0), &json!(1)));
        assert!(!report["steps"].as_array().unwrap().is_empty(), "{report}");
        let (code, report, err) = ran(directory.path(), &with_file, Command::Status);
        assert_eq!((code, &*err), (ExitCode::SUCCESS, ""));
        assert_eq!((&report["kind"], &report["records"]["key"]), (&json!("embedded"), &json!(0)));
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named_once() {
        let directory = tempfile::tempdir().unwrap();
        let nowhere =
            crate::config::DEFAULTS.replace("kind = \"embedded\"", "path = \"none/keys.redb\"");
        let (code, report, err) = ran(directory.path(), &nowhere, Command::Status);
        assert_eq!((code, &report["format"], &*err), (ExitCode::FAILURE, &json!(0), ""));
        let (code, report, err) = ran(directory.path(), &nowhere, Command::Migrate);
        assert_eq!((code, report), (ExitCode::FAILURE, Value::Null));
        assert_eq!(err.matches("none/keys.redb").count(), 1, "{err}");
    }

    #[test]
    fn a_configuration_that_is_wrong_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let (code, _, err) = ran(directory.path(), "version = 2\n", Command::Migrate);
        assert!(code == ExitCode::FAILURE && err.contains("version: 2 is not from 1"), "{err}");
    }
}
