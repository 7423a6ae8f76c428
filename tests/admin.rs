//! The admin server over raw sockets.
#![cfg(feature = "server")]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign::admin::{AdminState, Bounds, Collector, NotReady, Readiness, serve};
use countersign::metrics::{Labels, Metrics};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything here takes; only a failure waits for it.
const DEADLINE: Duration = Duration::from_secs(20);

struct Admin {
    address: SocketAddr,
    readiness: Readiness,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Admin {
    async fn start() -> Self {
        Self::with(Bounds::default(), Vec::new()).await
    }

    async fn with(bounds: Bounds, collectors: Vec<Collector>) -> Self {
        let labels = Labels {
            routes: &[],
            upstreams: &[],
            dialects: &[],
            stores: &["memory"],
            listeners: &[],
        };
        let metrics = Arc::new(Metrics::new(&labels).unwrap());
        let readiness = Readiness::starting();
        let state = AdminState::new(metrics, readiness.clone(), collectors).bounded(bounds);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(listener, state, async {
            let _either_way = stopped.await;
        }));
        Self { address, readiness, stop, server }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Everything the server says to these bytes until it closes.
    async fn says(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may answer and close before it has read everything.
        let _broken = stream.write_all(bytes).await;
        rest(&mut stream).await
    }

    async fn ask(&self, method: &str, path: &str) -> String {
        self.says(
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                .as_bytes(),
        )
        .await
    }
}

/// What comes until the server closes; a reset closes too.
async fn rest(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let _reset = timeout(DEADLINE, stream.read_to_end(&mut said)).await.expect("the server closes");
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn it_is_alive_before_it_is_ready() {
    let admin = Admin::start().await;
    let said = admin.ask("GET", "/livez").await;
    assert!(said.starts_with("HTTP/1.1 200 ") && said.ends_with("\r\n\r\nok\n"), "{said}");

    let said = admin.ask("GET", "/readyz").await;
    assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
    assert!(
        said.ends_with(r#"{"ready":false,"reasons":["starting","fence not passed"]}"#),
        "{said}"
    );

    admin.readiness.clear(NotReady::Starting);
    admin.readiness.clear(NotReady::Fence);
    let said = admin.ask("GET", "/readyz").await;
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    assert!(said.ends_with(r#"{"ready":true,"reasons":[]}"#), "{said}");

    admin.readiness.hold(NotReady::Draining);
    let said = admin.ask("GET", "/readyz").await;
    assert!(said.ends_with(r#"{"ready":false,"reasons":["draining"]}"#), "{said}");
}

#[tokio::test]
async fn a_scrape_runs_the_collectors_first_and_says_whether_it_is_ready() {
    let scrapes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&scrapes);
    let collector: Collector = Box::new(move || {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let admin = Admin::with(Bounds::default(), vec![collector]).await;
    let said = admin.ask("GET", "/metrics").await;
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    assert!(said.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{said}");
    assert!(said.contains("\ncountersign_ready 0\n"), "{said}");
    assert!(said.contains("\ncountersign_store_records{store=\"memory\"} 0\n"), "{said}");
    assert!(said.contains("\nprocess_cpu_seconds_total "), "{said}");
    assert_eq!(scrapes.load(Ordering::SeqCst), 1);

    for (reason, _) in NotReady::ALL {
        admin.readiness.clear(reason);
    }
    assert!(admin.ask("GET", "/metrics").await.contains("\ncountersign_ready 1\n"));
}

#[tokio::test]
async fn metrics_are_for_no_page_and_for_no_name_that_others_gave_this_machine() {
    let admin = Admin::start().await;
    for (fields, served) in [
        ("host: 127.0.0.1:9180", true),
        ("host: localhost", true),
        ("host: gateway.localhost:9180", true),
        ("host: [::1]:9180", true),
        ("host: 127.0.0.1\r\nsec-fetch-site: none", true),
        ("host: evil.example:9180", false),
        ("host: localhost.evil.example", false),
        ("host: 127.0.0.1.evil.example", false),
        ("host: ", false),
        ("host: 127.0.0.1\r\norigin: https://evil.example", false),
        ("host: 127.0.0.1\r\nsec-fetch-site: same-origin", false),
    ] {
        let ask = format!("GET /metrics HTTP/1.1\r\n{fields}\r\nconnection: close\r\n\r\n");
        let said = admin.says(ask.as_bytes()).await;
        let status = if served { "HTTP/1.1 200 " } else { "HTTP/1.1 421 " };
        assert!(said.starts_with(status), "{fields}: {said}");
    }
}

#[tokio::test]
async fn what_it_does_not_know_is_refused_with_a_problem() {
    let admin = Admin::start().await;
    for path in ["/admin", "/livez/", "/LIVEZ", "//livez", "/%6civez", "*", "/metrics/../livez"] {
        let said = admin.ask("GET", path).await;
        assert!(said.starts_with("HTTP/1.1 404 "), "{path}: {said}");
        assert!(said.contains("content-type: application/problem+json\r\n"), "{path}: {said}");
        assert!(said.contains(r#""status":404"#), "{path}: {said}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        let said = admin.ask(method, "/metrics").await;
        assert!(said.starts_with("HTTP/1.1 405 "), "{method}: {said}");
        assert!(said.contains("allow: GET, HEAD\r\n"), "{method}: {said}");
        assert!(said.contains(r#""status":405"#), "{method}: {said}");
    }
}

#[tokio::test]
async fn a_head_gets_the_head_alone_and_the_index_lists_the_rest() {
    let admin = Admin::start().await;
    for path in ["/", "/livez", "/metrics"] {
        let said = admin.ask("HEAD", path).await;
        assert!(said.starts_with("HTTP/1.1 200 ") && said.ends_with("\r\n\r\n"), "{path}: {said}");
    }
    let index = admin.ask("GET", "/").await;
    for path in ["/metrics", "/livez", "/readyz"] {
        assert!(index.contains(path), "{index}");
    }
}

#[tokio::test]
async fn a_head_too_large_is_refused_and_one_that_fits_is_not() {
    let admin = Admin::start().await;
    let head = |fields: &str| format!("GET /livez HTTP/1.1\r\nconnection: close\r\n{fields}\r\n");
    let wide = |bytes: usize| head(&format!("x: {}\r\n", "a".repeat(bytes)));
    let many = |fields: usize| head(&"x: y\r\n".repeat(fields));
    for fits in [wide(12_000), many(60)] {
        let said = admin.says(fits.as_bytes()).await;
        assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    }
    let said = admin.says(many(70).as_bytes()).await;
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    for large in [wide(20_000), wide(1_000_000)] {
        let said = admin.says(large.as_bytes()).await;
        // A reset for what was not read may overtake the answer.
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 431 "), "{said}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let admin = Admin::start().await;
    for bytes in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01"[..], b"GET / HTTP/9.9\r\n\r\n", b"\0\0\0\0\r\n\r\n"]
    {
        let said = admin.says(bytes).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 400 "), "{said}");
    }
    assert!(admin.ask("GET", "/livez").await.starts_with("HTTP/1.1 200 "), "it lives on");
}

#[tokio::test]
async fn a_slow_head_and_an_idle_connection_are_closed() {
    let bounds = Bounds { head: Duration::from_millis(100), ..Bounds::default() };
    let admin = Admin::with(bounds, Vec::new()).await;
    let said = admin.says(b"GET /livez HTTP/1.1\r\nhost:").await;
    assert!(!said.contains("200"), "{said}");
    assert_eq!(admin.says(b"").await, "", "nothing sent at all");
    let said = admin.says(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(said.starts_with("HTTP/1.1 200 "), "answered, then idle, then closed: {said}");
}

#[tokio::test]
async fn a_connection_has_an_end_however_busy() {
    let bounds = Bounds { connection: Duration::from_millis(100), ..Bounds::default() };
    let admin = Admin::with(bounds, Vec::new()).await;
    assert!(
        admin.says(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.starts_with("HTTP/1.1 200 ")
    );
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_and_a_place_freed_is_used_again() {
    let admin = Admin::with(Bounds { connections: 1, ..Bounds::default() }, Vec::new()).await;
    let mut first = admin.connect().await;
    first.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut start = [0; 12];
    first.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    assert_eq!(admin.ask("GET", "/livez").await, "", "no place");

    drop(first);
    let freed = async {
        while !admin.ask("GET", "/livez").await.starts_with("HTTP/1.1 200 ") {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, freed).await.expect("the place is used again");
}

#[tokio::test]
async fn a_stop_closes_idle_connections_and_ends_the_server() {
    let admin = Admin::start().await;
    let mut idle = admin.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut start = [0; 12];
    idle.read_exact(&mut start).await.unwrap();
    admin.stop.send(()).unwrap();
    assert!(rest(&mut idle).await.ends_with("ok\n"));
    timeout(DEADLINE, admin.server).await.expect("the server ends").unwrap();
    assert!(TcpStream::connect(admin.address).await.is_err(), "nobody listens");
}
