//! Where the same signed bytes may come again.

use super::document::{Node, Table};
use super::problem::Fault;
use super::value::word;
use crate::admit::{Ask, Effect};
use crate::dialect::Dialect;
use crate::gateway::routes::Target;
use crate::store::Repeat;

/// Whether identical signed bytes may come again, where that is safe.
pub(super) fn repeat(
    table: &Table<'_>,
    ask: Option<&Ask>,
    effect: Option<Effect>,
) -> Option<Repeat> {
    let Some(node) = table.find("replay") else { return Some(Repeat::Never) };
    let repeat = node.read(word("replay rule", &REPEATS))?;
    if repeat == Repeat::Never {
        return Some(repeat);
    }
    match (ask, effect) {
        (Some(Ask::Signed(dialect)), Some(Effect::Read)) => may_repeat(&node, dialect),
        (Some(Ask::Signed(_)), Some(Effect::Cancel | Effect::Write)) => {
            let problem = "identical bytes may come again only where nothing is changed";
            node.spot
                .error(Fault::cured(problem, "leave `replay` out, or state effect = \"read\""));
            None
        }
        (Some(Ask::Public | Ask::Key(_)), _) => {
            node.spot
                .error(Fault::cured("only signed requests are recorded", "leave `replay` out"));
            None
        }
        (None, _) | (_, None) => None,
    }
}

/// Whoever captured a request could open a WebSocket beside its holder's.
pub(super) fn refuse_reopening(table: &Table<'_>, target: Option<&Target>, repeat: Option<Repeat>) {
    if let (Some(Target::WebSocket(_)), Some(Repeat::SameRoute)) = (target, repeat)
        && let Some(node) = table.find("replay")
    {
        let problem = "a WebSocket is opened by each signed request once";
        node.spot.error(Fault::cured(problem, "leave `replay` out"));
    }
}

fn may_repeat(node: &Node<'_>, dialect: &Dialect) -> Option<Repeat> {
    if dialect.counts_seconds() {
        return Some(Repeat::SameRoute);
    }
    node.spot.error(Fault::cured(
        format!(
            "dialect {} signs a time finer than seconds: an honest client never sends the same bytes twice",
            dialect.name()
        ),
        "leave `replay` out",
    ));
    None
}

const REPEATS: [(Repeat, &str); 2] =
    [(Repeat::Never, "refuse"), (Repeat::SameRoute, "repeat-same-route")];
