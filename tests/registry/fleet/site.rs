//! Gateways in this process, over one registry, with a backend behind them.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign::clock::Micros;
use countersign::config::{Config, System};
use countersign::key::sealing::MasterKeys;
use countersign::registry::book::{Answer, Change, Kind, Note, Query, Record, Registry, Write};
use countersign::registry::embedded::Embedded;
use countersign::registry::gossip::{Place, Topic, Word};
use countersign::registry::opened::{KeyOpener, Names};
use countersign::registry::postgres::{Options, Postgres};
use countersign::service::{Service, Source};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use super::client::{BOUND, TOKEN, post};
use super::wire::Wire;
use crate::server::{Server, patient};

/// A master key of these tests alone.
const MASTER: &str = "6f0e2c9ab1d47385f2a8c61e90b35d7744d8e1c2a97f5b603ce4927a18bd05f3";

/// Some gateways.
pub(crate) struct Site {
    pub(crate) gateways: Vec<One>,
    /// The registry, asked beside the gateways.
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) masters: MasterKeys,
    runtime: Runtime,
    _kept: (Beside, TempDir, Option<Arc<Server>>),
}

/// Opens a registry with a gateway's patience, which a busy machine may try at first.
fn opened(options: &Options) -> Postgres {
    let begun = Instant::now();
    loop {
        match Postgres::open(options.clone()) {
            Ok(postgres) => return postgres,
            Err(error) => assert!(begun.elapsed() < BOUND, "{error}"),
        }
    }
}

/// A gateway.
pub(crate) struct One {
    pub(crate) service: Service,
    /// Its way to PostgreSQL.
    pub(crate) wire: Option<Wire>,
    pub(crate) heard: Arc<Heard>,
}

impl Site {
    /// So many over one PostgreSQL, each with connections of its own.
    pub(crate) fn over_postgres(count: usize, server: Arc<Server>) -> Self {
        let (runtime, beside) = (runtime(), Beside::start());
        let url = runtime.block_on(server.empty_database());
        let own = patient(&url);
        Postgres::migrate(&own).unwrap();
        let registry: Arc<dyn Registry> = Arc::new(Postgres::open(own).unwrap());
        let socket = server.data().with_file_name(".s.PGSQL.5432");
        let database = url.rsplit('/').next().unwrap();
        let ways = (0..count).map(|_| {
            let wire = Wire::to(socket.clone(), &beside.handle);
            let url = format!("postgres://postgres@{}/{database}?sslmode=disable", wire.address);
            let options = Options::new(&url, None).unwrap();
            let postgres: Arc<dyn Registry> = Arc::new(opened(&options));
            (Some(wire), postgres)
        });
        let ways = ways.collect();
        Self::start(runtime, beside, registry, ways, Some(server))
    }

    /// One over a file.
    pub(crate) fn over_file(path: &Path) -> Self {
        let registry: Arc<dyn Registry> = Arc::new(Embedded::open(path).unwrap());
        let ways = vec![(None, Arc::clone(&registry))];
        Self::start(runtime(), Beside::start(), registry, ways, None)
    }

