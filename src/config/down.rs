//! `when_store_down`: what becomes of a route's requests while the shared store cannot be asked.

use std::sync::Arc;

use super::document::Table;
use super::problem::Fault;
use super::value::word;
use crate::admit::{Ask, Effect};
use crate::dialect::Dialect;
use crate::gateway::routes::Target;
use crate::store::redis::{Options, Topology};

/// What else a route says.
pub(super) struct Asks<'r> {
    pub(super) ask: Option<&'r Ask>,
    pub(super) effect: Option<Effect>,
    pub(super) target: Option<&'r Target>,
    pub(super) has_factor: bool,
}

/// Whether each gateway judges the route's requests alone then, where that is safe.
pub(super) fn is_local(table: &Table<'_>, route: &Asks<'_>) -> Option<bool> {
    let Some(node) = table.find("when_store_down") else { return Some(false) };
    if node.read(word("rule", &WHEN_DOWN))? == WhenDown::Refuse {
        return Some(false);
    }
    let fault = match (route.ask?, route.effect?) {
        (Ask::Public | Ask::Key(_), _) => Fault::cured(
            "no store is asked about requests that are not signed",
            "leave `when_store_down` out",
        ),
        (Ask::Signed(_), Effect::Write) => Fault::cured(
            "another gateway may let a copy through meanwhile, and this route changes something",
            "write when_store_down = \"refuse\", or state effect = \"read\" or \"cancel\" where it is that",
        ),
        (Ask::Signed(dialect), Effect::Read | Effect::Cancel) if !signs_where(dialect) => {
            Fault::cured(
                format!(
                    "dialect {} does not sign method and path, so a copy could be sent to another route",
                    dialect.name()
                ),
                "write when_store_down = \"refuse\", or serve the route in a dialect that signs both",
            )
        }
        (Ask::Signed(_), Effect::Read | Effect::Cancel) if route.has_factor => Fault::cured(
            "a code of the second factor is good once, on every gateway",
            "write when_store_down = \"refuse\", or leave `second_factor` out",
        ),
        (Ask::Signed(_), Effect::Read | Effect::Cancel) => match route.target? {
            Target::WebSocket(_) => Fault::cured(
                "a WebSocket goes on when the store is back",
                "write when_store_down = \"refuse\"",
            ),
            Target::Upstream(_) | Target::Time(_) => return Some(true),
        },
    };
    node.spot.error(fault);
    None
}

/// Whether every message of a dialect covers method and path.
pub(super) fn signs_where(dialect: &Dialect) -> bool {
    let has = |signed: &[&str]| signed.contains(&"method") && signed.contains(&"path");
    dialect.coverage().iter().all(|message| has(&message.signed))
}

/// Tells the shared store which routes are judged alone: where there is one, and it is said how many gateways share it.
pub(super) fn settle(root: &Table<'_>, shared: Option<&mut Options>, locals: &[(u16, Arc<str>)]) {
    let Some((_, first)) = locals.first() else { return };
    let said = format!("route \"{first}\" has when_store_down = \"local\"");
    match shared {
        None => root.spot.error(Fault::cured(
            format!("{said}, and the store is in memory"),
            "leave it out: a store of this gateway's own is never down",
        )),
        Some(options) if matches!(options.topology, Topology::Cluster(_)) => {
            root.spot.error(Fault::cured(
                format!("{said}, and in a cluster what was judged alone has no server that is told of it first"),
                "write when_store_down = \"refuse\", or use topology = \"quorum\"",
            ));
        }
        Some(options) if options.local.gateways == 0 => root.spot.error(Fault::cured(
            format!("{said}, and nothing says how many gateways share the limits"),
            "write `gateways = 4` under [store.redis]: then each may spend a fourth of every limit alone",
        )),
        Some(options) => options.local.routes = locals.iter().map(|(id, _)| *id).collect(),
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum WhenDown {
    Refuse,
    Local,
}

const WHEN_DOWN: [(WhenDown, &str); 2] = [(WhenDown::Refuse, "refuse"), (WhenDown::Local, "local")];

#[cfg(test)]
mod tests {
    use crate::config::tests::problems_of;

    /// What is wrong with a configuration whose route says `local`.
    fn wrong(route: &str, store: &str) -> String {
        let route = format!(
            r#"[[route]]
name = "one"
path = "/api/**"
upstream = "exchange"
when_store_down = "local"
{route}
"#
        );
        problems_of(store, &route).join("\n")
    }

    const SHARED: &str =
        "[store]\nkind = \"redis\"\n[store.redis]\nservers = [\"127.0.0.1:1\"]\ngateways = 3";
    const READ: &str = "methods = [\"GET\"]\ndialect = \"okx\"";

    #[test]
    fn reads_and_cancels_may_be_judged_alone_in_dialects_that_sign_where_they_go() {
        assert_eq!(wrong(READ, SHARED), "");
        let cancel = "methods = [\"DELETE\"]\neffect = \"cancel\"\ndialect = \"okx\"";
        assert_eq!(wrong(cancel, SHARED), "");
    }

    #[test]
    fn all_others_are_refused_with_the_reason() {
        let [get, post] = ["methods = [\"GET\"]\n", "methods = [\"POST\"]\n"];
        for (route, reason) in [
            (format!("{post}dialect = \"okx\"\npermission = \"trade\""), "changes something"),
            (
                format!("{get}dialect = \"binance\""),
                "dialect binance does not sign method and path",
            ),
            (format!("{get}dialect = \"bybit\""), "dialect bybit does not sign method and path"),
            (format!("{get}ask = \"public\""), "requests that are not signed"),
            (format!("{get}dialect = \"binance\"\nask = \"key\""), "requests that are not signed"),
            (format!("{READ}\nwebsocket = true"), "a WebSocket goes on"),
            (
                format!("{READ}\nsecond_factor = {{ header = \"x-otp\" }}"),
                "good once, on every gateway",
            ),
        ] {
            let told = wrong(&route, SHARED);
            assert!(told.contains(reason), "{route}: {told}");
        }
    }

    #[test]
    fn the_store_must_be_shared_by_gateways_of_a_known_number() {
        let told = wrong(READ, &SHARED.replace("gateways = 3", ""));
        assert!(told.contains("nothing says how many gateways"), "{told}");
        assert!(wrong(READ, "[store]").contains("the store is in memory"));
    }

    #[test]
    fn a_cluster_judges_no_route_alone_and_what_to_write_instead_is_said() {
        let cluster = format!("{SHARED}\ntopology = \"cluster\"");
        let told = wrong(READ, &cluster);
        assert!(
            told.contains("route \"one\" has when_store_down = \"local\", and in a cluster"),
            "{told}"
        );
        let cure = "(write when_store_down = \"refuse\", or use topology = \"quorum\")";
        assert!(told.ends_with(cure) && told.lines().count() == 1, "{told}");
    }
}
