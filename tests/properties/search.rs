//! A search for requests of different meaning that are forwarded under one signature.
//!
//! Requests that clients sent, and generated ones, are edited at random; whatever the gate then accepts is put beside
//! all else that it accepted for the same signed bytes. Two controls show that the search finds what it looks for: it
//! counts what would have differed had requests gone on as they came, and had nothing that shares the signed bytes
//! been refused.

use std::collections::HashMap;
use std::io::Write as _;
use std::ops::AddAssign;
use std::sync::Arc;

use countersign::dialect::{Dialect, Inbound};
use countersign::offline::Recorded;
use countersign::store::Identity;
use http::Method;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::court::{Court, Forwarded, Outcome, as_received};
use crate::edits::{Dice, edit};
use crate::flips::lets_pass;
use crate::oracle::{read, texts};
use crate::signing::{Client, bare_wish, dialects, lenient_dialects, recordings, wish};

/// How many variants are tried of each dialect: 12,000, or as many as `COUNTERSIGN_SEARCH` says.
fn variants() -> usize {
    std::env::var("COUNTERSIGN_SEARCH").map_or(12_000, |text| text.parse().unwrap())
}

/// How many variants are made of one request.
const OF_EACH: usize = 24;

/// What was found.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    tried: usize,
    accepted: usize,
    /// Accepted in another spelling than one before it under the same signed bytes.
    respelled: usize,
    /// How many signed bytes there were.
    groups: usize,
    /// Forwarded with another meaning than one before it under the same signed bytes.
    different: usize,
    /// The same, had they been forwarded as they came.
    as_it_came: usize,
    /// Of another meaning under the same signed bytes, and refused.
    refused: usize,
}

impl AddAssign for Found {
    fn add_assign(&mut self, other: Self) {
        self.tried += other.tried;
        self.accepted += other.accepted;
        self.respelled += other.respelled;
        self.groups += other.groups;
        self.different += other.different;
        self.as_it_came += other.as_it_came;
        self.refused += other.refused;
    }
}

/// What a backend is told, as far as a signature can vouch for it.
#[derive(Clone, Debug)]
struct Meaning {
    method: Option<String>,
    path: Option<String>,
    query: String,
    body: bytes::Bytes,
    /// Query or body as parameters, where the dialect signs them as one text in whichever they are.
    parameters: Option<Vec<(String, String)>>,
}

/// The very same bytes; the same parameters where one is JSON and the other is none.
impl PartialEq for Meaning {
    fn eq(&self, other: &Self) -> bool {
        let is_json = |meaning: &Self| meaning.body.starts_with(b"{");
        let alike = if self.parameters.is_some() && is_json(self) != is_json(other) {
            self.parameters == other.parameters
        } else {
            self.query == other.query && self.body == other.body
        };
        alike && self.method == other.method && self.path == other.path
    }
}

impl Meaning {
    /// The same of what goes on, and of what came, as parameters.
    fn of(
        dialect: &Dialect,
        request: &Recorded,
        forwarded: Forwarded,
    ) -> (Self, Vec<(String, String)>) {
        let template = |inbound: &Inbound<'_>| dialect.template(inbound).map(str::to_owned);
        let template = as_received(request, template).flatten().unwrap_or_default();
        let coverage = dialect.coverage();
        let is_for = |methods: &str| {
            methods.starts_with("any") || methods.split(' ').any(|one| one == request.method)
        };
        let mut covers = coverage.iter().filter(|cover| cover.text == template);
        let cover = covers.find(|cover| is_for(&cover.methods)).unwrap();
        let signs = |part| cover.signed.contains(&part);
        let path = request.target.split('?').next().unwrap_or_default();
        let Forwarded { mut query, mut body, .. } = forwarded;
        let (mut target, mut received) = (&*request.target, &*request.body);
        // What no signature covers means nothing that it could vouch for.
        if lets_pass(cover, "query") {
            query.clear();
            target = path;
        }
        if lets_pass(cover, "body") {
            body.clear();
            received = "";
        }
        let (_, received) = read(request, target, received);
        // Where query and form are one text a backend takes the same parameters from either.
        let has_json = ["bingx", "upbit"].contains(&&**dialect.name());
        if template == "{query}{body}" && query.is_empty() && !(has_json && body.starts_with(b"{"))
        {
            query = String::from_utf8(std::mem::take(&mut body).to_vec()).unwrap();
        }
        let meaning = Self {
            method: signs("method").then(|| request.method.clone()),
            path: signs("path").then(|| path.to_owned()),
            parameters: has_json.then(|| {
                let body = std::str::from_utf8(&body).unwrap();
                read(request, &format!("/?{query}"), body).1
            }),
            query,
            body,
        };
        (meaning, received)
    }
}

/// What was accepted first under some signed bytes.
struct First {
    spelling: String,
    meaning: Meaning,
    received: Vec<(String, String)>,
}

struct Search<'d> {
    dialect: &'d Arc<Dialect>,
    court: Court,
    dice: Dice,
    groups: HashMap<Identity, First>,
    found: Found,
    /// Two requests of different meaning.
    witness: Option<String>,
}

impl<'d> Search<'d> {
    fn of(dialect: &'d Arc<Dialect>) -> Self {
        let seed = std::env::var("COUNTERSIGN_SEED").map_or(1, |text| text.parse().unwrap());
        Self {
            dialect,
            court: Court::of(dialect),
            dice: Dice(seed),
            groups: HashMap::new(),
            found: Found::default(),
            witness: None,
        }
    }

