//! `[[key]]`: keys that stand in the configuration, their secrets elsewhere.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::NamedLimit;
use super::dialects::Dialects;
use super::document::{Node, Table, text};
use super::limits;
use super::load::refuse_repeats;
use super::problem::{Fault, Reported, shown};
use super::secrets::{no_secret, secret};
use super::value::{moment, network, word};
use crate::admit::{Ask, Counts, Meter};
use crate::dialect::Dialect;
use crate::gateway::routes::{Entry, Routes};
use crate::key::{
    Algorithm, Allowlist, Bindings, Key, MAX_KEY_LIMITS, Passphrase, Permission, PermissionNames,
    Permissions, Secret, State, Symbols, Tag, Venue, is_symbol,
};

/// Every key, or `None` where one is wrong.
pub(super) fn keys(
    root: &Table<'_>,
    dialects: &mut Dialects,
    limits: &[NamedLimit],
    routes: &Routes,
    permissions: &PermissionNames,
) -> Option<Vec<Key>> {
    let mut ids = Vec::new();
    let mut all = Vec::new();
    for table in root.tables("key") {
        let id = table.need("id", "the key's public name, which clients send");
        let id = id.and_then(|node| {
            node.read(|value| {
                let text = id_text(text(value)?)?;
                refuse_repeats(&mut ids, text, "key").map(|()| text)
            })
        });
        let key = key(&table, dialects, limits, routes, permissions);
        table.finish();
        all.push(id.zip(key).map(|(id, key)| Key { id: id.into(), tag: Tag::of(id), ..key }));
    }
    let mut all: Vec<Key> = all.into_iter().collect::<Option<_>>()?;
    share_limits(&mut all);
    Some(all)
}

/// Keys with the same limits share one list of them, which is then in the cache for most of them.
fn share_limits(keys: &mut [Key]) {
    let mut lists: Vec<Arc<[Meter]>> = Vec::new();
    for key in keys {
        match lists.iter().find(|known| ***known == *key.limits) {
            Some(known) => key.limits = Arc::clone(known),
            None => lists.push(Arc::clone(&key.limits)),
        }
    }
}

/// A key without its id.
fn key(
    table: &Table<'_>,
    dialects: &mut Dialects,
    limits: &[NamedLimit],
    routes: &Routes,
    names: &PermissionNames,
) -> Option<Key> {
    let account = table.need("account", "who holds the key");
    let account = account.and_then(|node| node.read(|value| id_text(text(value)?)));
    let dialect = table.need("dialect", "how it signs, as dialect = \"binance\"");
    let dialect = dialect.and_then(|node| {
        let known = dialects.used().len();
        let dialect = node.read(|value| dialects.find(text(value)?))??;
        if dialects.used().len() > known {
            node.spot.warn("no route is for this dialect, so this key opens nothing");
        }
        Some(dialect)
    });
    let venue = venue(table, routes);
    let secret = secret_of(table, dialect.as_deref());
    let passphrase = passphrase(table, dialect.as_deref(), secret.as_ref());
    let allowlist = table.find("allowlist");
    let networks = allowlist.as_ref().map(|node| (node.texts(network), node.value.as_array()));
    let permissions =
        permissions(table, names, networks.as_ref().is_some_and(|(all, _)| !all.is_empty()));
    if networks.as_ref().is_some_and(|(_, all)| all.is_some_and(|all| all.is_empty())) {
        let problem = "an empty list would mean every address";
        allowlist?.spot.error(Fault::cured(problem, "name networks, or leave the list out"));
    }
    let state = table.or("state", State::Active, word("state", &STATES));
    let expires = table.find("expires").map(|node| node.read(moment));
    let own = table.find("limits");
    let limits = own.as_ref().map_or_else(Vec::new, |node| own_limits(node, limits));
    let symbols = symbols(table);
    if let (Some(node), Some(dialect), Some(venue), Some(permissions)) =
        (own, &dialect, &venue, permissions)
    {
        let may_come = |entry: &&Arc<Entry>| {
            let route = &entry.demand;
            let signs = matches!(&route.ask, Ask::Signed(asked) if asked.name() == dialect.name());
            signs && route.venue == *venue && permissions.open(route.permissions)
        };
        warn_of_heavy(&node, &limits, routes.all().iter().filter(may_come));
    }
    Some(Key {
        id: "".into(),
        tag: Tag::of(""),
        account: Arc::from(account?),
        account_tag: Tag::of(account?),
        venue: venue?,
        dialect: Arc::clone(dialect?.name()),
        secret: secret?,
        passphrase: passphrase.ok()?,
        permissions: permissions?,
        allowlist: Allowlist::new(networks.map(|(all, _)| all).unwrap_or_default()),
        state,
        expires: expires.map_or(Some(None), |moment| moment.map(Some))?,
        limits: limits.into(),
        epoch: 0,
        bindings: symbols
            .ok()?
            .map(|symbols| Box::new(Bindings { symbols: Some(symbols), ..Bindings::default() })),
    })
}

