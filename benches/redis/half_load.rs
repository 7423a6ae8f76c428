//! How long calls wait while the server has half of what it can do.

use std::cell::RefCell;
use std::ops::Range;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::server::{PinnedApart, Server, starved};
use crate::{IN_FLIGHT, all, cases, drive, local, set_one, shared, spend};

/// The pauses of a shared machine fall into few of so many.
const ROUNDS: u64 = 15;
/// The first of the calls at a steady rate: none was made before.
const LATER: u64 = u64::MAX / 2;

/// How long a request with five limits waits for its verdict while the server has half of what it can do, beside a bare
/// SET at the same pace, which waits for the machine alone.
pub(crate) async fn at_half_load(out: &mut impl std::io::Write, calls: u64) {
    let (_, costs) = cases().pop().unwrap();
    let (server, embedded) = (Server::start(), local());
    let store = shared(&server).await;
    let plain = server.client().get_multiplexed_async_connection().await.unwrap();
    let begun = Instant::now();
    drive(&store, 0, calls, &costs, Duration::from_secs(5)).await;
    let rate = calls as f64 / begun.elapsed().as_secs_f64() / 2.0;
    // The caller never sleeps, and a server that wakes beside it would wait for its turn.
    let _alone = PinnedApart::new(&server);
    writeln!(
        out,
        "us from when a call is due, {rate:.0} a second, which is half load: p50, p99, p99.9 (medians of {ROUNDS} rounds)"
    )
    .unwrap();
    // What else runs on the machine makes calls wait as well, and that is none of the store's doing.
    let (theirs, ours) = (starved(server.child.id()), starved(std::process::id()));
    let mut taken: [Vec<Histogram<u64>>; 3] = Default::default();
    for round in 0..ROUNDS {
        let these = LATER + round * calls / ROUNDS..LATER + (round + 1) * calls / ROUNDS;
        let [bare, spent, alone] = &mut taken;
        bare.push(paced(these.clone(), rate, async |n| set_one(&mut plain.clone(), n).await).await);
        let call = async |n| spend(&store, n, &costs, Duration::from_secs(5)).await;
        spent.push(paced(these.clone(), rate, call).await);
        let call = async |n| spend(&embedded, n, &costs, Duration::from_secs(5)).await;
        alone.push(paced(these, rate, call).await);
    }
    let (theirs, ours) = (starved(server.child.id()) - theirs, starved(std::process::id()) - ours);
    for (name, rounds) in ["SET NX PX", "redis", "embedded"].into_iter().zip(&taken) {
        let [half, most, nearly_all] = [0.5, 0.99, 0.999].map(|part| {
            let mut each: Vec<_> =
                rounds.iter().map(|taken| taken.value_at_quantile(part)).collect();
            each.sort_unstable();
            each[each.len() / 2]
        });
        writeln!(out, "{name:<44} {half:>8} {most:>9} {nearly_all:>9}").unwrap();
    }
    let seconds = calls as f64 / rate * 3.0;
    writeln!(
        out,
        "ms in these {seconds:.1} s without a processor: redis {theirs:.0}, gateway {ours:.0}"
    )
    .unwrap();
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
