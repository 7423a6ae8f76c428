//! Growing numbers, which carry no clock: none passes twice, whatever the servers forget.
#![expect(
    clippy::cast_possible_truncation,
    clippy::needless_range_loop,
    reason = "a die has few sides, and servers are told apart by number"
)]

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use countersign::clock::SystemClock;
use countersign::registry::book::{
    Answer, Change, Kind, Note, Query, Record, Registry, RegistryError, Write,
};
use countersign::registry::embedded::Embedded;
use countersign::store::memory::{MemoryStore, Options as MemoryOptions};
use countersign::store::redis::{FUNCTION, Options, RedisStore, Weakened};
use countersign::store::{
    Charge, Charged, Cost, Identity, Limit, Receipt, SignedTime, Store, Subject, Verdict, Window,
};

use crate::server::RedisServer;
use crate::{HOUR, levels, limited, local, now, options, past_fence};

const KEY: [u8; 16] = [5; 16];
/// What numbers of these tests are above, as those of a clock in milliseconds.
const FIRST: u64 = 1_700_000_000_000;
/// How far ahead numbers of that size are reserved.
const STEP: u64 = FIRST >> 27;

/// A registry in memory that can be cut off.
#[derive(Debug)]
pub(crate) struct Book {
    within: Embedded,
    /// What was reserved last.
    name: Mutex<[u8; 16]>,
    is_cut: AtomicBool,
}

impl Book {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            within: Embedded::in_memory().unwrap(),
            name: Mutex::default(),
            is_cut: AtomicBool::new(false),
        })
    }

    fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::SeqCst);
    }

    fn ask<'a, T: Send + 'a>(&self, answer: Answer<'a, T>) -> Answer<'a, T> {
        if self.is_cut.load(Ordering::SeqCst) {
            let cut = Err(RegistryError::Unavailable("it was cut off".into()));
            return Box::pin(std::future::ready(cut));
        }
        answer
    }
}

impl Registry for Book {
    fn find(&self, kind: Kind, id: &str) -> Answer<'_, Option<Record>> {
        self.ask(self.within.find(kind, id))
    }

    fn commit(&self, writes: Vec<Write>, note: Note) -> Answer<'_, u64> {
        self.ask(self.within.commit(writes, note))
    }

    fn list(&self, query: Query) -> Answer<'_, Vec<Record>> {
        self.ask(self.within.list(query))
    }

    fn history(
        &self,
        kind: Kind,
        id: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Answer<'_, Vec<Change>> {
        self.ask(self.within.history(kind, id, before, limit))
    }

    fn since(&self, revision: u64, limit: usize) -> Answer<'_, Vec<Change>> {
        self.ask(self.within.since(revision, limit))
    }

    fn revision(&self) -> Answer<'_, u64> {
        self.ask(self.within.revision())
    }

    fn changed(&self, revision: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.within.changed(revision)
    }

    fn key_tags(&self) -> Answer<'_, (Vec<u64>, u64)> {
        self.ask(self.within.key_tags())
    }

    fn reserve(&self, mark: [u8; 16], least: u64, up_to: u64) -> Answer<'_, u64> {
        *self.name.lock().unwrap() = mark;
        self.ask(self.within.reserve(mark, least, up_to))
    }

    fn reserved(&self, mark: [u8; 16]) -> Answer<'_, u64> {
        self.ask(self.within.reserved(mark))
    }
}

type Gateway = Arc<RedisStore<SystemClock>>;

async fn gateway(servers: &[&RedisServer], book: &Arc<Book>) -> Gateway {
    weakened(servers, book, losing()).await
}

/// The library with a function that loses the marks of a tag alone, as if there had been no more room for it.
fn losing() -> Weakened {
    let lose = "redis.register_function('countersign_2_lose', function(keys, args)
      local mine = generations[keys[1]]
      if mine then
        marks_held = marks_held - mine.marked
        mine.marks, mine.marked = {}, 0
      end
      return ''
    end)";
    Weakened { function: Some(format!("{FUNCTION}\n{lose}").into()), ..Weakened::default() }
}

