//! A search for requests of different meaning that are forwarded under one signature.
//!
//! Requests that clients sent, and generated ones, are edited at random; whatever the gate then accepts is put beside
//! all else that it accepted for the same signed bytes. Two controls show that the search finds what it looks for: it
//! counts what would have differed had requests gone on as they came, and what a gate forwards that has no rules of
//! ambiguity.

use std::collections::HashMap;
use std::io::Write as _;
use std::ops::AddAssign;
use std::sync::Arc;

use countersign::dialect::{BUILTIN, Dialect, Inbound};
use countersign::offline::Recorded;
use countersign::store::Identity;
use http::Method;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::court::{Court, Forwarded, Outcome, as_received};
use crate::edits::{Dice, edit};
use crate::flips::lets_pass;
use crate::oracle::read;
use crate::resplit::{ending, resplit};
use crate::signing::{Client, bare_wish, dialects, recordings, wish};

/// How many variants are tried of each dialect: 12,000, or as many as `COUNTERSIGN_SEARCH` says.
fn variants() -> usize {
    std::env::var("COUNTERSIGN_SEARCH").map_or(12_000, |text| text.parse().unwrap())
}

/// How many variants are made of one request.
const OF_EACH: usize = 24;

/// What was found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    pub(crate) tried: usize,
    accepted: usize,
    /// Accepted in another spelling than one before it under the same signed bytes.
    respelled: usize,
    /// How many signed bytes there were.
    groups: usize,
    /// Forwarded with another meaning than one before it under the same signed bytes.
    pub(crate) different: usize,
    /// The same, had they been forwarded as they came.
    as_it_came: usize,
    /// Refused, where without the rules of ambiguity another meaning would go on under signed bytes of one before it.
    pub(crate) refused: usize,
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
    /// What kind the body is said to be.
    content_type: Option<&'static str>,
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
            let typed = self.content_type == other.content_type || self.body.is_empty();
            self.query == other.query && self.body == other.body && typed
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
        let Forwarded { mut query, mut body, content_type } = forwarded;
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
            content_type,
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
    /// The same without the rules of ambiguity.
    open: Option<Court>,
    dice: Dice,
    groups: HashMap<Identity, First>,
    found: Found,
    /// Two requests of different meaning.
    witness: Option<String>,
}

impl<'d> Search<'d> {
    fn of(dialect: &'d Arc<Dialect>, open: Option<&Arc<Dialect>>) -> Self {
        let seed = std::env::var("COUNTERSIGN_SEED").map_or(1, |text| text.parse().unwrap());
        Self {
            dialect,
            court: Court::of(dialect),
            open: open.map(Court::of),
            dice: Dice(seed),
            groups: HashMap::new(),
            found: Found::default(),
            witness: None,
        }
    }

    /// Tries `base` and so many edits of it.
    fn around(&mut self, base: &Recorded, count: usize) {
        self.judge(base);
        for _ in 0..count {
            let mut other = base.clone();
            // What signs the same bytes otherwise cut, or some edits.
            let cuts = self.dice.roll(5) == 0;
            if cuts {
                resplit(self.dialect, &mut other, &mut self.dice);
            }
            if !cuts || self.dice.roll(4) == 0 {
                for _ in 0..=self.dice.roll(3) {
                    edit(&mut other, &mut self.dice);
                }
            }
            if !self.judge(&other) && self.differs_without_rules(&other) {
                self.found.refused += 1;
            }
        }
    }

    /// Whether the same gate without the rules of ambiguity would forward it under the signature of another.
    fn differs_without_rules(&mut self, request: &Recorded) -> bool {
        let Some(Outcome::Accepted(identity, forwarded)) =
            self.open.as_mut().map(|open| open.judge(request))
        else {
            return false;
        };
        let Some(first) = self.groups.get(&identity) else { return false };
        Meaning::of(self.dialect, request, forwarded).0 != first.meaning
    }

