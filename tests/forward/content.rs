//! What of a request reaches a backend, byte for byte.

use countersign::admit::{CHALLENGE, CodePlace, SecondFactor};
use countersign::identity;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use sha2::Sha256;

use crate::backend::{Backend, ok};
use crate::rig::{Call, IDENTITY_KEY, PASSPHRASE, Rig, SECRET, body, every, only, run, upstream};

const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The one request that a backend sees when `call` is forwarded.
async fn seen(call: &Call) -> String {
    let backend = Backend::answering("done").await;
    let rig = Rig::new(&[&backend.authority]);
    let reply = rig.send(call).await.unwrap();
    assert_eq!(body(reply).await.unwrap(), "done");
    let requests = backend.log.requests();
    assert_eq!(requests.len(), 1);
    requests[0].clone()
}

fn proves(text: &str) -> bool {
    let mut line = text.split("\r\n").next().unwrap().split(' ');
    let (method, target) = (line.next().unwrap(), line.next().unwrap());
    let (stated, mac) = (only(text, "countersign-identity"), only(text, "countersign-mac"));
    identity::mac(IDENTITY_KEY, method, target, stated.as_bytes()) == mac
}

#[test]
fn a_public_get_reaches_the_backend_in_exactly_these_bytes() {
    run(async {
        let call = Call::public(Method::GET, "/time?zone=utc", "")
            .with("accept", "*/*")
            .with("cookie", "session=1")
            .with("range", "bytes=0-9");
        let text = seen(&call).await;
        let mac = only(&text, "countersign-mac");
        assert_eq!(
            text,
            format!(
                "GET /time?zone=utc HTTP/1.1\r\n\
                 host: api.example\r\n\
                 accept: */*\r\n\
                 range: bytes=0-9\r\n\
                 countersign-mac: {mac}\r\n\
                 countersign-identity: v=1; request=0190-request; proof=none; key=-; account=-; venue=spot; \
                 permissions=-; client=192.0.2.7; deadline=-; body={NOTHING}\r\n\
                 x-request-id: 0190-request\r\n\
                 x-forwarded-for: 192.0.2.7\r\n\
                 x-forwarded-proto: https\r\n\r\n"
            )
        );
        assert!(proves(&text));
    });
}

#[test]
fn a_signed_post_arrives_without_its_signature_and_with_its_proof() {
    run(async {
        let call =
            Call::signed("binance", Method::POST, "/api/v3/order", "symbol=BTCUSDT&side=BUY");
        let text = seen(&call).await;
        let (head, sent) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /api/v3/order HTTP/1.1\r\n"), "{head}");
        assert!(sent.starts_with("symbol=BTCUSDT&side=BUY&timestamp=1700000000000"), "{sent}");
        assert!(!text.contains("signature="), "{text}");
        assert_eq!(only(&text, "content-length"), sent.len().to_string());
        assert_eq!(only(&text, "content-type"), "application/x-www-form-urlencoded");
        assert_eq!(only(&text, "host"), "api.example");
        assert_eq!(only(&text, "x-mbx-apikey"), "key-binance");
        assert!(every(&text, "transfer-encoding").is_empty());
        let identity = only(&text, "countersign-identity");
        assert!(
            identity.starts_with(
                "v=1; request=0190-request; proof=signature; key=key-binance; account=acct%2F7; venue=spot; \
                 permissions=read+trade; client=192.0.2.7; deadline=1700000005000; body="
            ),
            "{identity}"
        );
        assert!(!identity.contains(NOTHING));
        assert!(proves(&text));
    });
}

