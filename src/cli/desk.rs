//! Where a command of the admin API works: what it asks, how it answers, and what it makes sure of first.

use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::admin::{Api, ApiError, Outcome, Reach, with_query};
use super::table::{self, Column, Eye, TIMES};
use super::text::{clean, counted, text};
use super::when;
use crate::clock::{Clock as _, SystemClock};

/// How a command of the admin API asks and answers.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Common {
    #[command(flatten)]
    reach: Reach,
    /// Print one JSON document: {"schema": 1, …}
    #[arg(long, global = true, conflicts_with = "quiet", help_heading = "Output")]
    pub(super) json: bool,
    /// Print ids only, one a line
    #[arg(short, long, global = true, help_heading = "Output")]
    pub(super) quiet: bool,
}

/// Asked before something is destroyed.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(super) struct Sure {
    /// Do not ask whether it is meant
    #[arg(short, long)]
    pub(super) yes: bool,
}

/// Why, for the audit trail.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Reason {
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
}

impl Reason {
    /// Beside what a body says anyway.
    pub(super) fn beside(&self, mut body: Value) -> Value {
        if let (Some(reason), Some(fields)) = (&self.reason, body.as_object_mut()) {
            fields.insert("reason".into(), json!(reason));
        }
        body
    }
}

/// Why a command ends early.
#[derive(Debug)]
pub(super) enum Failure {
    /// The command line asks for what cannot be.
    Usage(String),
    /// It went wrong, or was called off.
    Failed(String),
    /// The API says no, or nothing.
    Api(ApiError),
    /// The answer cannot be written.
    Output(io::Error),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// What came of a command.
pub(super) type Done = Result<(), Failure>;

/// The place of one command.
pub(super) struct Desk<'a> {
    pub(super) api: Api,
    pub(super) common: &'a Common,
    pub(super) eye: Eye,
    pub(super) out: &'a mut dyn Write,
    pub(super) err: &'a mut dyn Write,
}

