//! One connection to the target: opened, used for one request at a time, opened anew when it closes.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Where requests go.
#[derive(Clone)]
pub struct Target {
    pub(super) authority: Authority,
    pub(super) address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    http2: bool,
}

impl Target {
    /// Reads `http://host:port` or `https://host:port`, and looks the host up once.
    ///
    /// `ca` holds the certificates (PEM) that are trusted, needed for https. HTTP/2 is spoken with prior
    /// knowledge. An address that is not of the loopback is refused unless `allow_remote`.
    pub fn parse(
        url: &str,
        ca: Option<&[u8]>,
        http2: bool,
        allow_remote: bool,
    ) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|_| format!("`{url}` is no URL"))?;
        let authority = uri.authority().ok_or_else(|| format!("`{url}` names no host"))?.clone();
        if uri.path() != "/" || uri.query().is_some() {
            return Err(format!("`{url}` holds a path: paths belong to the requests"));
        }
        let (tls, port) = match uri.scheme_str() {
            Some("http") => (false, 80),
            Some("https") => (true, 443),
            _ => return Err(format!("`{url}` is neither http:// nor https://")),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(port);
        let address = address(&host, port, allow_remote)?;
        let tls = match (tls, ca) {
            (false, _) => None,
            (true, None) => {
                return Err("https needs the certificates to trust: give --ca FILE".into());
            }
            (true, Some(ca)) => Some((connector(ca, http2)?, server_name(host)?)),
        };
        Ok(Self { authority, address, tls, http2 })
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

/// A signed request, ready to send.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) method: Method,
    pub(super) target: PathAndQuery,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
}

/// An answer: its status and how its body begins.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) beginning: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// No connection could be made.
    Connect(String),
    /// It broke before the answer was complete.
    Broken(String),
}

/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 64 << 20;

/// A connection that outlives its sockets.
pub(super) struct Wire {
    target: Arc<Target>,
    host: Option<HeaderValue>,
    sender: Option<Sender>,
    /// How many sockets were opened after the first.
    pub(super) reconnects: u64,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Wire {
    pub(super) async fn open(target: Arc<Target>) -> Result<Self, Fault> {
        let sender = Some(connect(&target).await?);
        let host = HeaderValue::from_str(target.authority.as_str()).ok().filter(|_| !target.http2);
        Ok(Self { target, host, sender, reconnects: 0 })
    }

    /// Closes the socket: an answer that is still to come must not be taken for the next one's.
    pub(super) fn reset(&mut self) {
        self.sender = None;
    }

    /// Sends `packet` and reads the whole answer.
    ///
    /// What a closed connection did not take goes out once more over a new one. A request of which any byte may
    /// have been sent is not repeated.
    pub(super) async fn send(&mut self, packet: Packet) -> Result<Reply, Fault> {
        let mut request = self.request(packet);
        for _ in 0..2 {
            match self.try_send(request).await {
                Ok(response) => {
                    let reply = read(response).await;
                    if reply.is_err() {
                        self.reset();
                    }
                    return reply;
                }
                Err((Some(unsent), _)) => {
                    self.reset();
                    request = unsent;
                }
                Err((None, fault)) => {
                    self.reset();
                    return Err(fault);
                }
            }
        }
        Err(Fault::Broken("the connection closes before it takes a request".into()))
    }

    async fn try_send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, (Option<Request<Full<Bytes>>>, Fault)> {
        let mut sender = if let Some(sender) = self.sender.take() {
            sender
        } else {
            self.reconnects += 1;
            connect(&self.target).await.map_err(|fault| (None, fault))?
        };
        let sent = match &mut sender {
            Sender::One(sender) => match sender.ready().await {
                Ok(()) => sender.try_send_request(request).await,
                Err(error) => return Err((Some(request), broken(&error))),
            },
            Sender::Two(sender) => match sender.ready().await {
                Ok(()) => sender.try_send_request(request).await,
                Err(error) => return Err((Some(request), broken(&error))),
            },
        };
        self.sender = Some(sender);
        sent.map_err(|mut error| (error.take_message(), broken(error.error())))
    }

    fn request(&self, packet: Packet) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(packet.body));
        *request.method_mut() = packet.method;
        *request.uri_mut() = if self.target.http2 {
            let tls = self.target.tls.is_some();
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
            parts.authority = Some(self.target.authority.clone());
            parts.path_and_query = Some(packet.target);
            Uri::from_parts(parts).unwrap_or_default()
        } else {
            Uri::from(packet.target)
        };
        let mut headers = HeaderMap::with_capacity(packet.headers.len() + 4);
        headers.extend(self.host.clone().map(|host| (http::header::HOST, host)));
        headers.insert(http::header::USER_AGENT, HeaderValue::from_static("countersign-load"));
        headers.extend(packet.headers);
        *request.headers_mut() = headers;
        request
    }
}

