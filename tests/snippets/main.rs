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
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use countersign::clock::{Clock, SystemClock};
use countersign::denial::Denial;
use countersign::dialect::{BUILTIN, Dialect, Draft, Example};
use countersign::key::Algorithm;
use countersign::offline::{Judge, Recorded};
use countersign::snippet::{self, Language};
use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use sha2::Sha256;

#[path = "../support/keys.rs"]
mod keys;
mod sign;

use keys::Pair;

const KEY: &str = "k3y-of-the-snippets";
const PASSPHRASE: &str = "pass \"phrase\" \\ of 7";

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

/// Takes one request and answers it, signed with a secret where there is one and clients look for it; `None` when
/// nothing came in time, or nothing whole.
fn take_one(listener: &TcpListener, dialect: &Dialect, signer: Option<&str>) -> Option<Sent> {
    let mut stream = accept(listener)?;
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let sent = read(&stream)?;
    let signature = match (dialect.signs_replies(), signer) {
        (Some((name, _)), Some(secret)) => {
            format!("{name}: {}\r\n", reply_signature(&sent, secret))
        }
        (Some(_), None) | (None, _) => String::new(),
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

/// One snippet, and where it will send its request.
struct Case {
    dialect: Arc<Dialect>,
    algorithm: Algorithm,
    language: Language,
    keys: Pair,
    listener: TcpListener,
    /// What to send, and what is said of it.
    example: Example,
    note: &'static str,
    /// Why it is refused though it is signed well.
    refusal: Option<&'static str>,
}

/// Numbers that few libraries write as they read them: dialect, path, body, and why the gateway refuses the request,
/// once it is proved, where it does.
const NUMBERS: [(&str, &str, &str, Option<&str>); 3] = [
    (
        "cryptocom",
        "/exchange/v1/private/create-order",
        r#"{"params":{"notional":0.00000001,"price":1.0,"client_oid":"1.0 \" 2","ref_price":1E5,"trigger_price":-0}}"#,
        None,
    ),
    // That the signature holds is asked before how the number would be read.
    (
        "cryptocom",
        "/exchange/v1/private/create-order",
        r#"{"params":{"quantity":12345678901234567890}}"#,
        Some("ambiguous"),
    ),
    (
        "upbit",
        "/v1/orders",
        r#"{"volume":1.0,"price":0.00000001,"e":1E5,"z":-0,"list":[1.10,2e-9],"note":"1.0 \" 2","flag":true,"none":null}"#,
        None,
    ),
];

/// Every algorithm of every dialect.
fn cases(language: Language) -> Vec<Case> {
    let dialects = BUILTIN.iter().map(|(_, recipe)| Arc::new(Dialect::compile(recipe).unwrap()));
    let each = dialects.flat_map(|dialect| {
        let algorithms: Vec<_> = dialect.algorithms().collect();
        let numbers = NUMBERS.iter().filter(|(name, ..)| **name == **dialect.name());
        let numbers = numbers.map(|(_, path, body, refusal)| {
            let (target, body) = ((*path).to_owned(), (*body).to_owned());
            let note = if refusal.is_some() { "-digits" } else { "-numbers" };
            (Example { method: Method::POST, target, body }, note, *refusal)
        });
        let examples = std::iter::once((dialect.example().clone(), "", None)).chain(numbers);
        let examples: Vec<_> = examples.collect();
        let each = algorithms.into_iter().flat_map(move |algorithm| {
            examples
                .clone()
                .into_iter()
                .map(move |(example, note, refusal)| (algorithm, example, note, refusal))
        });
        each.map(move |(algorithm, example, note, refusal)| Case {
            example,
            note,
            refusal,
            keys: Pair::of(&dialect, algorithm, language),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            dialect: Arc::clone(&dialect),
            algorithm,
            language,
        })
    });
    each.collect()
}

impl Case {
    fn name(&self) -> String {
        format!("{}-{}{}", self.dialect.name(), self.algorithm.name(), self.note)
    }

    fn program(&self) -> String {
        let example = &self.example;
        let (path, query) = example.target.split_once('?').unwrap_or((&example.target, ""));
        let host = self.listener.local_addr().unwrap().to_string();
        let draft = Draft {
            method: example.method.clone(),
            path,
            query,
            body: &example.body,
            host: &host,
            window_ms: self.dialect.asks_window().then_some(5_000),
            lead_ms: 5_000,
            nonce: None,
        };
        let base = format!("http://{host}");
        snippet::write(&self.dialect, self.algorithm, &draft, &base, self.language)
            .unwrap_or_else(|error| panic!("{} {}: {error}", self.name(), self.language.name()))
    }

    /// Writes the program to a file called `file` in `folder`.
    fn save(&self, folder: &Path, file: &str) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let file = folder.join(file);
        fs::write(&file, self.program()).unwrap();
        file
    }

    /// Starts `command` with the credentials in its environment.
    fn start(&self, command: &mut Command) -> Child {
        command.env("KEY", KEY).env("SECRET", &self.keys.own).env("PASSPHRASE", PASSPHRASE);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Runs `command` and judges what it sends.
    fn judge(&self, command: &mut Command) {
        let name = format!("{} in {}", self.name(), self.language.name());
        let mut child = self.start(command);
        let sent = take_one(&self.listener, &self.dialect, Some(&self.keys.own));
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
        assert_eq!(complained, "", "{name}");
        self.judge_sent(sent);
    }

    /// Runs `command` and answers as somebody who does not have its secret.
    fn refuses_others(&self, command: &mut Command) {
        let name = format!("{} in {}", self.name(), self.language.name());
        for signer in [None, Some(&*self.keys.other)] {
            let child = self.start(command);
            take_one(&self.listener, &self.dialect, signer).unwrap();
            let ran = child.wait_with_output().unwrap();
            let complained = String::from_utf8_lossy(&ran.stderr);
            assert!(!ran.status.success(), "{name}: {complained}");
            assert!(complained.contains("the reply is not signed"), "{name}: {complained}");
            assert!(ran.stdout.is_empty(), "{name}");
        }
    }

    fn recorded(&self, sent: Sent) -> Recorded {
        Recorded {
            dialect: self.dialect.name().to_string(),
            method: sent.method,
            target: sent.target,
            headers: sent.headers,
            body: sent.body,
            key: KEY.to_owned(),
            secret: self.keys.own.clone(),
            passphrase: Some(PASSPHRASE.to_owned()),
            now_ms: SystemClock::start().now().as_millis(),
            algorithm: self.algorithm.name().to_owned(),
            expect: None,
            strict_expect: None,
        }
    }

    fn judge_sent(&self, sent: Sent) {
        let recorded = self.recorded(sent);
        let mut judge = Judge::new([Arc::clone(&self.dialect)]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let judged = runtime.block_on(judge.judge(&recorded)).unwrap();
        let bytes = judged.signed_bytes.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes));
        let refusal = judged.verdict.as_ref().err().map(Denial::reason);
        assert!(
            refusal == self.refusal,
            "{} in {}: {:?} {recorded:?} {:?} {:?}\n{:?}",
            self.name(),
            self.language.name(),
            judged.verdict,
            recorded.headers,
            recorded.body,
            bytes.collect::<Vec<_>>()
        );
        let altered = Recorded { secret: self.keys.other.clone(), ..recorded };
        let refused = runtime.block_on(judge.judge(&altered)).unwrap();
        assert_eq!(refused.verdict, Err(Denial::BadSignature), "{altered:?} under another key");
    }
}

/// Whether the machine has `command`. What it lacks is said, and was looked at by nobody.
fn has(command: &str, argument: &str) -> bool {
    let found = Command::new(command).arg(argument).output().is_ok();
    if !found {
        say(&format!("SKIPPED: {command} is not on this machine, so its snippets were not run"));
    }
    found
}

/// Says something that the test runner does not hold back.
fn say(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

fn python() -> String {
    let python = std::env::var("COUNTERSIGN_PYTHON");
    python.unwrap_or_else(|_| "target/python/bin/python".to_owned())
}

/// Makes programs of all cases, by name.
fn made(cases: &[Case], folder: &Path) -> BTreeMap<String, Command> {
    let Some(language) = cases.first().map(|case| case.language) else { return BTreeMap::new() };
    let interpreted = |interpreter: &str, suffix: &str| {
        let each = cases.iter().map(|case| {
            let mut command = Command::new(interpreter);
            command.arg(case.save(folder, &format!("{}.{suffix}", case.name())));
            (case.name(), command)
        });
        each.collect()
    };
    match language {
        Language::Python => interpreted(&python(), "py"),
        Language::Javascript => interpreted("node", "mjs"),
        Language::Bash => interpreted("bash", "sh"),
        Language::Go => built(cases, &folder.join("bin"), || build_go(cases, folder)),
        Language::Rust => built(cases, &folder.join("target/debug"), || build_rust(cases, folder)),
    }
}

fn built(cases: &[Case], folder: &Path, build: impl FnOnce()) -> BTreeMap<String, Command> {
    build();
    cases.iter().map(|case| (case.name(), Command::new(folder.join(case.name())))).collect()
}

/// Builds one module of many programs with the standard library alone, formatted as Go programmers have it.
fn build_go(cases: &[Case], folder: &Path) {
    fs::create_dir_all(folder.join("bin")).unwrap();
    fs::write(folder.join("go.mod"), "module snippets\n\ngo 1.19\n").unwrap();
    for case in cases {
        case.save(&folder.join(case.name()), "main.go");
    }
    let go = |arguments: &[&str]| {
        let mut go = Command::new("go");
        go.args(arguments).current_dir(folder).env("GOFLAGS", "-mod=mod").env("GOPROXY", "off");
        go.env("GOTOOLCHAIN", "local").env("GOCACHE", folder.join("cache"));
        succeed(&mut go)
    };
    go(&["build", "-o", "bin/", "./..."]);
    go(&["vet", "./..."]);
    if has("gofmt", "-h") {
        let unlike = succeed(Command::new("gofmt").args(["-d", "."]).current_dir(folder));
        assert_eq!(unlike, "");
    }
}

fn build_rust(cases: &[Case], folder: &Path) {
    let manifest = "[package]\nname = \"snippets\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
        [profile.dev]\ndebug = false\n\n[dependencies]\n\
        data-encoding = \"2\"\ned25519-dalek = { version = \"3\", features = [\"pem\"] }\ngetrandom = \"0.4\"\n\
        hmac = \"0.13\"\npem = \"4\"\nring = { version = \"0.17\", features = [\"std\"] }\nsha2 = \"0.11\"\n\
        serde_json = { version = \"1\", features = [\"preserve_order\"] }\n\
        ureq = { version = \"3\", default-features = false }\n";
    let sources = folder.join("src/bin");
    for case in cases {
        case.save(&sources, &format!("{}.rs", case.name()));
    }
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::copy("Cargo.lock", folder.join("Cargo.lock")).unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--bins"]).current_dir(folder);
    build.env("RUSTFLAGS", "-D warnings").env("CARGO_TARGET_DIR", folder.join("target"));
    succeed(&mut build);
}

/// What the command says, which must end well.
fn succeed(command: &mut Command) -> String {
    let ran = command.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    said.into_owned()
}

/// Runs every snippet; and those that check who answers with replies of somebody else too.
fn run_all(language: Language) {
    let cases = cases(language);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("snippets").join(language.name());
    let mut programs = made(&cases, &folder);
    let mut checking = 0;
    for case in &cases {
        let program = programs.get_mut(&case.name()).unwrap();
        case.judge(program);
        if case.dialect.signs_replies().is_some() {
            case.refuses_others(program);
            checking += 1;
        }
    }
    let (name, count) = (language.name(), cases.len());
    say(&format!(
        "{name}: {count} snippets (dialect, algorithm) were run, {checking} of them check replies"
    ));
    assert!(checking > 0);
}

#[test]
fn every_algorithm_of_every_dialect_has_a_snippet_in_every_language() {
    let mut count = 0;
    for (language, name) in Language::ALL {
        for case in cases(language) {
            assert!(case.program().contains("SECRET"), "{} in {name}", case.name());
            count += 1;
        }
    }
    say(&format!("{count} snippets (dialect, language, algorithm) can be written"));
    assert!(count >= 39 * Language::ALL.len(), "{count}");
}

#[test]
fn snippets_in_python_sign_what_their_recipes_accept() {
    run_all(Language::Python);
}

#[test]
fn snippets_in_bash_sign_what_their_recipes_accept() {
    run_all(Language::Bash);
}

#[test]
fn brackets_and_braces_of_a_query_are_sent_as_they_were_signed() {
    let mut case = cases(Language::Bash)
        .into_iter()
        .find(|case| &**case.dialect.name() == "bybit" && case.refusal.is_none())
        .unwrap();
    case.example.method = Method::GET;
    case.example.target = "/v5/order/realtime?symbols=[1-3]&sides={Buy,Sell}".into();
    case.example.body = String::new();
    let folder = tempfile::tempdir().unwrap();
    let program = case.save(folder.path(), "brackets.sh");
    // Of a list, a second address would be waited for.
    let limit = PATIENCE.as_secs().to_string();
    case.judge(Command::new("timeout").args([&*limit, "bash"]).arg(program));
}

#[test]
fn snippets_in_javascript_sign_what_their_recipes_accept() {
    if has("node", "--version") {
        run_all(Language::Javascript);
    }
}

#[test]
fn snippets_in_go_sign_what_their_recipes_accept() {
    if has("go", "version") {
        run_all(Language::Go);
    }
}

#[test]
fn snippets_in_rust_sign_what_their_recipes_accept() {
    run_all(Language::Rust);
}