    fn start(
        runtime: Runtime,
        beside: Beside,
        registry: Arc<dyn Registry>,
        ways: Vec<(Option<Wire>, Arc<dyn Registry>)>,
        server: Option<Arc<Server>>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("master"), MASTER).unwrap();
        std::fs::write(at("token"), TOKEN).unwrap();
        let text = configuration(directory.path(), beside.backend);
        let start = |(wire, registry): (Option<Wire>, Arc<dyn Registry>)| {
            let config = Config::parse(&text, Path::new("test.toml"), &System);
            let config = config.unwrap_or_else(|refused| panic!("{refused}")).config;
            let masters = MasterKeys::gather(config.sealing.as_ref(), None).unwrap();
            let names = Arc::new(Names::of(&config));
            let heard = Arc::new(Heard { registry, until: AtomicU64::new(u64::MAX) });
            let opener = KeyOpener { masters: masters.clone(), names };
            let source = Source::of(Arc::<Heard>::clone(&heard), opener);
            let service = Service::start_over(config, Some(source)).unwrap();
            (One { service, wire, heard }, masters)
        };
        let (gateways, masters): (Vec<_>, Vec<_>) = ways.into_iter().map(start).unzip();
        let masters = masters.into_iter().next().unwrap();
        for gateway in &gateways {
            runtime.block_on(gateway.service.ready());
            until("it knows what there is", || {
                let counts = gateway.service.gate().keys.counts().unwrap();
                counts.age.is_some() && counts.known.is_some()
            });
        }
        Self { gateways, registry, masters, runtime, _kept: (beside, directory, server) }
    }

    /// Waits for what the registry says.
    pub(crate) fn wait<T>(&self, answer: impl Future<Output = T>) -> T {
        self.runtime.block_on(answer)
    }

    /// Where the admin API of the first gateway is.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.gateways[0].service.admin
    }

    /// Makes a key over the admin API: its id and its secret.
    pub(crate) fn issue(&self, permissions: &[&str]) -> (String, String) {
        let body = json!({
            "account": "ann", "dialect": "binance", "permissions": permissions,
            "allowlist": ["127.0.0.1/32"],
        });
        let made = post(self.admin(), "/v1/keys", &body);
        let text = |of: &Value| of.as_str().unwrap().to_owned();
        (text(&made["id"]), text(&made["secret"]))
    }

    /// Returns once every gateway keeps to everything that is in the registry now; says when that was.
    pub(crate) fn confirmed(&self) -> Instant {
        let revision = self.wait(self.registry.revision()).unwrap();
        until("every gateway keeps to it", || {
            let knows = |one: &One| one.service.gate().keys.revision() >= Some(revision);
            self.gateways.iter().all(knows)
        });
        Instant::now()
    }

    pub(crate) fn end(self) {
        for one in self.gateways {
            self.runtime.block_on(one.service.drain_unless(std::future::ready(())));
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_micros(200);

/// Looks until `holds`, which must come about.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < BOUND, "never: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn configuration(directory: &Path, backend: SocketAddr) -> String {
    let file = |name: &str| directory.join(name).display().to_string();
    let (master, token) = (file("master"), file("token"));
    let mut text = format!(
        r#"
        version = 1
        [server]
        workers = 1
        [[listener]]
        name = "public"
        address = "127.0.0.1:0"
        [admin]
        address = "127.0.0.1:0"
        [[admin.token]]
        name = "sue"
        role = "security"
        token = {{ file = "{token}" }}
        [sealing]
        current = "one"
        [sealing.keys.one]
        file = "{master}"
        [audit]
        enabled = false
        [guard]
        exempt = ["127.0.0.1"]
        [[upstream]]
        name = "exchange"
        backends = ["{backend}"]
        identity_key = "none"
        "#
    );
    for (name, method, permission) in
        [("orders", "GET", "read"), ("order", "POST", "trade"), ("withdraw", "POST", "withdraw")]
    {
        let age = if permission == "trade" { "key_max_age = \"3s\"" } else { "" };
        text += &format!(
            "[[route]]\nname = \"{name}\"\nmethods = [\"{method}\"]\npath = \"/{name}\"\n\
             upstream = \"exchange\"\ndialect = \"binance\"\npermission = \"{permission}\"\n{age}\n"
        );
    }
    text
}

/// What runs beside the gateways: a backend, and the ways to PostgreSQL.
struct Beside {
    handle: Handle,
    backend: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Beside {
    fn start() -> Self {
        let runtime = runtime();
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let backend = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::spawn(async move {
                    while let Ok((socket, _)) = listener.accept().await {
                        tokio::spawn(answer(socket));
                    }
                });
                drop(stopped.await);
            });
        });
        Self { handle, backend, _stop: stop }
    }
}

async fn answer(mut socket: TcpStream) {
    let mut come = Vec::new();
    while let Ok(1..) = socket.read_buf(&mut come).await {
        if come.ends_with(b"\r\n\r\n") {
            come.clear();
            let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            if socket.write_all(reply).await.is_err() {
                return;
            }
        }
    }
}

/// A registry as a gateway hears of it. It can be kept from hearing what is new, while everything else goes on.
#[derive(Debug)]
pub(crate) struct Heard {
    registry: Arc<dyn Registry>,
    until: AtomicU64,
}

impl Heard {
    /// From here on nothing new is heard.
    pub(crate) fn nothing_after(&self, revision: u64) {
        self.until.store(revision, Ordering::SeqCst);
    }
}

impl Registry for Heard {
    fn find(&self, kind: Kind, id: &str) -> Answer<'_, Option<Record>> {
        self.registry.find(kind, id)
    }

    fn commit(&self, writes: Vec<Write>, note: Note) -> Answer<'_, u64> {
        self.registry.commit(writes, note)
    }

    fn list(&self, query: Query) -> Answer<'_, Vec<Record>> {
        self.registry.list(query)
    }

    fn history(
        &self,
        kind: Kind,
        id: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Answer<'_, Vec<Change>> {
        self.registry.history(kind, id, before, limit)
    }

    fn since(&self, revision: u64, limit: usize) -> Answer<'_, Vec<Change>> {
        let asked = self.registry.since(revision, limit);
        let until = self.until.load(Ordering::SeqCst);
        Box::pin(async move {
            let mut changes = asked.await?;
            changes.retain(|change| change.record.revision <= until);
            Ok(changes)
        })
    }

    fn revision(&self) -> Answer<'_, u64> {
        self.registry.revision()
    }

    fn changed(&self, revision: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.registry.changed(revision)
    }

    fn key_tags(&self) -> Answer<'_, (Vec<u64>, u64)> {
        self.registry.key_tags()
    }

    fn is_shared(&self) -> bool {
        self.registry.is_shared()
    }

    fn tell(&self, topic: Topic, words: Vec<Word>, forget: Option<Micros>) -> Answer<'_, ()> {
        self.registry.tell(topic, words, forget)
    }

    fn told(&self, topic: Topic, after: Place, limit: usize) -> Answer<'_, Vec<(Place, Word)>> {
        self.registry.told(topic, after, limit)
    }

    fn told_of(&self, topic: Topic, ids: Vec<String>) -> Answer<'_, Vec<Word>> {
        self.registry.told_of(topic, ids)
    }

    fn unsay(&self, topic: Topic, id: &str) -> Answer<'_, ()> {
        self.registry.unsay(topic, id)
    }
}
