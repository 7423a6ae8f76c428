//! A server in this process, and a client that reads its answers strictly.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::admin::{
    Access, Activity, AdminApi, AdminState, Bounds, CallLog, Desk, Door, Facts, Following, Logged,
    Noting, Readiness, Role, Socket, Sought, Token, TrailReader, serve_at,
};
use countersign::clock::{Clock, ManualClock, Micros};
use countersign::config::{Config, DEMO, System};
use countersign::key::sealing::MasterKeys;
use countersign::metrics::{Labels, Metrics};
use countersign::registrar::Registrar;
use countersign::registry::book::Registry;
use countersign::registry::embedded::Embedded;
use countersign::registry::opened::Names;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Longer than anything here takes; only a failure waits for it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// When the clock of the tests stands.
pub(crate) const NOW: Micros = Micros(1_900_000_000_000_000);

/// The token of each role, and of a second person of the last.
pub(crate) const VIEWER: &str = "viewer-token-viewer-token-viewer-token";
pub(crate) const OPERATOR: &str = "operator-token-operator-token-operator";
pub(crate) const SECURITY: &str = "security-token-security-token-security";
pub(crate) const SECOND: &str = "second-token-second-token-second-token";

/// What the audit trail was told.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Actor, operation, subject, status.
    pub(crate) calls: Mutex<Vec<(String, String, Option<String>, u16)>>,
    pub(crate) unproven: Mutex<Vec<(Option<IpAddr>, u32)>>,
    pub(crate) all: Mutex<String>,
    pub(crate) broken: Mutex<bool>,
}

impl CallLog for Heard {
    fn is_writing(&self) -> bool {
        !*self.broken.lock().unwrap()
    }

    fn called<'a>(&'a self, call: &'a Logged<'a>) -> Noting<'a> {
        *self.all.lock().unwrap() += &format!("{call:?}\n");
        self.calls.lock().unwrap().push((
            call.caller.actor.as_ref().into(),
            call.operation.into(),
            call.subject.map(Into::into),
            call.status,
        ));
        Box::pin(std::future::ready(()))
    }

    fn unproven(&self, _: Micros, address: Option<IpAddr>, count: u32) {
        self.unproven.lock().unwrap().push((address, count));
    }
}

/// A trail of a few records.
#[derive(Debug)]
struct Trail;

impl TrailReader for Trail {
    fn search(&self, sought: &Sought) -> std::io::Result<Vec<Value>> {
        let after = sought.after.unwrap_or(0);
        let all = (after + 1..=250).map(|n| json!({"v": 1, "kind": "act", "time": "x", "n": n}));
        Ok(all.take(sought.limit).collect())
    }

    fn activity(&self, key: &str, _: Micros) -> std::io::Result<Vec<Activity>> {
        let address = "192.0.2.1".to_owned();
        let (first, last) = (key.to_owned(), String::new());
        Ok(vec![Activity { address, route: "orders".into(), count: 3, refused: 1, first, last }])
    }

    fn follow(&self) -> std::io::Result<Following> {
        let mut sent = false;
        Ok(Box::new(move || {
            let new = if std::mem::replace(&mut sent, true) { Vec::new() } else { records() };
            Ok(new)
        }))
    }
}

