//! Why a gateway does not start.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::audit;
use crate::gateway;
use crate::gateway::tls::TlsError;
use crate::key::master::MasterError;
use crate::metrics;
use crate::registry::book::RegistryError;
use crate::store::memory::OpenError;
use crate::store::redis::Trouble;

/// Why a gateway does not start. The text says the cure.
#[derive(Debug)]
pub enum StartError {
    /// The store does not open.
    Store(OpenError),
    /// So many servers of the shared store can never be used as they are that the others are too few: which, and why.
    SharedStore(Vec<(String, Trouble)>),
    /// The system gives no random bytes.
    Random(getrandom::Error),
    /// The metrics contradict each other.
    Metrics(metrics::Error),
    /// The audit trail does not open.
    Audit(audit::OpenError),
    /// The admin address cannot be listened on.
    Admin(SocketAddr, io::Error),
    /// The certificates of the admin address cannot be used.
    AdminTls(TlsError),
    /// The admin socket cannot be listened on.
    AdminSocket(PathBuf, io::Error),
    /// The registry does not open.
    Registry(RegistryError),
    /// There are no master keys.
    Masters(MasterError),
    /// The data plane does not start.
    Gateway(gateway::StartError),
    /// The system gives no thread or event queue.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::SharedStore(troubles) => {
                f.write_str("the shared store cannot be used as it is:")?;
                troubles
                    .iter()
                    .try_for_each(|(server, trouble)| write!(f, "\n  {server} {trouble}"))
            }
            Self::Random(error) => write!(f, "the system gives no random bytes: {error}"),
            Self::Metrics(error) => write!(f, "the metrics cannot be declared: {error}"),
            Self::Audit(error) => error.fmt(f),
            Self::Admin(address, error) if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "admin address {address} is in use: stop what has it, or set another one under `[admin]` \
                 (with `demo`: --admin-listen)"
            ),
            Self::Admin(address, error) => {
                write!(f, "cannot listen on admin address {address}: {error}")
            }
            Self::AdminTls(error) => error.fmt(f),
            Self::AdminSocket(path, error) => {
                write!(f, "cannot listen on admin socket {}: {error}", path.display())
            }
            Self::Registry(error) => error.fmt(f),
            Self::Masters(error) => error.fmt(f),
            Self::Gateway(error) => error.fmt(f),
            Self::System(error) => write!(f, "cannot start the control plane: {error}"),
        }
    }
}

impl std::error::Error for StartError {}
