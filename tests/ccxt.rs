//! The real ccxt, only its base URLs changed, against the running demo; and what it makes of every refusal.
#![cfg(feature = "server")]
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const COUNTERSIGN: &str = env!("CARGO_BIN_EXE_countersign");
const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// The Python that has what tests/e2e/requirements.txt asks for.
fn python() -> Command {
    let named = std::env::var_os("COUNTERSIGN_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| Path::new(HERE).join("target/python/bin/python"));
    assert!(
        python.exists(),
        "{} is missing: `tests/run` makes target/python, or let COUNTERSIGN_PYTHON name a Python with \
         tests/e2e/requirements.txt",
        python.display()
    );
    Command::new(python)
}

/// A running demo, ended when dropped.
struct Demo(Child);

impl Demo {
    /// Starts it, and writes the line it prints to `facts`.
    fn start(facts: &Path) -> Self {
        let mut child = Command::new(COUNTERSIGN)
            .args(["demo", "--json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        std::fs::write(facts, line).unwrap();
        Self(child)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
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
    let ended = python().arg(script).args([recipes, errors]).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
}
