//! Four gateways as one, as a client and an attacker see them: what every answer says of limits is true whoever gives it,
//! and what comes to all of them at once passes once.

use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::Ordering;

use crate::gateways::backend;
use crate::now;
use crate::process::{Process, order, routes_and_keys};
use crate::server::RedisServer;

fn gateway(redis: &RedisServer, backend: SocketAddr, limits: &str) -> Process {
    with_store(&store_at(redis.port), backend, limits)
}

fn store_at(port: u16) -> String {
    format!(
        "[store]\nkind = \"redis\"\n[store.redis]\nservers = [\"127.0.0.1:{port}\"]\ndeadline = \"2s\"\n"
    )
}

fn with_store(store: &str, backend: SocketAddr, limits: &str) -> Process {
    of_all(store, backend, limits, "")
}

fn limit(name: &str, quota: u32, per: &str, more: &str) -> String {
    format!(
        "[[limit]]\nname = \"{name}\"\nquota = {quota}\nper = \"{per}\"\nkind = \"sliding-window\"\n{more}\n"
    )
}

fn field(reply: &str, name: &str) -> Option<u64> {
    let mut lines = reply.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?.trim().parse().ok()
}

fn gateways(redis: &RedisServer, backend: SocketAddr, limits: &str) -> [Process; 4] {
    let all = [(); 4].map(|()| gateway(redis, backend, limits));
    for gateway in &all {
        gateway.wait("it is ready", || gateway.is_ready());
    }
    all
}

#[test]
fn every_answer_of_four_gateways_says_what_all_have_counted() {
    let redis = RedisServer::start(&[]);
    let (address, _) = backend();
    let limits =
        limit("weight", 100, "24h", "") + &limit("orders", 20, "1h", "counts = \"orders\"");
    let all = gateways(&redis, address, &limits);
    for number in 1..=20_u32 {
        let reply = all[number as usize * 7 % 4].ask(&order("binance", number, now()));
        assert!(reply.starts_with("HTTP/1.1 200"), "{number}: {reply}");
        let counts = ["x-mbx-used-weight-1d", "x-mbx-used-weight", "x-mbx-order-count-1h"]
            .map(|name| field(&reply, name));
        let (orders, weight) = (u64::from(number), u64::from(number) * 3);
        assert_eq!(counts, [Some(weight), Some(weight), Some(orders)], "{reply}");
    }
    for gateway in &all {
        for number in 100..103 {
            let reply = gateway.ask(&order("binance", number, now()));
            assert!(reply.starts_with("HTTP/1.1 429") && reply.contains("-1015"), "{reply}");
            assert_eq!(field(&reply, "x-mbx-order-count-1h"), Some(20), "{reply}");
            // A sliding window counts until its last fifteenth is over.
            assert!((1..=3_840).contains(&field(&reply, "retry-after").unwrap()), "{reply}");
        }
    }
}

/// What a reply to a client of Binance tells: weight of a day, weight, and orders of an hour.
fn told(reply: &str) -> [Option<u64>; 3] {
    ["x-mbx-used-weight-1d", "x-mbx-used-weight", "x-mbx-order-count-1h"]
        .map(|name| field(reply, name))
}

#[test]
fn a_refusal_by_one_limit_tells_of_the_others_as_well() {
    let (address, _) = backend();
    for (weight, orders, code) in [(100, 2, "-1015"), (8, 100, "-1003")] {
        let limits = limit("weight", weight, "24h", "")
            + &limit("orders", orders, "1h", "counts = \"orders\"");
        let redis = RedisServer::start(&[]);
        for gateway in [gateway(&redis, address, &limits), with_store("", address, &limits)] {
            gateway.wait("it is ready", || gateway.is_ready());
            for number in 1..=2_u32 {
                let reply = gateway.ask(&order("binance", number, now()));
                let spent = u64::from(number);
                assert_eq!(
                    told(&reply),
                    [Some(spent * 3), Some(spent * 3), Some(spent)],
                    "{reply}"
                );
            }
            for number in 3..=5 {
                let reply = gateway.ask(&order("binance", number, now()));
                assert!(reply.starts_with("HTTP/1.1 429") && reply.contains(code), "{reply}");
                assert_eq!(told(&reply), [Some(6), Some(6), Some(2)], "nothing is spent: {reply}");
            }
        }
    }
}