fn lose_mark(server: &RedisServer) {
    // Where the library is lost as well there is none.
    let mut command = redis::cmd("FCALL");
    command.arg("countersign_2_lose").arg(1).arg("c2:{7}:g");
    let mut connection = server.client().get_connection().unwrap();
    let _ = command.query::<redis::Value>(&mut connection);
}

async fn weakened(servers: &[&RedisServer], book: &Arc<Book>, weakened: Weakened) -> Gateway {
    let mut options = options(servers);
    options.weakened = weakened;
    // Reservations need no hurry in a test on a busy machine.
    options.deadline = Duration::from_secs(2);
    let store = Arc::new(RedisStore::new(options, local(), SystemClock::start()).unwrap());
    assert_eq!(store.look().await, []);
    store.keep_marks(Arc::<Book>::clone(book), HOUR);
    store
}

/// A request with this number above [`FIRST`].
pub(crate) fn number(number: u64) -> Charge {
    windowed(number, 0)
}

fn windowed(number: u64, window: u64) -> Charge {
    let nonce = FIRST + number;
    Charge {
        identity: Identity((u128::from(nonce) << 8).to_le_bytes()),
        time: SignedTime::Growing { key: KEY, nonce, window },
        ..crate::charge(0)
    }
}

/// Another request with the same number.
pub(crate) fn other(charge: &Charge) -> Charge {
    let Identity(mut identity) = charge.identity;
    identity[0] ^= 0xff;
    Charge { identity: Identity(identity), ..charge.clone() }
}

async fn passes(store: &Gateway, charge: &Charge) -> bool {
    matches!(store.spend(charge).await, Verdict::New(_))
}

