//! Every snippet, in every language that this machine has, makes a request that its own recipe accepts.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use countersign::clock::{Clock, SystemClock};
use countersign::dialect::{BUILTIN, Dialect, Draft};
use countersign::key::Algorithm;
use countersign::offline::{Judge, Recorded};
use countersign::snippet::{self, Language};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const KEY: &str = "k3y-of-the-snippets";
const TEXT_SECRET: &str =
    "a secret that is longer than one block of SHA-256, so that it is hashed before it is used";
const BASE64_SECRET: &str = "c2VjcmV0IG9mIHRoZSBzbmlwcGV0cw==";
const PASSPHRASE: &str = "pass \"phrase\" \\ of 7";
/// Made for this test.
const ED25519_SECRET: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";

/// How long a snippet may take to send its request. A broken one then fails the test, and does not hang it.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a snippet sent.
struct Sent {
    method: String,
    target: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// The next connection; `None` when none came in time.
fn accept(listener: &TcpListener) -> Option<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let accepted = runtime.block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener.try_clone().unwrap()).unwrap();
        tokio::time::timeout(PATIENCE, listener.accept()).await
    });
    let (stream, _) = accepted.ok()?.unwrap();
    Some(stream.into_std().unwrap())
}

/// What signs the reply to what was sent, as Bitstamp documents it.
fn reply_signature(sent: &Sent, secret: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    let field = |name: &str| sent.headers[name].as_str();
    for text in [field("x-auth-nonce"), field("x-auth-timestamp"), TYPE, "taken"] {
        mac.update(text.as_bytes());
    }
    data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes())
}

const TYPE: &str = "text/plain; charset=utf-8";

/// Takes one request and answers it, with a signature where clients look for one; `None` when nothing came in time,
/// or nothing whole.
fn take_one(listener: &TcpListener, dialect: &Dialect, signs: bool) -> Option<Sent> {
    let mut stream = accept(listener)?;
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let sent = read(&stream)?;
    let signature = match dialect.signs_replies().filter(|_| signs) {
        Some((name, _)) => format!("{name}: {}\r\n", reply_signature(&sent, secret(dialect))),
        None => String::new(),
    };
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n";
    let answer = format!("{head}content-type: {TYPE}\r\n{signature}\r\ntaken");
    stream.write_all(answer.as_bytes()).unwrap();
    Some(sent)
}

fn read(stream: &TcpStream) -> Option<Sent> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let words: Vec<_> = lines.first()?.split(' ').collect();
    let fields = lines.iter().skip(1).filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<_, _> =
        fields.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let [method, target, _] = words.as_slice() else { panic!("{lines:?}") };
    let body = String::from_utf8(body).unwrap();
    Some(Sent { method: (*method).to_owned(), target: (*target).to_owned(), headers, body })
}

fn algorithm(dialect: &Dialect) -> Algorithm {
    snippet::usual_algorithm(dialect).unwrap()
}

fn secret(dialect: &Dialect) -> &'static str {
    use countersign::dialect::SecretForm;
    match (algorithm(dialect).is_symmetric(), dialect.secret_form()) {
        (false, _) => ED25519_SECRET,
        (true, SecretForm::Base64) => BASE64_SECRET,
        (true, SecretForm::Text) => TEXT_SECRET,
    }
}

fn program(dialect: &Dialect, language: Language, host: &str) -> String {
    let example = dialect.example();
    let (path, query) = example.target.split_once('?').unwrap_or((&example.target, ""));
    let draft = Draft {
        method: example.method.clone(),
        path,
        query,
        body: &example.body,
        host,
        window_ms: dialect.asks_window().then_some(5_000),
        lead_ms: 5_000,
        nonce: None,
    };
    snippet::write(dialect, algorithm(dialect), &draft, &format!("http://{host}"), language)
        .unwrap_or_else(|error| panic!("{} {}: {error}", dialect.name(), language.name()))
}

