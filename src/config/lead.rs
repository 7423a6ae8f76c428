//! How far ahead a signed deadline may lie: defeats what passes once by a route with a long lead and, after the store has
//! lost its records, once more by one with a short lead.
//!
//! After a loss a route refuses what any gateway could have accepted on it before, and that is reckoned from its lead. So
//! where the same signed bytes may be sent to two routes, both must have the same.

use std::time::Duration;

use super::Config;
use super::document::Table;
use super::down::signs_where;
use super::problem::Fault;
use super::value::span;
use crate::admit::{Ask, Route};
use crate::dialect::{Dialect, TimeKind};
use crate::gateway::routes::{Entry, Rule};

/// What a route says, or what the dialect's clients sign where that says so.
pub(super) fn lead(table: &Table<'_>, ask: Option<&Ask>) -> Duration {
    let default = dialect_of(ask).and_then(Dialect::lead).unwrap_or(Duration::from_mins(1));
    table.or("lead", default, span(Duration::from_millis(1)..=Duration::from_hours(1)))
}

/// Refuses a route whose lead is not that of an earlier one to which the same signed bytes could be sent.
pub(super) fn refuse_unlike(
    table: &Table<'_>,
    rule: &Rule,
    route: &Route,
    earlier: &[(Rule, Entry)],
) {
    let Some(dialect) = signed(route) else { return };
    let is_alike = |(other, Entry { demand, .. }): &&(Rule, Entry)| {
        signed(demand).is_some_and(|its| its.name() == dialect.name())
            && demand.venue == route.venue
            && demand.lead != route.lead
            && (!signs_where(dialect) || (!signs_host(dialect) && other.host != rule.host))
    };
    let Some((_, Entry { demand, .. })) = earlier.iter().find(is_alike) else { return };
    let fault = Fault::cured(
        format!(
            "its lead is not that of \"{}\", to which requests of dialect {} could be sent as they are: what passed \
             there could pass here as well, once the store has lost its records",
            demand.name,
            dialect.name()
        ),
        "give both the same `lead`, or another venue",
    );
    match table.find("lead") {
        Some(node) => node.spot.error(fault),
        None => table.spot.error(fault),
    }
}

impl Config {
    /// The longest lead of all routes whose requests sign a deadline; zero where none do.
    pub fn longest_lead(&self) -> Duration {
        let demands = self.routes.all().iter().map(|entry| &entry.demand);
        demands
            .filter(|demand| signed(demand).is_some())
            .map(|demand| demand.lead)
            .max()
            .unwrap_or_default()
    }
}

fn dialect_of(ask: Option<&Ask>) -> Option<&Dialect> {
    match ask? {
        Ask::Key(dialect) | Ask::Signed(dialect) => Some(dialect),
        Ask::Public => None,
    }
}

/// The dialect of a route whose requests sign a deadline.
fn signed(route: &Route) -> Option<&Dialect> {
    let Ask::Signed(dialect) = &route.ask else { return None };
    (dialect.time_kind() == TimeKind::Deadline).then_some(dialect)
}

/// Whether every message of a dialect covers the host.
fn signs_host(dialect: &Dialect) -> bool {
    dialect.coverage().iter().all(|message| message.signed.contains(&"host"))
}

#[cfg(test)]
mod tests {
    use crate::config::tests::problems_of;

    /// What is wrong with two routes of a dialect, of which the second says `rest`.
    fn wrong(dialect: &str, lead: &str, rest: &str) -> Vec<String> {
        let routes = format!(
            r#"[[route]]
name = "look"
methods = ["GET"]
path = "/orders"
upstream = "exchange"
dialect = "{dialect}"
{lead}
[[route]]
name = "place"
methods = ["POST"]
path = "/orders"
upstream = "exchange"
permission = "trade"
dialect = "{dialect}"
{rest}
"#
        );
        problems_of("", &routes)
    }

    #[test]
    fn routes_that_the_same_bytes_may_reach_have_one_lead() {
        let long = "lead = \"60s\"";
        let [refused] = &*wrong("phemex", long, "lead = \"5s\"") else { panic!() };
        assert!(refused.contains("route[1].lead: its lead is not that of \"look\""), "{refused}");
        let [refused] = &*wrong("phemex", "lead = \"5s\"", "") else { panic!() };
        assert!(refused.contains("route[1]: its lead is not that of \"look\""), "{refused}");
        for (dialect, rest) in [
            ("phemex", "lead = \"60s\""),
            ("phemex", ""),
            ("phemex", "lead = \"5s\"\nvenue = \"other\""),
            // It signs both method and path.
            ("bitmex", "lead = \"5s\""),
            // It signs the host as well.
            ("coinbase_jwt", "lead = \"5s\"\nhost = \"a.example\""),
            // It signs no deadline.
            ("binance", "lead = \"5s\""),
        ] {
            assert_eq!(wrong(dialect, long, rest), [""; 0], "{dialect} {rest}");
        }
        let elsewhere = wrong("bitmex", long, "lead = \"5s\"\nhost = \"a.example\"");
        assert!(elsewhere.first().is_some_and(|refused| refused.contains("its lead")));
    }
}
