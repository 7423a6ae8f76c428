//! Failures, proofs, bans and guesses, through the whole path of a request.

use std::sync::Arc;

use http::{HeaderMap, Method};

use super::*;
use crate::admit::{Ask, Decoys, Effect, Gate, Route, Scratch};
use crate::clock::{Clock, ManualClock};
use crate::dialect::{Credentials, Dialect, Draft, Facts, Inbound, builtin};
use crate::key::{
    Allowlist, Passphrase, Permission, Permissions, Secret, Signer, State, Tag, Venue,
};
use crate::registry::fixed::FixedKeys;
use crate::store::Repeat;
use crate::store::memory::{MemoryStore, Options};

pub(super) const START: Micros = Micros(1_760_000_000_000_000);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const BAD: &str = "198.51.100.7";
pub(super) const GOOD: &str = "203.0.113.9";
pub(super) const BOUNDS: Bounds = Bounds {
    failures: Some(Limit { quota: 10, period: Duration::from_mins(1) }),
    passphrases: Some(Limit { quota: 3, period: Duration::from_mins(1) }),
    codes: Some(Limit { quota: 3, period: Duration::from_mins(10) }),
    codes_per_account: Some(Limit { quota: 10, period: Duration::from_hours(24) }),
    codes_known_for: Duration::from_hours(24),
    bans: None,
    proven_for: Duration::from_hours(1),
    exempt: Vec::new(),
};

/// A gateway with keys "one" and "two", and a client of it.
pub(super) struct World {
    pub(super) gate: Gate<FixedKeys, MemoryStore, ManualClock>,
    pub(super) dialect: Arc<Dialect>,
    pub(super) route: Route,
    algorithm: Algorithm,
    pub(super) scratch: Scratch,
    requests: u32,
}

impl World {
    pub(super) fn new(dialect: &str, algorithm: Algorithm, bounds: &Bounds) -> Self {
        let dialect = Arc::new(builtin(dialect).unwrap().unwrap());
        let venue = Venue("main".into());
        let born = START - SECOND * 60;
        let options = Options { max_records: 1_000, ..Options::default() };
        let gate = Gate {
            keys: ["one", "two"].map(|id| key(id, &dialect, algorithm)).into_iter().collect(),
            store: MemoryStore::open(&options, born).unwrap(),
            clock: ManualClock::at(START),
            decoys: Decoys::new().unwrap(),
            guard: Guard::new(bounds),
            switches: Arc::default(),
        };
        let route = Route {
            name: "order".into(),
            id: 0,
            ask: Ask::Signed(Arc::clone(&dialect)),
            venue,
            permissions: Permissions::NONE.with(Permission::TRADE),
            effect: Effect::Write,
            weight: 1,
            body_cap: 1 << 16,
            key_max_age: SECOND,
            lead: SECOND * 60,
            repeat: Repeat::Never,
            address_limit: None,
            symbol: None,
            charges: None,
            second_factor: None,
        };
        Self { gate, dialect, route, algorithm, scratch: Scratch::new(), requests: 0 }
    }

    /// One more key, not yet known to the gateway.
    pub(super) fn key(&self, id: &str) -> Key {
        key(id, &self.dialect, self.algorithm)
    }

    /// A request signed with the right secret of every key, or with a wrong one.
    pub(super) fn send(&mut self, from: &str, key_id: &str, right: bool) -> Result<(), Denial> {
        self.send_with(from, key_id, right, "open sesame")
    }

