//! What the client is told: coarse until the signature is proven.

use super::{Credential, Denial};

/// What a client is told. A recipe words each one in its dialect.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Condition {
    /// No such route.
    NotFound,
    /// Broken syntax, or a part the signature does not cover.
    Malformed,
    /// Too large.
    TooLarge,
    /// No key id.
    MissingKey,
    /// No signature.
    MissingSignature,
    /// No timestamp.
    MissingTimestamp,
    /// A timestamp that is no time.
    MalformedTimestamp,
    /// No passphrase.
    MissingPassphrase,
    /// A window beyond the maximum.
    WindowTooLarge,
    /// Too old.
    StaleTimestamp,
    /// Too far ahead.
    FutureTimestamp,
    /// Not genuine, and no more is said: unknown key, revoked key, wrong signature.
    BadSignature,
    /// There is no such key. Said only where the operator lets the dialect imitate its exchange.
    UnknownKey,
    /// The key was revoked. Said only where the operator lets the dialect imitate its exchange.
    RevokedKey,
    /// The passphrase is wrong.
    BadPassphrase,
    /// The key has expired.
    ExpiredKey,
    /// The address is not on the key's list.
    IpNotAllowed,
    /// The permission is missing.
    NoPermission,
    /// A code of the second factor is missing, or the challenge it must come with.
    MissingCode,
    /// The code of the second factor is wrong, or was used before.
    BadCode,
    /// A read that was seen before: sign again.
    ReplayedRead,
    /// A write that was seen before: it may have been executed, do not send it again.
    ReplayedWrite,
    /// The key's or account's limit is spent.
    RateLimited,
    /// The key's or account's limit of orders is spent.
    OrderLimited,
    /// The address's limit is spent.
    IpRateLimited,
    /// The address is banned for a while.
    IpBanned,
    /// The gateway cannot judge now: sign again and retry.
    Unavailable,
}

impl Condition {
    /// Every condition, with the name recipes use for it.
    pub const ALL: [(Self, &'static str); 27] = [
        (Self::NotFound, "not_found"),
        (Self::Malformed, "malformed"),
        (Self::TooLarge, "too_large"),
        (Self::MissingKey, "missing_key"),
        (Self::MissingSignature, "missing_signature"),
        (Self::MissingTimestamp, "missing_timestamp"),
        (Self::MalformedTimestamp, "malformed_timestamp"),
        (Self::MissingPassphrase, "missing_passphrase"),
        (Self::WindowTooLarge, "window_too_large"),
        (Self::StaleTimestamp, "stale_timestamp"),
        (Self::FutureTimestamp, "future_timestamp"),
        (Self::BadSignature, "bad_signature"),
        (Self::UnknownKey, "unknown_key"),
        (Self::RevokedKey, "revoked_key"),
        (Self::BadPassphrase, "bad_passphrase"),
        (Self::ExpiredKey, "expired_key"),
        (Self::IpNotAllowed, "ip_not_allowed"),
        (Self::NoPermission, "no_permission"),
        (Self::MissingCode, "missing_code"),
        (Self::BadCode, "bad_code"),
        (Self::ReplayedRead, "replayed_read"),
        (Self::ReplayedWrite, "replayed_write"),
        (Self::RateLimited, "rate_limited"),
        (Self::OrderLimited, "order_rate_limited"),
        (Self::IpRateLimited, "ip_rate_limited"),
        (Self::IpBanned, "ip_banned"),
        (Self::Unavailable, "unavailable"),
    ];

    /// Whether it is told only by a dialect that imitates its exchange.
    pub const fn needs_imitation(self) -> bool {
        matches!(self, Self::UnknownKey | Self::RevokedKey)
    }

    /// The name that recipes use.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(condition, _)| *condition == self).map_or("", |(_, name)| name)
    }
}

