//! Dialects that sign by a token, against whoever would bend one.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign::admit::{Ask, Decoys, Effect, Gate, Guard, Route, Scratch};
use countersign::clock::{ManualClock, Micros};
use countersign::dialect::{Credentials, Dialect, Draft, Inbound, builtin};
use countersign::key::{
    Algorithm, Allowlist, Key, Permission, Permissions, Secret, Signer, State, Tag, Venue,
};
use countersign::registry::fixed::FixedKeys;
use countersign::store::Repeat;
use countersign::store::memory::{MemoryStore, Options};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, Method, header};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use sha2::{Digest as _, Sha256, Sha512};

const NOW: u64 = 1_700_000_000;
const HOST: &str = "api.example";
const KEY: &str = "organizations/o/apiKeys/k";
const ORDERS: (Method, &str, &str) = (Method::POST, "/api/v3/orders", r#"{"side":"BUY"}"#);
/// A shared secret; its first 32 bytes are a scalar of P-256 and a seed of Ed25519 as well.
const SECRET: &[u8; 40] = b"a secret of thirty-two bytes and of more";

/// Who signs tokens, by whatever algorithm.
struct Holder {
    algorithm: Algorithm,
    pair: Option<EcdsaKeyPair>,
}

impl Holder {
    fn new(algorithm: Algorithm) -> Self {
        let pem =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let pair = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            pem.unwrap().as_ref(),
            &SystemRandom::new(),
        );
        Self {
            algorithm,
            pair: Some(pair.unwrap()).filter(|_| algorithm == Algorithm::EcdsaP256Sha256),
        }
    }

    /// What the registry holds.
    fn record(&self) -> Vec<u8> {
        match self.algorithm {
            Algorithm::EcdsaP256Sha256 => {
                self.pair.as_ref().unwrap().public_key().as_ref().to_vec()
            }
            Algorithm::Ed25519 => ed25519().verifying_key().to_bytes().to_vec(),
            Algorithm::HmacSha256
            | Algorithm::HmacSha384
            | Algorithm::HmacSha512
            | Algorithm::RsaSha256
            | Algorithm::RsaPssSha512 => SECRET.to_vec(),
        }
    }

    fn sign(&self, signed: &str) -> Vec<u8> {
        match self.algorithm {
            Algorithm::EcdsaP256Sha256 => {
                let pair = self.pair.as_ref().unwrap();
                pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec()
            }
            Algorithm::Ed25519 => ed25519().sign(signed.as_bytes()).to_bytes().to_vec(),
            Algorithm::HmacSha512 => mac512(SECRET, signed),
            Algorithm::HmacSha256
            | Algorithm::HmacSha384
            | Algorithm::RsaSha256
            | Algorithm::RsaPssSha512 => mac256(SECRET, signed),
        }
    }

    fn token(&self, header: &str, payload: &str) -> String {
        let signed = halves(header, payload);
        joined(&signed, &self.sign(&signed))
    }

    /// A token of Coinbase's, with each pair of `changes` replaced in it.
    fn coinbase(&self, changes: &[(&str, &str)]) -> String {
        let name = if self.algorithm == Algorithm::Ed25519 { "EdDSA" } else { "ES256" };
        let header = format!(r#"{{"alg":"{name}","typ":"JWT","kid":"{KEY}","nonce":"n1"}}"#);
        let (nbf, exp) = (NOW, NOW + 120);
        let payload = format!(
            r#"{{"iss":"cdp","sub":"{KEY}","nbf":{nbf},"exp":{exp},"uri":"POST {HOST}/api/v3/orders"}}"#
        );
        let change =
            |text: String| changes.iter().fold(text, |text, (from, to)| text.replace(from, to));
        self.token(&change(header), &change(payload))
    }
}

fn ed25519() -> SigningKey {
    SigningKey::from_bytes(SECRET.first_chunk().unwrap())
}

fn mac256(secret: &[u8], signed: &str) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(secret).unwrap().chain_update(signed);
    mac.finalize().into_bytes().to_vec()
}

fn mac512(secret: &[u8], signed: &str) -> Vec<u8> {
    let mac = Hmac::<Sha512>::new_from_slice(secret).unwrap().chain_update(signed);
    mac.finalize().into_bytes().to_vec()
}

fn halves(header: &str, payload: &str) -> String {
    let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    [&part(header), ".", &part(payload)].concat()
}

fn joined(signed: &str, signature: &[u8]) -> String {
    [signed, ".", &BASE64URL_NOPAD.encode(signature)].concat()
}