    pub(super) fn send_with(
        &mut self,
        from: &str,
        key_id: &str,
        right: bool,
        passphrase: &str,
    ) -> Result<(), Denial> {
        self.requests += 1;
        let secret = private(self.algorithm, if right { 7 } else { 8 });
        let signer = Signer::read(self.algorithm, &secret).unwrap();
        let passphrase = self.dialect.has_passphrase().then_some(passphrase);
        let draft = Draft {
            method: Method::GET,
            path: "/api/v3/order",
            query: &format!("n={}", self.requests),
            body: "",
            host: "h",
            window_ms: None,
            lead_ms: 5_000,
            nonce: None,
        };
        let by = Credentials { key_id, signer: &signer, passphrase };
        let sent = self.dialect.sign(&draft, &by, self.gate.clock.now()).unwrap();
        let headers: HeaderMap = sent.headers.into_iter().collect();
        let inbound = Inbound {
            method: &sent.method,
            path: "/api/v3/order",
            query: sent.target.split_once('?').map(|(_, query)| query),
            host: "h",
            headers: (&headers).into(),
            body: b"",
            peer: from.parse().unwrap(),
        };
        let admit = self.gate.admit(&inbound, &self.route, &mut self.scratch);
        now_or_never(admit).map(|_| ())
    }

    /// Fails as often as is borne.
    pub(super) fn spend_failures(&mut self, from: &str) {
        for _ in 0..10 {
            assert_eq!(self.send(from, "one", false), Err(Denial::BadSignature));
        }
    }
}

fn key(id: &str, dialect: &Dialect, algorithm: Algorithm) -> Key {
    Key {
        id: id.into(),
        tag: Tag::of(id),
        account: id.into(),
        account_tag: Tag::of(id),
        venue: Venue("main".into()),
        dialect: Arc::clone(dialect.name()),
        secret: Secret::read(algorithm, &private(algorithm, 7)).unwrap(),
        passphrase: dialect.has_passphrase().then(|| Passphrase::new("open sesame")),
        permissions: Permissions::NONE.with(Permission::TRADE),
        allowlist: Allowlist::default(),
        state: State::Active,
        expires: None,
        limits: Arc::from([]),
        epoch: 0,
        bindings: None,
    }
}

fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => panic!("an embedded store waited"),
    }
}

fn private(algorithm: Algorithm, seed: u8) -> Vec<u8> {
    if algorithm.is_symmetric() {
        return vec![seed; 32];
    }
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    [&head[..], &[seed; 32]].concat()
}

pub(super) fn ed25519() -> World {
    World::new("binance", Algorithm::Ed25519, &BOUNDS)
}

fn is_guarded(answer: Result<(), Denial>) -> bool {
    matches!(answer, Err(Denial::TooManyFailures(_)))
}

#[test]
fn the_failure_after_the_last_one_borne_is_spared_its_verification() {
    let mut world = ed25519();
    world.spend_failures(BAD);
    assert_eq!(world.scratch.verifications(), 10);
    for _ in 0..50 {
        assert!(is_guarded(world.send(BAD, "one", false)));
    }
    assert_eq!(world.scratch.verifications(), 10);
}

#[test]
fn without_a_guard_every_forgery_is_verified() {
    let mut world = ed25519();
    world.gate.guard = Guard::off();
    for _ in 0..60 {
        assert_eq!(world.send(BAD, "one", false), Err(Denial::BadSignature));
    }
    assert_eq!(world.scratch.verifications(), 60);
}

#[test]
fn failures_are_lived_down_one_by_one() {
    let mut world = ed25519();
    world.spend_failures(BAD);
    // Ten a minute: one each six seconds.
    world.gate.clock.set(START + SECOND * 6 - Duration::from_micros(1));
    assert!(is_guarded(world.send(BAD, "one", true)));
    world.gate.clock.set(START + SECOND * 6);
    assert_eq!(world.send(BAD, "two", false), Err(Denial::BadSignature));
    assert!(is_guarded(world.send(BAD, "one", true)));
    world.gate.clock.set(START + SECOND * 12);
    assert_eq!(world.send(BAD, "one", true), Ok(()));
}

