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
use std::io::Write as _;
use std::sync::Arc;

use countersign::clock::Micros;
use countersign::dialect::{
    BUILTIN, Coverage, Credentials, Dialect, Draft, SecretForm, SignedRequest,
};
use countersign::key::Algorithm;
use countersign::offline::{Accepted, Judge, Recorded};
use http::Method;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

const SECRET: &str = "s3cretZyXwVu9876543210fedcbaFEDCBA9876543210";
const KEY: &str = "k3yAbCdEf0123456789ABCDEFabcdef0123456789";
const PASSPHRASE: &str = "Pass phr@se+1";
const NOW_MS: u64 = 1_700_000_000_000;

fn dialects() -> Vec<Arc<Dialect>> {
    BUILTIN.iter().map(|(_, recipe)| Arc::new(Dialect::compile(recipe).unwrap())).collect()
}

/// Those that have lenient readings, with these switched on.
fn lenient_dialects() -> Vec<Arc<Dialect>> {
    let lenient = |dialect: Arc<Dialect>| Dialect::clone(&dialect).with_leniency().map(Arc::new);
    dialects().into_iter().filter_map(lenient).collect()
}

/// A judge with the runtime to ask it.
struct Court(Judge, tokio::runtime::Runtime);

impl Court {
    fn open() -> Self {
        Self::of(dialects())
    }

    fn of(dialects: Vec<Arc<Dialect>>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self(Judge::new(dialects).unwrap(), runtime)
    }

    /// What would be forwarded, if the request is accepted. What no recording can hold counts as refused.
    fn judge(&mut self, request: &Recorded) -> Option<Accepted> {
        let judged = self.1.block_on(self.0.judge(request)).ok()?;
        judged.verdict.ok()
    }
}

/// What a client may wish to send: a method, and parameters for query or body.
fn wish() -> impl Strategy<Value = (Method, String, String)> {
    wish_of("([A-Za-z0-9._~,:/-]|%20|%2B|%3D|%C3%A9|\\+){0,12}")
}

/// The same, with more of what lenient readings take for spellings of each other.
fn bare_wish() -> impl Strategy<Value = (Method, String, String)> {
    wish_of("([A-Za-z0-9,']|%20|%2B|%3D|%27|%26|%2C|\\+|;| | & |&|=|=b|%C3%A9){0,8}")
}

fn wish_of(value: &'static str) -> impl Strategy<Value = (Method, String, String)> {
    let name = "[a-zA-Z][a-zA-Z0-9]{0,8}";
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
    let json = &in_envelope(dialect, pairs).unwrap_or_else(|| json.clone());
    let json_later = pairs.len() % 2 == 0;
    // What a dialect cannot carry it refuses to sign, so the first that it takes is its way.
    let mut ways = if *method == Method::GET {
        vec![(&**pairs, ""), ("", "")]
    } else if *method == Method::DELETE {
        vec![(&**pairs, ""), ("", &**pairs), ("", &**json)]
    } else if json_later {
        vec![("", &**pairs), ("", &**json), (&**pairs, "")]
    } else {
        vec![("", &**json), ("", &**pairs), (&**pairs, "")]
    };
    if takes_only_forms(dialect) {
        ways.retain(|(_, body)| !body.starts_with('{'));
    }
    let signer = dialect.read_signer(algorithm(dialect), secret(dialect).as_bytes()).unwrap();
    let passphrase = dialect.has_passphrase().then_some(PASSPHRASE);
    let by = Credentials { key_id: KEY, signer: &signer, passphrase };
    let tries = ways.iter().map(|way| (method, *way));
    // Some dialects sign nothing but a body.
    let mut tries = tries.chain([(&Method::POST, ("", &**pairs)), (&Method::POST, ("", &**json))]);
    let request = tries.find_map(|(method, (query, body))| {
        let draft = Draft {
            method: method.clone(),
            path: path(dialect),
            query,
            body,
            host: "api.example",
            window_ms: None,
            lead_ms: 5_000,
            nonce: None,
        };
        dialect.sign(&draft, &by, Micros::from_millis(NOW_MS)).ok()
    })?;
    Some(recorded(dialect, request))
}

