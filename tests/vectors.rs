//! Requests that real client libraries sent, judged by the recipe of their dialect.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;
use std::sync::Arc;

use countersign::dialect::{BUILTIN, Dialect};
use countersign::offline::{Judge, Recorded};

fn recorded(file: &Path) -> Vec<Recorded> {
    let text =
        std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn judge() -> Judge {
    let compiled = BUILTIN.iter().map(|(_, recipe)| Arc::new(Dialect::compile(recipe).unwrap()));
    Judge::new(compiled).unwrap()
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Why a recorded request is refused, for the few that are.
fn refusal(recorded: &Recorded) -> Option<&'static str> {
    match &*recorded.dialect {
        // Decoding these would let another request share their signed bytes.
        "bitget" | "bingx" | "gate" if recorded.target.contains("%26") => Some("ambiguous"),
        // Parameters that the exchange does not have, run together with their values.
        "cryptocom" if recorded.body.contains("clientId") => Some("ambiguous"),
        // An object signed as Python prints it, which the exchange does not take either.
        "cryptocom" if recorded.body.contains("\"a\":{") => Some("bad_signature"),
        // A string that holds `&x=2`, signed as a member `x` would be.
        "upbit" if recorded.body.contains("&x=2") => Some("ambiguous"),
        _ => None,
    }
}

#[test]
fn every_recorded_request_is_accepted_but_for_those_that_another_could_be_signed_like() {
    let mut judge = judge();
    let mut refused = 0;
    for (name, _) in BUILTIN {
        let file = Path::new("tests/vectors").join(format!("{name}.jsonl"));
        let all = recorded(&file);
        assert!(all.len() >= 3, "{name} lacks evidence");
        for (place, request) in all.iter().enumerate() {
            let judged = block_on(judge.judge(request)).unwrap();
            let line = place + 1;
            if let Some(reason) = refusal(request) {
                refused += 1;
                assert_eq!(judged.verdict.unwrap_err().reason(), reason, "{name}:{line}");
            } else {
                assert!(judged.verdict.is_ok(), "{name}:{line} {request:?}: {:?}", judged.verdict);
            }
        }
    }
    assert_eq!(refused, 6 + 3);
}

#[test]
fn requests_that_only_a_lenient_reading_takes_are_refused() {
    let mut judge = judge();
    for (file, count) in [("binance", 17), ("mexc", 1)] {
        let all = recorded(&Path::new("tests/vectors/lenient").join(format!("{file}.jsonl")));
        assert_eq!(all.len(), count);
        for request in all {
            let judged = block_on(judge.judge(&request)).unwrap();
            assert_eq!(judged.verdict.unwrap_err().reason(), "bad_signature", "{request:?}");
        }
    }
}
