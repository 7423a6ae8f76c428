//! A gateway of each test's own, and a client that writes bytes.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::admit::{
    Ask, Bounds, Challenges, CodePlace, Decoys, Effect, Gate, Guard, Route, SecondFactor,
};
use countersign::clock::{ManualClock, Micros};
use countersign::config::{Config, Listener, Server, Store as StoreConfig, TlsFiles, Upstream};
use countersign::dialect::{Dialect, builtin};
use countersign::gateway::observe::{End, Finished, Observer, Tally, TurnedAway};
use countersign::gateway::pattern::{HostPattern, PathPattern};
use countersign::gateway::routes::{Entry, Routes, Rule, Target, TimeAnswer};
use countersign::gateway::{Gateway, Running};
use countersign::key::{
    Algorithm, Allowlist, Bindings, Factor, Key, Passphrase, Permission, PermissionNames,
    Permissions, Secret, State, Tag, Venue,
};
use countersign::registry::fixed::FixedKeys;
use countersign::registry::{Keys, Location, Unavailable};
use countersign::store::{Charge, Cost, Identity, Limit, Repeat, Store, Verdict};
use http::{HeaderName, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Long enough for anything that happens at all.
pub(crate) const BOUND: Duration = Duration::from_secs(20);
/// When the clock of every test stands.
pub(crate) const NOW: Micros = Micros(1_700_000_000_000_000);
pub(crate) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
pub(crate) const PASSPHRASE: &str = "open sesame";

/// Keys in memory. Asking for `slow` waits until the test lets it; asking for `panic` panics.
pub(crate) struct TestKeys {
    fixed: FixedKeys,
    pub(crate) asked: Semaphore,
    pub(crate) go_on: Semaphore,
}

impl Keys for TestKeys {
    async fn find(&self, id: &str, max_age: Duration) -> Result<Option<Arc<Key>>, Unavailable> {
        assert_ne!(id, "panic", "as the test asked");
        if id == "slow" {
            self.asked.add_permits(1);
            self.go_on.acquire().await.unwrap().forget();
        }
        self.fixed.find(id, max_age).await
    }
}

/// Remembers for ever; every limit is full after its quota of calls.
#[derive(Default)]
pub(crate) struct TestStore(Mutex<HashSet<Identity>>);

impl Store for TestStore {
    async fn spend(&self, charge: &Charge) -> Verdict {
        if self.0.lock().unwrap().insert(charge.identity) {
            Verdict::New(charge.costs.iter().map(|cost| cost.weight).collect())
        } else {
            Verdict::Seen
        }
    }

    async fn pay(&self, _now: Micros, costs: &[Cost]) -> Verdict {
        match costs.iter().position(|cost| cost.limit.quota < cost.weight) {
            None => Verdict::New(costs.iter().map(|cost| cost.weight).collect()),
            Some(cost) => {
                let (retry_after, beside) = (Duration::from_millis(1_500), Box::default());
                Verdict::Over { cost, retry_after, level: 7, beside }
            }
        }
    }
}

/// Writes down what it hears.
#[derive(Clone, Default)]
pub(crate) struct Ear(Arc<Notes>);

#[derive(Default)]
struct Notes {
    heard: Mutex<Vec<String>>,
    news: tokio::sync::Notify,
}

/// What one worker tells.
pub(crate) struct Heard(Ear);

impl Ear {
    fn note(&self, text: String) {
        self.0.heard.lock().unwrap().push(text);
        self.0.news.notify_waiters();
    }

    /// Waits until something that begins so was heard.
    pub(crate) async fn hears(&self, start: &str) -> String {
        let listen = async {
            loop {
                let news = self.0.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                let found =
                    self.0.heard.lock().unwrap().iter().find(|t| t.starts_with(start)).cloned();
                match found {
                    Some(text) => return text,
                    None => news.await,
                }
            }
        };
        let heard = tokio::time::timeout(BOUND, listen).await;
        heard.unwrap_or_else(|_| panic!("no {start} in {:?}", self.0.heard.lock().unwrap()))
    }

    pub(crate) fn count(&self, start: &str) -> usize {
        self.0.heard.lock().unwrap().iter().filter(|text| text.starts_with(start)).count()
    }
}

impl Tally for Heard {
    fn finished(&self, finished: &Finished<'_>) {
        let reason = finished.denial.map_or("-", |denial| denial.reason());
        let status = finished.status.map_or(0, |status| status.as_u16());
        let complete = if finished.complete { "complete" } else { "cut" };
        self.0.note(format!("request {:?} {reason} {status} {complete}", finished.outcome));
    }
}

impl Observer for Ear {
    type Tally = Heard;

    fn tally(&self) -> Heard {
        Heard(self.clone())
    }

    fn connection_opened(&self, listener: usize) {
        self.note(format!("opened {listener}"));
    }

    fn connection_closed(&self, listener: usize, end: End) {
        self.note(format!("closed {listener} {end:?}"));
    }

    fn connection_refused(&self, listener: usize, why: TurnedAway) {
        self.note(format!("refused {listener} {why:?}"));
    }

    fn draining(&self) {
        self.note("draining".into());
    }
}

/// A gateway that runs, with all that a test may look at.
pub(crate) struct Fixture {
    pub(crate) running: Running,
    pub(crate) gate: Arc<Gate<TestKeys, TestStore, ManualClock>>,
    pub(crate) ear: Arc<Ear>,
}

impl Fixture {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        let gate = Arc::new(Gate {
            keys: TestKeys {
                fixed: keys().into_iter().collect(),
                asked: Semaphore::new(0),
                go_on: Semaphore::new(0),
            },
            store: TestStore::default(),
            clock: ManualClock::at(NOW),
            decoys: Decoys::new().unwrap(),
            guard: Guard::default(),
            switches: Arc::default(),
        });
        let ear = Arc::new(Ear::default());
        let running = Gateway::start(&Arc::new(config), &gate, &ear);
        Self { running: running.unwrap(), gate, ear }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.addresses[0]
    }

    pub(crate) async fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address()).await.unwrap())
    }

    /// Sends bytes on a connection of their own and reads until the gateway closes it.
    pub(crate) async fn ask(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect().await;
        client.send(bytes).await;
        client.rest().await
    }

    /// As [`Fixture::ask`], for a GET that closes its connection.
    pub(crate) async fn get(&self, target: &str, fields: &str) -> String {
        self.ask(get(target, fields)).await
    }
}

