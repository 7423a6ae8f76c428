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
    judge_of(|dialect| dialect)
}

fn lenient_judge() -> Judge {
    judge_of(|dialect| dialect.clone().with_leniency().unwrap_or(dialect))
}

fn judge_of(change: impl Fn(Dialect) -> Dialect) -> Judge {
    let compiled = BUILTIN.iter().map(|(_, recipe)| Dialect::compile(recipe).unwrap());
    Judge::new(compiled.map(|dialect| Arc::new(change(dialect)))).unwrap()
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Why a recorded request is refused, for the few that are.
fn refusal(recorded: &Recorded) -> Option<&'static str> {
    match &*recorded.dialect {
        // Decoding these would let another request share their signed bytes.
        "bitget" | "bingx" | "gate" if recorded.target.contains("%26") => Some("ambiguous"),
        _ => None,
    }
}

#[test]
fn every_recorded_request_is_accepted_but_for_those_that_another_could_be_signed_like() {
    accepts_what_was_recorded(judge());
}

#[test]
fn what_is_accepted_by_default_is_accepted_where_lenient_readings_are_on() {
    accepts_what_was_recorded(lenient_judge());
}

fn accepts_what_was_recorded(mut judge: Judge) {
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
    assert_eq!(refused, 6);
}

/// The recipe without a table.
fn without(recipe: &str, table: &str) -> String {
    let (before, rest) = recipe.split_once(&format!("\n[{table}]\n")).unwrap();
    let (_, after) = rest.split_once("\n[").unwrap();
    format!("{before}\n[{after}")
}

#[test]
fn what_three_recordings_made_up_passes_by_the_sets_of_two_recipes_and_nothing_else_does() {
    for (name, expected) in [("cryptocom", &[17, 18][..]), ("upbit", &[13])] {
        let (_, recipe) = BUILTIN.iter().find(|(known, _)| *known == name).unwrap();
        let strict = Dialect::compile(&without(recipe, "sets")).unwrap();
        assert_eq!(strict.parameter_sets().count(), 0);
        let mut judge = Judge::new([Arc::new(strict)]).unwrap();
        let mut refused = Vec::new();
        for (place, request) in
            recorded(&Path::new("tests/vectors").join(format!("{name}.jsonl"))).iter().enumerate()
        {
            if let Err(denial) = block_on(judge.judge(request)).unwrap().verdict {
                assert_eq!(denial.reason(), "ambiguous");
                refused.push(place + 1);
            }
        }
        assert_eq!(refused, expected, "{name}");
    }
}

fn lenient() -> Vec<Recorded> {
    let all: Vec<_> = [("binance", 17), ("mexc", 1)]
        .into_iter()
        .flat_map(|(file, count)| {
            let all = recorded(&Path::new("tests/vectors/lenient").join(format!("{file}.jsonl")));
            assert_eq!(all.len(), count);
            all
        })
        .collect();
    all
}

#[test]
fn requests_that_only_a_lenient_reading_takes_are_refused() {
    let mut judge = judge();
    for request in lenient() {
        let judged = block_on(judge.judge(&request)).unwrap();
        assert_eq!(judged.verdict.unwrap_err().reason(), "bad_signature", "{request:?}");
    }
}

#[test]
fn where_lenient_readings_are_on_they_pass_in_one_encoding_of_what_was_signed() {
    let mut judge = lenient_judge();
    let mut forwarded = std::collections::BTreeSet::new();
    for request in lenient() {
        let judged = block_on(judge.judge(&request)).unwrap();
        let accepted = judged.verdict.unwrap_or_else(|denial| panic!("{request:?}: {denial:?}"));
        let body = String::from_utf8(accepted.body.to_vec()).unwrap();
        let all = format!("{}{body}", accepted.query.unwrap_or_default());
        let values = all.split('&').filter_map(|pair| pair.split_once('='));
        let spelled = values.map(|(_, value)| value.to_owned());
        forwarded.extend(spelled.filter(|value| value.contains(['%', '\'', ' '])));
    }
    let expected = [
        "%5B%27BTC%27,%20%27ETH%27%5D",
        "%5B1,%202%5D",
        "BTC%20USDT%20%C3%A9",
        "a%20b%2Bc'(x)*",
        "my%20wallet%20%26%20co",
        "my-id%201%2B2",
    ];
    assert!(forwarded.iter().eq(expected.iter()), "{forwarded:?}");
}
