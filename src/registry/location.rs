//! Where a registry is kept.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::book::{Registry, RegistryError};
use super::embedded::Embedded;
use super::postgres::{Options, Postgres};

/// Where a registry is kept.
#[derive(Clone, Debug)]
pub enum Location {
    /// In memory: it ends with the process.
    Memory,
    /// In a file that one process has open.
    File(PathBuf),
    /// In PostgreSQL, which gateways share.
    Postgres(Box<Options>),
}

impl Location {
    /// Its kind, as the configuration names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Memory | Self::File(_) => "embedded",
            Self::Postgres(_) => "postgres",
        }
    }
}

/// Says where, without a password.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("in memory"),
            Self::File(path) => write!(f, "in {}", path.display()),
            Self::Postgres(options) => write!(f, "in PostgreSQL at {}", options.place()),
        }
    }
}

/// Opens the registry. A file is made and brought up to date; the tables of PostgreSQL never are.
///
/// Blocks until it is open or cannot be.
pub fn open(location: &Location) -> Result<Arc<dyn Registry>, RegistryError> {
    Ok(match location {
        Location::Memory => Arc::new(Embedded::in_memory()?),
        Location::File(path) => Arc::new(Embedded::open(path)?),
        Location::Postgres(options) => Arc::new(Postgres::open((**options).clone())?),
    })
}
