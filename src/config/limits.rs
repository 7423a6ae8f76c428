//! `[[limit]]`: named limits, which keys and routes refer to.

use std::sync::Arc;
use std::time::Duration;

use super::NamedLimit;
use super::document::{Node, Table};
use super::load::refuse_repeats;
use super::problem::Fault;
use super::value::{boolean, name, span, whole, word};
use crate::admit::{Charged, Counts, Lane, Meter};
use crate::store::{Limit, Scope, Window};

pub(super) fn limits(root: &Table<'_>) -> Vec<NamedLimit> {
    let mut names = Vec::new();
    let mut all = Vec::new();
    for table in root.tables("limit") {
        let name_node = table.need("name", "keys and routes refer to it");
        let quota = table.need("quota", "the units per period, as quota = 6000");
        let per = table.need("per", "the period, as per = \"1m\"");
        let scope =
            table.find("scope").map_or(Some(Scope::Key), |node| node.read(word("scope", &SCOPES)));
        let ways = ways(&table, scope);
        table.finish();
        let name = name_node.and_then(|node| {
            node.read(|value| {
                let text = name(value)?;
                refuse_repeats(&mut names, text, "limit").map(|()| text)
            })
        });
        let quota = quota.and_then(|node| node.read(whole(1..=1_000_000_000)));
        let range = Duration::from_millis(1)..=Duration::from_hours(24);
        let period = per.and_then(|node| node.read(span(range)));
        let Some(name) = name else { continue };
        // A limit that is wrong elsewhere keeps its name, so that who refers to it is not blamed.
        let limit = Limit {
            quota: quota.unwrap_or(u32::MAX),
            period: period.unwrap_or(Duration::from_secs(1)),
        };
        let counted =
            scope.map_or_else(|| SCOPES.map(|(scope, _)| scope).to_vec(), |scope| vec![scope]);
        let counted_for = |scope| {
            let meter = Meter { limit, scope, name: Meter::digest(name), ..ways };
            NamedLimit { name: Arc::from(name), meter }
        };
        all.extend(counted.into_iter().map(counted_for));
    }
    all
}

/// How a limit is counted and for which requests; what is wrong counts as usual.
fn ways(table: &Table<'_>, scope: Option<Scope>) -> Meter {
    let usual = Meter::from(Limit { quota: 1, period: Duration::from_secs(1) });
    let kind =
        table.or("kind", Some(Window::Bucket), |value| word("kind", &KINDS)(value).map(Some));
    let counts = table.or("counts", Counts::Weight, word("unit", &COUNTS));
    let is_own = scope.is_none_or(|scope| matches!(scope, Scope::Key | Scope::Account));
    let lane = table.find("lane").map_or(Lane::All, |node| {
        let lane = node.read(word("lane", &LANES)).unwrap_or_default();
        let fault = match lane {
            Lane::Cancel if !is_own => {
                Some("only limits that keys name have a lane: a route names its own")
            }
            Lane::Cancel if counts == Counts::Orders => {
                Some("what only cancels places no orders, so this would count nothing")
            }
            Lane::Cancel | Lane::All => None,
        };
        refuse(&node, fault, "leave `lane` out");
        lane
    });
    let charged = table.find("charged").map_or(Charged::Always, |node| {
        let charged = node.read(word("outcome", &CHARGED)).unwrap_or_default();
        let fault = match charged {
            Charged::Refused | Charged::Accepted if kind == Some(Window::Bucket) => {
                Some("what a bucket has got back by itself cannot be told from what is given back")
            }
            Charged::Refused | Charged::Accepted if !is_own => {
                Some("only limits of keys and accounts are charged by outcome")
            }
            Charged::Always | Charged::Refused | Charged::Accepted => None,
        };
        let cure =
            "count it in kind = \"fixed-window\" or \"sliding-window\", for each key or account";
        refuse(&node, fault, cure);
        charged
    });
    let shadow = table.or("shadow", false, boolean);
    Meter { window: kind.unwrap_or_default(), counts, lane, charged, shadow, ..usual }
}

fn refuse(node: &Node<'_>, fault: Option<&'static str>, cure: &'static str) {
    if let Some(fault) = fault {
        node.spot.error(Fault::cured(fault, cure));
    }
}

/// The limit called `name`, which must be of one of these scopes.
pub(super) fn find(limits: &[NamedLimit], name: &str, scopes: &[Scope]) -> Result<Meter, Fault> {
    let fits = |limit: &&NamedLimit| scopes.contains(&limit.meter.scope);
    let mut called = limits.iter().filter(|limit| *limit.name == *name);
    let found = called.clone().find(fits).or_else(|| called.next());
    let fitting = || limits.iter().filter(fits).map(|limit| &*limit.name);
    match found {
        None => Err(Fault::unknown("limit", name, fitting())),
        Some(found) if fits(&found) => Ok(found.meter),
        Some(found) => {
            let wanted = scopes.iter().map(|scope| format!("scope = \"{}\"", scope_name(*scope)));
            Err(Fault::cured(
                format!("limit \"{name}\" is counted for {}", counted_for(found.meter.scope)),
                format!("name a limit with {}", wanted.collect::<Vec<_>>().join(" or ")),
            ))
        }
    }
}

/// The scopes of limits that keys may name.
pub(super) const OF_KEYS: [Scope; 2] = [Scope::Key, Scope::Account];

const SCOPES: [(Scope, &str); 4] = [
    (Scope::Key, "key"),
    (Scope::Account, "account"),
    (Scope::Address, "address"),
    (Scope::Global, "global"),
];
const KINDS: [(Window, &str); 3] = [
    (Window::Bucket, "token-bucket"),
    (Window::Sliding, "sliding-window"),
    (Window::Fixed, "fixed-window"),
];
const COUNTS: [(Counts, &str); 2] = [(Counts::Weight, "weight"), (Counts::Orders, "orders")];
const LANES: [(Lane, &str); 2] = [(Lane::All, "all"), (Lane::Cancel, "cancel")];
const CHARGED: [(Charged, &str); 3] =
    [(Charged::Always, "always"), (Charged::Refused, "refused"), (Charged::Accepted, "accepted")];

const fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Key => "key",
        Scope::Account => "account",
        Scope::Address => "address",
        Scope::Global => "global",
    }
}

const fn counted_for(scope: Scope) -> &'static str {
    match scope {
        Scope::Key => "each key",
        Scope::Account => "each account",
        Scope::Address => "each address",
        Scope::Global => "all together",
    }
}
