//! Reads a trail: what is asked for, and what comes. The files may be those of a running gateway.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::chain;
use super::text::{escape, moment_text};
use crate::clock::Micros;

/// Which records are asked for. What is `None` is any.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Filter {
    /// The key's id.
    pub key: Option<String>,
    /// The account.
    pub account: Option<String>,
    /// The address, as it is written in the trail.
    pub address: Option<String>,
    /// The kind: `request`, `websocket`, `intent`, `act`, `event`, `unproven`, `checkpoint` or `segment`.
    pub kind: Option<String>,
    /// Not before.
    pub since: Option<Micros>,
    /// Not after.
    pub until: Option<Micros>,
    /// The number of a record: only those behind it.
    pub after: Option<u64>,
    /// The most records; all when `None`.
    pub limit: Option<usize>,
}

impl Filter {
    /// Whether a record is asked for.
    fn takes(&self, record: &Value) -> bool {
        let text = |name| record.get(name).and_then(Value::as_str);
        let is = |name, wanted: &Option<String>| {
            wanted.as_deref().is_none_or(|wanted| text(name) == Some(wanted))
        };
        // Moments of one form sort as their texts do.
        let time = text("time").unwrap_or_default();
        is("key", &self.key)
            && is("account", &self.account)
            && is("address", &self.address)
            && is("kind", &self.kind)
            && self.since.is_none_or(|since| time >= &*moment_text(since))
            && self.until.is_none_or(|until| time <= &*moment_text(until))
            && self.after.is_none_or(|after| {
                record.get("n").and_then(Value::as_u64).is_some_and(|number| number > after)
            })
    }

    /// Texts that every line asked for holds.
    fn needles(&self) -> Vec<Vec<u8>> {
        let member = |name: &str, value: &Option<String>| {
            let mut text = format!("\"{name}\":\"").into_bytes();
            escape(value.as_deref()?, &mut text);
            text.push(b'"');
            Some(text)
        };
        let wanted = [("key", &self.key), ("account", &self.account), ("address", &self.address)];
        wanted.into_iter().filter_map(|(name, value)| member(name, value)).collect()
    }
}

/// The records that `filter` asks for, oldest first.
pub fn search(dir: &Path, filter: &Filter) -> io::Result<Vec<Value>> {
    let mut found = Vec::new();
    each(dir, filter, |record| {
        found.push(record);
        filter.limit.is_none_or(|limit| found.len() < limit)
    })?;
    Ok(found)
}

/// What a key did from one address on one route.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Activity {
    /// Where from.
    pub address: String,
    /// On which route.
    pub route: String,
    /// How many requests.
    pub count: u64,
    /// How many of them were refused.
    pub refused: u64,
    /// When first, in RFC 3339.
    pub first: String,
    /// When last.
    pub last: String,
}

/// What a key did since a moment, by address and route: most requests first.
pub fn activity(dir: &Path, key: &str, since: Micros) -> io::Result<Vec<Activity>> {
    let mut rows: HashMap<(String, String), Activity> = HashMap::new();
    let filter = Filter {
        key: Some(key.to_owned()),
        kind: Some("request".to_owned()),
        since: Some(since),
        ..Filter::default()
    };
    each(dir, &filter, |record| {
        let text = |name| record.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (address, route, time) = (text("address"), text("route"), text("time"));
        let row = rows.entry((address.clone(), route.clone())).or_insert_with(|| Activity {
            address,
            route,
            count: 0,
            refused: 0,
            first: time.clone(),
            last: time.clone(),
        });
        row.count += 1;
        row.refused += u64::from(text("verdict") == "refused");
        row.first = std::mem::take(&mut row.first).min(time.clone());
        row.last = std::mem::take(&mut row.last).max(time);
        true
    })?;
    let mut rows: Vec<_> = rows.into_values().collect();
    rows.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.address.cmp(&b.address)));
    Ok(rows)
}

