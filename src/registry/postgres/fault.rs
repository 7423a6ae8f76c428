//! What PostgreSQL says, in the words of the registry.

use std::error::Error as _;
use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::registry::book::RegistryError;

/// Why a question came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server or the connection to it.
    Postgres(tokio_postgres::Error),
    /// What came back.
    Registry(RegistryError),
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

impl Failure {
    /// Whether the connection is of no use any more.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            Self::Postgres(error) => error.as_db_error().is_none_or(|told| {
                // 57P01 to 57P03: the server ends, has crashed, or starts.
                told.code().code().starts_with("57P") || told.code().code().starts_with("08")
            }),
            Self::Registry(_) => false,
        }
    }

    pub(super) fn told(self) -> RegistryError {
        match self {
            Self::Postgres(error) => told(&error),
            Self::Registry(error) => error,
        }
    }
}

/// The cause in the terms of the registry. Nothing in it repeats a password.
pub(super) fn told(error: &tokio_postgres::Error) -> RegistryError {
    let Some(db) = error.as_db_error() else {
        let cause = error.source().map_or_else(String::new, |cause| format!(" ({cause})"));
        return RegistryError::Unavailable(format!("{error}{cause}"));
    };
    let code = db.code();
    let said = format!("{} ({})", db.message(), code.code());
    let unmade = [
        SqlState::UNDEFINED_TABLE,
        SqlState::UNDEFINED_COLUMN,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::DATATYPE_MISMATCH,
    ];
    if unmade.contains(code) {
        return RegistryError::Format(format!("{said}; {MIGRATE}"));
    }
    if [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code) {
        return RegistryError::Damaged(format!("{said}; restore the database from a backup"));
    }
    RegistryError::Unavailable(said)
}

/// It took too long.
pub(super) fn late(timeout: Duration) -> RegistryError {
    RegistryError::Unavailable(format!("no answer within {} ms", timeout.as_millis()))
}

pub(super) fn closed() -> RegistryError {
    RegistryError::Unavailable("it is closed".into())
}

/// What brings the tables up to date.
pub(super) const MIGRATE: &str = "run `countersign registry migrate --config FILE`";
