//! Secrets that are told once: on standard output, or to a file that its owner alone can read.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use zeroize::Zeroizing;

use super::admin::Outcome;
use super::desk::{Common, Desk, Done, Failure};
use super::text::{clean, text};

/// Where a secret goes.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Keep {
    /// Write the secret to this new file, which only you can read, instead of printing it; a passphrase goes to FILE.passphrase
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// The files that secrets go to, made before anything is asked for: a secret that cannot be kept is never made.
pub(super) struct Kept {
    secret: Option<(PathBuf, File)>,
}

impl Keep {
    /// Makes the file, if one was named. Without one, `-q` would lose the secret, if there is to be any: for a pair there
    /// is `none`.
    pub(super) fn prepare(&self, common: &Common, none: bool) -> Result<Kept, Failure> {
        let Some(path) = &self.secret_file else {
            if common.quiet && !none {
                return Err(Failure::Usage(
                    "-q prints no secret, and it is told once\n  add --secret-file FILE".to_owned(),
                ));
            }
            return Ok(Kept { secret: None });
        };
        let file = private(path)?;
        Ok(Kept { secret: Some((path.clone(), file)) })
    }
}

impl Kept {
    /// Nothing came that could be kept.
    pub(super) fn discard(self) {
        if let Some((path, _)) = self.secret {
            // An empty file does no harm.
            drop(std::fs::remove_file(path));
        }
    }

    /// What came of asking, with what waits for its secret; a refusal leaves no file behind.
    pub(super) fn unless_refused(
        self,
        desk: &mut Desk<'_>,
        asked: Result<Outcome, Failure>,
    ) -> Result<Option<(Value, Self)>, Failure> {
        match asked.and_then(|outcome| desk.settled(outcome)) {
            Ok(Some(answer)) => Ok(Some((answer, self))),
            other => {
                self.discard();
                other.map(|_| None)
            }
        }
    }

    /// Writes what `issued` holds to the files and takes it out; without files it stays in.
    pub(super) fn write(self, issued: &mut Value) -> Result<Option<PathBuf>, Failure> {
        let Some((path, mut file)) = self.secret else { return Ok(None) };
        let Some(fields) = issued.as_object_mut() else { return Ok(None) };
        let mut take = |name: &str| match fields.remove(name) {
            Some(Value::String(text)) => Some(Zeroizing::new(text)),
            _ => None,
        };
        let Some(secret) = take("secret") else {
            drop(std::fs::remove_file(&path));
            return Ok(None);
        };
        let failed = |at: &Path, error: &io::Error| {
            Failure::Failed(format!(
                "{}: {error}\n  the key was made, but its secret is lost: rotate it",
                at.display()
            ))
        };
        fill(&mut file, &secret).map_err(|error| failed(&path, &error))?;
        if let Some(passphrase) = take("passphrase") {
            let mut beside = path.clone().into_os_string();
            beside.push(".passphrase");
            let beside = PathBuf::from(beside);
            let mut file = private(&beside)?;
            fill(&mut file, &passphrase).map_err(|error| failed(&beside, &error))?;
        }
        fields.insert("secret_file".into(), path.display().to_string().into());
        Ok(Some(path))
    }
}

/// A new file of mode 0600.
pub(super) fn private(path: &Path) -> Result<File, Failure> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|error| {
        let at = path.display();
        Failure::Usage(if error.kind() == io::ErrorKind::AlreadyExists {
            format!(
                "{at} is there already, and is not overwritten\n  name a new file, or move it away"
            )
        } else {
            format!("{at}: {error}")
        })
    })
}

/// Text and a line end, on the disk.
pub(super) fn fill(file: &mut File, text: &str) -> io::Result<()> {
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

/// Prints what was issued: id, secret, passphrase, and what else `told` names.
pub(super) fn issued(
    desk: &mut Desk<'_>,
    mut answer: Value,
    kept: Kept,
    told: &[(&str, String)],
) -> Done {
    let id = clean(text(&answer, "id"));
    let waits = clean(answer.get("approval").map_or("", |approval| text(approval, "id")));
    let file = kept.write(&mut answer)?;
    let printed = answer.get("secret").is_some();
    let shown = print(desk, answer, &id, told).and_then(|()| Ok(desk.out.flush()?));
    if let (Err(Failure::Output(error)), true) = (&shown, printed) {
        return Err(lost(&id, error));
    }
    shown?;
    if !waits.is_empty() {
        desk.note(&format!(
            "`withdraw` waits for a second person, who runs: countersign approvals approve {waits}"
        ))?;
    }
    warn(desk, file.as_deref(), printed)
}

/// Where the secret is, and that it cannot be had again.
pub(super) fn warn(desk: &mut Desk<'_>, file: Option<&Path>, printed: bool) -> Done {
    match file {
        Some(path) => desk.note(&format!(
            "The secret is in {}, which only you can read; it cannot be had again.",
            path.display()
        )),
        None if printed => {
            desk.note("The secret is told this once and cannot be had again: put it away now.")
        }
        None => Ok(()),
    }
}

/// A key was made, and nobody saw its secret.
pub(super) fn lost(id: &str, error: &io::Error) -> Failure {
    Failure::Failed(format!(
        "{id} is made, but its secret could not be shown: {error}\n  rotate it with `countersign keys rotate {id}`"
    ))
}

fn print(desk: &mut Desk<'_>, answer: Value, id: &str, told: &[(&str, String)]) -> Done {
    if desk.common.json {
        return desk.document(answer);
    }
    if desk.common.quiet {
        writeln!(desk.out, "{id}")?;
        return Ok(());
    }
    let mut lines = vec![("id", id.to_owned())];
    for name in ["secret", "passphrase"] {
        let value = text(&answer, name);
        if !value.is_empty() {
            lines.push((name, clean(value)));
        }
    }
    lines.extend_from_slice(told);
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in lines {
        writeln!(desk.out, "{name:width$}  {value}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_goes_to_a_new_file_that_its_owner_alone_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let kept = Kept { secret: Some((path.clone(), private(&path).unwrap())) };
        let mut answer = json!({"id": "csk_1", "secret": "planted", "passphrase": "pass"});
        assert_eq!(kept.write(&mut answer).unwrap(), Some(path.clone()));
        assert_eq!(answer, json!({"id": "csk_1", "secret_file": path.to_str()}));
        for (file, text) in
            [(path.clone(), "planted\n"), (dir.path().join("secret.passphrase"), "pass\n")]
        {
            assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
            assert_eq!(std::fs::read_to_string(file).unwrap(), text);
        }
        assert!(matches!(private(&path), Err(Failure::Usage(told)) if told.contains("new file")));
    }

    #[test]
    fn a_file_that_no_secret_came_for_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let kept = Kept { secret: Some((path.clone(), private(&path).unwrap())) };
        assert_eq!(kept.write(&mut json!({"id": "csk_1"})).unwrap(), None);
        assert!(!path.exists());
    }
}