/// The values of the pairs as parameters that Crypto.com has.
fn in_envelope(dialect: &Dialect, pairs: &str) -> Option<String> {
    if &**dialect.name() != "cryptocom" {
        return None;
    }
    let names = ["client_oid", "instrument_name", "price", "quantity", "side"];
    let values = pairs.split('&').filter_map(|pair| pair.split_once('='));
    let members =
        names.iter().zip(values).map(|(name, (_, value))| format!("\"{name}\":\"{value}\""));
    Some(format!("{{\"params\":{{{}}}}}", members.collect::<Vec<_>>().join(",")))
}

/// Whether JSON would be taken for one odd parameter.
fn takes_only_forms(dialect: &Dialect) -> bool {
    ["binance", "mexc", "bitstamp"].contains(&&**dialect.name())
}

/// A path that the dialect's clients use.
fn path(dialect: &Dialect) -> &'static str {
    match &**dialect.name() {
        "phemex" => "/spot/orders",
        "cryptocom" => "/exchange/v1/private/create-order",
        _ => "/api/order",
    }
}

fn algorithm(dialect: &Dialect) -> Algorithm {
    let mut all = dialect.algorithms();
    let symmetric = all.find(|algorithm| algorithm.is_symmetric());
    symmetric.unwrap_or(Algorithm::Ed25519)
}

fn secret(dialect: &Dialect) -> &'static str {
    match dialect.secret_form() {
        // Seed and point of a pair that was made for tests.
        SecretForm::Text if algorithm(dialect) == Algorithm::Ed25519 => {
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8DoQe/884Qvh1w3RjnS8CZZ+TWMJulDV8d3IZkElUxuA=="
        }
        SecretForm::Text => SECRET,
        SecretForm::Base64 => "c2VjcmV0IGJ5dGVzIG9mIGEga2V5IHRoYXQgaXMgbm9ib2R5J3M=",
    }
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
        secret: secret(dialect).to_owned(),
        passphrase: dialect.has_passphrase().then(|| PASSPHRASE.to_owned()),
        now_ms: NOW_MS,
        algorithm: algorithm(dialect).name().to_owned(),
        expect: None,
        strict_expect: None,
    }
}

/// Runs `property` on `cases` signed requests of each dialect.
fn for_each_signed(
    cases: u32,
    property: impl Fn(&mut Court, &Dialect, &Recorded) -> Result<(), TestCaseError>,
) {
    for dialect in dialects() {
        let court = std::cell::RefCell::new(Court::open());
        let mut runner =
            TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&wish(), |wish| {
            let Some(request) = signed(&dialect, &wish) else {
                return Err(TestCaseError::reject("unsignable"));
            };
            property(&mut court.borrow_mut(), &dialect, &request)
        });
        outcome.unwrap_or_else(|error| panic!("{}: {error}", dialect.name()));
    }
}

#[test]
fn what_a_recipe_signs_it_accepts() {
    for_each_signed(1_000, |court, _, request| {
        prop_assert!(court.judge(request).is_some(), "{:?} {}", request, request.body);
        Ok(())
    });
}

