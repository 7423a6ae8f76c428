//! That the checkers see what they are there to see: records in which one thing is wrong, beside the same with nothing
//! wrong.

use std::collections::HashMap;
use std::time::Duration;

use countersign::clock::Micros;

use crate::alone::Alone;
use crate::backend::Arrival;
use crate::checker::{Verdicts, check};
use crate::clients::Class;
use crate::nemesis::{Fault, Kind};
use crate::settings::{ALONE_QUOTA, QUOTA, SHARE};
use crate::traffic::Sent;

fn at(ms: u64) -> Micros {
    Micros::from_millis(1_700_000_000_000 + ms)
}

/// Signed at the beginning, and good for two seconds.
fn sent(number: u64, class: Class) -> Sent {
    let key = "a".into();
    Sent { number, at: at(0), good_until: at(2_000), answered: None, class, key, gateway: Some(0) }
}

fn arrival(number: u64, ms: u64, by: usize) -> Arrival {
    Arrival { at: at(ms), by, number, account: "a".into(), what: ms }
}

/// So many of one account, one each `ms` milliseconds, by the first gateway.
fn row(count: u32, class: Class, ms: u64) -> (Vec<Arrival>, Vec<Sent>) {
    let numbers = || (0..).take(usize::try_from(count).unwrap());
    (
        numbers().map(|n| arrival(n, n * ms, 0)).collect(),
        numbers().map(|n| Sent { good_until: at(n * ms + 1), ..sent(n, class) }).collect(),
    )
}

/// Ends the test where any of them is blind.
pub(crate) fn try_all() {
    let once = [sent(1, Class::Honest)];
    let found = |arrivals: &[Arrival]| counts(&check(arrivals, &once, &[]));
    assert_eq!(found(&[arrival(1, 10, 0)]), (0, 0, 0));
    assert_eq!(found(&[arrival(1, 10, 0), arrival(1, 20, 1)]), (1, 0, 0), "in other words too");
    assert_eq!(found(&[arrival(1, 2_200, 0)]), (0, 0, 0));
    assert_eq!(found(&[arrival(1, 2_300, 0)]), (0, 1, 0));

    // At once a burst may come, and what is refilled in the second by which they may be apart.
    let greedy = |count, faults: &[Fault]| {
        let (arrivals, sent) = row(count, Class::Greedy, 0);
        counts(&check(&arrivals, &sent, faults)).2
    };
    let flushed = Fault { kind: Kind::Flush, began: at(0), undone: at(0), moves_limits: true };
    assert_eq!(greedy(QUOTA * 2, &[]), 0);
    assert_eq!(greedy(QUOTA * 2 + 3, &[]), 3);
    assert_eq!(
        greedy(QUOTA * 4, &[flushed]),
        0,
        "one burst when it was lost, one when it was back"
    );
    assert_eq!(greedy(QUOTA * 4 + 1, &[flushed]), 1);
    // Twice as often as it may, for a long time.
    let (arrivals, sent) = row(QUOTA * 40, Class::Greedy, 500 / u64::from(QUOTA));
    assert!(counts(&check(&arrivals, &sent, &[])).2 > 100);

    judged_alone();
    println!("the checkers see what comes twice, late or too often, in made up records");
}

fn judged_alone() {
    let once = [sent(1, Class::Alone)];
    let twice = |by: [(usize, bool); 2]| {
        let arrivals = by.map(|(by, _)| arrival(1, 10, by));
        let judged = by.map(|(by, is_alone)| ((1, by), is_alone)).into();
        Alone::check(&arrivals, &once, &judged, &[]).holds()
    };
    assert!(twice([(0, true), (1, true)]), "each alone: that is put up with");
    assert!(twice([(0, false), (1, true)]));
    assert!(!twice([(0, true), (0, true)]), "one gateway knows what it let through");
    assert!(!twice([(0, false), (1, false)]), "the store knows");
    let within = |count, is_alone| {
        let (arrivals, sent) = row(count, Class::Alone, 0);
        let judged: HashMap<_, _> = sent.iter().map(|sent| ((sent.number, 0), is_alone)).collect();
        Alone::check(&arrivals, &sent, &judged, &[]).holds()
    };
    assert!(within(SHARE * 2, true) && !within(SHARE * 2 + 1, true));
    assert!(within(ALONE_QUOTA * 2, false) && !within(ALONE_QUOTA * 2 + 1, false));
    let later = Duration::from_secs(3);
    let late = [Arrival { at: at(0) + later, ..arrival(1, 0, 0) }];
    assert_eq!(counts(&check(&late, &once, &[])).1, 1, "alone or not, none comes late");
}

fn counts(verdicts: &Verdicts) -> (usize, usize, usize) {
    (verdicts.accepted_twice, verdicts.late, verdicts.over_limit)
}
