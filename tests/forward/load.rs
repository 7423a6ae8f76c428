//! Which backend gets a request: the least loaded; one that fails stays out until a probe lets it back.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use countersign::gateway::forward::ForwardFault;

use crate::backend::{Backend, Step, ok};
use crate::rig::{Call, Rig, body, run, until, upstream};

/// A reply whose last byte never comes.
fn endless(_: usize, _: &str) -> Step {
    Step::Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n1".to_vec())
}

#[test]
fn backends_with_equal_load_take_turns() {
    run(async {
        let backends = [
            Backend::answering("a").await,
            Backend::answering("b").await,
            Backend::answering("c").await,
        ];
        let rig = Rig::new(&backends.each_ref().map(|backend| &*backend.authority));
        for _ in 0..30 {
            rig.send(&Call::get()).await.unwrap();
        }
        assert_eq!(backends.map(|backend| backend.log.requests().len()), [10, 10, 10]);
    });
}

#[test]
fn the_least_loaded_backend_gets_the_request_whichever_worker_sends_it() {
    run(async {
        let (busy, free) = (Backend::start(endless).await, Backend::answering("done").await);
        let rig = Rig::new(&[&busy.authority, &free.authority]);
        let held = rig.send(&Call::get()).await.unwrap();
        assert_eq!(busy.log.requests().len(), 1);
        let other = rig.another_worker();
        for _ in 0..5 {
            rig.send(&Call::get()).await.unwrap();
            rig.send_by(&other, &Call::get()).await.unwrap();
        }
        assert_eq!((busy.log.requests().len(), free.log.requests().len()), (1, 10));
        let in_flight: Vec<_> = rig.shared.snapshot().map(|backend| backend.in_flight).collect();
        assert_eq!(in_flight, [1, 0]);
        drop(held);
        assert!(rig.shared.snapshot().all(|backend| backend.in_flight == 0));
    });
}

#[test]
fn failures_in_a_row_eject_a_backend_and_one_probe_lets_it_back() {
    run(async {
        let broken = Rc::new(Cell::new(true));
        let is_broken = Rc::clone(&broken);
        let flaky =
            Backend::start(
                move |_, _| if is_broken.get() { Step::Last(Vec::new()) } else { ok("done") },
            )
            .await;
        let steady = Backend::answering("done").await;
        let rig = Rig::new(&[&flaky.authority, &steady.authority]);
        for _ in 0..6 {
            let _ = rig.send(&Call::get()).await;
        }
        assert_eq!((rig.is_up(), flaky.log.requests().len()), (vec![false, true], 3));

        rig.clock.advance(Duration::from_secs(10) - Duration::from_micros(1));
        for _ in 0..10 {
            rig.send(&Call::get()).await.unwrap();
        }
        assert_eq!(flaky.log.requests().len(), 3, "nothing before its time");

        rig.clock.advance(Duration::from_micros(1));
        assert_eq!(rig.send(&Call::get()).await.unwrap_err(), ForwardFault::Unknown);
        for _ in 0..10 {
            rig.send(&Call::get()).await.unwrap();
        }
        assert_eq!(flaky.log.requests().len(), 4, "one probe, and out again");

        rig.clock.advance(Duration::from_secs(20) - Duration::from_micros(1));
        rig.send(&Call::get()).await.unwrap();
        assert_eq!(flaky.log.requests().len(), 4, "twice as long");

        rig.clock.advance(Duration::from_micros(1));
        broken.set(false);
        rig.send(&Call::get()).await.unwrap();
        assert_eq!((rig.is_up(), flaky.log.requests().len()), (vec![true, true], 5));
    });
}