/// Hands on each record that `filter` asks for, until told to stop.
fn each(dir: &Path, filter: &Filter, mut take: impl FnMut(Value) -> bool) -> io::Result<()> {
    let needles: Vec<_> = filter.needles();
    let finders: Vec<_> = needles.iter().map(memchr::memmem::Finder::new).collect();
    let mut line = Vec::new();
    for file in relevant(dir, filter)? {
        let mut reader = BufReader::with_capacity(1 << 18, File::open(file)?);
        loop {
            line.clear();
            if reader.read_until(b'\n', &mut line)? == 0 || !line.ends_with(b"\n") {
                break;
            }
            if finders.iter().any(|finder| finder.find(&line).is_none()) {
                continue;
            }
            let Ok(record) = serde_json::from_slice::<Value>(&line) else { continue };
            if filter.takes(&record) && !take(record) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The segments that may hold what is asked for.
fn relevant(dir: &Path, filter: &Filter) -> io::Result<Vec<PathBuf>> {
    let files: Vec<_> = super::segments(dir)?.into_iter().map(|(_, file)| file).collect();
    // A record may be written a while after its time.
    let since = filter.since.map(|since| moment_text(since - SLACK));
    let until = filter.until.map(|until| moment_text(until + SLACK));
    let begun: Vec<_> = files.iter().map(|file| begun(file)).collect::<io::Result<_>>()?;
    let ends = begun.iter().skip(1).map(Some).chain(std::iter::repeat(None));
    let wanted = begun.iter().zip(ends).zip(&files).filter(|((begin, end), _)| {
        let ended_before = match (&since, end) {
            (Some(since), Some(Some(end))) => end < since,
            _ => false,
        };
        let begun_after = match (&until, begin) {
            (Some(until), Some(head)) => head > until,
            _ => false,
        };
        !ended_before && !begun_after
    });
    Ok(wanted.map(|(_, file)| file.clone()).collect())
}

/// The time of a segment's first line.
fn begun(file: &Path) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    BufReader::new(File::open(file)?).read_until(b'\n', &mut line)?;
    let head = serde_json::from_slice::<Value>(&line).ok();
    Ok(head.and_then(|head| head.get("time")?.as_str().map(str::to_owned)))
}

/// Follows a trail as it is written.
#[derive(Debug)]
pub struct Tail {
    dir: PathBuf,
    number: u64,
    offset: u64,
}

impl Tail {
    /// The last `lines` records, and what follows them: [`Tail::more`] tells those first.
    pub fn last(dir: &Path, lines: usize) -> io::Result<Self> {
        let segments = super::segments(dir)?;
        let mut left = lines;
        for (number, file) in segments.iter().rev() {
            let bytes = fs::read(file)?;
            let whole = chain::whole(&bytes);
            let ends: Vec<_> = memchr::memchr_iter(b'\n', whole).map(|end| end + 1).collect();
            if ends.len() >= left || Some(number) == segments.first().map(|(number, _)| number) {
                let skipped = ends.len().saturating_sub(left);
                let offset = skipped.checked_sub(1).and_then(|place| ends.get(place)).copied();
                let offset = u64::try_from(offset.unwrap_or(0)).unwrap_or_default();
                return Ok(Self { dir: dir.to_owned(), number: *number, offset });
            }
            left -= ends.len();
        }
        Ok(Self { dir: dir.to_owned(), number: 1, offset: 0 })
    }

    /// The lines that have come since it was last asked; none if there are none.
    pub fn more(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let mut bytes = Vec::new();
            match File::open(super::segments::path(&self.dir, self.number)) {
                Ok(mut file) => {
                    file.seek(SeekFrom::Start(self.offset))?;
                    file.take(MOST_AT_ONCE).read_to_end(&mut bytes)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let whole = chain::whole(&bytes);
            self.offset += u64::try_from(whole.len()).unwrap_or_default();
            lines
                .extend(chain::lines(whole).map(|line| String::from_utf8_lossy(line).into_owned()));
            let numbers = super::segments::numbers(&self.dir)?;
            match numbers.iter().find(|number| **number > self.number) {
                // What is there is read to its end first.
                Some(next) if whole.is_empty() => (self.number, self.offset) = (*next, 0),
                Some(_) if lines.len() < MOST_LINES => {}
                Some(_) | None => return Ok(lines),
            }
        }
    }
}

/// How much later than its time a record may be written: disks may be full for long.
const SLACK: std::time::Duration = std::time::Duration::from_hours(24);
/// Bytes, and lines, that are told together.
const MOST_AT_ONCE: u64 = 1 << 20;
const MOST_LINES: usize = 10_000;