/// A gateway whose orders are charged to limits of their key, and to what these lines of their route name.
fn of_all(store: &str, backend: SocketAddr, limits: &str, on_route: &str) -> Process {
    let on_route = format!("orders = 1\nweight = 3\n{on_route}");
    let routes = routes_and_keys(backend)
        .replace("path = \"/api/v3/order\"", &format!("path = \"/api/v3/order\"\n{on_route}"))
        .replace(
            "account = \"alice\"\ndialect = \"binance\"",
            "account = \"alice\"\ndialect = \"binance\"\nlimits = [\"weight\", \"orders\"]",
        );
    Process::start(&format!("{store}{limits}{routes}"), &[], false, |_| {})
}

/// Limits of a key, and one of this scope that admits two orders; and how a route names that.
fn of_scope(scope: &str) -> (String, &'static str) {
    let limits = limit("weight", 100, "24h", "")
        + &limit("orders", 100, "1h", "counts = \"orders\"")
        + &limit("all", 8, "10h", &format!("scope = \"{scope}\""));
    let on_route = if scope == "global" { "limits = [\"all\"]" } else { "address_limit = \"all\"" };
    (limits, on_route)
}

#[test]
fn a_refusal_by_what_all_share_tells_of_the_keys_own_limits_and_spends_nothing_of_them() {
    let (address, delivered) = backend();
    for scope in ["global", "address"] {
        let redis = RedisServer::start(&[]);
        let shared = store_at(redis.port);
        let (limits, on_route) = of_scope(scope);
        for store in ["", &*shared] {
            let gateway = of_all(store, address, &limits, on_route);
            gateway.wait("it is ready", || gateway.is_ready());
            for number in 1..=2_u32 {
                let reply = gateway.ask(&order("binance", number, now()));
                assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
            }
            let before = delivered.load(Ordering::SeqCst);
            for number in 3..=8 {
                let reply = gateway.ask(&order("binance", number, now()));
                assert!(reply.starts_with("HTTP/1.1 429"), "{scope} {store}: {reply}");
                // Those of one limit tell of that which refuses.
                assert_eq!(told(&reply), [Some(6), Some(6), Some(2)], "{scope} {store}: {reply}");
                assert_eq!(field(&reply, "x-mbx-used-weight-10h"), Some(6), "{reply}");
            }
            assert_eq!(delivered.load(Ordering::SeqCst), before);
        }
    }
}

#[test]
fn a_refusal_by_what_all_share_tells_what_all_gateways_have_counted_or_nothing() {
    let mut redis = RedisServer::start(&[]);
    let (address, _) = backend();
    let (limits, on_route) = of_scope("global");
    let all = [(); 2].map(|()| of_all(&store_at(redis.port), address, &limits, on_route));
    let mut passed = 0;
    for gateway in &all {
        gateway.wait("it is ready", || gateway.is_ready());
        let mut number = 0;
        // Each lets what it may of it run up before it asks.
        gateway.wait("it refuses", || {
            number += 1;
            let status = gateway.status(&order("binance", passed * 100 + number, now()));
            passed += u32::from(status == 200);
            status == 429
        });
    }
    assert!((2..=4).contains(&passed), "{passed}");
    for (place, gateway) in (10_u32..).zip(&all) {
        let reply = gateway.ask(&order("binance", place * 1_000, now()));
        assert!(reply.starts_with("HTTP/1.1 429"), "{reply}");
        let (weight, orders) = (u64::from(passed) * 3, u64::from(passed));
        assert_eq!(field(&reply, "x-mbx-used-weight-1d"), Some(weight), "{reply}");
        assert_eq!(field(&reply, "x-mbx-order-count-1h"), Some(orders), "{reply}");
    }
    // Where nobody can be asked, only what is counted here is told: it refuses still.
    redis.kill();
    let [_, gateway] = &all;
    let mut reply = String::new();
    let mut number = 20_000;
    gateway.wait("it is noticed", || {
        number += 1;
        reply = gateway.ask(&order("binance", number, now()));
        field(&reply, "x-mbx-used-weight-1d").is_none()
    });
    if reply.starts_with("HTTP/1.1 429") {
        assert!(field(&reply, "x-mbx-used-weight-10h").is_some(), "{reply}");
    }
    assert_eq!(field(&reply, "x-mbx-order-count-1h"), None, "{reply}");
}

