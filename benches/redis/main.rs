//! What a request costs the shared store: its processor time by INFO, its memory a record, the gateway's own time, how
//! long it waits at half load, and the embedded store beside it. A figure, not a verdict: nothing is compared with a limit here.
//!
//! `cargo bench --bench redis`; `COUNTERSIGN_BENCH_CALLS` and `COUNTERSIGN_BENCH_RECORDS` say how many.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a panic is how a bench fails, and its figures are estimates"
)]

mod half_load;
mod server;

use std::io::Write as _;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use countersign::clock::{Clock as _, Micros, SystemClock};
use countersign::store::memory::{MemoryStore, Options as MemoryOptions};
use countersign::store::redis::{Address, Local, Options, RedisStore, Topology, Weakened};
use countersign::store::{
    Charge, Cost, Identity, Limit, Repeat, Scope, SignedTime, Store, Subject, Verdict, Window,
};
use half_load::at_half_load;
use redis::aio::MultiplexedConnection;
use redis::cmd;
use server::{Server, own_cpu};

/// Calls under way, as of a busy worker. Two of them ask the server, which so has no time to fall asleep between the
/// batches of one: to be woken costs it more than a call.
const IN_FLIGHT: u64 = 64;
const ACCOUNTS: u64 = 1_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn now() -> Micros {
    SystemClock::start().now()
}

fn charge(n: u64, costs: &[Cost], keep: Duration) -> Charge {
    let (now, account) = (now(), n % ACCOUNTS);
    let identity = u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    let own =
        costs.iter().map(|cost| Cost { subject: Subject(cost.subject.0 << 32 | account), ..*cost });
    Charge {
        now,
        identity: Identity(identity.to_le_bytes()),
        nonce: None,
        account,
        key: u128::from(account).to_le_bytes(),
        epoch: 1,
        step: None,
        time: SignedTime::Stamp(now),
        keep_until: now + keep,
        route: 1,
        repeat: Repeat::Never,
        costs: own.collect(),
    }
}

fn cost(place: u64, window: Window, scope: Scope, seconds: u64) -> Cost {
    let limit = Limit { quota: 100_000_000, period: Duration::from_secs(seconds) };
    Cost { window, scope, ..Cost::of_key(Subject(place), limit, 1) }
}

/// What each case charges.
fn cases() -> Vec<(&'static str, Vec<Cost>)> {
    let key = |place, window, seconds| cost(place, window, Scope::Key, seconds);
    let account = |place, window, seconds| cost(place, window, Scope::Account, seconds);
    let buckets = (1..=5).map(|place| key(place, Window::Bucket, 60)).collect();
    let mixed = vec![
        key(1, Window::Bucket, 60),
        key(2, Window::Fixed, 60),
        account(3, Window::Bucket, 60),
        account(4, Window::Fixed, 10),
        account(5, Window::Fixed, 86_400),
    ];
    vec![
        ("no limit", Vec::new()),
        ("one bucket", vec![key(1, Window::Bucket, 60)]),
        ("one fixed window", vec![key(1, Window::Fixed, 60)]),
        ("one sliding window", vec![key(1, Window::Sliding, 60)]),
        ("five buckets of the key", buckets),
        ("five: key 2, account 3, buckets and fixed", mixed),
    ]
}

async fn drive<S: Store>(store: &S, from: u64, calls: u64, costs: &[Cost], keep: Duration) {
    let lane = |lane: u64| async move {
        let mut n = from + lane;
        while n < from + calls {
            spend(store, n, costs, keep).await;
            n += IN_FLIGHT;
        }
    };
    all((0..IN_FLIGHT).map(|n| Box::pin(lane(n))).collect()).await;
}

async fn spend<S: Store>(store: &S, n: u64, costs: &[Cost], keep: Duration) {
    let verdict = store.spend(&charge(n, costs, keep)).await;
    assert!(matches!(verdict, Verdict::New(_)), "{verdict:?}");
}