pub(crate) fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n{fields}\r\n")
}

pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// All that comes until the gateway closes, which it must.
    pub(crate) async fn rest(&mut self) -> String {
        let mut text = Vec::new();
        let read = tokio::time::timeout(BOUND, self.0.read_to_end(&mut text)).await;
        // A reset is an end too; what came before it counts.
        let _ = read.expect("the connection stays open");
        String::from_utf8(text).unwrap()
    }

    /// One answer of a known length.
    pub(crate) async fn answer(&mut self) -> String {
        tokio::time::timeout(BOUND, self.one()).await.expect("no answer comes")
    }

    async fn one(&mut self) -> String {
        let mut text = String::new();
        let mut missing = 1;
        while missing > 0 {
            let mut byte = [0];
            self.0.read_exact(&mut byte).await.unwrap();
            text.push(byte[0].into());
            if text.ends_with("\r\n\r\n") && missing == 1 {
                let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
                missing = 1 + length.map_or(0, |length| length.parse::<usize>().unwrap());
                let mut body = vec![0; missing - 1];
                self.0.read_exact(&mut body).await.unwrap();
                text.push_str(&String::from_utf8(body).unwrap());
                missing = 0;
            }
        }
        text
    }
}

/// The status of the first answer in `text`.
pub(crate) fn status(text: &str) -> u16 {
    text.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{text:?}"))
}

/// The value of a header field of the first answer.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let head = text.split("\r\n\r\n").next()?;
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

pub(crate) fn json(text: &str) -> serde_json::Value {
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{text}"))
}

pub(crate) fn dialect(name: &str) -> Arc<Dialect> {
    Arc::new(builtin(name).unwrap().unwrap())
}

