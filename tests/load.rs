//! The load tester against a server that verifies every signature and remembers every identity.

#![expect(clippy::unwrap_used, reason = "whatever fails here fails the test")]

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use countersign::admit::{Ask, Decoys, Effect, Gate, Guard, Route, Scratch};
use countersign::clock::{Clock, Micros, SystemClock};
use countersign::dialect::{Dialect, Facts, Inbound, builtin};
use countersign::key::{
    Algorithm, Allowlist, Key, Passphrase, Permission, Permissions, Secret, State, Tag, Venue,
};
use countersign::load::{self, ClientKey, Kind, Mix, Options, Report, Target, Template, Unique};
use countersign::registry::fixed::FixedKeys;
use countersign::store::{Charge, Cost, Identity, Levels, Repeat, Store, Verdict};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Remembers every identity for ever.
#[derive(Clone, Default)]
struct Remembers(Arc<Mutex<HashSet<[u8; 16]>>>);

impl Remembers {
    fn identities(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Store for Remembers {
    async fn spend(&self, charge: &Charge) -> Verdict {
        let Identity(identity) = charge.identity;
        if self.0.lock().unwrap().insert(identity) {
            Verdict::New(Levels::default())
        } else {
            Verdict::Seen
        }
    }

    async fn pay(&self, _now: Micros, _costs: &[Cost]) -> Verdict {
        Verdict::New(Levels::default())
    }
}

type Verifier = Gate<FixedKeys, Remembers, SystemClock>;

/// How a server of these tests differs from a plain one of HTTP/1.1 with keep-alive.
#[derive(Clone, Copy, Default)]
struct Wire {
    http2: bool,
    closes: bool,
    tls: bool,
}

struct Server {
    wire: Wire,
    gate: Verifier,
    dialect: Arc<Dialect>,
    route: Route,
}

impl Server {
    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let host = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or(parts.uri.authority().map(http::uri::Authority::as_str)).unwrap();
        let inbound = Inbound {
            method: &parts.method,
            path: parts.uri.path(),
            query: parts.uri.query(),
            host,
            headers: (&parts.headers).into(),
            body: &body,
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let verdict = self.gate.admit(&inbound, &self.route, &mut Scratch::new()).await;
        let mut response = match verdict {
            Ok(_) => Response::new(Full::new(Bytes::from_static(b"{\"retCode\":0,\"result\":{}}"))),
            Err(denial) => {
                let facts = Facts::of(&denial, self.gate.clock.now());
                let answer = self.dialect.refuse(&denial, true, &facts);
                let mut response = Response::new(Full::new(answer.body));
                *response.status_mut() = answer.status;
                response
            }
        };
        if self.wire.closes {
            let close = http::HeaderValue::from_static("close");
            response.headers_mut().insert(http::header::CONNECTION, close);
        }
        Ok(response)
    }
}

fn key(dialect: &Dialect, id: &str) -> Key {
    Key {
        id: id.into(),
        tag: Tag::of(id),
        account: "a".into(),
        account_tag: Tag::of("a"),
        venue: Venue("v".into()),
        dialect: Arc::clone(dialect.name()),
        secret: Secret::read(Algorithm::HmacSha256, b"secret").unwrap(),
        passphrase: dialect.has_passphrase().then(|| Passphrase::new("open")),
        permissions: Permissions::NONE.with(Permission::READ),
        allowlist: Allowlist::default(),
        state: State::Active,
        expires: None,
        limits: Arc::from([]),
        epoch: 0,
        bindings: None,
    }
}

fn route(dialect: &Arc<Dialect>) -> Route {
    Route {
        name: "all".into(),
        id: 0,
        ask: Ask::Signed(Arc::clone(dialect)),
        venue: Venue("v".into()),
        permissions: Permissions::NONE.with(Permission::READ),
        effect: Effect::Write,
        weight: 1,
        body_cap: 1 << 16,
        key_max_age: Duration::from_mins(5),
        lead: Duration::from_mins(1),
        repeat: Repeat::Never,
        address_limit: None,
        symbol: None,
        charges: None,
        second_factor: None,
    }
}

impl Server {
    async fn serve(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin + 'static) {
        let http2 = self.wire.http2;
        let service = service_fn(move |request| {
            let server = Arc::clone(&self);
            async move { server.answer(request).await }
        });
        let stream = TokioIo::new(stream);
        if http2 {
            let builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
            drop(builder.serve_connection(stream, service).await);
        } else {
            let builder = hyper::server::conn::http1::Builder::new();
            drop(builder.serve_connection(stream, service).await);
        }
    }
}

fn plain_server(name: &str) -> (SocketAddr, Remembers) {
    let (address, store, _) = server(name, Wire::default());
    (address, store)
}

/// Serves on a thread of its own, which ends with the test process; its certificate (PEM) comes last.
fn server(name: &str, wire: Wire) -> (SocketAddr, Remembers, String) {
    let dialect = Arc::new(builtin(name).unwrap().unwrap());
    let store = Remembers::default();
    let mut keys = FixedKeys::default();
    for id in ["one", "two", "three"] {
        keys.insert(key(&dialect, id));
    }
    let (clock, decoys) = (SystemClock::start(), Decoys::new().unwrap());
    let guard = Guard::default();
    let switches = Arc::default();
    let gate = Gate { keys, store: store.clone(), clock, decoys, guard, switches };
    let server = Arc::new(Server { wire, gate, route: route(&dialect), dialect });
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let (acceptor, certificate) = acceptor();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((socket, _)) = listener.accept().await {
                socket.set_nodelay(true).unwrap();
                let (server, acceptor) = (Arc::clone(&server), acceptor.clone());
                tokio::task::spawn_local(async move {
                    if server.wire.tls {
                        server.serve(acceptor.accept(socket).await.unwrap()).await;
                    } else {
                        server.serve(socket).await;
                    }
                });
            }
        });
    });
    (address, store, certificate)
}

