//! Secrets are told once, and nowhere else.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::stub::{Stub, TOKEN, Told, run_reading, words};

fn made() -> Value {
    json!({"id": "csk_1", "secret": "planted", "passphrase": "phrase", "key": {"id": "csk_1", "account": "alice",
        "permissions": ["read"], "expires": "2099-01-01T00:00:00Z"}})
}

#[test]
fn a_new_secret_goes_to_standard_output_and_the_warning_beside_it() {
    let said = Stub::always(201, made()).run("keys create --account alice");
    let expected = "id           csk_1\nsecret       planted\npassphrase   phrase\naccount      alice\n\
        permissions  read\nexpires      2099-01-01T00:00:00Z\n";
    assert_eq!((said.code, &*said.out), (Some(0), expected), "{said:?}");
    assert_eq!(
        said.err,
        "The secret is told this once and cannot be had again: put it away now.\n"
    );
    let said = Stub::always(201, made()).run("keys create --account alice --json").json();
    let top = (&said["schema"], &said["id"], &said["secret"], &said["passphrase"]);
    assert_eq!(top, (&json!(1), &json!("csk_1"), &json!("planted"), &json!("phrase")));
}

#[test]
fn a_secret_file_is_new_and_ours_alone_and_then_nothing_else_tells_the_secret() {
    let rotated =
        json!({"id": "csk_1", "secret": "planted", "cut_off": "2099-01-01T00:00:00Z", "key": {}});
    let compromised = json!({"revoked": "csk_0", "replacement": made(), "activity": []});
    for (line, answer) in [
        ("keys create --account alice", made()),
        ("keys rotate csk_1", rotated),
        ("keys compromised csk_0 --yes", compromised),
        (
            "otp enrol alice",
            json!({"uri": "otpauth://planted", "secret": "planted", "recovery": ["planted"]}),
        ),
    ] {
        for form in ["", "--json", "-q"] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("secret");
            let stub = Stub::always(200, answer.clone());
            let line = format!("{line} {form} --secret-file {}", file.display());
            let said = stub.run(&line);
            assert_eq!(said.code, Some(0), "{line}: {said:?}");
            assert!(
                !said.out.contains("planted") && !said.err.contains("planted"),
                "{line}: {said:?}"
            );
            assert!(std::fs::read_to_string(&file).unwrap().contains("planted"), "{line}");
            let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{line}");

            let again = stub.run(&line);
            assert_eq!((again.code, stub.asked().len()), (Some(2), 1), "{line}: {again:?}");
            assert!(again.err.contains("not overwritten"), "{line}: {again:?}");
        }
    }
}

#[test]
fn no_secret_is_made_that_nobody_would_see() {
    for line in [
        "keys create --account a -q",
        "keys rotate csk_1 -q",
        "keys compromised csk_1 --yes -q",
        "otp enrol a -q",
    ] {
        let stub = Stub::always(200, made());
        let said = stub.run(line);
        assert_eq!((said.code, stub.asked().len()), (Some(2), 0), "{line}: {said:?}");
        assert!(said.err.contains("--secret-file"), "{line}: {said:?}");
    }
    // A public key has no secret that could be lost.
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("key.pem");
    std::fs::write(&pem, "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n").unwrap();
    let stub = Stub::always(201, json!({"id": "csk_1", "key": {}}));
    let said = stub.run(&format!("keys create --account a -q --public-key {}", pem.display()));
    assert_eq!((said.code, &*said.out), (Some(0), "csk_1\n"), "{said:?}");
}

#[test]
fn a_refusal_leaves_no_file_behind() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    let stub = Stub::always(403, json!({"title": "no"}));
    for line in [
        "keys create --account a",
        "keys rotate csk_1",
        "keys compromised csk_1 --yes",
        "otp enrol a",
    ] {
        let said = stub.run(&format!("{line} --secret-file {}", file.display()));
        assert_eq!((said.code, file.exists()), (Some(1), false), "{line}: {said:?}");
    }
    let said = stub.run(&format!("keys compromised csk_1 --secret-file {}", file.display()));
    assert_eq!((said.code, file.exists()), (Some(2), false), "{said:?}");
}

#[test]
fn a_secret_that_is_imported_is_told_to_the_api_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "planted-secret\n").unwrap();
    for (status, code) in [(201, 0), (422, 1)] {
        let stub = Stub::new(move |asked| {
            Told::Answer(status, json!({"id": "old", "title": "wrong", "seen": asked.path}))
        });
        let import = |how: &str, input: &str| {
            let line = format!("keys import --id old --account a {how} --passphrase-env P");
            let variables = [
                ("COUNTERSIGN_ADMIN", &*stub.url),
                TOKEN,
                ("P", "planted-phrase"),
                ("S", "planted-secret"),
            ];
            let said = run_reading(&words(&line), &variables, input);
            assert_eq!(said.code, Some(code), "{said:?}");
            assert!(!said.out.contains("planted") && !said.err.contains("planted"), "{said:?}");
            let body = stub.asked().pop().unwrap().body;
            assert_eq!(
                (&body["secret"], &body["passphrase"]),
                (&json!("planted-secret"), &json!("planted-phrase"))
            );
        };
        import("--secret-env S", "");
        import("--secret-from -", "planted-secret\n");
        import(&format!("--secret-from {}", Path::new(&file).display()), "");
    }
}
