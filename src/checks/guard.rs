//! Defeats a flood of forgeries that keeps the processor verifying, and the guessing of passphrases: failures cost the
//! address they come from, never the key that they name.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::quality::RandomState;

use super::limit::network;
use crate::clock::Micros;
use crate::denial::{Denial, Excess};
use crate::key::{Algorithm, Key};
use crate::store::Limit;

/// How many failures are borne.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Failed signatures of one address, or /64 of IPv6; any number when `None`. Its quota is 1,000 at most, its period
    /// 1 s at least.
    pub failures: Option<Limit>,
    /// Wrong passphrases under good signatures of one key from one address; any number when `None`. Bounded likewise.
    pub passphrases: Option<Limit>,
    /// For how long an address counts as one from which a key was proved. Counted in whole seconds.
    pub proven_for: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let minutes = Duration::from_mins;
        Self {
            failures: Some(Limit { quota: 100, period: minutes(1) }),
            passphrases: Some(Limit { quota: 5, period: minutes(10) }),
            proven_for: Duration::from_hours(1),
        }
    }
}

/// Counts failures on this gateway, and remembers where keys were proved.
///
/// An address that has failed too often is refused before asymmetric work, whichever key it names, unless that key
/// was lately proved from it. Memory is fixed, about 4 MiB; see [`Tally`] and [`Proven`] for what a flood does to it.
pub struct Guard {
    failures: Tally,
    passphrases: Tally,
    proven: Proven,
    seed: RandomState,
}

impl Guard {
    /// A guard that has seen nothing.
    pub fn new(bounds: &Bounds) -> Self {
        Self {
            failures: Tally::new(bounds.failures, FAILURE_CELLS),
            passphrases: Tally::new(bounds.passphrases, PASSPHRASE_CELLS),
            proven: Proven::new(if bounds.failures.is_some() {
                bounds.proven_for
            } else {
                Duration::ZERO
            }),
            seed: RandomState::default(),
        }
    }

    /// A guard that bears everything.
    pub fn off() -> Self {
        Self::new(&Bounds { failures: None, passphrases: None, proven_for: Duration::ZERO })
    }

    /// Watches one request, which names `key_id`.
    pub(crate) fn watch<'w>(&'w self, peer: IpAddr, key_id: &'w str, now: Micros) -> Watch<'w> {
        Watch { guard: self, peer, key_id, now }
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self::new(&Bounds::default())
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard(..)")
    }
}

/// One request under the eyes of the guard. Nothing is worked out before it is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch<'w> {
    guard: &'w Guard,
    peer: IpAddr,
    key_id: &'w str,
    now: Micros,
}

