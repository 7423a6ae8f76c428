//! From a record at rest to the [`Key`] that requests are judged by: names become what this gateway's configuration
//! says they are, and secrets are opened.
//!
//! Whatever a record names that the configuration does not know takes from the key and never gives.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::book::Record;
use super::records::{
    AccountRecord, ApplicationRecord, FactorRecord, KeyRecord, Life, SecretMaterial, SecretRecord,
    epoch_of,
};
use crate::admit::Meter;
use crate::config::{Config, NamedLimit};
use crate::dialect::Dialect;
use crate::key::sealing::{Bound, MasterKeys, SealError};
use crate::key::{
    Algorithm, Allowlist, BadSecret, Bindings, Factor, Key, MAX_KEY_LIMITS, PermissionNames,
    Permissions, Secret, State, Tag, Venue, lifecycle,
};
use crate::store::Scope;

/// What the configuration of a gateway calls things, to make sense of records.
#[derive(Clone, Debug)]
pub struct Names {
    /// The dialects that routes use.
    pub dialects: HashMap<Arc<str>, Arc<Dialect>>,
    /// The permissions.
    pub permissions: Arc<PermissionNames>,
    /// The limits that keys may have.
    pub limits: HashMap<Arc<str>, Meter>,
    /// The ids of routes; several routes may share a name.
    pub routes: HashMap<Arc<str>, Vec<u16>>,
    /// The venues of routes.
    pub venues: Vec<Venue>,
}

impl Names {
    /// The names of a configuration.
    pub fn of(config: &Config) -> Self {
        let named = |dialect: &Arc<Dialect>| (Arc::clone(dialect.name()), Arc::clone(dialect));
        let mut routes: HashMap<_, Vec<u16>> = HashMap::new();
        let mut venues: Vec<Venue> = Vec::new();
        for entry in config.routes.all() {
            routes.entry(Arc::clone(&entry.demand.name)).or_default().push(entry.demand.id);
            if !venues.contains(&entry.demand.venue) {
                venues.push(entry.demand.venue.clone());
            }
        }
        let of_keys =
            |limit: &&NamedLimit| matches!(limit.meter.scope, Scope::Key | Scope::Account);
        let limits = config.limits.iter().filter(of_keys);
        Self {
            dialects: config.dialects.iter().map(named).collect(),
            permissions: Arc::clone(&config.permissions),
            limits: limits.map(|limit| (Arc::clone(&limit.name), limit.meter)).collect(),
            routes,
            venues,
        }
    }
}

/// Makes keys of records, with what a gateway has for that.
#[derive(Clone, Debug)]
pub struct KeyOpener {
    /// What opens secrets.
    pub masters: MasterKeys,
    /// What the configuration calls things.
    pub names: Arc<Names>,
}

impl KeyOpener {
    /// Makes the key of a record, with the records of its account, application and second factor, where there are any;
    /// else says why not. What had to be taken from the key is said in the log.
    pub fn open_key(
        &self,
        key: &Record,
        account: Option<&Record>,
        application: Option<&Record>,
        factor: Option<&Record>,
    ) -> Result<Key, String> {
        let says = read(key).map_err(|why| why.to_string())?;
        let account: Option<AccountRecord> = says_of(account)?;
        let application: Option<ApplicationRecord> = says_of(application)?;
        let factor: Option<FactorRecord> = says_of(factor)?;
        let beside = Beside {
            account: account.as_ref(),
            application: application.as_ref(),
            factor: factor.as_ref(),
        };
        let opened = open(&key.id, &says, &beside, &self.masters, &self.names);
        let Opened { key, missing } = opened.map_err(|why| why.to_string())?;
        for why in missing {
            tracing::warn!(
                key = &*key.id,
                why,
                "a key names what is unknown here, and may do less for it"
            );
        }
        Ok(key)
    }
}

/// Why no key could be made of a record: to whoever asks for it, there is none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unopened {
    /// The record is of a later form, or damaged.
    Unreadable(String),
    /// No route of this gateway uses the dialect.
    UnknownDialect(String),
    /// The dialect has no such algorithm.
    UnknownAlgorithm(String),
    /// There is no secret in it.
    NoSecret,
    /// Its dialect has a passphrase, and it has none.
    NoPassphrase,
    /// A sealed text does not open.
    Sealed(SealError),
    /// The public key is not usable.
    BadKey(BadSecret),
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "the record cannot be read: {why}"),
            Self::UnknownDialect(name) => write!(f, "no route here is for dialect \"{name}\""),
            Self::UnknownAlgorithm(name) => write!(f, "its dialect has no {name} keys"),
            Self::NoSecret => f.write_str("the record holds no secret"),
            Self::NoPassphrase => f.write_str("its dialect has a passphrase, and it has none"),
            Self::Sealed(why) => why.fmt(f),
            Self::BadKey(why) => write!(f, "its public key cannot be used: {why}"),
        }
    }
}