/// Runs a command of the admin API called `name`.
pub(super) fn at_desk(
    name: &str,
    common: &Common,
    out: &mut dyn Write,
    err: &mut dyn Write,
    command: impl FnOnce(&mut Desk<'_>) -> Done,
) -> io::Result<ExitCode> {
    let done = match Api::new(&common.reach) {
        Ok(api) => {
            let eye = Eye { human: io::stdout().is_terminal(), now: SystemClock::start().now() };
            command(&mut Desk { api, common, eye, out, err })
        }
        Err(problem) => Err(Failure::Usage(problem)),
    };
    let (problem, code) = match done {
        Ok(()) => return Ok(ExitCode::SUCCESS),
        Err(Failure::Output(error)) => return Err(error),
        Err(Failure::Usage(problem)) => (problem, ExitCode::from(2)),
        Err(Failure::Failed(problem)) => (problem, ExitCode::FAILURE),
        Err(Failure::Api(error)) => (error.to_string(), ExitCode::FAILURE),
    };
    // What was printed before stands before what went wrong.
    out.flush()?;
    writeln!(err, "countersign {name}: {problem}")?;
    Ok(code)
}

impl Desk<'_> {
    /// Prints one thing: all of it, or its id.
    pub(super) fn thing(&mut self, item: Value, id: &str, first: &[&str]) -> Done {
        if self.common.quiet {
            writeln!(self.out, "{}", clean(id))?;
        } else if self.common.json {
            self.document(item)?;
        } else {
            table::facts(self.out, &item, first, self.eye)?;
        }
        Ok(())
    }

    /// Prints a JSON document.
    pub(super) fn document(&mut self, value: Value) -> Done {
        let mut document = Map::new();
        document.insert("schema".into(), json!(SCHEMA));
        match with_times(value) {
            Value::Object(fields) => document.extend(fields),
            Value::Null => {}
            other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                document.insert("value".into(), other);
            }
        }
        writeln!(self.out, "{}", Value::Object(document))?;
        Ok(())
    }

    /// Tells that something was done; with `--json` what the API said of it, with `--quiet` the id.
    pub(super) fn done(&mut self, outcome: Outcome, id: &str, told: &str) -> Done {
        let Some(answer) = self.settled(outcome)? else { return Ok(()) };
        if self.common.json {
            return self.document(answer);
        }
        if self.common.quiet {
            writeln!(self.out, "{}", clean(id))?;
            return Ok(());
        }
        writeln!(self.out, "{told}{}", confirmed_by(&answer))?;
        self.waiting(&answer)
    }

    /// Tells which gateways have not confirmed a change, and what becomes of it there.
    pub(super) fn waiting(&mut self, answer: &Value) -> Done {
        for gateway in gateways(answer, "waiting") {
            let (name, heard) = (clean(text(gateway, "name")), clean(text(gateway, "heard")));
            let heard = if heard.is_empty() { "not yet".to_owned() } else { heard };
            self.note(&format!(
                "Gateway {name} has not confirmed it; last heard of: {heard}. Where the gateways share a store it is \
                 refused there all the same; else until that gateway's knowledge of keys is too old."
            ))?;
        }
        Ok(())
    }

    /// What came of a change; where it waits for a second person, that is told here.
    pub(super) fn settled(&mut self, outcome: Outcome) -> Result<Option<Value>, Failure> {
        match outcome {
            Outcome::Done(answer) => Ok(Some(answer)),
            Outcome::Waits(answer) => {
                let inner = answer.get("approval").unwrap_or(&answer);
                let id = inner.as_str().unwrap_or_else(|| text(inner, "id"));
                let id = clean(id);
                writeln!(
                    self.err,
                    "This waits for a second person, who runs: countersign approvals approve {id}"
                )?;
                if self.common.json {
                    self.document(answer)?;
                } else if self.common.quiet {
                    writeln!(self.out, "{id}")?;
                }
                Ok(None)
            }
        }
    }

    /// A line for a person, beside what is printed.
    pub(super) fn note(&mut self, line: &str) -> Done {
        writeln!(self.err, "{line}")?;
        Ok(())
    }

    /// Prints a list that comes in pages.
    pub(super) fn list(&mut self, wanted: &Wanted<'_>, columns: &[Column]) -> Done {
        let mut left = wanted.pages.map_or(usize::MAX, Pages::wanted);
        let mut after = wanted.pages.and_then(|pages| pages.after.clone());
        let (mut items, mut written) = (Vec::new(), false);
        if self.common.json {
            write!(self.out, "{{\"schema\":{SCHEMA},\"items\":[")?;
        }
        while left > 0 {
            let limit = left.min(PAGE).to_string();
            let mut query = wanted.query.clone();
            if wanted.pages.is_some() {
                query.extend([("limit", Some(&*limit)), ("after", after.as_deref())]);
            }
            let mut page = self.api.get(&with_query(wanted.path, &query))?;
            let got = match page.get_mut("items").map(Value::take) {
                Some(Value::Array(got)) => got,
                _ => Vec::new(),
            };
            left = left.saturating_sub(got.len());
            let before = after.take();
            after = page.get("next").and_then(Value::as_str).map(str::to_owned);
            for item in got {
                if self.common.json {
                    let comma = if written { "," } else { "" };
                    write!(self.out, "{comma}{}", with_times(item))?;
                } else if self.common.quiet {
                    writeln!(self.out, "{}", clean(text(&item, wanted.id)))?;
                } else {
                    items.push(item);
                }
                written = true;
            }
            // A cursor that does not move would be followed forever.
            if after.is_none() || after == before {
                break;
            }
        }
        if self.common.json {
            writeln!(self.out, "],\"next\":{}}}", json!(after))?;
        } else if !self.common.quiet && (written || !self.eye.human) {
            table::list(self.out, &items, columns, self.eye)?;
        }
        self.rest(wanted, after.as_deref(), written)
    }

    fn rest(&mut self, wanted: &Wanted<'_>, after: Option<&str>, any: bool) -> Done {
        match after {
            _ if self.common.json => Ok(()),
            Some(after) => {
                self.out.flush()?;
                self.note(&format!("There are more: --all, or --after {}", clean(after)))
            }
            None if !any && self.eye.human => self.note(&format!("There are no {}.", wanted.what)),
            None => Ok(()),
        }
    }

    /// Makes sure that `what` is meant: whoever asks for it types `word`, or gave `--yes`.
    pub(super) fn confirm(&mut self, sure: Sure, what: &str, word: &str) -> Done {
        if sure.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::Usage(format!(
                "{what} Nobody can be asked here whether that is meant.\n  add --yes if it is"
            )));
        }
        self.out.flush()?;
        write!(self.err, "{what}\nType {word} to go on: ")?;
        self.err.flush()?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        if line.trim() == word {
            return Ok(());
        }
        Err(Failure::Failed("called off: nothing was done".to_owned()))
    }
}

