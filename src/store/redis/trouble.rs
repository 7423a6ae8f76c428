//! What can be wrong with a server.

use std::fmt;
use std::time::Duration;

use redis::{ErrorKind, RedisError};

/// Why a server is not asked, or did not answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// It was never reached yet.
    Unknown,
    /// It cannot be reached.
    Unreachable(String),
    /// It did not answer in time.
    Slow,
    /// It answered with an error: loading, read-only, full, no permission and the like.
    Refuses(String),
    /// It is older than version 7.
    TooOld(String),
    /// It may evict what must be remembered; the text is its policy.
    Evicts(String),
    /// It has a library of our name with other code.
    OtherLibrary,
    /// Another name leads to the same process.
    Twin,
    /// Its clock is further from ours than the bound.
    Clock(Duration),
    /// It says that it is a primary, and too few other nodes of its cluster say so.
    Unconfirmed,
    /// A cluster has so few nodes with slots.
    FewPrimaries(usize),
    /// A lease would last longer than the time after which a cut-off primary stops by itself; both.
    LongLease(Duration, Duration),
}

/// The kinds of trouble, as metrics have them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ailment {
    /// It cannot be reached.
    Down,
    /// It did not answer in time.
    Timeout,
    /// It is loading its data.
    Loading,
    /// It is a replica, or takes no writes.
    ReadOnly,
    /// Its memory is used up.
    OutOfMemory,
    /// It sends to another server.
    Moved,
    /// It does not know us, or does not let us.
    NotAuthorized,
    /// Its clock is off.
    Clock,
    /// It may evict.
    Evicting,
    /// Too few nodes of its cluster confirm that it is a primary.
    Unconfirmed,
    /// Anything else.
    Other,
}

impl Ailment {
    /// Every kind, in the order of its index, with its label.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Down, "down"),
        (Self::Timeout, "timeout"),
        (Self::Loading, "loading"),
        (Self::ReadOnly, "readonly"),
        (Self::OutOfMemory, "oom"),
        (Self::Moved, "moved"),
        (Self::NotAuthorized, "noauth"),
        (Self::Clock, "clock"),
        (Self::Evicting, "evicting"),
        (Self::Unconfirmed, "unconfirmed"),
        (Self::Other, "other"),
    ];
}

impl Trouble {
    /// What an answer of the redis library comes to.
    pub(super) fn of(error: &RedisError) -> Self {
        match error.code() {
            _ if error.is_timeout() => Self::Slow,
            _ if error.kind() == ErrorKind::AuthenticationFailed => {
                Self::Refuses("WRONGPASS user or password are not the server's".to_owned())
            }
            _ if error.is_io_error() || error.is_unrecoverable_error() => {
                Self::Unreachable(error.to_string())
            }
            Some(code) => Self::Refuses(format!("{code} {}", error.detail().unwrap_or_default())),
            None => Self::Refuses(error.to_string()),
        }
    }

    /// Whether it is about one slot of a cluster alone: the server is in order.
    pub(super) fn is_elsewhere(&self) -> bool {
        let Self::Refuses(why) = self else { return false };
        let code = why.split_ascii_whitespace().next().unwrap_or_default();
        matches!(code, "MOVED" | "ASK" | "TRYAGAIN")
    }

    /// Whether it lasts until somebody sets the server up in another way.
    ///
    /// Code of another version is not such a trouble: the gateways of that version are stopped as these come up.
    pub(super) fn needs_operator(&self) -> bool {
        match self {
            Self::TooOld(_) | Self::Evicts(_) => true,
            Self::Unknown
            | Self::Unreachable(_)
            | Self::Slow
            | Self::Refuses(_)
            | Self::OtherLibrary
            | Self::Twin
            | Self::Clock(_)
            | Self::Unconfirmed
            | Self::FewPrimaries(_)
            | Self::LongLease(_, _) => false,
        }
    }

    /// Its kind.
    pub fn ailment(&self) -> Ailment {
        match self {
            Self::Unknown | Self::Unreachable(_) => Ailment::Down,
            Self::Slow => Ailment::Timeout,
            Self::Refuses(why) => refusal(why),
            Self::TooOld(_) | Self::OtherLibrary | Self::Twin | Self::LongLease(_, _) => {
                Ailment::Other
            }
            Self::Unconfirmed | Self::FewPrimaries(_) => Ailment::Unconfirmed,
            Self::Evicts(_) => Ailment::Evicting,
            Self::Clock(_) => Ailment::Clock,
        }
    }
}

/// What the code that an error begins with means.
fn refusal(error: &str) -> Ailment {
    match error.split_ascii_whitespace().next().unwrap_or_default() {
        "LOADING" => Ailment::Loading,
        "READONLY" | "MASTERDOWN" | "NOREPLICAS" => Ailment::ReadOnly,
        "OOM" => Ailment::OutOfMemory,
        "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "CROSSSLOT" => Ailment::Moved,
        "NOAUTH" | "NOPERM" | "WRONGPASS" => Ailment::NotAuthorized,
        _ => Ailment::Other,
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("was not reached yet"),
            Self::Unreachable(why) => write!(f, "cannot be reached: {why}"),
            Self::Slow => f.write_str("did not answer in time"),
            Self::Refuses(why) => write!(f, "refuses: {why}"),
            Self::TooOld(version) => {
                write!(f, "has version {version}: Redis 7 or later is needed")
            }
            Self::Evicts(policy) => write!(
                f,
                "may evict what must be remembered (maxmemory-policy {policy}): set it to noeviction"
            ),
            Self::OtherLibrary => f.write_str(
                "has other code in a library countersign_*: run gateways of one version, or FUNCTION DELETE it",
            ),
            Self::Twin => f.write_str(
                "is the same server as another of the list, under another name: give each vote a server of its own",
            ),
            Self::Clock(apart) => write!(f, "has a clock {} ms away from ours", apart.as_millis()),
            Self::Unconfirmed => f.write_str(
                "says that it is a primary, but most nodes of its cluster do not: it may be cut off or replaced",
            ),
            Self::FewPrimaries(count) => write!(
                f,
                "is a cluster of {count} primaries: give it three or more, so that the others can replace one"
            ),
            Self::LongLease(lease, timeout) => write!(
                f,
                "has a cluster-node-timeout of {} ms, shorter than the lease of {} ms: set `lease` to no more, or raise it",
                timeout.as_millis(),
                lease.as_millis()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_a_server_has_its_kind() {
        for (said, kind) in [
            ("LOADING Redis is loading the dataset in memory", Ailment::Loading),
            ("READONLY You can't write against a read only replica.", Ailment::ReadOnly),
            ("OOM command not allowed when used memory > 'maxmemory'.", Ailment::OutOfMemory),
            ("MOVED 3999 127.0.0.1:6381", Ailment::Moved),
            ("NOAUTH Authentication required.", Ailment::NotAuthorized),
            ("ERR Function not found", Ailment::Other),
            ("", Ailment::Other),
        ] {
            assert_eq!(Trouble::Refuses(said.into()).ailment(), kind, "{said}");
        }
        assert_eq!(Trouble::Slow.ailment(), Ailment::Timeout);
    }
}
