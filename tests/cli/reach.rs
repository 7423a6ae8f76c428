//! How the gateway is found, and what is said when it is not there or says no.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use crate::stub::{Stub, TOKEN, Told, run, words};

#[test]
fn a_socket_needs_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    let stub = Stub::on_socket(&path, |_| Told::Answer(200, json!({"id": "csk_1"})));
    let said = run(&words(&format!("keys show csk_1 --json --admin {}", stub.url)), &[]);
    assert_eq!(said.json(), json!({"schema": 1, "id": "csk_1"}));
    assert_eq!(stub.asked()[0].field("authorization"), None);
}

#[test]
fn a_token_file_counts_before_the_environment_and_must_be_ours_alone() {
    let stub = Stub::always(200, json!({"id": "csk_1"}));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::File::create(&file).unwrap().write_all(b"csa_filed\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let line = format!("keys show csk_1 --token-file {}", file.display());
    assert_eq!(stub.run(&line).code, Some(0));
    assert_eq!(stub.asked()[0].field("authorization"), Some("Bearer csa_filed"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = stub.run(&line);
    assert_eq!((said.code, said.err.contains("chmod 600")), (Some(2), true), "{said:?}");
    assert!(!said.err.contains("csa_"), "{said:?}");
}

#[test]
fn a_token_is_not_sent_in_clear_over_a_network() {
    let said = run(&words("keys list --admin http://192.0.2.1:9180"), &[TOKEN]);
    assert_eq!((said.code, said.err.contains("https://")), (Some(2), true), "{said:?}");
}

#[test]
fn nobody_there_is_said_with_the_cure() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = run(&words(&format!("keys list --admin http://{free}")), &[]);
    assert_eq!(said.code, Some(1));
    let start =
        format!("countersign keys list: no gateway answers at http://{free}: connection refused\n");
    assert!(said.err.starts_with(&start) && said.err.contains("countersign demo"), "{said:?}");
    let said = run(&words("keys list --admin unix:///nowhere/admin.sock"), &[]);
    assert!(said.err.contains("unix:///nowhere/admin.sock: no such file"), "{said:?}");
}

#[test]
fn what_is_no_admin_api_is_named() {
    for bytes in
        ["SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>"]
    {
        let stub = Stub::new(move |_| Told::Bytes(bytes));
        let said = stub.run("keys list");
        assert_eq!((said.code, said.err.contains("is no admin API")), (Some(1), true), "{said:?}");
    }
}

#[test]
fn a_refusal_is_told_in_the_words_of_the_api() {
    let stub = Stub::always(
        403,
        json!({"title": "Forbidden", "status": 403, "detail": "The role viewer may not.", "cure": "call with credentials of the role security"}),
    );
    let said = stub.run("keys revoke csk_1 --yes");
    let expected = "countersign keys revoke: Forbidden: The role viewer may not. (403)\n  call with credentials of the role security\n";
    assert_eq!((said.code, &*said.err), (Some(1), expected), "{said:?}");
    let said = Stub::always(401, json!(null)).run("keys list");
    assert!(said.err.contains("the token is not known"), "{said:?}");
}

#[test]
fn what_reads_tries_again_and_what_changes_is_sent_once() {
    let stub = Stub::new({
        let count = AtomicUsize::new(0);
        move |_| match count.fetch_add(1, Ordering::Relaxed) {
            0 => Told::Nothing,
            1 => Told::Answer(503, json!({"title": "later"})),
            _ => Told::Answer(200, json!({"id": "csk_1"})),
        }
    });
    assert_eq!(stub.run("keys show csk_1 -q").out, "csk_1\n");
    assert_eq!(stub.asked().len(), 3);

    let stub = Stub::new(|_| Told::Nothing);
    let said = stub.run("keys suspend csk_1");
    let asked = stub.asked();
    assert_eq!((said.code, asked.len()), (Some(1), 1), "{said:?}");
    let key = asked[0].field("idempotency-key").unwrap();
    assert!(said.err.contains(&format!("--idempotency-key {key}")), "{said:?}");
}

#[test]
fn what_waits_for_a_second_person_is_said() {
    let stub = Stub::always(202, json!({"id": "ap_1", "state": "pending"}));
    let said = stub.run("keys update csk_1 --permissions withdraw");
    assert_eq!((said.code, &*said.out), (Some(0), ""), "{said:?}");
    assert!(said.err.contains("countersign approvals approve ap_1"), "{said:?}");
    let said = stub.run("keys create --account a --json");
    assert_eq!(said.json(), json!({"schema": 1, "id": "ap_1", "state": "pending"}));
}

#[test]
fn tls_is_spoken_with_a_certificate_of_ours_and_theirs_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&cert).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_file(&cert).unwrap()],
            PrivateKeyDer::from_pem_file(&key).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let stub = Stub::serve(
        url,
        move || listener.accept().map(|(stream, _)| stream),
        move |stream| StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream),
        |_| Told::Answer(200, json!({"id": "csk_1"})),
    );
    let (ca, key) = (cert.display(), key.display());
    let said = stub.run(&format!("keys show csk_1 -q --ca {ca} --cert {ca} --cert-key {key}"));
    assert_eq!((said.code, &*said.out), (Some(0), "csk_1\n"), "{said:?}");
    assert_eq!(stub.run(&format!("keys show csk_1 --ca {ca}")).code, Some(1));
    // This machine's authorities do not know it, if there are any.
    let said = stub.run(&format!("keys show csk_1 --cert {ca} --cert-key {key}"));
    assert!(matches!(said.code, Some(1 | 2)), "{said:?}");
    assert_eq!(stub.asked().len(), 1);
}
