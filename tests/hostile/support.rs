//! A whole gateway, a backend that records what reaches it, and clients that write whatever bytes they like.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::clock::Clock as _;
use countersign::config::{Config, Contents, Lookup};
use countersign::service::Service;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zeroize::Zeroizing;

/// Long enough for anything that happens at all.
pub(crate) const BOUND: Duration = Duration::from_secs(20);
pub(crate) const PASSPHRASE: &str = "open sesame";

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OTHER_SECRET: &str = "ffffffffffffffff0123456789abcdef";
const IDENTITY_KEY: &str = "shared by gateway and backends, 32+";

/// The settings of every test, without its routes: three dialects, and a key in every state.
const COMMON: &str = r#"
version = 1
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[[limit]]
name = "account"
quota = 30
per = "1h"
"#;

/// Routes as an exchange would write them: money leaves by routes of its own, the rest follows.
pub(crate) const ROUTES: &str = r#"
[[route]]
name = "public"
methods = ["GET", "OPTIONS"]
path = "/public/**"
upstream = "exchange"
ask = "public"
[[route]]
name = "history"
methods = ["GET"]
path = "/api/v3/historicalTrades"
upstream = "exchange"
ask = "key"
dialect = "binance"
weight = 10
[[route]]
name = "withdraw"
methods = ["POST"]
path = "/sapi/v1/capital/withdraw/apply"
upstream = "exchange"
dialect = "binance"
permission = "withdraw"
[[route]]
name = "binance-read"
methods = ["GET"]
path = "/api/v3/**"
upstream = "exchange"
dialect = "binance"
[[route]]
name = "binance-cancel"
methods = ["DELETE"]
path = "/api/v3/**"
upstream = "exchange"
dialect = "binance"
effect = "cancel"
[[route]]
name = "binance-write"
methods = ["POST", "PUT"]
path = "/api/v3/**"
upstream = "exchange"
dialect = "binance"
permission = "trade"
[[route]]
name = "sapi-write"
methods = ["POST"]
path = "/sapi/**"
upstream = "exchange"
dialect = "binance"
permission = "trade"
[[route]]
name = "bybit-read"
methods = ["GET"]
path = "/v5/**"
upstream = "exchange"
dialect = "bybit"
[[route]]
name = "bybit-write"
methods = ["POST"]
path = "/v5/**"
upstream = "exchange"
dialect = "bybit"
permission = "trade"
[[route]]
name = "bitget-read"
methods = ["GET"]
path = "/api/v2/**"
upstream = "exchange"
dialect = "bitget"
[[route]]
name = "elsewhere"
host = "elsewhere.test"
methods = ["GET"]
path = "/elsewhere"
upstream = "exchange"
venue = "other"
dialect = "binance"
[[route]]
name = "bitget-write"
methods = ["POST"]
path = "/api/v2/**"
upstream = "exchange"
dialect = "bitget"
permission = "trade"
"#;

const KEYS: &str = r#"
[[key]]
id = "$D-key"
account = "victim"
dialect = "$D"
secret = { env = "A_SECRET" }
permissions = ["read", "trade"]
limits = ["account"]
[[key]]
id = "$D-revoked"
account = "gone"
dialect = "$D"
secret = { env = "A_SECRET" }
permissions = ["read", "trade"]
state = "revoked"
[[key]]
id = "$D-suspended"
account = "paused"
dialect = "$D"
secret = { env = "A_SECRET" }
permissions = ["read", "trade"]
state = "suspended"
[[key]]
id = "$D-expired"
account = "late"
dialect = "$D"
secret = { env = "A_SECRET" }
permissions = ["read", "trade"]
expires = 2001-01-01T00:00:00Z
[[key]]
id = "$D-elsewhere"
account = "elsewhere"
dialect = "$D"
venue = "other"
secret = { env = "A_SECRET" }
permissions = ["read", "trade"]
[[key]]
id = "$D-bound"
account = "bound"
dialect = "$D"
secret = { env = "A_SECRET" }
permissions = ["read", "trade"]
allowlist = ["192.0.2.1"]
[[key]]
id = "$D-narrow"
account = "narrow"
dialect = "$D"
secret = { env = "A_SECRET" }
permissions = ["cancel"]
"#;

