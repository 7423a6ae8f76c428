//! Reads a TOML document key by key, and notes every problem with its place instead of stopping at the first.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::problem::{ConfigError, Excerpt, Fault, cautious_excerpt, nearest, place, shown};

/// Where variables and files are looked up: the system's, or a test's own.
pub trait Lookup {
    /// The value of an environment variable, if it is set to text.
    fn variable(&self, name: &str) -> Option<Zeroizing<String>>;
    /// The bytes of a file.
    fn file(&self, path: &Path) -> io::Result<Contents>;
    /// Whether something stands at a path that is no directory.
    fn is_no_directory(&self, _path: &Path) -> bool {
        false
    }
}

/// What a file holds.
pub struct Contents {
    /// Its bytes.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Whether every user of the machine may read it.
    pub public: bool,
}

/// The process's own environment and files.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Lookup for System {
    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        std::env::var(name).ok().map(Zeroizing::new)
    }

    fn file(&self, path: &Path) -> io::Result<Contents> {
        let bytes = Zeroizing::new(std::fs::read(path)?);
        Ok(Contents { bytes, public: is_public(path)? })
    }

    fn is_no_directory(&self, path: &Path) -> bool {
        path.metadata().is_ok_and(|found| !found.is_dir())
    }
}

#[cfg(unix)]
fn is_public(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn is_public(_path: &Path) -> io::Result<bool> {
    Ok(false)
}

/// A document under judgement, with what was found wrong so far.
pub(super) struct Document<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
    pub(super) lookup: &'a dyn Lookup,
    errors: RefCell<Vec<ConfigError>>,
    warnings: RefCell<Vec<ConfigError>>,
}

impl<'a> Document<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str, lookup: &'a dyn Lookup) -> Self {
        let (errors, warnings) = (RefCell::default(), RefCell::default());
        Self { file, text, lookup, errors, warnings }
    }

    /// A path as the document means it: relative to its own directory.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    pub(super) fn error(&self, error: ConfigError) {
        self.errors.borrow_mut().push(error);
    }

    /// Errors, then warnings, each in the order of the file.
    pub(super) fn into_problems(self) -> (Vec<ConfigError>, Vec<ConfigError>) {
        let by_place = |mut all: Vec<ConfigError>| {
            all.sort_by_key(|problem| (problem.line, problem.column));
            all
        };
        (by_place(self.errors.into_inner()), by_place(self.warnings.into_inner()))
    }

    /// What TOML itself objects to. Its messages name what was expected, never what stood there.
    pub(super) fn syntax(&self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        let (line, column) = place(self.text, span.start);
        self.error(ConfigError {
            file: self.file.to_owned(),
            line,
            column,
            key: String::new(),
            problem: error.message().replace('\n', ", "),
            cure: None,
            excerpt: cautious_excerpt(self.text, &span),
        });
    }
}

/// A place in the document: a key, and what problems of it are reported with.
#[derive(Clone)]
pub(super) struct Spot<'a> {
    pub(super) document: &'a Document<'a>,
    /// The path of the key.
    pub(super) key: String,
    span: Range<usize>,
    /// What is shown of it: all, or nothing because it may be a secret.
    pub(super) secret: bool,
    whole_table: bool,
}

impl Spot<'_> {
    pub(super) fn error(&self, fault: Fault) {
        self.document.error(self.problem(fault));
    }

    pub(super) fn warn(&self, problem: impl Into<String>) {
        let problem = self.problem(Fault::new(problem));
        self.document.warnings.borrow_mut().push(problem);
    }

    /// Reports the fault, if there is one.
    pub(super) fn noted<T>(&self, outcome: Result<T, Fault>) -> Option<T> {
        outcome.map_err(|fault| self.error(fault)).ok()
    }

    fn problem(&self, fault: Fault) -> ConfigError {
        let (line, column) = place(self.document.text, self.span.start);
        ConfigError {
            file: self.document.file.to_owned(),
            line,
            column,
            key: self.key.clone(),
            problem: fault.problem,
            cure: fault.cure,
            excerpt: self.excerpt(),
        }
    }

    fn excerpt(&self) -> Option<Excerpt> {
        if self.secret || self.whole_table {
            let excerpt = cautious_excerpt(self.document.text, &self.span);
            // A line of its own, as of an array over several lines, hides nothing behind a `=`.
            return excerpt.filter(|excerpt| !self.secret || excerpt.text.contains('='));
        }
        let meant = shown(self.document.text.get(self.span.clone())?.lines().next()?);
        let name = self.key.rsplit('.').next().unwrap_or_default();
        let name = name.split('[').next().unwrap_or_default();
        let (before, length) = (name.chars().count() + 3, meant.chars().count().max(1));
        Some(Excerpt { text: format!("{name} = {meant}"), before, length })
    }
}

/// A value and its place.
#[derive(Clone)]
pub(super) struct Node<'a> {
    pub(super) spot: Spot<'a>,
    pub(super) value: &'a DeValue<'a>,
}

