//! Everything that can befall a server of the shared store, as a gateway's clients and its operator see it: nothing is let
//! through that was not settled, what is refused says in each dialect's own words that it is to be signed again, the log,
//! the metrics and the readiness tell why, and service comes back by itself.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::answers::{Instead, Liar};
use crate::gateways::backend;
use crate::now;
use crate::process::{DIALECTS, Process, order, routes_and_keys};
use crate::server::RedisServer;

/// Something that is done to the server, or to its answers.
type Act = Box<dyn Fn(&mut RedisServer, &Liar)>;

/// What befalls the server, and what is told of it: in the log, and as a kind of the metric.
struct Fault {
    name: &'static str,
    begin: Act,
    end: Act,
    kind: &'static str,
    log: &'static str,
}

fn set(name: &'static str, value: &'static str) -> Act {
    Box::new(move |server, _| drop(server.run(&["CONFIG", "SET", name, value])))
}

fn say(instead: Instead) -> Act {
    Box::new(move |_, liar| liar.say(instead.clone()))
}

/// The answers to requests are others; those to whoever looks after the server as well.
fn answers(name: &'static str, bytes: &'static [u8], kind: &'static str) -> Fault {
    Fault {
        name,
        begin: say(Instead::Always(bytes.to_vec())),
        end: say(Instead::Nothing),
        kind,
        log: "the store is not used: it ",
    }
}

/// What servers suffer.
fn suffered() -> Vec<Fault> {
    let new = |name, begin, end, kind, log| Fault { name, begin, end, kind, log };
    vec![
        new(
            "down",
            Box::new(|server: &mut RedisServer, _: &Liar| server.kill()) as _,
            Box::new(|server: &mut RedisServer, _: &Liar| server.restart()) as _,
            "down",
            "it cannot be reached",
        ),
        new(
            "slow",
            Box::new(|server: &mut RedisServer, _: &Liar| server.signal("STOP")) as _,
            Box::new(|server: &mut RedisServer, _: &Liar| server.signal("CONT")) as _,
            "timeout",
            "it did not answer in time",
        ),
        new("full", set("maxmemory", "1"), set("maxmemory", "0"), "oom", "it refuses: OOM"),
        new(
            "evicting",
            set("maxmemory-policy", "allkeys-lru"),
            set("maxmemory-policy", "noeviction"),
            "evicting",
            "it may evict what must be remembered (maxmemory-policy allkeys-lru): set it to noeviction",
        ),
        new(
            "a replica",
            Box::new(|server: &mut RedisServer, _: &Liar| {
                drop(server.run(&["REPLICAOF", "127.0.0.1", "1"]));
            }) as _,
            Box::new(|server: &mut RedisServer, _: &Liar| {
                drop(server.run(&["REPLICAOF", "NO", "ONE"]));
            }) as _,
            "readonly",
            "the store is not used: it ",
        ),
        new(
            "no permission",
            Box::new(|server: &mut RedisServer, _: &Liar| {
                drop(server.run(&["ACL", "SETUSER", "default", "-fcall"]));
            }) as _,
            Box::new(|server: &mut RedisServer, _: &Liar| {
                drop(server.run(&["ACL", "SETUSER", "default", "+fcall"]));
            }) as _,
            "noauth",
            "it refuses: NOPERM",
        ),
    ]
}

/// What they say.
fn said() -> Vec<Fault> {
    vec![
        answers("loading", b"-LOADING Redis is loading the dataset in memory\r\n", "loading"),
        answers("read-only", b"-READONLY You can't write against a replica.\r\n", "readonly"),
        answers("its primary down", b"-MASTERDOWN Link with MASTER is down\r\n", "readonly"),
        answers("moved", b"-MOVED 3999 127.0.0.1:6381\r\n", "moved"),
        answers("cluster down", b"-CLUSTERDOWN The cluster is down\r\n", "moved"),
        answers("try again", b"-TRYAGAIN Multiple keys request\r\n", "moved"),
        answers("busy", b"-BUSY Redis is busy running a script.\r\n", "other"),
        answers("misconfigured", b"-MISCONF Redis is configured to save\r\n", "other"),
        answers("nobody known", b"-NOAUTH Authentication required.\r\n", "noauth"),
        answers("no protocol", b"HTTP/1.1 400 Bad Request\r\n\r\n", "down"),
        answers("a wrong kind", b":1\r\n", "other"),
        answers("half an answer", b"$9\r\nabc", "timeout"),
    ]
}

fn gateway(port: u16, backend: SocketAddr) -> Process {
    let text = format!(
        "[store]\nkind = \"redis\"\n[store.redis]\nservers = [\"127.0.0.1:{port}\"]\ndeadline = \"250ms\"\n{}",
        routes_and_keys(backend)
    );
    Process::start(&text, &[], false, |_| {})
}

