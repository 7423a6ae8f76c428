//! `[guard]`: how many failures an address may have.

use std::time::Duration;

use super::document::Table;
use super::load::section;
use super::value::{span, whole};
use crate::admit::Bounds;
use crate::store::Limit;

pub(super) fn guard(root: &Table<'_>) -> Bounds {
    let default = Bounds::default();
    let Some(table) = section(root, "guard") else { return default };
    let period = || span(Duration::from_secs(1)..=Duration::from_hours(24));
    let limit = |quota, per, default: Option<Limit>| {
        let (most, period_by_default) =
            default.map_or((0, Duration::from_secs(1)), |limit| (limit.quota, limit.period));
        let quota = table.or(quota, most, whole(0..=1_000));
        let period = table.or(per, period_by_default, period());
        (quota > 0).then_some(Limit { quota, period })
    };
    let bounds = Bounds {
        failures: limit("failures", "failures_per", default.failures),
        passphrases: limit("passphrases", "passphrases_per", default.passphrases),
        proven_for: table.or("proven_for", default.proven_for, period()),
    };
    table.finish();
    bounds
}
