//! How keys look to callers, and what callers say of keys.

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

use super::approvals::ApprovalView;
use super::moment;
use super::problem::Problem;
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

/// A key to be made.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateKey {
    /// Who holds it: up to 256 printable ASCII characters without spaces.
    #[schema(min_length = 1, max_length = 256, pattern = "^[!-~]+$")]
    pub(super) account: String,
    /// Where it is valid; `main` without it.
    #[serde(default)]
    pub(super) venue: Option<String>,
    /// The dialect it signs in.
    pub(super) dialect: String,
    /// How it signs; the dialect's HMAC without it, or what `public_key` is.
    #[serde(default)]
    pub(super) algorithm: Option<String>,
    /// The application it is made for: the key can do no more than that may.
    #[serde(default)]
    pub(super) application: Option<String>,
    /// What its holder calls it.
    #[serde(default)]
    pub(super) label: Option<String>,
    /// What it may do. `withdraw` takes an allowlist, and the role security.
    #[schema(min_items = 1, max_items = 64)]
    pub(super) permissions: Vec<String>,
    /// Addresses and networks it may be used from; anywhere when empty.
    #[serde(default)]
    #[schema(max_items = 1000)]
    pub(super) allowlist: Vec<String>,
    /// The routes it may use, by name; all when empty.
    #[serde(default)]
    pub(super) routes: Vec<String>,
    /// The symbols it may trade, as backends write them; all when empty. It then changes nothing on routes that do not
    /// say where their requests name one.
    #[serde(default)]
    #[schema(max_items = 1000)]
    pub(super) symbols: Vec<String>,
    /// Its limits, by name in the configuration.
    #[serde(default)]
    pub(super) limits: Vec<String>,
    /// When it ends by itself: RFC 3339, or a span as "90d".
    #[serde(default)]
    pub(super) expires: Option<String>,
    /// The public half of the holder's pair, PEM.
    #[serde(default)]
    pub(super) public_key: Option<String>,
    /// After how long it loses `trade` if it is bound to no network, as "7d".
    #[serde(default)]
    pub(super) trade_unbound_for: Option<String>,
    /// Why.
    #[serde(default)]
    pub(super) reason: Option<String>,
}

/// A key that was made elsewhere.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportKey {
    /// Its public name.
    #[schema(min_length = 1, max_length = 256, pattern = "^[!-~]+$")]
    pub(super) id: String,
    /// Its shared secret, as its dialect writes it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(super) secret: Option<Clear>,
    /// Its passphrase, where its dialect has one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(super) passphrase: Option<Clear>,
    /// Who holds it: up to 256 printable ASCII characters without spaces.
    #[schema(min_length = 1, max_length = 256, pattern = "^[!-~]+$")]
    pub(super) account: String,
    /// Where it is valid; `main` without it.
    #[serde(default)]
    pub(super) venue: Option<String>,
    /// The dialect it signs in.
    pub(super) dialect: String,
    /// How it signs.
    #[serde(default)]
    pub(super) algorithm: Option<String>,
    /// The application it is made for.
    #[serde(default)]
    pub(super) application: Option<String>,
    /// What its holder calls it.
    #[serde(default)]
    pub(super) label: Option<String>,
    /// What it may do.
    #[schema(min_items = 1, max_items = 64)]
    pub(super) permissions: Vec<String>,
    /// Addresses and networks it may be used from; anywhere when empty.
    #[serde(default)]
    pub(super) allowlist: Vec<String>,
    /// The routes it may use; all when empty.
    #[serde(default)]
    pub(super) routes: Vec<String>,
    /// The symbols it may trade; all when empty.
    #[serde(default)]
    pub(super) symbols: Vec<String>,
    /// Its limits.
    #[serde(default)]
    pub(super) limits: Vec<String>,
    /// When it ends by itself.
    #[serde(default)]
    pub(super) expires: Option<String>,
    /// The public half of the holder's pair, PEM.
    #[serde(default)]
    pub(super) public_key: Option<String>,
    /// After how long it loses `trade` if it is bound to no network.
    #[serde(default)]
    pub(super) trade_unbound_for: Option<String>,
    /// Why.
    #[serde(default)]
    pub(super) reason: Option<String>,
}

