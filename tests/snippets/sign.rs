//! `countersign sign` with every algorithm: what it makes is what the recipe accepts.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use countersign::clock::{Clock, SystemClock};
use countersign::dialect::{BUILTIN, Credentials, Dialect, Draft};
use countersign::offline::Judge;
use countersign::snippet::{Language, usual_algorithm};
use serde_json::Value;

use super::{Case, KEY, PASSPHRASE, Sent, cases, say};

const HOST: &str = "127.0.0.1:8080";

/// The command for the example of the case's dialect, without its secret.
fn command(case: &Case) -> Command {
    let example = &case.example;
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
    for case in cases(Language::Bash).into_iter().filter(|case| case.refusal.is_none()) {
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
fn a_deadline_lies_as_far_ahead_as_the_recipe_says_of_its_clients_or_as_one_asks() {
    const NOW: u64 = 1_700_000_000;
    let cases = cases(Language::Bash);
    let deadline = |dialect: &str, lead: Option<&str>| {
        let is = |case: &&Case| &**case.dialect.name() == dialect && case.refusal.is_none();
        let case = cases.iter().find(is).unwrap();
        let mut sign = command(case);
        sign.args(["--secret-env", "SECRET", "--at", &format!("{NOW}000")]);
        sign.env("SECRET", &case.keys.own).args(lead.iter().flat_map(|ms| ["--lead", ms]));
        let sent = signed(case, &mut sign);
        let Some(token) = sent.headers.get("Authorization") else {
            return sent.headers["api-expires"].parse::<u64>().unwrap();
        };
        let payload = token.split('.').nth(1).unwrap();
        let payload = data_encoding::BASE64URL_NOPAD.decode(payload.as_bytes()).unwrap();
        serde_json::from_slice::<Value>(&payload).unwrap()["exp"].as_u64().unwrap()
    };
    assert_eq!(deadline("coinbase_jwt", None), NOW + 121);
    assert_eq!(deadline("coinbase_jwt", Some("60000")), NOW + 60);
    assert_eq!(deadline("bitmex", None), NOW + 5);
    assert_eq!(deadline("bitmex", Some("60000")), NOW + 60);
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

/// A dialect whose requests name the algorithm, with the two names changed over, or with neither.
fn misnaming(dialect: &str, names: [(&str, &str); 2]) -> [Dialect; 2] {
    let (_, recipe) = BUILTIN.iter().find(|(name, _)| *name == dialect).unwrap();
    let line = recipe.lines().find(|line| line.starts_with("algorithm = ")).unwrap();
    let swapped = names.iter().zip(names.iter().rev()).fold(line.to_owned(), |line, (one, two)| {
        let (own, other) =
            (format!("{} = \"{}\"", one.0, one.1), format!("{} = \"{}\"", one.0, two.1));
        assert!(line.contains(&own), "{line}");
        line.replace(&own, &other)
    });
    [recipe.replace(line, &swapped), recipe.replace(line, "")]
        .map(|text| Dialect::compile(&text).unwrap())
}

#[test]
fn a_request_that_names_another_algorithm_than_its_keys_is_refused_however_well_it_is_signed() {
    let names = [("hmac-sha256", "HmacSHA256"), ("ed25519", "Ed25519")];
    let [other, none] = misnaming("htx", names);
    for case in cases(Language::Bash).into_iter().filter(|case| &**case.dialect.name() == "htx") {
        let target = |signer: &Dialect| case.sign_by(signer).target;
        let (_, own) = names.iter().find(|(name, _)| *name == case.algorithm.name()).unwrap();
        assert!(target(&case.dialect).contains(&format!("SignatureMethod={own}&")));
        assert!(!target(&none).contains("SignatureMethod"));
        assert_eq!(case.verdict(case.sign_by(&case.dialect)), Ok(()));
        // What names none leaves it to the key's record.
        assert_eq!(case.verdict(case.sign_by(&none)), Ok(()));
        assert_eq!(case.verdict(case.sign_by(&other)), Err("bad_signature"));
        let mut unknown = case.sign_by(&case.dialect);
        unknown.target = unknown.target.replace(&format!("={own}&"), "=none&");
        assert_eq!(case.verdict(unknown), Err("garbled_credential"));
    }
}

impl Case {
    /// The case's request as `dialect` would sign it.
    fn sign_by(&self, dialect: &Dialect) -> Sent {
        let private = dialect.read_signer(self.algorithm, self.keys.own.as_bytes()).unwrap();
        let (path, query) =
            self.example.target.split_once('?').unwrap_or((&self.example.target, ""));
        let draft = Draft {
            method: self.example.method.clone(),
            path,
            query,
            body: &self.example.body,
            host: HOST,
            window_ms: None,
            lead_ms: 5_000,
            nonce: None,
        };
        let by = Credentials { key_id: KEY, signer: &private, passphrase: None };
        let signed = dialect.sign(&draft, &by, SystemClock::start().now()).unwrap();
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = signed.headers.iter().map(|(name, value)| (name.to_string(), text(value)));
        let host = ("host".to_owned(), HOST.to_owned());
        Sent {
            method: signed.method.to_string(),
            target: signed.target,
            headers: headers.chain([host]).collect(),
            body: signed.body,
        }
    }

    /// What the recipe says of a request, or why it refuses it.
    fn verdict(&self, sent: Sent) -> Result<(), &'static str> {
        let mut judge = Judge::new([Arc::clone(&self.dialect)]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let judged = runtime.block_on(judge.judge(&self.recorded(sent))).unwrap();
        judged.verdict.map(|_| ()).map_err(|denial| denial.reason())
    }
}
