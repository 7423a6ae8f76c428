//! A gateway with a registry before a backend of WebSockets.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign::clock::{Clock as _, SystemClock};
use countersign::config::{Config, System};
use countersign::registry::records::KeyRecord;
use countersign::service::{Service, Source};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::backend::Backend;
use crate::book::Book;
use crate::fleet::{BOUND, Signatory};
use crate::wire::{FIELDS, Socket, answer, status};
use crate::world::{open_key, record};

const ROUTES: [(&str, &str); 7] = [
    ("stream", "path = \"/ws/{what}\"\nwebsocket = true\ndialect = \"binance\""),
    (
        "strict",
        "path = \"/strict/{what}\"\nwebsocket = true\ndialect = \"binance\"\nkey_max_age = \"2s\"",
    ),
    (
        "trades",
        "path = \"/trades/{what}\"\nwebsocket = true\ndialect = \"binance\"\npermission = \"trade\"",
    ),
    ("open", "path = \"/open/{what}\"\nwebsocket = true\nask = \"public\""),
    ("listen", "path = \"/listen/{what}\"\nwebsocket = true\nask = \"key\"\ndialect = \"binance\""),
    ("plain", "path = \"/api/{what}\"\ndialect = \"binance\""),
    ("free", "path = \"/free/{what}\"\nask = \"public\""),
];

pub(crate) struct Site {
    pub(crate) service: Service,
    pub(crate) backend: Backend,
    pub(crate) book: Arc<Book>,
    pub(crate) signatory: Signatory,
    state_dir: tempfile::TempDir,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::with("", "").await
    }

    /// `sections` go into the configuration, and `listener` into that of the listener.
    pub(crate) async fn with(sections: &str, listener: &str) -> Self {
        let (backend, state) = (Backend::start().await, tempfile::tempdir().unwrap());
        let mut text = format!(
            "version = 1\n[server]\nworkers = 1\ndrain_timeout = \"5s\"\n{sections}\n\
             [[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n{listener}\n\
             [admin]\naddress = \"127.0.0.1:0\"\n[store]\nstate_dir = \"{}\"\n\
             [[upstream]]\nname = \"exchange\"\nbackends = [\"{}\"]\nidentity_key = \"none\"\n\
             response_timeout = \"1s\"\n",
            state.path().display(),
            backend.address
        );
        for (name, rules) in ROUTES {
            text += &format!(
                "[[route]]\nname = \"{name}\"\nmethods = [\"GET\"]\nupstream = \"exchange\"\n{rules}\n"
            );
        }
        let config = Config::parse(&text, Path::new("test.toml"), &System);
        let config = config.unwrap_or_else(|refused| panic!("{refused}")).config;
        let book = Arc::<Book>::default();
        for id in ["mine", "other"] {
            book.put_key(id, &record(id));
        }
        let source = Source { registry: Arc::<Book>::clone(&book), open: open_key() };
        let service = Service::start_over(config, Some(source)).unwrap();
        service.ready().await;
        // The fence at start ends between two of the milliseconds that clients sign.
        let signed_from = service.ready_at().unwrap() + Duration::from_millis(5);
        let clock = SystemClock::start();
        let informed = async {
            while !service.gate().keys.is_informed() || clock.now() < signed_from {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(BOUND, informed).await.expect("it reaches the registry");
        Self { service, backend, book, signatory: Signatory::new(), state_dir: state }
    }

    pub(crate) fn state(&self) -> &Path {
        self.state_dir.path()
    }

    /// The text of a handshake that is signed.
    pub(crate) fn handshake(&self, key: &str, path: &str, fields: &str) -> String {
        let (target, headers) = self.signatory.sign(key, path);
        let mut text = format!("GET {target} HTTP/1.1\r\nHost: h\r\n{fields}");
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text + "\r\n"
    }

    /// A connection on which this was sent, and the head of the answer.
    pub(crate) async fn send(&self, text: impl AsRef<[u8]>) -> (TcpStream, String) {
        let mut stream = TcpStream::connect(self.service.listeners[0]).await.unwrap();
        stream.write_all(text.as_ref()).await.unwrap();
        let head = timeout(BOUND, answer(&mut stream)).await.expect("an answer");
        (stream, head)
    }

    /// A WebSocket of this key.
    pub(crate) async fn open(&self, key: &str, path: &str) -> Socket<TcpStream> {
        let (stream, head) = self.send(self.handshake(key, path, FIELDS)).await;
        assert_eq!(status(&head), 101, "{head}");
        Socket(stream)
    }

    /// What the key's record says from now on.
    pub(crate) fn change(&self, key: &str, change: impl FnOnce(&mut KeyRecord)) {
        let mut says = record(key);
        change(&mut says);
        self.book.put_key(key, &says);
    }

    /// The value of a metric.
    pub(crate) async fn metric(&self, line: &str) -> u64 {
        let mut stream = TcpStream::connect(self.service.admin).await.unwrap();
        let ask = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(ask).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let line = format!("countersign_{line} ");
        let value = text.split(&line).nth(1).unwrap_or_else(|| panic!("{line}"));
        value.split('\n').next().unwrap().trim().parse().unwrap()
    }

    /// Returns once the metric has this value.
    pub(crate) async fn comes_to(&self, line: &str, value: u64) {
        let wait = async {
            while self.metric(line).await != value {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(BOUND, wait).await.unwrap_or_else(|_| panic!("{line} {value}"));
    }
}
