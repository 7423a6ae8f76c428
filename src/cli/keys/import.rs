//! `countersign keys import`: keys that exist already, with their secrets.

use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::super::desk::{Desk, Done, Failure, Reason};
use super::super::progress::Progress;
use super::super::sign::variable;
use super::super::text::{clean, counted, text};
use super::create::Bound;

/// Take over keys that exist already, with their ids and secrets
///
/// Secrets come from the environment, a file or standard input, never from the command line. With --file many are
/// taken over: one JSON object a line, as {"id", "secret", "passphrase", "account", "dialect", "permissions", …}.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The key's id, as its holder knows it
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    id: Option<String>,
    /// Who holds it
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    account: Option<String>,
    /// File with one JSON object a line, which says all of its key itself; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = BOUND)]
    file: Option<PathBuf>,
    #[command(flatten)]
    bound: Bound,
    /// Environment variable that holds the secret
    #[arg(long, value_name = "VAR", conflicts_with_all = ["file", "secret_from"])]
    secret_env: Option<String>,
    /// File that holds the secret; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    secret_from: Option<PathBuf>,
    /// Environment variable that holds the passphrase, for dialects that have one
    #[arg(long, value_name = "VAR", conflicts_with = "file")]
    passphrase_env: Option<String>,
    #[command(flatten)]
    reason: Reason,
}

impl Args {
    pub(super) fn run(&self, desk: &mut Desk<'_>) -> Done {
        match &self.file {
            Some(file) => self.many(desk, file),
            None => self.one(desk),
        }
    }

    fn one(&self, desk: &mut Desk<'_>) -> Done {
        let account = self.account.as_deref().unwrap_or_default();
        let mut body = self.reason.beside(self.bound.body(account, desk.eye.now)?);
        let id = self.id.clone().unwrap_or_default();
        if let Some(fields) = body.as_object_mut() {
            fields.insert("id".into(), json!(id));
            if let Some(secret) = self.secret()? {
                fields.insert("secret".into(), json!(*secret));
            }
            if let Some(name) = &self.passphrase_env {
                let passphrase = variable(name).map_err(Failure::Usage)?;
                fields.insert("passphrase".into(), json!(*passphrase));
            }
        }
        let outcome = desk.api.post("/v1/keys/import", &body)?;
        desk.done(outcome, &id, &format!("{} imported", clean(&id)))
    }

    fn secret(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        let mut secret = Zeroizing::new(String::new());
        match (&self.secret_env, &self.secret_from) {
            (Some(name), _) => secret = variable(name).map_err(Failure::Usage)?,
            (None, Some(file)) => {
                open(file)?
                    .take(LONGEST_SECRET)
                    .read_to_string(&mut secret)
                    .map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
            }
            (None, None) => return Ok(None),
        }
        // Editors end files with a line break that is no part of the secret.
        let end = secret.trim_end_matches(['\n', '\r']).len();
        secret.truncate(end);
        Ok(Some(secret))
    }

    /// Takes over what it can; what it cannot is told by its line and its id.
    fn many(&self, desk: &mut Desk<'_>, file: &Path) -> Done {
        let (mut done, mut failed) = (0_usize, 0_usize);
        let progress = Progress::of("imported", None);
        for (at, line) in open(file)?.lines().enumerate() {
            let line = Zeroizing::new(line.map_err(|error| broken(file, at, &error.to_string()))?);
            if line.trim().is_empty() {
                continue;
            }
            // What stands there may be a secret: it is not repeated.
            let key: Value = serde_json::from_str(&line).map_err(|error| {
                broken(file, at, &format!("no JSON (column {})", error.column()))
            })?;
            let id = text(&key, "id").to_owned();
            match desk.api.post("/v1/keys/import", &self.reason.beside(key)) {
                Ok(_) => {
                    done += 1;
                    if desk.common.quiet {
                        writeln!(desk.out, "{}", clean(&id))?;
                    }
                }
                Err(error) => {
                    failed += 1;
                    progress.aside(&format!("line {}: {}: {error}", at + 1, clean(&id)));
                }
            }
            progress.at(done + failed);
        }
        progress.end();
        if desk.common.json {
            desk.document(json!({"imported": done, "failed": failed}))?;
        } else if !desk.common.quiet {
            writeln!(desk.out, "{} imported", counted(done, "key"))?;
        }
        if failed == 0 {
            return Ok(());
        }
        Err(Failure::Failed(format!("{} not imported", counted(failed, "key"))))
    }
}

fn broken(file: &Path, at: usize, problem: &str) -> Failure {
    Failure::Failed(format!("{}: line {}: {problem}", file.display(), at + 1))
}

fn open(file: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let opened = std::fs::File::open(file);
    let opened = opened.map_err(|error| Failure::Usage(format!("{}: {error}", file.display())))?;
    Ok(Box::new(BufReader::new(opened)))
}

/// What a line of a file says itself.
const BOUND: [&str; 12] = [
    "permissions",
    "allow",
    "dialect",
    "algorithm",
    "expires",
    "application",
    "label",
    "routes",
    "symbols",
    "limits",
    "venue",
    "public_key",
];
/// Far more than any secret or private key.
const LONGEST_SECRET: u64 = 64 * 1024;
const EXAMPLES: &str = "\
Example: countersign keys import --id OLDKEY --secret-from old.secret --account alice --permissions read,trade

  # many, from another system
  countersign keys import --file keys.jsonl";
