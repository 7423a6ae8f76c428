//! Clients: bytes over HTTP/1.1, and hyper where HTTP/2 or TLS is spoken.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use bytes::Bytes;
use countersign::clock::{Clock, Micros, SystemClock};
use countersign::dialect::{Credentials, Draft, builtin};
use countersign::key::{Algorithm, Signer};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;

use crate::program::BOUND;

/// A request as it goes out.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

/// Who signs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'a> {
    pub(crate) dialect: &'a str,
    pub(crate) key: &'a str,
    pub(crate) secret: &'a str,
    pub(crate) passphrase: &'a str,
}

impl Call {
    pub(crate) fn new(method: Method, target: &str) -> Self {
        Self { method, target: target.into(), fields: Vec::new(), body: String::new() }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new(Method::GET, target)
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.body = body.into();
        self
    }

    fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: localhost\r\n", self.method, self.target);
        for (name, value) in &self.fields {
            head.extend([name, ": ", value, "\r\n"]);
        }
        head
    }

    pub(crate) fn bytes(&self) -> String {
        let Self { body, .. } = self;
        let head = self.head();
        format!("{head}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    }
}

pub(crate) fn now() -> Micros {
    SystemClock::start().now()
}

impl Client<'_> {
    /// Signed now, to be good for a minute where the dialect lets the client ask.
    pub(crate) fn sign(&self, method: Method, target: &str, body: &str) -> Call {
        self.sign_at(now(), method, target, body)
    }

    pub(crate) fn sign_at(&self, at: Micros, method: Method, target: &str, body: &str) -> Call {
        let dialect = builtin(self.dialect).unwrap().unwrap();
        let secret = Signer::read(Algorithm::HmacSha256, self.secret.as_bytes()).unwrap();
        let passphrase = dialect.has_passphrase().then_some(self.passphrase);
        let by = Credentials { key_id: self.key, signer: &secret, passphrase };
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let window_ms = Some(60_000);
        let draft = Draft {
            method,
            path,
            query,
            body,
            host: "localhost",
            window_ms,
            lead_ms: 5_000,
            nonce: None,
        };
        let signed = dialect.sign(&draft, &by, at).unwrap();
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        let fields = signed.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
        Call {
            method: signed.method,
            target: signed.target,
            fields: fields.collect(),
            body: signed.body,
        }
    }
}

/// An answer with its header fields in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The answer without what differs from one to the next in any case: its id, its date, the time in its body.
    pub(crate) fn masked(mut self) -> Self {
        for (name, value) in &mut self.fields {
            if ["x-request-id", "date"].contains(&&*name.to_ascii_lowercase()) {
                *value = "#".repeat(value.len());
            }
        }
        self.body = self.body.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).collect();
        self
    }

    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let fields = lines.map(|line| line.split_once(": ").unwrap());
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { status, fields: fields.collect(), body: body.into() }
    }
}

/// A connection on which the request is sent and the answer not yet read.
pub(crate) struct Asked(TcpStream);

pub(crate) fn ask(address: SocketAddr, call: &Call) -> Asked {
    ask_bytes(address, &call.bytes())
}

pub(crate) fn ask_bytes(address: SocketAddr, text: &str) -> Asked {
    ask_on(TcpStream::connect(address).unwrap(), text)
}

/// The same on a connection that is open.
pub(crate) fn ask_on(mut stream: TcpStream, text: &str) -> Asked {
    stream.set_read_timeout(Some(BOUND)).unwrap();
    // Whoever is turned away may not get as far.
    let _ = stream.write_all(text.as_bytes());
    Asked(stream)
}

impl Asked {
    pub(crate) fn answer(self) -> Answer {
        Answer::parse(&self.text())
    }

    /// Whether an answer begins.
    pub(crate) fn begins(&mut self) -> bool {
        self.0.read_exact(&mut [0]).is_ok()
    }

    /// All that comes, if anything.
    pub(crate) fn text(mut self) -> String {
        let mut text = Vec::new();
        // A reset is an end too.
        let _ = self.0.read_to_end(&mut text);
        String::from_utf8(text).unwrap()
    }
}

/// One request on a connection of its own.
pub(crate) fn send(address: SocketAddr, call: &Call) -> Answer {
    ask(address, call).answer()
}

/// The same with a chunked body, in pieces of `size`.
pub(crate) fn send_chunked(address: SocketAddr, call: &Call, size: usize) -> Answer {
    let mut text = call.head();
    text.push_str("Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
    for piece in call.body.as_bytes().chunks(size) {
        let size = format!("{:x}", piece.len());
        text.extend([&*size, "\r\n", str::from_utf8(piece).unwrap(), "\r\n"]);
    }
    text.push_str("0\r\n\r\n");
    ask_bytes(address, &text).answer()
}

/// How hyper speaks to the gateway.
#[derive(Clone, Debug)]
pub(crate) enum Wire {
    Plain2,
    Tls1(CertificateDer<'static>),
    Tls2(CertificateDer<'static>),
}

/// One request by hyper on a connection of its own.
pub(crate) fn send_by(wire: &Wire, address: SocketAddr, call: &Call) -> Answer {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sent = async { tokio::time::timeout(BOUND, exchange(wire, address, call)).await.unwrap() };
    runtime.block_on(sent)
}

async fn exchange(wire: &Wire, address: SocketAddr, call: &Call) -> Answer {
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let body = Full::new(Bytes::from(call.body.clone()));
    let authority = if matches!(wire, Wire::Tls1(_)) { "" } else { "https://localhost" };
    let mut request =
        Request::builder().method(&call.method).uri(format!("{authority}{}", call.target));
    if authority.is_empty() {
        request = request.header("host", "localhost");
    }
    for (name, value) in &call.fields {
        request = request.header(name, value);
    }
    let request = request.body(body).unwrap();
    let answer = match wire {
        Wire::Plain2 => {
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        }
        Wire::Tls2(trusted) => {
            let socket = TokioIo::new(tls(trusted, b"h2", socket).await);
            let (mut sender, connection) =
                http2::handshake(TokioExecutor::new(), socket).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        }
        Wire::Tls1(trusted) => {
            let socket = TokioIo::new(tls(trusted, b"http/1.1", socket).await);
            let (mut sender, connection) = http1::handshake(socket).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        }
    };
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    let fields = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value)));
    let (status, fields) = (answer.status().as_u16(), fields.collect());
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Answer { status, fields, body: String::from_utf8(body.to_vec()).unwrap() }
}

async fn tls(
    trusted: &CertificateDer<'static>,
    protocol: &[u8],
    socket: tokio::net::TcpStream,
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut config =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
    stream
}