fn records() -> Vec<String> {
    vec![r#"{"n":1}"#.into(), r#"{"n":2}"#.into()]
}

pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) socket: PathBuf,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) heard: Arc<Heard>,
    _dir: tempfile::TempDir,
    _stop: Vec<oneshot::Sender<()>>,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(&[], Bounds::default()).await
    }

    pub(crate) async fn with(four_eyes: &[&str], bounds: Bounds) -> Self {
        let clock = Arc::new(ManualClock::at(NOW));
        let registry: Arc<dyn Registry> = Arc::new(Embedded::in_memory().unwrap());
        let config = Config::parse(DEMO, std::path::Path::new("demo.toml"), &System).unwrap();
        let names = Arc::new(Names::of(&config.config));
        let masters = MasterKeys::gather(None, None).unwrap();
        let shared = Arc::clone(&clock);
        let registrar = Registrar::new(Arc::clone(&registry), masters, names, shared, None);
        let facts = Facts {
            started: NOW - Duration::from_mins(1),
            four_eyes: four_eyes.iter().map(|&name| name.to_owned()).collect(),
            issuer: "countersign test".into(),
            gateway: None,
        };
        let ticking: Arc<dyn Clock> = clock.clone();
        let desk = Desk { clock: ticking, registrar, trail: Some(Arc::new(Trail)), facts };
        let tokens = [
            ("vera", Role::Viewer, VIEWER),
            ("oscar", Role::Operator, OPERATOR),
            ("sue", Role::Security, SECURITY),
            ("sam", Role::Security, SECOND),
        ];
        let tokens = tokens.map(|(name, role, token)| Token::new(name, role, token.as_bytes()));
        let access = Access::new(tokens.into(), Vec::new(), Vec::new());
        let heard = Arc::new(Heard::default());
        let api = AdminApi::new(desk, access, heard.clone()).unwrap();
        let state = state().bounded(bounds).with_api(api);

        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("admin.sock");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let doors = [Door::Tcp(listener), Door::Socket(Socket::bind(&socket).unwrap())];
        let stop = doors.into_iter().map(|door| {
            let (stop, stopped) = oneshot::channel();
            tokio::spawn(serve_at(door, state.clone(), async {
                let _either_way = stopped.await;
            }));
            stop
        });
        let stop = stop.collect();
        Self { address, socket, clock, registry, heard, _dir: dir, _stop: stop }
    }

    /// Calls over TCP with a token.
    pub(crate) async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        self.send(token, method, path, &[], body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(VIEWER, "GET", path, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(SECURITY, "POST", path, body).await
    }

    pub(crate) async fn send(
        &self,
        token: &str,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: Value,
    ) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n");
        if !token.is_empty() {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        for (name, value) in fields {
            head += &format!("{name}: {value}\r\n");
        }
        let mut bytes = Vec::new();
        if body.is_null() {
            head += "\r\n";
        } else {
            bytes = body.to_string().into_bytes();
            let length = bytes.len();
            head += &format!("content-type: application/json\r\ncontent-length: {length}\r\n\r\n");
        }
        let mut whole = head.into_bytes();
        whole.extend(bytes);
        Answer::read(&self.raw(&whole).await)
    }

    /// Everything the server says to these bytes until it closes.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        said(stream, bytes).await
    }

    /// The same on the unix socket.
    pub(crate) async fn raw_local(&self, bytes: &[u8]) -> Vec<u8> {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        said(stream, bytes).await
    }

    /// Makes a key, and answers what was issued.
    pub(crate) async fn key(&self, account: &str) -> Value {
        let body = json!({
            "account": account, "dialect": "binance", "permissions": ["read", "trade"],
        });
        let answer = self.post("/v1/keys", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body
    }

    /// The one who may withdraw from one network.
    pub(crate) async fn withdrawing_key(&self) -> Value {
        let body = json!({
            "account": "ann", "dialect": "binance", "permissions": ["read", "withdraw"],
            "allowlist": ["203.0.113.0/24"],
        });
        let answer = self.post("/v1/keys", body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.body
    }
}

fn state() -> AdminState {
    let labels =
        Labels { routes: &[], upstreams: &[], dialects: &[], stores: &["memory"], listeners: &[] };
    let metrics = Arc::new(Metrics::new(&labels).unwrap());
    AdminState::new(metrics, Readiness::starting(), Vec::new())
}

async fn said(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> Vec<u8> {
    // The server may answer and close before it has read everything.
    let _broken = stream.write_all(bytes).await;
    let mut said = Vec::new();
    let _reset = timeout(DEADLINE, stream.read_to_end(&mut said)).await.expect("the server closes");
    said
}

/// An answer, its framing undone.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) text: String,
    /// The body as JSON; null where it is empty or lines.
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let (head, rest) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let head = head.to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.contains("transfer-encoding: chunked");
        let text = if chunked { unchunked(rest) } else { rest.to_owned() };
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status >= 400 && !text.is_empty() {
            assert!(head.contains("content-type: application/problem+json"), "{head}");
            assert_eq!(body["status"], status, "{text}");
            assert!(body["detail"].is_string() && body["title"].is_string(), "{text}");
        }
        Self { status, head, text, body }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let start = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&*start))
    }

    /// The JSON values of a body of lines.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

fn unchunked(mut text: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = text.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            break;
        }
        whole += &rest[..length];
        text = &rest[length + 2..];
    }
    whole
}