impl std::error::Error for Unopened {}

/// A key made of a record, with what of it this gateway could not make sense of.
#[derive(Debug)]
pub struct Opened {
    /// The key.
    pub key: Key,
    /// What was taken from it, each as a reason for the log.
    pub missing: Vec<String>,
}

/// Reads what a key's record says.
pub fn read(record: &Record) -> Result<KeyRecord, Unopened> {
    let says: KeyRecord = serde_json::from_slice(&record.body)
        .map_err(|error| Unopened::Unreadable(format!("line {}", error.line())))?;
    if says.format == lifecycle::FORMAT {
        return Ok(says);
    }
    Err(Unopened::Unreadable(format!(
        "its form is {}, known is {}",
        says.format,
        lifecycle::FORMAT
    )))
}

fn says_of<T: DeserializeOwned>(record: Option<&Record>) -> Result<Option<T>, String> {
    let Some(record) = record else { return Ok(None) };
    let says = serde_json::from_slice(&record.body);
    let unreadable = |error: serde_json::Error| {
        format!(
            "the record of {} {} cannot be read (line {})",
            record.kind.name(),
            record.id,
            error.line()
        )
    };
    says.map(Some).map_err(unreadable)
}

/// What else the registry says that binds a key.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// What is said of its account, if anything is.
    pub account: Option<&'a AccountRecord>,
    /// Its application. One that a key names and that is not given is taken for a stopped one.
    pub application: Option<&'a ApplicationRecord>,
    /// The second factor of its account, if it has one.
    pub factor: Option<&'a FactorRecord>,
}

/// Makes the key of a record, with what else the registry says that binds it.
pub fn open(
    id: &str,
    says: &KeyRecord,
    beside: &Beside<'_>,
    masters: &MasterKeys,
    names: &Names,
) -> Result<Opened, Unopened> {
    let Beside { account, application, factor } = *beside;
    let dialect = names.dialects.get(&*says.dialect);
    let dialect = dialect.ok_or_else(|| Unopened::UnknownDialect(says.dialect.clone()))?;
    let unknown = || Unopened::UnknownAlgorithm(says.algorithm.clone());
    let algorithm = Algorithm::named(&says.algorithm).ok_or_else(unknown)?;
    dialect.algorithms().find(|of| *of == algorithm).ok_or_else(unknown)?;
    let open = |secret: &SecretRecord| secret_of(id, says, secret, masters, dialect, algorithm);
    let secret = open(says.secrets.first().ok_or(Unopened::NoSecret)?)?;
    let outgoing = says.secrets.get(1).and_then(|secret| Some((secret, secret.until?)));
    let outgoing = outgoing.map(|(secret, until)| open(secret).map(|secret| (secret, until)));
    let outgoing = outgoing.transpose()?;
    let passphrase = says.passphrase.as_ref().map(|sealed| {
        let place = Bound::passphrase(id, &says.account);
        let outgoing = outgoing.as_ref().map(|(secret, _)| secret);
        masters.open_passphrase(&place, sealed, dialect, &secret, outgoing)
    });
    let passphrase = passphrase.transpose().map_err(Unopened::Sealed)?;
    if dialect.has_passphrase() && passphrase.is_none() {
        return Err(Unopened::NoPassphrase);
    }
    let mut missing = Vec::new();
    let limits = limits_of(says, names, &mut missing);
    let state =
        if limits.is_some() { state_of(says, account, application) } else { State::Stopped };
    let bindings = Bindings {
        outgoing,
        routes: routes_of(says, names, &mut missing),
        symbols: (!says.symbols.is_empty())
            .then(|| says.symbols.iter().map(|one| &**one).collect()),
        application: says.application.as_deref().map(Arc::from),
        application_allowlist: Allowlist::new(
            application.into_iter().flat_map(|application| application.allowlist.iter().copied()),
        ),
        trade_until: says.trade_until,
        factor: factor_of(&says.account, factor, masters, &mut missing),
    };
    let venue = names.venues.iter().find(|venue| *venue.0 == *says.venue).cloned();
    let key = Key {
        id: id.into(),
        tag: Tag::of(id),
        account: Arc::from(&*says.account),
        account_tag: Tag::of(&says.account),
        // One that no route has opens none.
        venue: venue.unwrap_or_else(|| Venue(Arc::from(&*says.venue))),
        dialect: Arc::clone(dialect.name()),
        secret,
        passphrase,
        permissions: permissions_of(says, application, names, &mut missing),
        allowlist: Allowlist::new(says.allowlist.iter().copied()),
        state,
        expires: says.expires,
        limits: limits.unwrap_or_default().into(),
        epoch: epoch_of(says, account, application),
        bindings: bindings.bind().then(|| Box::new(bindings)),
    };
    Ok(Opened { key, missing })
}

