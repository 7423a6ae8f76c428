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
        Self::with(webhook, clock, meter, PATIENCE)
    }

    fn with(
        webhook: &Webhook,
        clock: Arc<dyn Clock>,
        meter: &AuditMeter,
        patience: Patience,
    ) -> io::Result<Self> {
        let sender = Sender { patience, ..Sender::new(webhook, clock, meter.clone())? };
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

/// How long a message is tried.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// How often.
    tries: u32,
    /// The pause before the second try; each further one is twice as long.
    pause: Duration,
    /// The longest that one try takes.
    within: Duration,
}

struct Sender {
    url: Uri,
    secret: Arc<Zeroizing<Vec<u8>>>,
    tls: Option<TlsConnector>,
    clock: Arc<dyn Clock>,
    meter: AuditMeter,
    patience: Patience,
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
            patience: PATIENCE,
        })
    }

    /// Sends until nobody can ask for it any more.
    fn run(&self, runtime: &tokio::runtime::Runtime, messages: &Receiver<Vec<u8>>) {
        while let Ok(record) = messages.recv() {
            let Patience { tries, mut pause, within } = self.patience;
            let mut taken = false;
            let id = message_id();
            for attempt in 0..tries {
                if attempt > 0 {
                    std::thread::sleep(pause);
                    pause *= 2;
                }
                let sent = runtime.block_on(async {
                    tokio::time::timeout(within, self.send(&id, &record)).await
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

/// TLS to services that show a certificate of an authority in `ca`, or of one that the system trusts.
pub(crate) fn connector(ca: Option<&Path>) -> io::Result<TlsConnector> {
    let found = SYSTEM.iter().map(Path::new).find(|path| path.exists());
    let path = ca.or(found).ok_or_else(|| {
        io::Error::other("the system has no certificate authorities: name a file of them as `ca`")
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
const PATIENCE: Patience =
    Patience { tries: 6, pause: Duration::from_secs(1), within: Duration::from_secs(10) };

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read, Write};
    use std::net::{SocketAddr, TcpListener};

    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;
    use crate::clock::{ManualClock, Micros};

    const RECORD: &[u8] = b"{\"v\":1,\"event\":\"new_network\",\"time\":\"t\"\n";
    const SECRET: &[u8] = b"a secret";

    /// Tries soon, and gives up soon.
    const QUICK: Patience =
        Patience { tries: 3, pause: Duration::from_millis(1), within: Duration::from_millis(200) };

    fn outbox(url: &str, ca: Option<PathBuf>, patience: Patience) -> (Outbox, AuditMeter) {
        let url = url.parse().unwrap();
        let webhook = Webhook { url, secret: Arc::new(secret(SECRET)), ca };
        let clock = Arc::new(ManualClock::at(Micros::from_millis(1_700_000_000_000)));
        let meter = crate::audit::tests::meter();
        (Outbox::with(&webhook, clock, &meter, patience).unwrap(), meter)
    }

    /// Waits until so many messages were delivered, and so many lost.
    fn counted(meter: &AuditMeter, delivered: u64, lost: u64) {
        for _ in 0..3_000 {
            if meter.webhooks() == (delivered, lost) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{:?} is not {:?}", meter.webhooks(), (delivered, lost));
    }

    /// Reads a message whole, sees that its signature holds, and answers its id and its body.
    fn received(stream: &mut (impl Read + Write), status: &str) -> Option<(String, String)> {
        let mut reader = BufReader::new(stream);
        let (mut fields, mut line) = (Vec::new(), String::new());
        while reader.read_line(&mut line).ok()? > 2 {
            let (name, value) = line.trim_end().split_once(": ").unwrap_or_default();
            fields.push((name.to_owned(), value.to_owned()));
            line.clear();
        }
        let field = |name: &str| {
            fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        let mut body = vec![0; field("content-length")?.parse().unwrap()];
        reader.read_exact(&mut body).ok()?;
        let (id, seconds) = (field("webhook-id")?, field("webhook-timestamp")?);
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET);
        let signed = [format!("{id}.{seconds}.").as_bytes(), &body].concat();
        let given = field("webhook-signature")?;
        let given = BASE64.decode(given.strip_prefix("v1,").unwrap().as_bytes()).unwrap();
        ring::hmac::verify(&key, &signed, &given).expect("the signature holds");
        assert_eq!(seconds, "1700000000");
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        reader.get_mut().write_all(answer.as_bytes()).ok()?;
        reader.get_mut().flush().ok()?;
        Some((id, String::from_utf8(body).unwrap()))
    }

    /// A certificate for this machine, and a server's configuration with it.
    fn certificate(directory: &Path) -> (PathBuf, Arc<ServerConfig>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let path = directory.join("ca.pem");
        std::fs::write(&path, made.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        (path, Arc::new(config))
    }

    /// A listener that the name `localhost` leads to.
    fn listen() -> (TcpListener, String) {
        let here = ("localhost", 0).to_socket_addrs().unwrap().collect::<Vec<SocketAddr>>();
        let listener = TcpListener::bind(here.first().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, format!("https://localhost:{port}/hook"))
    }

    #[test]
    fn a_message_goes_over_tls_to_who_proves_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let (ca, config) = certificate(directory.path());
        let (listener, url) = listen();
        let (outbox, meter) = outbox(&url, Some(ca), PATIENCE);
        outbox.post(RECORD);
        let (socket, _) = listener.accept().unwrap();
        let connection = ServerConnection::new(config).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        let (id, body) = received(&mut stream, "200 OK").unwrap();
        assert!(id.starts_with("msg_") && body.contains("key.new_network"), "{id} {body}");
        counted(&meter, 1, 0);
    }

    #[test]
    fn who_proves_another_name_gets_nothing_and_is_asked_only_so_often() {
        let directory = tempfile::tempdir().unwrap();
        let (ca, _) = certificate(directory.path());
        let (_, config) = certificate(tempfile::tempdir().unwrap().path());
        let (listener, url) = listen();
        let (outbox, meter) = outbox(&url, Some(ca), QUICK);
        outbox.post(RECORD);
        for _ in 0..QUICK.tries {
            let (socket, _) = listener.accept().unwrap();
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            assert!(received(&mut StreamOwned::new(connection, socket), "200 OK").is_none());
        }
        counted(&meter, 0, 1);
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "it is not asked again");
    }

    #[test]
    fn a_receiver_that_hangs_keeps_nobody_and_costs_so_many_messages_at_most() {
        let (listener, url) = listen();
        let (outbox, meter) = outbox(&url.replace("https", "http"), None, QUICK);
        let hung = std::thread::spawn(move || -> Vec<_> {
            (0..QUICK.tries * 2).map(|_| listener.accept().unwrap()).collect()
        });
        // More than there is room for: whoever posts does not wait.
        for _ in 0..QUEUE + 10 {
            outbox.post(RECORD);
        }
        let (delivered, lost) = meter.webhooks();
        assert!(delivered == 0 && lost >= 9, "{lost} found no room");
        assert_eq!(hung.join().unwrap().len(), 6, "each message is tried so often, and no more");
    }

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
        let (listener, url) = listen();
        let patience = Patience { within: Duration::from_secs(30), ..QUICK };
        let (outbox, meter) = outbox(&url.replace("https", "http"), None, patience);
        outbox.post(RECORD);
        let ids = ["503 Service Unavailable", "200 OK"].map(|status| {
            let (mut stream, _) = listener.accept().unwrap();
            let (id, body) = received(&mut stream, status).unwrap();
            assert!(body.contains("\"type\":\"key.new_network\""), "{body}");
            id
        });
        assert_eq!(ids[0], ids[1]);
        counted(&meter, 1, 0);
    }
}
