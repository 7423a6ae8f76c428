//! What clients are told: nothing before the signature is proven, and then the reason in their exchange's own words.

use std::path::Path;
use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::backend::Backend;
use crate::client::{Answer, Call, Client, Wire, now, send, send_by};
use crate::program::Served;
use crate::world::{DIALECTS, File, NATIVE, PASSPHRASE, VARIABLES, client, order, world};

struct World {
    served: Served,
    backend: Backend,
    _file: File,
}

impl World {
    fn start() -> Self {
        let backend = Backend::start();
        let file = File::new(&world(&[backend.address]));
        Self { served: Served::ready(&file.path(), &VARIABLES), backend, _file: file }
    }

    fn ask(&self, call: &Call) -> Answer {
        send(self.served.address(), call)
    }

    /// What a right signature under a key of this kind is told.
    fn asked_by(
        &self,
        dialect: &str,
        kind: &str,
        method: Method,
        target: &str,
        body: &str,
    ) -> Answer {
        let key = format!("{dialect}-{kind}");
        self.ask(&client(dialect, &key).sign(method, target, body))
    }
}

#[test]
fn nothing_before_proof_tells_which_keys_exist() {
    let world = World::start();
    for (dialect, read, write) in DIALECTS.into_iter().chain([NATIVE]) {
        let body = order(dialect, 1);
        for (method, target, body) in [(Method::GET, read, ""), (Method::POST, write, &*body)] {
            let calls = unproven(dialect, &method, target, body);
            for wire in [None, Some(Wire::Plain2)] {
                let address = world.served.address();
                let mut answers = calls.iter().map(|(what, call)| match &wire {
                    None => (what, send(address, call)),
                    Some(wire) => (what, send_by(wire, address, call)),
                });
                let (_, first) = answers.next().unwrap();
                as_told(dialect, "bad_signature", &first);
                let first = first.masked();
                assert!(!first.body.is_empty());
                for (what, answer) in answers {
                    assert_eq!(answer.masked(), first, "{dialect} {method} {wire:?}: {what}");
                }
            }
        }
    }
    assert_eq!(world.backend.seen().len(), 0);
    let (native, read, _) = NATIVE;
    assert_eq!(world.asked_by(native, "good", Method::GET, read, "").status, 200, "the control");
}

#[test]
fn a_dialect_that_imitates_its_exchange_tells_unknown_keys_apart() {
    let backend = Backend::start();
    let sections = DIALECTS.map(|(name, ..)| format!("[dialect.{name}]\nimitate = true\n"));
    let text = world(&[backend.address])
        .replace("version = 1\n", &format!("version = 1\n{}", sections.concat()));
    let file = File::new(&text);
    let served = Served::ready(&file.path(), &VARIABLES);
    for (dialect, read, _) in DIALECTS {
        for (what, call) in unproven(dialect, &Method::GET, read, "") {
            let known = ["changed", "secret", "wrong"].iter().any(|word| what.contains(word));
            let condition = if known { "bad_signature" } else { "unknown_key" };
            let answer = send(served.address(), &call);
            let (status, body) = recorded(dialect, condition).unwrap();
            let told = (answer.status, code(&answer.body));
            assert_eq!(told, (status, code(&body)), "{dialect}: {what}");
        }
    }
    assert_eq!(backend.seen().len(), 0);
}

/// Requests that prove nothing, or prove a key that is not valid here.
fn unproven(dialect: &str, method: &Method, target: &str, body: &str) -> Vec<(&'static str, Call)> {
    let sign = |key: &str, secret: &str| {
        let signer = Client { dialect, key, secret, passphrase: PASSPHRASE };
        signer.sign(method.clone(), target, body)
    };
    let right = |key: &str| sign(key, crate::world::SECRET);
    let named = |kind: &str| format!("{dialect}-{kind}");
    let foreign = if dialect == "binance" { "bybit-good" } else { "binance-good" };
    let changed = |last: bool| {
        let call = right(&named("good"));
        with_changed_signature(call, dialect, last)
    };
    vec![
        ("an unknown key", right("nobody")),
        ("the first byte changed", changed(false)),
        ("the last byte changed", changed(true)),
        ("another secret", sign(&named("good"), "another secret, as long as the others")),
        ("a revoked key", right(&named("revoked"))),
        ("a suspended key", right(&named("suspended"))),
        ("a key of another venue", right(&named("elsewhere"))),
        ("a key of another dialect", right(foreign)),
        ("a wrong signature under a revoked key", sign(&named("revoked"), "another secret here")),
        ("a wrong signature under an expired key", sign(&named("expired"), "another secret here")),
        ("a wrong signature under a bound key", sign(&named("bound"), "another secret here")),
    ]
}

