//! What may become of a key: each act takes a record and makes the next one, or says why not. Nothing here reads a
//! clock, a registry or a secret.
//!
//! The epoch rises with each act that takes something from the holder, so that what was known before counts no longer.

mod refusal;

use std::time::Duration;

use ipnet::IpNet;

use super::Algorithm;
use crate::clock::Micros;
use crate::registry::records::{
    ApplicationRecord, KeyRecord, Life, Sealed, SecretMaterial, SecretRecord,
};

pub use refusal::Refusal;

/// What a key is made with.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Who holds it.
    pub account: String,
    /// The application it is made for.
    pub application: Option<String>,
    /// What its holder calls it.
    pub label: String,
    /// Where it is valid.
    pub venue: String,
    /// The dialect it signs in.
    pub dialect: String,
    /// How it signs.
    pub algorithm: Algorithm,
    /// What it may do, by name.
    pub permissions: Vec<String>,
    /// Where from; anywhere when empty.
    pub allowlist: Vec<IpNet>,
    /// The routes it may use, by name; all when empty.
    pub routes: Vec<String>,
    /// The symbols it may trade; all when empty.
    pub symbols: Vec<String>,
    /// Its limits, by name.
    pub limits: Vec<String>,
    /// When it ends by itself.
    pub expires: Option<Micros>,
}

/// What is changed of a key; what is `None` stays.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// What its holder calls it.
    pub label: Option<String>,
    /// What it may do, by name.
    pub permissions: Option<Vec<String>>,
    /// Where from; anywhere when empty.
    pub allowlist: Option<Vec<IpNet>>,
    /// The routes it may use; all when empty.
    pub routes: Option<Vec<String>>,
    /// The symbols it may trade; all when empty.
    pub symbols: Option<Vec<String>>,
    /// Its limits.
    pub limits: Option<Vec<String>>,
    /// When it ends by itself; `Some(None)` for never.
    pub expires: Option<Option<Micros>>,
}

/// What holds for all keys, beside what each of them says.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// The moment.
    pub now: Micros,
    /// The application that the key is for, where it is for one.
    pub application: Option<&'a ApplicationRecord>,
    /// For how long a key that is bound to no network may trade; for ever where it is `None`.
    pub unbound_trade: Option<Duration>,
}

/// The version of the form of key records.
pub const FORMAT: u16 = 1;
/// The longest time for which two secrets are good.
pub const LONGEST_OVERLAP: Duration = Duration::from_hours(90 * 24);

const TRADE: &str = "trade";
const WITHDRAW: &str = "withdraw";

/// Makes a key.
pub fn issue(
    terms: Terms,
    material: SecretMaterial,
    passphrase: Option<Sealed>,
    around: &Surroundings<'_>,
) -> Result<KeyRecord, Refusal> {
    let created = moment_of_issue(around);
    if terms.expires.is_some_and(|end| end <= created) {
        return Err(Refusal::EndsInThePast);
    }
    let mut record = KeyRecord {
        format: FORMAT,
        account: terms.account,
        application: terms.application,
        label: terms.label,
        venue: terms.venue,
        dialect: terms.dialect,
        algorithm: terms.algorithm.name().to_owned(),
        secrets: vec![SecretRecord { number: 1, material, created, until: None }],
        passphrase,
        permissions: terms.permissions,
        allowlist: terms.allowlist,
        routes: terms.routes,
        symbols: terms.symbols,
        limits: terms.limits,
        state: Life::Active,
        created,
        expires: terms.expires,
        trade_until: None,
        epoch: 1,
    };
    record.trade_until = trade_until(&record, around);
    if around.application.is_some_and(|application| application.stopped) {
        return Err(Refusal::ApplicationStopped);
    }
    permitted(&record, &[], around.application)?;
    Ok(record)
}

