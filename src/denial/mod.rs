//! Every reason to turn a request away, in the order the checks run.
//!
//! Precise inside (metrics, logs), coarse outside until the signature is proven: [`Denial::condition`] says
//! which answer the client gets, and unknown key, revoked key and wrong signature share one. Where a dialect
//! imitates its exchange, [`Denial::imitated`] tells them apart.

mod challenge;
mod condition;
mod credential;
mod shadowed;

use std::time::Duration;

pub use challenge::Challenge;
pub use condition::Condition;
pub use credential::Credential;
pub use shadowed::Shadowed;

/// A reason to turn a request away, in the order the checks run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Denial {
    /// No route matches host, method and path.
    NoRoute,
    /// The request breaks a rule of syntax; the text says which.
    Malformed(&'static str),
    /// The head or the body is larger than allowed.
    TooLarge,
    /// A credential is missing.
    Missing(Credential),
    /// A credential stands twice, or in two places.
    Twice(Credential),
    /// A credential cannot be read.
    Garbled(Credential),
    /// The signature does not cover a part that was sent; the text says which.
    Unsigned(&'static str),
    /// Another request could carry the same signed bytes; the text says why.
    Ambiguous(&'static str),
    /// The client asks for a longer window than the dialect allows.
    WindowTooLarge,
    /// Signed too long ago, by this much beyond the window; or with a number that was outgrown.
    Stale(Duration),
    /// Signed in the future, by this much in all.
    Ahead(Duration),
    /// The address is banned, and the request proves nothing.
    Banned(Excess),
    /// The address has failed too often lately, and the request proves nothing; or its proof would be costly, and the
    /// key was not lately proved from there.
    TooManyFailures(Excess),
    /// There is no such key.
    UnknownKey,
    /// The key is for another dialect.
    WrongDialect,
    /// The signature does not hold.
    BadSignature,
    /// The key was revoked, or is suspended.
    KeyInactive,
    /// The key belongs to another venue.
    WrongVenue,
    /// The signature holds, and too many passphrases of this key were tried from this address.
    TooManyGuesses(Excess),
    /// The signature holds, the passphrase does not.
    BadPassphrase,
    /// The key has expired.
    KeyExpired,
    /// The key may not be used from this address.
    AddressRefused,
    /// The application that the key was made for may not be used from this address.
    ApplicationAddressRefused,
    /// The key lacks the permission that the route asks for.
    NotPermitted,
    /// The key is for other routes.
    RouteRefused,
    /// The key is bound to symbols, and the request is not plainly for one of them.
    SymbolRefused,
    /// The key is bound to no network, and its time to trade unbound is over.
    TradeEnded,
    /// What the route asks for is switched off, for every key.
    SwitchedOff,
    /// The route asks for a second factor, and the account has none.
    NoFactor,
    /// The route asks for a code of the second factor, and none was sent.
    MissingCode,
    /// The route asks for a code together with a challenge: this one.
    Challenged(Challenge),
    /// Too many codes of this account were tried, from this address or in all.
    TooManyCodes(Excess),
    /// The code is wrong. The request is spent.
    BadCode,
    /// Signed before the store was sure to remember everything.
    Fenced(Duration),
    /// These signed bytes were seen before.
    Replayed,
    /// The code was used before, or a later one was.
    CodeSpent,
    /// The key's or account's limit is spent.
    Limited(Excess),
    /// The key's or account's limit of orders is spent.
    OrdersLimited(Excess),
    /// The address's limit is spent.
    AddressLimited(Excess),
    /// No room to remember another request.
    StoreFull,
    /// A store or the registry did not answer: nothing can be proved, so nothing passes.
    Unavailable,
}

/// By how much a limit was exceeded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Excess {
    /// After how long the request would fit.
    pub retry_after: Duration,
    /// Units spent.
    pub level: u32,
    /// Units allowed.
    pub quota: u32,
    /// The period of the limit.
    pub period: Duration,
}

impl Denial {
    /// The label of this reason in metrics and logs.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::Malformed(_) => "malformed",
            Self::TooLarge => "too_large",
            Self::Missing(_) => "missing_credential",
            Self::Twice(_) => "credential_twice",
            Self::Garbled(_) => "garbled_credential",
            Self::Unsigned(_) => "unsigned_part",
            Self::Ambiguous(_) => "ambiguous",
            Self::WindowTooLarge => "window_too_large",
            Self::Stale(_) => "stale",
            Self::Ahead(_) => "ahead",
            Self::Banned(_) => "banned",
            Self::TooManyFailures(_) => "too_many_failures",
            Self::UnknownKey => "unknown_key",
            Self::WrongDialect => "wrong_dialect",
            Self::BadSignature => "bad_signature",
            Self::KeyInactive => "key_inactive",
            Self::WrongVenue => "wrong_venue",
            Self::TooManyGuesses(_) => "too_many_guesses",
            Self::BadPassphrase => "bad_passphrase",
            Self::KeyExpired => "key_expired",
            Self::AddressRefused => "address_refused",
            Self::ApplicationAddressRefused => "application_address_refused",
            Self::NotPermitted => "not_permitted",
            Self::RouteRefused => "route_refused",
            Self::SymbolRefused => "symbol_refused",
            Self::TradeEnded => "trade_ended",
            Self::SwitchedOff => "switched_off",
            Self::NoFactor => "no_factor",
            Self::MissingCode => "missing_code",
            Self::Challenged(_) => "challenged",
            Self::TooManyCodes(_) => "too_many_codes",
            Self::BadCode => "bad_code",
            Self::Fenced(_) => "fenced",
            Self::Replayed => "replayed",
            Self::CodeSpent => "code_spent",
            Self::Limited(_) => "limited",
            Self::OrdersLimited(_) => "orders_limited",
            Self::AddressLimited(_) => "address_limited",
            Self::StoreFull => "store_full",
            Self::Unavailable => "unavailable",
        }
    }

    /// Every label that [`Denial::reason`] can give, in check order.
    pub const REASONS: [&'static str; 41] = [
        "no_route",
        "malformed",
        "too_large",
        "missing_credential",
        "credential_twice",
        "garbled_credential",
        "unsigned_part",
        "ambiguous",
        "window_too_large",
        "stale",
        "ahead",
        "banned",
        "too_many_failures",
        "unknown_key",
        "wrong_dialect",
        "bad_signature",
        "key_inactive",
        "wrong_venue",
        "too_many_guesses",
        "bad_passphrase",
        "key_expired",
        "address_refused",
        "application_address_refused",
        "not_permitted",
        "route_refused",
        "symbol_refused",
        "trade_ended",
        "switched_off",
        "no_factor",
        "missing_code",
        "challenged",
        "too_many_codes",
        "bad_code",
        "fenced",
        "replayed",
        "code_spent",
        "limited",
        "orders_limited",
        "address_limited",
        "store_full",
        "unavailable",
    ];

    /// The place of [`Denial::reason`] in [`Denial::REASONS`], for counters resolved once.
    pub const fn index(&self) -> usize {
        match self {
            Self::NoRoute => 0,
            Self::Malformed(_) => 1,
            Self::TooLarge => 2,
            Self::Missing(_) => 3,
            Self::Twice(_) => 4,
            Self::Garbled(_) => 5,
            Self::Unsigned(_) => 6,
            Self::Ambiguous(_) => 7,
            Self::WindowTooLarge => 8,
            Self::Stale(_) => 9,
            Self::Ahead(_) => 10,
            Self::Banned(_) => 11,
            Self::TooManyFailures(_) => 12,
            Self::UnknownKey => 13,
            Self::WrongDialect => 14,
            Self::BadSignature => 15,
            Self::KeyInactive => 16,
            Self::WrongVenue => 17,
            Self::TooManyGuesses(_) => 18,
            Self::BadPassphrase => 19,
            Self::KeyExpired => 20,
            Self::AddressRefused => 21,
            Self::ApplicationAddressRefused => 22,
            Self::NotPermitted => 23,
            Self::RouteRefused => 24,
            Self::SymbolRefused => 25,
            Self::TradeEnded => 26,
            Self::SwitchedOff => 27,
            Self::NoFactor => 28,
            Self::MissingCode => 29,
            Self::Challenged(_) => 30,
            Self::TooManyCodes(_) => 31,
            Self::BadCode => 32,
            Self::Fenced(_) => 33,
            Self::Replayed => 34,
            Self::CodeSpent => 35,
            Self::Limited(_) => 36,
            Self::OrdersLimited(_) => 37,
            Self::AddressLimited(_) => 38,
            Self::StoreFull => 39,
            Self::Unavailable => 40,
        }
    }

    /// After how long the same client may try again, where waiting helps.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Fenced(wait) => Some(*wait),
            Self::Limited(excess)
            | Self::OrdersLimited(excess)
            | Self::AddressLimited(excess)
            | Self::Banned(excess)
            | Self::TooManyFailures(excess)
            | Self::TooManyGuesses(excess)
            | Self::TooManyCodes(excess) => Some(excess.retry_after),
            Self::StoreFull | Self::Unavailable => Some(Duration::from_secs(1)),
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
            | Self::UnknownKey
            | Self::WrongDialect
            | Self::BadSignature
            | Self::KeyInactive
            | Self::WrongVenue
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
            | Self::BadCode
            | Self::Replayed
            | Self::CodeSpent => None,
        }
    }

    /// By how much a limit was exceeded, where that is why.
    pub const fn excess(&self) -> Option<Excess> {
        match self {
            Self::Limited(excess)
            | Self::OrdersLimited(excess)
            | Self::AddressLimited(excess)
            | Self::Banned(excess)
            | Self::TooManyFailures(excess)
            | Self::TooManyGuesses(excess)
            | Self::TooManyCodes(excess) => Some(*excess),
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
            | Self::UnknownKey
            | Self::WrongDialect
            | Self::BadSignature
            | Self::KeyInactive
            | Self::WrongVenue
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
            | Self::BadCode
            | Self::Fenced(_)
            | Self::Replayed
            | Self::CodeSpent
            | Self::StoreFull
            | Self::Unavailable => None,
        }
    }

    /// What went wrong, in words for operators and offline verification; never sent before proof.
    pub const fn detail(&self) -> &'static str {
        match self {
            Self::Malformed(text) | Self::Unsigned(text) | Self::Ambiguous(text) => text,
            Self::Missing(credential) | Self::Twice(credential) | Self::Garbled(credential) => {
                credential.name()
            }
            Self::NoRoute
            | Self::TooLarge
            | Self::WindowTooLarge
            | Self::Stale(_)
            | Self::Ahead(_)
            | Self::Banned(_)
            | Self::TooManyFailures(_)
            | Self::UnknownKey
            | Self::WrongDialect
            | Self::BadSignature
            | Self::KeyInactive
            | Self::WrongVenue
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
            | Self::Unavailable => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_stands_at_its_index() {
        let wait = Duration::ZERO;
        let excess = Excess { retry_after: wait, level: 1, quota: 1, period: wait };
        let all = [
            Denial::NoRoute,
            Denial::Malformed(""),
            Denial::TooLarge,
            Denial::Missing(Credential::Key),
            Denial::Twice(Credential::Key),
            Denial::Garbled(Credential::Key),
            Denial::Unsigned(""),
            Denial::Ambiguous(""),
            Denial::WindowTooLarge,
            Denial::Stale(wait),
            Denial::Ahead(wait),
            Denial::Banned(excess),
            Denial::TooManyFailures(excess),
            Denial::UnknownKey,
            Denial::WrongDialect,
            Denial::BadSignature,
            Denial::KeyInactive,
            Denial::WrongVenue,
            Denial::TooManyGuesses(excess),
            Denial::BadPassphrase,
            Denial::KeyExpired,
            Denial::AddressRefused,
            Denial::ApplicationAddressRefused,
            Denial::NotPermitted,
            Denial::RouteRefused,
            Denial::SymbolRefused,
            Denial::TradeEnded,
            Denial::SwitchedOff,
            Denial::NoFactor,
            Denial::MissingCode,
            Denial::Challenged(Challenge([0; Challenge::LENGTH])),
            Denial::TooManyCodes(excess),
            Denial::BadCode,
            Denial::Fenced(wait),
            Denial::Replayed,
            Denial::CodeSpent,
            Denial::Limited(excess),
            Denial::OrdersLimited(excess),
            Denial::AddressLimited(excess),
            Denial::StoreFull,
            Denial::Unavailable,
        ];
        assert_eq!(all.len(), Denial::REASONS.len());
        for (place, denial) in all.iter().enumerate() {
            assert_eq!(denial.index(), place, "{denial:?}");
            assert_eq!(Denial::REASONS[place], denial.reason(), "{denial:?}");
        }
    }
}