#[test]
fn what_is_told_to_wait_is_enough_and_at_most_a_second_too_long() {
    let mut world = ed25519();
    world.spend_failures(BAD);
    let Err(Denial::TooManyFailures(excess)) = world.send(BAD, "one", true) else {
        panic!("it is guarded")
    };
    assert!((SECOND * 6..=SECOND * 7).contains(&excess.retry_after), "{excess:?}");
    world.gate.clock.advance(excess.retry_after);
    assert_eq!(world.send(BAD, "one", true), Ok(()));
}

#[test]
fn the_refusal_speaks_the_dialect_and_says_how_long_to_wait() {
    let mut world = ed25519();
    world.spend_failures(BAD);
    let denial = world.send(BAD, "one", true).unwrap_err();
    let answer = world.dialect.refuse(&denial, true, &Facts::of(&denial, START));
    assert_eq!(answer.status, http::StatusCode::TOO_MANY_REQUESTS);
    let wait = answer.headers.iter().find(|(name, _)| name == http::header::RETRY_AFTER);
    assert_eq!(wait.unwrap().1, "6");
    assert!(answer.body.starts_with(br#"{"code":-1003,"#), "{:?}", answer.body);
}

#[test]
fn a_neighbour_that_was_lately_proved_behind_the_same_address_is_served() {
    let mut world = ed25519();
    assert_eq!(world.send(BAD, "two", true), Ok(()));
    world.spend_failures(BAD);
    assert!(is_guarded(world.send(BAD, "one", true)), "never proved from there");
    for _ in 0..20 {
        assert_eq!(world.send(BAD, "two", true), Ok(()));
    }
    assert_eq!(world.send(GOOD, "one", true), Ok(()), "failures cost the address, not the key");
}

#[test]
fn a_proof_protects_for_its_hour_and_no_longer() {
    for (later, served) in [(3_600, true), (3_601, false)] {
        let mut world = ed25519();
        assert_eq!(world.send(BAD, "two", true), Ok(()));
        world.gate.clock.advance(SECOND * later);
        world.spend_failures(BAD);
        assert_eq!(world.send(BAD, "two", true).is_ok(), served, "{later}");
    }
}

#[test]
fn only_what_passed_every_check_counts_as_proved() {
    let mut world = ed25519();
    world.route.permissions = Permissions::NONE.with(Permission::WITHDRAW);
    assert_eq!(world.send(BAD, "two", true), Err(Denial::NotPermitted));
    world.route.permissions = Permissions::NONE;
    world.spend_failures(BAD);
    assert!(is_guarded(world.send(BAD, "two", true)));
}

#[test]
fn the_answer_does_not_tell_which_keys_exist_nor_which_were_proved() {
    let mut world = ed25519();
    assert_eq!(world.send(BAD, "two", true), Ok(()));
    world.spend_failures(BAD);
    let answers = ["one", "two", "nobody's"].map(|id| world.send(BAD, id, false));
    assert!(is_guarded(answers[0]));
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    assert_eq!(world.scratch.verifications(), 12, "only the proved key is worth the work");
}

#[test]
fn an_ipv6_subscriber_fails_as_one_and_its_neighbour_does_not() {
    let mut world = ed25519();
    for host in 0..10 {
        let from = format!("2001:db8:0:1::{host}");
        assert_eq!(world.send(&from, "one", false), Err(Denial::BadSignature));
    }
    assert!(is_guarded(world.send("2001:db8:0:1:ffff::1", "one", true)));
    assert_eq!(world.send("2001:db8:0:2::1", "one", true), Ok(()));
}

#[test]
fn what_is_cheap_to_verify_is_always_verified() {
    let mut world = World::new("binance", Algorithm::HmacSha256, &BOUNDS);
    world.spend_failures(BAD);
    for _ in 0..50 {
        assert!(is_guarded(world.send(BAD, "one", false)), "it is told to wait");
    }
    assert_eq!(world.send(BAD, "one", true), Ok(()));
    // But they count: the same address gets no costly work.
    let watch = world.gate.guard.watch(BAD.parse().unwrap(), "one", START);
    assert!(is_guarded(watch.admits(Algorithm::RsaSha256)));
    assert!(watch.admits(Algorithm::HmacSha256).is_ok());
}

#[test]
fn a_flood_of_addresses_displaces_neither_failures_nor_proofs() {
    let mut world = ed25519();
    assert_eq!(world.send(BAD, "two", true), Ok(()));
    world.spend_failures(BAD);
    for network in 0..200_000u128 {
        let from = IpAddr::from((0x2001_0db8 << 96 | network << 64).to_be_bytes());
        let watch = world.gate.guard.watch(from, "one", START);
        watch.failed(Denial::BadSignature);
        // As if the attacker's own key were proved from each.
        world.gate.guard.watch(from, "mine", START).proved(Algorithm::Ed25519);
    }
    assert!(is_guarded(world.send(BAD, "one", false)));
    assert_eq!(world.send(BAD, "two", true), Ok(()));
    assert_eq!(world.send(GOOD, "one", true), Ok(()));
}

#[test]
fn under_a_flood_a_clean_address_is_seldom_refused_and_a_failing_one_always() {
    let guard = Guard::new(&BOUNDS);
    let at = |n: u32| guard.watch(IpAddr::from(n.to_be_bytes()), "one", START);
    for n in 0..10_000 {
        for _ in 0..10 {
            at(n).failed(Denial::BadSignature);
        }
    }
    assert!((0..10_000).all(|n| at(n).admits(Algorithm::Ed25519).is_err()));
    let refused = (1 << 20..(1 << 20) + 10_000)
        .filter(|n| at(*n).admits(Algorithm::Ed25519).is_err())
        .count();
    // Four in 10,000 are expected: (1 - exp(-10,000 / 65,536))^4.
    assert!(refused < 40, "{refused}");
}

#[test]
fn more_addresses_of_one_key_displace_its_own_oldest_only() {
    let proven = Proven::new(SECOND * 60, LINES);
    let mine = |address| Pair { key: 1, address };
    let other = Pair { key: 2, address: 1 };
    proven.note(other, START);
    for address in 0..1_000 {
        proven.note(mine(address), START + Duration::from_millis(address));
    }
    let now = START + SECOND;
    assert!(proven.holds(other, now));
    let kept = (0..1_000).filter(|address| proven.holds(mine(*address), now)).count();
    assert_eq!(kept, proven::SHARE);
    for key in 3..20 {
        proven.note(Pair { key, address: 1 }, now);
    }
    assert!(proven.holds(other, now));
}

#[test]
fn passphrases_under_a_stolen_secret_run_out_where_they_are_guessed_and_nowhere_else() {
    let mut world = World::new("bitget", Algorithm::HmacSha256, &BOUNDS);
    for guess in ["a", "b", "c"] {
        assert_eq!(world.send_with(BAD, "one", true, guess), Err(Denial::BadPassphrase));
    }
    let answer = world.send(BAD, "one", true);
    assert!(matches!(answer, Err(Denial::TooManyGuesses(_))), "{answer:?}: right or wrong");
    assert_eq!(world.send(GOOD, "one", true), Ok(()), "the owner goes on");
    assert_eq!(world.send(BAD, "two", true), Ok(()), "another key behind the address goes on");
    world.gate.clock.set(START + SECOND * 20 - Duration::from_micros(1));
    assert!(world.send(BAD, "one", true).is_err());
    world.gate.clock.set(START + SECOND * 20);
    assert_eq!(world.send(BAD, "one", true), Ok(()));
}

#[test]
fn a_stranger_uses_up_no_owners_passphrases() {
    let mut world = World::new("bitget", Algorithm::HmacSha256, &BOUNDS);
    for _ in 0..100 {
        assert!(world.send_with(BAD, "one", false, "a").is_err());
    }
    assert_eq!(world.send(BAD, "one", true), Ok(()));
}
