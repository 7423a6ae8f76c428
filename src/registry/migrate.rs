//! Brings a registry to the format that this program knows, and says what is in one.

use super::book::{Answer, Kind, Registry, RegistryError};
use super::embedded::{self, Embedded};
use super::location::Location;
use super::postgres::Postgres;

/// What was done to bring a registry up to date.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Migrated {
    /// The format it had; 0 where there was none.
    pub from: u64,
    /// The format it has.
    pub to: u64,
    /// What was done, one step after the other; nothing where it was up to date.
    pub steps: Vec<String>,
}

/// What is in a registry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    /// The format of its tables; 0 where there are none.
    pub format: u64,
    /// The newest format that this program knows.
    pub newest: u64,
    /// The revision of the last change.
    pub revision: u64,
    /// How many records of each kind there are.
    pub records: Vec<(Kind, u64)>,
}

/// Brings the tables to the newest format. They are never taken back.
///
/// A file is brought up to date whenever it is opened. Blocks; call it where nothing asynchronous runs.
pub fn migrate(location: &Location) -> Result<Migrated, RegistryError> {
    match location {
        Location::Memory => Embedded::in_memory().map(|registry| registry.migrated().clone()),
        Location::File(path) => Embedded::open(path).map(|registry| registry.migrated().clone()),
        Location::Postgres(options) => Postgres::migrate(options),
    }
}

/// What is in the registry, which is left as it is.
///
/// Blocks; call it where nothing asynchronous runs.
pub fn status(location: &Location) -> Result<Status, RegistryError> {
    match location {
        Location::Memory => embedded_status(&Embedded::in_memory()?),
        Location::File(path) => match path.try_exists() {
            Ok(false) => Ok(nothing(0, embedded::FORMAT)),
            Ok(true) | Err(_) => embedded_status(&Embedded::open(path)?),
        },
        Location::Postgres(options) => match Postgres::format(options)? {
            (format, newest) if format != newest => Ok(nothing(format, newest)),
            (format, newest) => {
                let registry = Postgres::open((**options).clone())?;
                filled(&registry, registry.counts(), format, newest)
            }
        },
    }
}

fn nothing(format: u64, newest: u64) -> Status {
    Status { format, newest, revision: 0, records: Vec::new() }
}

fn embedded_status(registry: &Embedded) -> Result<Status, RegistryError> {
    filled(registry, registry.counts(), embedded::FORMAT, embedded::FORMAT)
}

fn filled(
    registry: &dyn Registry,
    counts: Answer<'_, Vec<(Kind, u64)>>,
    format: u64,
    newest: u64,
) -> Result<Status, RegistryError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| {
        RegistryError::Unavailable(format!("there is nothing to wait with: {error}"))
    })?;
    let records = runtime.block_on(counts)?;
    Ok(Status { format, newest, revision: runtime.block_on(registry.revision())?, records })
}