    /// Judges one request, and puts what is accepted beside what else was signed by the same bytes; whether it is.
    fn judge(&mut self, request: &Recorded) -> bool {
        self.found.tried += 1;
        let (identity, forwarded) = match self.court.judge(request) {
            Outcome::Accepted(identity, forwarded) => (identity, forwarded),
            Outcome::Refused | Outcome::Unsendable => return false,
        };
        self.found.accepted += 1;
        let spelling = format!("{} {} {}", request.method, request.target, request.body);
        let (meaning, received) = Meaning::of(self.dialect, request, forwarded);
        let Some(first) = self.groups.get(&identity) else {
            self.groups.insert(identity, First { spelling, meaning, received });
            self.found.groups += 1;
            return true;
        };
        self.found.respelled += usize::from(first.spelling != spelling);
        self.found.as_it_came += usize::from(first.received != received);
        if first.meaning != meaning {
            self.found.different += 1;
            self.witness.get_or_insert_with(|| {
                format!("{} {:?}\n and {spelling} {meaning:?}", first.spelling, first.meaning)
            });
        }
        true
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

/// A request whose query and body are both there, and hold ends of other texts that the dialect signs.
fn laden(client: &Client, pairs: &str, dice: &mut Dice) -> Option<Recorded> {
    let end = ending(&client.dialect, dice)?;
    let wire = |text: &str| text.replace('\\', "").replace('\n', "%0A").replace(' ', "%20");
    let value = format!("{}{end}", dice.pick(&["", "a", "1", "/", "&c=3"]));
    let query = match dice.roll(4) {
        0 => String::new(),
        1 => pairs.to_owned(),
        2 => wire(&format!("a={value}")),
        _ => wire(&format!("a={value}&{pairs}")),
    };
    let body = match dice.roll(5) {
        0 => String::new(),
        1 => format!("{{\"a\":\"{}\"}}", value.replace('\n', "\\n")),
        2 => format!("{{\"z\":1,\"a\":\"{}\",\"b\":{{}}}}", value.replace('\n', "\\n")),
        3 => wire(&format!("a={value}")),
        _ => wire(&format!("z=1&a={value}&b=2")),
    };
    let method = if body.is_empty() { Method::GET } else { Method::POST };
    client.sign(&method, &query, &body).or_else(|| client.sign(&method, "", &body))
}

/// What is searched: a dialect, and the same without the rules of ambiguity.
pub(crate) type Subject = (Arc<Dialect>, Option<Arc<Dialect>>);

/// Searches one dialect, until a witness is found where one is enough.
pub(crate) fn search(
    (dialect, open): &Subject,
    size: usize,
    first: bool,
) -> (Found, Option<String>) {
    let mut search = Search::of(dialect, open.as_ref());
    let client = Client::of(dialect);
    let mut runner = TestRunner::deterministic();
    let mut draw = |wishes: &BoxedStrategy<(Method, String, String)>| {
        wishes.new_tree(&mut runner).unwrap().current()
    };
    let recorded = recordings(dialect);
    let mut bases = recorded.iter().cycle();
    let wishes = [wish().boxed(), bare_wish().boxed()];
    let mut round = 0;
    while search.found.tried < size && !(first && search.witness.is_some()) {
        round += 1;
        // A third of the requests are what clients sent.
        let base = if round % 3 == 0 {
            bases.next().cloned()
        } else {
            let (method, pairs, _) = draw(&wishes[round % 2]);
            let json = json(&mut search.dice);
            let method = if search.dice.roll(3) == 0 { Method::POST } else { method };
            if round % 3 == 1 && search.dice.roll(2) == 0 {
                laden(&client, &pairs, &mut search.dice)
            } else {
                client.signed(&(method, pairs, json))
            }
        };
        if let Some(base) = base {
            search.around(&base, OF_EACH);
        }
    }
    (search.found, search.witness)
}

/// Dialects of which separators tell the fields apart, and no rule: `controls` takes the separators away.
pub(crate) const SEPARATED: [&str; 4] = ["deribit", "htx", "native", "rfc9421"];

/// Every dialect.
fn subjects() -> Vec<Subject> {
    let open = |dialect: Arc<Dialect>| {
        let (_, recipe) = BUILTIN.iter().find(|(name, _)| **name == **dialect.name()).unwrap();
        (dialect, Some(Arc::new(Dialect::compile_unguarded(recipe).unwrap())))
    };
    dialects().into_iter().map(open).collect()
}

/// Those that have lenient readings, with these switched on.
fn lenient_subjects() -> Vec<Subject> {
    let lenient = |dialect: &Arc<Dialect>| Dialect::clone(dialect).with_leniency().map(Arc::new);
    let both =
        |(dialect, open): Subject| Some((lenient(&dialect)?, open.and_then(|open| lenient(&open))));
    subjects().into_iter().filter_map(both).collect()
}

fn search_all(subjects: &[Subject]) -> Found {
    let mut err = std::io::stderr();
    let mut all = Found::default();
    let mut tell = |name: &str, found: Found| {
        let Found { tried, accepted, respelled, groups, different, as_it_came, refused } = found;
        writeln!(
            err,
            "{name:17} {tried:9} variants, {accepted:8} accepted under {groups:7} signed texts, {respelled:7} of them respelled: {different} differ; {as_it_came:6} would as they came, {refused:6} would without the rules"
        )
        .unwrap();
    };
    for subject in subjects {
        let (found, witness) = search(subject, variants(), false);
        let name = subject.0.name();
        tell(name, found);
        assert!(witness.is_none(), "{name}: {}", witness.unwrap_or_default());
        // The control: what the rules keep out is tried, and there is some.
        assert!(found.refused > 0 || SEPARATED.contains(&&**name) || variants() < 12_000, "{name}");
        all += found;
    }
    tell("in all", all);
    all
}

#[test]
fn no_two_requests_of_different_meaning_are_forwarded_under_one_signature() {
    let found = search_all(&subjects());
    assert_eq!(found.different, 0);
    // The controls: without the one encoding, or without the rules of ambiguity, there would be some.
    assert!(found.respelled > 1_000 && found.as_it_came > 0 && found.refused > 0, "{found:?}");
}

#[test]
fn nor_where_lenient_readings_are_on() {
    let found = search_all(&lenient_subjects());
    assert_eq!(found.different, 0);
    assert!(found.respelled > 100 && found.as_it_came > 0 && found.refused > 0, "{found:?}");
}

/// The control that is a gate of its own: an operator may leave the boundary of query and form unsigned.
#[test]
fn the_search_finds_what_an_unsigned_boundary_lets_through() {
    let named = |dialect: &&Arc<Dialect>| &**dialect.name() == "binance";
    let Some(binance) = dialects().iter().find(named).cloned() else { return };
    let open = Arc::new(Dialect::clone(&binance).with_split_parameters());
    assert!(search(&(open, None), 20_000, true).0.different > 0);
}
