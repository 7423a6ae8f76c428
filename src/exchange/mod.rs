//! A small exchange in memory, in the shapes of Binance's REST API, to put behind the gateway.
//!
//! Orders never meet each other: what is marketable fills at once at a fixed reference price, the rest waits
//! until it is cancelled. Whatever is no route of the exchange is echoed, so that a client sees what arrived; so is what
//! comes over a WebSocket.

mod account;
mod amount;
mod books;
mod fault;
mod http;
mod market;
mod order;
mod params;
mod private;
mod public;
mod routes;
mod stream;

use std::sync::{Arc, Mutex, PoisonError};

use ::http::StatusCode;
use ::http::request::Parts;
use data_encoding::BASE64;
use serde_json::{Map, Value, json};

use crate::clock::{Clock, Micros, SystemClock};
use crate::identity::{self, IDENTITY_HEADER, Identity};

use self::books::Books;
use self::fault::Fault;
use self::params::Params;
use self::routes::Route;

pub use self::http::serve;

/// The exchange: accounts, their balances and orders.
pub struct Exchange {
    identity_key: Option<[u8; 32]>,
    clock: Arc<dyn Clock>,
    books: Mutex<Books>,
}

impl Exchange {
    /// An exchange where every account starts with the same balances.
    ///
    /// With `identity_key`, private data is given only for an identity that the gateway sharing the key vouches for.
    /// Without, everybody is believed, and who says nothing has the account `anonymous`: for loopback only.
    pub fn new(identity_key: Option<[u8; 32]>) -> Self {
        Self {
            identity_key,
            clock: Arc::new(SystemClock::start()),
            books: Mutex::new(Books::new(MAX_ORDERS)),
        }
    }

    /// The same, living by `clock`: deadlines in identities must be by it too.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// The same, holding at most `orders` orders.
    #[must_use]
    pub fn with_room_for(self, orders: usize) -> Self {
        Self { books: Mutex::new(Books::new(orders)), ..self }
    }

    /// The moment by the exchange's clock.
    pub fn now(&self) -> Micros {
        self.clock.now()
    }

    /// Answers one request that arrived at `now`.
    pub fn handle(&self, request: &Parts, body: &[u8], now: Micros) -> Reply {
        let sender = self.sender(request, body, now);
        let Some(route) = Route::find(request.method.as_str(), request.uri.path()) else {
            return Reply { status: StatusCode::OK, body: echo(request, body, &sender) };
        };
        let answer = match route {
            Route::Public(route) => route.answer(&Params::read(&request.uri, body), now),
            Route::Private(route) => {
                sender.account().ok_or(Fault::NotVouchedFor).and_then(|account| {
                    let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
                    route.answer(&mut books, account, &Params::read(&request.uri, body), now)
                })
            }
        };
        match answer {
            Ok(body) => Reply { status: StatusCode::OK, body },
            Err(fault) => Reply { status: fault.status(), body: fault.body() },
        }
    }

    /// What a WebSocket begins with, for a handshake that arrived at `now`: who is believed to have sent it.
    fn greet(&self, request: &Parts, now: Micros) -> String {
        echo(request, b"", &self.sender(request, b"", now)).to_string()
    }

    fn sender(&self, request: &Parts, body: &[u8], now: Micros) -> Sender {
        let Some(key) = &self.identity_key else {
            let value = request.headers.get(IDENTITY_HEADER).and_then(|value| value.to_str().ok());
            return Sender::Believed(value.and_then(|value| Identity::parse(value).ok()));
        };
        let target = request.uri.path_and_query().map_or("", |target| target.as_str());
        match identity::verify(key, request.method.as_str(), target, &request.headers, body, now) {
            Ok(identity) => Sender::Proved(identity),
            Err(_) => Sender::Refused,
        }
    }
}

/// An answer in JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Value,
}

/// What is known of who sent a request.
enum Sender {
    Proved(Identity),
    Refused,
    Believed(Option<Identity>),
}

impl Sender {
    fn account(&self) -> Option<&str> {
        match self {
            Self::Proved(identity) => identity.account.as_deref(),
            Self::Refused => None,
            Self::Believed(identity) => Some(
                identity
                    .as_ref()
                    .and_then(|identity| identity.account.as_deref())
                    .unwrap_or(ANONYMOUS),
            ),
        }
    }

    fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Proved(identity) => Some(identity),
            Self::Refused => None,
            Self::Believed(identity) => identity.as_ref(),
        }
    }

    fn verified(&self) -> Option<bool> {
        match self {
            Self::Proved(_) => Some(true),
            Self::Refused => Some(false),
            Self::Believed(_) => None,
        }
    }
}

fn echo(request: &Parts, body: &[u8], sender: &Sender) -> Value {
    let mut headers = Map::new();
    for name in request.headers.keys() {
        let values = request
            .headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()));
        headers.insert(name.to_string(), values.collect::<Vec<_>>().join(", ").into());
    }
    let host = headers.get("host").cloned();
    json!({
        "method": request.method.as_str(),
        "target": request.uri.to_string(),
        "host": host,
        "headers": headers,
        "body": str::from_utf8(body).map_or_else(|_| BASE64.encode(body), str::to_owned),
        "identity": sender.identity().map(|identity| json!({
            "request": identity.request,
            "key": identity.key,
            "account": identity.account,
            "venue": identity.venue,
            "permissions": identity.permissions,
            "client": identity.client.to_string(),
            "deadline": identity.deadline_ms,
            "body": data_encoding::HEXLOWER.encode(&identity.body),
        })),
        "identity_verified": sender.verified(),
    })
}

const MAX_ORDERS: usize = 100_000;
const ANONYMOUS: &str = "anonymous";

#[cfg(test)]
mod tests;
