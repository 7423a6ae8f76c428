//! Gateways as processes whose machine's clock is moved under them: nothing signed is judged by such a clock, it is told
//! in every place, and what was signed before it is steady again never passes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign::clock::{Clock, Micros, SystemClock};

use crate::gateways::backend;
use crate::process::{DIALECTS, Process, order, routes_and_keys};

fn gateway(backend: SocketAddr) -> Process {
    started(&format!("[store]\nstate_dir = \"state\"\n{}", routes_and_keys(backend)))
}

fn started(text: &str) -> Process {
    let gateway = Process::start(text, &[], true, |_| {});
    gateway.wait("it is ready", || gateway.is_ready());
    gateway
}

fn now() -> Micros {
    SystemClock::start().now()
}

/// An order that passes, signed by a client whose clock is so far off; every one before it was refused as one that is to
/// be signed again.
fn passes(gateway: &Process, number: &mut u32, off: impl Fn(Micros) -> Micros) -> Vec<u8> {
    let mut passed = Vec::new();
    gateway.wait("an order passes", || {
        *number += 1;
        passed = order("binance", *number, off(now()));
        let reply = gateway.ask(&passed);
        assert!(reply.starts_with("HTTP/1.1 200") || reply.starts_with("HTTP/1.1 503"), "{reply}");
        reply.starts_with("HTTP/1.1 200")
    });
    passed
}

/// The offset of its clock that is shown.
fn shown(gateway: &Process) -> f64 {
    gateway.metric("countersign_machine_clock_offset_seconds")
}

/// Moves the clock, and goes on until all is told and refused; the gateway's own is `ours`.
fn moved(gateway: &Process, delivered: &AtomicUsize, step: &str, ours: impl Fn(Micros) -> Micros) {
    gateway.set_clock(step);
    gateway.wait("it is not ready", || gateway.admin("/readyz").contains("clock moved"));
    let seconds = shown(gateway);
    assert!(seconds.abs() > 0.5, "{step}: {seconds}");
    assert!(gateway.metric("countersign_ready") < 1.0);
    let log = gateway.log();
    assert!(log.contains("ERROR") && log.contains("the machine's clock was moved"), "{log}");
    let before = delivered.load(Ordering::SeqCst);
    for (number, (dialect, _, code)) in (9_000..).zip(DIALECTS) {
        // Nothing but the doubt is in the way.
        let reply = gateway.ask(&order(dialect, number, ours(now())));
        assert!(reply.starts_with("HTTP/1.1 503"), "{step} {dialect}: {reply}");
        assert!(reply.contains(code), "{step} {dialect}: {reply}");
        assert!(reply.contains("retry-after: 1\r\n"), "{step} {dialect}: {reply}");
    }
    assert_eq!(delivered.load(Ordering::SeqCst), before, "{step}");
}

/// Waits until the clock is steady again; then what was signed last before it was, in each dialect by a clock that is so
/// far off, says that it is to be signed again.
fn steady(gateway: &Process, off: impl Fn(Micros) -> Micros) -> Vec<Vec<u8>> {
    let mut before = now();
    gateway.wait("it is steady", || {
        let asked = now();
        let is_moved = gateway.admin("/readyz").contains("clock moved");
        if is_moved {
            before = asked;
        }
        !is_moved
    });
    let held = DIALECTS.map(|(dialect, ..)| order(dialect, 9_500, off(before)));
    for (request, (dialect, _, code)) in held.iter().zip(DIALECTS) {
        let reply = gateway.ask(request);
        assert!(reply.starts_with("HTTP/1.1 503") && reply.contains(code), "{dialect}: {reply}");
    }
    held.to_vec()
}

fn steps_ahead_and_lasts(step: &str, span: Duration) {
    let (address, delivered) = backend();
    let gateway = gateway(address);
    let mut number = 0;
    let once = passes(&gateway, &mut number, |now| now);
    moved(&gateway, &delivered, step, |now| now);
    let before = delivered.load(Ordering::SeqCst);
    let held = steady(&gateway, |now| now + span);
    assert_ne!(gateway.status(&once), 200);
    assert_eq!(delivered.load(Ordering::SeqCst), before);
    assert!(gateway.log().contains("the gateway follows it"), "{}", gateway.log());
    let again = passes(&gateway, &mut number, |now| now + span);
    for request in held.iter().chain([&once, &again]) {
        assert_ne!(gateway.status(request), 200);
    }
    assert_eq!(delivered.load(Ordering::SeqCst), before + 1);
    assert!(shown(&gateway).abs() < 0.5);
    // It never runs back: when the machine's clock is set right again nothing is judged until that has caught up.
    moved(&gateway, &delivered, "+0s", |now| now + span);
    assert_ne!(gateway.status(&once), 200);
    assert_eq!(delivered.load(Ordering::SeqCst), before + 1);
}

fn steps_and_is_set_right(step: &str) {
    let (address, delivered) = backend();
    let gateway = gateway(address);
    let mut number = 0;
    let once = passes(&gateway, &mut number, |now| now);
    moved(&gateway, &delivered, step, |now| now);
    let before = delivered.load(Ordering::SeqCst);
    gateway.set_clock("+0s");
    let held = steady(&gateway, |now| now);
    let again = passes(&gateway, &mut number, |now| now);
    for request in held.iter().chain([&once, &again]) {
        assert_ne!(gateway.status(request), 200);
    }
    assert_eq!(delivered.load(Ordering::SeqCst), before + 1);
    assert!(gateway.log().contains("is right again"), "{}", gateway.log());
}

fn is_borne(step: &str, shows: f64) {
    let (address, _) = backend();
    // Without a state directory: where the disk is slow a gateway refuses for want of its mark, and that is no doubt.
    let gateway = started(&routes_and_keys(address));
    let mut number = 0;
    let _first = passes(&gateway, &mut number, |now| now);
    gateway.set_clock(step);
    gateway.wait("it is seen", || (shown(&gateway) - shows).abs() < 0.05);
    for _ in 0..20 {
        number += 1;
        let reply = gateway.ask(&order("binance", number, now()));
        assert!(reply.starts_with("HTTP/1.1 200"), "{step}: {reply}\n{}", gateway.log());
    }
    assert!(gateway.is_ready(), "{step}");
    assert!(!gateway.log().contains("was moved"), "{}", gateway.log());
}

#[test]
fn nothing_is_judged_by_a_clock_that_was_moved_nor_afterwards_what_was_signed_before() {
    let hour = Duration::from_hours(1);
    std::thread::scope(|scope| {
        scope.spawn(|| steps_ahead_and_lasts("+1s", Duration::from_secs(1)));
        scope.spawn(|| steps_ahead_and_lasts("+3600s", hour));
        for step in ["-1s", "-3600s"] {
            scope.spawn(move || steps_and_is_set_right(step));
        }
        // Both edges of what is borne.
        scope.spawn(|| steps_and_is_set_right("-0.6s"));
        scope.spawn(|| is_borne("-0.4s", -0.4));
        scope.spawn(|| is_borne("+0.4s", 0.4));
    });
}