#[test]
fn what_was_charged_is_told_where_no_backend_answers_too() {
    // Nobody listens there any longer.
    let address = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let limits = limit("weight", 100, "24h", "") + &limit("orders", 9, "1h", "counts = \"orders\"");
    let gateway = with_store("", address, &limits);
    gateway.wait("it is ready", || gateway.is_ready());
    let mut number = 0;
    let mut reply = String::new();
    gateway.wait("it judges", || {
        number += 1;
        reply = gateway.ask(&order("binance", number, now()));
        told(&reply)[0].is_some()
    });
    assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
    assert_eq!(told(&reply), [Some(3), Some(3), Some(1)], "{reply}");
}

#[test]
fn what_an_accepted_order_gets_back_is_not_told_of_as_spent() {
    let redis = RedisServer::start(&[]);
    let (address, _) = backend();
    let orders = limit("orders", 2, "1h", "counts = \"orders\"\ncharged = \"refused\"");
    let all = gateways(&redis, address, &(limit("weight", 100, "24h", "") + &orders));
    for number in 1..=6_u32 {
        let gateway = &all[number as usize % 4];
        // What was given back before may be on its way still; the order is then refused, and may come again.
        let once = order("binance", number, now());
        let mut reply = String::new();
        gateway.wait("it is given back", || {
            reply = gateway.ask(&once);
            reply.starts_with("HTTP/1.1 200")
        });
        let counted = field(&reply, "x-mbx-order-count-1h").unwrap();
        assert!(counted <= 1, "{reply}");
        assert_eq!(field(&reply, "x-mbx-used-weight-1d"), Some(u64::from(number) * 3), "{reply}");
    }
    let alone = &all[0];
    alone.wait("nothing is spent", || {
        let reply = alone.ask(&order("binance", 1_000 + u32::from(rand()), now()));
        field(&reply, "x-mbx-order-count-1h") == Some(0)
    });
}

/// A number unlike those before.
fn rand() -> u16 {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[test]
fn what_comes_to_four_gateways_at_once_passes_once() {
    const ROUNDS: u32 = 60;
    let redis = RedisServer::start(&[]);
    let (address, delivered) = backend();
    let limits = limit("weight", 1_000_000, "24h", "")
        + &limit("orders", 1_000, "1h", "counts = \"orders\"");
    let all = gateways(&redis, address, &limits);
    let dialects = ["binance", "okx", "bitmex"];
    for (number, gateway) in (1_000..).zip(&all) {
        // Deadlines are judged once none can have been accepted before the start.
        gateway
            .wait("it judges deadlines", || gateway.status(&order("bitmex", number, now())) == 200);
    }
    let mut refusals = 0;
    for number in 1..=ROUNDS {
        let before = delivered.load(Ordering::SeqCst);
        let once = order(dialects[number as usize % 3], number, now());
        let together = Barrier::new(8);
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let send = |place: usize| {
                let (gateway, once, together) = (&all[place % 4], &once, &together);
                scope.spawn(move || {
                    together.wait();
                    gateway.status(once)
                })
            };
            let asked: Vec<_> = (0..8).map(send).collect();
            asked.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(delivered.load(Ordering::SeqCst) - before, 1, "{number} {statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        refusals += statuses.iter().filter(|status| **status == 400).count();
    }
    assert!(refusals > 0, "a copy is refused as one, not as trouble");
}
