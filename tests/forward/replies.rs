//! What of a backend's reply reaches the client, and when its connection is free again.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::backend::{Backend, Step};
use crate::rig::{Call, Rig, body, run};

#[test]
fn a_reply_passes_without_what_belongs_to_its_connection() {
    run(async {
        let backend = Backend::start(|_, _| {
            Step::Reply(
                b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\nconnection: X-Private\r\n\
                  connection: keep-alive\r\nkeep-alive: timeout=5\r\nx-private: 1\r\n\
                  countersign-identity: forged\r\nproxy-authenticate: Basic\r\ntrailer: x\r\n\
                  upgrade: h2c\r\nte: x\r\nproxy-connection: x\r\ncountersign-mac: 0\r\n\
                  countersign-a: 1\r\nset-cookie: a=1\r\nset-cookie: b=2\r\netag: \"v\"\r\n\r\nok"
                    .to_vec(),
            )
        })
        .await;
        let reply = Rig::new(&[&backend.authority]).send(&Call::post()).await.unwrap();
        assert_eq!(reply.status(), StatusCode::CREATED);
        let fields: Vec<_> = reply
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()))
            .collect();
        let mut expected = [
            ("content-length", "2"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("etag", "\"v\""),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut fields = fields;
        fields.sort();
        expected.sort();
        assert_eq!(fields, expected);
        assert_eq!(body(reply).await.unwrap(), "ok");
    });
}

#[test]
fn a_chunked_reply_passes_without_its_trailers_and_frees_its_connection() {
    run(async {
        let backend = Backend::start(|_, _| {
            Step::Reply(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                  3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 1\r\n\r\n"
                    .to_vec(),
            )
        })
        .await;
        let rig = Rig::new(&[&backend.authority]);
        for _ in 0..3 {
            let reply = rig.send(&Call::get()).await.unwrap();
            assert!(!reply.headers().contains_key("transfer-encoding"));
            let whole = reply.into_body().collect().await.unwrap();
            assert!(whole.trailers().is_none());
            assert_eq!(whole.to_bytes(), "abcde");
        }
        assert_eq!(backend.log.connections(), 1);
    });
}

#[test]
fn a_reply_that_ends_with_its_connection_is_whole() {
    run(async {
        let backend =
            Backend::start(|_, _| Step::Last(b"HTTP/1.0 200 OK\r\n\r\nold".to_vec())).await;
        let reply = Rig::new(&[&backend.authority]).send(&Call::get()).await.unwrap();
        assert_eq!(reply.version(), http::Version::HTTP_11);
        assert_eq!(body(reply).await.unwrap(), "old");
    });
}

#[test]
fn replies_without_a_body_leave_the_connection_in_use_unless_they_tell_of_one() {
    run(async {
        let replies = [
            (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n"),
            (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n"),
            (Method::GET, "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n"),
            (Method::GET, "HTTP/1.1 304 Not Modified\r\ncontent-length: 500\r\n\r\n"),
            (Method::DELETE, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        ];
        let scripted = replies.clone();
        let backend = Backend::start(move |place, _| Step::Reply(scripted[place].1.into())).await;
        let rig = Rig::new(&[&backend.authority]);
        for ((method, _), head) in replies.into_iter().zip(["500", "", "", "500", "0"]) {
            let reply = rig.send(&Call::public(method, "/", "")).await.unwrap();
            let length = reply.headers().get("content-length").map_or("", |l| l.to_str().unwrap());
            assert_eq!(length, head);
            assert!(reply.body().is_end_stream());
            assert_eq!(reply.body().size_hint().exact(), Some(0));
        }
        // A backend that sends the body after all answers nobody else with it.
        assert_eq!((backend.log.requests().len(), backend.log.connections()), (5, 4));
    });
}

#[test]
fn a_reply_dropped_at_its_last_byte_leaves_the_connection_in_use() {
    run(async {
        let backend = Backend::start(|_, _| {
            let body = "x".repeat(300_000);
            Step::Reply(format!("HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n{body}").into())
        })
        .await;
        let rig = Rig::new(&[&backend.authority]);
        for _ in 0..3 {
            let mut reply = rig.send(&Call::get()).await.unwrap();
            while !reply.body().is_end_stream() {
                reply.frame().await.unwrap().unwrap();
            }
        }
        assert_eq!((backend.log.requests().len(), backend.log.connections()), (3, 1));
    });
}

#[test]
fn a_reply_that_is_given_up_ends_its_connection_and_poisons_no_other() {
    run(async {
        let backend = Backend::start(|place, _| {
            let body = place.to_string().repeat(300_000);
            Step::Reply(
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into(),
            )
        })
        .await;
        let rig = Rig::new(&[&backend.authority]);
        drop(rig.send(&Call::get()).await.unwrap());
        let next = body(rig.send(&Call::get()).await.unwrap()).await.unwrap();
        assert_eq!(next, "1".repeat(300_000));
        assert_eq!(backend.log.connections(), 2);
    });
}

#[test]
fn a_large_reply_is_passed_on_as_it_comes() {
    const PIECES: usize = 1_024;
    const PIECE: usize = 65_536;
    run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let written = Rc::new(Cell::new(0));
        let counter = Rc::clone(&written);
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", PIECES * PIECE);
            stream.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..PIECES {
                stream.write_all(&vec![b'x'; PIECE]).await.unwrap();
                counter.set(counter.get() + PIECE);
            }
        });
        let rig = Rig::new(&[&authority]);
        let mut reply = rig.send(&Call::get()).await.unwrap();
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
        assert!(written.get() < PIECES * PIECE / 2, "the gateway holds {} bytes", written.get());
        assert_eq!(reply.body().size_hint().exact(), Some((PIECES * PIECE) as u64));
        let mut read = 0;
        while let Some(frame) = reply.frame().await {
            read += frame.unwrap().into_data().unwrap_or_else(|_| Bytes::new()).len();
        }
        assert_eq!(read, PIECES * PIECE);
        assert!(rig.shared.snapshot().all(|backend| backend.in_flight == 0));
    });
}
