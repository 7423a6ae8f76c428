//! The audit trail as the admin API tells it: searched page by page, and followed.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::Value;

use super::admin::{Api, ApiError, Reach, with_query};
use super::audit::print;
use super::when::rfc3339;
use crate::audit::Filter;

/// Prints the records that `wanted` describes, oldest first.
pub(super) fn search(
    reach: &Reach,
    wanted: &Filter,
    as_json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<ExitCode> {
    let api = match Api::new(reach) {
        Ok(api) => api,
        Err(problem) => return refused(&problem, 2, err),
    };
    let (since, until) = (wanted.since.map(rfc3339), wanted.until.map(rfc3339));
    let mut left = wanted.limit.unwrap_or(usize::MAX);
    let mut after: Option<String> = None;
    while left > 0 {
        let limit = left.min(PAGE).to_string();
        let query = [
            ("key", wanted.key.as_deref()),
            ("account", wanted.account.as_deref()),
            ("kind", wanted.kind.as_deref()),
            ("since", since.as_deref()),
            ("until", until.as_deref()),
            ("limit", Some(&*limit)),
            ("after", after.as_deref()),
        ];
        let page = match api.get(&with_query("/v1/audit", &query)) {
            Ok(page) => page,
            Err(error) => return failed(&error, out, err),
        };
        // The API knows no addresses to search by.
        let meant = |record: &&Value| {
            let from = record.get("address").and_then(Value::as_str);
            wanted.address.is_none() || from == wanted.address.as_deref()
        };
        let items = page.get("items").and_then(Value::as_array);
        for record in items.into_iter().flatten().filter(meant).take(left) {
            print(record, as_json, out)?;
            left = left.saturating_sub(1);
        }
        let next = page.get("next").and_then(Value::as_str).map(str::to_owned);
        // A cursor that does not move would be followed forever.
        if next.is_none() || next == after {
            break;
        }
        after = next;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints records as they come, until Ctrl-C.
pub(super) fn tail(
    reach: &Reach,
    as_json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<ExitCode> {
    let api = match Api::new(reach) {
        Ok(api) => api,
        Err(problem) => return refused(&problem, 2, err),
    };
    // The gateway ends a connection after some minutes; then it is asked again.
    loop {
        let mut written = Ok(());
        let listened = api.listen("/v1/audit/tail", |record| {
            if written.is_ok() {
                written = print(&record, as_json, out).and_then(|()| out.flush());
            }
        });
        written?;
        if let Err(error) = listened {
            return failed(&error, out, err);
        }
    }
}

fn failed(error: &ApiError, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    out.flush()?;
    refused(&error.to_string(), 1, err)
}

fn refused(problem: &str, code: u8, err: &mut dyn Write) -> io::Result<ExitCode> {
    writeln!(err, "countersign audit: {problem}")?;
    Ok(ExitCode::from(code))
}

/// Asked for at a time.
const PAGE: usize = 1_000;
