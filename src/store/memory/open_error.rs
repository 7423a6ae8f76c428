//! What keeps the store from being opened, and what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why the store could not be opened. The text says the cure.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has the state directory.
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A file of the state directory cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the state directory is not as it was written.
    Corrupt {
        /// The file.
        path: PathBuf,
    },
    /// The state directory takes no writes.
    Unwritable {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no random numbers.
    Randomness,
    /// The system gave no thread.
    Thread(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { path } => write!(
                f,
                "the state directory {} is in use by another process: stop that one, or give this one its own directory",
                path.display()
            ),
            Self::Unreadable { path, source } => write!(
                f,
                "cannot read {}: {source}; let this user read it, or restore it from a backup",
                path.display()
            ),
            Self::Corrupt { path } => write!(
                f,
                "{} is damaged: restore it from a backup that is as new; or make sure that the clock is right, wait \
                 until every request signed so far has expired, give keys that sign with growing numbers or with \
                 nonces alone new secrets, and remove it",
                path.display()
            ),
            Self::Unwritable { path, source } => write!(
                f,
                "cannot write to the state directory {}: {source}; let this user write there, and see that the disk has room",
                path.display()
            ),
            Self::Randomness => f.write_str(
                "the system gives no random numbers: it must offer getrandom or /dev/urandom",
            ),
            Self::Thread(source) => {
                write!(
                    f,
                    "cannot start the thread that writes the state: {source}; raise the limit of threads"
                )
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { path: _, source }
            | Self::Unwritable { path: _, source }
            | Self::Thread(source) => Some(source),
            Self::Locked { path: _ } | Self::Corrupt { path: _ } | Self::Randomness => None,
        }
    }
}