/// Drives all to their ends.
async fn all<F: Future<Output = ()> + Unpin>(mut lanes: Vec<F>) {
    std::future::poll_fn(|context| {
        lanes.retain_mut(|lane| Pin::new(lane).poll(context).is_pending());
        if lanes.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// The same by two workers.
async fn drive_both<S: Store>(stores: &[S; 2], from: u64, calls: u64, costs: &[Cost]) {
    let keep = Duration::from_secs(5);
    let [first, second] = stores;
    let (half, middle) = (calls / 2, from + calls / 2);
    tokio::join!(drive(first, from, half, costs, keep), drive(second, middle, half, costs, keep));
}

async fn set_beside(server: &Server, calls: u64) {
    tokio::join!(set(server, 0, calls / 2), set(server, calls, calls / 2));
}

async fn set(server: &Server, from: u64, calls: u64) {
    let connection = server.client().get_multiplexed_async_connection().await.unwrap();
    let lane = |lane: u64| {
        let mut connection = connection.clone();
        async move {
            let mut n = from + lane;
            while n < from + calls {
                set_one(&mut connection, n).await;
                n += IN_FLIGHT;
            }
        }
    };
    all((0..IN_FLIGHT).map(|n| Box::pin(lane(n))).collect()).await;
}

async fn set_one(connection: &mut MultiplexedConnection, n: u64) {
    let mut set = cmd("SET");
    set.arg(format!("r:{n:032x}")).arg(1).arg("NX").arg("PX").arg(60_000);
    let _set: redis::Value = set.query_async(connection).await.unwrap();
}

fn local() -> MemoryStore {
    let options = MemoryOptions {
        max_records: 4_000_000,
        max_records_per_account: 4_000_000,
        ..MemoryOptions::default()
    };
    MemoryStore::open(&options, now() - Duration::from_hours(1)).unwrap()
}

async fn shared(server: &Server) -> RedisStore<SystemClock> {
    let options = Options {
        servers: vec![Address { name: "one".into(), client: server.client() }],
        deadline: Duration::from_secs(5),
        future_skew: Duration::from_millis(20),
        clock_bound: Duration::from_millis(250),
        max_in_flight: 1_000,
        local: Local::default(),
        topology: Topology::Independent,
        weakened: Weakened::default(),
    };
    let store = RedisStore::new(options, local(), SystemClock::start()).unwrap();
    for _ in 0..2 {
        let _troubles = store.look().await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    store
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut out = std::io::stdout();
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let calls = number("COUNTERSIGN_BENCH_CALLS", 200_000);
    let records = number("COUNTERSIGN_BENCH_RECORDS", 1_000_000);
    let per_call =
        |seconds: f64, calls: u64| seconds * 1e6 / f64::from(u32::try_from(calls).unwrap());
    runtime.block_on(async {
        let server = Server::start();
        let before = (server.cpu(), own_cpu());
        set_beside(&server, calls).await;
        let (theirs, ours) = (server.cpu() - before.0, own_cpu() - before.1);
        writeln!(
            out,
            "{:<44} {:>8} {:>9} {:>9}",
            "us of processor time a call", "redis", "gateway", "embedded"
        )
        .unwrap();
        writeln!(
            out,
            "{:<44} {:>8.2} {:>9.2} {:>9}",
            "SET NX PX",
            per_call(theirs, calls),
            per_call(ours, calls),
            "-"
        )
        .unwrap();
        for (name, costs) in cases() {
            let server = Server::start();
            let stores = [shared(&server).await, shared(&server).await];
            drive_both(&stores, 0, calls / 10, &costs).await;
            let before = (server.cpu(), own_cpu());
            drive_both(&stores, calls, calls, &costs).await;
            let (theirs, ours) = (server.cpu() - before.0, own_cpu() - before.1);
            let embedded = local();
            let before = own_cpu();
            drive(&embedded, 0, calls, &costs, Duration::from_secs(5)).await;
            let alone = own_cpu() - before;
            writeln!(
                out,
                "{name:<44} {:>8.2} {:>9.2} {:>9.2}",
                per_call(theirs, calls),
                per_call(ours, calls),
                per_call(alone, calls)
            )
            .unwrap();
        }
        at_half_load(&mut out, calls).await;
        let server = Server::start();
        let store = shared(&server).await;
        let before = server.info("memory", "used_memory");
        drive(&store, 0, records, &[], Duration::from_hours(1)).await;
        let bytes = server.info("memory", "used_memory") - before;
        let (each, all) = (bytes / f64::from(u32::try_from(records).unwrap()), bytes / 1e6);
        writeln!(out, "{records} live records: {each:.1} bytes each, {all:.1} MB in all").unwrap();
    });
}
