//! Gateways are ended and started again in turn, while clients go on.

use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::Duration;

use crate::checker::{check, served};
use crate::phases::Terms;
use crate::traffic::{Load, Phase};
use crate::world::{GATEWAYS, Topology, World};

/// Restarts gateways so many times. Clients hear of nothing: they open a connection for each request, at another gateway
/// where one takes none.
pub(crate) fn run(terms: &Terms<'_>, times: usize) {
    let mut world = World::start(Topology::Independent(1), if terms.quick { 600 } else { 100 });
    let ports = world.ports();
    let load =
        Load { honest: if terms.quick { 100 } else { 400 }, greedy: 0, alone: 0, most_replays: 0 };
    let traffic = world.begin(&ports, load, terms.seed);
    traffic.keeps.store(false, Ordering::SeqCst);
    let from = world.now();
    for turn in 0..times {
        let mut gateway = world.gateways[turn % GATEWAYS].lock().unwrap();
        assert!(gateway.end(), "{}", gateway.log());
        gateway.restart();
        gateway.wait_until_ready();
    }
    let to = world.now();
    traffic.honest.store(false, Ordering::SeqCst);
    sleep(Duration::from_millis(2_500));
    let (arrivals, sent) = (world.backend.arrivals(), traffic.sent());
    let (all, good, missed) = served(&arrivals, &sent, Phase { from, to });
    let verdicts = check(&arrivals, &sent, &[]);
    println!(
        "rolling restart: {times} restarts under load, {all} requests, {} failed, accepted twice {}",
        all - good,
        verdicts.accepted_twice
    );
    for sent in missed.iter().take(5) {
        println!("  failed: {sent:?}");
    }
    assert!(all == good && verdicts.accepted_twice == 0, "a restart cost a request");
}
