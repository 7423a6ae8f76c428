//! Addresses that operators keep out.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::call::{Call, Reason, Reply, outdated, sound_reason};
use super::caller::Role;
use super::cursor;
use super::key_ask::span;
use super::ledger::{self, Entry};
use super::moment;
use super::operation::{AFTER, LIMIT, Operation, Outcome, Verb, shape};
use super::problem::Problem;
use crate::registry::book::{Kind, Query};
use crate::registry::gossip::Topic;
use crate::registry::records::BanRecord;

/// An address that is kept out, where nothing is proved.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct BanView {
    /// The address; of IPv6 the /64.
    address: String,
    /// One more with each change; its `ETag`.
    version: u64,
    /// Since when.
    since: String,
    /// Until when.
    until: String,
    /// Why.
    reason: Option<String>,
}

/// A page of bans.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct BanList {
    items: Vec<BanView>,
    /// Where to go on; `null` at the end.
    next: Option<String>,
}

/// An address to be kept out.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateBan {
    /// The address; of IPv6 its /64 is meant.
    #[schema(value_type = String, examples("203.0.113.7"))]
    address: String,
    /// For how long, as "1h"; at most a year.
    #[serde(rename = "for")]
    span: String,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

pub(super) const OPERATIONS: &[Operation] = &[
    Operation::new(
        Verb::Get,
        "/v1/bans",
        "bans.list",
        Role::Viewer,
        "Addresses that are kept out now",
        |call| Box::pin(list(call)),
    )
    .query(&[LIMIT, AFTER])
    .answers(200, shape::<BanList>),
    Operation::new(
        Verb::Post,
        "/v1/bans",
        "bans.create",
        Role::Operator,
        "Keep an address out where it proves nothing",
        |call| Box::pin(create(call)),
    )
    .takes(shape::<CreateBan>)
    .answers(201, shape::<BanView>),
    Operation::new(
        Verb::Delete,
        "/v1/bans/{address}",
        "bans.lift",
        Role::Operator,
        "Let an address in again, whoever banned it",
        |call| Box::pin(lift(call)),
    )
    .may_take(shape::<Reason>)
    .empty()
    .versioned(),
];

/// The longest ban.
const LONGEST: Duration = Duration::from_hours(366 * 24);

impl BanView {
    fn of(ban: Entry<BanRecord>) -> Self {
        Self {
            address: if ban.id.contains(':') { format!("{}/64", ban.id) } else { ban.id },
            version: ban.version,
            since: moment::written(ban.says.created),
            until: moment::written(ban.says.until),
            reason: ban.says.reason,
        }
    }
}

async fn list(call: Call) -> Outcome {
    let (limit, mut after) = (call.limit()?, call.after("bans", &[])?);
    let mut items = Vec::new();
    for _ in 0..ledger::PAGES {
        let (kind, account, application) = (Kind::Ban, None, None);
        let query = Query { kind, account, application, after: after.clone(), limit: 1_000 };
        let page = call.api.desk.registry().list(query).await?;
        let full = page.len() == 1_000;
        after = None;
        for record in &page {
            if items.len() == limit {
                break;
            }
            after = Some(record.id.clone());
            let ban: Entry<BanRecord> = ledger::entry(record)?;
            if ban.says.until > call.at && !ban.says.lifted {
                items.push(BanView::of(ban));
            }
        }
        let rest = page.last().is_some_and(|last| after.as_ref().is_none_or(|at| *at < last.id));
        if !full && !rest {
            after = None;
            break;
        }
        if items.len() == limit {
            break;
        }
    }
    let next = after.map(|last| cursor::after("bans", &[], &last));
    Reply::ok(&BanList { items, next })
}

async fn create(call: Call) -> Outcome {
    let body: CreateBan = call.read()?;
    let reason = sound_reason(body.reason)?;
    let address = place(&body.address)?;
    let span = span("for", &body.span)?;
    if span.is_zero() || span > LONGEST {
        return Err(Problem::unprocessable("`for` is not from 1s to 366d."));
    }
    let says = BanRecord {
        until: call.at + span,
        lifted: false,
        reason: reason.clone(),
        created: call.at,
    };
    let before = ledger::find::<BanRecord>(&call, Kind::Ban, &address).await?;
    let replaces = before.map(|before| before.version);
    let note = ("bans.create", reason);
    let ban = ledger::write(&call, Kind::Ban, &address, replaces, says, note).await?;
    let version = ban.version;
    Ok(Reply::json(http::StatusCode::CREATED, &BanView::of(ban))?.at_version(version).of(address))
}

async fn lift(call: Call) -> Outcome {
    let reason = call.reason()?;
    let address = place(call.name("address"))?;
    let ban = ledger::find::<BanRecord>(&call, Kind::Ban, &address).await?;
    let version = ban.as_ref().map(|ban| ban.version);
    if call.expected.is_some_and(|expected| version != Some(expected)) {
        return Err(outdated(version));
    }
    // First, or a gateway that has not heard of the lifting would be told of the ban after it.
    call.api.desk.registry().unsay(Topic::Ban, &address).await?;
    // Said of an address without a record too: gateways ban those that go on failing by themselves.
    let created = ban.map_or(call.at, |ban| ban.says.created);
    let says = BanRecord { until: call.at, lifted: true, reason: reason.clone(), created };
    ledger::write(&call, Kind::Ban, &address, version, says, ("bans.lift", reason)).await?;
    Ok(Reply::empty(http::StatusCode::NO_CONTENT))
}

/// The name of what is banned where this is: an address, or the first of the /64 of one of IPv6.
fn place(text: &str) -> Result<String, Problem> {
    let wrong = || {
        Problem::unprocessable("`address` is no IP address.")
            .cured("write as \"203.0.113.7\" or \"2001:db8::1\"")
    };
    let address = match text.parse::<IpNet>() {
        Ok(IpNet::V6(network)) if network.prefix_len() == 64 => IpAddr::V6(network.addr()),
        Ok(_) => return Err(wrong()),
        Err(_) => text.parse::<IpAddr>().map_err(|_| wrong())?,
    };
    match address.to_canonical() {
        IpAddr::V4(v4) => Ok(v4.to_string()),
        IpAddr::V6(v6) => {
            let first: Ipv6Addr = (u128::from(v6) >> 64 << 64).into();
            Ok(first.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ipv6_means_its_64() {
        for (text, banned) in [
            ("203.0.113.7", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::"),
            ("2001:db8:1:2::/64", "2001:db8:1:2::"),
        ] {
            assert_eq!(place(text).unwrap(), banned);
        }
        for wrong in ["", "home", "203.0.113.0/24", "2001:db8::/32", "203.0.113.7/32"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