fn acceptor() -> (tokio_rustls::TlsAcceptor, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (Arc::new(config).into(), made.cert.pem())
}

#[derive(Clone)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move { drop(future.await) });
    }
}

fn options(name: &str, address: SocketAddr, requests: &[(&str, &str)]) -> Options {
    let dialect = builtin(name).unwrap().unwrap();
    let key = |id: &str| {
        ClientKey::new(&dialect, id.into(), b"secret", Some("open".into()), None).unwrap()
    };
    let requests = requests.iter().map(|(head, body)| Template::parse(head, body).unwrap());
    Options {
        target: Target::parse(&format!("http://{address}"), None, false, false).unwrap(),
        keys: vec![key("one")],
        requests: requests.collect(),
        unique: Unique::Param,
        rate: None,
        connections: NonZeroUsize::new(8).unwrap(),
        threads: NonZeroUsize::MIN,
        duration: None,
        count: Some(10_000),
        warmup: Duration::ZERO,
        timeout: Duration::from_mins(1),
        mix: Mix::valid(),
        dialect,
    }
}

fn assert_fine(report: &Report, requests: u64) {
    assert!(report.is_fine(), "{report}");
    assert_eq!(report.requests, requests);
    assert_eq!(report.kinds.values().map(|counts| counts.right).sum::<u64>(), requests);
}

#[test]
fn ten_thousand_identical_requests_of_one_key_are_all_accepted_and_all_different() {
    let (address, store) = plain_server("binance");
    let mut options = options("binance", address, &[("GET /api/v3/account", "")]);
    options.connections = NonZeroUsize::new(50).unwrap();
    options.threads = NonZeroUsize::new(2).unwrap();
    let report = load::run(options).unwrap();
    assert_fine(&report, 10_000);
    assert_eq!(report.statuses[&200], 10_000);
    assert_eq!(store.identities(), 10_000);
}

