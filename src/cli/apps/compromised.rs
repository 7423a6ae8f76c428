//! `countersign apps compromised`: the recovery of every key that an application lost.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::super::desk::{Desk, Done, Failure, Reason, Sure, confirmed_by};
use super::super::once::private;
use super::super::progress::Progress;
use super::super::text::{clean, counted, text};
use super::at;

/// Revoke every key that an application lost, and list the owners to tell
///
/// None of its keys is good any more from the moment the gateway answers; then each is revoked, and replaced if that is
/// wanted. It goes on even if nobody waits for its end.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The application
    name: String,
    /// Write whom to tell to this new file, an account and its keys a line; standard output when absent
    #[arg(long, value_name = "FILE")]
    notify: Option<PathBuf>,
    /// Give each owner a new key, and write them with their secrets to this new file, which only you can read
    #[arg(long, value_name = "FILE")]
    replace: Option<PathBuf>,
    /// Go on with a recovery that broke off: keys that were made since are not lost
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    reason: Reason,
    #[command(flatten)]
    sure: Sure,
}

impl Args {
    pub(super) fn run(&self, desk: &mut Desk<'_>) -> Done {
        let name = clean(&self.name);
        let mut files = Files::new(self)?;
        let what = format!("This ends every key of {name} for good.");
        if let Err(called_off) = desk.confirm(self.sure, &what, &name) {
            files.discard();
            return Err(called_off);
        }
        let body = json!({"replace": self.replace.is_some(), "resume": self.resume});
        let progress = Progress::of("revoked", None);
        let mut told = Told::default();
        let path = format!("{}/compromised", at(&self.name));
        let followed = desk.api.follow(&path, &self.reason.beside(body), |line| {
            if let Some(total) = line.get("total").and_then(Value::as_u64) {
                progress.expect(total);
            }
            told.take(line, files.replaced.as_mut().map(|(file, _)| file));
            progress.at(told.revoked);
        });
        progress.end();
        if followed.is_err() && told.owners.is_empty() {
            files.discard();
        } else {
            // Whom to tell is known even where the rest was cut off.
            told.write(desk, &mut files)?;
        }
        followed?;
        let failed =
            told.failed.as_ref().map(|error| format!("the new keys cannot be written: {error}"));
        if let Some(problem) = failed.or_else(|| told.broken_off()) {
            return Err(Failure::Failed(problem));
        }
        self.end(desk, &told)
    }

    fn end(&self, desk: &mut Desk<'_>, told: &Told) -> Done {
        if desk.common.json {
            let mut document = Map::new();
            document.insert("application".into(), json!(self.name));
            document.insert("owners".into(), json!(told.owners));
            if let Some(Value::Object(end)) = &told.end {
                document.extend(end.clone());
            }
            return desk.document(Value::Object(document));
        }
        if desk.common.quiet {
            return Ok(());
        }
        let (keys, owners) = (counted(told.revoked, "key"), counted(told.owners.len(), "owner"));
        let end = told.end.clone().unwrap_or_default();
        let by = confirmed_by(&end);
        desk.note(&format!("{keys} of {} revoked{by}, {owners} to tell.", clean(&self.name)))?;
        desk.waiting(&end)?;
        if let Some(path) = &self.notify {
            desk.note(&format!("Whom to tell is in {}.", path.display()))?;
        }
        if let Some(path) = &self.replace {
            desk.note(&format!(
                "The new keys with their secrets are in {}, which only you can read.",
                path.display()
            ))?;
        }
        Ok(())
    }
}

/// The files that were asked for, made before anything is.
struct Files<'a> {
    notified: Option<(File, &'a Path)>,
    replaced: Option<(BufWriter<File>, &'a Path)>,
}

impl<'a> Files<'a> {
    fn new(args: &'a Args) -> Result<Self, Failure> {
        let made = |path: &'a PathBuf| private(path).map(|file| (file, path.as_path()));
        let notified = args.notify.as_ref().map(made).transpose()?;
        let mut files = Self { notified, replaced: None };
        match args.replace.as_ref().map(made).transpose() {
            Ok(replaced) => {
                files.replaced = replaced.map(|(file, path)| (BufWriter::new(file), path));
                Ok(files)
            }
            Err(failure) => {
                files.discard();
                Err(failure)
            }
        }
    }

    fn discard(&self) {
        let notified = self.notified.iter().map(|(_, path)| path);
        for path in notified.chain(self.replaced.iter().map(|(_, path)| path)) {
            // An empty file does no harm.
            drop(std::fs::remove_file(path));
        }
    }
}

/// What has been told so far.
#[derive(Default)]
struct Told {
    /// The keys of each account.
    owners: BTreeMap<String, Vec<String>>,
    revoked: usize,
    /// What the API said at the end.
    end: Option<Value>,
    /// Why it broke off.
    problem: Option<String>,
    /// Why new keys could not be written.
    failed: Option<io::Error>,
}

impl Told {
    fn take(&mut self, mut line: Value, mut replaced: Option<&mut BufWriter<File>>) {
        if let Some(Value::Array(keys)) = line.get_mut("keys").map(Value::take) {
            for mut key in keys {
                let (account, id) = (clean(text(&key, "account")), clean(text(&key, "key")));
                if let (Some(file), Some(new)) = (&mut replaced, key.get_mut("replacement")) {
                    let new = new.take();
                    let line = json!({"account": account, "lost": id, "id": new.get("id"),
                        "secret": new.get("secret"), "passphrase": new.get("passphrase")});
                    if let Err(error) = writeln!(file, "{line}") {
                        self.failed.get_or_insert(error);
                    }
                }
                self.owners.entry(account).or_default().push(id);
            }
        }
        if let Some(count) = line.get("revoked").and_then(Value::as_u64) {
            self.revoked = usize::try_from(count).unwrap_or(usize::MAX);
        }
        if let Some(problem) = line.get("problem").filter(|problem| !problem.is_null()) {
            self.problem = Some(format!(
                "{}: {}",
                clean(text(problem, "title")),
                clean(text(problem, "detail"))
            ));
        }
        if line.get("done").and_then(Value::as_bool) == Some(true) {
            self.end = Some(line);
        }
    }

    /// Why not all is done.
    fn broken_off(&self) -> Option<String> {
        if self.end.is_some() {
            return None;
        }
        let why = self.problem.as_deref().unwrap_or("the gateway stopped telling");
        let keys = counted(self.revoked, "key");
        Some(format!("{why}, after {keys}\n  go on with --resume"))
    }

    fn write(&self, desk: &mut Desk<'_>, files: &mut Files<'_>) -> Done {
        let quiet = desk.common.quiet;
        let lines = self.owners.iter().map(|(account, keys)| {
            if quiet { account.clone() } else { format!("{account}\t{}", keys.join(",")) }
        });
        if let Some((file, _)) = &mut files.replaced {
            file.flush()?;
            file.get_ref().sync_all()?;
        }
        if let Some((file, _)) = &mut files.notified {
            let mut out = BufWriter::new(&mut *file);
            for line in lines {
                writeln!(out, "{line}")?;
            }
            out.flush()?;
            drop(out);
            file.sync_all()?;
        } else if !desk.common.json {
            for line in lines {
                writeln!(desk.out, "{line}")?;
            }
            desk.out.flush()?;
        }
        Ok(())
    }
}

const EXAMPLES: &str = "\
Example: countersign apps compromised gridbot --notify owners.tsv --reason 'vendor breach'

  # with a new key for each owner, in a script
  countersign apps compromised gridbot --yes --notify owners.tsv --replace new-keys.jsonl";