/// The symbols that it may trade, `None` where it is bound to none.
fn symbols(table: &Table<'_>) -> Result<Option<Symbols>, Reported> {
    let Some(node) = table.find("symbols") else { return Ok(None) };
    let named = node.texts(|text| {
        if is_symbol(text) {
            return Ok(text);
        }
        let problem = format!("\"{}\" is no symbol", shown(text));
        Err(Fault::cured(problem, "use up to 64 letters, digits and `-_./:@`"))
    });
    if node.value.as_array().is_none_or(|all| all.len() != named.len()) {
        return Err(Reported);
    }
    if named.is_empty() {
        let problem = "an empty list would mean every symbol";
        node.spot.error(Fault::cured(problem, "name symbols, or leave the list out"));
        return Err(Reported);
    }
    Ok(Some(named.into_iter().collect()))
}

fn id_text(text: &str) -> Result<&str, Fault> {
    if text.len() <= 256 && text.bytes().all(|byte| matches!(byte, 0x21..=0x7e)) {
        return Ok(text);
    }
    Err(Fault::cured(
        "this cannot be sent",
        "use up to 256 printable ASCII characters without spaces",
    ))
}

fn venue(table: &Table<'_>, routes: &Routes) -> Option<Venue> {
    let served = || routes.all().iter().map(|entry| &entry.demand.venue);
    // The routes' own name, which is then in the cache for every key.
    let called = |name: &str| {
        let shared = served().find(|known| *known.0 == *name).cloned();
        shared.unwrap_or_else(|| Venue(name.into()))
    };
    let Some(node) = table.find("venue") else { return Some(called("main")) };
    node.read(|value| {
        let name = text(value)?;
        if served().any(|known| *known.0 == *name) || routes.all().is_empty() {
            return Ok(called(name));
        }
        let mut known: Vec<_> = served().map(|known| &*known.0).collect();
        known.sort_unstable();
        known.dedup();
        Err(Fault::unknown("venue of a route", name, known))
    })
}

/// The shared secret of an HMAC key, or the public half of an asymmetric one.
fn secret_of(table: &Table<'_>, dialect: Option<&Dialect>) -> Option<Secret> {
    let stated = table.find("algorithm");
    let (shared, public) = (table.find("secret"), table.find("public_key"));
    let dialect = dialect?;
    let algorithm = match stated {
        Some(node) => node.read(|value| algorithm(text(value)?, dialect))?,
        None if public.is_some() => {
            let cure = "say which, as algorithm = \"ed25519\"";
            table.spot.error(Fault::cured("`algorithm` is missing", cure));
            return None;
        }
        None => dialect.algorithms().find(|algorithm| algorithm.is_symmetric())?,
    };
    let (wanted, other, name, cure) = if algorithm.is_symmetric() {
        (shared, public, "secret", "write secret = { env = \"NAME\" } or { file = \"path\" }")
    } else {
        (public, shared, "public_key", "write public_key = { file = \"path\" }, or its PEM text")
    };
    if let Some(other) = other {
        let problem = format!("{} keys have a `{name}` instead", algorithm.name());
        other.spot.error(Fault::cured(problem, cure));
        return None;
    }
    let Some(node) = wanted else {
        table.spot.error(Fault::cured(format!("`{name}` is missing"), cure));
        return None;
    };
    let bytes = if algorithm.is_symmetric() { secret(&node)? } else { public_key(&node)? };
    let secret = dialect.read_secret(algorithm, &bytes);
    node.spot.noted(secret.map_err(|error| Fault::new(format!("it cannot be used: {error}"))))
}

