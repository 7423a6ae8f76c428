//! Tells a service of the operator's what was unusual, signed as <https://www.standardwebhooks.com> has it.
//!
//! The queue is bounded and nobody waits for it: what it has no room for, or what is not taken after several tries,
//! is counted as lost. All of it is in the trail.

use std::fmt;
use std::io;
use std::net::ToSocketAddrs as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use sha2::Sha256;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::metrics::AuditMeter;

/// Where to tell what is unusual.
#[derive(Clone)]
pub struct Webhook {
    /// `http://…` or `https://…`.
    pub url: Uri,
    /// What each message is signed with.
    pub secret: Arc<Zeroizing<Vec<u8>>>,
    /// PEM file of the authorities that the service's certificate may come from; the system's where `None`.
    pub ca: Option<PathBuf>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the secret nor the address, which often holds one.
        f.write_str("Webhook(..)")
    }
}

/// Takes messages for the webhook.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: SyncSender<Vec<u8>>,
    meter: AuditMeter,
}

impl Outbox {
    /// Starts the thread that sends.
    pub(super) fn start(
        webhook: &Webhook,
        clock: Arc<dyn Clock>,
        meter: &AuditMeter,
    ) -> io::Result<Self> {
        let sender = Sender::new(webhook, clock, meter.clone())?;
        let (queue, messages) = sync_channel(QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || sender.run(&runtime, &messages);
        std::thread::Builder::new().name("audit-webhook".into()).spawn(run)?;
        Ok(Self { queue, meter: meter.clone() })
    }

    /// Has records told, each of which is an object that lacks its end, and a newline.
    pub(super) fn post(&self, records: &[u8]) {
        for record in super::chain::lines(records) {
            if self.queue.try_send([record, b"}"].concat()).is_err() {
                self.meter.webhook(false);
            }
        }
    }
}

struct Sender {
    url: Uri,
    secret: Arc<Zeroizing<Vec<u8>>>,
    tls: Option<TlsConnector>,
    clock: Arc<dyn Clock>,
    meter: AuditMeter,
}

impl Sender {
    fn new(webhook: &Webhook, clock: Arc<dyn Clock>, meter: AuditMeter) -> io::Result<Self> {
        let tls = match webhook.url.scheme_str() {
            Some("https") => Some(connector(webhook.ca.as_deref())?),
            _ => None,
        };
        Ok(Self {
            url: webhook.url.clone(),
            secret: Arc::clone(&webhook.secret),
            tls,
            clock,
            meter,
        })
    }

    /// Sends until nobody can ask for it any more.
    fn run(&self, runtime: &tokio::runtime::Runtime, messages: &Receiver<Vec<u8>>) {
        while let Ok(record) = messages.recv() {
            let mut pause = FIRST_PAUSE;
            let mut taken = false;
            let id = message_id();
            for attempt in 0..TRIES {
                if attempt > 0 {
                    std::thread::sleep(pause);
                    pause *= 2;
                }
                let sent = runtime.block_on(async {
                    tokio::time::timeout(PATIENCE, self.send(&id, &record)).await
                });
                match sent {
                    Ok(Ok(status)) if status.is_success() => {
                        taken = true;
                        break;
                    }
                    // It is asked no more, as the standard has it.
                    Ok(Ok(StatusCode::GONE)) => break,
                    Ok(Ok(_) | Err(_)) | Err(_) => {}
                }
            }
            if !taken {
                tracing::warn!("the audit webhook does not take a message; it is in the trail");
            }
            self.meter.webhook(taken);
        }
    }

