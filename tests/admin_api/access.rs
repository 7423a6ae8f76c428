//! Who is let in, through which door.

use std::sync::Arc;

use countersign::admin::{
    Access, AdminApi, AdminState, Desk, Door, Facts, LogAlone, Named, Readiness, Role, Token,
    acceptor, serve_at,
};
use countersign::clock::{Clock, ManualClock};
use countersign::config::{AdminTls, Config, DEMO, System, TlsFiles};
use countersign::key::sealing::MasterKeys;
use countersign::metrics::{Labels, Metrics};
use countersign::registrar::Registrar;
use countersign::registry::embedded::Embedded;
use countersign::registry::opened::Names;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Answer, NOW, OPERATOR, Rig, SECURITY, VIEWER};

#[tokio::test]
async fn nobody_is_let_in_without_a_right_token() {
    let rig = Rig::start().await;
    for token in ["", "wrong", &VIEWER[1..], &format!("{VIEWER}x"), &VIEWER.to_uppercase()] {
        for path in ["/v1/keys", "/v1/openapi.json", "/v1/nothing", "/v1", "/v1/"] {
            let refused = rig.call(token, "GET", path, Value::Null).await;
            assert!([401, 429].contains(&refused.status), "{path}: {}", refused.text);
            assert!(refused.body["cure"].is_string());
        }
    }
    rig.get("/v1/keys").await.is(200);
    assert!(rig.heard.calls.lock().unwrap().iter().all(|(actor, ..)| actor == "vera"));
}

#[tokio::test]
async fn wrong_tokens_wait_and_leave_few_records_while_right_ones_are_served() {
    let rig = Rig::start().await;
    for count in 1..=25 {
        let refused = rig.call("wrong", "GET", "/v1/keys", Value::Null).await;
        assert_eq!(refused.status, if count <= 10 { 401 } else { 429 }, "{count}");
        assert_eq!(refused.field("retry-after").is_some(), count > 10);
        assert_eq!(refused.field("www-authenticate").is_some(), count <= 10);
    }
    rig.get("/v1/keys").await.is(200);
    let local = Some("127.0.0.1".parse().unwrap());
    assert_eq!(*rig.heard.unproven.lock().unwrap(), [(local, 1), (local, 10)]);
    rig.clock.advance(std::time::Duration::from_mins(1));
    rig.call("wrong", "GET", "/v1/keys", Value::Null).await.is(401);
}