/// What the configuration asks of its surroundings.
struct World;

impl Lookup for World {
    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        let value = match name {
            "A_SECRET" => SECRET,
            "A_PASSPHRASE" => PASSPHRASE,
            "AN_IDENTITY_KEY" => IDENTITY_KEY,
            _ => return None,
        };
        Some(Zeroizing::new(value.to_owned()))
    }

    fn file(&self, _path: &Path) -> io::Result<Contents> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// A gateway with a backend of its own.
pub(crate) struct Site {
    pub(crate) service: Service,
    pub(crate) backend: Backend,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::with("", ROUTES).await
    }

    /// A gateway with further settings and other routes, which takes fresh signatures by now.
    pub(crate) async fn with(settings: &str, routes: &str) -> Self {
        Self::before(Backend::start(ok("fine")).await, settings, routes).await
    }

    pub(crate) async fn before(backend: Backend, settings: &str, routes: &str) -> Self {
        let service = Service::start(config(backend.address, settings, routes)).unwrap();
        tokio::time::timeout(BOUND, service.ready()).await.unwrap();
        Self { service, backend }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.service.listeners[0]
    }

    /// The gateway's time, in milliseconds; rounded up, since the fence at start ends between two of them.
    pub(crate) fn now(&self) -> u64 {
        self.service.gate().clock.now().as_millis() + 1
    }

    /// Writes bytes on a connection of their own, and reads until the gateway closes it.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>) -> String {
        exchange(self.address(), bytes.as_ref()).await
    }

    /// Sends a request, and gives what reached the backend of it: nothing, when the gateway refused.
    pub(crate) async fn forwards(&self, bytes: impl AsRef<[u8]>) -> Option<String> {
        let before = self.backend.requests().len();
        self.send(bytes).await;
        self.backend.requests().get(before).cloned()
    }
}

pub(crate) fn config(backend: SocketAddr, settings: &str, routes: &str) -> Config {
    let upstream = format!(
        "[[upstream]]\nname = \"exchange\"\nbackends = [\"{backend}\"]\n\
         identity_key = {{ env = \"AN_IDENTITY_KEY\" }}\nresponse_timeout = \"5s\"\n"
    );
    let mut keys = KEYS.replace("$D", "binance") + &KEYS.replace("$D", "bybit");
    let secret = "secret = { env = \"A_SECRET\" }";
    let both = format!("{secret}\npassphrase = {{ env = \"A_PASSPHRASE\" }}");
    keys += &KEYS.replace("$D", "bitget").replace(secret, &both);
    let text = [COMMON, settings, &upstream, routes, &keys].concat();
    match Config::parse(&text, Path::new("hostile.toml"), &World) {
        Ok(loaded) => loaded.config,
        Err(refused) => panic!("{refused:?}"),
    }
}

pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let talk = async {
        let mut socket = TcpStream::connect(address).await.unwrap();
        // A refusal may come, and the connection end, before all is written.
        let _ = socket.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(BOUND, talk).await.expect("the connection stays open")
}

/// A backend that writes down every request and answers all of them alike.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

/// An answer with a body.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

impl Backend {
    pub(crate) async fn start(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (noted, answer) = (Arc::clone(&requests), Arc::<str>::from(answer));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(attend(socket, Arc::clone(&noted), Arc::clone(&answer)));
            }
        });
        Self { address, requests }
    }

    /// Every request, byte for byte.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Serves one connection; with nothing to answer it closes as soon as a request is there.
