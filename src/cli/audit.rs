//! `countersign audit`: reads the audit trail in its files, of a running gateway too.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};

use super::admin::Reach;
use super::trail;
use crate::audit::{
    Filter, Noted, PublicKey, Tail, Verified, VerifyError, parse_moment, public_key, search,
    verify_up_to,
};
use crate::clock::{Clock, Micros, SystemClock};

/// Verify, search and follow the audit trail.
///
/// DIR is the `dir` of `[audit]`, or the folder `audit` in the state directory. Without it, `search` and `tail` ask the
/// gateway that --admin or `COUNTERSIGN_ADMIN` names.
///
/// Example: countersign audit verify /var/lib/countersign/audit --public-key checkpoint.pub
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow the whole chain; name the first line that was altered, removed or put in, and exit with 1
    ///
    /// Example: countersign audit verify /var/lib/countersign/audit --public-key checkpoint.pub
    Verify {
        /// The directory of the trail
        dir: PathBuf,
        /// The public key of its checkpoints, PEM, from a copy that was kept elsewhere; may be given again for further ones
        #[arg(long, value_name = "FILE")]
        public_key: Vec<PathBuf>,
        /// A head that was noted down when the trail was verified before, as it was printed: so that an end that was
        /// cut off since is named; may be given again for further ones
        #[arg(long, value_name = "HEAD", value_parser = noted)]
        head: Vec<Noted>,
        /// A copy of head.json, of audit-head.json in the state directory or from elsewhere; likewise
        #[arg(long, value_name = "FILE")]
        head_file: Vec<PathBuf>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the records of a key, an account, an address or a time, oldest first
    ///
    /// Example: countersign audit search --account alice --since 24h
    Search {
        /// The directory of the trail; the gateway is asked without it
        dir: Option<PathBuf>,
        #[command(flatten)]
        reach: Box<Reach>,
        #[command(flatten)]
        wanted: Wanted,
        /// Print the records as they are, one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Print the last records, and with -f those that follow; what a gateway tells is always followed
    ///
    /// Example: countersign audit tail /var/lib/countersign/audit -f
    Tail {
        /// The directory of the trail; the gateway is asked without it
        dir: Option<PathBuf>,
        #[command(flatten)]
        reach: Box<Reach>,
        /// Go on until Ctrl-C
        #[arg(short, long)]
        follow: bool,
        /// How many of the last records
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 20)]
        lines: usize,
        /// Print the records as they are, one JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// Which records.
#[derive(clap::Args, Debug)]
struct Wanted {
    /// Of this key
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Of this account
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// From this address
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// Of this kind: request, intent, act, event, unproven, checkpoint, segment
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Not before this: RFC 3339 in UTC, or how long ago, as 90m, 24h, 7d
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Micros>,
    /// Not after this
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Micros>,
    /// At most so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut impl Write, err: &mut impl Write) -> io::Result<ExitCode> {
    match &args.command {
        Command::Verify { dir, public_key, head, head_file, json } => {
            verify_trail((dir, public_key), (head, head_file), *json, out, err)
        }
        Command::Search { dir: None, reach, wanted, json } => {
            trail::search(reach, &wanted.filter(), *json, out, err)
        }
        Command::Search { dir: Some(dir), wanted, json, .. } => match search(dir, &wanted.filter())
        {
            Ok(records) => {
                for record in &records {
                    print(record, *json, out)?;
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => failed(dir, &error, err),
        },
        Command::Tail { dir: None, reach, json, .. } => trail::tail(reach, *json, out, err),
        Command::Tail { dir: Some(dir), follow, lines, json, .. } => {
            match Tail::last(dir, *lines).map(|tail| (tail, *follow)) {
                Ok((tail, follow)) => tell(tail, follow, *json, out),
                Err(error) => failed(dir, &error, err),
            }
        }
    }
}

impl Wanted {
    fn filter(&self) -> Filter {
        Filter {
            key: self.key.clone(),
            account: self.account.clone(),
            address: self.address.clone(),
            kind: self.kind.clone(),
            since: self.since,
            until: self.until,
            after: None,
            limit: self.limit,
        }
    }
}

fn failed(dir: &Path, error: &io::Error, err: &mut impl Write) -> io::Result<ExitCode> {
    writeln!(err, "countersign audit: {}: {error}", dir.display())?;
    Ok(ExitCode::FAILURE)
}

fn verify_trail(
    (dir, files): (&Path, &[PathBuf]),
    (heads, head_files): (&[Noted], &[PathBuf]),
    as_json: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<ExitCode> {
    let mut keys = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
        match text.and_then(|text| PublicKey::from_pem(&text).ok_or("no Ed25519 key".into())) {
            Ok(key) => keys.push(key),
            Err(problem) => {
                writeln!(err, "countersign audit: {}: {problem}", file.display())?;
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    if files.is_empty() {
        keys.extend(public_key(dir));
        writeln!(
            err,
            "countersign audit: checkpoints are verified with the key that lies beside the trail; whoever altered one \
             could have replaced the other: give --public-key with a copy that was kept elsewhere"
        )?;
    }
    match verify_up_to(dir, &keys, head_files, heads) {
        Ok(verified) => {
            if verified.heads == 0 {
                writeln!(
                    err,
                    "countersign audit: nothing says how far the trail had come: an end that was cut off goes unnoticed; \
                     give --head with one that was noted down"
                )?;
            }
            whole(&verified, as_json, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            if as_json {
                writeln!(out, "{}", broken(&error))?;
            } else {
                writeln!(out, "{error}")?;
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

fn whole(verified: &Verified, as_json: bool, out: &mut impl Write) -> io::Result<()> {
    if as_json {
        let mut told = json!(verified);
        if let Some(told) = told.as_object_mut() {
            told.insert("schema_version".into(), json!(1));
            told.insert("ok".into(), json!(true));
        }
        return writeln!(out, "{told}");
    }
    let Verified { segments, records, first, last, head, checkpoints, unsealed, torn, .. } =
        verified;
    writeln!(out, "whole: {records} records in {segments} segments, number {first} to {last}")?;
    writeln!(out, "  {checkpoints} signed checkpoints; {unsealed} records behind the last")?;
    if *torn > 0 {
        writeln!(out, "  {torn} bytes of a line that is being written, or was cut")?;
    }
    if *first > 1 {
        writeln!(out, "  what was before record {first} is not here")?;
    }
    writeln!(out, "  head {last}:{head}")
}

fn noted(text: &str) -> Result<Noted, String> {
    Noted::read(text).ok_or_else(|| "it is no head as this command prints one".to_owned())
}

fn broken(error: &VerifyError) -> Value {
    let mut told = json!({ "schema_version": 1, "ok": false, "why": error.to_string() });
    if let (VerifyError::Broken(broken), Some(told)) = (error, told.as_object_mut()) {
        told.insert("file".into(), json!(broken.file));
        told.insert("line".into(), json!(broken.line));
        told.insert("why".into(), json!(broken.flaw.to_string()));
    }
    told
}

fn tell(mut tail: Tail, follow: bool, as_json: bool, out: &mut impl Write) -> io::Result<ExitCode> {
    loop {
        let lines = tail.more()?;
        for line in &lines {
            match serde_json::from_str(line) {
                Ok(record) if !as_json => print(&record, false, out)?,
                Ok(_) | Err(_) => writeln!(out, "{line}")?,
            }
        }
        out.flush()?;
        if !follow {
            return Ok(ExitCode::SUCCESS);
        }
        if lines.is_empty() {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// One record: as it is, or as a line for people.
pub(super) fn print(record: &Value, as_json: bool, out: &mut dyn Write) -> io::Result<()> {
    if as_json {
        return writeln!(out, "{record}");
    }
    let text = |name: &str| match record.get(name) {
        Some(Value::String(text)) => text.chars().flat_map(char::escape_debug).collect(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    write!(out, "{}  {:<10}", text("time"), text("kind"))?;
    for name in SHOWN {
        if record.get(name).is_some() {
            write!(out, "  {}", text(name))?;
        }
    }
    for name in NAMED {
        if record.get(name).is_some() {
            write!(out, "  {name}={}", text(name))?;
        }
    }
    writeln!(out)
}

/// RFC 3339, or how long ago.
fn moment(text: &str) -> Result<Micros, String> {
    let ago = || {
        let unit = text.chars().last()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        let count = text.strip_suffix(unit)?.parse::<u64>().ok()?;
        Some(SystemClock::start().now() - Duration::from_secs(count.checked_mul(seconds)?))
    };
    ago()
        .or_else(|| parse_moment(text))
        .ok_or_else(|| "write 2026-01-31T12:00:00Z, or how long ago, as 90m, 24h or 7d".to_owned())
}

/// Members that are shown for people: the first without their names.
const SHOWN: [&str; 9] =
    ["event", "verdict", "reason", "actor", "action", "target", "method", "path", "status"];
const NAMED: [&str; 8] =
    ["key", "account", "address", "network", "route", "count", "took_us", "request"];
/// How often it looks whether something has come.
const LOOK_EVERY: Duration = Duration::from_millis(200);
