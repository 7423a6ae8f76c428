//! How requests are signed, by dialects of each kind of time that a shared store serves.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use countersign::clock::Micros;
use countersign::dialect::{Credentials, Dialect, Draft, SignedRequest, builtin};
use countersign::key::{Algorithm, Signer};
use http::Method;

use crate::backend::MARK;

pub(crate) const SECRET: &str = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fAT";
pub(crate) const PASSPHRASE: &str = "open";
/// How far ahead deadlines may lie.
pub(crate) const LEAD: Duration = Duration::from_secs(3);

/// A way to sign.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Style {
    pub(crate) dialect: &'static str,
    /// Paths of writes; all alike, so that one can be tried for the other.
    pub(crate) paths: [&'static str; 2],
    pub(crate) methods: [&'static str; 2],
    body: Body,
    until: Until,
    /// Where the signature stands.
    pub(crate) signature: Place,
    pub(crate) spelling: Spelling,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Body {
    Form,
    Json,
    /// There is none: the query says what is asked for.
    Query,
}

/// When a request ends to be good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Until {
    /// So long after it was signed; asked for where the flag says so.
    Window(u64, bool),
    /// What this header says, in seconds.
    Header(&'static str),
    /// It never does: a number that grows is signed, and no time.
    Never,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    Parameter(&'static str),
    Header(&'static str),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Spelling {
    Hex,
    Base64,
}

/// Stamps in milliseconds (nothing, or only parameters, or all signed; hex and base64), a stamp with a nonce that is good
/// once, and deadlines in seconds (with and without the method). Beside them stands [`GROWING`]; unique nonces without a
/// clock are refused over Redis: `refused_over_redis`.
pub(crate) const STYLES: [Style; 6] = [
    Style {
        dialect: "binance",
        paths: ["/api/v3/order", "/sapi/v1/order"],
        methods: ["POST", "DELETE"],
        body: Body::Form,
        until: Until::Window(2_000, true),
        signature: Place::Parameter("signature"),
        spelling: Spelling::Hex,
    },
    Style {
        dialect: "bybit",
        paths: ["/v5/order/create", "/v5/order/amend"],
        methods: ["POST", "PUT"],
        body: Body::Json,
        until: Until::Window(2_000, true),
        signature: Place::Header("x-bapi-sign"),
        spelling: Spelling::Hex,
    },
    Style {
        dialect: "kucoin",
        paths: ["/api/v1/orders", "/api/v1/hf/orders"],
        methods: ["POST", "PUT"],
        body: Body::Json,
        until: Until::Window(5_000, false),
        signature: Place::Header("kc-api-sign"),
        spelling: Spelling::Base64,
    },
    Style {
        dialect: "bitstamp",
        paths: ["/api/v2/buy/btcusd/", "/api/v2/sell/btcusd/"],
        methods: ["POST", "PUT"],
        body: Body::Form,
        until: Until::Window(150_000, false),
        signature: Place::Header("x-auth-signature"),
        spelling: Spelling::Hex,
    },
    Style {
        dialect: "bitmex",
        paths: ["/api/v1/order", "/api/v1/order/bulk"],
        methods: ["POST", "PUT"],
        body: Body::Json,
        until: Until::Header("api-expires"),
        signature: Place::Header("api-signature"),
        spelling: Spelling::Hex,
    },
    Style {
        dialect: "phemex",
        paths: ["/orders", "/g-orders"],
        methods: ["POST", "PUT"],
        body: Body::Json,
        until: Until::Header("x-phemex-request-expiry"),
        signature: Place::Header("x-phemex-request-signature"),
        spelling: Spelling::Hex,
    },
];

/// What gateways judge alone while the store cannot be asked: reads, by stamps, and cancels, by deadlines.
pub(crate) const ALONE: [Style; 2] = [
    Style {
        dialect: "kucoin",
        paths: ["/api/v1/accounts", "/api/v1/fills"],
        methods: ["GET", "GET"],
        body: Body::Query,
        until: Until::Window(5_000, false),
        signature: Place::Header("kc-api-sign"),
        spelling: Spelling::Base64,
    },
    Style {
        dialect: "bitmex",
        paths: ["/api/v1/order/all", "/api/v1/order/closePosition"],
        methods: ["DELETE", "DELETE"],
        body: Body::Query,
        until: Until::Header("api-expires"),
        signature: Place::Header("api-signature"),
        spelling: Spelling::Hex,
    },
];

/// A number that grows, and no time.
pub(crate) const GROWING: Style = Style {
    dialect: "kraken",
    paths: ["/0/private/AddOrder", "/0/private/EditOrder"],
    methods: ["POST", "PUT"],
    body: Body::Form,
    until: Until::Never,
    signature: Place::Header("api-sign"),
    spelling: Spelling::Base64,
};
/// The secret of its keys, in base64.
pub(crate) const GROWING_SECRET: &str =
    "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg==";

/// What is asked of a client's requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Class {
    /// They are served.
    Honest,
    /// Some of them are: as many as their limit has room for.
    Greedy,
    /// They sign a number that grows: where servers forgot, or others overtook it, it is not served, as it should be.
    Growing,
    /// Their gateway judges them alone while the store cannot be asked.
    Alone,
}

/// Who signs.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) style: Style,
    pub(crate) class: Class,
    pub(crate) key: Arc<str>,
    dialect: Arc<Dialect>,
    signer: Arc<Signer>,
}

impl Client {
    pub(crate) fn new(style: Style, class: Class, key: &str) -> Self {
        let dialect = builtin(style.dialect).unwrap().unwrap().into();
        let signer = Signer::read(Algorithm::HmacSha256, SECRET.as_bytes()).unwrap().into();
        Self { style, class, key: key.into(), dialect, signer }
    }

    /// One that signs growing numbers.
    pub(crate) fn growing(key: &str) -> Self {
        let dialect = builtin(GROWING.dialect).unwrap().unwrap();
        let secret = GROWING_SECRET.as_bytes();
        let signer = dialect.read_signer(Algorithm::HmacSha512, secret).unwrap().into();
        Self {
            style: GROWING,
            class: Class::Growing,
            key: key.into(),
            dialect: dialect.into(),
            signer,
        }
    }

    /// A request with `number`, signed at `now`, and until when it is good.
    pub(crate) fn sign(&self, number: u64, now: Micros) -> (SignedRequest, Micros) {
        let body = match self.style.body {
            Body::Form => format!("symbol=BTCUSDT&side=BUY&newClientOrderId={MARK}{number:010}"),
            Body::Json => format!(r#"{{"symbol":"XBTUSD","clientOid":"{MARK}{number:010}"}}"#),
            Body::Query => String::new(),
        };
        let query = match self.style.body {
            Body::Form | Body::Json => String::new(),
            Body::Query => format!("tag={MARK}{number:010}"),
        };
        let window_ms = match self.style.until {
            Until::Window(ms, true) => Some(ms),
            Until::Window(..) | Until::Header(_) | Until::Never => None,
        };
        // Of a clock finer than requests come.
        let nonce = (self.class == Class::Growing).then(|| now.0.to_string());
        let draft = Draft {
            method: Method::from_bytes(self.style.methods[0].as_bytes()).unwrap(),
            path: self.style.paths[0],
            query: &query,
            body: &body,
            host: "storm",
            window_ms,
            // It is told in whole seconds, rounded down.
            lead_ms: 3_000,
            nonce: nonce.as_deref(),
        };
        let passphrase = self.dialect.has_passphrase().then_some(PASSPHRASE);
        let by = Credentials { key_id: &self.key, signer: &self.signer, passphrase };
        let signed = self.dialect.sign(&draft, &by, now).unwrap();
        let until = match self.style.until {
            Until::Window(ms, _) => Micros::from_millis(now.as_millis() + ms),
            Until::Header(name) => {
                let (_, value) = signed.headers.iter().find(|(found, _)| found == name).unwrap();
                Micros::from_millis(value.to_str().unwrap().parse::<u64>().unwrap() * 1_000)
            }
            Until::Never => now + Duration::from_hours(24),
        };
        (signed, until)
    }
}

/// The bytes of a request.
pub(crate) fn bytes(request: &SignedRequest) -> Vec<u8> {
    let mut text = format!("{} {} HTTP/1.1\r\nhost: storm\r\n", request.method, request.target);
    for (name, value) in &request.headers {
        write!(text, "{name}: {}\r\n", value.to_str().unwrap()).unwrap();
    }
    write!(text, "content-length: {}\r\n\r\n{}", request.body.len(), request.body).unwrap();
    text.into_bytes()
}
