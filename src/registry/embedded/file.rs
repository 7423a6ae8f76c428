//! The file of the registry: made whole or not at all, readable by its owner alone.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Builder, Database, StorageBackend, StorageError};

use super::fault::{failed, unopened};
use super::storage::{Health, Watched};
use super::tables;
use crate::registry::book::RegistryError;
use crate::registry::migrate::Migrated;

/// Opens the file, which is made where there is none.
pub(super) fn open(path: &Path, health: &Health) -> Result<(Database, Migrated), RegistryError> {
    let unwritable = |error: io::Error| {
        RegistryError::Unavailable(format!(
            "{}: {error}; see that the directory is there and this user may write to it",
            path.display()
        ))
    };
    let is_new = !path.try_exists().map_err(unwritable)?;
    if is_new {
        make(path).map_err(unwritable)??;
    }
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(unwritable)?;
    // The file is made whole, so one of no bytes has lost them: to begin anew in it would bring revoked keys back.
    if file.metadata().map_err(unwritable)?.len() == 0 {
        let empty = StorageError::Corrupted("it is empty".into());
        return Err(unopened(path, &empty.into()));
    }
    let db = FileBackend::new(file)
        .and_then(|file| builder().create_with_backend(Watched::new(file, health)));
    let db = db.map_err(|error| unopened(path, &error))?;
    let mut migrated = bring_up_to_date(&db)?;
    if is_new {
        migrated =
            Migrated { from: 0, steps: vec![format!("make {}", path.display())], ..migrated };
    }
    Ok((db, migrated))
}

/// A registry that ends with the process.
pub(super) fn in_memory() -> Result<(Database, Migrated), RegistryError> {
    on(InMemoryBackend::new())
}

pub(super) fn on(backend: impl StorageBackend) -> Result<(Database, Migrated), RegistryError> {
    let db = builder().create_with_backend(backend).map_err(failed)?;
    let migrated = bring_up_to_date(&db)?;
    Ok((db, migrated))
}

/// Makes an empty registry under a name of its own and then gives it its name: a crash leaves no half of one.
fn make(path: &Path) -> io::Result<Result<(), RegistryError>> {
    let draft = draft(path);
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let file = private(&draft)?;
    let made = FileBackend::new(file).and_then(|file| builder().create_with_backend(file));
    let made = made.map_err(|error| unopened(&draft, &error));
    if let Err(error) = made.and_then(|db| bring_up_to_date(&db)) {
        return Ok(Err(error));
    }
    // Unlike a rename this leaves alone what another process made meanwhile.
    match fs::hard_link(&draft, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::remove_file(&draft)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(Ok(()))
}

fn draft(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    name.into()
}

fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

/// What is read again and again is kept by the caller; these are the inner pages of the trees.
const CACHE_BYTES: usize = 64 << 20;

/// Brings the tables to the format that this program knows.
fn bring_up_to_date(db: &Database) -> Result<Migrated, RegistryError> {
    let tx = db.begin_write().map_err(failed)?;
    let from = tables::format(&tx)?;
    let mut steps = Vec::new();
    match from {
        0 => {
            tables::make(&tx)?;
            steps.push("make the tables of records and their history".to_owned());
            tx.commit().map_err(failed)?;
        }
        FORMAT => tx.abort().map_err(failed)?,
        newer => {
            return Err(RegistryError::Format(format!(
                "it is of format {newer}, and this program knows those up to {FORMAT}: use a newer countersign"
            )));
        }
    }
    Ok(Migrated { from, to: FORMAT, steps })
}

/// The newest format of the file.
pub(super) const FORMAT: u64 = 1;