impl Denial {
    /// What the client is told. `write` is whether the route changes anything.
    pub const fn condition(&self, write: bool) -> Condition {
        match self {
            Self::NoRoute => Condition::NotFound,
            Self::Malformed(_) | Self::Twice(_) | Self::Unsigned(_) | Self::Ambiguous(_) => {
                Condition::Malformed
            }
            Self::TooLarge => Condition::TooLarge,
            Self::Missing(credential) => match credential {
                Credential::Key => Condition::MissingKey,
                Credential::Signature | Credential::Algorithm => Condition::MissingSignature,
                Credential::Time | Credential::Window | Credential::Nonce => {
                    Condition::MissingTimestamp
                }
                Credential::Passphrase => Condition::MissingPassphrase,
            },
            Self::Garbled(credential) => match credential {
                Credential::Time | Credential::Nonce => Condition::MalformedTimestamp,
                Credential::Window => Condition::Malformed,
                // A signature of the wrong length, or by another algorithm than a key's, is a wrong signature; a key id
                // that cannot be is unknown.
                Credential::Key
                | Credential::Signature
                | Credential::Passphrase
                | Credential::Algorithm => Condition::BadSignature,
            },
            Self::WindowTooLarge => Condition::WindowTooLarge,
            Self::Stale(_) => Condition::StaleTimestamp,
            Self::Ahead(_) => Condition::FutureTimestamp,
            Self::AddressLimited(_)
            | Self::TooManyFailures(_)
            | Self::TooManyGuesses(_)
            | Self::TooManyCodes(_) => Condition::IpRateLimited,
            Self::Banned(_) => Condition::IpBanned,
            // One answer, byte for byte: a stranger must not learn which keys exist.
            Self::UnknownKey
            | Self::WrongDialect
            | Self::BadSignature
            | Self::KeyInactive
            | Self::WrongVenue => Condition::BadSignature,
            Self::BadPassphrase => Condition::BadPassphrase,
            Self::KeyExpired => Condition::ExpiredKey,
            Self::AddressRefused | Self::ApplicationAddressRefused => Condition::IpNotAllowed,
            // What is switched off is no matter of trying again.
            Self::NotPermitted
            | Self::RouteRefused
            | Self::SymbolRefused
            | Self::TradeEnded
            | Self::SwitchedOff
            | Self::NoFactor => Condition::NoPermission,
            Self::MissingCode | Self::Challenged(_) => Condition::MissingCode,
            Self::BadCode | Self::CodeSpent => Condition::BadCode,
            Self::Replayed => {
                if write {
                    Condition::ReplayedWrite
                } else {
                    Condition::ReplayedRead
                }
            }
            Self::Limited(_) => Condition::RateLimited,
            Self::OrdersLimited(_) => Condition::OrderLimited,
            Self::Fenced(_) | Self::StoreFull | Self::Unavailable => Condition::Unavailable,
        }
    }

    /// What the client is told where strangers may learn which keys exist, as at many exchanges.
    pub const fn imitated(&self, write: bool) -> Condition {
        match self {
            Self::UnknownKey | Self::WrongDialect | Self::WrongVenue => Condition::UnknownKey,
            Self::KeyInactive => Condition::RevokedKey,
            Self::NoRoute
            | Self::Malformed(_)
            | Self::TooLarge
            | Self::Missing(_)
            | Self::Twice(_)
            | Self::Garbled(_)
            | Self::Unsigned(_)
            | Self::Ambiguous(_)
            | Self::WindowTooLarge
            | Self::Stale(_)
            | Self::Ahead(_)
            | Self::Banned(_)
            | Self::TooManyFailures(_)
            | Self::BadSignature
            | Self::TooManyGuesses(_)
            | Self::BadPassphrase
            | Self::KeyExpired
            | Self::AddressRefused
            | Self::ApplicationAddressRefused
            | Self::NotPermitted
            | Self::RouteRefused
            | Self::SymbolRefused
            | Self::TradeEnded
            | Self::SwitchedOff
            | Self::NoFactor
            | Self::MissingCode
            | Self::Challenged(_)
            | Self::TooManyCodes(_)
            | Self::BadCode
            | Self::Fenced(_)
            | Self::Replayed
            | Self::CodeSpent
            | Self::Limited(_)
            | Self::OrdersLimited(_)
            | Self::AddressLimited(_)
            | Self::StoreFull
            | Self::Unavailable => self.condition(write),
        }
    }
}
