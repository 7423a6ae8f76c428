//! What a key is made of: names that the configuration knows, and a secret in the form that its dialect wants.

use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use ipnet::IpNet;
use zeroize::Zeroizing;

use super::keys::NewKey;
use super::{Clear, Invalid, Registrar, RegistrarError};
use crate::dialect::{Dialect, SecretForm};
use crate::key::MAX_KEY_LIMITS;
use crate::key::lifecycle::Terms;
use crate::key::sealing::Bound;
use crate::key::upload::{BadUpload, public_half};
use crate::key::{Algorithm, id, is_symbol};
use crate::registry::records::{Sealed, SecretMaterial};

/// What a key signs with, before it has a place to be sealed for.
pub(super) enum Material {
    Shared(Clear),
    /// PEM.
    Public(String),
}

impl Material {
    /// The secret, where its holder does not have it yet.
    pub(super) fn into_secret(self) -> Option<Clear> {
        match self {
            Self::Shared(secret) => Some(secret),
            Self::Public(_) => None,
        }
    }
}

impl Registrar {
    /// The dialect and algorithm of a new key, and its terms.
    pub(super) fn terms(&self, new: &NewKey) -> Result<(Arc<Dialect>, Terms), Invalid> {
        for (field, text) in
            [("account", Some(&new.account)), ("application", new.application.as_ref())]
        {
            if text.is_some_and(|text| !id::is_sendable(text)) {
                return Err(Invalid::Text(field));
            }
        }
        label(&new.label)?;
        let dialect = self.dialect(&new.dialect)?;
        let algorithm = algorithm(new, &dialect)?;
        let venue = new.venue.as_deref().unwrap_or("main");
        let known = || self.names.venues.iter().map(|venue| &*venue.0);
        known_name("venue", venue, known)?;
        symbols(&new.symbols)?;
        self.known(&new.permissions, &new.routes, &new.limits, &new.allowlist)?;
        let terms = Terms {
            account: new.account.clone(),
            application: new.application.clone(),
            label: new.label.clone(),
            venue: venue.to_owned(),
            dialect: new.dialect.clone(),
            algorithm,
            permissions: new.permissions.clone(),
            allowlist: new.allowlist.clone(),
            routes: new.routes.clone(),
            symbols: new.symbols.clone(),
            limits: new.limits.clone(),
            expires: new.expires,
        };
        Ok((dialect, terms))
    }

    /// Fails where a name is none of the configuration's.
    pub(super) fn known(
        &self,
        permissions: &[String],
        routes: &[String],
        limits: &[String],
        allowlist: &[IpNet],
    ) -> Result<(), Invalid> {
        self.known_permissions(permissions)?;
        for route in routes {
            known_name("routes", route, || self.names.routes.keys().map(|name| &**name))?;
        }
        for limit in limits {
            known_name("limits", limit, || self.names.limits.keys().map(|name| &**name))?;
        }
        if limits.len() > MAX_KEY_LIMITS {
            return Err(Invalid::TooManyLimits);
        }
        bounded(allowlist)
    }

    pub(super) fn known_permissions(&self, permissions: &[String]) -> Result<(), Invalid> {
        let all = crate::key::Permissions::ALL;
        for permission in permissions {
            known_name("permissions", permission, || self.names.permissions.names(all))?;
        }
        Ok(())
    }

    pub(super) fn dialect(&self, name: &str) -> Result<Arc<Dialect>, Invalid> {
        known_name("dialect", name, || self.names.dialects.keys().map(|name| &**name))?;
        let found = self.names.dialects.get(name).cloned();
        found.ok_or(Invalid::Text("dialect"))
    }

    /// What a record holds of a secret, sealed for its place.
    pub(super) fn seal_material(
        &self,
        material: &Material,
        place: &Bound<'_>,
    ) -> Result<SecretMaterial, RegistrarError> {
        Ok(match material {
            Material::Shared(secret) => {
                SecretMaterial::Sealed(self.masters.seal(place, secret.reveal().as_bytes())?)
            }
            Material::Public(pem) => SecretMaterial::Public(pem.clone()),
        })
    }

    pub(super) fn seal_passphrase(
        &self,
        passphrase: Option<&Clear>,
        id: &str,
        account: &str,
    ) -> Result<Option<Sealed>, RegistrarError> {
        let place = Bound::passphrase(id, account);
        let seal = |clear: &Clear| self.masters.seal(&place, clear.reveal().as_bytes());
        Ok(passphrase.map(seal).transpose()?)
    }
}

