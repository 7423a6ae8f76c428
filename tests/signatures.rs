//! HTTP message signatures against a library that is not ours, and against whoever would bend them.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use countersign::admit::{Ask, Decoys, Effect, Gate, Guard, Route, Scratch};
use countersign::clock::{ManualClock, Micros};
use countersign::denial::Denial;
use countersign::dialect::{BUILTIN, Credentials, Dialect, Draft, Inbound, builtin};
use countersign::key::{
    Algorithm, Allowlist, Key, Permission, Permissions, Signer, State, Tag, Venue,
};
use countersign::offline::{Judge, Recorded};
use countersign::registry::fixed::FixedKeys;
use countersign::store::Repeat;
use countersign::store::memory::{MemoryStore, Options};
use data_encoding::BASE64;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sha2::{Digest as _, Sha256};

const HERE: &str = env!("CARGO_MANIFEST_DIR");
const SECRET: &str = "s3cretZyXwVu9876543210fedcbaFEDCBA9876543210";
const CREATED: u64 = 1_700_000_000;
const BODY: &str = r#"{"symbol":"BTCUSDT","side":"buy"}"#;

struct Court(Judge, tokio::runtime::Runtime);

impl Court {
    fn open() -> Self {
        let compiled =
            BUILTIN.iter().map(|(_, recipe)| Arc::new(Dialect::compile(recipe).unwrap()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self(Judge::new(compiled).unwrap(), runtime)
    }

    /// `accepted`, or the reason for the refusal with its detail.
    fn verdict(&mut self, request: &Recorded) -> String {
        match self.1.block_on(self.0.judge(request)) {
            Err(unjudged) => format!("unjudged: {unjudged}"),
            Ok(judged) => match judged.verdict {
                Ok(_) => "accepted".to_owned(),
                Err(denial) => format!("{}: {}", denial.reason(), denial.detail()),
            },
        }
    }
}

fn read(lines: &str) -> Vec<Recorded> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn vectors(dialect: &str) -> Vec<Recorded> {
    let file = Path::new(HERE).join("tests/vectors").join(format!("{dialect}.jsonl"));
    read(&std::fs::read_to_string(file).unwrap())
}

/// The Python that has what tests/e2e/requirements.txt asks for.
fn python() -> Command {
    let named = std::env::var_os("COUNTERSIGN_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| Path::new(HERE).join("target/python/bin/python"));
    assert!(
        python.exists(),
        "{} is missing: `tests/run` makes target/python, or let COUNTERSIGN_PYTHON name a Python with \
         tests/e2e/requirements.txt",
        python.display()
    );
    Command::new(python)
}

/// What a Python program printed.
fn run(arguments: &[&str]) -> String {
    let ended = python().args(arguments).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap()
}

/// The library's script, with its arguments; what it printed.
fn script(command: &str, argument: &str) -> String {
    let script = Path::new(HERE).join("tests/e2e/message_signatures.py");
    run(&[script.to_str().unwrap(), command, argument])
}

/// A request signed by hand with HMAC: each component with the value that it signs.
fn by_hand(
    dialect: &str,
    (method, target, body): (&str, &str, &str),
    components: &[(&str, &str)],
    parameters: &str,
) -> Recorded {
    let mut base = String::new();
    for (name, value) in components {
        base.extend(["\"", name, "\": ", value, "\n"]);
    }
    let names: Vec<_> = components.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let input = format!("({}){parameters}", names.join(" "));
    base.extend(["\"@signature-params\": ", &input]);
    let mut headers = vec![
        ("host", "api.example".to_owned()),
        ("signature-input", format!("sig={input}")),
        ("signature", format!("sig=:{}:", mac(SECRET.as_bytes(), &base))),
    ];
    if !body.is_empty() {
        headers.push(("content-digest", digest(body)));
    }
    let headers = headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Recorded {
        dialect: dialect.to_owned(),
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
        body: body.to_owned(),
        key: "k".to_owned(),
        secret: SECRET.to_owned(),
        passphrase: None,
        now_ms: CREATED * 1_000,
        algorithm: "hmac-sha256".to_owned(),
        expect: None,
        strict_expect: None,
    }
}

fn mac(secret: &[u8], base: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(base.as_bytes());
    BASE64.encode(&mac.finalize().into_bytes())
}

fn digest(body: &str) -> String {
    format!("sha-256=:{}:", BASE64.encode(&Sha256::digest(body)))
}

const TAGGED: &str = r#";created=1700000000;keyid="k";tag="countersign-1""#;

/// An order in `native`, without the components named in `without`.
fn order(without: &[&str], parameters: &str) -> Recorded {
    let digest = digest(BODY);
    let all = [
        ("@method", "POST"),
        ("@authority", "api.example"),
        ("@path", "/v1/orders"),
        ("@query", "?dry=1"),
        ("content-digest", &*digest),
    ];
    let kept: Vec<_> = all.into_iter().filter(|(name, _)| !without.contains(name)).collect();
    by_hand("native", ("POST", "/v1/orders?dry=1", BODY), &kept, parameters)
}

fn with_header(request: &Recorded, name: &str, value: &str) -> Recorded {
    let mut changed = request.clone();
    changed.headers.insert(name.to_owned(), value.to_owned());
    changed
}

#[test]
fn what_the_library_signs_we_accept() {
    let mut court = Court::open();
    for (dialect, algorithms) in [("native", 2), ("rfc9421", 4)] {
        let signed = read(&script("sign", dialect));
        assert_eq!(signed.len() % algorithms, 0);
        assert!(signed.len() >= 17 * algorithms, "{}", signed.len());
        for request in signed {
            let input = &request.headers["Signature-Input"];
            assert_eq!(court.verdict(&request), "accepted", "{} {input}", request.algorithm);
        }
    }
}

#[test]
fn what_we_sign_the_library_accepts() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("signed.jsonl");
    let mut lines = String::new();
    let mut count = 0;
    for name in ["native", "rfc9421"] {
        let dialect = builtin(name).unwrap().unwrap();
        for algorithm in dialect.algorithms() {
            let known = vectors(name);
            let known = known.iter().find(|one| one.algorithm == algorithm.name()).unwrap();
            let private = Signer::read(algorithm, known.secret.as_bytes()).unwrap();
            for (method, query, body, window_ms) in [
                (Method::GET, "", "", None),
                (Method::GET, "a=%2F+%20&b=", "", Some(10_000)),
                (Method::POST, "", BODY, None),
                (Method::DELETE, "id=1", "", Some(1)),
            ] {
                let draft = Draft {
                    method,
                    path: "/v1/orders",
                    query,
                    body,
                    host: "API.Example:8443",
                    window_ms,
                    lead_ms: 0,
                    nonce: None,
                };
                let by = Credentials { key_id: "k-1", signer: &private, passphrase: None };
                let now = Micros::from_millis(CREATED * 1_000 + 999);
                let signed = dialect.sign(&draft, &by, now).unwrap();
                let headers: serde_json::Map<_, _> = signed
                    .headers
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
                    .collect();
                let line = serde_json::json!({
                    "algorithm": algorithm.name(),
                    "secret": known.secret,
                    "tag": (name == "native").then_some("countersign-1"),
                    "at": CREATED,
                    "method": signed.method.as_str(),
                    "url": format!("https://{}{}", draft.host, signed.target),
                    "headers": headers,
                    "body": signed.body,
                });
                lines.extend([line.to_string(), "\n".to_owned()]);
                count += 1;
            }
        }
    }
    std::fs::write(&file, lines).unwrap();
    let said = script("verify", file.to_str().unwrap());
    assert_eq!(said.trim(), format!("{count} verified"));
}

#[test]
fn no_bit_of_what_is_signed_can_be_flipped() {
    let mut court = Court::open();
    let mut refused = 0_u64;
    for name in ["native", "rfc9421"] {
        let vectors = vectors(name);
        let dialect = builtin(name).unwrap().unwrap();
        for algorithm in dialect.algorithms() {
            // A request with most of what there is: query, body, type, and everything covered.
            let fits = |one: &&Recorded| {
                one.algorithm == algorithm.name()
                    && (one.target.contains("dry=1") || one.target.contains("import"))
            };
            let chosen: Vec<_> = vectors.iter().filter(fits).collect();
            assert_eq!(chosen.len(), 2, "{name} {}", algorithm.name());
            for request in chosen {
                assert_eq!(court.verdict(request), "accepted");
                for flipped in flips(request) {
                    let verdict = court.verdict(&flipped);
                    let headers = &flipped.headers;
                    assert_ne!(verdict, "accepted", "{flipped:?} {} {headers:?}", flipped.body);
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 20_000, "{refused}");
}

/// Every way to flip one bit of a signed part.
fn flips(request: &Recorded) -> Vec<Recorded> {
    let mut all = Vec::new();
    for method in flipped(&request.method) {
        all.push(Recorded { method, ..request.clone() });
    }
    for target in flipped(&request.target) {
        all.push(Recorded { target, ..request.clone() });
    }
    for body in flipped(&request.body) {
        all.push(Recorded { body, ..request.clone() });
    }
    let input = &request.headers["Signature-Input"];
    for (name, value) in &request.headers {
        let lower = name.to_ascii_lowercase();
        let component = if lower == "host" { "\"@authority\"" } else { &*format!("\"{lower}\"") };
        if lower.starts_with("signature") || input.contains(component) {
            // The case of a host means nothing.
            let means_nothing =
                |other: &String| lower == "host" && other.eq_ignore_ascii_case(value);
            for other in flipped(value).filter(|other| !means_nothing(other)) {
                all.push(with_header(request, name, &other));
            }
        }
    }
    all
}

fn flipped(text: &str) -> impl Iterator<Item = String> {
    (0..text.len() * 8).filter_map(|bit| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        String::from_utf8(bytes).ok()
    })
}

#[test]
fn what_covers_less_than_everything_is_refused_by_name_however_well_it_is_signed() {
    let mut court = Court::open();
    assert_eq!(court.verdict(&order(&[], TAGGED)), "accepted");
    for left_out in ["@method", "@authority", "@path", "@query", "content-digest"] {
        let verdict = court.verdict(&order(&[left_out], TAGGED));
        assert!(verdict.starts_with("unsigned_part: "), "{verdict}");
        assert!(verdict.contains(left_out), "{verdict}");
    }
    for (parameters, verdict) in [
        (r#";keyid="k";tag="countersign-1""#, "missing_credential: timestamp"),
        (r#";created=1700000000;tag="countersign-1""#, "missing_credential: key"),
        (r#";created=1700000000;keyid="k""#, "malformed: no signature with this dialect's tag"),
        (
            r#";created=1700000000;keyid="k";tag="countersign-2""#,
            "malformed: no signature with this dialect's tag",
        ),
    ] {
        assert_eq!(court.verdict(&order(&[], parameters)), verdict, "{parameters}");
    }
}

#[test]
fn a_signature_of_one_dialect_is_none_of_the_other() {
    let mut court = Court::open();
    let mut judged = 0;
    for (from, to) in [("native", "rfc9421"), ("rfc9421", "native")] {
        for request in vectors(from) {
            let other = Recorded { dialect: to.to_owned(), ..request };
            let verdict = court.verdict(&other);
            assert!(verdict.starts_with("malformed: "), "{verdict}");
            judged += 1;
        }
    }
    assert!(judged > 100, "{judged}");
}

#[test]
fn a_request_is_good_from_when_it_was_created_until_it_expires() {
    let mut court = Court::open();
    let expires = r#";created=1700000000;expires=1700000030;keyid="k";tag="countersign-1""#;
    for (parameters, from_created_ms, verdict) in [
        (TAGGED, -1_000_i64, "ahead: "),
        (TAGGED, -999, "accepted"),
        (TAGGED, 5_000, "accepted"),
        (TAGGED, 5_001, "stale: "),
        (expires, -1_000, "ahead: "),
        (expires, 30_000, "accepted"),
        (expires, 30_001, "stale: "),
    ] {
        let now_ms = (CREATED * 1_000).saturating_add_signed(from_created_ms);
        let request = Recorded { now_ms, ..order(&[], parameters) };
        assert_eq!(court.verdict(&request), verdict, "{parameters} {from_created_ms}");
    }
    for (expires, verdict) in [
        ("1700000060", "accepted"),
        ("1700000061", "window_too_large: "),
        ("1700000000", "malformed: the signature expires before it was created"),
        ("1699999999", "malformed: the signature expires before it was created"),
    ] {
        let parameters =
            format!(r#";created=1700000000;expires={expires};keyid="k";tag="countersign-1""#);
        assert_eq!(court.verdict(&order(&[], &parameters)), verdict, "{expires}");
    }
    for created in ["0", "999999999999999"] {
        let parameters = TAGGED.replace("1700000000", created);
        assert_ne!(court.verdict(&order(&[], &parameters)), "accepted", "{created}");
    }
}

#[test]
fn a_body_cannot_be_swapped_dropped_or_added() {
    let mut court = Court::open();
    let good = order(&[], TAGGED);
    let swapped = Recorded { body: BODY.replace("buy", "sell"), ..good.clone() };
    let other = "malformed: the body is not what its content-digest says";
    assert_eq!(court.verdict(&swapped), other);
    let dropped = Recorded { body: String::new(), ..good.clone() };
    assert_eq!(court.verdict(&dropped), other);
    let matching = with_header(&swapped, "content-digest", &digest(&swapped.body));
    assert_eq!(court.verdict(&matching), "bad_signature: ");
    let mut bare = good.clone();
    bare.headers.remove("content-digest");
    assert_eq!(court.verdict(&bare), "malformed: a covered header field is not there");
    // A second digest of an algorithm that we do not know was not signed either.
    let more = format!("{}, unixsum=:AAAA:", digest(BODY));
    assert_eq!(court.verdict(&with_header(&good, "content-digest", &more)), "bad_signature: ");

    let get = [
        ("@method", "DELETE"),
        ("@authority", "api.example"),
        ("@path", "/v1/orders"),
        ("@query", "?"),
    ];
    let good = by_hand("native", ("DELETE", "/v1/orders", ""), &get, TAGGED);
    assert_eq!(court.verdict(&good), "accepted");
    let added = Recorded { body: BODY.to_owned(), ..good.clone() };
    let added = with_header(&added, "content-digest", &digest(BODY));
    assert!(court.verdict(&added).starts_with("unsigned_part: "));
}

#[test]
fn a_query_is_signed_as_it_is_sent() {
    let mut court = Court::open();
    let signed = |sent: &str, signed: &str| {
        let query = format!("?{signed}");
        let components = [
            ("@method", "GET"),
            ("@authority", "api.example"),
            ("@path", "/v1/orders"),
            ("@query", &*query),
        ];
        by_hand("native", ("GET", &format!("/v1/orders{sent}"), ""), &components, TAGGED)
    };
    for (sent, as_signed) in [("?a=%2Fb", "a=%2Fb"), ("?a=+&b", "a=+&b"), ("", ""), ("?", "")] {
        assert_eq!(court.verdict(&signed(sent, as_signed)), "accepted", "{sent}");
    }
    for (sent, as_signed) in [
        ("?a=%2Fb", "a=%2fb"),
        ("?a=%2Fb", "a=/b"),
        ("?a=%20b", "a=+b"),
        ("?a=+b", "a=%20b"),
        ("?a=%2B", "a=+"),
        ("?a=1&b=2", "b=2&a=1"),
        ("?a=1&", "a=1"),
        ("?a=1", ""),
        ("", "a=1"),
        ("?%61=1", "a=1"),
    ] {
        assert_eq!(
            court.verdict(&signed(sent, as_signed)),
            "bad_signature: ",
            "{sent} {as_signed}"
        );
    }
}

#[test]
fn the_key_fixes_the_algorithm_and_no_parameter_changes_it() {
    let mut court = Court::open();
    let known = vectors("rfc9421");
    let said = |name: &str| {
        let parameters = format!(r#";created=1700000000;keyid="k";alg="{name}""#);
        let all = [("@method", "GET"), ("@path", "/v1/orders"), ("@query", "?")];
        by_hand("rfc9421", ("GET", "/v1/orders", ""), &all, &parameters)
    };
    assert_eq!(court.verdict(&said("hmac-sha256")), "accepted");
    for (name, verdict) in [
        ("ed25519", "bad_signature: "),
        ("ecdsa-p256-sha256", "bad_signature: "),
        ("rsa-pss-sha512", "bad_signature: "),
        ("rsa-v1_5-sha256", "malformed: an algorithm that this dialect does not have"),
        ("HMAC-SHA256", "malformed: an algorithm that this dialect does not have"),
        ("none", "malformed: an algorithm that this dialect does not have"),
        ("", "malformed: an algorithm that this dialect does not have"),
    ] {
        assert_eq!(court.verdict(&said(name)), verdict, "{name}");
    }
    // What everyone knows of an asymmetric key, used as a shared secret.
    for algorithm in [Algorithm::Ed25519, Algorithm::EcdsaP256Sha256, Algorithm::RsaPssSha512] {
        let known = known.iter().find(|one| one.algorithm == algorithm.name()).unwrap();
        for name in ["hmac-sha256", algorithm.name()] {
            let forged = Recorded {
                secret: known.secret.clone(),
                algorithm: algorithm.name().to_owned(),
                ..said(name)
            };
            let base =
                "\"@method\": GET\n\"@path\": /v1/orders\n\"@query\": ?\n\"@signature-params\": ";
            let input = forged.headers["signature-input"].replace("sig=", "");
            let forged_mac = mac(known.secret.as_bytes(), &format!("{base}{input}"));
            let forged = with_header(&forged, "signature", &format!("sig=:{forged_mac}:"));
            assert_eq!(court.verdict(&forged), "bad_signature: ", "{name}");
        }
    }
}

#[test]
fn neither_a_second_signature_nor_an_injected_parameter_takes_the_first_ones_place() {
    let mut court = Court::open();
    let good = order(&[], TAGGED);
    let (input, signature) =
        (good.headers["signature-input"].clone(), good.headers["signature"].clone());
    let both = |input: &str, signature: &str| {
        with_header(&with_header(&good, "signature-input", input), "signature", signature)
    };
    // Another hop's signature is let be: it has no part in ours.
    let proxy = r#"proxy=("@authority");created=1;keyid="p";alg="x";more=?1"#;
    let also = both(&format!("{proxy}, {input}"), &format!("{signature}, proxy=:AAAA:"));
    assert_eq!(court.verdict(&also), "accepted");
    for (input, signature) in [
        (format!("{input}, {input}"), signature.clone()),
        (format!("{input}, {}", input.replacen("sig", "two", 1)), signature.clone()),
        (input.clone(), format!("{signature}, {signature}")),
        (input.clone(), signature.replacen("sig", "two", 1)),
        (input.replacen("sig", "two", 1), signature.clone()),
        (format!("{input};keyid=\"admin\""), signature.clone()),
        (input.replace("keyid=\"k\"", r#"keyid="k\";x=\"""#), signature.clone()),
        (format!("{proxy}, {input}, "), signature.clone()),
        (input.replace("sig=", "sig = "), signature.clone()),
        (input.to_uppercase(), signature.clone()),
        (input.clone(), signature.replace(':', "")),
        (input.clone(), signature.trim_end_matches("=:").to_owned() + ":"),
    ] {
        let verdict = court.verdict(&both(&input, &signature));
        let kinds = ["malformed: ", "missing_credential: ", "garbled_credential: "];
        let refused = kinds.iter().any(|kind| verdict.starts_with(kind));
        assert!(refused, "{verdict} {input} {signature}");
    }
    // What stands in a nonce stays in it.
    let nonce = r#";created=1700000000;keyid="k";nonce="\";keyid=\"admin";tag="countersign-1""#;
    assert_eq!(court.verdict(&order(&[], nonce)), "accepted");
}

#[test]
fn a_method_is_signed_letter_by_letter() {
    let mut court = Court::open();
    let all = |method| {
        [
            ("@method", method),
            ("@authority", "api.example"),
            ("@path", "/v1/orders"),
            ("@query", "?"),
        ]
    };
    for (sent, signed, accepted) in
        [("GET", "GET", true), ("GET", "get", false), ("get", "GET", false), ("GET", "POST", false)]
    {
        let request = by_hand("native", (sent, "/v1/orders", ""), &all(signed), TAGGED);
        assert_eq!(court.verdict(&request) == "accepted", accepted, "{sent} {signed}");
    }
}

/// The first block of `docs/native.md` in this language.
fn block<'d>(document: &'d str, language: &str) -> &'d str {
    let (_, after) = document.split_once(&format!("```{language}\n")).unwrap();
    after.split_once("\n```").unwrap().0
}

#[test]
fn the_page_for_authors_of_clients_shows_what_is_signed() {
    let document = std::fs::read_to_string(Path::new(HERE).join("docs/native.md")).unwrap();
    let (head, body) = block(&document, "http").split_once("\n\n").unwrap();
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some("POST /v1/orders?dry=1 HTTP/1.1"));
    let fields: Vec<_> = lines.map(|line| line.split_once(": ").unwrap()).collect();

    // What our signer makes of it,
    let dialect = builtin("native").unwrap().unwrap();
    let signer = Signer::read(Algorithm::HmacSha256, SECRET.as_bytes()).unwrap();
    let draft = Draft {
        method: Method::POST,
        path: "/v1/orders",
        query: "dry=1",
        body,
        host: "api.example.com",
        window_ms: None,
        lead_ms: 0,
        nonce: None,
    };
    let by = Credentials { key_id: "k-1", signer: &signer, passphrase: None };
    let made = dialect.sign(&draft, &by, Micros::from_millis(CREATED * 1_000)).unwrap();
    for (name, value) in &made.headers {
        let shown = fields.iter().find(|(shown, _)| shown.eq_ignore_ascii_case(name.as_str()));
        assert_eq!(shown.unwrap().1, value, "{name}");
    }

    // what the page's own client makes of it,
    let script = format!(
        "{}\nimport json\nprint(json.dumps(sign('k-1', '{SECRET}', 'POST', 'api.example.com', '/v1/orders', 'dry=1', \
         b'''{body}''', {CREATED})))",
        block(&document, "python")
    );
    assert!(block(&document, "python").lines().count() <= 20);
    let printed: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&run(&["-c", &script])).unwrap();
    let printed: Vec<_> =
        printed.iter().map(|(name, value)| (&**name, value.as_str().unwrap())).collect();
    for field in &printed {
        assert!(fields.contains(field), "{field:?}");
    }
    assert_eq!(printed.len() + 1, fields.len());

    // and what the server takes for its base.
    let headers = fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).into()));
    let request = Recorded {
        headers: headers.collect(),
        key: "k-1".to_owned(),
        ..by_hand("native", ("POST", "/v1/orders?dry=1", body), &[], TAGGED)
    };
    let mut court = Court::open();
    assert_eq!(court.verdict(&request), "accepted");
    let judged = court.1.block_on(court.0.judge(&request)).unwrap();
    let (_, base) = &judged.signed_bytes[0];
    assert_eq!(String::from_utf8_lossy(base), block(&document, "text"));
}

/// What becomes of the same read sent twice, on a route where reads repeat.
#[expect(clippy::too_many_lines, reason = "most are the fields of one request")]
fn twice(input_parameters: &str) -> [Result<(), Denial>; 2] {
    let components = [
        ("@method", "GET"),
        ("@authority", "api.example"),
        ("@path", "/v1/account"),
        ("@query", "?"),
    ];
    let signed = by_hand("native", ("GET", "/v1/account", ""), &components, input_parameters);
    let dialect = Arc::new(builtin("native").unwrap().unwrap());
    let venue = Venue("main".into());
    let now = Micros::from_millis(CREATED * 1_000);
    let mut keys = FixedKeys::default();
    keys.insert(Key {
        id: "k".into(),
        tag: Tag::of("k"),
        account: "a".into(),
        account_tag: Tag::of("a"),
        venue: venue.clone(),
        dialect: Arc::clone(dialect.name()),
        secret: dialect.read_secret(Algorithm::HmacSha256, SECRET.as_bytes()).unwrap(),
        passphrase: None,
        permissions: Permissions::NONE.with(Permission::READ),
        allowlist: Allowlist::default(),
        state: State::Active,
        expires: None,
        limits: Arc::from([]),
        epoch: 0,
        bindings: None,
    });
    let options = Options { max_records: 100, ..Options::default() };
    let gate = Gate {
        keys,
        store: MemoryStore::open(&options, now - Duration::from_mins(10)).unwrap(),
        clock: ManualClock::at(now),
        decoys: Decoys::new().unwrap(),
        guard: Guard::default(),
        switches: Arc::default(),
    };
    let route = Route {
        name: "account".into(),
        id: 0,
        ask: Ask::Signed(dialect),
        venue,
        permissions: Permissions::NONE.with(Permission::READ),
        effect: Effect::Read,
        weight: 1,
        body_cap: 1 << 16,
        key_max_age: Duration::from_mins(1),
        lead: Duration::from_mins(1),
        repeat: Repeat::SameRoute,
        address_limit: None,
        symbol: None,
        charges: None,
        second_factor: None,
    };
    let headers: HeaderMap = signed
        .headers
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )
        })
        .collect();
    let request = Inbound {
        method: &Method::GET,
        path: "/v1/account",
        query: None,
        host: "api.example",
        headers: (&headers).into(),
        body: b"",
        peer: std::net::Ipv4Addr::LOCALHOST.into(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut scratch = Scratch::new();
    [(); 2].map(|()| runtime.block_on(gate.admit(&request, &route, &mut scratch)).map(|_| ()))
}

#[test]
fn a_read_may_come_again_in_its_second_unless_it_has_a_nonce() {
    assert_eq!(twice(TAGGED), [Ok(()), Ok(())]);
    let nonce = format!(r#"{TAGGED};nonce="n""#);
    assert_eq!(twice(&nonce), [Ok(()), Err(Denial::Replayed)]);
}