#[test]
fn no_credential_of_any_dialect_reaches_a_backend_even_where_it_is_listed() {
    run(async {
        for dialect in ["binance", "bybit", "bitget", "native"] {
            let call = Call::signed(dialect, Method::POST, "/v1/order", r#"{"a":1}"#);
            let call = if dialect == "binance" {
                Call::signed(dialect, Method::POST, "/v1/order", "a=1")
            } else {
                call
            };
            let backend = Backend::answering("done").await;
            let credentials =
                ["x-bapi-sign", "access-sign", "access-passphrase", "signature", "signature-input"];
            let mut rules = upstream(&[&backend.authority]);
            rules.forward_headers = credentials.map(HeaderName::from_static).to_vec();
            Rig::with(rules).send(&call).await.unwrap();
            let text = &backend.log.requests()[0];
            for name in credentials {
                assert!(every(text, name).is_empty(), "{dialect}: {name}");
            }
            assert!(!text.contains(PASSPHRASE) && !text.contains("signature="), "{dialect}");
        }
    });
}

#[test]
fn a_media_type_that_was_signed_reaches_the_backend_as_it_is() {
    run(async {
        let json = Call::signed("native", Method::POST, "/v1/import", "{}");
        let text = seen(&json).await;
        assert_eq!(only(&text, "content-type"), "application/json");

        // Signed by hand, with a type of its own.
        let digest = "sha-256=:uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=:";
        let list = r#"("@method" "@authority" "@path" "@query" "content-digest" "content-type")"#;
        let input = format!(r#"{list};created=1700000000;keyid="key-native";tag="countersign-1""#);
        let base = format!(
            "\"@method\": POST\n\"@authority\": api.example\n\"@path\": /v1/import\n\"@query\": ?\n\
             \"content-digest\": {digest}\n\"content-type\": text/csv; header=absent\n\"@signature-params\": {input}"
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
        mac.update(base.as_bytes());
        let signature = data_encoding::BASE64.encode(&mac.finalize().into_bytes());
        let call = Call { headers: HeaderMap::new(), body: "hello world".into(), ..json }
            .with("content-digest", digest)
            .with("content-type", "text/csv; header=absent")
            .with("signature-input", &format!("sig={input}"))
            .with("signature", &format!("sig=:{signature}:"));
        let text = seen(&call).await;
        assert_eq!(only(&text, "content-type"), "text/csv; header=absent");
        assert!(text.ends_with("\r\n\r\nhello world") && proves(&text));
    });
}

#[test]
fn a_request_without_a_body_says_so_only_where_one_is_expected() {
    run(async {
        for (method, lengths) in [
            (Method::GET, &[][..]),
            (Method::DELETE, &[]),
            (Method::HEAD, &[]),
            (Method::POST, &["0"]),
            (Method::PUT, &["0"]),
            (Method::PATCH, &["0"]),
        ] {
            let backend = Backend::start(|_, _| ok("")).await;
            let rig = Rig::new(&[&backend.authority]);
            let call = Call::public(method.clone(), "/", "").with("content-length", "7");
            rig.send(&call).await.unwrap();
            assert_eq!(every(&backend.log.requests()[0], "content-length"), lengths, "{method}");
        }
    });
}

#[test]
fn a_body_has_exactly_one_length_whatever_the_method() {
    run(async {
        for method in [Method::DELETE, Method::POST, Method::PUT] {
            let text = seen(&Call::public(method.clone(), "/", "a=1")).await;
            assert_eq!(only(&text, "content-length"), "3", "{method}");
            assert!(every(&text, "transfer-encoding").is_empty(), "{method}");
            assert!(text.ends_with("\r\n\r\na=1") && proves(&text), "{method}");
        }
    });
}

#[test]
fn the_operators_host_replaces_the_clients() {
    run(async {
        let backend = Backend::answering("done").await;
        let mut rules = upstream(&[&backend.authority]);
        rules.host = Some(HeaderValue::from_static("orders.internal"));
        Rig::with(rules).send(&Call::get().with("host", "api.example")).await.unwrap();
        assert_eq!(only(&backend.log.requests()[0], "host"), "orders.internal");
    });
}

#[test]
fn without_an_identity_key_the_identity_goes_unproved() {
    run(async {
        let backend = Backend::answering("done").await;
        let mut rules = upstream(&[&backend.authority]);
        rules.identity_key = None;
        Rig::with(rules).send(&Call::get()).await.unwrap();
        let text = &backend.log.requests()[0];
        assert!(every(text, "countersign-mac").is_empty());
        assert!(only(text, "countersign-identity").starts_with("v=1; "));
    });
}

#[test]
fn a_client_can_neither_forge_nor_suppress_the_identity() {
    run(async {
        let call = Call::get()
            .with("countersign-identity", "v=1; key=admin")
            .with("countersign-mac", "00")
            .with("countersign-future", "1")
            .with("x-request-id", "mine")
            .with("x-forwarded-for", "10.0.0.1")
            .with("accept", "text/plain")
            .with("connection", "Countersign-Identity, close, x-forwarded-for, ACCEPT");
        let text = seen(&call).await;
        assert!(only(&text, "countersign-identity").contains("key=-; "));
        assert!(proves(&text));
        assert!(every(&text, "countersign-future").is_empty());
        assert!(every(&text, "accept").is_empty(), "listed for this hop alone");
        assert_eq!(only(&text, "x-request-id"), "0190-request");
        assert_eq!(only(&text, "x-forwarded-for"), "192.0.2.7");
        assert!(every(&text, "connection").is_empty());
    });
}

/// Names that mean something to the gateway or to HTTP, and a few that do not.
const NAMES: [&str; 20] = [
    "accept",
    "accept-language",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "countersign-identity",
    "countersign-mac",
    "countersign-x",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-request-id",
];

fn fields() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let value = prop_oneof![
        proptest::sample::select(&NAMES[..]).prop_map(str::to_ascii_uppercase),
        (proptest::sample::select(&NAMES[..]), proptest::sample::select(&NAMES[..]))
            .prop_map(|(one, two)| format!("{one} ,\t{two}")),
        "[ -~]{0,20}".prop_map(|text| text.trim().to_owned()),
        Just("chunked".to_owned()),
    ];
    proptest::collection::vec((proptest::sample::select(&NAMES[..]), value), 0..16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_set_of_header_fields_forges_an_identity_or_framing(fields in fields()) {
        run(async {
            // Two hosts never pass the gate, so there is none among the fields of the client.
            let fields = fields.iter().filter(|(name, _)| *name != "host");
            let call = fields.fold(Call::post(), |call, (name, value)| call.with(name, value));
            let text = seen(&call).await;
            assert!(proves(&text), "{text}");
            assert!(only(&text, "countersign-identity").starts_with("v=1; request=0190-request; proof=none; key=-; "));
            assert_eq!(only(&text, "host"), "api.example");
            assert_eq!(only(&text, "content-length"), "8");
            assert_eq!(only(&text, "x-request-id"), "0190-request");
            assert_eq!(only(&text, "x-forwarded-for"), "192.0.2.7");
            for name in ["connection", "transfer-encoding", "te", "trailer", "upgrade", "expect",
                "keep-alive", "countersign-x", "cookie", "forwarded"]
            {
                assert!(every(&text, name).is_empty(), "{name} in {text}");
            }
        });
    }
}

#[test]
fn no_one_time_code_reaches_a_backend_whatever_is_passed_on() {
    run(async {
        let backend = Backend::answering("done").await;
        let [otp, mine] = ["x-otp", "x-mine"].map(HeaderName::from_static);
        let mut rules = upstream(&[&backend.authority]);
        rules.forward_headers = vec![otp.clone(), mine, CHALLENGE];
        let rig = Rig::with(rules);
        let call = Call::signed("binance", Method::POST, "/api/v3/order", "a=1")
            .with("x-otp", "123456")
            .with("x-countersign-challenge", "c")
            .with("x-mine", "kept");
        let (permit, mut entry) = rig.permit(&call).await;
        let place = CodePlace::Header(otp);
        entry.demand.second_factor = Some(SecondFactor { place, challenges: None });
        rig.forward(&rig.upstreams, &call, permit, &entry).await.unwrap();
        let text = &backend.log.requests()[0];
        assert_eq!(only(text, "x-mine"), "kept");
        assert!(every(text, "x-otp").is_empty(), "{text}");
        assert!(every(text, "x-countersign-challenge").is_empty(), "{text}");
    });
}

#[test]
fn cookies_in_pieces_are_one_field_for_the_backend() {
    run(async {
        let backend = Backend::answering("done").await;
        let mut rules = upstream(&[&backend.authority]);
        rules.forward_headers = vec![http::header::COOKIE];
        let call =
            Call::get().with("cookie", "a=1").with("x-other", "b").with("cookie", "c=2; d=3");
        Rig::with(rules).send(&call).await.unwrap();
        assert_eq!(only(&backend.log.requests()[0], "cookie"), "a=1; c=2; d=3");
    });
}
