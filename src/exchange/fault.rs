//! Every error the exchange answers with, in Binance's codes and words.

use std::borrow::Cow;

use http::StatusCode;
use serde_json::{Value, json};

/// Why the exchange did not do what was asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// No identity that the gateway vouches for.
    NotVouchedFor,
    /// No room for another order or account.
    Full,
    /// A parameter is missing.
    Missing(&'static str),
    /// One of two parameters must be sent.
    MissingEither(&'static str, &'static str),
    /// A parameter holds what it may not: its name and the legal range.
    Garbled(&'static str, &'static str),
    /// No such symbol.
    UnknownSymbol,
    /// Neither BUY nor SELL.
    UnknownSide,
    /// An order type that is not offered.
    UnknownType,
    /// A time in force that is not offered.
    UnknownTimeInForce,
    /// An interval that is not offered.
    UnknownInterval,
    /// A filter of the symbol fails.
    Filter(&'static str),
    /// Too little is free.
    InsufficientBalance,
    /// An open order has the same client order id.
    DuplicateOrder,
    /// A maker order would take.
    WouldTake,
    /// No such order to look at.
    NoSuchOrder,
    /// No such order to cancel.
    NothingToCancel,
    /// No such listen key.
    NoSuchListenKey,
}

impl Fault {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::NotVouchedFor => StatusCode::FORBIDDEN,
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::Missing(_)
            | Self::MissingEither(..)
            | Self::Garbled(..)
            | Self::UnknownSymbol
            | Self::UnknownSide
            | Self::UnknownType
            | Self::UnknownTimeInForce
            | Self::UnknownInterval
            | Self::Filter(_)
            | Self::InsufficientBalance
            | Self::DuplicateOrder
            | Self::WouldTake
            | Self::NoSuchOrder
            | Self::NothingToCancel
            | Self::NoSuchListenKey => StatusCode::BAD_REQUEST,
        }
    }

    pub(super) fn body(self) -> Value {
        json!({ "code": self.code(), "msg": self.message() })
    }

    const fn code(self) -> i32 {
        match self {
            Self::NotVouchedFor => -2015,
            Self::Full => -1008,
            Self::Missing(_) | Self::MissingEither(..) => -1102,
            Self::Garbled(..) => -1100,
            Self::UnknownSymbol => -1121,
            Self::UnknownSide => -1117,
            Self::UnknownType => -1116,
            Self::UnknownTimeInForce => -1115,
            Self::UnknownInterval => -1120,
            Self::Filter(_) => -1013,
            Self::InsufficientBalance | Self::DuplicateOrder | Self::WouldTake => -2010,
            Self::NoSuchOrder => -2013,
            Self::NothingToCancel => -2011,
            Self::NoSuchListenKey => -1125,
        }
    }

    fn message(self) -> Cow<'static, str> {
        match self {
            Self::NotVouchedFor => "Invalid API-key, IP, or permissions for action.".into(),
            Self::Full => "Server is currently overloaded with other requests. Please try again in a few minutes.".into(),
            Self::Missing(name) => {
                format!("Mandatory parameter '{name}' was not sent, was empty/null, or malformed.").into()
            }
            Self::MissingEither(one, other) => {
                format!("Param '{one}' or '{other}' must be sent, but both were empty/null!").into()
            }
            Self::Garbled(name, range) => {
                format!("Illegal characters found in parameter '{name}'; legal range is '{range}'.").into()
            }
            Self::UnknownSymbol => "Invalid symbol.".into(),
            Self::UnknownSide => "Invalid side.".into(),
            Self::UnknownType => "Invalid orderType.".into(),
            Self::UnknownTimeInForce => "Invalid timeInForce.".into(),
            Self::UnknownInterval => "Invalid interval.".into(),
            Self::Filter(name) => format!("Filter failure: {name}").into(),
            Self::InsufficientBalance => "Account has insufficient balance for requested action.".into(),
            Self::DuplicateOrder => "Duplicate order sent.".into(),
            Self::WouldTake => "Order would immediately match and take.".into(),
            Self::NoSuchOrder => "Order does not exist.".into(),
            Self::NothingToCancel => "Unknown order sent.".into(),
            Self::NoSuchListenKey => "This listenKey does not exist.".into(),
        }
    }
}
