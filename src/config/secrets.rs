//! Secrets from the environment or from files. Nothing here prints one, nor a name that might be one.

use zeroize::Zeroizing;

use super::document::{Node, text};
use super::problem::Fault;

/// The bytes of `{ env = "…" }` or `{ file = "…" }`; a file's trailing newline is not part of it.
pub(super) fn secret(node: &Node<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = read(node, true)?;
    let is_space = |end: Option<&u8>| end.is_some_and(u8::is_ascii_whitespace);
    if is_space(bytes.first()) || is_space(bytes.last()) || bytes.starts_with(MARK.as_bytes()) {
        node.spot.warn(
            "it begins or ends with white space or a byte order mark, which counts as part of it: take that away unless \
             clients sign with it",
        );
    }
    Some(bytes)
}

/// What some editors put before a text.
const MARK: &str = "\u{feff}";

/// The same of what everybody may know, and read.
pub(super) fn no_secret(node: &Node<'_>) -> Option<Zeroizing<Vec<u8>>> {
    read(node, false)
}

fn read(node: &Node<'_>, is_secret: bool) -> Option<Zeroizing<Vec<u8>>> {
    if node.value.as_table().is_none() {
        node.spot.error(Fault::cured(
            "a secret does not stand in the configuration itself",
            "write { env = \"NAME\" } or { file = \"path\" }, and change the secret if others saw it",
        ));
        return None;
    }
    let table = node.table()?;
    let (env, file) = (table.find("env"), table.find("file"));
    let both = env.is_some() && file.is_some();
    if both || (env.is_none() && file.is_none()) {
        let problem = if both {
            "`env` and `file` are both given"
        } else {
            "neither `env` nor `file` is given"
        };
        node.spot.error(Fault::cured(problem, "write { env = \"NAME\" } or { file = \"path\" }"));
    }
    table.finish();
    if both {
        return None;
    }
    env.map_or_else(|| from_file(&file?, is_secret), |node| from_variable(&node))
}

fn from_variable(node: &Node<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let name = node.read(text)?;
    let value = node.spot.document.lookup.variable(name);
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        let problem = if is_plainly_a_name(name) {
            format!("the environment variable {name} is not set, or is empty")
        } else {
            "the environment variable of this name is not set, or is empty".to_owned()
        };
        node.spot.error(Fault::cured(problem, "set it where the gateway is started"));
        return None;
    };
    Some(Zeroizing::new(value.as_bytes().to_vec()))
}

fn from_file(node: &Node<'_>, is_secret: bool) -> Option<Zeroizing<Vec<u8>>> {
    let path = node.spot.document.path(node.read(text)?);
    let contents = node.read(|_| {
        node.spot.document.lookup.file(&path).map_err(|error| {
            // The name might be a secret that stands in the wrong place: the error's kind does not repeat it.
            Fault::cured(
                format!("this file cannot be read: {}", cause(&error)),
                "paths are relative to the configuration's directory",
            )
        })
    })?;
    if is_secret && contents.public {
        node.spot.warn("every user of this machine can read this secret: take the permission away");
    }
    let mut bytes = contents.bytes;
    let end = bytes.iter().rposition(|byte| !b"\r\n".contains(byte)).map_or(0, |last| last + 1);
    bytes.truncate(end);
    if bytes.is_empty() {
        node.spot.error(Fault::new("this file is empty"));
        return None;
    }
    Some(bytes)
}

/// What the system said, in its own words where they are known to be no more than that.
fn cause(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(_) => error.to_string(),
        None => error.kind().to_string(),
    }
}

/// Whether a text looks like `API_SECRET`: a secret that was put in the name's place does not.
fn is_plainly_a_name(text: &str) -> bool {
    text.len() <= 40
        && text.contains('_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}
