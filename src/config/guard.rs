//! `[guard]`: how many failures an address may have, and what befalls it then.

use std::time::Duration;

use ipnet::IpNet;

use super::document::Table;
use super::load::section;
use super::problem::Fault;
use super::value::{boolean, network, span, whole};
use crate::admit::{BanBounds, Bounds};
use crate::store::Limit;

pub(super) fn guard(root: &Table<'_>) -> Bounds {
    let default = Bounds::default();
    let Some(table) = section(root, "guard") else { return default };
    let bounds = Bounds {
        failures: limit(&table, "failures", "failures_per", default.failures),
        bans: bans(&table),
        passphrases: limit(&table, "passphrases", "passphrases_per", default.passphrases),
        codes: limit(&table, "codes", "codes_per", default.codes),
        codes_per_account: limit(
            &table,
            "codes_per_account",
            "codes_per_account_per",
            default.codes_per_account,
        ),
        codes_known_for: table.or("codes_known_for", default.codes_known_for, span(SECOND..=YEAR)),
        proven_for: table.or("proven_for", default.proven_for, span(SECOND..=DAY)),
        exempt: exempt(&table),
    };
    table.finish();
    bounds
}

/// None of it where the quota is 0.
fn limit(
    table: &Table<'_>,
    quota: &'static str,
    per: &'static str,
    default: Option<Limit>,
) -> Option<Limit> {
    let (most, period) = default.map_or((0, SECOND), |limit| (limit.quota, limit.period));
    let quota = table.or(quota, most, whole(0..=1_000));
    let period = table.or(per, period, span(SECOND..=DAY));
    (quota > 0).then_some(Limit { quota, period })
}

fn bans(table: &Table<'_>) -> Option<BanBounds> {
    let default = BanBounds::default();
    let after = limit(table, "ban_after", "ban_after_per", Some(default.after));
    let first = table.or("ban_first", default.first, span(SECOND..=YEAR));
    let longest = table.find("ban_longest");
    let longest_spot = longest.as_ref().map(|node| node.spot.clone());
    let longest = longest
        .and_then(|node| node.read(span(SECOND..=YEAR)))
        .unwrap_or(default.longest.max(first));
    if let Some(spot) = longest_spot.filter(|_| longest < first) {
        spot.error(Fault::new("it is shorter than the first ban, `ban_first`"));
    }
    let forget = table.or("ban_forget", default.forget, span(SECOND..=YEAR));
    let most = table.or("max_bans", default.most, whole(1..=10_000_000));
    let share = table.or("share_bans", default.share, boolean);
    after.map(|after| BanBounds { after, first, longest, forget, most, share })
}

fn exempt(table: &Table<'_>) -> Vec<IpNet> {
    table.find("exempt").map(|node| node.texts(network)).unwrap_or_default()
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = Duration::from_hours(365 * 24);