fn with_changed_signature(mut call: Call, dialect: &str, last: bool) -> Call {
    let change = |signature: &str| {
        let mut letters: Vec<char> = signature.chars().collect();
        // Behind a label, before base64's padding and the bits it leaves unused.
        let end = signature.trim_end_matches([':', '=']).len() - 2;
        let place = if last { end } else { signature.find(':').map_or(0, |colon| colon + 1) };
        letters[place] = if letters[place] == 'a' { 'b' } else { 'a' };
        String::from_iter(letters)
    };
    let field = match dialect {
        "bybit" => "x-bapi-sign",
        "bitget" => "access-sign",
        "native" => "signature",
        _ => {
            let text = if call.body.is_empty() { &mut call.target } else { &mut call.body };
            let (before, signature) = text.split_once("signature=").unwrap();
            *text = format!("{before}signature={}", change(signature));
            return call;
        }
    };
    let (_, value) = call.fields.iter_mut().find(|(name, _)| name == field).unwrap();
    *value = change(value);
    call
}

/// Status and body that the exchange itself gives.
fn recorded(dialect: &str, condition: &str) -> Option<(u16, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/errors.jsonl");
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let line = lines.find(|line| line["dialect"] == dialect && line["condition"] == condition)?;
    let status = u16::try_from(line["status"].as_u64().unwrap()).unwrap();
    Some((status, line["body"].as_str().unwrap_or_default().to_owned()))
}

/// The member by which clients tell refusals apart.
fn code(body: &str) -> String {
    let members = body.trim_start_matches('{').split(',');
    members.take(1).collect()
}

/// Checks an answer against what the exchange gives, where that is recorded.
fn as_recorded(dialect: &str, condition: &str, answer: &Answer) {
    let (status, body) =
        recorded(dialect, condition).unwrap_or_else(|| panic!("{dialect} {condition}"));
    assert_eq!(answer.status, status, "{dialect} {condition} {answer:?}");
    assert_eq!(code(&answer.body), code(&body), "{dialect} {condition} {answer:?}");
}

/// The same where the dialect is an exchange's; of our own its problem type.
fn as_told(dialect: &str, condition: &str, answer: &Answer) {
    if dialect != NATIVE.0 {
        return as_recorded(dialect, condition, answer);
    }
    let kind = format!("urn:countersign:problem:{condition}");
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((told["type"].as_str(), &told["status"]), (Some(&*kind), &answer.status.into()));
}

#[test]
fn after_proof_the_reason_is_told_as_the_exchange_tells_it() {
    let world = World::start();
    for (dialect, read, write) in DIALECTS {
        let get = |kind: &str| world.asked_by(dialect, kind, Method::GET, read, "");
        assert_eq!(get("good").status, 200);
        as_recorded(dialect, "ip_not_allowed", &get("bound"));
        let body = order(dialect, 2);
        let refused = world.asked_by(dialect, "reader", Method::POST, write, &body);
        as_recorded(dialect, "no_permission", &refused);
        let expired = get("expired");
        match dialect {
            "binance" => assert!(expired.body.contains("-2015"), "{expired:?}"),
            "bybit" => as_recorded(dialect, "expired_key", &expired),
            _ => assert!(expired.body.contains("40014"), "{expired:?}"),
        }
    }
    let key = Client { passphrase: "close sesame", ..client("bitget", "bitget-good") };
    let (_, read, _) = DIALECTS[2];
    as_recorded("bitget", "bad_passphrase", &world.ask(&key.sign(Method::GET, read, "")));
}