/// A certificate for `localhost`, in files that live as long as the directory.
pub(crate) fn certificate() -> (tempfile::TempDir, TlsFiles, Vec<u8>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let files = TlsFiles { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    (dir, files, made.cert.der().to_vec())
}

pub(crate) fn config() -> Config {
    let listener = Listener { name: "test".into(), address: ([127, 0, 0, 1], 0).into(), tls: None };
    let server = Server {
        workers: 2,
        max_connections: 100,
        max_connections_per_address: None,
        trusted_proxies: Vec::new(),
        handshake_timeout: BOUND,
        head_timeout: BOUND,
        body_timeout: BOUND,
        idle_timeout: BOUND,
        drain_timeout: BOUND,
        head_bytes: 8_192,
        header_fields: 16,
        h2_streams: 10,
    };
    let store = StoreConfig {
        state_dir: None,
        max_records: 1_000,
        max_records_per_account: 1_000,
        max_subjects: 1_000,
        ..StoreConfig::default()
    };
    Config {
        audit: None,
        listeners: vec![listener],
        admin: countersign::config::Admin::at(([127, 0, 0, 1], 0).into()),
        websocket: countersign::config::WebSocket::within(server.max_connections),
        server,
        store,
        shared: None,
        registry: Location::Memory,
        guard: Bounds::default(),
        upstreams: [upstream(backend()), upstream(closed())].into(),
        routes: Arc::new(routes()),
        dialects: Vec::new(),
        keys: Vec::new(),
        sealing: None,
        unbound_trade: None,
        limits: Vec::new(),
        permissions: PermissionNames::default().into(),
    }
}

pub(crate) fn upstream(backend: SocketAddr) -> Upstream {
    Upstream {
        name: "test".into(),
        backends: vec![backend.to_string().parse().unwrap()],
        identity_key: None,
        host: None,
        connect_timeout: BOUND,
        response_timeout: BOUND,
        idle_timeout: BOUND,
        max_connections: 10,
        eject_after: 100,
        eject_for: Duration::from_millis(1),
        forward_headers: Vec::new(),
    }
}

/// An address that nobody listens on, nor gets by asking for a free port.
fn closed() -> SocketAddr {
    ([127, 0, 0, 1], 1).into()
}

/// A backend that lives as long as its test and answers what it was told.
fn backend() -> SocketAddr {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let listener = tokio::net::TcpListener::from_std(socket).unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(socket), service_fn(told));
            tokio::spawn(connection);
        }
    });
    address
}

/// A backend that answers with these pieces, one after each `gap`, and closes.
pub(crate) async fn trickle(pieces: Vec<String>, gap: Duration) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let pieces = pieces.clone();
            tokio::spawn(async move {
                let _ = socket.read(&mut [0; 8_192]).await;
                for piece in pieces {
                    let _ = socket.write_all(piece.as_bytes()).await;
                    tokio::time::sleep(gap).await;
                }
            });
        }
    });
    address
}

async fn told(request: Request<Incoming>) -> Result<Response<String>, hyper::Error> {
    let identity = request.headers().get("countersign-identity").unwrap().to_str().unwrap();
    let part = |name: &str| identity.split("; ").find_map(|part| part.strip_prefix(name)).unwrap();
    let (key, client) = (part("key="), part("client="));
    let start = format!("{} {} key={key} client={client}", request.method(), request.uri().path());
    let is_large = request.uri().path().ends_with("/large");
    let encodes = request.headers().contains_key("accept-encoding");
    let body = request.into_body().collect().await?.to_bytes();
    let more = if is_large { "x".repeat(5 << 20) } else { String::new() };
    let mut reply = Response::new(format!("{start} body={}{more}", body.len()));
    reply.headers_mut().insert("content-type", "text/plain; charset=utf-8".parse().unwrap());
    reply.headers_mut().insert("x-may-encode", encodes.to_string().parse().unwrap());
    Ok(reply)
}