/// A list to print.
pub(super) struct Wanted<'a> {
    /// Where it is.
    pub(super) path: &'a str,
    /// What narrows it.
    pub(super) query: Vec<(&'a str, Option<&'a str>)>,
    /// What its items are called.
    pub(super) what: &'a str,
    /// Where the id of an item stands.
    pub(super) id: &'a str,
    /// How much of it; where there is no more than one page, nothing says how much.
    pub(super) pages: Option<&'a Pages>,
}

/// How much of a list.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Pages {
    /// How many to show at most
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Show all, however many
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Go on behind the place that an earlier list ended with
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
}

impl Pages {
    fn wanted(&self) -> usize {
        if self.all { usize::MAX } else { usize::try_from(self.limit).unwrap_or(usize::MAX) }
    }
}

/// How many gateways have confirmed a change, to be put behind what was done; nothing where none was asked.
pub(super) fn confirmed_by(answer: &Value) -> String {
    let (confirmed, waiting) = (gateways(answer, "confirmed"), gateways(answer, "waiting"));
    match (confirmed.len(), waiting.len()) {
        (0, 0) => String::new(),
        (done, 0) => format!(", confirmed by {}", counted(done, "gateway")),
        (done, left) => format!(", confirmed by {done} of {}", counted(done + left, "gateway")),
    }
}

fn gateways<'a>(answer: &'a Value, which: &str) -> &'a [Value] {
    let all = answer.get("gateways").and_then(|gateways| gateways.get(which));
    all.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Moments as RFC 3339, wherever they stand.
fn with_times(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let told = fields.into_iter().map(|(name, value)| {
                let moment = value.as_u64().filter(|_| TIMES.contains(&name.as_str()));
                let moment = moment.filter(|micros| *micros >= LEAST_MOMENT);
                let value = moment.map_or_else(
                    || with_times(value),
                    |micros| json!(when::rfc3339(crate::clock::Micros(micros))),
                );
                (name, value)
            });
            Value::Object(told.collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(with_times).collect()),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => other,
    }
}

/// Of every JSON document: raised when a field goes away or changes its meaning.
const SCHEMA: u32 = 1;
/// Asked for at a time.
const PAGE: usize = 1_000;
/// 2001, in microseconds: a smaller number is a count.
const LEAST_MOMENT: u64 = 1_000_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_confirmed_is_counted_and_who_did_not_is_named() {
        let of = |confirmed: &[&str], waiting: &[&str]| {
            let waiting: Vec<_> = waiting.iter().map(|name| json!({"name": name})).collect();
            confirmed_by(&json!({"gateways": {"confirmed": confirmed, "waiting": waiting}}))
        };
        assert_eq!(confirmed_by(&json!({"id": "csk_1"})), "");
        assert_eq!(of(&[], &[]), "");
        assert_eq!(of(&["a"], &[]), ", confirmed by 1 gateway");
        assert_eq!(of(&["a", "b"], &[]), ", confirmed by 2 gateways");
        assert_eq!(of(&["a", "b"], &["c"]), ", confirmed by 2 of 3 gateways");
    }

    #[test]
    fn a_document_tells_moments_in_rfc_3339() {
        let value = json!({"created": 1_700_000_000_000_000_u64, "first": 3, "key": {"expires": null,
            "secrets": [{"until": 1_700_000_000_000_000_u64}]}});
        let told = json!({"created": "2023-11-14T22:13:20Z", "first": 3, "key": {"expires": null,
            "secrets": [{"until": "2023-11-14T22:13:20Z"}]}});
        assert_eq!(with_times(value), told);
    }
}
