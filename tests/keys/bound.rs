//! What binds a key beside what every key has, at both edges: its outgoing secret, routes, application, times, and what
//! is switched off.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use countersign::admit::{Ask, Decoys, Effect, Gate, Guard, Route, Scratch};
use countersign::clock::{Clock as _, ManualClock};
use countersign::denial::{Condition, Denial};
use countersign::dialect::{Credentials, Dialect, Draft, Facts, Inbound, builtin};
use countersign::key::{
    Algorithm, Allowlist, Bindings, Key, Permission, Permissions, Secret, Signer, State, Tag, Venue,
};
use countersign::registry::fixed::FixedKeys;
use countersign::store::Repeat;
use countersign::store::memory::{MemoryStore, Options};
use http::{HeaderMap, Method};

use crate::world::{SECOND, START};

const STEP: Duration = Duration::from_micros(1);
const HOME: &str = "203.0.113.9";
const ROUTE: u16 = 7;

/// A gateway with one key, and whoever holds some secret.
struct One {
    gate: Gate<FixedKeys, MemoryStore, ManualClock>,
    dialect: Arc<Dialect>,
    route: Route,
    algorithm: Algorithm,
    scratch: Scratch,
    sent: u64,
}

impl One {
    fn new(bindings: Bindings) -> Self {
        Self::with(Algorithm::HmacSha256, bindings)
    }

    fn with(algorithm: Algorithm, bindings: Bindings) -> Self {
        let dialect = Arc::new(builtin("binance").unwrap().unwrap());
        let venue = Venue("main".into());
        let key = Key {
            id: "one".into(),
            tag: Tag::of("one"),
            account: "a".into(),
            account_tag: Tag::of("a"),
            venue: venue.clone(),
            dialect: Arc::clone(dialect.name()),
            secret: secret(algorithm, 1),
            passphrase: None,
            permissions: Permissions::NONE.with(Permission::READ).with(Permission::TRADE),
            allowlist: Allowlist::default(),
            state: State::Active,
            expires: None,
            limits: Arc::from([]),
            epoch: 1,
            bindings: Some(Box::new(bindings)),
        };
        let options = Options { max_records: 1_000, ..Options::default() };
        let gate = Gate {
            keys: [key].into_iter().collect(),
            store: MemoryStore::open(&options, START - SECOND * 60).unwrap(),
            clock: ManualClock::at(START),
            decoys: Decoys::new().unwrap(),
            guard: Guard::off(),
            switches: Arc::default(),
        };
        let route = Route {
            name: "order".into(),
            id: ROUTE,
            ask: Ask::Signed(Arc::clone(&dialect)),
            venue,
            permissions: Permissions::NONE.with(Permission::TRADE),
            effect: Effect::Write,
            weight: 1,
            body_cap: 0,
            key_max_age: SECOND,
            lead: SECOND * 60,
            repeat: Repeat::Never,
            address_limit: None,
            symbol: None,
            charges: None,
            second_factor: None,
        };
        Self { gate, dialect, route, algorithm, scratch: Scratch::new(), sent: 0 }
    }

    /// A new request, signed with that secret.
    fn send(&mut self, secret: u8) -> Result<(), Denial> {
        self.sent += 1;
        self.repeat(secret, HOME)
    }

