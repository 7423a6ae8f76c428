//! What each command asks of the API.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::stub::{Stub, TOKEN, Told, run_reading, words};

/// A command line, and the request that it is.
type Case = (&'static str, &'static str, &'static str, Value);

fn of_keys() -> Vec<Case> {
    let none = || Value::Null;
    vec![
        (
            "keys create --account alice --json",
            "POST",
            "/v1/keys",
            json!({"account": "alice", "venue": "main", "dialect": "binance", "permissions": ["read"]}),
        ),
        (
            "keys create --account alice --permissions read,trade --allow 203.0.113.7,2001:db8::/32 --dialect okx
             --algorithm hmac-sha256 --expires 2w --application bot --label 'my bot' --routes orders --limits fast
             --venue eu --trade-unbound-for 30d --reason why --json",
            "POST",
            "/v1/keys",
            json!({"account": "alice", "venue": "eu", "dialect": "okx", "algorithm": "hmac-sha256",
                "permissions": ["read", "trade"], "allowlist": ["203.0.113.7/32", "2001:db8::/32"],
                "expires": "14d", "application": "bot", "label": "my bot", "routes": ["orders"],
                "limits": ["fast"], "trade_unbound_for": "30d", "reason": "why"}),
        ),
        ("keys list", "GET", "/v1/keys?limit=100", none()),
        (
            "keys list --account a/b --application bot --state active --limit 5 --after c",
            "GET",
            "/v1/keys?account=a%2fb&application=bot&state=active&limit=5&after=c",
            none(),
        ),
        ("keys show csk_1", "GET", "/v1/keys/csk_1", none()),
        ("keys show ../switches", "GET", "/v1/keys/..%2fswitches", none()),
        (
            "keys update csk_1 --permissions read, --allow-anywhere --never-expires --all-routes --limits fast --label x",
            "PATCH",
            "/v1/keys/csk_1",
            json!({"permissions": ["read"], "allowlist": [], "expires": null, "routes": [], "limits": ["fast"], "label": "x"}),
        ),
        ("keys rotate csk_1 --json", "POST", "/v1/keys/csk_1/rotate", json!({"overlap": "1d"})),
        ("keys rotate csk_1 --overlap 0s --yes --json", "POST", "/v1/keys/csk_1/rotate", json!({"overlap": "0s"})),
        ("keys suspend csk_1 --reason why", "POST", "/v1/keys/csk_1/suspend", json!({"reason": "why"})),
        ("keys resume csk_1", "POST", "/v1/keys/csk_1/resume", json!({})),
        ("keys revoke csk_1 --yes", "POST", "/v1/keys/csk_1/revoke", json!({})),
        (
            "keys compromised csk_1 --since 2h --yes --json",
            "POST",
            "/v1/keys/csk_1/compromised",
            json!({"since": "2h"}),
        ),
        ("keys export csk_1", "GET", "/v1/keys/csk_1/export", none()),
        ("keys export --account a", "GET", "/v1/keys?account=a&limit=1000", none()),
        ("keys history csk_1", "GET", "/v1/keys/csk_1/history?limit=100", none()),
    ]
}

fn of_others() -> Vec<Case> {
    let none = || Value::Null;
    vec![
        ("accounts list", "GET", "/v1/accounts?limit=100", none()),
        ("accounts show alice", "GET", "/v1/accounts/alice", none()),
        (
            "accounts freeze alice -y --reason why",
            "POST",
            "/v1/accounts/alice/freeze",
            json!({"reason": "why"}),
        ),
        ("accounts unfreeze alice", "POST", "/v1/accounts/alice/unfreeze", json!({})),
        (
            "apps create bot --permissions read,trade --allow 10.0.0.0/8 --contact a@b",
            "POST",
            "/v1/apps",
            json!({"name": "bot", "permissions": ["read", "trade"], "allowlist": ["10.0.0.0/8"], "contact": "a@b"}),
        ),
        ("apps list", "GET", "/v1/apps?limit=100", none()),
        ("apps show bot", "GET", "/v1/apps/bot", none()),
        (
            "apps update bot --permissions read",
            "PATCH",
            "/v1/apps/bot",
            json!({"permissions": ["read"]}),
        ),
        ("apps stop bot --yes", "POST", "/v1/apps/bot/stop", json!({})),
        ("apps start bot", "POST", "/v1/apps/bot/start", json!({})),
        ("switches list", "GET", "/v1/switches", none()),
        ("switches throw withdraw --yes", "POST", "/v1/switches/withdraw/throw", json!({})),
        ("switches release all", "POST", "/v1/switches/all/release", json!({})),
        ("otp enrol alice --json", "POST", "/v1/accounts/alice/otp", json!({})),
        ("otp show alice", "GET", "/v1/accounts/alice/otp", none()),
        ("otp remove alice --yes", "DELETE", "/v1/accounts/alice/otp", none()),
        ("bans list", "GET", "/v1/bans?limit=100", none()),
        (
            "bans add ::ffff:203.0.113.7 --for 90m --reason why",
            "POST",
            "/v1/bans",
            json!({"address": "203.0.113.7", "for": "90m", "reason": "why"}),
        ),
        ("bans lift 2001:db8::1", "DELETE", "/v1/bans/2001%3adb8%3a%3a1", none()),
        ("approvals list", "GET", "/v1/approvals?limit=100", none()),
        ("approvals approve ap_1", "POST", "/v1/approvals/ap_1/approve", json!({})),
        (
            "approvals reject ap_1 --reason no",
            "POST",
            "/v1/approvals/ap_1/reject",
            json!({"reason": "no"}),
        ),
    ]
}

/// Enough for every command.
fn told() -> Value {
    json!({"id": "csk_1", "secret": "planted", "items": [], "next": null, "replacement": {"id": "csk_2", "secret": "planted"}, "activity": []})
}

#[test]
fn every_command_asks_what_it_says() {
    for (line, method, path, body) in [of_keys(), of_others()].concat() {
        let stub = Stub::always(200, told());
        let said = stub.run(line);
        assert_eq!(said.code, Some(0), "{line}: {said:?}");
        let [asked] = &*stub.asked() else { panic!("{line}: {:?}", stub.asked()) };
        assert_eq!((&*asked.method, &*asked.path, &asked.body), (method, path, &body), "{line}");
        assert_eq!(asked.field("authorization"), Some("Bearer csa_planted"), "{line}");
        let once = asked.field("idempotency-key");
        assert_eq!(once.is_some(), method == "POST", "{line}");
        let kind = asked.field("content-type");
        assert_eq!(kind, (!body.is_null()).then_some("application/json"), "{line}");
    }
}

#[test]
fn every_change_has_a_key_of_its_own_and_one_that_is_given_is_used() {
    let stub = Stub::always(200, json!({}));
    for _ in 0..3 {
        stub.run("keys suspend csk_1 csk_2");
    }
    let keys: BTreeSet<_> = stub
        .asked()
        .iter()
        .map(|asked| asked.field("idempotency-key").unwrap().to_owned())
        .collect();
    assert_eq!(keys.len(), 6, "{keys:?}");
    stub.run("keys suspend csk_1 --idempotency-key again");
    assert_eq!(stub.asked().last().unwrap().field("idempotency-key"), Some("again"));
}

#[test]
fn a_version_is_a_condition() {
    let stub = Stub::always(200, json!({}));
    stub.run("keys update csk_1 --label x --if-version 3");
    stub.run("keys update csk_1 --label x");
    let conditions: Vec<_> =
        stub.asked().iter().map(|asked| asked.field("if-match").map(str::to_owned)).collect();
    assert_eq!(conditions, [Some("\"3\"".to_owned()), None]);
}

#[test]
fn a_long_list_is_read_page_by_page() {
    let pages = || {
        Stub::new(|asked| {
            let page = |name: &str, next: Value| json!({"items": [{"id": name}], "next": next});
            Told::Answer(
                200,
                match &asked.path {
                    path if path.contains("after=c2") => page("csk_3", Value::Null),
                    path if path.contains("after=c1") => page("csk_2", json!("c2")),
                    _ => page("csk_1", json!("c1")),
                },
            )
        })
    };
    assert_eq!(pages().run("keys list --all -q").out, "csk_1\ncsk_2\ncsk_3\n");
    let all = pages().run("keys list --all --json").json();
    assert_eq!(
        all,
        json!({"schema": 1, "items": [{"id": "csk_1"}, {"id": "csk_2"}, {"id": "csk_3"}], "next": null})
    );
    let some = pages().run("keys list --limit 2 --json").json();
    assert_eq!((some["items"].as_array().unwrap().len(), &some["next"]), (2, &json!("c2")));
    let said = pages().run("keys list --limit 1");
    assert!(said.err.contains("--after c1"), "{said:?}");
    // A server that turns in a circle is not followed.
    let circle = Stub::always(200, json!({"items": [{"id": "csk_1"}], "next": "c"}));
    assert_eq!(circle.run("keys list --all -q").out, "csk_1\ncsk_1\n");
}

#[test]
fn a_code_is_read_from_standard_input() {
    let stub = Stub::always(200, json!({}));
    let variables = [("COUNTERSIGN_ADMIN", &*stub.url), TOKEN];
    let said = run_reading(&words("otp confirm alice"), &variables, "123 456\n");
    assert_eq!((said.code, &*said.out), (Some(0), "alice has a second factor\n"), "{said:?}");
    assert_eq!(stub.asked()[0].body, json!({"code": "123456"}));
    let said = run_reading(&words("otp confirm alice"), &variables, "abc\n");
    assert_eq!((said.code, stub.asked().len()), (Some(2), 1), "{said:?}");
}

#[test]
fn many_keys_are_imported_and_one_that_fails_spares_the_others() {
    let stub = Stub::new(|asked| match asked.body["id"].as_str() {
        Some("bad") => Told::Answer(409, json!({"title": "There is such a key"})),
        _ => Told::Answer(201, json!({})),
    });
    let lines = "{\"id\":\"a\",\"secret\":\"planted1\"}\n\n{\"id\":\"bad\",\"secret\":\"planted2\"}\n{\"id\":\"c\"}\n";
    let variables = [("COUNTERSIGN_ADMIN", &*stub.url), TOKEN];
    let said = run_reading(&words("keys import --file -"), &variables, lines);
    assert_eq!((said.code, &*said.out), (Some(1), "2 keys imported\n"), "{said:?}");
    assert!(said.err.contains("line 3: bad: There is such a key"), "{said:?}");
    assert!(!said.err.contains("planted"), "{said:?}");
    assert_eq!(stub.asked().len(), 3);
    let said = run_reading(
        &words("keys import --file -"),
        &variables,
        "{\"id\":\"a\",\"secret\":planted}\n",
    );
    assert!(said.err.contains("line 1: no JSON") && !said.err.contains("planted"), "{said:?}");
}

/// What the API tells of a vendor's loss.
fn lost(end: Value) -> Stub {
    Stub::new(move |_| {
        let key = |key: &str, account: &str| {
            json!({"key": key, "account": account, "label": "",
                "replacement": {"id": format!("{key}b"), "secret": "planted"}})
        };
        Told::Lines(vec![
            json!({"done": false, "revoked": 2, "keys": [key("csk_1", "bob"), key("csk_2", "alice")]}),
            json!({"done": false, "revoked": 3, "keys": [key("csk_3", "alice")]}),
            end.clone(),
        ])
    })
}

fn ended() -> Value {
    json!({"done": true, "revoked": 3, "replaced": 0, "accounts": 2})
}

#[test]
fn owners_of_lost_keys_are_listed() {
    let stub = lost(ended());
    let said = stub.run("apps compromised bot --yes --reason breach");
    assert_eq!((said.code, &*said.out), (Some(0), "alice\tcsk_2,csk_3\nbob\tcsk_1\n"), "{said:?}");
    assert_eq!(said.err, "3 keys of bot revoked, 2 owners to tell.\n");
    let asked = &stub.asked()[0];
    let body = json!({"replace": false, "resume": false, "reason": "breach"});
    assert_eq!((&*asked.path, &asked.body), ("/v1/apps/bot/compromised", &body));
    assert_eq!(stub.run("apps compromised bot --yes -q").out, "alice\nbob\n");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("owners.tsv");
    let said = stub.run(&format!("apps compromised bot --yes --json --notify {}", file.display()));
    let told = said.json();
    assert_eq!(told["owners"], json!({"alice": ["csk_2", "csk_3"], "bob": ["csk_1"]}));
    assert_eq!((&told["schema"], &told["revoked"]), (&json!(1), &json!(3)));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "alice\tcsk_2,csk_3\nbob\tcsk_1\n");
}