    /// Tries `base` and so many edits of it.
    fn around(&mut self, base: &Recorded, count: usize) {
        self.judge(base);
        let signed = texts(self.dialect, base);
        let meant = read(base, &base.target, &base.body);
        for _ in 0..count {
            let mut other = base.clone();
            for _ in 0..=self.dice.roll(3) {
                edit(&mut other, &mut self.dice);
            }
            if self.judge(&other) == Some("ambiguous")
                && read(&other, &other.target, &other.body) != meant
                && texts(self.dialect, &other).iter().any(|text| signed.contains(text))
            {
                self.found.refused += 1;
            }
        }
    }

    /// Judges one request, and puts what is accepted beside what else was signed by the same bytes; the reason, where it
    /// is refused.
    fn judge(&mut self, request: &Recorded) -> Option<&'static str> {
        self.found.tried += 1;
        let (identity, forwarded) = match self.court.judge(request) {
            Outcome::Accepted(identity, forwarded) => (identity, forwarded),
            Outcome::Refused(denial) => return Some(denial.reason()),
            Outcome::Unsendable => return None,
        };
        self.found.accepted += 1;
        let spelling = format!("{} {} {}", request.method, request.target, request.body);
        let (meaning, received) = Meaning::of(self.dialect, request, forwarded);
        let Some(first) = self.groups.get(&identity) else {
            self.groups.insert(identity, First { spelling, meaning, received });
            self.found.groups += 1;
            return None;
        };
        self.found.respelled += usize::from(first.spelling != spelling);
        self.found.as_it_came += usize::from(first.received != received);
        if first.meaning != meaning {
            self.found.different += 1;
            self.witness.get_or_insert_with(|| {
                format!("{} {:?}\n and {spelling} {meaning:?}", first.spelling, first.meaning)
            });
        }
        None
    }
}

/// JSON with what its renderings could take for something else.
fn json(dice: &mut Dice) -> String {
    const NAMES: [&str; 10] =
        ["symbol", "price", "a", "b", "ab", "market", "list", "note", "volume", "client_oid"];
    const VALUES: [&str; 27] = [
        "\"1\"",
        "1",
        "1.0",
        "1e1",
        "-0",
        "12345678901234567890",
        "\"\"",
        "null",
        "true",
        "\"true\"",
        "\"null\"",
        "\"x&a=2\"",
        "\"x=y\"",
        "\"a b\"",
        "\"é\"",
        "\"\\u00e9\"",
        "[\"a\",\"b\"]",
        "\"[\\\"a\\\",\\\"b\\\"]\"",
        "[1,2]",
        "\"[1,2]\"",
        "[]",
        "{\"c\":1}",
        "\"%20\"",
        "\"a+b\"",
        "\"1&b\"",
        "\"1700000003{}\"",
        "\"1700000000003{}\"",
    ];
    let count = dice.roll(4);
    let members = (0..count).map(|_| format!("\"{}\":{}", dice.pick(&NAMES), dice.pick(&VALUES)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// Searches one dialect.
fn search(dialect: &Arc<Dialect>, size: usize) -> (Found, Option<String>) {
    let mut search = Search::of(dialect);
    let client = Client::of(dialect);
    let mut runner = TestRunner::deterministic();
    let mut draw = |wishes: &BoxedStrategy<(Method, String, String)>| {
        wishes.new_tree(&mut runner).unwrap().current()
    };
    let recorded = recordings(dialect);
    let mut bases = recorded.iter().cycle();
    let wishes = [wish().boxed(), bare_wish().boxed()];
    let mut round = 0;
    while search.found.tried < size {
        round += 1;
        // A third of the requests are what clients sent.
        let base = if round % 3 == 0 {
            bases.next().cloned()
        } else {
            let (method, pairs, _) = draw(&wishes[round % 2]);
            let json = json(&mut search.dice);
            let method = if search.dice.roll(3) == 0 { Method::POST } else { method };
            client.signed(&(method, pairs, json))
        };
        if let Some(base) = base {
            search.around(&base, OF_EACH);
        }
    }
    (search.found, search.witness)
}

fn search_all(dialects: &[Arc<Dialect>]) -> Found {
    let mut err = std::io::stderr();
    let mut all = Found::default();
    let mut tell = |name: &str, found: Found| {
        let Found { tried, accepted, respelled, groups, different, as_it_came, refused } = found;
        writeln!(
            err,
            "{name:17} {tried:9} variants, {accepted:8} accepted under {groups:7} signed texts, {respelled:7} of them respelled: {different} differ; {as_it_came:6} would as they came, {refused:6} more did and were refused"
        )
        .unwrap();
    };
    for dialect in dialects {
        let (found, witness) = search(dialect, variants());
        tell(dialect.name(), found);
        assert!(witness.is_none(), "{}: {}", dialect.name(), witness.unwrap_or_default());
        all += found;
    }
    tell("in all", all);
    all
}

#[test]
fn no_two_requests_of_different_meaning_are_forwarded_under_one_signature() {
    let found = search_all(&dialects());
    assert_eq!(found.different, 0);
    // The controls: without the one encoding, or without the rules of ambiguity, there would be some.
    assert!(found.respelled > 1_000 && found.as_it_came > 0 && found.refused > 0, "{found:?}");
}

#[test]
fn nor_where_lenient_readings_are_on() {
    let found = search_all(&lenient_dialects());
    assert_eq!(found.different, 0);
    assert!(found.respelled > 100 && found.as_it_came > 0 && found.refused > 0, "{found:?}");
}

/// The control that is a gate of its own: an operator may leave the boundary of query and form unsigned.
#[test]
fn the_search_finds_what_an_unsigned_boundary_lets_through() {
    let named = |dialect: &&Arc<Dialect>| &**dialect.name() == "binance";
    let Some(binance) = dialects().iter().find(named).cloned() else { return };
    let open = Arc::new(Dialect::clone(&binance).with_split_parameters());
    assert!(search(&open, variants().min(20_000)).0.different > 0);
}
