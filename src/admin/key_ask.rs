//! What callers say of keys.

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

use super::moment;
use super::problem::Problem;
use crate::clock::Micros;
use crate::registrar::Clear;

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
