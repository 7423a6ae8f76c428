//! `[[limit]]`: named limits, which keys and routes refer to.

use std::sync::Arc;
use std::time::Duration;

use super::document::Table;
use super::load::refuse_repeats;
use super::problem::Fault;
use super::value::{name, span, whole, word};
use super::{NamedLimit, Scope};
use crate::store::Limit;

pub(super) fn limits(root: &Table<'_>) -> Vec<NamedLimit> {
    let mut names = Vec::new();
    let mut all = Vec::new();
    for table in root.tables("limit") {
        let name_node = table.need("name", "keys and routes refer to it");
        let quota = table.need("quota", "the units per period, as quota = 6000");
        let per = table.need("per", "the period, as per = \"1m\"");
        let scope =
            table.find("scope").map_or(Some(Scope::Key), |node| node.read(word("scope", &SCOPES)));
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
        let counted = scope.map_or(vec![Scope::Key, Scope::Address], |scope| vec![scope]);
        let counted_for = |scope| NamedLimit { name: Arc::from(name), limit, scope };
        all.extend(counted.into_iter().map(counted_for));
    }
    all
}

/// The limit called `name`, which must be of this scope.
pub(super) fn find(limits: &[NamedLimit], name: &str, scope: Scope) -> Result<Limit, Fault> {
    let mut called = limits.iter().filter(|limit| *limit.name == *name);
    let found = called.clone().find(|limit| limit.scope == scope).or_else(|| called.next());
    let fitting = || limits.iter().filter(|limit| limit.scope == scope).map(|limit| &*limit.name);
    match found {
        None => Err(Fault::unknown("limit", name, fitting())),
        Some(found) if found.scope == scope => Ok(found.limit),
        Some(found) => Err(Fault::cured(
            format!("limit \"{name}\" is counted for each {}", scope_name(found.scope)),
            format!("name a limit with scope = \"{}\"", scope_name(scope)),
        )),
    }
}

const SCOPES: [(Scope, &str); 2] = [(Scope::Key, "key"), (Scope::Address, "address")];

const fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Key => "key",
        Scope::Address => "address",
    }
}
