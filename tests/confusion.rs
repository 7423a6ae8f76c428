//! A request of one dialect is never taken for one of another, though both have the same key.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;
use std::sync::Arc;

use countersign::dialect::{BUILTIN, Dialect};
use countersign::offline::{Judge, Recorded};

fn recorded(name: &str) -> Vec<Recorded> {
    let file = Path::new("tests/vectors").join(format!("{name}.jsonl"));
    let text = std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn no_recorded_request_is_accepted_in_another_dialect_with_the_same_key() {
    let dialects: Vec<_> =
        BUILTIN.iter().map(|(_, recipe)| Arc::new(Dialect::compile(recipe).unwrap())).collect();
    let mut judge = Judge::new(dialects.iter().cloned()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut own, mut confused) = (0, 0);
    for (name, _) in BUILTIN {
        for request in recorded(name) {
            for dialect in &dialects {
                let claimed = Recorded { dialect: dialect.name().to_string(), ..request.clone() };
                // A key of an algorithm or secret that the other dialect does not have cannot be one of it.
                let Ok(judged) = runtime.block_on(judge.judge(&claimed)) else { continue };
                match (judged.verdict, &**dialect.name() == *name) {
                    (Ok(_), true) => own += 1,
                    (Err(_), true) => {}
                    (Ok(_), false) => panic!("{request:?} passes for {}", dialect.name()),
                    (Err(_), false) => confused += 1,
                }
            }
        }
    }
    // The control: the same judge takes each in its own dialect.
    assert!(own > 600, "{own}");
    assert!(confused > 10_000, "{confused}");
}