    /// The last request, signed with that secret.
    fn repeat(&mut self, secret: u8, from: &str) -> Result<(), Denial> {
        let signer = Signer::read(self.algorithm, &private(self.algorithm, secret)).unwrap();
        let draft = Draft {
            method: Method::GET,
            path: "/api/v3/order",
            query: &format!("n={}", self.sent),
            body: "",
            host: "h",
            window_ms: None,
            lead_ms: 5_000,
            nonce: None,
        };
        let by = Credentials { key_id: "one", signer: &signer, passphrase: None };
        let sent = self.dialect.sign(&draft, &by, self.gate.clock.now()).unwrap();
        let headers: HeaderMap = sent.headers.into_iter().collect();
        let inbound = Inbound {
            method: &sent.method,
            path: "/api/v3/order",
            query: sent.target.split_once('?').map(|(_, query)| query),
            host: "h",
            headers: (&headers).into(),
            body: b"",
            peer: from.parse::<IpAddr>().unwrap(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let admit = self.gate.admit(&inbound, &self.route, &mut self.scratch);
        runtime.block_on(admit).map(|_| ())
    }
}

fn private(algorithm: Algorithm, seed: u8) -> Vec<u8> {
    if algorithm.is_symmetric() {
        return vec![seed; 32];
    }
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    [&head[..], &[seed; 32]].concat()
}

fn secret(algorithm: Algorithm, seed: u8) -> Secret {
    Secret::read(algorithm, &private(algorithm, seed)).unwrap()
}

fn rotated(algorithm: Algorithm) -> One {
    let outgoing = Some((secret(algorithm, 2), START + SECOND));
    One::with(algorithm, Bindings { outgoing, ..Bindings::default() })
}

#[test]
fn the_secret_that_was_rotated_out_is_good_until_its_cut_off_and_not_at_it() {
    for algorithm in [Algorithm::HmacSha256, Algorithm::Ed25519] {
        let mut one = rotated(algorithm);
        for (after, is_good) in
            [(Duration::ZERO, true), (SECOND.checked_sub(STEP).unwrap(), true), (SECOND, false)]
        {
            one.gate.clock.set(START + after);
            assert_eq!(one.send(1), Ok(()), "the new one");
            let expected = if is_good { Ok(()) } else { Err(Denial::BadSignature) };
            assert_eq!(one.send(2), expected, "{algorithm:?} {after:?}");
            assert_eq!(one.send(3), Err(Denial::BadSignature), "one that was never good");
        }
    }
}

#[test]
fn each_secret_s_request_passes_once() {
    let mut one = rotated(Algorithm::HmacSha256);
    for secret in [1, 2] {
        assert_eq!(one.send(secret), Ok(()));
        assert_eq!(one.repeat(secret, HOME), Err(Denial::Replayed));
    }
}

#[test]
fn only_a_rotated_key_costs_a_second_asymmetric_verification_and_only_when_the_first_fails() {
    let mut one = rotated(Algorithm::Ed25519);
    assert_eq!(one.send(1), Ok(()));
    assert_eq!(one.scratch.verifications(), 1);
    assert_eq!(one.send(3), Err(Denial::BadSignature));
    assert_eq!(one.scratch.verifications(), 3);
    one.gate.clock.set(START + SECOND);
    assert_eq!(one.send(3), Err(Denial::BadSignature));
    assert_eq!(one.scratch.verifications(), 4);
}

#[test]
fn a_key_for_other_routes_is_told_so_and_one_for_this_route_passes() {
    for (routes, expected) in [
        (None, Ok(())),
        (Some(vec![3, ROUTE, 9]), Ok(())),
        (Some(vec![ROUTE - 1, ROUTE + 1]), Err(Denial::RouteRefused)),
        (Some(vec![]), Err(Denial::RouteRefused)),
    ] {
        let routes = routes.map(Into::into);
        let mut one = One::new(Bindings { routes, ..Bindings::default() });
        assert_eq!(one.send(1), expected);
        assert_eq!(one.send(3), Err(Denial::BadSignature), "a stranger is told nothing");
    }
}

#[test]
fn an_application_is_used_from_where_it_may_be() {
    let application_allowlist = Allowlist::new(["203.0.113.8/31".parse().unwrap()]);
    let mut one = One::new(Bindings { application_allowlist, ..Bindings::default() });
    for (from, expected) in [
        ("203.0.113.7", Err(Denial::ApplicationAddressRefused)),
        ("203.0.113.8", Ok(())),
        ("203.0.113.9", Ok(())),
        ("203.0.113.10", Err(Denial::ApplicationAddressRefused)),
    ] {
        one.sent += 1;
        assert_eq!(one.repeat(1, from), expected, "{from}");
    }
}

#[test]
fn an_unbound_key_trades_until_its_time_is_over_and_reads_on() {
    let trade_until = Some(START + SECOND);
    let mut one = One::new(Bindings { trade_until, ..Bindings::default() });
    one.gate.clock.set(START + SECOND - STEP);
    assert_eq!(one.send(1), Ok(()));
    one.gate.clock.set(START + SECOND);
    assert_eq!(one.send(1), Err(Denial::TradeEnded));
    one.route.permissions = Permissions::NONE.with(Permission::READ);
    assert_eq!(one.send(1), Ok(()));
    one.route.permissions = Permissions::NONE.with(Permission::READ).with(Permission::TRADE);
    assert_eq!(one.send(1), Ok(()), "one of them is enough");
    one.route.permissions = Permissions::NONE.with(Permission::WITHDRAW);
    assert_eq!(one.send(1), Err(Denial::NotPermitted));
}

#[test]
fn what_is_switched_off_is_closed_to_every_key_until_it_is_on_again() {
    let mut one = One::new(Bindings::default());
    let (read, trade) = (Permission::READ, Permission::TRADE);
    one.gate.switches.set(Permissions::NONE.with(trade));
    assert_eq!(one.send(1), Err(Denial::SwitchedOff));
    assert_eq!(one.send(3), Err(Denial::BadSignature), "a stranger is told nothing");
    one.route.permissions = Permissions::NONE.with(read).with(trade);
    assert_eq!(one.send(1), Ok(()), "what is left of the key opens it");
    one.gate.switches.set(Permissions::NONE.with(read));
    one.route.permissions = Permissions::NONE.with(trade);
    assert_eq!(one.send(1), Ok(()));
    one.route.permissions = Permissions::NONE;
    one.gate.switches.set(Permissions::NONE.with(read).with(trade));
    assert_eq!(one.send(1), Ok(()), "it asks for nothing that is off");
    one.gate.switches.set(Permissions::ALL);
    assert_eq!(one.send(1), Err(Denial::SwitchedOff));
    one.gate.switches.set(Permissions::NONE);
    assert_eq!(one.send(1), Ok(()));
}

#[test]
fn a_key_that_is_only_named_is_refused_as_if_it_were_unknown() {
    for bindings in [
        Bindings { routes: Some([].into()), ..Bindings::default() },
        Bindings { trade_until: Some(START), ..Bindings::default() },
    ] {
        let mut one = One::new(bindings);
        one.route.ask = Ask::Key(Arc::clone(&one.dialect));
        assert_eq!(one.send(1), Err(Denial::UnknownKey));
    }
    let mut one = One::new(Bindings::default());
    one.route.ask = Ask::Key(Arc::clone(&one.dialect));
    assert_eq!(one.send(1), Ok(()));
    one.gate.switches.set(Permissions::ALL);
    assert_eq!(one.send(1), Err(Denial::UnknownKey));
}

#[test]
fn what_is_told_after_proof_is_precise_in_the_dialect_and_before_it_one_answer() {
    let one = One::new(Bindings::default());
    let answer = |denial: Denial| {
        let facts = Facts::of(&denial, START);
        let answer = one.dialect.refuse(&denial, true, &facts);
        (answer.status, answer.body)
    };
    for denial in [Denial::RouteRefused, Denial::TradeEnded, Denial::SwitchedOff] {
        assert_eq!(denial.condition(true), Condition::NoPermission);
        assert_eq!(denial.imitated(true), Condition::NoPermission);
        assert_eq!(answer(denial), answer(Denial::NotPermitted));
    }
    assert_eq!(answer(Denial::ApplicationAddressRefused), answer(Denial::AddressRefused));
    for denial in [Denial::UnknownKey, Denial::KeyInactive, Denial::WrongDialect] {
        assert_eq!(answer(denial), answer(Denial::BadSignature));
    }
}