#[tokio::test]
async fn the_unix_socket_lets_its_owner_in_and_nobody_else_can_open_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let rig = Rig::start().await;
    let mode = std::fs::metadata(&rig.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let ask = |fields: &str| {
        format!("GET /v1/whoami HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n")
    };
    let said = Answer::read(&rig.raw_local(ask("").as_bytes()).await).is(200);
    assert_eq!((&said.body["role"], &said.body["proof"]), (&json!("security"), &json!("socket")));
    assert!(said.body["actor"].as_str().unwrap().starts_with("uid:"));
    let less = ask(&format!("authorization: Bearer {VIEWER}\r\n"));
    assert_eq!(Answer::read(&rig.raw_local(less.as_bytes()).await).is(200).body["actor"], "vera");
    let wrong = ask("authorization: Bearer x\r\n");
    Answer::read(&rig.raw_local(wrong.as_bytes()).await).is(401);
    let health = b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    assert!(rig.raw_local(health).await.starts_with(b"HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_socket_in_use_is_not_taken_and_an_abandoned_one_is() {
    use countersign::admin::Socket;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let first = Socket::bind(&path).unwrap();
    let error = Socket::bind(&path).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    drop(first);
    assert!(!path.exists(), "it goes with its server");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left behind");
    drop(Socket::bind(&path).unwrap());
    std::fs::write(&path, "precious").unwrap();
    Socket::bind(&path).unwrap_err();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn health_needs_no_credentials() {
    let rig = Rig::start().await;
    for path in ["/livez", "/metrics"] {
        let ask = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let said = rig.raw(ask.as_bytes()).await;
        assert!(said.starts_with(b"HTTP/1.1 200 "), "{path}");
    }
}

#[tokio::test]
async fn every_call_is_noted_with_who_what_and_how_it_ended() {
    let rig = Rig::start().await;
    let id = rig.key("ann").await["id"].as_str().unwrap().to_owned();
    rig.get(&format!("/v1/keys/{id}")).await.is(200);
    rig.call(VIEWER, "POST", &format!("/v1/keys/{id}/revoke"), Value::Null).await.is(403);
    rig.call(OPERATOR, "POST", "/v1/keys/nobody/revoke", Value::Null).await.is(404);
    rig.call(OPERATOR, "PUT", "/v1/keys", Value::Null).await.is(405);
    rig.call(OPERATOR, "GET", "/v1/nothing", Value::Null).await.is(404);
    rig.call(OPERATOR, "POST", "/v1/keys", json!({"account": 1})).await.is(422);
    let noted = rig.heard.calls.lock().unwrap().clone();
    let call = |actor: &str, operation: &str, subject: Option<&str>, status| {
        (actor.to_owned(), operation.to_owned(), subject.map(ToOwned::to_owned), status)
    };
    assert_eq!(
        noted,
        [
            call("sue", "keys.create", Some(&id), 201),
            call("vera", "keys.show", Some(&id), 200),
            call("vera", "keys.revoke", Some(&id), 403),
            call("oscar", "keys.revoke", Some("nobody"), 404),
            call("oscar", "-", None, 405),
            call("oscar", "-", None, 404),
            call("oscar", "keys.create", None, 422),
        ]
    );
}

#[tokio::test]
async fn nothing_is_changed_while_the_trail_cannot_be_written() {
    let rig = Rig::start().await;
    *rig.heard.broken.lock().unwrap() = true;
    let key = json!({"account": "ann", "dialect": "binance", "permissions": ["read"]});
    let refused = rig.post("/v1/keys", key).await.is(503);
    assert!(refused.body["detail"].as_str().unwrap().contains("audit"), "{}", refused.text);
    assert_eq!(rig.get("/v1/keys").await.is(200).body["items"], json!([]));
}

#[tokio::test]
async fn a_client_certificate_says_who_calls() {
    let pki = Pki::make();
    let address = pki.serve().await;
    let whoami = |extra: &str| {
        format!("GET /v1/whoami HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{extra}\r\n")
    };
    let ask = async |client: Option<&str>, extra: &str| {
        let mut stream = pki.connect(address, client).await?;
        stream.write_all(whoami(extra).as_bytes()).await.ok()?;
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.ok()?;
        Some(Answer::read(&said))
    };
    let known = ask(Some("known"), "").await.unwrap().is(200);
    assert_eq!(
        known.body,
        json!({"actor": "cert:ann@ops.example", "role": "operator", "proof": "certificate"})
    );
    // The browser of whoever has it shows it to every page's requests.
    ask(Some("known"), "origin: https://evil.example\r\n").await.unwrap().is(403);
    ask(Some("known"), "sec-fetch-site: cross-site\r\n").await.unwrap().is(403);
    ask(Some("known"), "sec-fetch-site: none\r\n").await.unwrap().is(200);
    ask(Some("unknown"), "").await.unwrap().is(401);
    ask(None, "").await.unwrap().is(401);
    let token = format!("authorization: Bearer {SECURITY}\r\n");
    assert_eq!(ask(None, &token).await.unwrap().is(200).body["actor"], "sue");
    assert!(ask(Some("foreign"), "").await.is_none(), "another authority's");
}

/// An authority, a server, and clients.
struct Pki {
    dir: tempfile::TempDir,
    server: String,
}

impl Pki {
    fn make() -> Self {
        use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
        };
        let authority = || {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let certificate = params.self_signed(&key).unwrap();
            (certificate.pem(), Issuer::new(params, key))
        };
        let ((ours, issuer), (_, foreign)) = (authority(), authority());
        write("ca.pem", &ours);
        for (name, mail, issuer) in [
            ("known", "ann@ops.example", &issuer),
            ("unknown", "bob@ops.example", &issuer),
            ("foreign", "ann@ops.example", &foreign),
        ] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![SanType::Rfc822Name(mail.try_into().unwrap())];
            let certificate = params.signed_by(&key, issuer).unwrap();
            write(&format!("{name}.pem"), &certificate.pem());
            write(&format!("{name}.key"), &key.serialize_pem());
        }
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        write("server.pem", &made.cert.pem());
        write("server.key", &made.signing_key.serialize_pem());
        Self { server: made.cert.pem(), dir }
    }

    async fn serve(&self) -> std::net::SocketAddr {
        let at = |name: &str| self.dir.path().join(name);
        let files = TlsFiles { cert: at("server.pem"), key: at("server.key") };
        let acceptor = acceptor(&AdminTls { files, client_ca: Some(at("ca.pem")) }).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
        let config = Config::parse(DEMO, std::path::Path::new("demo.toml"), &System).unwrap();
        let registrar = Registrar::new(
            Arc::new(Embedded::in_memory().unwrap()),
            MasterKeys::gather(None, None).unwrap(),
            Arc::new(Names::of(&config.config)),
            Arc::clone(&clock),
            None,
        );
        let facts =
            Facts { started: NOW, four_eyes: Vec::new(), issuer: "test".into(), gateway: None };
        let desk = Desk { clock, registrar, trail: None, facts };
        let tokens = vec![Token::new("sue", Role::Security, SECURITY.as_bytes())];
        let named = vec![Named { name: "ann@ops.example".into(), role: Role::Operator }];
        let api = AdminApi::new(desk, Access::new(tokens, named, Vec::new()), Arc::new(LogAlone));
        let labels = Labels {
            routes: &[],
            upstreams: &[],
            dialects: &[],
            stores: &["memory"],
            listeners: &[],
        };
        let metrics = Arc::new(Metrics::new(&labels).unwrap());
        let state = AdminState::new(metrics, Readiness::starting(), Vec::new());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let door = Door::Tls(listener, acceptor);
        tokio::spawn(serve_at(door, state.with_api(api.unwrap()), std::future::pending()));
        address
    }

    /// A connection with the certificate of this client; `None` where it is refused at once.
    async fn connect(
        &self,
        address: std::net::SocketAddr,
        client: Option<&str>,
    ) -> Option<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.server.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let at = |end: &str| self.dir.path().join(format!("{name}.{end}"));
                let chain = vec![CertificateDer::from_pem_file(at("pem")).unwrap()];
                let key = PrivateKeyDer::from_pem_file(at("key")).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()
    }
}
