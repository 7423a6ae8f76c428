//! Properties of every recipe: what it signs it accepts, no bit of what is signed can change, and all wire
//! spellings that share signed bytes are forwarded as one.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod controls;
mod court;
mod edits;
mod flips;
mod oracle;
mod pair_edits;
mod resplit;
mod search;
mod signing;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use court::Court;
use signing::{Client, dialects, wish};

#[test]
fn what_a_recipe_signs_it_accepts() {
    for dialect in dialects() {
        let client = Client::of(&dialect);
        let court = std::cell::RefCell::new(Court::of(&dialect));
        let mut runner = TestRunner::new(Config {
            cases: 1_000,
            failure_persistence: None,
            ..Config::default()
        });
        let outcome = runner.run(&wish(), |wish| {
            let Some(request) = client.signed(&wish) else {
                return Err(TestCaseError::reject("unsignable"));
            };
            let accepted = court.borrow_mut().forwards(&request).is_some();
            prop_assert!(accepted, "{:?} {}", request, request.body);
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{}: {error}", dialect.name()));
    }
}
