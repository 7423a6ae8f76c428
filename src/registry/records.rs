//! What the records of a registry say, each as JSON in its [`Record`](super::book::Record).

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::clock::Micros;

/// An API key at rest.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// The version of this form.
    pub format: u16,
    /// Who holds it.
    pub account: String,
    /// The application it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<String>,
    /// What its holder calls it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// Where it is valid.
    pub venue: String,
    /// The dialect it signs in.
    pub dialect: String,
    /// Its algorithm, by the name that [`Algorithm`](crate::key::Algorithm) gives it.
    pub algorithm: String,
    /// What it signs with: the current secret first, then the one that is on its way out, if any.
    pub secrets: Vec<SecretRecord>,
    /// The passphrase, where the dialect has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<Sealed>,
    /// What it may do, by name.
    pub permissions: Vec<String>,
    /// Where from; anywhere when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowlist: Vec<IpNet>,
    /// The routes it may use, by name; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// The symbols it may trade; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub symbols: Vec<String>,
    /// Its limits, by name in the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// What its life has come to.
    pub state: Life,
    /// When it was made.
    pub created: Micros,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Micros>,
    /// When it loses `trade`, since it is bound to no network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trade_until: Option<Micros>,
    /// One more with every change that takes something from its holder: what was admitted under an earlier one counts
    /// no longer.
    pub epoch: u64,
}

/// One secret of a key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SecretRecord {
    /// Which one of the key's, counted from 1.
    pub number: u32,
    /// A shared secret, sealed; or a public key as PEM, in clear.
    pub material: SecretMaterial,
    /// When it was made.
    pub created: Micros,
    /// When it stops being good, if it is on its way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Micros>,
}

/// What a key signs or is verified with.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretMaterial {
    /// A shared secret.
    Sealed(Sealed),
    /// The public half of a pair, as PEM: the other half is never here.
    Public(String),
}

/// Text that only a holder of the master key can read.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Which master key wraps the data key.
    pub master: String,
    /// The data key under the master key: nonce, ciphertext and tag, base64.
    pub wrapped: String,
    /// The text under the data key: nonce, ciphertext and tag, base64.
    pub text: String,
}

/// What a key's life has come to, at rest.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Life {
    /// In use.
    Active,
    /// Set aside; it can be resumed.
    Suspended,
    /// Ended for good.
    Revoked,
}

/// A holder of keys. There is a record only where something is said of one.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AccountRecord {
    /// Whether none of its keys is good for now.
    pub frozen: bool,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// One more with every change that takes something from its keys.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u64,
}

/// A vetted third party that keys are made for. A key made for it can do no more than it may.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationRecord {
    /// Whom to ask.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub contact: String,
    /// The most that its keys may do.
    pub permissions: Vec<String>,
    /// Where its keys may be used from, beside what each of them says; anywhere when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowlist: Vec<IpNet>,
    /// Whether none of its keys is good for now.
    pub stopped: bool,
    /// Keys made no later are good no longer: the application lost them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised: Option<Micros>,
    /// One more with every change that takes something from its keys.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u64,
}

/// The epoch that keys are admitted under: that of the key and of all that binds it beside. None of them ever falls.
pub fn epoch_of(
    key: &KeyRecord,
    account: Option<&AccountRecord>,
    application: Option<&ApplicationRecord>,
) -> u64 {
    let beside = account.map_or(0, |account| account.epoch)
        + application.map_or(0, |application| application.epoch);
    key.epoch + beside
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The second factor of an account.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FactorRecord {
    /// The shared secret of RFC 6238, sealed, base32 within.
    pub secret: Sealed,
    /// Whether a first code has shown that the holder has it: before that it opens nothing.
    pub confirmed: bool,
    /// SHA-256 of each recovery code that is left, with the account's name before it, in hex.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recovery: Vec<String>,
    /// The step whose code confirmed it: that code and those before are good for nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_by: Option<u64>,
    /// When it was made.
    pub created: Micros,
}

/// A change of a key that waits for a second person.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRecord {
    /// The key.
    pub key: String,
    /// The version of it that was seen by who asked.
    pub version: u64,
    /// What is to be changed, as the admin API was asked.
    pub changes: serde_json::Value,
    /// Who asked.
    pub actor: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When.
    pub requested: Micros,
    /// Until when it can be approved.
    pub expires: Micros,
    /// What became of it; `None` while it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
}

/// What became of what waited.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It was approved, and done.
    Approved,
    /// It was rejected.
    Rejected,
    /// It was approved, and could not be done any more.
    Failed,
}

/// A switch, named by the permission it stops, or `all`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SwitchRecord {
    /// Whether it stops.
    pub thrown: bool,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An address that an operator keeps out, or has let in again. The record's id is
/// [`bans::id`](super::bans::id) of the address.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BanRecord {
    /// When it ends.
    pub until: Micros,
    /// Whether it was lifted: so are then the bans that gateways made of failures of that address.
    #[serde(default)]
    pub lifted: bool,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was made.
    pub created: Micros,
}
