//! Why nothing became of an act on a key, and what to do instead.

use std::fmt;

use crate::clock::Micros;

/// Why an act is refused. Each has its [cure](Self::cure).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The key is revoked, for good.
    Revoked,
    /// The key has expired.
    Expired,
    /// The key is not suspended, so it cannot be resumed.
    NotSuspended,
    /// The key is suspended already.
    Suspended,
    /// A secret is still on its way out, until then.
    Rotating(Micros),
    /// The key may withdraw, and is bound to no network.
    UnboundWithdraw,
    /// The application may not do this itself.
    BeyondApplication(Vec<String>),
    /// The application is stopped.
    ApplicationStopped,
    /// The application lost the keys that were made so early.
    ApplicationCompromised,
    /// It would end before it begins.
    EndsInThePast,
    /// The overlap is longer than 90 days.
    LongOverlap,
    /// The key can do nothing.
    NoPermission,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revoked => f.write_str("the key is revoked, and a revoked key never comes back"),
            Self::Expired => f.write_str("the key has expired"),
            Self::NotSuspended => f.write_str("the key is not suspended"),
            Self::Suspended => f.write_str("the key is suspended already"),
            Self::Rotating(until) => {
                write!(f, "an earlier secret of the key is still good until {until}")
            }
            Self::UnboundWithdraw => f.write_str(
                "a key that may withdraw has no allowlist: whoever steals it empties the account",
            ),
            Self::BeyondApplication(permissions) => {
                write!(f, "its application may not do this itself: {}", permissions.join(", "))
            }
            Self::ApplicationStopped => f.write_str("its application is stopped"),
            Self::ApplicationCompromised => {
                f.write_str("its application lost the keys of the time it was made")
            }
            Self::EndsInThePast => f.write_str("it would end at once"),
            Self::LongOverlap => f.write_str("two secrets at a time for more than 90 days"),
            Self::NoPermission => f.write_str("the key may do nothing"),
        }
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// What to do instead.
    pub const fn cure(&self) -> &'static str {
        match self {
            Self::Revoked | Self::Expired | Self::ApplicationCompromised => {
                "issue a new key with the same bindings"
            }
            Self::NotSuspended => "only a suspended key is resumed",
            Self::Suspended => "resume it, or revoke it for good",
            Self::Rotating(_) => {
                "wait until then, or rotate with an overlap of 0, which ends both earlier secrets now"
            }
            Self::UnboundWithdraw => "give it an allowlist, or take `withdraw` away",
            Self::BeyondApplication(_) => {
                "leave these permissions out, or give them to the application first"
            }
            Self::ApplicationStopped => "start the application first",
            Self::EndsInThePast => "name a later moment; to end the key now, revoke it",
            Self::LongOverlap => "name a shorter overlap",
            Self::NoPermission => "name at least one permission; to stop the key, suspend it",
        }
    }
}
