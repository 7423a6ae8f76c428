//! Requests under way, on the wire: of a revoked key they are cut, and no others.

use std::sync::Arc;

use countersign::registry::records::Life;
use countersign::service::Service;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::book::Book;
use crate::fleet::{BOUND, Signatory, backend, gateway, status};
use crate::world::record;

struct Open {
    book: Arc<Book>,
    service: Service,
    signatory: Signatory,
}

impl Open {
    async fn start() -> Self {
        let book = Arc::<Book>::default();
        for id in ["mine", "other"] {
            book.put_key(id, &record(id));
        }
        let service = gateway(Arc::<Book>::clone(&book), backend().await).await;
        Self { book, service, signatory: Signatory::new() }
    }

    async fn send(&self, key_id: &str, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.service.listeners[0]).await.unwrap();
        stream.write_all(&self.signatory.write(key_id, path)).await.unwrap();
        stream
    }

    /// Once as many requests as that have been admitted.
    async fn admitted(&self, count: usize) {
        let wait = async {
            while self.service.gate().store.local().records() < count {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        timeout(BOUND, wait).await.expect("they are admitted");
    }

    /// How many requests ended so.
    async fn ended(&self, outcome: &str) -> u64 {
        let mut stream = TcpStream::connect(self.service.admin).await.unwrap();
        let ask = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(ask).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let line = format!("countersign_requests_total{{outcome=\"{outcome}\",route=\"orders\"}} ");
        text.split(&line).nth(1).unwrap().split('\n').next().unwrap().trim().parse().unwrap()
    }
}

/// All that still comes on a connection that the gateway ends.
async fn rest(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A reset ends it too.
    let _ended = timeout(BOUND, stream.read_to_end(&mut said)).await.expect("it is cut");
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn a_request_that_waits_for_its_answer_is_cut_with_its_connection_and_no_other_is() {
    let open = Open::start().await;
    let mut mine = open.send("mine", "/api/v3/hang").await;
    let mut other = open.send("other", "/api/v3/hang").await;
    open.admitted(2).await;
    open.book.put_key(
        "mine",
        &countersign::registry::records::KeyRecord { state: Life::Revoked, ..record("mine") },
    );
    assert_eq!(rest(&mut mine).await, "");
    assert_eq!((open.ended("cut").await, open.ended("accepted").await), (1, 0));
    open.book.freeze("other", true);
    assert_eq!(rest(&mut other).await, "");
    assert_eq!(open.ended("cut").await, 2);
}

#[tokio::test]
async fn an_answer_that_is_being_passed_on_is_cut_short() {
    let open = Open::start().await;
    let mut mine = open.send("mine", "/api/v3/stall").await;
    let mut said = Vec::new();
    while !said.ends_with(b"first bytes") {
        assert_ne!(timeout(BOUND, mine.read_buf(&mut said)).await.unwrap().unwrap(), 0);
    }
    open.book.freeze("mine", true);
    assert_eq!(rest(&mut mine).await, "");
    assert_eq!(open.ended("cut").await, 1);
}

#[tokio::test]
async fn a_connection_without_such_a_request_goes_on() {
    let open = Open::start().await;
    let mut quiet = open.send("mine", "/api/v3/orders").await;
    assert_eq!(status(&mut quiet).await, Some(200));
    let mut waiting = open.send("mine", "/api/v3/hang").await;
    open.admitted(2).await;
    open.book.freeze("mine", true);
    assert_eq!(rest(&mut waiting).await, "");
    quiet.write_all(&open.signatory.write("other", "/api/v3/orders")).await.unwrap();
    assert_eq!(status(&mut quiet).await, Some(200));
    quiet.write_all(&open.signatory.write("mine", "/api/v3/orders")).await.unwrap();
    assert_eq!(status(&mut quiet).await, Some(400), "and the key is good no longer");
}

#[tokio::test]
async fn of_two_streams_on_one_connection_one_is_cut() {
    let open = Open::start().await;
    let socket = TcpStream::connect(open.service.listeners[0]).await.unwrap();
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let send = |key_id: &str, path: &str| {
        let (target, headers) = open.signatory.sign(key_id, path);
        let mut request = http::Request::get(format!("http://h{target}"));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let mut sender = sender.clone();
        tokio::spawn(async move { sender.send_request(request).await })
    };
    let (hanging, stalled) = (send("mine", "/api/v3/hang"), send("mine", "/api/v3/stall"));
    let other = send("other", "/api/v3/stall");
    let stalled = timeout(BOUND, stalled).await.unwrap().unwrap().unwrap();
    let mut other = timeout(BOUND, other).await.unwrap().unwrap().unwrap();
    open.admitted(3).await;
    open.book.freeze("mine", true);
    assert!(timeout(BOUND, hanging).await.unwrap().unwrap().is_err());
    assert!(timeout(BOUND, stalled.into_body().collect()).await.unwrap().is_err());
    assert_eq!(open.ended("cut").await, 2);
    let first = timeout(BOUND, other.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "first bytes");
    let after = send("other", "/api/v3/orders");
    assert_eq!(timeout(BOUND, after).await.unwrap().unwrap().unwrap().status(), 200);
}
