//! The real ccxt, only its base URLs changed, against the running demo; and what it makes of every refusal.
#![cfg(feature = "server")]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use countersign::offline::{Judge, Recorded};
use tempfile::TempDir;

const COUNTERSIGN: &str = env!("CARGO_BIN_EXE_countersign");
const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// The Python that has what tests/e2e/requirements.txt asks for.
fn python() -> Command {
    interpreter("COUNTERSIGN_PYTHON", "python", "requirements.txt")
}

/// The Python with the last ccxt that knows exchanges which newer ones have dropped.
fn older_python() -> Command {
    interpreter("COUNTERSIGN_PYTHON_REMOVED", "python-removed", "requirements-removed.txt")
}

fn interpreter(variable: &str, folder: &str, wanted: &str) -> Command {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let python =
        named.unwrap_or_else(|| Path::new(HERE).join("target").join(folder).join("bin/python"));
    assert!(
        python.exists(),
        "{} is missing: `tests/run` makes target/{folder}, or let {variable} name a Python with tests/e2e/{wanted}",
        python.display()
    );
    Command::new(python)
}

/// Where the ccxt of JavaScript is, on machines that have Node.
fn node_modules() -> Option<PathBuf> {
    let named = std::env::var_os("COUNTERSIGN_NODE_MODULES").map(PathBuf::from);
    let modules = named.unwrap_or_else(|| Path::new(HERE).join("target/node/node_modules"));
    if modules.join("ccxt").exists() {
        return Some(modules);
    }
    assert!(
        Command::new("node").arg("--version").output().is_err(),
        "{} is missing: `tests/run` makes it, or let COUNTERSIGN_NODE_MODULES name a directory with what \
         tests/e2e/package.json asks for",
        modules.display()
    );
    None
}

/// A certificate for the loopback addresses that stand for the exchanges, and its key.
fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let addresses: Vec<_> = (11..=60).map(|last| format!("127.0.0.{last}")).collect();
    let mut wanted = rcgen::CertificateParams::new(addresses).unwrap();
    wanted.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    wanted.key_usages =
        vec![rcgen::KeyUsagePurpose::DigitalSignature, rcgen::KeyUsagePurpose::KeyCertSign];
    let key = rcgen::KeyPair::generate().unwrap();
    let made = wanted.self_signed(&key).unwrap();
    let (chain, secret) = (folder.join("chain.pem"), folder.join("key.pem"));
    std::fs::write(&chain, made.pem()).unwrap();
    std::fs::write(&secret, key.serialize_pem()).unwrap();
    (chain, secret)
}

/// A running demo, ended when dropped, and where its temporary files go.
struct Demo {
    child: Child,
    _temporary: TempDir,
}

impl Demo {
    /// Starts it, and writes the line it prints to `facts`.
    fn start(facts: &Path) -> Self {
        let temporary = TempDir::new().unwrap();
        let mut child = Command::new(COUNTERSIGN)
            .args(["demo", "--json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .env("TMPDIR", temporary.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        std::fs::write(facts, line).unwrap();
        Self { child, _temporary: temporary }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn ccxt_trades_through_the_gateway_and_raises_its_own_exceptions() {
    let folder = tempfile::tempdir().unwrap();
    let facts = folder.path().join("demo.json");
    let _demo = Demo::start(&facts);
    let script = Path::new(HERE).join("tests/e2e/ccxt_orders.py");
    let ended = python().arg(script).arg("--demo-json").arg(facts).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
}

#[test]
fn every_refusal_raises_what_the_exchange_itself_would_have_raised() {
    let folder = tempfile::tempdir().unwrap();
    let recipes = folder.path().join("recipes.jsonl");
    let mut file = File::create(&recipes).unwrap();
    for (name, _) in countersign::dialect::BUILTIN {
        let shown =
            Command::new(COUNTERSIGN).args(["dialects", "show", name, "--json"]).output().unwrap();
        assert!(shown.status.success(), "{name}");
        file.write_all(&shown.stdout).unwrap();
    }
    let script = Path::new(HERE).join("tests/e2e/ccxt_refusals.py");
    let errors = Path::new(HERE).join("tests/vectors/errors.jsonl");
    let mut newer = python();
    newer.arg(&script).args([&recipes, &errors]);
    let mut older = older_python();
    older.arg(&script).args([&recipes, &errors]).arg("--removed");
    for mut judge in [newer, older] {
        let ended = judge.output().unwrap();
        let said = [ended.stdout, ended.stderr].concat();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn ccxt_drives_every_exchange_it_knows_with_only_base_urls_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = certificate(folder.path());
    let drive = |mut python: Command| {
        let script = Path::new(HERE).join("tests/e2e/ccxt_live.py");
        let errors = Path::new(HERE).join("tests/vectors/errors.jsonl");
        python.arg(script).args(["--countersign", COUNTERSIGN]).arg("--errors").arg(errors);
        python.arg("--certificate").arg(&chain).arg("--key").arg(&key);
        python
    };
    let mut newer = drive(python());
    newer.args(node_modules().iter().flat_map(|modules| ["--node".as_ref(), modules.as_os_str()]));
    let mut older = drive(older_python());
    older.args(["--only", "bitmex", "coinex"]);
    for mut run in [newer, older] {
        let ended = run.output().unwrap();
        let said = [ended.stdout, ended.stderr].concat();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&said));
    }
}

#[test]
fn every_private_path_of_phemex_that_ccxt_knows_may_have_the_query_it_signs() {
    let script = Path::new(HERE).join("tests/e2e/ccxt_phemex.py");
    let signed = python().arg(script).output().unwrap();
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    let phemex = countersign::dialect::builtin("phemex").unwrap().unwrap();
    let mut judge = Judge::new([Arc::new(phemex)]).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut with_query = 0;
    for line in String::from_utf8(signed.stdout).unwrap().lines() {
        let request: Recorded = serde_json::from_str(line).unwrap();
        with_query += usize::from(request.target.contains('?'));
        let judged = runtime.block_on(judge.judge(&request)).unwrap();
        assert!(judged.verdict.is_ok(), "{request:?}: {:?}", judged.verdict);
        // The control: a path that the recipe does not name may have none.
        let target = request.target.replacen('?', "x?", 1);
        let other = runtime.block_on(judge.judge(&Recorded { target, ..request.clone() })).unwrap();
        assert!(other.verdict.is_err() || !request.target.contains('?'), "{request:?}");
    }
    assert!(with_query > 70, "{with_query}");
}
