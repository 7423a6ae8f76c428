//! How requests are signed, by dialects of each kind of time that a shared store serves.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use countersign::clock::Micros;
use countersign::dialect::{Credentials, Dialect, Draft, SignedRequest, builtin};
use countersign::key::{Algorithm, Signer};
use http::Method;

use crate::backend::MARK;
use crate::dice::Dice;

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
    methods: [&'static str; 2],
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

/// Stamps in milliseconds (nothing, or only parameters, or all signed; hex and base64), and deadlines in seconds (with
/// and without the method). Beside them stands [`GROWING`]; unique nonces without a clock are refused over Redis:
/// `refused_over_redis`.
pub(crate) const STYLES: [Style; 5] = [
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

/// Who signs.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) style: Style,
    pub(crate) key: String,
    dialect: Arc<Dialect>,
    signer: Arc<Signer>,
}

impl Client {
    pub(crate) fn new(style: Style, key: String) -> Self {
        let dialect = builtin(style.dialect).unwrap().unwrap().into();
        let signer = Signer::read(Algorithm::HmacSha256, SECRET.as_bytes()).unwrap().into();
        Self { style, key, dialect, signer }
    }

    /// One that signs growing numbers.
    pub(crate) fn growing(key: String) -> Self {
        let dialect = builtin(GROWING.dialect).unwrap().unwrap();
        let secret = GROWING_SECRET.as_bytes();
        let signer = dialect.read_signer(Algorithm::HmacSha512, secret).unwrap().into();
        Self { style: GROWING, key, dialect: dialect.into(), signer }
    }

    /// Whether it signs a number that grows, and no time.
    pub(crate) fn grows(&self) -> bool {
        self.style.until == Until::Never
    }

    /// A write with `number`, signed at `now`, and until when it is good.
    pub(crate) fn sign(&self, number: u64, now: Micros) -> (SignedRequest, Micros) {
        let body = match self.style.body {
            Body::Form => format!("symbol=BTCUSDT&side=BUY&newClientOrderId={MARK}{number:010}"),
            Body::Json => format!(r#"{{"symbol":"XBTUSD","clientOid":"{MARK}{number:010}"}}"#),
        };
        let window_ms = match self.style.until {
            Until::Window(ms, true) => Some(ms),
            Until::Window(..) | Until::Header(_) | Until::Never => None,
        };
        // Of a clock finer than requests come.
        let nonce = self.grows().then(|| now.0.to_string());
        let draft = Draft {
            method: Method::POST,
            path: self.style.paths[0],
            query: "",
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

/// The same signed content in another spelling, where there is one: what an attacker sends.
pub(crate) fn disguised(request: &SignedRequest, style: &Style, dice: &mut Dice) -> Vec<u8> {
    let mut other = request.clone();
    match dice.below(10) {
        0..=3 => {}
        4 | 5 => respell(&mut other, style, dice),
        6 => style.paths[1].clone_into(&mut other.target),
        7 => other.method = Method::from_bytes(style.methods[1].as_bytes()).unwrap(),
        8 => {
            // From the body into the query.
            other.target = format!("{}?{}", style.paths[0], other.body);
            other.body = String::new();
        }
        _ => {
            // The signature before all others; nobody signs where it stands.
            if let Place::Parameter(name) = style.signature
                && let Some((rest, signature)) = other.body.rsplit_once(&format!("&{name}="))
            {
                other.body = format!("{name}={signature}&{rest}");
            }
        }
    }
    bytes(&other)
}

fn respell(request: &mut SignedRequest, style: &Style, dice: &mut Dice) {
    let change = |text: &str, dice: &mut Dice| match (style.spelling, dice.below(3)) {
        (Spelling::Hex, 0) => text.to_uppercase(),
        (Spelling::Hex, 1) => format!("{text} "),
        (Spelling::Hex, _) => text.replacen('a', "A", 1),
        (Spelling::Base64, 0) => text.trim_end_matches('=').to_owned(),
        (Spelling::Base64, 1) => text.replace('+', "-").replace('/', "_"),
        (Spelling::Base64, _) => text.to_owned() + "=",
    };
    match style.signature {
        Place::Header(wanted) => {
            for (name, value) in &mut request.headers {
                if name == wanted {
                    *value = change(value.to_str().unwrap(), dice).parse().unwrap();
                }
            }
        }
        Place::Parameter(name) => {
            if let Some((rest, signature)) = request.body.rsplit_once(&format!("&{name}=")) {
                let respelt = match dice.below(2) {
                    0 => change(signature, dice).trim().to_owned(),
                    _ => signature
                        .bytes()
                        .fold(String::new(), |text, byte| text + &format!("%{byte:02x}")),
                };
                request.body = format!("{rest}&{name}={respelt}");
            }
        }
    }
}