/// A fresh shared secret, or the public half of the holder's own pair.
pub(super) fn fresh(
    dialect: &Dialect,
    algorithm: Algorithm,
    public_key: Option<&str>,
) -> Result<Material, RegistrarError> {
    match (algorithm.is_symmetric(), public_key) {
        (true, None) => Ok(Material::Shared(fresh_secret(dialect, algorithm)?)),
        (true, Some(_)) => Err(Invalid::PublicKeyUnwanted.into()),
        (false, None) => Err(Invalid::PublicKeyMissing.into()),
        (false, Some(text)) => {
            let kept = public_half(algorithm, text).map_err(|why| match why {
                BadUpload::Private => Invalid::PrivateKey,
                BadUpload::NotPem => Invalid::BadPublicKey(crate::key::BadSecret::Unreadable),
                BadUpload::Bad(why) => Invalid::BadPublicKey(why),
            })?;
            Ok(Material::Public(kept))
        }
    }
}

/// 256 bits of the system's, or 512 where a dialect's secrets are the base64 of keys for SHA-512.
fn fresh_secret(dialect: &Dialect, algorithm: Algorithm) -> Result<Clear, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; 64]);
    getrandom::fill(&mut *bytes)?;
    let (half, _) = bytes.split_at(32);
    Ok(Clear::from(match (dialect.secret_form(), algorithm) {
        (SecretForm::Text, _) => HEXLOWER.encode(half),
        (SecretForm::Base64, Algorithm::HmacSha512) => BASE64.encode(&*bytes),
        (SecretForm::Base64, _) => BASE64.encode(half),
    }))
}

/// 128 bits, where the dialect has a passphrase.
pub(super) fn fresh_passphrase(dialect: &Dialect) -> Result<Option<Clear>, getrandom::Error> {
    if !dialect.has_passphrase() {
        return Ok(None);
    }
    let mut bytes = Zeroizing::new([0; 16]);
    getrandom::fill(&mut *bytes)?;
    Ok(Some(Clear::from(HEXLOWER.encode(&*bytes))))
}

fn algorithm(new: &NewKey, dialect: &Dialect) -> Result<Algorithm, Invalid> {
    let known = || dialect.algorithms().map(|of| of.name().to_owned()).collect();
    if let Some(name) = &new.algorithm {
        let found =
            Algorithm::named(name).filter(|named| dialect.algorithms().any(|of| of == *named));
        return found.ok_or_else(|| Invalid::Algorithm { name: name.clone(), known: known() });
    }
    let Some(pem) = &new.public_key else {
        let mut all = dialect.algorithms();
        let shared = dialect.algorithms().find(|of| of.is_symmetric()).or_else(|| all.next());
        return shared.ok_or_else(|| Invalid::Algorithm { name: String::new(), known: known() });
    };
    // The one kind of key that it can be, unless it can be two.
    let fitting = dialect.algorithms().filter(|of| !of.is_symmetric());
    let mut fitting = fitting.filter(|of| public_half(*of, pem).is_ok());
    match (fitting.next(), fitting.next()) {
        (Some(one), None) => Ok(one),
        (Some(_), Some(_)) => {
            Err(Invalid::Algorithm { name: "(which one is not said)".to_owned(), known: known() })
        }
        (None, _) => {
            let pairs = dialect.algorithms().find(|of| !of.is_symmetric());
            pairs.ok_or(Invalid::PublicKeyUnwanted)
        }
    }
}

fn known_name<'n, I: Iterator<Item = &'n str>>(
    field: &'static str,
    name: &str,
    known: impl Fn() -> I,
) -> Result<(), Invalid> {
    if known().any(|known| known == name) {
        return Ok(());
    }
    let mut known: Vec<String> = known().map(ToOwned::to_owned).collect();
    known.sort_unstable();
    Err(Invalid::Unknown { field, name: name.to_owned(), known })
}

pub(super) fn bounded(allowlist: &[IpNet]) -> Result<(), Invalid> {
    let everything = |network: &IpNet| {
        network.prefix_len() == 0
            || matches!(network, IpNet::V6(v6)
                if v6.prefix_len() <= 96 && v6.addr().to_ipv4_mapped().is_some())
    };
    if allowlist.iter().any(everything) { Err(Invalid::EveryAddress) } else { Ok(()) }
}

/// Symbols that a request can spell in one way only, and no more than are looked through at once.
pub(super) fn symbols(all: &[String]) -> Result<(), Invalid> {
    let good = all.len() <= MOST_SYMBOLS && all.iter().all(|symbol| is_symbol(symbol));
    if good { Ok(()) } else { Err(Invalid::Symbols) }
}

/// How many a key may name.
const MOST_SYMBOLS: usize = 1_000;

/// What people call things: up to 200 characters, none of which moves a terminal's cursor.
pub(super) fn label(text: &str) -> Result<(), Invalid> {
    let plain = text.chars().count() <= 200 && !text.chars().any(char::is_control);
    if plain { Ok(()) } else { Err(Invalid::Text("label")) }
}