/// Asks until the servers know the mark again, and tells what they say then.
async fn settled(store: &Gateway, charge: &Charge) -> Verdict {
    let begun = Instant::now();
    loop {
        let verdict = store.spend(charge).await;
        if !matches!(verdict, Verdict::Fenced { .. } | Verdict::Unavailable) {
            return verdict;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{verdict:?}");
        store.look().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The first number that is not reserved, above [`FIRST`].
pub(crate) async fn beyond(book: &Book) -> u64 {
    let name = *book.name.lock().unwrap();
    book.within.reserved(name).await.unwrap() - FIRST + 1
}

#[tokio::test]
async fn a_number_passes_once_over_all_gateways_and_only_above_the_last() {
    let server = RedisServer::start(&[]);
    let book = Book::new();
    let (one, two) = (gateway(&[&server], &book).await, gateway(&[&server], &book).await);
    assert!(passes(&one, &number(10)).await);
    assert_eq!(two.spend(&number(10)).await, Verdict::Seen);
    assert_eq!(one.spend(&number(10)).await, Verdict::Seen);
    assert_eq!(two.spend(&other(&number(10))).await, Verdict::Low, "it never passed");
    assert_eq!(two.spend(&number(9)).await, Verdict::Low);
    assert!(passes(&two, &number(11)).await);
    assert_eq!(one.spend(&number(11)).await, Verdict::Seen);
    assert!(passes(&one, &number(12)).await);
    // Neither another route nor another moment makes it new.
    let moved = Charge { route: 2, now: now(), ..number(12) };
    assert_eq!(two.spend(&moved).await, Verdict::Seen);
    // A new secret begins afresh, and each key for itself.
    let time = SignedTime::Growing { key: [6; 16], nonce: 1, window: 0 };
    assert!(passes(&two, &Charge { time, ..other(&number(1)) }).await);
}

#[tokio::test]
async fn a_gateway_that_starts_goes_on_where_the_last_one_was() {
    let server = RedisServer::start(&[]);
    let book = Book::new();
    for n in 1..5 {
        // None of them knows anything of those before.
        let store = gateway(&[&server], &book).await;
        assert!(passes(&store, &number(n)).await, "{n}");
        assert_eq!(gateway(&[&server], &book).await.spend(&number(n)).await, Verdict::Seen);
    }
}

#[tokio::test]
async fn two_accounts_with_one_secret_have_a_mark_and_a_reservation_each() {
    let server = RedisServer::start(&[]);
    let book = Book::new();
    let store = gateway(&[&server], &book).await;
    // Of one tag, so that they lie beside each other.
    let of_other = |n| Charge { account: 7 + 1_024, ..other(&number(n)) };
    assert!(passes(&store, &number(10)).await);
    let of_first = *book.name.lock().unwrap();
    assert!(passes(&store, &of_other(5)).await);
    assert_ne!(*book.name.lock().unwrap(), of_first);
    assert_eq!(store.spend(&number(4)).await, Verdict::Low);
    assert!(passes(&store, &of_other(6)).await);
}

#[tokio::test]
async fn what_was_reserved_by_the_secret_alone_is_the_least_that_a_mark_begins_at() {
    let server = RedisServer::start(&[]);
    let book = Book::new();
    book.within.reserve(KEY, FIRST + 100, FIRST + 100).await.unwrap();
    let store = gateway(&[&server], &book).await;
    assert!(!passes(&store, &number(50)).await);
    assert!(!passes(&store, &number(100)).await);
    assert!(passes(&store, &number(101)).await);
    drop(server.run(&["FLUSHALL"]));
    assert!(!matches!(settled(&store, &other(&number(99))).await, Verdict::New(_)));
}

#[tokio::test]
async fn after_any_loss_only_what_lies_above_the_reservation_passes() {
    let mut server = RedisServer::start(&[]);
    let book = Book::new();
    let (one, two) = (gateway(&[&server], &book).await, gateway(&[&server], &book).await);
    let mut last = 0;
    for lose in ["flush", "restart", "library", "mark", "snapshot"] {
        let from = last + 1;
        assert!(passes(&one, &number(from)).await, "{lose}");
        if lose == "snapshot" {
            drop(server.run(&["SAVE"]));
        }
        assert!(passes(&one, &number(from + 1)).await, "{lose}");
        match lose {
            "flush" => drop(server.run(&["FLUSHALL"])),
            "restart" | "snapshot" => server.restart(),
            "library" => drop(server.run(&["FUNCTION", "FLUSH"])),
            _ => {
                lose_mark(&server);
            }
        }
        let floor = beyond(&book).await;
        assert!(floor > from + STEP / 2, "{lose}");
        for n in [from, from + 1] {
            assert!(!passes(&two, &number(n)).await, "{lose}");
            let again = settled(&two, &number(n)).await;
            assert!(matches!(again, Verdict::Seen), "{lose} {n}: {again:?}");
            assert!(!passes(&two, &other(&number(n))).await, "{lose}");
        }
        assert!(!passes(&two, &number(floor - 1)).await, "{lose}");
        assert!(matches!(settled(&two, &number(floor)).await, Verdict::New(_)), "{lose}");
        last = floor;
    }
}

#[tokio::test]
async fn without_the_floor_what_passed_before_a_loss_would_pass_again() {
    // The control of the test above: the same, but for a floor that is not kept to.
    let floor = "local high, low = read('>I4I4', args[4])";
    assert_eq!(FUNCTION.matches(floor).count(), 1);
    let function = FUNCTION.replace(floor, "local high, low = 0, 0");
    let weak = || Weakened { function: Some(Arc::from(&*function)), ..Weakened::default() };
    let server = RedisServer::start(&[]);
    let book = Book::new();
    let one = weakened(&[&server], &book, weak()).await;
    let two = weakened(&[&server], &book, weak()).await;
    assert!(passes(&one, &number(1)).await);
    drop(server.run(&["FLUSHALL"]));
    assert!(matches!(settled(&two, &number(1)).await, Verdict::New(_)), "it passes twice");
}

#[tokio::test]
async fn a_floor_that_was_asked_for_before_a_loss_is_not_taken_after_it() {
    let server = RedisServer::start(&[]);
    let book = Book::new();
    let store = gateway(&[&server], &book).await;
    let key = str::from_utf8(&KEY).unwrap();
    let zero = "\0\0\0\0\0\0\0\0";
    let ask = |token: &str, told: &str| match server.run(&[
        "FCALL",
        "countersign_2_mark",
        "1",
        "c2:{7}:g",
        key,
        token,
        told,
        zero,
    ]) {
        redis::Value::BulkString(told) => (told[0], told[9..].to_vec()),
        told => panic!("{told:?}"),
    };
    assert_eq!(ask("before", ""), (8, b"before".to_vec()));
    assert_eq!(ask("second", ""), (8, b"before".to_vec()), "the first one counts");
    lose_mark(&server);
    // What lies between is all the same: a number may have passed, and have been lost.
    assert_eq!(ask("behind", "before"), (8, b"behind".to_vec()));
    assert_eq!(ask("third_", "before"), (8, b"behind".to_vec()));
    drop(server.run(&["FLUSHALL"]));
    assert_eq!(ask("fourth", "behind").0, 6, "nobody knows of the loss yet");
    assert_eq!(store.look().await, []);
    assert_eq!(ask("fourth", "behind"), (8, b"fourth".to_vec()));
    assert_eq!(ask("fifth_", "fourth"), (9, vec![0; 8]));
    assert!(passes(&store, &number(1)).await);
}

#[tokio::test]
async fn a_server_of_a_quorum_that_forgot_costs_nothing_and_two_cost_what_is_reserved() {
    let mut servers = [(); 3].map(|()| RedisServer::start(&[]));
    let book = Book::new();
    let [a, b, c] = &servers;
    let (one, two) = (gateway(&[a, b, c], &book).await, gateway(&[a, b, c], &book).await);
    let mut n = 0;
    for lost in 0..3 {
        n += 1;
        assert!(passes(&one, &number(n)).await);
        servers[lost].restart();
        one.look().await;
        two.look().await;
        assert!(!passes(&two, &number(n)).await, "{lost}");
        // Far within what is reserved, so that the one that forgot says no to all of them.
        for gateway in [&one, &two] {
            n = next(gateway, n).await;
            for _ in 0..5 {
                n += 1;
                assert!(passes(gateway, &number(n)).await, "{lost} {n}");
            }
        }
        assert!(!passes(&one, &number(n)).await, "{lost}");
        // All three know the mark again, and what is reserved is behind.
        n = beyond(&book).await;
        assert!(passes(&two, &number(n)).await, "{lost}");
    }
    for server in &mut servers {
        server.restart();
    }
    let again = settled(&two, &number(n)).await;
    assert!(!matches!(again, Verdict::New(_)), "{again:?}");
    assert!(!passes(&one, &number(n)).await);
    let above = beyond(&book).await;
    next(&one, above).await;
}

/// The next number that passes, soon.
async fn next(store: &Gateway, after: u64) -> u64 {
    let begun = Instant::now();
    let mut n = after + 1;
    while !passes(store, &number(n)).await {
        assert!(begun.elapsed() < Duration::from_secs(30) && n < after + STEP / 4);
        store.look().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        n += 1;
    }
    n
}

/// Dice that fall the same way every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[tokio::test]
async fn no_number_passes_a_quorum_twice_whatever_its_servers_forget_and_when() {
    let mut servers = [(); 3].map(|()| RedisServer::start(&[]));
    let book = Book::new();
    let mut gateways = Vec::new();
    for _ in 0..2 {
        let [a, b, c] = &servers;
        gateways.push(gateway(&[a, b, c], &book).await);
    }
    let (mut dice, mut passed, mut refused) = (Dice(7), HashSet::new(), 0);
    let mut highest = 1;
    for round in 0..600 {
        match dice.below(40) {
            0 => drop(servers[dice.below(3) as usize].run(&["FLUSHALL"])),
            1 => servers[dice.below(3) as usize].restart(),
            2 => drop(servers[dice.below(3) as usize].run(&["FUNCTION", "FLUSH"])),
            3 => lose_mark(&servers[dice.below(3) as usize]),
            4 => {
                // One that knows nothing takes another's place.
                let [a, b, c] = &servers;
                let options = Options { weakened: losing(), ..options(&[a, b, c]) };
                let new = RedisStore::new(options, local(), SystemClock::start());
                let new = Arc::new(new.unwrap());
                new.keep_marks(Arc::<Book>::clone(&book), HOUR);
                gateways[dice.below(2) as usize] = new;
            }
            5 => highest = beyond(&book).await,
            6..12 => {
                for gateway in &gateways {
                    gateway.look().await;
                }
            }
            _ => {}
        }
        highest += dice.below(3);
        let n = highest.saturating_sub(dice.below(4));
        let window = dice.below(2) * 8;
        let once = Charge {
            identity: Identity((u128::from(n) << 16 | u128::from(dice.below(2))).to_le_bytes()),
            ..windowed(n, window)
        };
        for gateway in [0, 1, 0] {
            match gateways[gateway].spend(&once).await {
                Verdict::New(_) => assert!(passed.insert(n), "{n} passes twice, round {round}"),
                _ => refused += 1,
            }
        }
    }
    assert!(passed.len() > 50, "{} passed, {refused} did not", passed.len());
}

#[tokio::test]
async fn numbers_within_the_window_pass_in_any_order_once_through_any_gateway() {
    let server = RedisServer::start(&[]);
    let book = Book::new();
    let gateways = [gateway(&[&server], &book).await, gateway(&[&server], &book).await];
    assert!(passes(&gateways[0], &windowed(100, 50)).await);
    let sent = (51..131_u64).map(|n| {
        // Shuffled, each of them through both.
        let n = 51 + (n * 37) % 80;
        let gateways = &gateways;
        Box::pin(async move {
            let first = passes(&gateways[n as usize % 2], &windowed(n, 50)).await;
            let second = passes(&gateways[(n as usize + 1) % 2], &windowed(n, 50)).await;
            usize::from(first) + usize::from(second)
        })
    });
    let passed = join(sent.collect()).await;
    assert!(passed.iter().all(|passed| *passed <= 1), "{passed:?}");
    assert!(passed.iter().sum::<usize>() >= 40, "{passed:?}");
}

#[tokio::test]
async fn requests_sent_at_once_by_one_client_all_pass_from_the_first_on() {
    let server = RedisServer::start(&[]);
    let book = Book::new();
    let gateways = [gateway(&[&server], &book).await, gateway(&[&server], &book).await];
    let all: Vec<_> = (0..40)
        .map(|n| {
            let store = Arc::clone(&gateways[n % 2]);
            Box::pin(async move { passes(&store, &windowed(1_000 + n as u64, 64)).await })
        })
        .collect();
    assert_eq!(join(all).await, vec![true; 40]);
}

/// Waits for all of them, each going on while others wait.
async fn join<T>(futures: Vec<Pin<Box<impl Future<Output = T>>>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.into_iter().map(|future| (future, None)).collect();
    std::future::poll_fn(|context| {
        for (future, done) in &mut waiting {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if waiting.iter().all(|(_, done)| done.is_some()) {
            return std::task::Poll::Ready(());
        }
        std::task::Poll::Pending
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}

#[tokio::test]
async fn it_says_of_every_number_what_the_embedded_store_says() {
    let server = RedisServer::start(&[]);
    let book = Book::new();
    let shared = gateway(&[&server], &book).await;
    let directory = tempfile::tempdir().unwrap();
    let options = MemoryOptions {
        state_dir: Some(directory.path().to_owned()),
        max_jump: HOUR,
        max_records: 1_000,
        ..MemoryOptions::default()
    };
    let embedded = MemoryStore::open(&options, now()).unwrap();
    let mut dice = Dice(11);
    for (place, start) in [(1_u8, 1), (2, FIRST), (3, now().0 * 1_000 - 1_000_000)] {
        let mut highest = start;
        for round in 0..250 {
            highest += dice.below(6);
            let nonce = highest.saturating_sub(dice.below(90)).max(1);
            let window = [0, 0, 5, 60, u64::MAX][dice.below(5) as usize];
            let print = u128::from(dice.below(2)) << 60 | u128::from(nonce);
            let once = Charge {
                identity: Identity(print.to_le_bytes()),
                time: SignedTime::Growing { key: [place; 16], nonce, window },
                ..crate::charge(0)
            };
            let (said, expected) = (shared.spend(&once).await, embedded.spend(&once).await);
            assert_eq!(said, expected, "{start} {round}: {nonce} within {window}");
        }
    }
}

#[tokio::test]
async fn while_the_registry_is_cut_off_what_is_reserved_goes_on_and_nothing_beyond() {
    let server = RedisServer::start(&[]);
    let book = Book::new();
    let (one, two) = (gateway(&[&server], &book).await, gateway(&[&server], &book).await);
    assert!(passes(&one, &number(1)).await);
    book.cut(true);
    let last = beyond(&book).await - 1;
    assert!(passes(&one, &number(2)).await);
    assert!(passes(&one, &number(last)).await);
    assert_eq!(one.spend(&number(last + 1)).await, Verdict::Unavailable);
    // Another that has reserved nothing has nothing.
    assert_eq!(two.spend(&number(last + 2)).await, Verdict::Unavailable);
    // What a server forgot it does not learn either, and so accepts nothing.
    drop(server.run(&["FLUSHALL"]));
    assert_eq!(one.look().await, []);
    for n in [1, 2, last] {
        assert!(!passes(&one, &number(n)).await);
        assert!(!passes(&one, &other(&number(n))).await);
    }
    book.cut(false);
    assert!(matches!(settled(&two, &number(last)).await, Verdict::Seen));
    let next = beyond(&book).await;
    assert!(matches!(settled(&one, &number(next)).await, Verdict::New(_)));
}

#[tokio::test]
async fn without_a_registry_no_number_passes() {
    let server = RedisServer::start(&[]);
    let store = crate::gateway(&[&server]).await;
    assert_eq!(store.spend(&number(1)).await, Verdict::Unavailable);
}

#[tokio::test]
async fn a_number_far_ahead_is_refused_and_locks_nobody_out() {
    let server = RedisServer::start(&[]);
    let book = Book::new();
    let store = gateway(&[&server], &book).await;
    let far = |ahead: Duration| {
        let most = (now() + HOUR + ahead).0 * 1_000;
        let time = SignedTime::Growing { key: KEY, nonce: most, window: 0 };
        Charge { time, ..number(1) }
    };
    let verdict = store.spend(&far(HOUR)).await;
    let Verdict::Fenced { retry_after } = verdict else { panic!("{verdict:?}") };
    assert!(retry_after > Duration::from_mins(59), "{retry_after:?}");
    let time = SignedTime::Growing { key: KEY, nonce: u64::MAX, window: 0 };
    assert!(!passes(&store, &Charge { time, ..number(1) }).await);
    assert_eq!(*book.name.lock().unwrap(), [0; 16], "nothing was reserved");
    assert!(passes(&store, &number(1)).await);
    let time = SignedTime::Growing { key: [9; 16], nonce: 0, window: 0 };
    assert_eq!(store.spend(&Charge { time, ..number(2) }).await, Verdict::Low);
}

#[tokio::test]
async fn limits_and_second_factors_hold_and_what_is_over_is_not_recorded() {
    let servers = [(); 3].map(|()| RedisServer::start(&[]));
    let [a, b, c] = &servers;
    for servers in [&[a][..], &[a, b, c]] {
        for server in servers {
            drop(server.run(&["FLUSHALL"]));
        }
        let book = Book::new();
        let (one, two) = (gateway(servers, &book).await, gateway(servers, &book).await);
        assert_eq!(levels(&one.spend(&limited(number(1), 10, 8)).await), [8]);
        let over = limited(number(2), 10, 3);
        let said = two.spend(&over).await;
        assert!(matches!(said, Verdict::Over { cost: 0, level: 8, .. }), "{said:?}");
        assert_eq!(levels(&one.spend(&limited(number(3), 10, 2)).await), [10]);
        // Its number has been overtaken meanwhile, and never passed.
        assert_eq!(one.spend(&over).await, Verdict::Low);
        let with = |n, step| Charge { step: Some(step), ..number(n) };
        let step = crate::later_step();
        assert!(passes(&one, &with(4, step)).await);
        assert_eq!(two.spend(&with(5, step)).await, Verdict::StepSpent);
        assert!(passes(&two, &with(6, step + 1)).await);
        assert_eq!(one.raise(7, [3; 16], 2).await, servers.len());
        assert_eq!(one.spend(&number(7)).await, Verdict::Outdated);
        assert!(passes(&one, &Charge { epoch: 2, ..number(7) }).await);
    }
}

#[tokio::test]
async fn what_a_single_server_refused_for_a_limit_may_come_again() {
    let server = RedisServer::start(&[]);
    let book = Book::new();
    let store = gateway(&[&server], &book).await;
    assert!(passes(&store, &limited(number(1), 10, 8)).await);
    assert!(matches!(store.spend(&limited(number(2), 10, 3)).await, Verdict::Over { .. }));
    assert!(passes(&store, &limited(number(2), 10, 2)).await);
}

#[tokio::test]
async fn numbers_and_signed_times_live_side_by_side() {
    let server = RedisServer::start(&[]);
    let book = Book::new();
    let store = gateway(&[&server], &book).await;
    past_fence().await;
    assert_eq!(levels(&store.spend(&limited(crate::charge(1), 10, 4)).await), [4]);
    assert_eq!(levels(&store.spend(&limited(number(1), 10, 4)).await), [8]);
    assert!(matches!(
        store.spend(&limited(crate::charge(2), 10, 4)).await,
        Verdict::Over { cost: 0, level: 8, .. }
    ));
}

#[tokio::test]
async fn what_a_number_was_charged_is_given_back_once() {
    let server = RedisServer::start(&[]);
    let book = Book::new();
    let store = gateway(&[&server], &book).await;
    let limit = Limit { quota: 9, period: 200_000 * HOUR };
    let of_key = Cost::of_key(Subject(70), limit, 3);
    let one = Cost { window: Window::Fixed, charged: Charged::Refused, ..of_key };
    let with = |n, cost| Charge { costs: [cost].into_iter().collect(), ..number(n) };
    let paid = with(1, one);
    let Verdict::New(levels_then) = store.spend(&paid).await else { panic!() };
    assert_eq!(levels(&store.spend(&with(2, one)).await), [6]);
    let mut receipt = Receipt::of(&paid).unwrap();
    receipt.at = levels_then.at;
    let receipt = receipt.given_back(200).unwrap();
    for _ in 0..3 {
        store.give_back(&receipt, now());
    }
    let look = Cost { weight: 0, ..one };
    let mut n = 3;
    let begun = Instant::now();
    while levels(&store.spend(&with(n, look)).await) != [3] {
        assert!(begun.elapsed() < Duration::from_secs(30));
        n += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The mark stays: what was given back is a replay all the same.
    let again = gateway(&[&server], &book).await.spend(&paid).await;
    assert!(matches!(again, Verdict::Seen), "{again:?}");
    let mut unknown = receipt;
    unknown.identity = Identity([77; 16]);
    store.give_back(&unknown, now());
    assert_eq!(levels(&store.spend(&with(n + 1, look)).await), [3]);
    assert_eq!(levels(&store.spend(&with(n + 2, look)).await), [3]);
}