/// Runs `command` with the credentials in its environment, and judges what it sends.
fn judged(dialect: &Arc<Dialect>, listener: &TcpListener, command: &mut Command) {
    let name = dialect.name();
    let secret = secret(dialect);
    command.env("KEY", KEY).env("SECRET", secret).env("PASSPHRASE", PASSPHRASE);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let sent = take_one(listener, dialect, true);
    if sent.is_none() {
        // It may have ended long ago.
        drop(child.kill());
    }
    let ran = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    let complained = String::from_utf8_lossy(&ran.stderr);
    let Some(sent) = sent else { panic!("{name}: nothing was sent: {said}{complained}") };
    assert!(ran.status.success(), "{name}: {said}{complained}");
    assert!(said.starts_with("200 taken"), "{name}: {said}{complained}");
    let recorded = Recorded {
        dialect: name.to_string(),
        method: sent.method,
        target: sent.target,
        headers: sent.headers,
        body: sent.body,
        key: KEY.to_owned(),
        secret: secret.to_owned(),
        passphrase: Some(PASSPHRASE.to_owned()),
        now_ms: SystemClock::start().now().as_millis(),
        algorithm: algorithm(dialect).name().to_owned(),
        expect: None,
        strict_expect: None,
    };
    let mut judge = Judge::new([Arc::clone(dialect)]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut altered = recorded.clone();
    let verdict = runtime.block_on(judge.judge(&recorded)).unwrap();
    assert!(
        verdict.verdict.is_ok(),
        "{name}: {:?} {} {} {:?} {:?}\n{:?}",
        verdict.verdict,
        recorded.method,
        recorded.target,
        recorded.headers,
        recorded.body,
        verdict.signed_bytes.iter().map(|(_, b)| String::from_utf8_lossy(b)).collect::<Vec<_>>()
    );
    altered.secret = altered.secret.replacen('c', "d", 1).replacen("MC4", "MD4", 1);
    let refused = runtime.block_on(judge.judge(&altered));
    assert!(refused.is_err() || refused.unwrap().verdict.is_err(), "{name} under another secret");
}

fn dialects() -> impl Iterator<Item = Arc<Dialect>> {
    BUILTIN.iter().map(|(_, recipe)| Arc::new(Dialect::compile(recipe).unwrap()))
}

/// Whether the machine has `command`. What it lacks is said, and was looked at by nobody.
fn has(command: &str) -> bool {
    let found = Command::new(command).arg("--version").output().is_ok()
        || Command::new(command).arg("version").output().is_ok();
    if !found {
        let mut err = std::io::stderr();
        drop(writeln!(err, "{command} is not on this machine: its snippets were not run"));
    }
    found
}

fn run_all(language: Language, suffix: &str, command: impl Fn(&Path) -> Command) {
    let folder = tempfile::tempdir().unwrap();
    for dialect in dialects() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let file = folder.path().join(format!("{}.{suffix}", dialect.name()));
        fs::write(&file, program(&dialect, language, &host)).unwrap();
        judged(&dialect, &listener, &mut command(&file));
    }
}

#[test]
fn snippets_in_python_sign_what_their_recipes_accept() {
    let python = std::env::var("COUNTERSIGN_PYTHON");
    let python = python.unwrap_or_else(|_| "target/python/bin/python".to_owned());
    run_all(Language::Python, "py", |file| {
        let mut command = Command::new(&python);
        command.arg(file);
        command
    });
}

#[test]
fn snippets_refuse_a_reply_that_is_not_signed_where_replies_are() {
    let python = std::env::var("COUNTERSIGN_PYTHON");
    let python = python.unwrap_or_else(|_| "target/python/bin/python".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let checks = |dialect: &Arc<Dialect>| dialect.signs_replies().is_some();
    let languages = [(Language::Python, "py", &*python), (Language::Javascript, "mjs", "node")];
    for (language, suffix, program_of) in languages {
        if !has(program_of) {
            continue;
        }
        for dialect in dialects().filter(checks) {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let host = listener.local_addr().unwrap().to_string();
            let file = folder.path().join(format!("{}.{suffix}", dialect.name()));
            fs::write(&file, program(&dialect, language, &host)).unwrap();
            let mut command = Command::new(program_of);
            command.arg(file).env("KEY", KEY).env("SECRET", secret(&dialect));
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let child = command.spawn().unwrap();
            take_one(&listener, &dialect, false).unwrap();
            let ran = child.wait_with_output().unwrap();
            assert!(!ran.status.success());
            let complained = String::from_utf8_lossy(&ran.stderr);
            assert!(complained.contains("the reply is not signed"), "{complained}");
        }
    }
}

#[test]
fn snippets_in_bash_sign_what_their_recipes_accept() {
    run_all(Language::Bash, "sh", |file| {
        let mut command = Command::new("bash");
        command.arg(file);
        command
    });
}

#[test]
fn snippets_in_javascript_sign_what_their_recipes_accept() {
    if has("node") {
        run_all(Language::Javascript, "mjs", |file| {
            let mut command = Command::new("node");
            command.arg(file);
            command
        });
    }
}

#[test]
fn snippets_in_go_sign_what_their_recipes_accept() {
    if has("go") {
        run_all(Language::Go, "go", |file| {
            let mut command = Command::new("go");
            command.arg("run").arg(file).env("GO111MODULE", "off");
            command
        });
    }
}

#[test]
fn snippets_in_rust_sign_what_their_recipes_accept() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("snippets");
    let sources = folder.join("src/bin");
    fs::create_dir_all(&sources).unwrap();
    let manifest = "[package]\nname = \"snippets\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
        [dependencies]\ndata-encoding = \"2\"\nhmac = \"0.13\"\ngetrandom = \"0.4\"\nserde_json = { version = \"1\", features = [\"preserve_order\"] }\nsha2 = \"0.11\"\n\
        ed25519-dalek = { version = \"3\", features = [\"pem\"] }\n\
        ureq = { version = \"3\", default-features = false }\n";
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::copy("Cargo.lock", folder.join("Cargo.lock")).unwrap();
    let mut placed = Vec::new();
    for dialect in dialects() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let text = program(&dialect, Language::Rust, &host);
        fs::write(sources.join(format!("{}.rs", dialect.name())), text).unwrap();
        placed.push((dialect, listener));
    }
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--bins"]).current_dir(&folder);
    let made = build.env("CARGO_TARGET_DIR", folder.join("target")).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for (dialect, listener) in placed {
        let program = folder.join("target/debug").join(&**dialect.name());
        judged(&dialect, &listener, &mut Command::new(program));
    }
}