/// A token of Upbit's for these parameters.
fn upbit(nonce: &str, params: Option<&str>) -> String {
    let digest = params.map(|params| HEXLOWER.encode(&Sha512::digest(params)));
    let digest =
        digest.map(|digest| format!(r#","query_hash":"{digest}","query_hash_alg":"SHA512""#));
    let payload =
        format!(r#"{{"access_key":"{KEY}","nonce":"{nonce}"{}}}"#, digest.unwrap_or_default());
    Holder::new(Algorithm::HmacSha256).token(r#"{"alg":"HS256","typ":"JWT"}"#, &payload)
}

/// A gateway with one key, and a store that remembers.
struct Rig {
    gate: Gate<FixedKeys, MemoryStore, ManualClock>,
    dialect: Arc<Dialect>,
    scratch: Scratch,
    runtime: tokio::runtime::Runtime,
    state: tempfile::TempDir,
}

impl Rig {
    fn new(dialect: &str, holder: &Holder) -> Self {
        let state = tempfile::tempdir().unwrap();
        let dialect = Arc::new(builtin(dialect).unwrap().unwrap());
        let mut keys = FixedKeys::default();
        keys.insert(Key {
            id: KEY.into(),
            tag: Tag::of(KEY),
            account: "account".into(),
            account_tag: Tag::of("account"),
            venue: Venue("main".into()),
            dialect: Arc::clone(dialect.name()),
            secret: Secret::read(holder.algorithm, &holder.record()).unwrap(),
            passphrase: None,
            permissions: Permissions::NONE.with(Permission::TRADE),
            allowlist: Allowlist::default(),
            state: State::Active,
            expires: None,
            limits: Arc::from([]),
            epoch: 0,
            bindings: None,
        });
        let clock = ManualClock::default();
        clock.set(Micros(NOW * 1_000_000));
        // Without a time nothing is known of a nonce but what the disk has noted.
        let dir = dialect.lead().is_none().then_some(state.path());
        let gate = Gate {
            keys,
            store: store(dir),
            clock,
            decoys: Decoys::new().unwrap(),
            guard: Guard::off(),
            switches: Arc::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { gate, dialect, scratch: Scratch::new(), runtime, state }
    }

    /// `accepted`, or the reason for the refusal.
    fn verdict(&mut self, request: &(Method, &str, &str), authorization: &[String]) -> String {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        self.judge(request, &headers).0
    }

    /// The verdict on a request with this one token.
    fn of(&mut self, request: &(Method, &str, &str), token: &str) -> String {
        self.verdict(request, &[format!("Bearer {token}")])
    }

    fn judge(
        &mut self,
        (method, target, body): &(Method, &str, &str),
        headers: &HeaderMap,
    ) -> (String, Option<String>) {
        let (path, query) = target.split_once('?').map_or((*target, None), |(p, q)| (p, Some(q)));
        let request = Inbound {
            method,
            path,
            query,
            host: HOST,
            headers: headers.into(),
            body: body.as_bytes(),
            peer: Ipv4Addr::LOCALHOST.into(),
        };
        let route = self.route();
        let verdict = self.runtime.block_on(self.gate.admit(&request, &route, &mut self.scratch));
        match verdict {
            Ok(permit) => {
                let query = permit.outgoing().query(query).map(std::borrow::Cow::into_owned);
                ("accepted".to_owned(), query)
            }
            Err(denial) => (denial.reason().to_owned(), None),
        }
    }

    fn route(&self) -> Route {
        Route {
            name: "route".into(),
            id: 0,
            ask: Ask::Signed(Arc::clone(&self.dialect)),
            venue: Venue("main".into()),
            permissions: Permissions::NONE.with(Permission::TRADE),
            effect: Effect::Write,
            weight: 1,
            body_cap: 1 << 16,
            key_max_age: Duration::from_mins(5),
            lead: self.dialect.lead().unwrap_or(Duration::from_mins(1)),
            repeat: Repeat::Never,
            address_limit: None,
            symbol: None,
            charges: None,
            second_factor: None,
        }
    }

    /// Ends the process, as it were, and starts it again.
    fn restart(self) -> Self {
        let Self { gate, dialect, scratch, runtime, state } = self;
        let Gate { keys, store: old, clock, decoys, guard, switches } = gate;
        drop(old);
        let store = store(Some(state.path()));
        let gate = Gate { keys, store, clock, decoys, guard, switches };
        Self { gate, dialect, scratch, runtime, state }
    }
}

/// Long before now, so that the fence at its birth stops nothing.
fn store(state: Option<&Path>) -> MemoryStore {
    let options = Options {
        max_records: 1_000,
        max_subjects: 100,
        max_marks: 100,
        max_unique: 1_000,
        max_unique_per_key: 1_000,
        state_dir: state.map(Path::to_owned),
        ..Options::default()
    };
    MemoryStore::open(&options, Micros((NOW - 3_600) * 1_000_000)).unwrap()
}

fn es256() -> (Holder, Rig) {
    let holder = Holder::new(Algorithm::EcdsaP256Sha256);
    let rig = Rig::new("coinbase_jwt", &holder);
    (holder, rig)
}

fn hs256() -> Rig {
    Rig::new("upbit", &Holder::new(Algorithm::HmacSha256))
}

#[test]
fn an_honest_token_is_accepted_once_by_every_algorithm() {
    for algorithm in [Algorithm::EcdsaP256Sha256, Algorithm::Ed25519] {
        let holder = Holder::new(algorithm);
        let mut rig = Rig::new("coinbase_jwt", &holder);
        let token = holder.coinbase(&[]);
        assert_eq!(rig.of(&ORDERS, &token), "accepted", "{}", algorithm.name());
        assert_eq!(rig.of(&ORDERS, &token), "replayed", "{}", algorithm.name());
        assert_eq!(rig.of(&ORDERS, &holder.coinbase(&[("n1", "n2")])), "accepted");
        let listed = holder.coinbase(&[("\"uri\":\"", "\"uris\":[\""), ("orders\"", "orders\"]")]);
        assert_eq!(rig.of(&ORDERS, &listed), "accepted");
    }
}

#[test]
fn what_the_recipe_signs_it_accepts() {
    let pkcs8 =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .unwrap();
    for (dialect, algorithm, secret) in [
        ("coinbase_jwt", Algorithm::EcdsaP256Sha256, pkcs8.as_ref()),
        ("coinbase_jwt", Algorithm::Ed25519, SECRET.first_chunk::<32>().unwrap()),
        ("upbit", Algorithm::HmacSha256, &SECRET[..]),
        ("upbit", Algorithm::HmacSha512, &SECRET[..]),
    ] {
        let holder = Holder::new(algorithm);
        let mut rig = Rig::new(dialect, &holder);
        let signer = Signer::read(algorithm, secret).unwrap();
        if algorithm == Algorithm::EcdsaP256Sha256 {
            let pair = EcdsaKeyPair::from_pkcs8(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                secret,
                &SystemRandom::new(),
            );
            rig = Rig::new(dialect, &Holder { algorithm, pair: Some(pair.unwrap()) });
        }
        for (method, query, body) in [
            (Method::GET, "", ""),
            (Method::GET, "a=1&b=x%20y", ""),
            (Method::POST, "", r#"{"a":1,"b":"x y","c":["d","e"]}"#),
        ] {
            let draft = Draft {
                method: method.clone(),
                path: "/orders",
                query,
                body,
                host: HOST,
                window_ms: None,
                lead_ms: 120_000,
                nonce: None,
            };
            let by = Credentials { key_id: KEY, signer: &signer, passphrase: None };
            let sent = rig.dialect.sign(&draft, &by, Micros(NOW * 1_000_000)).unwrap();
            let headers: HeaderMap = sent.headers.into_iter().collect();
            let request = (method, &*sent.target, &*sent.body);
            assert_eq!(rig.judge(&request, &headers).0, "accepted", "{dialect} {query} {body}");
        }
    }
}

#[test]
fn the_key_record_names_the_algorithm_and_the_token_never_does() {
    let (holder, mut rig) = es256();
    // The public key as the secret of a MAC, in every spelling that a library might take.
    let point = holder.record();
    let header = format!(r#"{{"alg":"HS256","typ":"JWT","kid":"{KEY}","nonce":"n1"}}"#);
    let honest = holder.coinbase(&[]);
    let (_, rest) = honest.split_once('.').unwrap();
    let (payload, signature) = rest.split_once('.').unwrap();
    let signed = [&BASE64URL_NOPAD.encode(header.as_bytes()), ".", payload].concat();
    for secret in [point.clone(), BASE64.encode(&point).into_bytes(), Vec::new()] {
        let forged = joined(&signed, &mac256(&secret, &signed));
        assert_eq!(rig.of(&ORDERS, &forged), "garbled_credential");
    }
    // A token that says another algorithm of the dialect.
    let other = holder.coinbase(&[("ES256", "EdDSA")]);
    assert_eq!(rig.of(&ORDERS, &other), "bad_signature");
    // The right signature under a header that says another.
    let kept = [&signed, ".", signature].concat();
    assert_eq!(rig.of(&ORDERS, &kept), "garbled_credential");

    let mut rig = hs256();
    let payload = format!(r#"{{"access_key":"{KEY}","nonce":"n"}}"#);
    let signed = halves(r#"{"alg":"HS512"}"#, &payload);
    let accounts = (Method::GET, "/v1/accounts", "");
    assert_eq!(rig.of(&accounts, &joined(&signed, &mac512(SECRET, &signed))), "bad_signature");
    assert_eq!(rig.of(&accounts, &joined(&signed, &mac256(SECRET, &signed))), "bad_signature");
    let signed = halves(r#"{"alg":"HS256"}"#, &payload);
    assert_eq!(rig.of(&accounts, &joined(&signed, &mac512(SECRET, &signed))), "bad_signature");
    assert_eq!(rig.of(&accounts, &joined(&signed, &mac256(SECRET, &signed))), "accepted");
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let (holder, mut rig) = es256();
    let honest = holder.coinbase(&[]);
    let (signed, signature) = honest.rsplit_once('.').unwrap();
    for stripped in [
        signed.to_owned(),
        format!("{signed}."),
        format!("{signed}.{}", signature.split_at(signature.len() - 1).0),
        holder.coinbase(&[("ES256", "none")]),
        holder.coinbase(&[("ES256", "none")]).rsplit_once('.').unwrap().0.to_owned() + ".",
        joined(signed, &[0; 64]),
        String::new(),
    ] {
        let verdict = rig.of(&ORDERS, &stripped);
        assert!(
            ["garbled_credential", "bad_signature"].contains(&&*verdict),
            "{stripped} {verdict}"
        );
    }
    assert_eq!(rig.verdict(&ORDERS, &[]), "missing_credential");
    assert_eq!(rig.verdict(&ORDERS, &[format!("Basic {honest}")]), "garbled_credential");
    assert_eq!(rig.verdict(&ORDERS, std::slice::from_ref(&honest)), "garbled_credential");
    let both = [format!("Bearer {honest}"), format!("Bearer {honest}")];
    assert_eq!(rig.verdict(&ORDERS, &both), "credential_twice");
    assert_eq!(rig.of(&ORDERS, &honest), "accepted");
}

#[test]
fn a_token_is_good_for_its_own_request_alone() {
    let (holder, mut rig) = es256();
    let token = holder.coinbase(&[]);
    for request in [
        (Method::DELETE, "/api/v3/orders", ""),
        (Method::PUT, "/api/v3/orders", "{}"),
        (Method::POST, "/api/v3/orders/batch", "{}"),
        (Method::POST, "/api/v3", "{}"),
    ] {
        assert_eq!(rig.of(&request, &token), "bad_signature", "{request:?}");
    }
    for (from, to) in [
        (HOST, "api.other"),
        (HOST, "api.example.evil"),
        (HOST, "api.example:443"),
        (HOST, "http://api.example"),
        ("orders\"", "orders?a=1\""),
        ("\"uri\":\"POST api.example/api/v3/orders\"", "\"other\":1"),
    ] {
        assert_eq!(rig.of(&ORDERS, &holder.coinbase(&[(from, to)])), "bad_signature", "{to}");
    }
    let two = [("\"uri\":\"", "\"uris\":[\"GET api.example/\",\""), ("orders\"", "orders\"]")];
    assert_eq!(rig.of(&ORDERS, &holder.coinbase(&two)), "garbled_credential");
    assert_eq!(rig.of(&ORDERS, &token), "accepted");
}

#[test]
fn a_token_is_good_from_its_beginning_to_its_end_and_no_further_ahead_than_two_minutes() {
    let (holder, mut rig) = es256();
    let moment = |name: &str, at: u64| format!("\"{name}\":{at}");
    let (nbf, exp) = (moment("nbf", NOW), moment("exp", NOW + 120));
    for (name, from, at, verdict) in [
        ("nbf", &nbf, NOW + 1, "ahead"),
        ("iat", &nbf, NOW + 1, "ahead"),
        ("nbf", &nbf, NOW - 1_000_000, "accepted"),
        ("exp", &exp, NOW - 1, "stale"),
        ("exp", &exp, NOW, "accepted"),
        ("exp", &exp, NOW + 121, "accepted"),
        ("exp", &exp, NOW + 122, "ahead"),
        ("exp", &exp, u64::MAX, "ahead"),
        ("nbf", &nbf, u64::MAX, "ahead"),
    ] {
        let token = holder.coinbase(&[(from, &moment(name, at))]);
        assert_eq!(rig.of(&ORDERS, &token), verdict, "{name} {at}");
    }
    let never = holder.coinbase(&[(&format!(",{exp}"), "")]);
    assert_eq!(rig.of(&ORDERS, &never), "missing_credential");
}

#[test]
fn the_second_spelling_of_a_signature_is_the_same_request() {
    let (holder, mut rig) = es256();
    let token = holder.coinbase(&[]);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut mirrored = BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
    mirror(&mut mirrored);
    let mirrored = joined(signed, &mirrored);
    assert_ne!(mirrored, token);
    assert_eq!(rig.of(&ORDERS, &mirrored), "accepted");
    assert_eq!(rig.of(&ORDERS, &token), "replayed");
    assert_eq!(rig.of(&ORDERS, &mirrored), "replayed");
}

/// Turns (r, s) into (r, n-s), which verifies as well.
fn mirror(signature: &mut [u8]) {
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order = HEXLOWER.decode(order.as_bytes()).unwrap();
    let mut borrow = 0;
    for (digit, of_order) in signature.iter_mut().skip(32).zip(order).rev() {
        let difference = i32::from(of_order) - i32::from(*digit) - borrow;
        borrow = i32::from(difference < 0);
        *digit = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
}

#[test]
fn a_token_that_says_a_thing_twice_or_two_things_is_refused() {
    let (holder, mut rig) = es256();
    let exp = format!("\"exp\":{}", NOW + 120);
    for (from, to, verdict) in [
        (&*exp, &*format!("{exp},{exp}"), "credential_twice"),
        (&exp, &format!("{exp},\"\\u0065xp\":1"), "credential_twice"),
        ("\"nonce\"", "\"nonce\":\"n0\",\"nonce\"", "credential_twice"),
        ("\"alg\"", "\"alg\":\"none\",\"alg\"", "credential_twice"),
        ("\"sub\":\"organizations", "\"sub\":\"Organizations", "garbled_credential"),
        ("\"typ\"", "\"crit\":[\"exp\"],\"typ\"", "garbled_credential"),
        ("\"typ\"", "\"jwk\":{},\"typ\"", "garbled_credential"),
    ] {
        let token = holder.coinbase(&[(from, to)]);
        assert_eq!(rig.of(&ORDERS, &token), verdict, "{to}");
    }
}

#[test]
fn parameters_are_those_whose_digest_the_token_holds() {
    let mut rig = hs256();
    let order = (Method::POST, "/v1/orders", r#"{"side":"bid","price":1.50}"#);
    let query = (Method::GET, "/v1/orders?side=bid", "");
    for (nonce, request, params, verdict) in [
        ("1", &order, None, "unsigned_part"),
        ("1", &query, None, "unsigned_part"),
        ("1", &order, Some("side=ask&price=1.50"), "bad_signature"),
        ("1", &order, Some("side=bid&price=1.5"), "bad_signature"),
        ("1", &order, Some("price=1.50&side=bid"), "bad_signature"),
        ("1", &query, Some("side=ask"), "bad_signature"),
        ("1", &query, Some(""), "bad_signature"),
        ("1", &(Method::POST, "/v1/orders?side=bid", "{}"), Some("side=bid"), "unsigned_part"),
        ("1", &(Method::GET, "/v1/orders", "{}"), Some("side=bid"), "unsigned_part"),
        ("1", &(Method::POST, "/v1/orders", "side=bid"), Some("side=bid"), "malformed"),
        ("1", &(Method::POST, "/v1/o", r#"{"a":1,"a":2}"#), Some("a=1&a=2"), "malformed"),
        ("1", &order, Some("side=bid&price=1.50"), "accepted"),
        ("2", &query, Some("side=bid"), "accepted"),
        ("3", &(Method::GET, "/v1/accounts", ""), None, "accepted"),
    ] {
        assert_eq!(rig.of(request, &upbit(nonce, params)), verdict, "{request:?} {params:?}");
    }
}

#[test]
fn a_digest_of_the_decoded_query_lets_one_encoding_of_it_pass() {
    let mut rig = hs256();
    for (nonce, target) in [("1", "/o?memo=12%2B34%20%C3%A9"), ("2", "/o?mem%6F=12+34%20%c3%a9")] {
        let mut headers = HeaderMap::new();
        let token = format!("Bearer {}", upbit(nonce, Some("memo=12+34 é")));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&token).unwrap());
        let (verdict, query) = rig.judge(&(Method::GET, target, ""), &headers);
        assert_eq!(verdict, "accepted");
        assert_eq!(query.unwrap(), "memo=12%2B34%20%C3%A9");
    }
    let split = (Method::GET, "/o?a=1%26b=2", "");
    assert_eq!(rig.of(&split, &upbit("3", Some("a=1&b=2"))), "ambiguous");
}

#[test]
fn a_nonce_without_a_time_passes_once_ever_whatever_it_is_sent_with() {
    let mut rig = hs256();
    let accounts = (Method::GET, "/v1/accounts", "");
    assert_eq!(rig.of(&accounts, &upbit("n1", None)), "accepted");
    assert_eq!(rig.of(&accounts, &upbit("n1", None)), "replayed");
    assert_eq!(rig.of(&(Method::DELETE, "/v1/order", ""), &upbit("n1", None)), "replayed");
    assert_eq!(rig.of(&(Method::GET, "/o?a=1", ""), &upbit("n1", Some("a=1"))), "replayed");
    assert_eq!(rig.of(&accounts, &upbit("n2", None)), "accepted");
    let mut rig = rig.restart();
    for nonce in ["n1", "n2"] {
        assert_eq!(rig.of(&accounts, &upbit(nonce, None)), "replayed", "{nonce}");
    }
    assert_eq!(rig.of(&accounts, &upbit("n3", None)), "accepted");
}

#[test]
fn no_token_with_one_bit_flipped_is_accepted() {
    let (holder, mut rig) = es256();
    let mut flipped = 0;
    for (mut rig, request, token) in [
        (hs256(), (Method::GET, "/o?a=1", ""), upbit("n", Some("a=1"))),
        (Rig::new("coinbase_jwt", &holder), ORDERS, holder.coinbase(&[])),
    ] {
        for place in 0..token.len() {
            for bit in 0..7 {
                let mut bytes = token.clone().into_bytes();
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << bit;
                }
                let Ok(bent) = String::from_utf8(bytes) else { continue };
                if HeaderValue::from_str(&bent).is_err() {
                    continue;
                }
                assert_ne!(rig.of(&request, &bent), "accepted", "{place} {bit}");
                flipped += 1;
            }
        }
        assert_eq!(rig.of(&request, &token), "accepted");
    }
    assert!(flipped > 3_000, "{flipped}");
    assert_eq!(rig.of(&ORDERS, &holder.coinbase(&[])), "accepted");
}

#[test]
fn a_body_that_another_could_be_signed_like_is_refused() {
    let mut rig = hs256();
    let request = |body| (Method::POST, "/v1/orders", body);
    let verdict = |rig: &mut Rig, body, params| rig.of(&request(body), &upbit("n1", Some(params)));
    for (body, params) in [
        (r#"{"memo":"1&side=ask"}"#, "memo=1&side=ask"),
        (r#"{"a=1&b":"2"}"#, "a=1&b=2"),
        (r#"{"a[]":"x"}"#, "a[]=x"),
        (r#"{"a":[],"b":"1"}"#, "b=1"),
        (r#"{"a":"true"}"#, "a=true"),
    ] {
        assert_eq!(verdict(&mut rig, body, params), "ambiguous", "{body}");
    }
    assert_eq!(
        verdict(&mut rig, r#"{"memo":"1&2","a":["x","y"]}"#, "memo=1&2&a[]=x&a[]=y"),
        "accepted"
    );
}

#[test]
fn a_query_that_no_token_signs_passes_where_it_only_asks() {
    let (holder, mut rig) = es256();
    let line = |line: &str| holder.coinbase(&[("POST api.example/api/v3/orders", line)]);
    let query = |method| (method, "/api/v3/orders?limit=5", "");
    assert_eq!(
        rig.of(&query(Method::POST), &line("POST api.example/api/v3/orders")),
        "unsigned_part"
    );
    assert_eq!(
        rig.of(&query(Method::DELETE), &line("DELETE api.example/api/v3/orders")),
        "unsigned_part"
    );
    let body = (Method::GET, "/api/v3/orders", "{}");
    assert_eq!(rig.of(&body, &line("GET api.example/api/v3/orders")), "unsigned_part");
    assert_eq!(rig.of(&query(Method::GET), &line("GET api.example/api/v3/orders")), "accepted");
}