async fn attend(mut socket: TcpStream, noted: Arc<Mutex<Vec<String>>>, answer: Arc<str>) {
    let mut bytes = Vec::new();
    loop {
        while let Some(length) = whole(&bytes) {
            let request: Vec<u8> = bytes.drain(..length).collect();
            noted.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
            if answer.is_empty() || socket.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
        if socket.read_buf(&mut bytes).await.unwrap_or_default() == 0 {
            // What is left over was no request: it must show.
            if !bytes.is_empty() {
                let rest = String::from_utf8_lossy(&bytes).into_owned();
                noted.lock().unwrap().push(format!("CUT {rest}"));
            }
            return;
        }
    }
}

/// The length of the request that `bytes` begin with, once all of it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    assert!(!text.contains("transfer-encoding"), "we forward lengths alone: {text}");
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let length = head + length.unwrap_or(0_usize);
    (bytes.len() >= length).then_some(length)
}

/// The value of a header field.
pub(crate) fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let head = text.split("\r\n\r\n").next()?;
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

pub(crate) fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Target and body of a request as the backend has it.
pub(crate) fn seen(request: &str) -> (String, String) {
    let target = first_line(request).split(' ').nth(1).unwrap().to_owned();
    (target, request.split_once("\r\n\r\n").unwrap().1.to_owned())
}

pub(crate) type Fields = Vec<(String, String)>;

/// A request of HTTP/1.1 that ends its connection.
pub(crate) fn wire(method: &str, target: &str, fields: &Fields, body: &str) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n");
    for (name, value) in fields {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    if !body.is_empty() {
        write!(text, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    text + "\r\n" + body
}

pub(crate) fn mac(secret: &str, message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Whether the proof that goes with a request holds.
pub(crate) fn identity_holds(request: &str) -> bool {
    let mut words = first_line(request).split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (identity, proof) =
        (field(request, "countersign-identity"), field(request, "countersign-mac"));
    let right = countersign::identity::mac(
        IDENTITY_KEY.as_bytes(),
        method,
        target,
        identity.unwrap().as_bytes(),
    );
    right == proof.unwrap()
}

/// Parameters with their signature, by Binance's rules, and the field that names the key.
pub(crate) fn binance(key: &str, parameters: &str) -> (String, Fields) {
    let signature = data_encoding::HEXLOWER.encode(&mac(SECRET, parameters));
    let fields = vec![("X-MBX-APIKEY".to_owned(), key.to_owned())];
    (format!("{parameters}&signature={signature}"), fields)
}

/// The fields of a request by Bybit's rules; `text` is its query or its body as it was signed.
pub(crate) fn bybit(key: &str, time: u64, window: &str, text: &str) -> Fields {
    let signature =
        data_encoding::HEXLOWER.encode(&mac(SECRET, &format!("{time}{key}{window}{text}")));
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    vec![
        field("X-BAPI-API-KEY", key),
        field("X-BAPI-TIMESTAMP", &time.to_string()),
        field("X-BAPI-RECV-WINDOW", window),
        field("X-BAPI-SIGN", &signature),
    ]
}

/// The fields of a request by Bitget's rules; `text` is method, target and body in a row, as they were signed.
pub(crate) fn bitget(key: &str, time: u64, text: &str) -> Fields {
    let signature = data_encoding::BASE64.encode(&mac(SECRET, &format!("{time}{text}")));
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    vec![
        field("ACCESS-KEY", key),
        field("ACCESS-TIMESTAMP", &time.to_string()),
        field("ACCESS-SIGN", &signature),
        field("ACCESS-PASSPHRASE", PASSPHRASE),
    ]
}

/// The same fields under another signature: that of a stranger.
pub(crate) fn forged(fields: &Fields) -> Fields {
    let stranger = mac(OTHER_SECRET, "whatever");
    let forge = |(name, value): &(String, String)| {
        let value = match name.as_str() {
            "X-BAPI-SIGN" => data_encoding::HEXLOWER.encode(&stranger),
            "ACCESS-SIGN" => data_encoding::BASE64.encode(&stranger),
            _ => value.clone(),
        };
        (name.clone(), value)
    };
    fields.iter().map(forge).collect()
}
