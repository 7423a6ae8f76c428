//! Properties of every recipe: what it signs it accepts, no bit of what is signed can change, and all wire
//! spellings that share signed bytes are forwarded as one.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign::clock::Micros;
use countersign::dialect::{BUILTIN, Credentials, Dialect, Draft, SignedRequest};
use countersign::key::{Algorithm, Signer};
use countersign::offline::{Accepted, Judge, Recorded};
use http::Method;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const SECRET: &str = "s3cretZyXwVu9876543210fedcbaFEDCBA9876543210";
const KEY: &str = "k3yAbCdEf0123456789ABCDEFabcdef0123456789";
const PASSPHRASE: &str = "Pass phr@se+1";
const NOW_MS: u64 = 1_700_000_000_000;

fn dialects() -> Vec<Arc<Dialect>> {
    BUILTIN.iter().map(|(_, recipe)| Arc::new(Dialect::compile(recipe).unwrap())).collect()
}

/// A judge with the runtime to ask it.
struct Court(Judge, tokio::runtime::Runtime);

impl Court {
    fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self(Judge::new(dialects()).unwrap(), runtime)
    }

    /// What would be forwarded, if the request is accepted. What no recording can hold counts as refused.
    fn judge(&mut self, request: &Recorded) -> Option<Accepted> {
        let judged = self.1.block_on(self.0.judge(request)).ok()?;
        judged.verdict.ok()
    }
}

/// What a client may wish to send: a method, and parameters for query or body.
fn wish() -> impl Strategy<Value = (Method, String, String)> {
    let name = "[a-zA-Z][a-zA-Z0-9]{0,8}";
    let value = "([A-Za-z0-9._~,:/-]|%20|%2B|%3D|%C3%A9|\\+){0,12}";
    let pairs = prop::collection::vec((name, value), 0..5).prop_map(|pairs| {
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    });
    let json =
        prop::collection::vec((name, "[A-Za-z0-9 .+&=?{}é-]{0,12}"), 0..5).prop_map(|pairs| {
            let all: Vec<_> =
                pairs.iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
            format!("{{{}}}", all.join(","))
        });
    (prop::sample::select(vec![Method::GET, Method::POST, Method::DELETE]), pairs, json)
}

/// Signs the wish as a client of `dialect` would; `None` where the dialect cannot carry it.
fn signed(dialect: &Dialect, wish: &(Method, String, String)) -> Option<Recorded> {
    let (method, pairs, json) = wish;
    let in_body = *method == Method::POST;
    let body = match (in_body, &**dialect.name()) {
        (false, _) => "",
        (true, "binance") => pairs,
        (true, _) => json,
    };
    let query = if in_body || *method == Method::DELETE && &**dialect.name() == "bybit" {
        ""
    } else {
        pairs
    };
    let signer = Signer::read(Algorithm::HmacSha256, SECRET.as_bytes()).unwrap();
    let passphrase = dialect.has_passphrase().then_some(PASSPHRASE);
    let draft = Draft {
        method: method.clone(),
        path: "/api/order",
        query,
        body,
        host: "api.example",
        window_ms: None,
        lead_ms: 5_000,
    };
    let by = Credentials { key_id: KEY, signer: &signer, passphrase };
    let request = dialect.sign(&draft, &by, Micros::from_millis(NOW_MS)).ok()?;
    Some(recorded(dialect, request))
}

fn recorded(dialect: &Dialect, signed: SignedRequest) -> Recorded {
    let headers: BTreeMap<_, _> = signed
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .chain([("host".to_owned(), "api.example".to_owned())])
        .collect();
    Recorded {
        dialect: dialect.name().to_string(),
        method: signed.method.to_string(),
        target: signed.target,
        headers,
        body: signed.body,
        key: KEY.to_owned(),
        secret: SECRET.to_owned(),
        passphrase: dialect.has_passphrase().then(|| PASSPHRASE.to_owned()),
        now_ms: NOW_MS,
        algorithm: "hmac-sha256".to_owned(),
        expect: None,
        strict_expect: None,
    }
}

/// Runs `property` on `cases` signed requests of each dialect.
fn for_each_signed(
    cases: u32,
    property: impl Fn(&mut Court, &Recorded) -> Result<(), TestCaseError>,
) {
    for dialect in dialects() {
        let court = std::cell::RefCell::new(Court::open());
        let mut runner =
            TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&wish(), |wish| {
            let Some(request) = signed(&dialect, &wish) else {
                return Err(TestCaseError::reject("unsignable"));
            };
            property(&mut court.borrow_mut(), &request)
        });
        outcome.unwrap_or_else(|error| panic!("{}: {error}", dialect.name()));
    }
}

#[test]
fn what_a_recipe_signs_it_accepts() {
    for_each_signed(2_000, |court, request| {
        prop_assert!(court.judge(request).is_some(), "{:?} {}", request, request.body);
        Ok(())
    });
}

