//! What the documents say is there is there: files, tests, and the command line.
#![cfg(feature = "server")]
#![expect(clippy::panic, clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use countersign::config::{Config, Contents, Lookup};
use zeroize::Zeroizing;

/// Documents that name files, tests or commands.
const DOCUMENTS: [&str; 5] =
    ["README.md", "SECURITY.md", "CHANGELOG.md", "grafana/README.md", "src/docs/threats.md"];
/// A word without a slash that names a test is at least this long.
const SHORTEST_TEST: usize = 16;

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands between backticks on one line.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                found.push(path);
            }
        }
    }
    found
}

/// The names of all tests.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in [sources(Path::new("src")), sources(Path::new("tests"))].concat() {
        let text = read(file);
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                let mut rest = lines.by_ref().skip_while(|line| !line.contains("fn "));
                let signature = rest.next().unwrap_or_default();
                let (_, name) = signature.split_once("fn ").unwrap();
                names.insert(name.split('(').next().unwrap().to_owned());
            }
        }
    }
    names
}

fn is_test_name(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    word.len() >= SHORTEST_TEST && word.bytes().all(plain) && word.matches('_').count() > 1
}

/// Paths inside the project; the demo's own URLs and the reader's files are none.
fn is_path(word: &str) -> bool {
    let top = ["src/", "tests/", "benches/", "config/", "grafana/", "packaging/", ".ci/"];
    top.iter().any(|top| word.starts_with(top)) && !word.contains(['<', '*', ' ', ':'])
}

#[test]
fn every_file_that_a_document_names_exists() {
    for document in DOCUMENTS {
        let text = read(document);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let links = links.filter(|link| !link.starts_with("http") && !link.starts_with('#'));
        for path in quoted(&text).filter(|word| is_path(word)).chain(links) {
            assert!(Path::new(path).exists(), "{document} names {path}");
        }
    }
}

#[test]
fn every_test_that_a_document_names_exists() {
    let tests = tests();
    assert!(tests.len() > 100);
    let mut named = 0;
    for document in DOCUMENTS {
        for name in quoted(&read(document)).filter(|word| is_test_name(word)) {
            assert!(tests.contains(name), "{document} names {name}");
            named += 1;
        }
    }
    assert!(named > 30, "{named}");
}

/// What the shell blocks of a document run countersign with, continued lines joined.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for block in text.split("```sh\n").skip(1) {
        let block = block.split("```").next().unwrap().replace("\\\n", " ");
        for line in block.lines() {
            let line = line.split(" #").next().unwrap();
            for start in ["countersign ", "cargo run --release -- "] {
                if let Some(at) = line.find(start) {
                    let call = line.get(at + start.len()..).unwrap();
                    found.push(call.split(['|', '>', '&']).next().unwrap().trim().to_owned());
                }
            }
        }
    }
    found
}

fn help(command: &[&str]) -> Option<String> {
    let told = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(command)
        .arg("--help")
        .output()
        .unwrap();
    told.status.success().then(|| String::from_utf8(told.stdout).unwrap())
}

#[test]
fn every_command_and_flag_of_the_readme_is_known() {
    let commands = commands(&read("README.md"));
    assert!(commands.len() >= 8, "{commands:?}");
    for line in commands {
        let mut words: Vec<_> = line.split_whitespace().collect();
        let flags: Vec<_> = words.iter().filter(|word| word.starts_with('-')).copied().collect();
        let end = words.iter().position(|word| word.starts_with('-')).unwrap_or(words.len());
        words.truncate(end);
        // `dialects show binance` is a command within a command.
        let groups = [
            "accounts",
            "approvals",
            "apps",
            "audit",
            "bans",
            "dialects",
            "keys",
            "otp",
            "registry",
            "switches",
        ];
        let depth = if words.first().is_some_and(|word| groups.contains(word)) { 2 } else { 1 };
        words.truncate(depth);
        let help = help(&words).unwrap_or_else(|| panic!("countersign {line}"));
        for flag in flags {
            let known = |word: &str| word.trim_end_matches(',') == flag;
            assert!(help.split_whitespace().any(known), "countersign {line}: {flag}");
        }
    }
}

/// A machine where every variable and file that is asked for exists.
struct Furnished;

impl Lookup for Furnished {
    fn variable(&self, _name: &str) -> Option<Zeroizing<String>> {
        Some("0123456789abcdef0123456789abcdef".to_owned().into())
    }

    fn file(&self, path: &Path) -> io::Result<Contents> {
        let certificate = path.file_name().is_some_and(|name| name == "chain.pem");
        let kind = if certificate { "CERTIFICATE" } else { "PRIVATE KEY" };
        let bytes = format!("-----BEGIN {kind}-----").into_bytes().into();
        Ok(Contents { bytes, public: false })
    }
}

#[test]
fn the_configuration_in_the_readme_is_good_and_needs_no_warning() {
    let text = read("README.md");
    let (_, rest) = text.split_once("```toml\n").unwrap();
    let (written, _) = rest.split_once("```").unwrap();
    let loaded = Config::parse(written, Path::new("README.md"), &Furnished);
    let loaded = loaded.unwrap_or_else(|refused| panic!("{refused}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}