    async fn send(&self, id: &str, record: &[u8]) -> io::Result<StatusCode> {
        let seconds = self.clock.now().0 / 1_000_000;
        let body = body(record);
        let host = self.url.host().unwrap_or_default();
        let port = self.url.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let target = self.url.path_and_query().map_or("/", |target| target.as_str());
        let request = Request::post(target)
            .header(header::HOST, self.url.authority().map_or(host, |authority| authority.as_str()))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("countersign/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signature(&self.secret, id, seconds, &body))
            .body(Full::new(Bytes::from(body)))
            .map_err(io::Error::other)?;
        // On a thread of its own, which may wait for names.
        let bare = host.trim_matches(['[', ']']);
        let address = (bare, port).to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
        let stream = TcpStream::connect(address).await?;
        match &self.tls {
            None => exchange(stream, request).await,
            Some(tls) => {
                let name = ServerName::try_from(bare.to_owned()).map_err(io::Error::other)?;
                exchange(tls.connect(name, stream).await?, request).await
            }
        }
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> io::Result<StatusCode>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let asked = sender.send_request(request);
    tokio::pin!(connection, asked);
    loop {
        tokio::select! {
            reply = &mut asked => return reply.map(|reply| reply.status()).map_err(io::Error::other),
            ended = &mut connection => ended.map_err(io::Error::other)?,
        }
    }
}

/// `{"type":…,"timestamp":…,"data":…}`, where the data is the record.
fn body(record: &[u8]) -> Vec<u8> {
    let parsed: serde_json::Value = serde_json::from_slice(record).unwrap_or_default();
    let text = |name| parsed.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
    let message = serde_json::json!({
        "type": format!("key.{}", text("event")),
        "timestamp": text("time"),
        "data": &parsed,
    });
    message.to_string().into_bytes()
}

/// `v1,` and the HMAC-SHA256 of id, time and body, in base64.
fn signature(secret: &[u8], id: &str, seconds: u64, body: &[u8]) -> String {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return String::new() };
    mac.update(format!("{id}.{seconds}.").as_bytes());
    mac.update(body);
    format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()))
}

/// The bytes of a secret as the standard writes it, `whsec_` and base64; or the text itself.
pub fn secret(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let decoded = text.strip_prefix(b"whsec_").and_then(|rest| BASE64.decode(rest).ok());
    Zeroizing::new(decoded.unwrap_or_else(|| text.to_vec()))
}

fn message_id() -> String {
    let mut bytes = [0; 16];
    // An id that is not random is still an id.
    let _ = getrandom::fill(&mut bytes);
    format!("msg_{}", HEXLOWER.encode(&bytes))
}

fn connector(ca: Option<&Path>) -> io::Result<TlsConnector> {
    let found = SYSTEM.iter().map(Path::new).find(|path| path.exists());
    let path = ca.or(found).ok_or_else(|| {
        io::Error::other("no certificate authorities were found: give `ca` under `[audit.webhook]`")
    })?;
    let mut roots = rustls::RootCertStore::empty();
    let read = CertificateDer::pem_file_iter(path).map_err(io::Error::other)?;
    roots.add_parsable_certificates(read.filter_map(Result::ok));
    if roots.is_empty() {
        return Err(io::Error::other(format!("{} holds no certificate", path.display())));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Where systems keep the authorities they trust.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// Messages that wait at a time.
const QUEUE: usize = 256;
/// How often a message is tried.
const TRIES: u32 = 6;
/// The pause before the second try; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest that one try takes.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::clock::{ManualClock, Micros};

    #[test]
    fn a_message_is_signed_as_the_standard_shows() {
        // The example of the standard's own libraries.
        let secret = secret(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed = signature(
            &secret,
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_message_is_tried_again_until_it_is_taken() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap()).parse().unwrap();
        let webhook = Webhook { url, secret: Arc::new(secret(b"a secret")), ca: None };
        let clock = Arc::new(ManualClock::at(Micros::from_millis(1_700_000_000_000)));
        let outbox = Outbox::start(&webhook, clock, &crate::audit::tests::meter()).unwrap();
        outbox.post(b"{\"v\":1,\"event\":\"new_network\",\"time\":\"t\"\n");
        let mut ids = Vec::new();
        for status in ["503 Service Unavailable", "200 OK"] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = String::new();
            while !text.ends_with("\"}}") && !text.ends_with("new_network\"}") {
                let mut bytes = [0; 4096];
                let read = stream.read(&mut bytes).unwrap();
                assert!(read > 0, "{text}");
                text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
            }
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let field = |name: &str| {
                let line = head.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                line.trim().to_owned()
            };
            assert_eq!(field("webhook-timestamp:"), "1700000000");
            let id = field("webhook-id:");
            let signed = signature(b"a secret", &id, 1_700_000_000, body.as_bytes());
            assert_eq!(field("webhook-signature:"), signed);
            assert!(body.contains("\"type\":\"key.new_network\""), "{body}");
            ids.push(id);
        }
        assert_eq!(ids[0], ids[1]);
    }
}