fn routes() -> Routes {
    let signed = |name| Ask::Signed(dialect(name));
    let table = [
        (Method::GET, "/public", Ask::Public, Target::Upstream(0)),
        (Method::HEAD, "/public", Ask::Public, Target::Upstream(0)),
        (Method::POST, "/public", Ask::Public, Target::Upstream(0)),
        (Method::GET, "/open/**", Ask::Public, Target::Upstream(0)),
        (Method::GET, "/down", Ask::Public, Target::Upstream(1)),
        (Method::GET, "/limited", Ask::Public, Target::Upstream(0)),
        (Method::GET, "/time", Ask::Public, Target::Time(TimeAnswer::Binance)),
        (Method::GET, "/key", Ask::Key(dialect("binance")), Target::Upstream(0)),
        (Method::GET, "/api/v3/account", signed("binance"), Target::Upstream(0)),
        (Method::POST, "/api/v3/order", signed("binance"), Target::Upstream(0)),
        (Method::POST, "/withdraw", signed("binance"), Target::Upstream(0)),
        (Method::GET, "/api/v3/down", signed("binance"), Target::Upstream(1)),
        (Method::GET, "/v5/order/realtime", signed("bybit"), Target::Upstream(0)),
        (Method::POST, "/v5/order/create", signed("bybit"), Target::Upstream(0)),
        (Method::GET, "/api/v2/spot/account/assets", signed("bitget"), Target::Upstream(0)),
        (Method::POST, "/api/v2/spot/trade/place-order", signed("bitget"), Target::Upstream(0)),
        (Method::POST, "/api/v2/balance/", signed("bitstamp"), Target::Upstream(0)),
        (Method::POST, "/api/v2/large", signed("bitstamp"), Target::Upstream(0)),
    ];
    Routes::new(table.into_iter().enumerate().map(|(place, (method, path, ask, target))| {
        let write = method == Method::POST;
        let tight = Limit { quota: 1, period: Duration::from_mins(1) };
        let demand = Route {
            name: path.into(),
            id: u16::try_from(place).unwrap(),
            ask,
            venue: Venue("main".into()),
            permissions: Permissions::NONE,
            effect: if write { Effect::Write } else { Effect::Read },
            weight: if path == "/limited" { 2 } else { 1 },
            body_cap: if write { 1_000 } else { 0 },
            key_max_age: Duration::from_mins(1),
            lead: Duration::from_mins(1),
            repeat: Repeat::Never,
            address_limit: (path == "/limited").then_some(tight),
            symbol: None,
            charges: None,
            second_factor: (path == "/withdraw").then(strict),
        };
        let path = PathPattern::parse(path).unwrap();
        let audit = countersign::audit::Demand::default();
        let entry = Entry { demand, target, audit };
        (Rule { host: HostPattern::Any, methods: [method].into(), path }, entry)
    }))
}

/// A code in `x-otp`, with a challenge.
fn strict() -> SecondFactor {
    SecondFactor {
        place: CodePlace::Header(HeaderName::from_static("x-otp")),
        challenges: Some(Arc::new(Challenges::new().unwrap())),
    }
}

fn keys() -> Vec<Key> {
    let named = |id: &str, dialect: &str| Key {
        id: id.into(),
        tag: Tag::of(id),
        account: "account".into(),
        account_tag: Tag::of("account"),
        venue: Venue("main".into()),
        dialect: dialect.into(),
        secret: Secret::read(Algorithm::HmacSha256, SECRET).unwrap(),
        passphrase: (dialect == "bitget").then(|| Passphrase::new(PASSPHRASE)),
        permissions: Permissions::NONE.with(Permission::READ),
        allowlist: Allowlist::default(),
        state: State::Active,
        expires: None,
        limits: [Limit { quota: 1_200, period: Duration::from_mins(1) }.into()].into(),
        epoch: 0,
        bindings: Some(Box::new(Bindings {
            factor: Some(Arc::new(Factor::read("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").unwrap())),
            ..Bindings::default()
        })),
    };
    ["binance", "bybit", "bitget", "bitstamp"]
        .iter()
        .map(|dialect| named(&format!("{dialect}-key"), dialect))
        .chain([named("slow", "binance")])
        .collect()
}