#[test]
fn a_spent_limit_is_told_with_the_fields_that_clients_read() {
    let world = World::start();
    for (dialect, _, write) in DIALECTS {
        let ask = |number| {
            let body = order(dialect, number);
            world.asked_by(dialect, "small", Method::POST, write, &body)
        };
        for number in 0..3 {
            assert_eq!(ask(number).status, 200, "{dialect}");
        }
        let refused = ask(3);
        as_recorded(dialect, "rate_limited", &refused);
        let field = |name: &str| {
            refused.field(name).unwrap_or_else(|| panic!("{name}: {refused:?}")).to_owned()
        };
        match dialect {
            "binance" => {
                assert_eq!(field("x-mbx-used-weight-1h"), "3");
                assert_eq!(field("x-mbx-used-weight"), "3");
            }
            "bybit" => {
                assert_eq!(
                    (field("x-bapi-limit"), field("x-bapi-limit-status")),
                    ("3".into(), "0".into())
                );
                assert!(
                    field("x-bapi-limit-reset-timestamp").parse::<u64>().unwrap()
                        > now().as_millis()
                );
            }
            _ => assert_eq!(field("x-mbx-used-remain-limit"), "0"),
        }
        let wait: u64 = field("retry-after").parse().unwrap();
        assert!((1..=3_600).contains(&wait), "{wait}");
    }
}

#[test]
fn credentials_that_are_missing_are_named_as_the_exchange_names_them() {
    let world = World::start();
    for (dialect, read, _) in DIALECTS {
        let signed = client(dialect, &format!("{dialect}-good")).sign(Method::GET, read, "");
        for (condition, name) in [
            ("missing_key", ["X-MBX-APIKEY", "X-BAPI-API-KEY", "ACCESS-KEY"]),
            ("missing_signature", ["signature", "X-BAPI-SIGN", "ACCESS-SIGN"]),
            ("missing_timestamp", ["timestamp", "X-BAPI-TIMESTAMP", "ACCESS-TIMESTAMP"]),
        ] {
            let place = DIALECTS.iter().position(|(known, ..)| *known == dialect).unwrap();
            let answer = world.ask(&without(&signed, name[place]));
            if recorded(dialect, condition).is_some() {
                as_recorded(dialect, condition, &answer);
            } else {
                assert!((400..500).contains(&answer.status), "{dialect} {condition} {answer:?}");
            }
        }
    }
}

fn without(call: &Call, name: &str) -> Call {
    let mut call = call.clone();
    call.fields.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
    let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
    let start = format!("{name}=");
    let kept: Vec<_> = query.split('&').filter(|pair| !pair.starts_with(&start)).collect();
    let mark = if kept.is_empty() { "" } else { "?" };
    call.target = [path, mark, &kept.join("&")].concat();
    call
}

#[test]
fn a_clock_that_is_off_is_told_by_how_much() {
    let world = World::start();
    for (dialect, read, _) in DIALECTS {
        let key = format!("{dialect}-good");
        let hour = Duration::from_hours(1);
        for (at, sign, condition) in
            [(now() - hour, -1, "stale_timestamp"), (now() + hour, 1, "future_timestamp")]
        {
            let call = client(dialect, &key).sign_at(at, Method::GET, read, "");
            let answer = world.ask(&call);
            let condition =
                if recorded(dialect, condition).is_some() { condition } else { "stale_timestamp" };
            as_recorded(dialect, condition, &answer);
            let number = |name: &str| answer.field(name).unwrap().parse::<i64>().unwrap();
            let skew = number("x-countersign-skew-ms") * sign;
            assert!((3_400_000..=3_800_000).contains(&skew), "{answer:?}");
            let told = number("x-countersign-server-time");
            let now = i64::try_from(now().as_millis()).unwrap();
            assert!((now - 200_000..=now).contains(&told), "{answer:?}");
        }
        assert_eq!(
            world.asked_by(dialect, "good", Method::GET, read, "").field("x-countersign-skew-ms"),
            None
        );
    }
}

#[test]
fn a_repeated_write_is_told_as_a_duplicate_that_no_client_sends_again() {
    let world = World::start();
    for ((dialect, _, write), expected) in
        DIALECTS.into_iter().zip(["\"code\":-2010", "\"retCode\":10014", "\"code\":\"40786\""])
    {
        let body = order(dialect, 5);
        let call = client(dialect, &format!("{dialect}-good")).sign(Method::POST, write, &body);
        assert_eq!(world.ask(&call).status, 200);
        let before = world.backend.seen().len();
        let answer = world.ask(&call);
        assert!(answer.body.contains(expected), "{answer:?}");
        let by_http2 = send_by(&Wire::Plain2, world.served.address(), &call);
        assert!(by_http2.body.contains(expected), "{by_http2:?}");
        assert_eq!(world.backend.seen().len(), before);
    }
}
