//! How keys look to callers.

use serde::Serialize;

use super::approvals::ApprovalView;
use super::moment;
use super::record::Activity;
use super::uses::Uses;
use crate::clock::Micros;
use crate::registrar::{Clear, Issued, Kept};
use crate::registry::gossip::of_secret;
use crate::registry::records::{KeyRecord, Life, SecretMaterial};

/// A key, without anything secret.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct KeyView {
    /// Its public name.
    pub(super) id: String,
    /// One more with each change; its `ETag`.
    version: u64,
    /// Who holds it.
    account: String,
    /// The application it was made for.
    application: Option<String>,
    /// What its holder calls it.
    label: String,
    /// Where it is valid.
    venue: String,
    /// The dialect it signs in.
    dialect: String,
    /// How it signs.
    algorithm: String,
    /// What it may do.
    permissions: Vec<String>,
    /// Where from; anywhere when empty.
    allowlist: Vec<String>,
    /// The routes it may use; all when empty.
    routes: Vec<String>,
    /// The symbols it may trade; all when empty.
    symbols: Vec<String>,
    /// Its limits.
    limits: Vec<String>,
    /// `active`, `suspended` or `revoked`; `expired` where it has ended by itself.
    state: String,
    /// When it was made, RFC 3339.
    created: String,
    /// When it ends by itself.
    expires: Option<String>,
    /// When it loses `trade`, since it is bound to no network.
    trade_until: Option<String>,
    /// Raised with each change that takes something from its holder.
    epoch: u64,
    /// Its secrets, the current one first. What they are is never told.
    secrets: Vec<SecretView>,
    /// Every use of its secrets up to then is known, but for the last minute of each: where a secret says no `used` it
    /// was not used before. Left out where no gateway has told.
    #[serde(skip_serializing_if = "Option::is_none")]
    uses_known_until: Option<String>,
    /// The public half of its holder's pair, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    public_key: Option<String>,
}

/// That there is a secret.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
struct SecretView {
    /// Which one of the key's, counted from 1.
    number: u32,
    /// When it was made.
    created: String,
    /// When it stops being good, where it is on its way out.
    until: Option<String>,
    /// When it last proved a request on any gateway, within a minute; left out where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    used: Option<String>,
}

impl KeyView {
    /// The same with when its secrets were last used, as far as that is known.
    pub(super) fn used(mut self, uses: &Uses) -> Self {
        for secret in &mut self.secrets {
            secret.used =
                uses.last.get(&of_secret(&self.id, secret.number)).copied().map(moment::written);
        }
        self.uses_known_until = uses.known_until.map(moment::written);
        self
    }

    pub(super) fn of(key: &Kept<KeyRecord>, now: Micros) -> Self {
        let says = &key.says;
        let public = says.secrets.first().and_then(|secret| match &secret.material {
            SecretMaterial::Public(pem) => Some(pem.clone()),
            SecretMaterial::Sealed(_) => None,
        });
        let secrets = says.secrets.iter().map(|secret| SecretView {
            number: secret.number,
            created: moment::written(secret.created),
            until: secret.until.map(moment::written),
            used: None,
        });
        Self {
            id: key.id.clone(),
            version: key.version,
            account: says.account.clone(),
            application: says.application.clone(),
            label: says.label.clone(),
            venue: says.venue.clone(),
            dialect: says.dialect.clone(),
            algorithm: says.algorithm.clone(),
            permissions: says.permissions.clone(),
            allowlist: says.allowlist.iter().map(ToString::to_string).collect(),
            routes: says.routes.clone(),
            symbols: says.symbols.clone(),
            limits: says.limits.clone(),
            state: state(says, now).into(),
            created: moment::written(says.created),
            expires: says.expires.map(moment::written),
            trade_until: says.trade_until.map(moment::written),
            epoch: says.epoch,
            secrets: secrets.collect(),
            uses_known_until: None,
            public_key: public,
        }
    }
}

/// The name of what a key's life has come to.
pub(super) fn state(says: &KeyRecord, now: Micros) -> &'static str {
    match says.state {
        Life::Active | Life::Suspended if says.expires.is_some_and(|end| end <= now) => "expired",
        Life::Active => "active",
        Life::Suspended => "suspended",
        Life::Revoked => "revoked",
    }
}

/// A page of keys.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct KeyList {
    pub(super) items: Vec<KeyView>,
    /// Where to go on; `null` at the end.
    pub(super) next: Option<String>,
}

/// A key that was made or rotated. Secret and passphrase are here once, and never again.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct IssuedView {
    /// The key's public name.
    id: String,
    /// The secret, where it was made here.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// The passphrase, where one was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    passphrase: Option<String>,
    /// When the secret before stops being good.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_off: Option<String>,
    /// The key.
    key: KeyView,
    /// What waits for a second person: until then the key cannot do it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) approval: Option<ApprovalView>,
}

impl IssuedView {
    pub(super) fn of(issued: &Issued, now: Micros) -> Self {
        let clear = |text: &Option<Clear>| text.as_ref().map(|text| text.reveal().to_owned());
        Self {
            id: issued.key.id.clone(),
            secret: clear(&issued.secret),
            passphrase: clear(&issued.passphrase),
            cut_off: issued.cut_off.map(moment::written),
            key: KeyView::of(&issued.key, now),
            approval: None,
        }
    }
}

/// What became of a key that was lost.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct RecoveryView {
    /// The key, revoked.
    pub(super) revoked: KeyView,
    /// The one in its place, with its secret; `null` where its holder must send a new public key first.
    pub(super) replacement: Option<IssuedView>,
    /// What the old one did, by address and route; `null` where no audit trail is kept or it cannot be read.
    pub(super) activity: Option<Vec<Activity>>,
}
