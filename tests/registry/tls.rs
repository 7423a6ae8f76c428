//! TLS to the server: with who may vouch for it, and under the name it was asked for by, or not at all.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use countersign::registry::book::{Kind, Registry as _, RegistryError};
use countersign::registry::postgres::{Options, Postgres};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::server::{Server, blocking, give_away, open};
use super::support::{key, note};

/// A certificate for `name` that vouches for itself, and its key, as PEM.
fn certificate(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    roots
}

fn for_server(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    give_away(path);
}

#[tokio::test]
async fn a_server_must_prove_its_name_to_who_asks_for_proof() {
    let files = tempfile::tempdir().unwrap();
    give_away(files.path());
    let (cert_file, key_file) = (files.path().join("cert.pem"), files.path().join("key.pem"));
    let (cert, private) = certificate("localhost");
    for_server(&cert_file, &cert);
    for_server(&key_file, &private);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::start(&[
        "fsync=off",
        "listen_addresses=127.0.0.1",
        &format!("port={port}"),
        "ssl=on",
        &format!("ssl_cert_file={}", cert_file.display()),
        &format!("ssl_key_file={}", key_file.display()),
    ]);
    let options = |host: &str, vouching: &str| {
        let url = format!("postgres://postgres@{host}:{port}/postgres?hostaddr=127.0.0.1");
        Options::new(&url, Some(roots(vouching))).unwrap()
    };
    let good = options("localhost", &cert);
    blocking(&good, |options| Postgres::migrate(&options)).await.unwrap();
    let store = open(&good).await.unwrap();
    store.commit(vec![key("one", None)], note(0)).await.unwrap();
    assert!(store.find(Kind::Key, "one").await.unwrap().is_some());
    assert_eq!(store.key_tags().await.unwrap().0.len(), 1);
    let (stranger, _) = certificate("localhost");
    for bad in [options("localhost", &stranger), options("db.example", &cert)] {
        let refused = open(&bad).await.unwrap_err();
        let RegistryError::Unavailable(why) = &refused else { panic!("{refused}") };
        assert!(why.contains("certificate"), "{why}");
    }
    server.stop_immediately();
    server.run_without("ssl=on");
    let refused = open(&good).await.unwrap_err();
    assert!(refused.to_string().contains("does not support TLS"), "{refused}");
}