impl Bindings {
    fn bind(&self) -> bool {
        self.outgoing.is_some()
            || self.routes.is_some()
            || self.symbols.is_some()
            || self.application.is_some()
            || self.trade_until.is_some()
            || self.factor.is_some()
    }
}

fn secret_of(
    id: &str,
    says: &KeyRecord,
    secret: &SecretRecord,
    masters: &MasterKeys,
    dialect: &Dialect,
    algorithm: Algorithm,
) -> Result<Secret, Unopened> {
    let read = match (&secret.material, algorithm.is_symmetric()) {
        (SecretMaterial::Sealed(sealed), true) => {
            let place = Bound::secret(id, &says.account, secret.number);
            masters.open_secret(&place, sealed, dialect, algorithm).map_err(Unopened::Sealed)
        }
        (SecretMaterial::Public(pem), false) => {
            dialect.read_secret(algorithm, pem.as_bytes()).map_err(Unopened::BadKey)
        }
        // A public text as a shared secret would let everybody sign.
        (SecretMaterial::Public(_), true) | (SecretMaterial::Sealed(_), false) => {
            Err(Unopened::NoSecret)
        }
    };
    read.map(|read| read.numbered(secret.number))
}

/// Its account's second factor, once it is confirmed. Without one, routes that ask for a code refuse the key.
fn factor_of(
    account: &str,
    factor: Option<&FactorRecord>,
    masters: &MasterKeys,
    missing: &mut Vec<String>,
) -> Option<Arc<Factor>> {
    let factor = factor.filter(|factor| factor.confirmed)?;
    let opened = masters.open_factor(&Bound::factor(account, factor.created), &factor.secret);
    let noted = opened.map_err(|why| missing.push(format!("its second factor: {why}")));
    noted.ok().map(|opened| Arc::new(opened.spent_up_to(factor.confirmed_by)))
}

fn state_of(
    says: &KeyRecord,
    account: Option<&AccountRecord>,
    application: Option<&ApplicationRecord>,
) -> State {
    let stopped = says.application.is_some()
        && application.is_none_or(|application| {
            application.stopped || application.compromised.is_some_and(|lost| says.created <= lost)
        });
    match says.state {
        Life::Revoked => State::Revoked,
        Life::Suspended => State::Suspended,
        Life::Active if account.is_some_and(|account| account.frozen) => State::Frozen,
        Life::Active if stopped => State::Stopped,
        Life::Active => State::Active,
    }
}

/// What it may do, and its application as well.
fn permissions_of(
    says: &KeyRecord,
    application: Option<&ApplicationRecord>,
    names: &Names,
    missing: &mut Vec<String>,
) -> Permissions {
    let permitted = says.permissions.iter().filter(|name| {
        says.application.is_none()
            || application.is_some_and(|application| application.permissions.contains(name))
    });
    let known = permitted.filter_map(|name| {
        let known = names.permissions.find(name);
        if known.is_none() {
            missing.push(format!("permission \"{name}\" is in no route"));
        }
        known
    });
    known.collect()
}

/// The ids of its routes, in order; `None` where it may use all.
fn routes_of(says: &KeyRecord, names: &Names, missing: &mut Vec<String>) -> Option<Box<[u16]>> {
    if says.routes.is_empty() {
        return None;
    }
    let mut ids = Vec::new();
    for name in &says.routes {
        match names.routes.get(&**name) {
            Some(found) => ids.extend_from_slice(found),
            None => missing.push(format!("route \"{name}\" does not exist")),
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Some(ids.into())
}

/// `None` where one is unknown: without it the key would be bound by less than it should be.
fn limits_of(says: &KeyRecord, names: &Names, missing: &mut Vec<String>) -> Option<Vec<Meter>> {
    if says.limits.len() > MAX_KEY_LIMITS {
        missing.push(format!("it has more than {MAX_KEY_LIMITS} limits"));
        return None;
    }
    let found = says.limits.iter().map(|name| {
        let found = names.limits.get(&**name).copied();
        if found.is_none() {
            missing.push(format!("limit \"{name}\" does not exist, so the key is stopped"));
        }
        found
    });
    // To the end, so that each unknown one is named.
    let found: Vec<Option<Meter>> = found.collect();
    found.into_iter().collect()
}