/// Reads the body to its end, so that the connection can be used again, and keeps its first piece.
async fn read(response: Response<Incoming>) -> Result<Reply, Fault> {
    let status = response.status();
    let mut body = response.into_body();
    let (mut beginning, mut length) = (Bytes::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length > LONGEST_ANSWER {
            return Err(Fault::Broken("an answer that does not end".into()));
        }
        if beginning.is_empty() {
            beginning = data;
        }
    }
    Ok(Reply { status, beginning })
}

async fn connect(target: &Target) -> Result<Sender, Fault> {
    let failed = |error: std::io::Error| Fault::Connect(error.to_string());
    let socket = TcpStream::connect(target.address).await.map_err(failed)?;
    socket.set_nodelay(true).map_err(failed)?;
    match &target.tls {
        None => handshake(socket, target.http2).await,
        Some((connector, name)) => {
            let stream = connector.connect(name.clone(), socket).await.map_err(failed)?;
            handshake(stream, target.http2).await
        }
    }
}

/// Tells hyper the stream; its half of the work goes on as a task until the stream closes.
async fn handshake<S>(stream: S, two: bool) -> Result<Sender, Fault>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| Fault::Connect(error.to_string());
    let stream = TokioIo::new(stream);
    if two {
        let builder = http2::Builder::new(TokioExecutor::new());
        let (sender, connection) = builder.handshake(stream).await.map_err(failed)?;
        // How it ends is told to whoever sends next.
        tokio::spawn(async { drop(connection.await) });
        return Ok(Sender::Two(sender));
    }
    let (sender, connection) = http1::Builder::new().handshake(stream).await.map_err(failed)?;
    tokio::spawn(async { drop(connection.await) });
    Ok(Sender::One(sender))
}

fn broken(error: &hyper::Error) -> Fault {
    use std::error::Error as _;
    Fault::Broken(match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}

fn address(host: &str, port: u16, allow_remote: bool) -> Result<SocketAddr, String> {
    let found = (host, port).to_socket_addrs();
    let all: Vec<_> = found.map_err(|error| format!("cannot look up {host}: {error}"))?.collect();
    let first = all.first().ok_or_else(|| format!("{host} has no address"))?;
    if !allow_remote && !all.iter().all(|address| address.ip().to_canonical().is_loopback()) {
        return Err(format!(
            "{host} is not this machine: add --allow-remote if you may load it (it is yours)"
        ));
    }
    // Servers on the loopback often listen on IPv4 alone.
    Ok(*all.iter().find(|address| address.is_ipv4()).unwrap_or(first))
}

fn connector(ca: &[u8], http2: bool) -> Result<TlsConnector, String> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        let certificate = certificate.map_err(|error| format!("the CA file: {error}"))?;
        roots.add(certificate).map_err(|error| format!("the CA file: {error}"))?;
    }
    if roots.is_empty() {
        return Err("the CA file holds no certificate".into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn server_name(host: String) -> Result<ServerName<'static>, String> {
    ServerName::try_from(host).map_err(|error| format!("TLS: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        Target::parse(url, None, false, false).unwrap_err()
    }

    #[test]
    fn only_this_machine_is_loaded_unless_the_caller_says_otherwise() {
        assert!(Target::parse("http://127.0.0.1:8080", None, false, false).is_ok());
        assert!(Target::parse("http://[::1]:8080", None, false, false).is_ok());
        assert!(refusal("http://192.0.2.1").contains("--allow-remote"));
        assert!(Target::parse("http://192.0.2.1", None, false, true).is_ok());
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for url in
            ["", "localhost:1", "ftp://127.0.0.1", "http://127.0.0.1/api", "http://127.0.0.1?x"]
        {
            assert!(Target::parse(url, None, false, true).is_err(), "{url}");
        }
        assert!(refusal("https://127.0.0.1").contains("--ca"));
        assert!(Target::parse("https://127.0.0.1", Some(b"no PEM"), false, false).is_err());
    }
}