#[test]
fn replacements_of_lost_keys_go_to_a_file_alone() {
    let stub = lost(ended());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("new.jsonl");
    let line = format!("apps compromised bot --yes --replace {}", file.display());
    let said = stub.run(&line);
    assert_eq!((said.code, &stub.asked()[0].body["replace"]), (Some(0), &json!(true)), "{said:?}");
    assert!(!said.out.contains("planted") && !said.err.contains("planted"), "{said:?}");
    let text = std::fs::read_to_string(&file).unwrap();
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let expected = json!({"account": "bob", "lost": "csk_1", "id": "csk_1b", "secret": "planted", "passphrase": null});
    assert_eq!((text.lines().count(), first), (3, expected));
    assert_eq!((stub.run(&line).code, stub.asked().len()), (Some(2), 1));

    let other = dir.path().join("other.jsonl");
    let said = Stub::always(403, json!({}))
        .run(&format!("apps compromised bot --yes --replace {}", other.display()));
    assert_eq!((said.code, other.exists()), (Some(1), false), "{said:?}");
}

#[test]
fn a_recovery_that_is_cut_off_says_so_and_lists_what_it_has() {
    let problem = json!({"done": false, "revoked": 3, "problem": {"title": "Unavailable", "detail": "no registry"}});
    for (end, why) in
        [(json!({"revoked": 3}), "stopped telling"), (problem, "Unavailable: no registry")]
    {
        let said = lost(end).run("apps compromised bot --yes");
        assert_eq!((said.code, said.out.lines().count()), (Some(1), 2), "{said:?}");
        assert!(said.err.contains(why) && said.err.contains("--resume"), "{said:?}");
    }
}
