//! `/metrics` after a mix of requests: what was sent is what was counted.

use std::io::Write as _;
use std::net::TcpStream;

use http::Method;

use crate::backend::{Backend, Mode};
use crate::client::{Call, Client, now, send};
use crate::program::{Served, until};
use crate::world::{DIALECTS, File, PASSPHRASE, VARIABLES, client, order, world};

/// The sum of all samples of `name`, which are whole numbers, that have these labels.
fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> u64 {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (known, found) = series.split_once('{').unwrap_or((series, ""));
            let has =
                |(label, value): &(&str, &str)| found.contains(&format!("{label}=\"{value}\""));
            (known == name && labels.iter().all(has)).then(|| value.parse::<u64>().unwrap())
        })
        .sum()
}

/// Five orders and eleven requests to be refused in each dialect, two of them repeated orders; one that no route has,
/// and one that the backend does not answer.
fn send_mix(served: &Served, backend: &Backend) {
    let ask = |call: &Call| send(served.address(), call);
    for (dialect, read, write) in DIALECTS {
        let good = format!("{dialect}-good");
        let signer = client(dialect, &good);
        for number in 0..5 {
            let call = signer.sign(Method::POST, write, &order(dialect, number));
            ask(&call);
            if number < 2 {
                ask(&call);
            }
        }
        let forger =
            Client { dialect, key: &good, secret: "not the secret", passphrase: PASSPHRASE };
        for number in 0..3 {
            ask(&forger.sign(Method::GET, &format!("{read}?n={number}"), ""));
        }
        for kind in ["nobody", "bound", "revoked"] {
            ask(&client(dialect, &format!("{dialect}-{kind}")).sign(Method::GET, read, ""));
        }
        let stale = now() - std::time::Duration::from_hours(1);
        ask(&signer.sign_at(stale, Method::GET, read, ""));
    }
    ask(&Call::get("/nowhere"));
    backend.set(Mode::Drop);
    let lost = client("binance", "binance-good").sign(Method::POST, "/api/v3/order", "symbol=LOST");
    assert_eq!(ask(&lost).status, 504);
}

#[test]
fn counters_equal_what_was_sent() {
    let backend = Backend::start();
    let file = File::new(&world(&[backend.address]));
    let served = Served::ready(&file.path(), &VARIABLES);
    send_mix(&served, &backend);

    // A request is counted when its answer has left, and histograms are handed on about once a second.
    let metrics = || send(served.admin, &Call::get("/metrics")).body;
    let durations = "countersign_request_duration_seconds_count";
    until("all is counted", || sum(&metrics(), durations, &[]) >= 44);
    until("connections are closed", || sum(&metrics(), "countersign_connections", &[]) == 0);
    let text = metrics();
    let counted =
        |name: &str, labels: &[(&str, &str)]| sum(&text, &format!("countersign_{name}"), labels);
    for (dialect, ..) in DIALECTS {
        let [post, get] = ["post", "get"].map(|method| format!("{dialect}-{method}"));
        for (route, outcome, count) in [
            (&post, "accepted", 5),
            (&post, "rejected", 2),
            (&get, "accepted", 0),
            (&get, "rejected", 7),
        ] {
            let labels = [("route", &**route), ("outcome", outcome)];
            assert_eq!(counted("requests_total", &labels), count, "{labels:?}");
            assert_eq!(counted("request_duration_seconds_count", &labels), count, "{labels:?}");
        }
        for (reason, count) in [
            ("replayed", 2),
            ("bad_signature", 3),
            ("unknown_key", 1),
            ("key_inactive", 1),
            ("address_refused", 1),
            ("stale", 1),
        ] {
            let labels = [("reason", reason), ("dialect", dialect)];
            assert_eq!(counted("rejections_total", &labels), count, "{labels:?}");
        }
    }
    for (name, labels, count) in [
        ("requests_total", &[("outcome", "accepted")][..], 15),
        ("requests_total", &[("outcome", "rejected")], 28),
        ("requests_total", &[("outcome", "backend_error")], 1),
        ("requests_total", &[], 44),
        ("rejections_total", &[], 28),
        ("rejections_total", &[("reason", "no_route")], 1),
        ("request_duration_seconds_count", &[], 44),
        ("verify_duration_seconds_count", &[("outcome", "accepted")], 16),
        ("upstream_requests_total", &[("outcome", "ok")], 15),
        ("upstream_requests_total", &[("outcome", "unknown")], 1),
        ("upstream_requests_total", &[], 16),
        ("store_records", &[], 16),
        ("store_refusals_total", &[], 0),
        ("connections_total", &[], 44),
        ("keys", &[("state", "active")], 24),
        ("keys", &[("state", "suspended")], 4),
        ("keys", &[("state", "revoked")], 4),
        ("ready", &[], 1),
    ] {
        assert_eq!(counted(name, labels), count, "{name} {labels:?}");
    }
}

#[test]
fn of_orders_whose_clients_break_off_it_is_counted_whether_the_backend_has_them() {
    let backend = Backend::start();
    backend.set(Mode::Wait);
    let one =
        world(&[backend.address]).replace("[[upstream]]", "[[upstream]]\nmax_connections = 1");
    let file = File::new(&one);
    let served = Served::ready(&file.path(), &VARIABLES);
    let metrics = || send(served.admin, &Call::get("/metrics")).body;
    let ended =
        |outcome| sum(&metrics(), "countersign_upstream_requests_total", &[("outcome", outcome)]);
    let begin = |number| {
        let call = client("binance", "binance-good").sign(
            Method::POST,
            "/api/v3/order",
            &order("binance", number),
        );
        let mut stream = TcpStream::connect(served.address()).unwrap();
        stream.write_all(call.bytes().as_bytes()).unwrap();
        stream
    };
    let break_off = |stream: TcpStream| {
        let linger = Some(std::time::Duration::ZERO);
        socket2::SockRef::from(&stream).set_linger(linger).unwrap();
    };
    let first = begin(1);
    until("the backend has it", || backend.seen().len() == 1);
    // There is one connection to it: the second waits for that.
    let second = begin(2);
    until("it was judged", || sum(&metrics(), "countersign_store_records", &[]) == 2);
    break_off(second);
    until("it was not sent", || ended("unsent") == 1);
    break_off(first);
    until("nobody knows what became of it", || ended("unknown") == 1);
    assert_eq!(backend.seen().len(), 1);
}
