//! How long calls wait while the server has half of what it can do.

use std::cell::RefCell;
use std::ops::Range;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use redis::aio::MultiplexedConnection;
use redis::cmd;

use crate::server::{PinnedApart, Server, starved};
use crate::{IN_FLIGHT, all, cases, drive, local, set_one, shared, spend};

/// The pauses of a shared machine fall into few of so many.
const ROUNDS: u64 = 15;
/// The first of the calls at a steady rate: none was made before.
const LATER: u64 = u64::MAX / 2;

/// How long a request with five limits waits for its verdict while the server has half of what it can do. At the same
/// pace and in the same rounds, what it would wait for whatever the store did: a bare SET, for the machine alone; and a
/// function that does nothing for as long as the store's takes, for the machine as it delays a server so busy.
pub(crate) async fn at_half_load(out: &mut impl std::io::Write, calls: u64) {
    let (_, costs) = cases().pop().unwrap();
    let (server, embedded) = (Server::start(), local());
    let store = shared(&server).await;
    let plain = server.client().get_multiplexed_async_connection().await.unwrap();
    let (begun, before) = (Instant::now(), server.cpu());
    drive(&store, 0, calls, &costs, Duration::from_secs(5)).await;
    let rate = calls as f64 / begun.elapsed().as_secs_f64() / 2.0;
    let turns = idle_turns(&server, &plain, (server.cpu() - before) / calls as f64).await;
    // The caller never sleeps, and a server that wakes beside it would wait for its turn.
    let _alone = PinnedApart::new(&server);
    writeln!(
        out,
        "us from when a call is due, {rate:.0} a second, which is half load: p50, p99, p99.9 (medians of {ROUNDS} rounds)"
    )
    .unwrap();
    // What else runs on the machine makes calls wait as well, and that is none of the store's doing.
    let (theirs, ours) = (starved(server.child.id()), starved(std::process::id()));
    let mut taken: [Vec<Histogram<u64>>; 4] = Default::default();
    for round in 0..ROUNDS {
        let these = LATER + round * calls / ROUNDS..LATER + (round + 1) * calls / ROUNDS;
        let [bare, idle, spent, alone] = &mut taken;
        bare.push(paced(these.clone(), rate, async |n| set_one(&mut plain.clone(), n).await).await);
        let call = async |_| idle_one(&mut plain.clone(), turns).await;
        idle.push(paced(these.clone(), rate, call).await);
        let call = async |n| spend(&store, n, &costs, Duration::from_secs(5)).await;
        spent.push(paced(these.clone(), rate, call).await);
        let call = async |n| spend(&embedded, n, &costs, Duration::from_secs(5)).await;
        alone.push(paced(these, rate, call).await);
    }
    let (theirs, ours) = (starved(server.child.id()) - theirs, starved(std::process::id()) - ours);
    let names = ["SET NX PX", "a function that idles as long", "redis", "embedded"];
    for (name, rounds) in names.into_iter().zip(&taken) {
        let [half, most, nearly_all] = [0.5, 0.99, 0.999].map(|part| {
            let mut each: Vec<_> =
                rounds.iter().map(|taken| taken.value_at_quantile(part)).collect();
            each.sort_unstable();
            each[each.len() / 2]
        });
        writeln!(out, "{name:<44} {half:>8} {most:>9} {nearly_all:>9}").unwrap();
    }
    let seconds = calls as f64 / rate * 4.0;
    writeln!(
        out,
        "ms in these {seconds:.1} s without a processor: redis {theirs:.0}, gateway {ours:.0}"
    )
    .unwrap();
}

/// Does nothing so many times.
const IDLE: &str = "#!lua name=bench_idle
redis.register_function('bench_idle', function(_keys, args)
  local sum = 0
  for turn = 1, tonumber(args[1]) do sum = sum + turn % 7 end
  return ''
end)";

/// How many times it must do nothing to take the server so many seconds.
async fn idle_turns(server: &Server, connection: &MultiplexedConnection, seconds: f64) -> f64 {
    let mut load = cmd("FUNCTION");
    load.arg("LOAD").arg(IDLE);
    let _name: String = load.query_async(&mut connection.clone()).await.unwrap();
    let mut taken = [0.0; 2];
    for (taken, turns) in taken.iter_mut().zip([0.0, TRIED]) {
        let before = server.cpu();
        let calls = (0..CALLS).map(|_| Box::pin(idle_lane(connection.clone(), turns)));
        all(calls.collect()).await;
        *taken = (server.cpu() - before) / (CALLS * CALLS) as f64;
    }
    let [nothing, tried] = taken;
    let turns = (seconds - nothing) / (tried - nothing) * TRIED;
    // Nothing where it takes longer to be called than the store's does in all.
    turns.max(0.0)
}

/// What the server's time is measured over: lanes of as many calls each, with so many turns.
const CALLS: u64 = 128;
const TRIED: f64 = 1_000.0;

async fn idle_lane(mut connection: MultiplexedConnection, turns: f64) {
    for _ in 0..CALLS {
        idle_one(&mut connection, turns).await;
    }
}

async fn idle_one(connection: &mut MultiplexedConnection, turns: f64) {
    let mut idle = cmd("FCALL");
    idle.arg("bench_idle").arg(0).arg(format!("{turns:.0}"));
    let _done: String = idle.query_async(connection).await.unwrap();
}

/// How long calls take that begin at a steady rate, from when each was due. Waiting is busy: timers are too coarse.
async fn paced(calls: Range<u64>, rate: f64, call: impl AsyncFn(u64)) -> Histogram<u64> {
    let taken = RefCell::new(Histogram::new(3).unwrap());
    let begun = Instant::now();
    let lane = |lane: u64| {
        let (taken, call, calls) = (&taken, &call, &calls);
        async move {
            let mut n = calls.start + lane;
            while n < calls.end {
                let due = begun + Duration::from_secs_f64((n - calls.start) as f64 / rate);
                while Instant::now() < due {
                    tokio::task::yield_now().await;
                }
                call(n).await;
                let micros = u64::try_from(due.elapsed().as_micros()).unwrap();
                taken.borrow_mut().record(micros).unwrap();
                n += IN_FLIGHT;
            }
        }
    };
    all((0..IN_FLIGHT).map(|n| Box::pin(lane(n))).collect()).await;
    taken.into_inner()
}