fn algorithm(name: &str, dialect: &Dialect) -> Result<Algorithm, Fault> {
    let known = Algorithm::named(name);
    if let Some(known) = known.filter(|known| dialect.algorithms().any(|of| of == *known)) {
        return Ok(known);
    }
    let names: Vec<_> = dialect.algorithms().map(Algorithm::name).collect();
    if known.is_none() {
        return Err(Fault::unknown("algorithm", name, names));
    }
    let problem = format!("dialect {} has no {name} keys", dialect.name());
    Err(Fault::cured(problem, format!("it has {}", names.join(", "))))
}

fn public_key(node: &Node<'_>) -> Option<Zeroizing<Vec<u8>>> {
    let inline = node.value.as_str();
    let bytes = match inline {
        Some(pem) => Zeroizing::new(pem.as_bytes().to_vec()),
        None => no_secret(node)?,
    };
    if !Secret::is_plainly_private(&bytes) {
        return Some(bytes);
    }
    if inline.is_some() {
        let problem = "a private key does not stand in the configuration";
        node.spot.error(Fault::cured(problem, "give its public half, and make a new pair"));
        return None;
    }
    node.spot.warn("this is a private key: the gateway needs its public half alone");
    Some(bytes)
}

/// `None` where the dialect has none.
fn passphrase(
    table: &Table<'_>,
    dialect: Option<&Dialect>,
    secret_of_key: Option<&Secret>,
) -> Result<Option<Passphrase>, Reported> {
    let node = table.find("passphrase");
    let dialect = dialect.ok_or(Reported)?;
    let Some(node) = node else {
        if !dialect.has_passphrase() {
            return Ok(None);
        }
        let problem = format!("`passphrase` is missing: dialect {} has one", dialect.name());
        table.spot.error(Fault::cured(problem, "write { env = \"NAME\" } or { file = \"path\" }"));
        return Err(Reported);
    };
    if !dialect.has_passphrase() {
        let problem = format!("dialect {} has no passphrase", dialect.name());
        node.spot.error(Fault::cured(problem, "leave it out"));
        return Err(Reported);
    }
    let bytes = secret(&node).ok_or(Reported)?;
    let clear = std::str::from_utf8(&bytes).map_err(|_| Fault::new("it is no UTF-8 text"));
    let clear = node.spot.noted(clear).ok_or(Reported)?;
    Ok(Some(dialect.read_passphrase(clear, secret_of_key.ok_or(Reported)?)))
}

fn permissions(table: &Table<'_>, names: &PermissionNames, is_bound: bool) -> Option<Permissions> {
    let node = table.need("permissions", "as permissions = [\"read\", \"trade\"]")?;
    let known: Vec<_> = names.names(Permissions::ALL).collect();
    let find = |text: &str| {
        names.find(text).ok_or_else(|| Fault::unknown("permission", text, known.iter().copied()))
    };
    let found: Permissions = node.texts(find).into_iter().collect();
    if found.holds(Permission::WITHDRAW) && !is_bound {
        node.spot.error(Fault::cured(
            "a key that may withdraw has no `allowlist`: whoever steals it empties the account",
            "name the networks it is used from, as allowlist = [\"203.0.113.7\"]",
        ));
        return None;
    }
    Some(found)
}

fn own_limits(node: &Node<'_>, limits: &[NamedLimit]) -> Vec<Meter> {
    let found = node.texts(|name| limits::find(limits, name, &limits::OF_KEYS));
    if found.len() > MAX_KEY_LIMITS {
        node.spot.error(Fault::new(format!("a key has at most {MAX_KEY_LIMITS} limits")));
    }
    found
}

/// Warns where no request of a route can ever fit into a limit of the key.
fn warn_of_heavy<'r>(
    node: &Node<'_>,
    limits: &[Meter],
    mut routes: impl Iterator<Item = &'r Arc<Entry>>,
) {
    let counting = limits.iter().filter(|limit| limit.counts == Counts::Weight && !limit.shadow);
    let Some(least) = counting.map(|limit| limit.limit.quota).min() else { return };
    if let Some(route) = routes.find(|entry| entry.demand.weight > least) {
        node.spot.warn(format!(
            "its quota of {least} is less than the weight of route \"{}\", {}: no request of this key passes there",
            route.demand.name, route.demand.weight
        ));
    }
}

const STATES: [(State, &str); 3] =
    [(State::Active, "active"), (State::Suspended, "suspended"), (State::Revoked, "revoked")];
