//! Small programs that sign one request, in several languages: written from the recipe that verifies it.

mod bash;
mod go;
mod go_functions;
mod javascript;
mod message;
mod plan;
mod python;
mod rust;
mod rust_crates;
mod rust_functions;
mod script;
mod token;

use std::fmt;

use crate::dialect::{Dialect, Draft, Unsignable};
use crate::key::Algorithm;

/// A language that a snippet can be written in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Language {
    /// Python 3.
    Python,
    /// JavaScript, for Node.js 18 or later.
    Javascript,
    /// Go.
    Go,
    /// Rust.
    Rust,
    /// Bash 5, with openssl 3 and curl 7.83 or later.
    Bash,
}

impl Language {
    /// Every language, with its name.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Python, "python"),
        (Self::Javascript, "javascript"),
        (Self::Go, "go"),
        (Self::Rust, "rust"),
        (Self::Bash, "bash"),
    ];

    /// The language called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(language, _)| *language)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(language, _)| *language == self).map_or("", |(_, name)| name)
    }
}

/// Why no snippet can be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Unwritable {
    /// The request cannot be signed.
    Draft(Unsignable),
    /// The dialect takes no key of this algorithm.
    Algorithm(Algorithm),
    /// The dialect signs JSON in a way that no snippet does.
    Json,
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Draft(error) => error.fmt(f),
            Self::Json => f.write_str("no snippet signs this JSON: give the parameters as a query"),
            Self::Algorithm(algorithm) => {
                write!(f, "the dialect takes no {} key", algorithm.name())
            }
        }
    }
}

impl std::error::Error for Unwritable {}

/// The algorithm that most keys of a dialect have: HMAC where it takes it, else Ed25519, else its first.
pub fn usual_algorithm(dialect: &Dialect) -> Option<Algorithm> {
    let symmetric = dialect.algorithms().find(|algorithm| algorithm.is_symmetric());
    let ed25519 = || dialect.algorithms().find(|one| *one == Algorithm::Ed25519);
    symmetric.or_else(ed25519).or_else(|| dialect.algorithms().next())
}

/// Writes a program that signs `draft` and sends it to `base` (scheme and host). It reads `KEY`, `SECRET` and, where the
/// dialect has one, `PASSPHRASE` from the environment, and prints the answer's status and body.
pub fn write(
    dialect: &Dialect,
    algorithm: Algorithm,
    draft: &Draft<'_>,
    base: &str,
    language: Language,
) -> Result<String, Unwritable> {
    let script = plan::plan(dialect, algorithm, draft, base)?;
    Ok(match language {
        Language::Python => python::print(&script),
        Language::Javascript => javascript::print(&script),
        Language::Go => go::print(&script),
        Language::Rust => rust::print(&script),
        Language::Bash => bash::print(&script),
    })
}
