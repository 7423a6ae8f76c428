//! `countersign check`: says what a configuration means, or what is wrong with it.

use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::admit::Ask;
use crate::config::{Config, ConfigError, Loaded, Lookup, Refused, System};

/// Look a configuration over without starting anything.
///
/// Reads everything that `serve` would read, recipes, certificates and secrets too, and lists all that is wrong:
/// file, line, column, key, and the cure. Warnings go to standard error. The exit status is 1 when anything is wrong.
///
/// Example: countersign check --config gateway.toml
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The configuration
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// Print one JSON object: {"ok", "errors", "warnings", "summary"}
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut impl Write, err: &mut impl Write) -> io::Result<ExitCode> {
    let underline = io::stderr().is_terminal();
    judge(args, &System, underline, out, err)
}

fn judge(
    args: &Args,
    lookup: &dyn Lookup,
    underline: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<ExitCode> {
    let loaded = Config::load(&args.config, lookup);
    let (config, errors, warnings) = match loaded {
        Ok(Loaded { config, warnings }) => (Some(config), Vec::new(), warnings),
        Err(Refused { errors, warnings }) => (None, errors, warnings),
    };
    let code = if config.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if args.json {
        let listed = |all: &[ConfigError]| all.iter().map(as_json).collect::<Value>();
        let report = json!({
            "ok": config.is_some(),
            "errors": listed(&errors),
            "warnings": listed(&warnings),
            "summary": config.as_ref().map(summary_json),
        });
        writeln!(out, "{report}")?;
        return Ok(code);
    }
    report(err, "warning: ", &warnings, underline)?;
    report(err, "", &errors, underline)?;
    match config {
        Some(config) => summary(out, &config)?,
        None if errors.len() == 1 => writeln!(err, "1 problem")?,
        None => writeln!(err, "{} problems", errors.len())?,
    }
    Ok(code)
}

/// Lists problems, one a line, with what is meant underlined for people.
pub fn report(
    err: &mut impl Write,
    kind: &str,
    problems: &[ConfigError],
    underline: bool,
) -> io::Result<()> {
    for problem in problems {
        writeln!(err, "{kind}{problem}")?;
        let Some(excerpt) = problem.excerpt.as_ref().filter(|_| underline) else { continue };
        let (before, marks) = (" ".repeat(excerpt.before), "^".repeat(excerpt.length));
        writeln!(err, "{:>6} | {}\n       | {before}{marks}", problem.line, excerpt.text)?;
    }
    Ok(())
}

fn as_json(problem: &ConfigError) -> Value {
    json!({
        "file": problem.file.display().to_string(),
        "line": problem.line,
        "column": problem.column,
        "key": problem.key,
        "problem": problem.problem,
        "cure": problem.cure,
    })
}

fn summary(out: &mut impl Write, config: &Config) -> io::Result<()> {
    for listener in &config.listeners {
        let tls = if listener.tls.is_some() { "TLS" } else { "plain" };
        writeln!(out, "listener {} on {}, {tls}", listener.name, listener.address)?;
    }
    writeln!(out, "admin on {}", config.admin.address)?;
    for upstream in config.upstreams.iter() {
        let backends: Vec<_> = upstream.backends.iter().map(http::uri::Authority::as_str).collect();
        writeln!(out, "upstream {} at {}", upstream.name, backends.join(", "))?;
    }
    let [signed, key, public] = asks(config);
    writeln!(
        out,
        "{} routes: {signed} signed, {key} by key id alone, {public} public",
        signed + key + public
    )?;
    writeln!(out, "dialects: {}", dialects(config).join(", "))?;
    writeln!(out, "{} keys, {} limits", config.keys.len(), config.limits.len())?;
    writeln!(out, "the configuration is good")
}

fn summary_json(config: &Config) -> Value {
    let [signed, key, public] = asks(config);
    let listeners: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| {
            json!({
                "name": &*listener.name,
                "address": listener.address,
                "tls": listener.tls.is_some(),
            })
        })
        .collect();
    let upstreams: Vec<_> = config
        .upstreams
        .iter()
        .map(|upstream| {
            let backends: Vec<_> =
                upstream.backends.iter().map(http::uri::Authority::as_str).collect();
            json!({ "name": &*upstream.name, "backends": backends })
        })
        .collect();
    json!({
        "listeners": listeners,
        "admin": config.admin.address,
        "upstreams": upstreams,
        "routes": { "signed": signed, "key": key, "public": public },
        "dialects": dialects(config),
        "keys": config.keys.len(),
        "limits": config.limits.len(),
    })
}

fn dialects(config: &Config) -> Vec<&str> {
    config.dialects.iter().map(|dialect| &**dialect.name()).collect()
}

/// How many routes ask for a signature, for a key id, and for nothing.
fn asks(config: &Config) -> [usize; 3] {
    let mut counts = [0; 3];
    let [signed, key, public] = &mut counts;
    for entry in config.routes.all() {
        match entry.demand.ask {
            Ask::Signed(_) => *signed += 1,
            Ask::Key(_) => *key += 1,
            Ask::Public => *public += 1,
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str, json: bool, underline: bool) -> (ExitCode, String, String) {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("gateway.toml");
        std::fs::write(&config, text).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let args = Args { config, json };
        let code = judge(&args, &System, underline, &mut out, &mut err).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_good_configuration_is_summed_up() {
        let (code, out, err) = checked(crate::config::DEFAULTS, false, false);
        assert_eq!(code, ExitCode::SUCCESS);
        assert!(out.contains("1 routes: 1 signed"), "{out}");
        assert!(err.contains("warning: ") && err.contains("identity_key"), "{err}");
    }

    #[test]
    fn what_is_wrong_is_underlined_and_counted() {
        let broken =
            crate::config::DEFAULTS.replace("dialect = \"binance\"", "dialect = \"binanse\"");
        let (code, out, err) = checked(&broken, false, true);
        assert_eq!((code, &*out), (ExitCode::FAILURE, ""));
        assert!(err.contains(" | dialect = \"binanse\"\n       |           ^^^^^^^^^\n"), "{err}");
        assert!(err.ends_with("1 problem\n"), "{err}");
    }

    #[test]
    fn the_same_list_comes_as_json() {
        let (code, out, err) = checked("version = 2\n", true, true);
        assert_eq!((code, &*err), (ExitCode::FAILURE, ""));
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(report["ok"], false);
        let version = report["errors"].as_array().unwrap().iter().find(|e| e["key"] == "version");
        assert_eq!(
            (&version.unwrap()["line"], &version.unwrap()["column"]),
            (&json!(1), &json!(11))
        );
    }
}