#[test]
fn replies_that_break_off_eject_a_backend_too() {
    run(async {
        let backend = Backend::start(|_, _| {
            Step::Last(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab".to_vec())
        })
        .await;
        let rig = Rig::new(&[&backend.authority]);
        for up in [true, true, false] {
            let reply = rig.send(&Call::get()).await.unwrap();
            assert!(body(reply).await.is_err());
            assert_eq!(rig.is_up(), [up]);
        }
    });
}

#[test]
fn a_request_that_its_client_gives_up_is_in_flight_no_more_and_holds_nothing_against_the_backend() {
    run(async {
        let backend = Backend::start(|_, _| Step::Hang).await;
        let rig = Rig::new(&[&backend.authority]);
        for given_up in 1..=5 {
            let call = Call::get();
            tokio::select! {
                reply = rig.send(&call) => panic!("{reply:?}"),
                () = until("it was sent", || backend.log.requests().len() == given_up) => {}
            }
            assert!(rig.shared.snapshot().all(|backend| backend.in_flight == 0));
        }
        assert_eq!(rig.is_up(), [true]);
        until("every connection has ended", || {
            rig.shared.snapshot().all(|backend| backend.connections == 0)
        })
        .await;
    });
}

#[test]
fn a_success_between_failures_keeps_a_backend_in() {
    run(async {
        let backend =
            Backend::start(
                |place, _| if place % 3 == 2 { ok("done") } else { Step::Last(Vec::new()) },
            )
            .await;
        let rig = Rig::new(&[&backend.authority]);
        for _ in 0..12 {
            let _ = rig.send(&Call::get()).await;
            assert_eq!(rig.is_up(), [true]);
        }
    });
}

#[test]
fn a_probe_that_is_given_up_leaves_room_for_the_next() {
    run(async {
        let backend =
            Backend::start(
                |place, _| {
                    if place < 3 { Step::Last(Vec::new()) } else { endless(place, "") }
                },
            )
            .await;
        let steady = Backend::answering("done").await;
        let rig = Rig::new(&[&backend.authority, &steady.authority]);
        for _ in 0..6 {
            let _ = rig.send(&Call::get()).await;
        }
        rig.clock.advance(Duration::from_secs(10));
        for probes in 1..=3 {
            drop(rig.send(&Call::get()).await.unwrap());
            assert_eq!(backend.log.requests().len(), 3 + probes);
        }
    });
}

#[test]
fn when_every_backend_is_ejected_the_one_due_first_is_still_tried() {
    run(async {
        let broken = Rc::new(Cell::new(true));
        let is_broken = Rc::clone(&broken);
        let backend =
            Backend::start(
                move |_, _| if is_broken.get() { Step::Last(Vec::new()) } else { ok("done") },
            )
            .await;
        let rig = Rig::new(&[&backend.authority]);
        for _ in 0..3 {
            assert_eq!(rig.send(&Call::get()).await.unwrap_err(), ForwardFault::Unknown);
        }
        assert_eq!(rig.is_up(), [false]);
        broken.set(false);
        rig.send(&Call::get()).await.unwrap();
        assert_eq!(rig.is_up(), [true]);
    });
}

#[test]
fn a_request_waits_for_a_connection_where_there_may_be_no_more() {
    run(async {
        let backend = Backend::start(|_, _| {
            let body = "x".repeat(200_000);
            Step::Reply(format!("HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n{body}").into())
        })
        .await;
        let mut rules = upstream(&[&backend.authority]);
        rules.max_connections = 1;
        let rig = Rig::with(rules);
        let first = rig.send(&Call::get()).await.unwrap();
        let call = Call::get();
        let second = rig.send(&call);
        let (first, second) = tokio::join!(body(first), second);
        assert_eq!(first.unwrap().len(), 200_000);
        assert_eq!(body(second.unwrap()).await.unwrap().len(), 200_000);
        assert_eq!(backend.log.connections(), 1);
    });
}

#[test]
fn the_wait_for_a_connection_is_bounded_in_time_and_in_number() {
    run(async {
        let backend = Backend::start(endless).await;
        let mut rules = upstream(&[&backend.authority]);
        (rules.max_connections, rules.connect_timeout) = (1, Duration::from_millis(50));
        let rig = Rig::with(rules);
        let held = rig.send(&Call::get()).await.unwrap();
        let call = Call::get();
        let (one, two) = tokio::join!(rig.send(&call), rig.send(&call));
        assert_eq!(one.unwrap_err(), ForwardFault::NoBackend);
        assert_eq!(two.unwrap_err(), ForwardFault::NoBackend);
        assert_eq!(rig.is_up(), [true], "being busy is no failure");
        drop(held);
        rig.send(&call).await.unwrap();
        assert_eq!(backend.log.connections(), 2);
    });
}

#[test]
fn a_connection_that_another_worker_waits_for_is_not_kept() {
    run(async {
        let backend = Backend::start(|_, _| {
            let body = "x".repeat(200_000);
            Step::Reply(format!("HTTP/1.1 200 OK\r\ncontent-length: 200000\r\n\r\n{body}").into())
        })
        .await;
        let mut rules = upstream(&[&backend.authority]);
        // Less than the time after which idle connections are looked at.
        (rules.max_connections, rules.connect_timeout) = (1, Duration::from_millis(800));
        let rig = Rig::with(rules);
        let first = rig.send(&Call::get()).await.unwrap();
        let (other, call) = (rig.another_worker(), Call::get());
        let read = async {
            // By now the other has found no room.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            body(first).await
        };
        let (second, first) = tokio::join!(rig.send_by(&other, &call), read);
        assert_eq!(first.unwrap().len(), 200_000);
        assert_eq!(body(second.unwrap()).await.unwrap().len(), 200_000);
        assert_eq!(backend.log.connections(), 2);
    });
}

#[test]
fn an_idle_connection_of_one_worker_gives_way_to_another_worker() {
    run(async {
        let backend = Backend::answering("done").await;
        let mut rules = upstream(&[&backend.authority]);
        rules.max_connections = 1;
        let rig = Rig::with(rules);
        rig.send(&Call::get()).await.unwrap();
        let other = rig.another_worker();
        rig.send_by(&other, &Call::get()).await.unwrap();
        assert_eq!(backend.log.connections(), 2);
        until("the first has closed", || backend.log.open() == 1).await;
    });
}
