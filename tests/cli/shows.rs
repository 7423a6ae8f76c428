//! What is printed, and what is asked before something is destroyed.

use serde_json::json;

use crate::stub::{Stub, run, words};

#[test]
fn what_destroys_is_refused_where_nobody_can_be_asked() {
    for line in [
        "keys revoke csk_1",
        "keys compromised csk_1 --json",
        "keys rotate csk_1 --overlap 0s",
        "accounts freeze alice",
        "apps stop bot",
        "apps compromised bot",
        "switches throw all",
        "otp remove alice",
    ] {
        let stub = Stub::always(200, json!({}));
        let said = stub.run(line);
        assert_eq!(
            (said.code, stub.asked().len(), &*said.out),
            (Some(2), 0, ""),
            "{line}: {said:?}"
        );
        assert!(said.err.contains("--yes"), "{line}: {said:?}");
    }
}

#[test]
fn a_list_is_plain_where_a_program_reads_it() {
    let stub = Stub::always(
        200,
        json!({"items": [
            {"id": "csk_1", "account": "alice", "label": "my bot", "state": "active", "permissions": ["read", "trade"],
             "allowlist": ["10.0.0.0/8"], "expires": "2099-01-01T00:00:00.000000Z", "version": 1},
            {"id": "csk_22", "account": "bob", "label": "\u{1b}[2J", "state": "revoked", "permissions": [],
             "expires": null, "version": 2}], "next": null}),
    );
    let said = stub.run("keys list");
    let expected = "\
ID      ACCOUNT  LABEL   STATE    PERMISSIONS  FROM        EXPIRES
csk_1   alice    my bot  active   read,trade   10.0.0.0/8  2099-01-01T00:00:00Z
csk_22  bob      \u{fffd}[2J    revoked  -            -           -
";
    assert_eq!((said.code, &*said.out), (Some(0), expected), "{said:?}");
    assert_eq!(stub.run("keys list -q").out, "csk_1\ncsk_22\n");
    let json = stub.run("keys list --json").json();
    assert_eq!((&json["schema"], &json["items"][1]["id"]), (&json!(1), &json!("csk_22")));
}

#[test]
fn many_keys_are_revoked_though_one_cannot_be() {
    let stub = Stub::new(|asked| {
        let missing = asked.path.contains("csk_2");
        crate::stub::Told::Answer(if missing { 404 } else { 200 }, json!({}))
    });
    let said = stub.run("keys revoke --yes csk_1 csk_2 csk_3");
    assert_eq!((said.code, &*said.out), (Some(1), "csk_1 revoked\ncsk_3 revoked\n"), "{said:?}");
    assert!(said.err.contains("csk_2: Not Found") && said.err.contains("1 of 3 keys"), "{said:?}");
}

#[test]
fn what_a_lost_key_did_is_shown() {
    let stub = Stub::always(
        200,
        json!({"revoked": "csk_1", "replacement": {"id": "csk_2", "secret": "planted"},
            "activity": [{"address": "203.0.113.7", "route": "orders", "count": 12,
                "first": "2026-01-01T00:00:00Z", "last": "2026-01-02T00:00:00Z"}]}),
    );
    let expected = "\
csk_1 is revoked. Its replacement:

id      csk_2
secret  planted

What the old one did in the last 1d:

ADDRESS      ROUTE   COUNT  FIRST                 LAST
203.0.113.7  orders  12     2026-01-01T00:00:00Z  2026-01-02T00:00:00Z
";
    let said = stub.run("keys compromised csk_1 --yes");
    assert_eq!((said.code, &*said.out), (Some(0), expected), "{said:?}");
    assert_eq!(
        stub.run("keys compromised csk_1 --yes --json").json()["replacement"]["secret"],
        "planted"
    );
}

#[test]
fn shells_get_completions_and_manuals_their_pages() {
    for shell in ["bash", "zsh", "fish"] {
        let said = run(&words(&format!("completions {shell}")), &[]);
        assert!(said.code == Some(0) && said.out.contains("compromised"), "{shell}: {said:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let said = run(&words(&format!("man {}", dir.path().display())), &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let page = std::fs::read_to_string(dir.path().join("countersign-keys-create.1")).unwrap();
    assert!(page.contains("Example") && page.contains("permissions"), "{page}");
}
