//! `countersign verify`: judges recorded requests offline.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::dialect::{BUILTIN, Dialect, Explained};
use crate::offline::{Expected, Judge, Judged, Recorded, Unjudged};

/// Judge recorded requests offline and say why each is accepted or refused.
///
/// Each line of FILE is a JSON object: dialect, method, target, headers, body, key, secret, passphrase, algorithm, and
/// `now_ms`, the server's clock. Where it holds `expect` ("valid", "invalid" or "valid-if-lenient") and the verdict
/// differs, or where that says anything else, the exit status is 1. Lines are judged one by one: nothing is remembered, so a repeated line is not a replay.
///
/// Example: countersign verify tests/vectors/binance.jsonl tests/vectors/okx.jsonl
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Files of recorded requests, one JSON object a line; `-` reads standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print one JSON object a line: {"file", "line", "dialect", "accepted", "reason", …}
    #[arg(long)]
    json: bool,
    /// Also know the dialect of this recipe file; it replaces a built-in one of the same name
    #[arg(long, value_name = "FILE")]
    recipe: Vec<PathBuf>,
    /// Judge as where the operator switched `lenient` on, in every dialect whose recipe has such readings
    #[arg(long)]
    lenient: bool,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut impl Write, err: &mut impl Write) -> io::Result<ExitCode> {
    let dialects = match dialects(&args.recipe, args.lenient) {
        Ok(dialects) => dialects,
        Err(problem) => return usage(err, &problem),
    };
    let Ok(mut judge) = Judge::new(dialects) else {
        return usage(err, "the system gives no random bytes");
    };
    let mut tally = Tally::default();
    for file in &args.files {
        let name = file.display();
        let reader = match opened(file) {
            Ok(reader) => reader,
            Err(error) => return usage(err, &format!("{name}: {error}")),
        };
        let label = if args.files.len() > 1 { format!("{name}:") } else { String::new() };
        for (place, line) in reader.split(b'\n').enumerate() {
            let line = match line {
                Ok(line) if line.trim_ascii().is_empty() => continue,
                Ok(line) => line,
                Err(error) => return usage(err, &format!("{name}: line {}: {error}", place + 1)),
            };
            let line = line.strip_prefix(MARK.as_bytes()).filter(|_| place == 0).unwrap_or(&line);
            let told = Told::of(&mut judge, place + 1, line, args.lenient);
            tally.count(&told);
            if args.json { told.json(file, out)? } else { told.text(&label, out)? }
        }
    }
    if !args.json {
        tally.text(out)?;
    }
    Ok(if tally.contradicted == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What some editors put before a text.
const MARK: &str = "\u{feff}";

/// What is in `file`, or comes by standard input.
fn opened(file: &Path) -> io::Result<Box<dyn BufRead>> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    Ok(Box::new(io::BufReader::new(std::fs::File::open(file)?)))
}

fn usage(err: &mut impl Write, problem: &str) -> io::Result<ExitCode> {
    writeln!(err, "countersign verify: {problem}")?;
    Ok(ExitCode::from(2))
}

/// The built-in dialects, with those of the operator's own recipes.
fn dialects(recipes: &[PathBuf], lenient: bool) -> Result<Vec<Arc<Dialect>>, String> {
    let known = |dialect: Dialect| {
        let lenient = if lenient { dialect.clone().with_leniency() } else { None };
        Arc::new(lenient.unwrap_or(dialect))
    };
    let mut all = Vec::new();
    for (name, recipe) in BUILTIN {
        all.push(known(Dialect::compile(recipe).map_err(|error| format!("{name}: {error}"))?));
    }
    for file in recipes {
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let dialect =
            Dialect::compile(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        all.retain(|known| known.name() != dialect.name());
        all.push(known(dialect));
    }
    Ok(all)
}

/// What is told of one line.
struct Told {
    line: usize,
    recorded: Option<Recorded>,
    judged: Result<Judged, String>,
    lenient: bool,
}

impl Told {
    fn of(judge: &mut Judge, line: usize, text: &[u8], lenient: bool) -> Self {
        let recorded: Recorded = match serde_json::from_slice(text) {
            Ok(recorded) => recorded,
            Err(error) => {
                let judged = Err(format!("unreadable: {error}"));
                return Self { line, recorded: None, judged, lenient };
            }
        };
        let judged =
            ready(judge.judge(&recorded)).map_err(|error: Unjudged| format!("unreadable: {error}"));
        Self { line, recorded: Some(recorded), judged, lenient }
    }

    fn accepted(&self) -> bool {
        self.judged.as_ref().is_ok_and(|judged| judged.verdict.is_ok())
    }

    fn contradicted(&self) -> bool {
        self.judged.is_err()
            || match self.expected() {
                Expected::Nothing => false,
                Expected::Accepted => !self.accepted(),
                Expected::Refused => self.accepted(),
                Expected::Unknown(_) => true,
            }
    }

    fn expected(&self) -> Expected<'_> {
        match &self.recorded {
            Some(recorded) => recorded.expected(self.lenient),
            None => Expected::Nothing,
        }
    }

    fn reason(&self) -> String {
        match &self.judged {
            Err(problem) => problem.clone(),
            Ok(judged) => match &judged.verdict {
                Ok(_) => "accepted".to_owned(),
                Err(denial) if denial.detail().is_empty() => denial.reason().to_owned(),
                Err(denial) => format!("{}: {}", denial.reason(), denial.detail()),
            },
        }
    }

    fn dialect(&self) -> &str {
        self.recorded.as_ref().map_or("", |recorded| &recorded.dialect)
    }

    fn json(&self, file: &Path, out: &mut impl Write) -> io::Result<()> {
        let judged = self.judged.as_ref().ok();
        let both = judged.iter().flat_map(|judged| judged.signed_bytes.iter().zip(&judged.parts));
        let signed: Vec<_> = both
            .map(|((reading, bytes), (_, parts))| {
                json!({
                    "reading": reading.name(),
                    "text": String::from_utf8_lossy(bytes),
                    "parts": parts.iter().map(part).collect::<Vec<_>>(),
                })
            })
            .collect();
        let told = json!({
            "file": file.to_string_lossy(),
            "line": self.line,
            "dialect": self.dialect(),
            "accepted": self.accepted(),
            "reason": self.reason(),
            "contradicts_expect": self.contradicted(),
            "template": judged.and_then(|judged| judged.template.clone()),
            "signed_bytes": signed,
        });
        writeln!(out, "{told}")
    }

    fn text(&self, label: &str, out: &mut impl Write) -> io::Result<()> {
        let mark = match self.expected() {
            Expected::Unknown(word) => format!(
                "  <- the recording expects `{}`: it may say valid, invalid or valid-if-lenient",
                word.escape_debug()
            ),
            Expected::Nothing | Expected::Accepted | Expected::Refused => {
                let text = "  <- not what the recording expects";
                if self.contradicted() { text.to_owned() } else { String::new() }
            }
        };
        let verdict = if self.accepted() {
            "accepted".to_owned()
        } else {
            format!("refused, {}", self.reason())
        };
        writeln!(out, "{label}{}: {} {verdict}{mark}", self.line, self.dialect())?;
        let Ok(judged) = &self.judged else { return Ok(()) };
        if let Some(recorded) = &self.recorded {
            writeln!(out, "   {recorded:?}")?;
        }
        if let Some(template) = &judged.template {
            writeln!(out, "   signs      {}", template.escape_debug())?;
        }
        for (reading, bytes) in &judged.signed_bytes {
            let text = String::from_utf8_lossy(bytes);
            writeln!(out, "   {:<10} {}", reading.name(), text.escape_debug())?;
        }
        if !self.accepted()
            && let Some((_, parts)) = judged.parts.first()
        {
            parts.iter().try_for_each(|part| list(part, 14, out))?;
        }
        Ok(())
    }
}

/// A part of what is signed, as JSON.
fn part(explained: &Explained) -> Value {
    json!({
        "part": explained.part,
        "text": String::from_utf8_lossy(&explained.bytes),
        "of": explained.inner.iter().map(part).collect::<Vec<_>>(),
    })
}

/// The same as lines: those of a digest, and what it is of.
fn list(explained: &Explained, indent: usize, out: &mut impl Write) -> io::Result<()> {
    let text = match std::str::from_utf8(&explained.bytes) {
        Ok(text) => text.escape_debug().to_string(),
        Err(_) => format!("hex {}", data_encoding::HEXLOWER.encode(&explained.bytes)),
    };
    writeln!(out, "{:indent$}{} = {text}", "", explained.part.escape_debug())?;
    explained.inner.iter().try_for_each(|inner| list(inner, indent + 2, out))
}

#[derive(Default)]
struct Tally {
    judged: usize,
    accepted: usize,
    contradicted: usize,
}

impl Tally {
    fn count(&mut self, told: &Told) {
        self.judged += 1;
        self.accepted += usize::from(told.accepted());
        self.contradicted += usize::from(told.contradicted());
    }

    fn text(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { judged, accepted, contradicted } = self;
        let refused = judged - accepted;
        writeln!(
            out,
            "{judged} judged: {accepted} accepted, {refused} refused, {contradicted} not as expected"
        )
    }
}

/// Polls a future that never waits: the judge asks no store and no registry.
fn ready<T>(future: impl Future<Output = Result<T, Unjudged>>) -> Result<T, Unjudged> {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => Err(Unjudged::Field("the judge did not answer at once")),
    }
}
