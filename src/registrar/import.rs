//! Keys that were made elsewhere: taken in with their id and secret, and given out without anything secret.

use serde::Serialize;

use super::keys::{Issued, NewKey};
use super::material::{Material, fresh};
use super::{Act, Clear, Invalid, Kept, Registrar, RegistrarError};
use crate::clock::Micros;
use crate::dialect::Dialect;
use crate::key::lifecycle::{self, Surroundings};
use crate::key::sealing::Bound;
use crate::key::upload::is_strong;
use crate::key::{Algorithm, id};
use crate::registry::book::Kind;
use crate::registry::records::{KeyRecord, SecretMaterial};

/// A key that was made elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// Its public name.
    pub id: String,
    /// What it is; a pair's public half is in it.
    pub terms: NewKey,
    /// Its shared secret, as the dialect writes it.
    pub secret: Option<Clear>,
    /// Its passphrase, where the dialect has one.
    pub passphrase: Option<Clear>,
}

/// A key's record without anything secret, to be taken elsewhere.
#[derive(Clone, Debug, Serialize)]
pub struct Export {
    /// Its public name.
    pub id: String,
    /// The public half of a pair, as PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// Which of its secrets there are.
    pub secrets: Vec<ExportedSecret>,
    /// All else: its `secrets` and `passphrase` are taken out.
    #[serde(flatten)]
    pub record: serde_json::Map<String, serde_json::Value>,
}

/// That there is a secret.
#[derive(Clone, Debug, Serialize)]
pub struct ExportedSecret {
    /// Which one of the key's.
    pub number: u32,
    /// When it was made.
    pub created: Micros,
    /// When it stops being good, if it is on its way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Micros>,
}

impl Registrar {
    /// Takes in a key that was made elsewhere. A shared secret must be able to hold 128 bits.
    pub async fn import(&self, act: &Act<'_>, import: Import) -> Result<Issued, RegistrarError> {
        let Import { id, terms: new, secret, passphrase } = import;
        if !id::is_sendable(&id) {
            return Err(Invalid::Text("id").into());
        }
        if !id::is_plausible(&id) {
            return Err(Invalid::Checksum.into());
        }
        let (dialect, terms) = self.terms(&new)?;
        let material = match secret {
            Some(secret) => shared(&dialect, terms.algorithm, secret)?,
            None if terms.algorithm.is_symmetric() => return Err(Invalid::SecretMissing.into()),
            None => fresh(&dialect, terms.algorithm, new.public_key.as_deref())?,
        };
        let passphrase = match (passphrase, dialect.has_passphrase()) {
            (None, false) => None,
            (None, true) => return Err(Invalid::PassphraseMissing.into()),
            (Some(_), false) => return Err(Invalid::PassphraseUnwanted.into()),
            (Some(clear), true) if clear.reveal().chars().count() < 8 => {
                return Err(Invalid::WeakPassphrase.into());
            }
            (Some(clear), true) => Some(clear),
        };
        let application = self.application_of(terms.application.as_deref()).await?;
        let around = Surroundings {
            unbound_trade: self.unbound_trade_of(new.trade_unbound_for),
            ..self.around(application.as_ref())
        };
        let sealed = self.seal_material(&material, &Bound::secret(&id, &terms.account, 1))?;
        let passphrase = self.seal_passphrase(passphrase.as_ref(), &id, &terms.account)?;
        let record = lifecycle::issue(terms, sealed, passphrase, &around)?;
        let made = self.replace(act, "keys.import", Kind::Key, &id, None, record).await?;
        let key = made.ok_or(RegistrarError::Exists(Kind::Key, id))?;
        // Whoever brought it has what is secret of it.
        Ok(Issued { key, secret: None, passphrase: None, cut_off: None })
    }

    /// A key's record without anything secret.
    pub async fn export(&self, id: &str) -> Result<Export, RegistrarError> {
        let key: Kept<KeyRecord> = self.key(id).await?;
        let secret = |secret: &crate::registry::records::SecretRecord| ExportedSecret {
            number: secret.number,
            created: secret.created,
            until: secret.until,
        };
        let secrets = key.says.secrets.iter().map(secret).collect();
        let public_key = key.says.secrets.first().and_then(|secret| match &secret.material {
            SecretMaterial::Public(pem) => Some(pem.clone()),
            SecretMaterial::Sealed(_) => None,
        });
        let bare = KeyRecord { secrets: Vec::new(), passphrase: None, ..key.says };
        let unwritable =
            |_| RegistrarError::Damaged { kind: Kind::Key, id: id.to_owned(), line: 0 };
        let record = serde_json::to_value(bare).map_err(unwritable)?;
        let mut record = record.as_object().cloned().unwrap_or_default();
        record.remove("secrets");
        Ok(Export { id: key.id, public_key, secrets, record })
    }
}

fn shared(
    dialect: &Dialect,
    algorithm: Algorithm,
    secret: Clear,
) -> Result<Material, RegistrarError> {
    if !algorithm.is_symmetric() {
        return Err(Invalid::PrivateKey.into());
    }
    let text = secret.reveal().as_bytes();
    dialect.read_secret(algorithm, text).map_err(Invalid::BadSecret)?;
    if !is_strong(text) {
        return Err(Invalid::WeakSecret.into());
    }
    Ok(Material::Shared(secret))
}
