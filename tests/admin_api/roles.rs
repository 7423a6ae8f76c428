//! What each role may do: every operation, every role.

use countersign::admin::{Role, Verb, operations};
use serde_json::{Value, json};

use super::support::{OPERATOR, Rig, SECURITY, VIEWER};

/// Written down a second time on purpose: whoever changes a role changes it here as well.
const VIEWERS: &[&str] = &[
    "keys.list",
    "keys.show",
    "keys.export",
    "keys.history",
    "accounts.list",
    "accounts.show",
    "switches.list",
    "otp.show",
    "apps.list",
    "apps.show",
    "bans.list",
    "approvals.list",
    "audit.search",
    "audit.tail",
    "gateway.openapi",
    "gateway.whoami",
    "gateway.show",
];
const OPERATORS: &[&str] = &[
    "keys.create",
    "keys.import",
    "keys.update",
    "keys.rotate",
    "keys.suspend",
    "keys.resume",
    "keys.revoke",
    "keys.compromised",
    "accounts.freeze",
    "accounts.unfreeze",
    "switches.throw",
    "otp.enrol",
    "otp.confirm",
    "otp.recover",
    "apps.create",
    "apps.update",
    "apps.stop",
    "apps.start",
    "bans.create",
    "bans.lift",
];
const SECURITIES: &[&str] = &[
    "switches.release",
    "otp.remove",
    "apps.compromised",
    "approvals.approve",
    "approvals.reject",
    "registry.rewrap",
];

#[test]
fn every_operation_is_in_the_table_once() {
    let mut known: Vec<_> = operations().map(|operation| operation.name).collect();
    let mut written: Vec<_> = [VIEWERS, OPERATORS, SECURITIES].concat();
    known.sort_unstable();
    written.sort_unstable();
    assert_eq!(known, written);
    for operation in operations() {
        assert_eq!(operation.least == Role::Viewer, !operation.changes(), "{}", operation.name);
    }
}

#[tokio::test]
async fn each_role_may_do_what_the_table_says_and_no_more() {
    let rig = Rig::start().await;
    let roles = [(VIEWER, Role::Viewer), (OPERATOR, Role::Operator), (SECURITY, Role::Security)];
    for operation in operations() {
        let path = operation.path.replace("{id}", "no-such").replace("{name}", "no-such");
        let path = path.replace("{permission}", "no-such").replace("{address}", "192.0.2.9");
        let least = match operation.name {
            name if VIEWERS.contains(&name) => Role::Viewer,
            name if OPERATORS.contains(&name) => Role::Operator,
            _ => Role::Security,
        };
        for (token, role) in roles {
            if operation.name == "audit.tail" {
                continue;
            }
            let body = if operation.verb == Verb::Get { Value::Null } else { json!({}) };
            let answer = rig.call(token, operation.verb.name(), &path, body).await;
            let name = operation.name;
            assert_eq!(answer.status == 403, role < least, "{name} as {role}: {}", answer.text);
            assert!(answer.status < 500, "{name} as {role}: {}", answer.text);
            if role < least {
                let cure = answer.body["cure"].as_str().unwrap();
                assert!(cure.contains(least.name()), "{cure}");
            }
        }
    }
}

#[tokio::test]
async fn only_security_grants_withdraw_or_gets_the_secret_of_who_has_it() {
    let rig = Rig::start().await;
    let withdraw = json!({
        "account": "ann", "dialect": "binance", "permissions": ["read", "withdraw"],
        "allowlist": ["203.0.113.0/24"],
    });
    rig.call(OPERATOR, "POST", "/v1/keys", withdraw.clone()).await.is(403);
    let mut import = withdraw;
    import["id"] = json!("OLD");
    import["secret"] = json!("6f1ed002ab5595859014ebf0951522d9a8b3c4f1e2d7069b8e5c31f04d27a9be");
    rig.call(OPERATOR, "POST", "/v1/keys/import", import).await.is(403);
    let app = json!({"name": "bot", "permissions": ["withdraw"]});
    rig.call(OPERATOR, "POST", "/v1/apps", app).await.is(403);

    let key = rig.withdrawing_key().await;
    let path = format!("/v1/keys/{}", key["id"].as_str().unwrap());
    for wider in [json!({"allowlist": ["198.51.100.1"]}), json!({"allowlist": []})] {
        rig.call(OPERATOR, "PATCH", &path, wider).await.is(403);
    }
    for fine in [json!({"allowlist": ["203.0.113.7"]}), json!({"label": "cold wallet"})] {
        rig.call(OPERATOR, "PATCH", &path, fine).await.is(200);
    }
    for act in ["rotate", "compromised"] {
        rig.call(OPERATOR, "POST", &format!("{path}/{act}"), Value::Null).await.is(403);
    }
    rig.call(OPERATOR, "PATCH", &path, json!({"permissions": ["read"]})).await.is(200);
    let again = json!({"permissions": ["read", "withdraw"]});
    rig.call(OPERATOR, "PATCH", &path, again.clone()).await.is(403);
    rig.call(SECURITY, "PATCH", &path, again).await.is(200);
    rig.call(OPERATOR, "POST", &format!("{path}/suspend"), Value::Null).await.is(200);
}