impl<'a> Node<'a> {
    /// What `read` makes of the value.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&'a DeValue<'a>) -> Result<T, Fault>,
    ) -> Option<T> {
        self.spot.noted(read(self.value))
    }

    /// The value as a table.
    pub(super) fn table(&self) -> Option<Table<'a>> {
        let table =
            self.read(|value| value.as_table().ok_or_else(|| mistyped("a table", value)))?;
        let mut spot = self.spot.clone();
        spot.whole_table = true;
        Some(Table { spot, entries: table, known: RefCell::default() })
    }

    /// The items of an array, each with its own place.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        let items =
            self.read(|value| value.as_array().ok_or_else(|| mistyped("an array", value)))?;
        let item = |(place, item): (usize, &'a toml::Spanned<DeValue<'a>>)| {
            let mut spot = self.spot.clone();
            spot.key = format!("{}[{place}]", spot.key);
            spot.span = item.span();
            Self { spot, value: item.get_ref() }
        };
        Some(items.iter().enumerate().map(item).collect())
    }

    /// Each item as text that `read` understands; an item that is not is reported and left out.
    pub(super) fn texts<T>(&self, mut read: impl FnMut(&'a str) -> Result<T, Fault>) -> Vec<T> {
        let items = self.items().unwrap_or_default();
        items.iter().filter_map(|item| item.read(|value| read(text(value)?))).collect()
    }
}

/// A table, and which of its keys have been asked for.
pub(super) struct Table<'a> {
    pub(super) spot: Spot<'a>,
    entries: &'a DeTable<'a>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    pub(super) fn root(document: &'a Document<'a>, table: &'a DeTable<'a>) -> Self {
        let key = String::new();
        let spot = Spot { document, key, span: 0..0, secret: false, whole_table: true };
        Self { spot, entries: table, known: RefCell::default() }
    }

    /// The value of a key that may be absent.
    pub(super) fn find(&self, name: &'static str) -> Option<Node<'a>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&name) {
            known.push(name);
        }
        drop(known);
        self.node(name)
    }

    /// The value of a key that must be there.
    pub(super) fn need(&self, name: &'static str, cure: &str) -> Option<Node<'a>> {
        let found = self.find(name);
        if found.is_none() {
            self.spot.error(Fault::cured(format!("`{name}` is missing"), cure));
        }
        found
    }

    /// What `read` makes of a key's value, or the default when the key is absent.
    pub(super) fn or<T>(
        &self,
        name: &'static str,
        default: T,
        read: impl FnOnce(&'a DeValue<'a>) -> Result<T, Fault>,
    ) -> T {
        self.find(name).and_then(|node| node.read(read)).unwrap_or(default)
    }

    /// The tables of an array of tables; none when the key is absent.
    pub(super) fn tables(&self, name: &'static str) -> Vec<Self> {
        let items = self.find(name).and_then(|node| node.items()).unwrap_or_default();
        items.iter().filter_map(Node::table).collect()
    }

    /// Every key with its value, for tables whose keys the operator chooses.
    pub(super) fn all(&self) -> Vec<(&'a str, Node<'a>)> {
        let names = self.entries.keys().map(|name| &**name.get_ref());
        names.filter_map(|name| Some((name, self.node(name)?))).collect()
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(&self) {
        let known = self.known.borrow();
        for name in self.entries.keys().filter(|name| !known.contains(&&**name.get_ref())) {
            let text: &str = name.get_ref();
            let cure = nearest(text, &known).map(|near| format!("did you mean `{near}`?"));
            let mut spot = self.spot.clone();
            spot.key = joined(&spot.key, &shown(text));
            spot.span = name.span();
            let problem = "there is no such key".to_owned();
            let cure = cure.or_else(|| Some(format!("known here: {}", known.join(", "))));
            spot.error(Fault { problem, cure });
        }
    }

    fn node(&self, name: &str) -> Option<Node<'a>> {
        let (_, value) = self.entries.iter().find(|(key, _)| **key.get_ref() == *name)?;
        let key = joined(&self.spot.key, name);
        let secret = self.spot.secret || SECRETS.contains(&name);
        let document = self.spot.document;
        let spot = Spot { document, key, span: value.span(), secret, whole_table: false };
        Some(Node { spot, value: value.get_ref() })
    }
}

/// The keys whose values are never shown.
const SECRETS: [&str; 9] = [
    "secret",
    "passphrase",
    "password",
    "identity_key",
    "public_key",
    "challenge_key",
    "keys",
    "url",
    "token",
];

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

pub(super) fn mistyped(wanted: &str, found: &DeValue<'_>) -> Fault {
    let found = found.type_str();
    let article = if found.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
    Fault::new(format!("expected {wanted}, found {article} {found}"))
}

/// A text that is not empty.
pub(super) fn text<'a>(value: &'a DeValue<'a>) -> Result<&'a str, Fault> {
    match value.as_str() {
        None => Err(mistyped("a string", value)),
        Some("") => Err(Fault::new("it is empty")),
        Some(text) => Ok(text),
    }
}