/// Asks until an order passes; meanwhile each is refused as one that is to be signed again. How many orders it took.
fn until_served(gateway: &Process, number: &mut u32, delivered: &AtomicUsize) -> Vec<u8> {
    let mut passed = Vec::new();
    gateway.wait("an order passes", || {
        *number += 1;
        let before = delivered.load(Ordering::SeqCst);
        passed = order("binance", *number, now());
        let reply = gateway.ask(&passed);
        let is_served = reply.starts_with("HTTP/1.1 200");
        assert!(is_served || is_to_be_signed_again(&reply, "binance"), "{reply}");
        assert_eq!(delivered.load(Ordering::SeqCst) - before, usize::from(is_served));
        is_served
    });
    passed
}

fn is_to_be_signed_again(reply: &str, dialect: &str) -> bool {
    let (.., code) = DIALECTS.iter().find(|(name, ..)| *name == dialect).unwrap();
    let head = reply.to_ascii_lowercase();
    reply.starts_with("HTTP/1.1 503") && reply.contains(code) && head.contains("\r\nretry-after: ")
}

#[test]
fn whatever_befalls_the_store_is_told_to_clients_and_operators_and_ends_by_itself() {
    let mut server = RedisServer::start(&[]);
    let liar = Liar::start_beside(server.port);
    let (address, delivered) = backend();
    let gateway = gateway(liar.port, address);
    gateway.wait("it is ready", || gateway.is_ready());
    let mut number = 0;
    let mut spent = until_served(&gateway, &mut number, &delivered);
    for fault in suffered().into_iter().chain(said()) {
        let name = fault.name;
        let log = gateway.log().len();
        let series = |kind: &str| {
            let server = format!("127.0.0.1:{}", liar.port);
            format!("countersign_shared_store_errors_total{{kind=\"{kind}\",server=\"{server}\"}}")
        };
        let errors = gateway.metric(&series(fault.kind));
        let before = delivered.load(Ordering::SeqCst);
        (fault.begin)(&mut server, &liar);
        gateway.wait(name, || {
            number += 1;
            for (dialect, ..) in DIALECTS {
                let reply = gateway.ask(&order(dialect, number, now()));
                // What can evict or is a replica is found out by whoever looks after it.
                if !(reply.starts_with("HTTP/1.1 200") && matches!(name, "evicting")) {
                    assert!(is_to_be_signed_again(&reply, dialect), "{name} {dialect}: {reply}");
                }
            }
            assert_ne!(gateway.status(&spent), 200, "{name}");
            gateway.admin("/readyz").contains("store not usable")
        });
        if name != "evicting" {
            assert_eq!(delivered.load(Ordering::SeqCst), before, "{name}");
        }
        assert!(
            gateway.metric(&series(fault.kind)) > errors,
            "{name}: {}",
            gateway.admin("/metrics")
        );
        let server_label = format!("{{server=\"127.0.0.1:{}\"}}", liar.port);
        let usable = format!("countersign_shared_store_usable{server_label}");
        assert!(gateway.metric(&usable) < 1.0, "{name}");
        assert!(gateway.metric("countersign_ready") < 1.0, "{name}");
        let told = gateway.log().split_off(log);
        assert!(told.contains("ERROR") && told.contains(fault.log), "{name}: {told}");
        (fault.end)(&mut server, &liar);
        let begun = std::time::Instant::now();
        spent = until_served(&gateway, &mut number, &delivered);
        println!("{name}: served again after {} ms", begun.elapsed().as_millis());
        gateway.wait("it is ready", || gateway.is_ready());
    }
    assert!(gateway.log().contains("the store is used"));
}

#[test]
fn a_gateway_that_starts_before_its_store_refuses_until_that_is_there() {
    let mut server = RedisServer::start(&[]);
    server.kill();
    let (address, delivered) = backend();
    let gateway = gateway(server.port, address);
    gateway.wait("it is up", || gateway.admin("/readyz").contains("store not usable"));
    assert!(gateway.admin("/livez").starts_with("HTTP/1.1 200"));
    for (number, (dialect, ..)) in (1..).zip(DIALECTS) {
        let reply = gateway.ask(&order(dialect, number, now()));
        assert!(is_to_be_signed_again(&reply, dialect), "{dialect}: {reply}");
    }
    assert_eq!(delivered.load(Ordering::SeqCst), 0);
    assert!(gateway.log().contains("it cannot be reached"), "{}", gateway.log());
    server.restart();
    let mut number = 100;
    let _served = until_served(&gateway, &mut number, &delivered);
    gateway.wait("it is ready", || gateway.is_ready());
}
