//! What is wrong with a configuration: where, what, and the cure. It never repeats a secret.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 when the whole file is meant.
    pub line: usize,
    /// The column in characters, from 1; 0 when the whole file is meant.
    pub column: usize,
    /// The path of the key, as `route[3].dialect`; empty when the whole file is meant.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub cure: Option<String>,
    /// What stands there, without secrets.
    pub excerpt: Option<Excerpt>,
}

/// A piece of a line, with the part that is meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Excerpt {
    /// What to show.
    pub text: String,
    /// The characters before the part that is meant.
    pub before: usize,
    /// The characters of the part that is meant.
    pub length: usize,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.problem)?;
        self.cure.as_ref().map_or(Ok(()), |cure| write!(f, " ({cure})"))
    }
}

impl ConfigError {
    /// A problem of a whole file.
    pub(super) fn of_file(file: &Path, problem: String) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            key: String::new(),
            problem,
            cure: None,
            excerpt: None,
        }
    }
}

/// Why a configuration is refused: every problem that was found, in the order of the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    /// What must be mended; at least one.
    pub errors: Vec<ConfigError>,
    /// What should be looked at.
    pub warnings: Vec<ConfigError>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut errors = self.errors.iter();
        errors.next().map_or(Ok(()), |first| write!(f, "{first}"))?;
        errors.try_for_each(|error| write!(f, "\n{error}"))
    }
}

impl std::error::Error for Refused {}

/// A problem was found, and is on the list already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Reported;

/// What is wrong with a value, before it is known where it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Fault {
    pub(super) problem: String,
    pub(super) cure: Option<String>,
}

impl Fault {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), cure: None }
    }

    pub(super) fn cured(problem: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { problem: problem.into(), cure: Some(cure.into()) }
    }

    /// Nothing is called `name`; the nearest known name is the cure, or all of them where they are few.
    pub(super) fn unknown<'n>(
        kind: &str,
        name: &str,
        known: impl IntoIterator<Item = &'n str>,
    ) -> Self {
        let known: Vec<_> = known.into_iter().collect();
        let cure = match nearest(name, &known) {
            Some(near) => Some(format!("did you mean \"{near}\"?")),
            None if known.is_empty() => None,
            None if known.len() <= 8 => Some(format!("known: {}", known.join(", "))),
            None => None,
        };
        Self { problem: format!("no {kind} is called \"{}\"", shown(name)), cure }
    }
}

/// Line and column, both from 1, of a byte.
pub(super) fn place(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// The line at `span`, up to the first `=` before it: what follows might be a secret.
pub(super) fn cautious_excerpt(text: &str, span: &Range<usize>) -> Option<Excerpt> {
    let start = text.get(..span.start)?.rfind('\n').map_or(0, |end| end + 1);
    let line = text.get(start..)?.lines().next()?;
    let before = text.get(start..span.start)?.chars().count();
    let (shown_text, hidden) = match line.split_once('=') {
        Some((name, _)) => (format!("{name}= …"), name.chars().count() + 1),
        None => (line.to_owned(), usize::MAX),
    };
    let length = text.get(span.clone()).map_or(1, |meant| meant.chars().count());
    let (before, length) = if before >= hidden {
        (hidden + 1, 1)
    } else {
        (before, length.clamp(1, shown_text.chars().count().saturating_sub(before).max(1)))
    };
    Some(Excerpt { text: shown_text, before, length })
}

/// A name as it may be printed: short, without control characters.
pub(super) fn shown(name: &str) -> String {
    let printable = name.chars().map(|c| if c.is_control() { '?' } else { c });
    if name.chars().count() <= 60 {
        printable.collect()
    } else {
        printable.take(59).chain(['…']).collect()
    }
}

/// The known name nearest to `name`, if one is near enough to be a slip.
pub(super) fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    let room = (name.chars().count() / 3).clamp(1, 3);
    let near = known.iter().map(|known| (distance(name, known), *known));
    near.filter(|(distance, _)| *distance <= room).min().map(|(_, known)| known)
}

/// How many letters must be changed, added, dropped or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    let mut last = None;
    for (row, letter) in from.chars().take(100).enumerate() {
        let mut line = vec![row + 1];
        for (column, wanted) in to.iter().enumerate() {
            let at =
                |cells: &[usize], place: usize| cells.get(place).copied().unwrap_or(usize::MAX / 2);
            let changed = at(&above, column) + usize::from(letter != *wanted);
            let mut best = changed.min(at(&above, column + 1) + 1).min(at(&line, column) + 1);
            let left = column.checked_sub(1).and_then(|left| to.get(left));
            if last == Some(*wanted) && left == Some(&letter) {
                best = best.min(at(&before, column.saturating_sub(1)) + 1);
            }
            line.push(best);
        }
        last = Some(letter);
        before = std::mem::replace(&mut above, line);
    }
    above.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_another_word_does_not() {
        let known = ["binance", "bybit", "bitget"];
        for (name, near) in [
            ("binanse", Some("binance")),
            ("bybti", Some("bybit")),
            ("bitge", Some("bitget")),
            ("kraken", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, &known), near, "{name}");
        }
    }

    #[test]
    fn distance_counts_single_slips() {
        for (from, to, slips) in
            [("", "", 0), ("ab", "ba", 1), ("abc", "abd", 1), ("a", "", 1), ("", "xy", 2)]
        {
            assert_eq!(distance(from, to), slips, "{from} {to}");
        }
    }

    #[test]
    fn line_and_column_count_characters_from_one() {
        assert_eq!(place("ab\nçd", 5), (2, 2));
        assert_eq!(place("", 0), (1, 1));
        assert_eq!(place("a", 99), (1, 2));
    }
}