#[test]
fn each_kind_of_request_gets_the_answer_it_must() {
    for name in ["binance", "bybit", "bitget", "native"] {
        let (address, store) = plain_server(name);
        let order = if name == "binance" { "id={id}" } else { r#"{"id":"{id}"}"# };
        let mut options = options(name, address, &[("GET /a?x=1", ""), ("POST /order", order)]);
        let ids = ["one", "two", "three"];
        options.keys = ids
            .map(|id| {
                let passphrase = Some("open".into());
                ClientKey::new(&options.dialect, id.into(), b"secret", passphrase, None).unwrap()
            })
            .into();
        options.count = Some(1_000);
        options.mix = "valid=80,bad-sig=8,stale=5,replay=7".parse().unwrap();
        let report = load::run(options).unwrap();
        assert_fine(&report, 1_000);
        assert_eq!(report.kinds["bad-sig"].sent, 80, "{name}");
        assert_eq!(report.kinds["stale"].sent, 50, "{name}");
        let valid = usize::try_from(report.kinds["valid"].sent).unwrap();
        assert_eq!(store.identities(), valid, "{name}");
        assert_eq!(report.kinds.len(), Kind::ALL.len(), "{name}");
    }
}

#[test]
fn an_open_loop_sends_what_is_due() {
    let (address, store) = plain_server("binance");
    let mut options = options("binance", address, &[("GET /api/v3/account", "")]);
    options.rate = NonZeroU64::new(100_000);
    options.count = Some(1_000);
    let report = load::run(options).unwrap();
    assert_fine(&report, 1_000);
    assert_eq!(store.identities(), 1_000);
    assert!(report.lag_us.is_some());
}

#[test]
fn time_alone_tells_requests_of_one_key_apart() {
    let (address, store) = plain_server("bybit");
    let mut options = options("bybit", address, &[("POST /order", "{}")]);
    options.unique = Unique::Time;
    options.count = Some(100);
    assert_fine(&load::run(options).unwrap(), 100);
    assert_eq!(store.identities(), 100);
}

#[test]
fn http2_carries_the_same_requests() {
    let (address, store, _) = server("bitget", Wire { http2: true, ..Wire::default() });
    let mut options = options("bitget", address, &[("POST /order?a=1", "{}")]);
    options.target = Target::parse(&format!("http://{address}"), None, true, false).unwrap();
    options.count = Some(500);
    assert_fine(&load::run(options).unwrap(), 500);
    assert_eq!(store.identities(), 500);
}

#[test]
fn https_is_trusted_by_the_certificate_that_was_given_and_no_other() {
    let (address, store, certificate) = server("binance", Wire { tls: true, ..Wire::default() });
    let url = format!("https://{address}");
    let trusting = |certificate: &str| {
        let mut options = options("binance", address, &[("GET /api/v3/account", "")]);
        let ca = Some(certificate.as_bytes());
        options.target = Target::parse(&url, ca, false, false).unwrap();
        options.count = Some(100);
        options
    };
    assert_fine(&load::run(trusting(&certificate)).unwrap(), 100);
    assert_eq!(store.identities(), 100);
    let (_, other) = acceptor();
    let error = load::run(trusting(&other)).unwrap_err();
    assert!(matches!(error, load::LoadError::Connect(..)), "{error}");
}

#[test]
fn a_server_that_closes_after_each_answer_costs_reconnects_and_no_errors() {
    let (address, store, _) = server("binance", Wire { closes: true, ..Wire::default() });
    let mut options = options("binance", address, &[("GET /api/v3/account", "")]);
    options.count = Some(200);
    let report = load::run(options).unwrap();
    assert_fine(&report, 200);
    assert!(report.reconnects >= 190, "{report}");
    assert_eq!(store.identities(), 200);
}

#[test]
fn a_server_that_knows_no_such_key_makes_the_run_fail() {
    let (address, _) = plain_server("binance");
    let mut options = options("binance", address, &[("GET /api/v3/account", "")]);
    let dialect = &options.dialect;
    options.keys = vec![ClientKey::new(dialect, "four".into(), b"secret", None, None).unwrap()];
    options.count = Some(10);
    let report = load::run(options).unwrap();
    assert!(!report.is_fine());
    assert_eq!(report.wrong_answers, 10);
    assert!(report.samples["valid"].contains("-1022"), "{report}");
}

#[test]
fn the_backend_of_the_benchmarks_answers_everything_until_it_is_told_to_stop() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let backend = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            load::backend::serve(listener, async { drop(stopped.await) }).await;
        });
    });
    let requests = [("GET /a", ""), ("POST /order", "id={id}")];
    let mut options = options("binance", address, &requests);
    options.count = Some(1_000);
    assert_fine(&load::run(options).unwrap(), 1_000);
    stop.send(()).unwrap();
    backend.join().unwrap();
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_sent() {
    let (address, store) = plain_server("bybit");
    let plain = || options("bybit", address, &[("GET /a", "")]);
    let refused = |options: Options| load::run(options).unwrap_err().exit_status();
    assert_eq!(refused(Options { keys: Vec::new(), ..plain() }), 2);
    assert_eq!(refused(Options { requests: Vec::new(), ..plain() }), 2);
    assert_eq!(refused(Options { count: None, ..plain() }), 2);
    assert_eq!(refused(Options { warmup: Duration::MAX, ..plain() }), 2);
    assert_eq!(
        refused(Options {
            connections: NonZeroUsize::MIN,
            threads: NonZeroUsize::new(2).unwrap(),
            ..plain()
        }),
        2
    );
    assert_eq!(refused(options("bybit", address, &[("POST /order", "{}")])), 2);
    assert_eq!(store.identities(), 0);
}

#[test]
fn a_target_that_does_not_listen_is_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = load::run(options("binance", address, &[("GET /", "")])).unwrap_err();
    assert!(matches!(error, load::LoadError::Connect(..)), "{error}");
    assert_eq!(error.exit_status(), 1);
}