/// Gives a key another secret. Both are good for `overlap`, but never longer than the key itself; with none, the
/// earlier ones end at once.
pub fn rotate(
    record: &KeyRecord,
    material: SecretMaterial,
    overlap: Duration,
    around: &Surroundings<'_>,
) -> Result<KeyRecord, Refusal> {
    alive(record, around)?;
    if overlap > LONGEST_OVERLAP {
        return Err(Refusal::LongOverlap);
    }
    let now = around.now;
    let outgoing = record.secrets.iter().skip(1).filter_map(|secret| secret.until).max();
    let mut next = record.clone();
    next.secrets.truncate(1);
    if overlap.is_zero() {
        next.secrets.clear();
        next.epoch += 1;
    } else if let Some(until) = outgoing.filter(|until| *until > now) {
        return Err(Refusal::Rotating(until));
    }
    let end = now + overlap;
    let end = record.expires.map_or(end, |expires| end.min(expires));
    for secret in &mut next.secrets {
        secret.until = Some(end);
    }
    let number = next_number(record);
    next.secrets.insert(0, SecretRecord { number, material, created: now, until: None });
    Ok(next)
}

/// The key that takes the place of one that was lost: it has the same bindings and ends at the same time.
pub fn replacement(
    record: &KeyRecord,
    material: SecretMaterial,
    passphrase: Option<Sealed>,
    around: &Surroundings<'_>,
) -> Result<KeyRecord, Refusal> {
    if record.state == Life::Revoked {
        return Err(Refusal::Revoked);
    }
    let created = moment_of_issue(around);
    if record.expires.is_some_and(|end| end <= created) {
        return Err(Refusal::Expired);
    }
    let secrets = vec![SecretRecord { number: 1, material, created, until: None }];
    Ok(KeyRecord { secrets, passphrase, created, epoch: 1, ..record.clone() })
}

/// The number of the secret that a rotation brings.
pub fn next_number(record: &KeyRecord) -> u32 {
    record.secrets.iter().map(|secret| secret.number).max().unwrap_or(0).saturating_add(1)
}

/// Sets a key aside.
pub fn suspend(record: &KeyRecord) -> Result<KeyRecord, Refusal> {
    match record.state {
        Life::Active => {
            Ok(KeyRecord { state: Life::Suspended, epoch: record.epoch + 1, ..record.clone() })
        }
        Life::Suspended => Err(Refusal::Suspended),
        Life::Revoked => Err(Refusal::Revoked),
    }
}

/// Takes a key that was set aside into use again.
pub fn resume(record: &KeyRecord, around: &Surroundings<'_>) -> Result<KeyRecord, Refusal> {
    match record.state {
        Life::Active => Err(Refusal::NotSuspended),
        Life::Suspended => {
            alive(record, around)?;
            Ok(KeyRecord { state: Life::Active, ..record.clone() })
        }
        Life::Revoked => Err(Refusal::Revoked),
    }
}

/// Ends a key for good.
pub fn revoke(record: &KeyRecord) -> Result<KeyRecord, Refusal> {
    match record.state {
        Life::Active | Life::Suspended => {
            Ok(KeyRecord { state: Life::Revoked, epoch: record.epoch + 1, ..record.clone() })
        }
        Life::Revoked => Err(Refusal::Revoked),
    }
}

/// Lets a key expire now.
pub fn expire(record: &KeyRecord, around: &Surroundings<'_>) -> Result<KeyRecord, Refusal> {
    alive(record, around)?;
    let mut next =
        KeyRecord { expires: Some(around.now), epoch: record.epoch + 1, ..record.clone() };
    shorten(&mut next);
    Ok(next)
}

/// Changes what a key is called or bound to.
pub fn update(
    record: &KeyRecord,
    changes: &Changes,
    around: &Surroundings<'_>,
) -> Result<KeyRecord, Refusal> {
    alive(record, around)?;
    if changes.expires.flatten().is_some_and(|end| end <= around.now) {
        return Err(Refusal::EndsInThePast);
    }
    let mut next = applied(record, changes);
    shorten(&mut next);
    let traded_unbound = trades_unbound(record);
    next.trade_until = match (traded_unbound, trades_unbound(&next)) {
        (_, false) => None,
        (true, true) => record.trade_until,
        (false, true) => trade_until(&next, around),
    };
    permitted(&next, &record.permissions, around.application)?;
    if narrows(record, &next) {
        next.epoch += 1;
    }
    Ok(next)
}

