//! `countersign dialects`: what each dialect signs, and what it does not.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Value, json};

use super::page;
use crate::config::in_words;
use crate::dialect::{BUILTIN, Dialect, NonceKind, TimeKind, builtin};

/// Show the ways of signing that countersign knows.
///
/// Example: countersign dialects page binance
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Name every built-in dialect
    List {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show where a dialect's credentials travel, what it signs, and what becomes of the rest
    Show {
        /// A built-in dialect, or the file of a recipe
        name: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print a dialect's page: what `show` tells, and a request signed with every byte on the way
    Page {
        /// A built-in dialect, or the file of a recipe
        name: PathBuf,
    },
    /// Write the pages of every built-in dialect, and a list of them
    Pages {
        /// Folder to write to
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
}

/// Runs the command.
pub fn run(args: &Args, out: &mut impl Write, err: &mut impl Write) -> io::Result<ExitCode> {
    let done = match &args.command {
        Command::List { json } => {
            list(*json, out)?;
            Ok(())
        }
        Command::Show { name, json } => match find(name) {
            Ok(dialect) if *json => Ok(writeln!(out, "{}", as_json(&dialect))?),
            Ok(dialect) => Ok(show(&dialect, out)?),
            Err(problem) => Err(problem),
        },
        Command::Page { name } => match find(name).and_then(|dialect| page::page(&dialect)) {
            Ok(text) => Ok(out.write_all(text.as_bytes())?),
            Err(problem) => Err(problem),
        },
        Command::Pages { out } => write_pages(out),
    };
    match done {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(problem) => {
            writeln!(err, "countersign dialects: {problem}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Every page with the name of its file, the list first.
fn pages() -> Result<Vec<(String, String)>, String> {
    let all = BUILTIN.iter().filter_map(|(name, _)| builtin(name));
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let mut pages = vec![("README.md".to_owned(), page::index(all.iter()))];
    for dialect in &all {
        pages.push((format!("{}.md", dialect.name()), page::page(dialect)?));
    }
    Ok(pages)
}

fn write_pages(folder: &Path) -> Result<(), String> {
    let told = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    std::fs::create_dir_all(folder).map_err(|error| told(folder, error))?;
    for (name, text) in pages()? {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| told(&path, error))?;
    }
    Ok(())
}

fn list(as_lines_of_json: bool, out: &mut impl Write) -> io::Result<()> {
    for dialect in BUILTIN.iter().filter_map(|(name, _)| builtin(name)?.ok()) {
        let (name, title) = (&**dialect.name(), dialect.title());
        if as_lines_of_json {
            writeln!(out, "{}", json!({ "name": name, "title": title }))?;
        } else {
            writeln!(out, "{name:<12} {title}")?;
        }
    }
    Ok(())
}

fn find(name: &Path) -> Result<Dialect, String> {
    if let Some(found) = name.to_str().and_then(builtin) {
        return found.map_err(|error| error.to_string());
    }
    let known = || BUILTIN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let shown = name.display();
    let text = std::fs::read_to_string(name).map_err(|error| {
        format!("{shown} is no built-in dialect ({}) and no readable file: {error}", known())
    })?;
    Dialect::compile(&text).map_err(|error| format!("{shown}: {error}"))
}

fn show(dialect: &Dialect, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}: {}\n", dialect.name(), dialect.title())?;
    for (credential, place) in dialect.places() {
        writeln!(out, "{:<16} {}", credential.name(), dialect.spelled_place(place))?;
    }
    let algorithms: Vec<_> = dialect.algorithms().map(crate::key::Algorithm::name).collect();
    writeln!(out, "{:<16} {}", "algorithms", algorithms.join(", "))?;
    writeln!(out, "{:<16} {}", "time", time(dialect))?;
    writeln!(out, "{:<16} {}", "good for", window(dialect))?;
    for cover in dialect.coverage() {
        writeln!(out, "\n{} signs  {}", cover.methods, cover.text.replace('\n', "\\n"))?;
        writeln!(out, "  signed         {}", cover.signed.join(", "))?;
        for (part, fate) in &cover.unsigned {
            writeln!(out, "  not signed     {part}: {fate}")?;
        }
    }
    let told: Vec<_> = dialect.reply_header_names().collect();
    if !told.is_empty() {
        writeln!(out, "\nevery reply says how much of a limit is used: {}", told.join(", "))?;
    }
    writeln!(out, "\nrefusals")?;
    for (condition, status, body) in dialect.worded() {
        let switch = if condition.needs_imitation() { "  (with `imitate`)" } else { "" };
        writeln!(out, "  {:<20} {} {body}{switch}", condition.name(), status.as_u16())?;
    }
    for note in dialect.notes() {
        writeln!(out, "\nnote: {note}")?;
    }
    dialect.sources().iter().try_for_each(|source| writeln!(out, "\nsource: {source}"))
}

pub(super) fn time(dialect: &Dialect) -> String {
    match dialect.time_kind() {
        TimeKind::Stamp => {
            format!(
                "the moment of signing, at most {} ahead of the server's clock",
                in_words(dialect.future())
            )
        }
        TimeKind::Deadline => "the moment after which the request is void".to_owned(),
        TimeKind::None if dialect.nonce_kind() == Some(NonceKind::Unique) => {
            "none: each nonce may come once, ever".to_owned()
        }
        TimeKind::None => "none: each nonce must be greater than the last of its key".to_owned(),
    }
}

pub(super) fn window(dialect: &Dialect) -> String {
    let (default, most) = (dialect.default_window(), dialect.max_window());
    match dialect.time_kind() {
        TimeKind::Deadline => "as long as its deadline says, within the route's `lead`".to_owned(),
        TimeKind::None if dialect.nonce_kind() == Some(NonceKind::Unique) => {
            "until it has come once".to_owned()
        }
        TimeKind::None => "as long as no greater nonce of its key has come".to_owned(),
        TimeKind::Stamp if default == most => in_words(default),
        TimeKind::Stamp => format!("{}, or as asked up to {}", in_words(default), in_words(most)),
    }
}

/// What the signed time is, in a word.
pub(super) fn kind(dialect: &Dialect) -> &'static str {
    match dialect.time_kind() {
        TimeKind::Stamp => "stamp",
        TimeKind::Deadline => "deadline",
        TimeKind::None => "none",
    }
}

fn as_json(dialect: &Dialect) -> Value {
    let places: serde_json::Map<_, _> = dialect
        .places()
        .map(|(credential, place)| {
            (credential.name().to_owned(), dialect.spelled_place(place).into())
        })
        .collect();
    let unsigned = |all: &[(&str, &str)]| -> serde_json::Map<String, Value> {
        all.iter().map(|(part, fate)| ((*part).to_owned(), Value::from(*fate))).collect()
    };
    let messages = dialect.coverage().into_iter().map(|cover| {
        json!({
            "methods": cover.methods,
            "text": cover.text,
            "signed": cover.signed,
            "unsigned": unsigned(&cover.unsigned),
        })
    });
    let refusals = dialect.worded().map(|(condition, status, body)| {
        json!({ "condition": condition.name(), "status": status.as_u16(), "body": body })
    });
    json!({
        "name": &**dialect.name(),
        "title": dialect.title(),
        "places": places,
        "algorithms": dialect.algorithms().map(crate::key::Algorithm::name).collect::<Vec<_>>(),
        "time": kind(dialect),
        "future_ms": dialect.future().as_millis(),
        "window_ms": dialect.default_window().as_millis(),
        "max_window_ms": dialect.max_window().as_millis(),
        "messages": messages.collect::<Vec<_>>(),
        "reply_headers": dialect.reply_header_names().collect::<Vec<_>>(),
        "refusals": refusals.collect::<Vec<_>>(),
        "notes": dialect.notes(),
        "sources": dialect.sources(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_dialect_is_shown_with_what_it_does_not_sign() {
        for (name, _) in BUILTIN {
            let command = |json| Args { command: Command::Show { name: name.into(), json } };
            let (mut out, mut err) = (Vec::new(), Vec::new());
            run(&command(false), &mut out, &mut err).unwrap();
            let text = String::from_utf8(out).unwrap();
            for word in ["signature", "not signed", "bad_signature", "good for"] {
                assert!(text.contains(word), "{name}: {word}\n{text}");
            }
            let mut out = Vec::new();
            run(&command(true), &mut out, &mut err).unwrap();
            let value: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(value["name"], *name);
            assert!(err.is_empty());
        }
    }

    #[test]
    fn the_committed_pages_are_what_the_recipes_say() {
        let command = "cargo run -- dialects pages --out docs/dialects";
        let folder = Path::new("docs/dialects");
        let pages = pages().unwrap();
        for (name, text) in &pages {
            let committed = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            assert!(committed == *text, "{name} is out of date: run `{command}`");
        }
        let there = std::fs::read_dir(folder).unwrap().count();
        assert_eq!(there, pages.len(), "a page of no dialect is in {}", folder.display());
    }

    #[test]
    fn an_unknown_dialect_is_refused_with_the_known_ones() {
        let args = Args { command: Command::Show { name: "nowhere".into(), json: false } };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        assert_eq!(run(&args, &mut out, &mut err).unwrap(), ExitCode::FAILURE);
        assert!(String::from_utf8(err).unwrap().contains("binance"));
    }
}
