//! How often a request reaches a backend: once, or not at all, whatever breaks and wherever.

use std::time::Duration;

use countersign::gateway::forward::ForwardFault;
use http::Method;
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;

use crate::backend::{Backend, Step, ok};
use crate::rig::{Call, Rig, START, body, run, until, upstream};

/// An address at which nothing listens, nor ever will while the socket is held.
fn refusing() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let authority = socket.local_addr().unwrap().to_string();
    (socket, authority)
}

fn reply() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789".to_vec()
}

#[test]
fn a_connection_is_used_again() {
    run(async {
        let backend = Backend::answering("done").await;
        let rig = Rig::new(&[&backend.authority]);
        for _ in 0..10 {
            let answered = rig.send(&Call::post()).await.unwrap();
            assert_eq!(body(answered).await.unwrap(), "done");
        }
        assert_eq!((backend.log.requests().len(), backend.log.connections()), (10, 1));
    });
}

#[test]
fn a_request_whose_idle_connection_was_closed_goes_out_once_on_a_fresh_one() {
    run(async {
        let backend = Backend::start(|_, _| Step::Last(reply())).await;
        let rig = Rig::new(&[&backend.authority]);
        for round in 1..=2 {
            let answered = rig.send(&Call::post()).await.unwrap();
            assert_eq!(body(answered).await.unwrap(), "0123456789");
            assert_eq!((backend.log.requests().len(), backend.log.connections()), (round, round));
            until("the gateway has noticed", || {
                rig.shared.snapshot().all(|backend| backend.connections == 0)
            })
            .await;
        }
    });
}

#[test]
fn a_connection_idle_too_long_is_not_used_again() {
    run(async {
        let backend = Backend::answering("done").await;
        let rig = Rig::new(&[&backend.authority]);
        let idle = Duration::from_secs(30);
        for (pause, connections) in
            [(Duration::ZERO, 1), (Duration::from_micros(29_999_999), 1), (idle, 2)]
        {
            rig.clock.advance(pause);
            rig.send(&Call::post()).await.unwrap();
            assert_eq!(backend.log.connections(), connections, "{pause:?}");
        }
    });
}

#[test]
fn a_backend_that_refuses_connections_costs_no_request() {
    run(async {
        let backend = Backend::answering("done").await;
        let (_held, dead) = refusing();
        let rig = Rig::new(&[&dead, &backend.authority]);
        for _ in 0..20 {
            rig.send(&Call::post()).await.unwrap();
        }
        assert_eq!(backend.log.requests().len(), 20);
    });
}

#[test]
fn with_no_backend_at_all_nothing_was_sent() {
    run(async {
        let ((_one, first), (_two, second)) = (refusing(), refusing());
        let rig = Rig::new(&[&first, &second]);
        for _ in 0..10 {
            assert_eq!(rig.send(&Call::post()).await.unwrap_err(), ForwardFault::NoBackend);
        }
    });
}

#[test]
fn a_backend_that_closes_within_the_request_gets_it_alone() {
    run(async {
        let probe = Backend::answering("done").await;
        let call = Call::public(Method::POST, "/o", "ab");
        Rig::new(&[&probe.authority]).send(&call).await.unwrap();
        let length = probe.log.requests()[0].len();
        for most in 0..=length {
            let broken = Backend::reading(most, |_, _| Step::Last(Vec::new())).await;
            let whole = Backend::answering("done").await;
            // The first backend is the first in turn.
            let rig = Rig::new(&[&broken.authority, &whole.authority]);
            let outcome = rig.send(&call).await;
            until("the first backend is done", || broken.log.open() == 0).await;
            let copies = whole.log.requests().len();
            if most > 0 {
                assert_eq!(outcome.err(), Some(ForwardFault::Unknown), "after {most} bytes");
                assert_eq!((broken.log.bytes(), copies), (most, 0), "after {most} bytes");
            } else {
                assert_eq!(copies, usize::from(outcome.is_ok()), "closed at once");
            }
        }
    });
}

#[test]
fn a_backend_that_closes_within_its_reply_gets_the_request_alone() {
    run(async {
        let head = reply().windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        for cut in 0..=reply().len() {
            let broken = Backend::start(move |_, _| Step::Last(reply()[..cut].to_vec())).await;
            let whole = Backend::answering("done").await;
            let rig = Rig::new(&[&broken.authority, &whole.authority]);
            match rig.send(&Call::post()).await {
                Err(fault) => {
                    assert_eq!(fault, ForwardFault::Unknown, "after {cut} bytes");
                    assert!(cut < reply().len(), "the whole reply came");
                }
                Ok(answered) => {
                    assert!(cut >= head, "no head came");
                    assert_eq!(body(answered).await.is_ok(), cut == reply().len(), "{cut}");
                }
            }
            let copies = (broken.log.requests().len(), whole.log.requests().len());
            assert_eq!(copies, (1, 0), "after {cut} bytes");
        }
    });
}