/// What is changed of a key; what is left out stays.
#[derive(Clone, Debug, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateKey {
    /// What its holder calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) label: Option<String>,
    /// All that it may do from now on. `withdraw` takes an allowlist, and the role security.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) permissions: Option<Vec<String>>,
    /// All addresses and networks it may be used from; anywhere when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) allowlist: Option<Vec<String>>,
    /// The routes it may use; all when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) routes: Option<Vec<String>>,
    /// The symbols it may trade; all when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) symbols: Option<Vec<String>>,
    /// Its limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<Vec<String>>,
    /// When it ends by itself: RFC 3339, or a span as "90d"; `null` for never.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    #[expect(clippy::option_option, reason = "left out, null and a moment are three things")]
    pub(super) expires: Option<Option<String>>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

/// How a key is rotated.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateKey {
    /// For how long the secret before stays good, as "24h"; a day without it, "0s" for not at all.
    #[serde(default)]
    pub(super) overlap: Option<String>,
    /// The public half of the holder's new pair, PEM.
    #[serde(default)]
    pub(super) public_key: Option<String>,
    /// Why.
    #[serde(default)]
    pub(super) reason: Option<String>,
}

/// What is known of a loss.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LostKey {
    /// Since when others may have had it: RFC 3339, or a span before now; a day without it.
    #[serde(default)]
    pub(super) since: Option<String>,
    /// The public half of the holder's new pair, PEM.
    #[serde(default)]
    pub(super) public_key: Option<String>,
    /// Why.
    #[serde(default)]
    pub(super) reason: Option<String>,
}

/// Tells `null` from a member that is left out.
#[expect(clippy::option_option, reason = "left out, null and a moment are three things")]
fn nullable<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(from).map(Some)
}

/// Addresses and networks as they are written.
pub(super) fn networks(texts: &[String]) -> Result<Vec<IpNet>, Problem> {
    texts.iter().map(|text| network(text)).collect()
}

fn network(text: &str) -> Result<IpNet, Problem> {
    let single = text.parse::<std::net::IpAddr>().map(IpNet::from);
    let network = single.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
        Problem::unprocessable("An entry of `allowlist` is no address and no network.")
            .cured("write as \"203.0.113.7\", \"203.0.113.0/24\" or \"2001:db8::/32\"")
    })?;
    if network.trunc() != network {
        let cure = format!("did you mean {}?", network.trunc());
        let detail = "An entry of `allowlist` has bits set behind its prefix.";
        return Err(Problem::unprocessable(detail).cured(cure));
    }
    Ok(network)
}

/// A moment to come, as `expires` has it.
pub(super) fn coming(member: &str, text: &str, now: Micros) -> Result<Micros, Problem> {
    moment::read(text, now, |now, span| now + span)
        .map_err(|cure| Problem::unprocessable(format!("`{member}` is no moment.")).cured(cure))
}

/// A moment gone by, as `since` has it.
pub(super) fn past(member: &str, text: &str, now: Micros) -> Result<Micros, Problem> {
    moment::read(text, now, |now, span| now - span)
        .map_err(|cure| Problem::unprocessable(format!("`{member}` is no moment.")).cured(cure))
}

/// A span, as `overlap` has it.
pub(super) fn span(member: &str, text: &str) -> Result<std::time::Duration, Problem> {
    moment::span(text).ok_or_else(|| {
        Problem::unprocessable(format!("`{member}` is no span of time."))
            .cured("write a number with its unit, as \"30s\", \"10m\", \"24h\" or \"7d\"")
    })
}
