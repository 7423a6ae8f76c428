//! What redb says, in the words of the registry.

use std::io;
use std::path::Path;

use redb::{DatabaseError, StorageError};

use crate::registry::book::RegistryError;

/// Why a transaction came to nothing.
pub(super) fn failed(error: impl Into<redb::Error>) -> RegistryError {
    let error = error.into();
    let told = error.to_string();
    if matches!(error, redb::Error::Corrupted(_)) {
        return RegistryError::Damaged(format!("{told}; restore the file from a backup"));
    }
    RegistryError::Unavailable(told)
}

/// Why a file cannot be opened.
pub(super) fn unopened(path: &Path, error: &DatabaseError) -> RegistryError {
    let path = path.display();
    if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
        return RegistryError::Unavailable(format!(
            "{path} is in use by another process: stop that one, or ask it over its admin API; gateways that run at \
             the same time share a PostgreSQL registry"
        ));
    }
    if matches!(error, DatabaseError::UpgradeRequired(_) | DatabaseError::LockProtocolMismatch) {
        return RegistryError::Format(format!(
            "{path} was written by a program of another version ({error}): use that version"
        ));
    }
    let damage = if let DatabaseError::Storage(StorageError::Corrupted(why)) = error {
        Some(why.clone())
    } else if let DatabaseError::Storage(StorageError::Io(error)) = error
        && error.kind() == io::ErrorKind::InvalidData
    {
        Some(error.to_string())
    } else {
        None
    };
    if let Some(why) = damage {
        return RegistryError::Damaged(format!(
            "{path}: {why}; restore the file from a backup, or give `path` another name where this is no registry"
        ));
    }
    RegistryError::Unavailable(format!("{path}: {error}; see that this user may write there"))
}