#[test]
fn a_used_connection_that_breaks_under_a_request_does_not_get_it_sent_again() {
    run(async {
        let broken = |place, _: &str| if place == 0 { ok("done") } else { Step::Last(Vec::new()) };
        let backend = Backend::start(broken).await;
        let rig = Rig::new(&[&backend.authority]);
        rig.send(&Call::post()).await.unwrap();
        assert_eq!(rig.send(&Call::post()).await.unwrap_err(), ForwardFault::Unknown);
        assert_eq!((backend.log.requests().len(), backend.log.connections()), (2, 1));
    });
}

#[test]
fn a_body_that_a_backend_may_leave_unread_is_the_last_of_its_connection() {
    run(async {
        let backend = Backend::answering("done").await;
        let rig = Rig::new(&[&backend.authority]);
        let mut connections = 1;
        for (method, body, is_last) in [
            (Method::POST, "a=1", false),
            (Method::DELETE, "", false),
            (Method::DELETE, "GET /next HTTP/1.1\r\n\r\n", true),
            (Method::PUT, "a=1", false),
            (Method::PATCH, "a=1", false),
            (Method::OPTIONS, "", false),
        ] {
            rig.send(&Call::public(method.clone(), "/", body)).await.unwrap();
            let sent = backend.log.requests().pop().unwrap();
            assert_eq!(sent.contains("connection: close\r\n"), is_last, "{sent}");
            assert_eq!(backend.log.connections(), connections, "{method}");
            connections += usize::from(is_last);
        }
        let signed = Call::signed("native", Method::DELETE, "/orders", "{\"id\":1}");
        rig.send(&signed).await.unwrap();
        rig.send(&Call::post()).await.unwrap();
        assert_eq!(backend.log.connections(), connections + 1);
    });
}

#[test]
fn an_answer_to_a_request_that_is_not_read_to_its_end_is_passed_on() {
    run(async {
        let listener = TcpSocket::new_v4().unwrap();
        // So little that the request cannot all be on its way.
        listener.set_recv_buffer_size(4_096).unwrap();
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listener.listen(16).unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        tokio::task::spawn_local(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.read_exact(&mut [0; 100]).await.unwrap();
                // At once: the answer and the end have both come before anybody looks.
                let answer =
                    b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                assert_eq!(stream.try_write(answer).unwrap(), answer.len());
            }
        });
        let mut rules = upstream(&[&authority]);
        rules.eject_after = 1;
        let rig = Rig::with(rules);
        let body = "a".repeat(16_000_000);
        for _ in 0..10 {
            let answered = rig.send(&Call::public(Method::POST, "/orders", &body)).await;
            assert_eq!(answered.map(|answered| answered.status().as_u16()), Ok(413));
            assert!(rig.shared.snapshot().all(|backend| backend.up && backend.in_flight == 0));
        }
    });
}

#[test]
fn a_backend_that_never_answers_times_out_and_its_connection_ends() {
    run(async {
        let backend = Backend::start(|_, _| Step::Hang).await;
        let mut rules = upstream(&[&backend.authority]);
        rules.response_timeout = Duration::from_millis(20);
        let rig = Rig::with(rules);
        assert_eq!(rig.send(&Call::post()).await.unwrap_err(), ForwardFault::TimedOut);
        assert_eq!(backend.log.requests().len(), 1);
        until("the connection has ended", || {
            rig.shared.snapshot().all(|backend| backend.connections == 0 && backend.in_flight == 0)
        })
        .await;
    });
}

#[test]
fn a_signature_that_ran_out_is_not_sent_and_one_that_ends_now_is() {
    run(async {
        let backend = Backend::answering("done").await;
        let rig = Rig::new(&[&backend.authority]);
        let call = Call::signed("binance", Method::POST, "/api/v3/order", "symbol=BTCUSDT");
        for (later, sent) in [(5_000_000, true), (5_000_001, false)] {
            rig.clock.set(START);
            let (permit, entry) = rig.permit(&call).await;
            rig.clock.advance(Duration::from_micros(later));
            let outcome = rig.forward(&rig.upstreams, &call, permit, &entry).await;
            assert_eq!(outcome.err(), (!sent).then_some(ForwardFault::Expired));
        }
        assert_eq!(backend.log.requests().len(), 1);
    });
}

#[test]
fn a_reply_that_is_no_http_is_a_bad_reply() {
    run(async {
        for garbage in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        ] {
            let backend = Backend::start(|_, _| Step::Reply(garbage.into())).await;
            let rig = Rig::new(&[&backend.authority]);
            let outcome = rig.send(&Call::post()).await;
            assert_eq!(outcome.unwrap_err(), ForwardFault::BadReply, "{garbage}");
            until("the connection has ended", || {
                rig.shared.snapshot().all(|backend| backend.connections == 0)
            })
            .await;
        }
    });
}