impl Watch<'_> {
    /// When the request is judged.
    pub(crate) fn now(&self) -> Micros {
        self.now
    }

    /// Holds when a signature of this algorithm may be verified: always where that is cheap.
    pub(crate) fn admits(&self, algorithm: Algorithm) -> Result<(), Denial> {
        if algorithm.is_symmetric() {
            return Ok(());
        }
        match self.over() {
            Some(excess) if !self.guard.proven.holds(self.pair(), self.now) => {
                Err(Denial::TooManyFailures(excess))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Counts a signature that does not hold, and says what to answer.
    ///
    /// An address that has failed too often gets one answer whether the work was done or spared: it is not told from
    /// which keys it is spared.
    pub(crate) fn failed(&self, algorithm: Algorithm, denial: Denial) -> Denial {
        let over = if algorithm.is_symmetric() { None } else { self.over() };
        self.guard.failures.count(self.address(), self.now);
        over.map_or(denial, Denial::TooManyFailures)
    }

    /// Remembers that the key was proved from here, where that can spare it a refusal.
    pub(crate) fn proved(&self, algorithm: Algorithm) {
        if !algorithm.is_symmetric() {
            self.guard.proven.note(self.pair(), self.now);
        }
    }

    /// Holds when a passphrase for `key` may be tried from here.
    pub(crate) fn may_guess(&self, key: &Key) -> Result<(), Denial> {
        let tries = &self.guard.passphrases;
        if !tries.is_any_over(self.now) {
            return Ok(());
        }
        let excess = tries.over(self.guess(key), self.now);
        excess.map_or(Ok(()), |excess| Err(Denial::TooManyGuesses(excess)))
    }

    /// Counts a wrong passphrase of `key`, whose signature holds.
    pub(crate) fn guessed_wrong(&self, key: &Key) {
        self.guard.passphrases.count(self.guess(key), self.now);
    }

    fn over(&self) -> Option<Excess> {
        let failures = &self.guard.failures;
        if failures.is_any_over(self.now) { failures.over(self.address(), self.now) } else { None }
    }

    fn address(&self) -> u64 {
        self.hash(network(self.peer))
    }

    fn guess(&self, key: &Key) -> u64 {
        self.hash((key.tag, network(self.peer)))
    }

    fn pair(&self) -> Pair {
        Pair { key: self.hash(self.key_id), address: self.address() }
    }

    fn hash(&self, what: impl Hash) -> u64 {
        self.guard.seed.hash_one(what)
    }
}

/// How often each of many subjects failed, in memory of fixed size.
///
/// A subject has one cell in each of four rows, by a seeded hash, and stands as the best of them says. So nothing is ever
/// evicted or forgotten early, and there is no room to run out of. A flood from very many addresses fails towards
/// refusing: an address that did not fail is taken for one that did once all four of its cells are shared with such,
/// which 10,000 of them at their limit do to 1 address in 2,000.
#[derive(Debug)]
struct Tally {
    limit: Limit,
    /// What one failure takes of the period, in microseconds.
    step: u64,
    period: u64,
    /// When all failures of a cell will have been lived down, in microseconds; four rows.
    cells: Box<[AtomicU64]>,
    /// The latest of them, so that in peace one look is enough.
    latest: AtomicU64,
}

impl Tally {
    fn new(limit: Option<Limit>, cells: usize) -> Self {
        let unlimited = Limit { quota: u32::MAX, period: Duration::MAX };
        let cells = if limit.is_some() { ROWS * cells } else { 0 };
        let limit = limit.unwrap_or(unlimited);
        let period = u64::try_from(limit.period.as_micros()).unwrap_or(u64::MAX);
        Self {
            limit,
            step: period / u64::from(limit.quota.max(1)),
            period,
            cells: (0..cells).map(|_| AtomicU64::new(0)).collect(),
            latest: AtomicU64::new(0),
        }
    }

    /// Whether any subject at all has failed too often.
    fn is_any_over(&self, now: Micros) -> bool {
        self.latest.load(Ordering::Relaxed).saturating_add(self.step) > self.full(now)
    }

    /// By how much `subject` has, if so. Told in whole seconds: no more than a client needs.
    fn over(&self, subject: u64, now: Micros) -> Option<Excess> {
        let at = self.cells(subject).map(|cell| cell.load(Ordering::Relaxed)).min()?;
        let beyond = at.saturating_add(self.step).saturating_sub(self.full(now));
        let Limit { quota, period } = self.limit;
        let retry_after = Duration::from_secs(beyond.div_ceil(1_000_000));
        (beyond > 0).then_some(Excess { retry_after, level: quota, quota, period })
    }

    /// Counts one failure of `subject`. What is beyond the quota adds nothing, so that all is lived down one period after
    /// the last.
    fn count(&self, subject: u64, now: Micros) {
        let full = self.full(now);
        let mut reached = 0;
        for cell in self.cells(subject) {
            let raised = |at: u64| at.max(now.0).saturating_add(self.step).min(full);
            let before = cell.update(Ordering::Relaxed, Ordering::Relaxed, |at| at.max(raised(at)));
            reached = before.max(raised(before)).max(reached);
        }
        self.latest.fetch_max(reached, Ordering::Relaxed);
    }

    fn full(&self, now: Micros) -> u64 {
        now.0.saturating_add(self.period)
    }

    fn cells(&self, subject: u64) -> impl Iterator<Item = &AtomicU64> {
        let row = self.cells.len() / ROWS;
        self.cells.chunks_exact(row.max(1)).enumerate().filter_map(move |(number, cells)| {
            cells.get((subject >> (16 * number) & 0xffff) as usize % row)
        })
    }
}

/// Which keys were lately proved from which addresses.
///
/// A key has a line of eight places, by a seeded hash, which it shares with a few others. What is live is displaced by
/// nothing but more addresses of the same key, once those have three quarters of the line. A pair that finds no place goes
/// without: it is then treated like any other, which matters only while its address fails too often.
#[derive(Debug)]
struct Proven {
    lines: Box<[Line]>,
    keep: u64,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; PLACES]);

/// A key and an address, hashed.
#[derive(Clone, Copy, Debug)]
struct Pair {
    key: u64,
    address: u64,
}

impl Proven {
    fn new(keep: Duration) -> Self {
        let lines = if keep.is_zero() { 0 } else { LINES };
        Self { lines: (0..lines).map(|_| Line::default()).collect(), keep: keep.as_secs() }
    }

    /// Whether the pair was proved in the last `keep`.
    fn holds(&self, pair: Pair, now: Micros) -> bool {
        self.line(pair).is_some_and(|line| {
            line.0.iter().map(load).any(|entry| entry.is_of(pair) && self.is_live(entry, now))
        })
    }

    fn note(&self, pair: Pair, now: Micros) {
        let Some(Line(places)) = self.line(pair) else { return };
        let new = Entry::new(pair, now);
        let known = places.iter().find(|place| load(place).is_of(pair));
        let free = || places.iter().find(|place| !self.is_live(load(place), now));
        let own = || {
            let own = places.iter().filter(|place| load(place).key() == new.key());
            let enough = own.clone().count() >= SHARE;
            own.min_by_key(|place| load(place).second()).filter(|_| enough)
        };
        if let Some(place) = known.or_else(own).or_else(free)
            && load(place) != new
        {
            place.store(new.0, Ordering::Relaxed);
        }
    }

    fn is_live(&self, entry: Entry, now: Micros) -> bool {
        entry.second() + self.keep >= now.0 / 1_000_000
    }

    fn line(&self, pair: Pair) -> Option<&Line> {
        self.lines.get((pair.key >> 32) as usize % self.lines.len().max(1))
    }
}

/// A pair in one word: the second at which it was proved, 16 bits of the key's hash and 16 of the address's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Entry(u64);

impl Entry {
    fn new(pair: Pair, now: Micros) -> Self {
        Self((now.0 / 1_000_000) << 32 | (pair.key & 0xffff) << 16 | pair.address & 0xffff)
    }

    fn is_of(self, pair: Pair) -> bool {
        self.0 & 0xffff_ffff == (pair.key & 0xffff) << 16 | pair.address & 0xffff
    }

    fn key(self) -> u64 {
        self.0 >> 16 & 0xffff
    }

    fn second(self) -> u64 {
        self.0 >> 32
    }
}

fn load(place: &AtomicU64) -> Entry {
    Entry(place.load(Ordering::Relaxed))
}

const ROWS: usize = 4;
/// Cells in each row, at most 2^16: 2 MiB in all.
const FAILURE_CELLS: usize = 1 << 16;
const PASSPHRASE_CELLS: usize = 1 << 12;
/// Places in a line: as many as a cache line holds.
const PLACES: usize = 8;
/// Places in a line that one key may take.
const SHARE: usize = PLACES / 4 * 3;
/// Lines: 2 MiB, and room for 262,144 pairs.
const LINES: usize = 1 << 15;

#[cfg(test)]
mod tests {
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

    const START: Micros = Micros(1_760_000_000_000_000);
    const SECOND: Duration = Duration::from_secs(1);
    const BAD: &str = "198.51.100.7";
    const GOOD: &str = "203.0.113.9";
    const BOUNDS: Bounds = Bounds {
        failures: Some(Limit { quota: 10, period: Duration::from_mins(1) }),
        passphrases: Some(Limit { quota: 3, period: Duration::from_mins(1) }),
        proven_for: Duration::from_hours(1),
    };

    /// A gateway with keys "one" and "two", and a client of it.
    struct World {
        gate: Gate<FixedKeys, MemoryStore, ManualClock>,
        dialect: Arc<Dialect>,
        route: Route,
        algorithm: Algorithm,
        scratch: Scratch,
        requests: u32,
    }

    impl World {
        fn new(dialect: &str, algorithm: Algorithm, bounds: &Bounds) -> Self {
            let dialect = Arc::new(builtin(dialect).unwrap().unwrap());
            let venue = Venue("main".into());
            let key = |id: &str| Key {
                id: id.into(),
                tag: Tag::of(id),
                account: id.into(),
                account_tag: Tag::of(id),
                venue: venue.clone(),
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
            };
            let born = START - SECOND * 60;
            let options = Options { max_records: 1_000, ..Options::default() };
            let gate = Gate {
                keys: ["one", "two"].map(key).into_iter().collect(),
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
            };
            Self { gate, dialect, route, algorithm, scratch: Scratch::new(), requests: 0 }
        }

        /// A request signed with the right secret of every key, or with a wrong one.
        fn send(&mut self, from: &str, key_id: &str, right: bool) -> Result<(), Denial> {
            self.send_with(from, key_id, right, "open sesame")
        }

        fn send_with(
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
                headers: &headers,
                body: b"",
                peer: from.parse().unwrap(),
            };
            let admit = self.gate.admit(&inbound, &self.route, &mut self.scratch);
            now_or_never(admit).map(|_| ())
        }

        /// Fails as often as is borne.
        fn spend_failures(&mut self, from: &str) {
            for _ in 0..10 {
                assert_eq!(self.send(from, "one", false), Err(Denial::BadSignature));
            }
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

    fn ed25519() -> World {
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
        for _ in 0..50 {
            assert_eq!(world.send(BAD, "one", false), Err(Denial::BadSignature));
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
            watch.failed(Algorithm::HmacSha256, Denial::BadSignature);
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
                at(n).failed(Algorithm::Ed25519, Denial::BadSignature);
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
        let proven = Proven::new(SECOND * 60);
        let mine = |address| Pair { key: 1, address };
        let other = Pair { key: 2, address: 1 };
        proven.note(other, START);
        for address in 0..1_000 {
            proven.note(mine(address), START + Duration::from_millis(address));
        }
        let now = START + SECOND;
        assert!(proven.holds(other, now));
        let kept = (0..1_000).filter(|address| proven.holds(mine(*address), now)).count();
        assert_eq!(kept, SHARE);
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
            assert_eq!(world.send_with(BAD, "one", false, "a"), Err(Denial::BadSignature));
        }
        assert_eq!(world.send(BAD, "one", true), Ok(()));
    }
}
