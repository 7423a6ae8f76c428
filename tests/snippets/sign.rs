//! `countersign sign` with every algorithm: what it makes is what the recipe accepts.

use std::collections::BTreeMap;
use std::process::Command;

use countersign::snippet::{Language, usual_algorithm};
use serde_json::Value;

use super::{Case, KEY, PASSPHRASE, Sent, cases, say};

const HOST: &str = "127.0.0.1:8080";

/// The command for the example of the case's dialect, without its secret.
fn command(case: &Case) -> Command {
    let example = case.dialect.example();
    let mut sign = Command::new(env!("CARGO_BIN_EXE_countersign"));
    sign.args(["sign", "--json", "--dialect", case.dialect.name(), "--key", KEY]);
    sign.args(["-X", example.method.as_str(), &format!("http://{HOST}{}", example.target)]);
    if !example.body.is_empty() {
        sign.args(["--data", &example.body]);
    }
    if case.dialect.has_passphrase() {
        sign.args(["--passphrase-env", "PASSPHRASE"]).env("PASSPHRASE", PASSPHRASE);
    }
    sign
}

/// What the command says that it would send.
fn signed(case: &Case, command: &mut Command) -> Sent {
    let ran = command.output().unwrap();
    let complained = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{}: {complained}", case.name());
    let said: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let text = |name: &str| said[name].as_str().unwrap().to_owned();
    let headers = said["headers"].as_object().unwrap().iter();
    let mut headers: BTreeMap<_, _> =
        headers.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    headers.insert("host".to_owned(), HOST.to_owned());
    let target =
        text("url").strip_prefix("http://").unwrap().strip_prefix(HOST).unwrap().to_owned();
    Sent { method: text("method"), target, headers, body: text("body") }
}

#[test]
fn what_sign_makes_with_keys_of_every_algorithm_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (mut named, mut found) = (0, 0);
    for case in cases(Language::Bash) {
        let file = folder.path().join("secret");
        std::fs::write(&file, &case.keys.own).unwrap();
        let mut from_file = command(&case);
        from_file.args(["--algorithm", case.algorithm.name(), "--secret-file"]).arg(&file);
        case.judge_sent(signed(&case, &mut from_file));
        named += 1;
        // A private key says what it is; of several HMACs the dialect's first is meant.
        if !case.algorithm.is_symmetric() || usual_algorithm(&case.dialect) == Some(case.algorithm)
        {
            let mut from_variable = command(&case);
            from_variable.args(["--secret-env", "SECRET"]).env("SECRET", &case.keys.own);
            case.judge_sent(signed(&case, &mut from_variable));
            found += 1;
        }
    }
    say(&format!(
        "countersign sign: {named} (dialect, algorithm) by name, {found} by their secret"
    ));
    assert!(found > 30, "{found}");
}

#[test]
fn a_key_that_the_dialect_does_not_take_is_refused_by_name() {
    let cases = cases(Language::Bash);
    let case = cases.iter().find(|case| &**case.dialect.name() == "okx").unwrap();
    let mut sign = command(case);
    sign.args(["--secret-env", "SECRET", "--algorithm", "rsa-sha256"]).env("SECRET", "a secret");
    let mut snippet = Command::new(env!("CARGO_BIN_EXE_countersign"));
    snippet.args(["snippet", "--dialect", "okx", "--lang", "go", "--algorithm", "rsa-sha256"]);
    for mut command in [sign, snippet] {
        let ran = command.output().unwrap();
        let complained = String::from_utf8_lossy(&ran.stderr);
        assert_eq!((ran.status.code(), &*ran.stdout), (Some(2), &b""[..]));
        assert!(complained.contains("takes no rsa-sha256 key, but hmac-sha256"), "{complained}");
    }
}