/// Every way to flip one bit of what is signed or claimed: the query, the body, and each credential.
fn flips(request: &Recorded) -> Vec<Recorded> {
    let mut all = Vec::new();
    let path = request.target.split('?').next().unwrap().len();
    for (place, bit) in bits(&request.target).filter(|(place, _)| *place > path) {
        all.extend(
            flipped(&request.target, place, bit)
                .map(|target| Recorded { target, ..request.clone() }),
        );
    }
    for (place, bit) in bits(&request.body) {
        all.extend(
            flipped(&request.body, place, bit).map(|body| Recorded { body, ..request.clone() }),
        );
    }
    for (name, value) in
        request.headers.iter().filter(|(name, _)| *name != "host" && *name != "content-type")
    {
        for (place, bit) in bits(value) {
            all.extend(flipped(value, place, bit).map(|value| {
                let mut flipped = request.clone();
                flipped.headers.insert(name.clone(), value);
                flipped
            }));
        }
    }
    all
}

fn bits(text: &str) -> impl Iterator<Item = (usize, u8)> {
    (0..text.len()).flat_map(|place| (0..8).map(move |bit| (place, bit)))
}

fn flipped(text: &str, place: usize, bit: u8) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    bytes[place] ^= 1 << bit;
    String::from_utf8(bytes).ok()
}

#[test]
fn every_flipped_bit_is_refused_or_changes_nothing() {
    let seen = std::cell::Cell::new(0_u64);
    for_each_signed(24, |court, request| {
        let forwarded = court.judge(request);
        prop_assert!(forwarded.is_some());
        for flipped in flips(request) {
            seen.set(seen.get() + 1);
            if let Some(other) = court.judge(&flipped) {
                prop_assert_eq!(Some(other), forwarded.clone(), "{:?} {}", flipped, flipped.body);
            }
        }
        Ok(())
    });
    assert!(seen.get() > 30_000, "{}", seen.get());
}

/// One edit that could leave the signed bytes as they are while the wire changes, or the other way round.
fn respell(request: &Recorded, edit: (u8, prop::sample::Index)) -> Recorded {
    let (kind, place) = edit;
    let mut other = request.clone();
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    if query.is_empty() {
        return other;
    }
    let at = place.index(query.len());
    let (before, after) = (&query[..at], &query[at..]);
    let byte = query.as_bytes()[at];
    let query = match kind {
        // spell a byte with a percent sign, in either case
        0 => format!("{before}%{byte:02X}{}", &after[1..]),
        1 => format!("{before}%{byte:02x}{}", &after[1..]),
        // undo one spelling
        2 => query.replacen("%20", "+", 1),
        3 => query.replacen('+', "%20", 1),
        4 => query.replacen('+', "%2B", 1),
        5 => query.replacen("%2B", "+", 1),
        6 => query.replacen("%3D", "=", 1),
        // move the rest of the query to the body, or cut the body into the query
        7 => {
            other.body = format!("{}{}", after, request.body);
            before.to_owned()
        }
        8 => format!("{query}&"),
        9 => format!("&{query}"),
        10 => query.replacen('=', "%3D", 1),
        11 => query.replacen('&', "%26", 1),
        12 => query.replacen('%', "%25", 1),
        _ => query.to_uppercase(),
    };
    other.target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    other
}

/// What a backend reads. Binance takes the same parameters from query or body, and signs not which; elsewhere the
/// very bytes must agree.
fn meaning(dialect: &Dialect, forwarded: Accepted) -> (String, bytes::Bytes) {
    let query = forwarded.query.unwrap_or_default();
    if &**dialect.name() == "binance" && query.is_empty() {
        return (String::from_utf8(forwarded.body.to_vec()).unwrap(), bytes::Bytes::new());
    }
    (query, forwarded.body)
}

#[test]
fn all_spellings_that_share_signed_bytes_are_forwarded_as_one() {
    let accepted = std::cell::Cell::new(0_u64);
    for dialect in dialects() {
        let court = std::cell::RefCell::new(Court::open());
        let edits = prop::collection::vec((0_u8..14, any::<prop::sample::Index>()), 1..4);
        let mut runner = TestRunner::new(Config {
            cases: 20_000,
            failure_persistence: None,
            ..Config::default()
        });
        let outcome = runner.run(&(wish(), edits), |(wish, edits)| {
            let Some(request) = signed(&dialect, &wish) else {
                return Err(TestCaseError::reject("unsignable"));
            };
            let forwarded = court.borrow_mut().judge(&request);
            let other =
                edits.into_iter().fold(request.clone(), |request, edit| respell(&request, edit));
            if other.target == request.target && other.body == request.body {
                return Ok(());
            }
            if let Some(meant) = court.borrow_mut().judge(&other) {
                accepted.set(accepted.get() + 1);
                let (meant, forwarded) =
                    (meaning(&dialect, meant), meaning(&dialect, forwarded.unwrap()));
                prop_assert_eq!(meant, forwarded, "{} and {}", request.target, other.target);
            }
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{}: {error}", dialect.name()));
    }
    // Were no re-spelling ever accepted, the property would hold of nothing.
    assert!(accepted.get() > 500, "{}", accepted.get());
}