/// Every way to flip one bit of what is signed or claimed: the query, the body, and each credential.
fn flips(dialect: &Dialect, request: &Recorded) -> Vec<Recorded> {
    let mut all = Vec::new();
    let passes = |part| passes(dialect, part);
    let path = request.target.split('?').next().unwrap().len();
    let in_query = |place: usize| place > path && !passes("query");
    for (place, bit) in bits(&request.target).filter(|(place, _)| in_query(*place)) {
        all.extend(
            flipped(&request.target, place, bit)
                .map(|target| Recorded { target, ..request.clone() }),
        );
    }
    for (place, bit) in bits(&request.body).filter(|_| !passes("body")) {
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

/// Whether this part goes on as it came, though unsigned, on the paths that are tried here.
fn passes(dialect: &Dialect, part: &str) -> bool {
    let here = |cover: &&Coverage| !cover.methods.contains(" under ");
    dialect.coverage().iter().filter(here).any(|cover| lets_pass(cover, part))
}

/// Whether what the recipe says of this unsigned part is that it goes on as it came.
fn lets_pass(cover: &Coverage, part: &str) -> bool {
    cover.unsigned.iter().any(|(name, fate)| *name == part && fate.starts_with("forwarded"))
}

fn bits(text: &str) -> impl Iterator<Item = (usize, u8)> {
    (0..text.len()).flat_map(|place| (0..8).map(move |bit| (place, bit)))
}

fn flipped(text: &str, place: usize, bit: u8) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    bytes[place] ^= 1 << bit;
    String::from_utf8(bytes).ok()
}

/// How many mutations are tried of each dialect: 10,000, or as many as `COUNTERSIGN_MUTATIONS` says.
fn mutations() -> u64 {
    std::env::var("COUNTERSIGN_MUTATIONS").map_or(10_000, |text| text.parse().unwrap())
}

/// Tries this many flipped bits of one dialect, at most [`OF_EACH`] of each request, and counts those refused and
/// those that were accepted since they change nothing of what is forwarded.
fn flip(dialect: &Arc<Dialect>, wanted: u64) -> (u64, u64) {
    let mut court = Court::of(vec![Arc::clone(dialect)]);
    let mut runner = TestRunner::deterministic();
    let (mut refused, mut alike) = (0, 0);
    for _ in 0..wanted {
        let wish = wish().new_tree(&mut runner).unwrap().current();
        let Some(request) = signed(dialect, &wish) else { continue };
        let forwarded = court.judge(&request);
        assert!(forwarded.is_some(), "{request:?} {}", request.body);
        let all = flips(dialect, &request);
        let first = any::<prop::sample::Index>().new_tree(&mut runner).unwrap().current();
        let step = (all.len() / OF_EACH).max(1);
        for flipped in all.iter().skip(first.index(step)).step_by(step) {
            match court.judge(flipped) {
                None => refused += 1,
                Some(other) => {
                    assert_eq!(Some(&other), forwarded.as_ref(), "{flipped:?} {}", flipped.body);
                    alike += 1;
                }
            }
            if refused >= wanted {
                return (refused, alike);
            }
        }
    }
    panic!("{}: only {refused} mutations", dialect.name());
}

const OF_EACH: usize = 400;

#[test]
fn every_flipped_bit_is_refused_or_changes_nothing() {
    let wanted = mutations();
    let mut err = std::io::stderr();
    let mut all = 0;
    for dialect in dialects() {
        let (refused, alike) = flip(&dialect, wanted);
        all += refused;
        writeln!(
            err,
            "{} {}: {refused} flipped bits refused, {alike} of no effect",
            dialect.name(),
            algorithm(&dialect).name()
        )
        .unwrap();
    }
    writeln!(err, "{all} flipped bits refused in all").unwrap();
}

/// One edit that could leave the signed bytes as they are while the wire changes, or the other way round.
fn respell(request: &Recorded, edit: (u8, prop::sample::Index)) -> Recorded {
    let (kind, place) = edit;
    let mut other = request.clone();
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    if query.is_empty() {
        other.body = if request.body.starts_with('{') {
            respell_json(&request.body, kind, place)
        } else {
            respell_pairs(&request.body, kind, place)
        };
        return other;
    }
    let at = place.index(query.len());
    match kind {
        // move the rest of the query to the body
        20 => {
            other.body = format!("{}{}", &query[at..], request.body);
            other.target = format!("{path}?{}", &query[..at]);
        }
        // a byte from the path to the query, or the other way round
        21 => {
            let (path, last) = path.split_at(path.len() - 1);
            other.target = format!("{path}?{last}{query}");
        }
        22 => other.target = format!("{path}{}?{}", &query[..1], &query[1..]),
        _ => other.target = format!("{path}?{}", respell_pairs(query, kind, place)),
    }
    other.target = other.target.trim_end_matches('?').to_owned();
    other
}

fn respell_pairs(text: &str, kind: u8, place: prop::sample::Index) -> String {
    if text.is_empty() {
        return String::new();
    }
    let at = place.index(text.len());
    let (before, after) = (&text[..at], &text[at..]);
    let byte = text.as_bytes()[at];
    match kind {
        // spell a byte with a percent sign, in either case
        0 => format!("{before}%{byte:02X}{}", &after[1..]),
        1 => format!("{before}%{byte:02x}{}", &after[1..]),
        // undo one spelling
        2 => text.replacen("%20", "+", 1),
        3 => text.replacen('+', "%20", 1),
        4 => text.replacen('+', "%2B", 1),
        5 => text.replacen("%2B", "+", 1),
        6 => text.replacen("%3D", "=", 1),
        7 => format!("{text}&"),
        8 => format!("&{text}"),
        9 => text.replacen('=', "%3D", 1),
        10 => text.replacen('&', "%26", 1),
        11 => text.replacen('%', "%25", 1),
        // pairs in another order, or one of them twice
        12 => text.split('&').rev().collect::<Vec<_>>().join("&"),
        13 => text.split_once('&').map_or(text.to_owned(), |(a, b)| format!("{b}&{a}")),
        14 => format!("{text}&{}", text.split('&').next().unwrap()),
        15 => text.replacen("%20", " ", 1),
        _ => text.to_uppercase(),
    }
}

fn respell_json(text: &str, kind: u8, place: prop::sample::Index) -> String {
    let at = place.index(text.len());
    match kind % 8 {
        0 => text.replacen(':', ": ", 1),
        1 => text.replacen(',', " ,", 1),
        2 => text.replacen('e', "\\u0065", 1),
        // members in another order
        3 => {
            let members = text.trim_matches(['{', '}']);
            let other = members.split_once(',').map(|(a, b)| format!("{{{b},{a}}}"));
            other.unwrap_or_else(|| text.to_owned())
        }
        // the end of a name to its value, or two members as one
        4 => text.replacen("\":\"", "", 1),
        5 => text.replacen("\",\"", "&", 1),
        6 if text.is_char_boundary(at) => {
            format!("{}{}", &text[..at], &text[at..].replacen("\":\"", "", 1))
        }
        // a string as a number
        _ => text.replacen("\"1", "1", 1),
    }
}

/// What a backend reads. Where query and form are one text it takes the same parameters from either; elsewhere the
/// very bytes must agree.
fn meaning(dialect: &Dialect, forwarded: Accepted) -> (String, bytes::Bytes) {
    let query = forwarded.query.unwrap_or_default();
    let joins = dialect.coverage().iter().any(|cover| cover.text == "{query}{body}");
    if joins && query.is_empty() && !forwarded.body.starts_with(b"{") {
        return (String::from_utf8(forwarded.body.to_vec()).unwrap(), bytes::Bytes::new());
    }
    // What no signature covers means nothing that it could vouch for.
    let query = if passes(dialect, "query") { String::new() } else { query };
    (query, if passes(dialect, "body") { bytes::Bytes::new() } else { forwarded.body })
}

#[test]
fn all_spellings_that_share_signed_bytes_are_forwarded_as_one() {
    let accepted = share_signed_bytes(dialects, &wish().boxed(), 5_000);
    // Were no re-spelling ever accepted, the property would hold of nothing.
    assert!(accepted > 500, "{accepted}");
}

#[test]
fn all_spellings_that_share_signed_bytes_are_forwarded_as_one_where_lenient_readings_are_on() {
    let accepted = share_signed_bytes(lenient_dialects, &bare_wish().boxed(), 20_000);
    assert!(accepted > 500, "{accepted}");
}

/// Tries so many re-spelled requests of each dialect, and returns how many were accepted under the same signature.
fn share_signed_bytes(
    dialects: fn() -> Vec<Arc<Dialect>>,
    wishes: &BoxedStrategy<(Method, String, String)>,
    cases: u32,
) -> u64 {
    let accepted = std::cell::Cell::new(0_u64);
    for dialect in dialects() {
        let court = std::cell::RefCell::new(Court::of(dialects()));
        let edits = prop::collection::vec((0_u8..23, any::<prop::sample::Index>()), 1..4);
        let mut runner =
            TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&(wishes, edits), |(wish, edits)| {
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
                // What lenient readings refuse as it was sent they may take in another spelling.
                let Some(forwarded) = forwarded else { return Ok(()) };
                let (meant, forwarded) = (meaning(&dialect, meant), meaning(&dialect, forwarded));
                prop_assert_eq!(meant, forwarded, "{} and {}", request.target, other.target);
            }
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{}: {error}", dialect.name()));
    }
    accepted.get()
}