/// What a record says once its members are replaced by those of `changes`, whether or not that may be.
pub fn applied(record: &KeyRecord, changes: &Changes) -> KeyRecord {
    let mut next = record.clone();
    let set = |to: &mut Vec<String>, from: &Option<Vec<String>>| {
        if let Some(from) = from {
            to.clone_from(from);
        }
    };
    set(&mut next.permissions, &changes.permissions);
    set(&mut next.routes, &changes.routes);
    set(&mut next.symbols, &changes.symbols);
    set(&mut next.limits, &changes.limits);
    if let Some(label) = &changes.label {
        next.label.clone_from(label);
    }
    if let Some(allowlist) = &changes.allowlist {
        next.allowlist.clone_from(allowlist);
    }
    if let Some(expires) = changes.expires {
        next.expires = expires;
    }
    next
}

/// Whether `next` lacks anything that `before` had. Where that is hard to say it is taken to.
pub fn narrows(before: &KeyRecord, next: &KeyRecord) -> bool {
    let among = |name: &String, all: &[String]| all.contains(name);
    let permissions = before.permissions.iter().any(|name| !among(name, &next.permissions));
    let covered = |old: &IpNet| next.allowlist.iter().any(|new| new.contains(old));
    let allowlist = !next.allowlist.is_empty()
        && (before.allowlist.is_empty() || !before.allowlist.iter().all(covered));
    let loses = |before: &[String], next: &[String]| {
        !next.is_empty() && (before.is_empty() || before.iter().any(|name| !among(name, next)))
    };
    let routes = loses(&before.routes, &next.routes) || loses(&before.symbols, &next.symbols);
    let limits = next.limits.iter().any(|name| !among(name, &before.limits));
    let sooner = |before: Option<Micros>, next: Option<Micros>| {
        next.is_some_and(|next| before.is_none_or(|before| next < before))
    };
    permissions
        || allowlist
        || routes
        || limits
        || sooner(before.expires, next.expires)
        || sooner(before.trade_until, next.trade_until)
        || (before.state == Life::Active && next.state != Life::Active)
        || (before.state != Life::Revoked && next.state == Life::Revoked)
}

/// Now, but after the application lost its keys: what is made then is new, even within the same microsecond.
fn moment_of_issue(around: &Surroundings<'_>) -> Micros {
    let lost = around.application.and_then(|application| application.compromised);
    lost.map_or(around.now, |lost| around.now.max(Micros(lost.0.saturating_add(1))))
}

/// A key that can still be changed.
fn alive(record: &KeyRecord, around: &Surroundings<'_>) -> Result<(), Refusal> {
    if record.state == Life::Revoked {
        return Err(Refusal::Revoked);
    }
    if record.expires.is_some_and(|end| end <= around.now) {
        return Err(Refusal::Expired);
    }
    let lost = around.application.and_then(|application| application.compromised);
    if lost.is_some_and(|lost| record.created <= lost) {
        return Err(Refusal::ApplicationCompromised);
    }
    Ok(())
}

/// No secret outlives its key.
fn shorten(record: &mut KeyRecord) {
    let Some(expires) = record.expires else { return };
    for until in record.secrets.iter_mut().filter_map(|secret| secret.until.as_mut()) {
        *until = expires.min(*until);
    }
}

/// What a key `had` already it keeps, though its application may do less by now: so it can still be narrowed.
fn permitted(
    record: &KeyRecord,
    had: &[String],
    application: Option<&ApplicationRecord>,
) -> Result<(), Refusal> {
    if record.permissions.is_empty() {
        return Err(Refusal::NoPermission);
    }
    if holds(record, WITHDRAW) && record.allowlist.is_empty() {
        return Err(Refusal::UnboundWithdraw);
    }
    let Some(application) = application else { return Ok(()) };
    let new = record.permissions.iter().filter(|name| !had.contains(name));
    let beyond: Vec<_> =
        new.filter(|name| !application.permissions.contains(name)).cloned().collect();
    if beyond.is_empty() { Ok(()) } else { Err(Refusal::BeyondApplication(beyond)) }
}

fn trade_until(record: &KeyRecord, around: &Surroundings<'_>) -> Option<Micros> {
    let span = around.unbound_trade.filter(|_| trades_unbound(record));
    span.map(|span| around.now + span)
}

fn trades_unbound(record: &KeyRecord) -> bool {
    holds(record, TRADE) && record.allowlist.is_empty()
}

fn holds(record: &KeyRecord, permission: &str) -> bool {
    record.permissions.iter().any(|name| name == permission)
}

#[cfg(test)]
mod tests;
