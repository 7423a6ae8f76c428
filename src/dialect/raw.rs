//! The recipe as written (TOML), before it means anything.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::jwt_rule::RawToken;
use super::refusal::RawRefusal;
use super::response::RawResponse;
use super::signatures::RawSignatures;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) sources: Vec<String>,
    #[serde(default)]
    pub(super) notes: Vec<String>,
    pub(super) authorization: Option<String>,
    pub(super) payload: Option<RawPlace>,
    pub(super) path_is: Option<RawPath>,
    #[serde(default)]
    pub(super) sends: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) names: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(super) sets: BTreeMap<String, Vec<String>>,
    pub(super) key: RawPlace,
    pub(super) time: Option<RawTime>,
    pub(super) nonce: Option<RawNonce>,
    pub(super) window: Option<RawWindow>,
    pub(super) signature: RawSignature,
    pub(super) algorithm: Option<RawAlgorithm>,
    pub(super) token: Option<RawToken>,
    pub(super) signatures: Option<RawSignatures>,
    pub(super) passphrase: Option<RawPassphrase>,
    #[serde(default)]
    pub(super) message: Vec<RawMessage>,
    #[serde(default = "raw_reading")]
    pub(super) readings: Vec<String>,
    /// Readings that an operator may switch on.
    #[serde(default)]
    pub(super) lenient: Vec<String>,
    pub(super) body: RawBody,
    #[serde(default)]
    pub(super) unsigned: Vec<RawPart>,
    pub(super) response: Option<RawResponse>,
    #[serde(default)]
    pub(super) paths: Vec<String>,
    pub(super) example: Option<RawExample>,
    #[serde(default)]
    pub(super) forward_headers: Vec<String>,
    #[serde(default)]
    pub(super) reply_headers: BTreeMap<String, String>,
    pub(super) refusals: BTreeMap<String, RawRefusal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExample {
    pub(super) method: String,
    pub(super) target: String,
    #[serde(default)]
    pub(super) body: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPlace {
    pub(super) r#in: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTime {
    pub(super) r#in: String,
    pub(super) kind: RawKind,
    pub(super) unit: RawUnit,
    #[serde(default = "one_second")]
    pub(super) future_ms: u64,
    pub(super) lead_ms: Option<u64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawKind {
    Stamp,
    Deadline,
}

#[derive(Clone, Copy, Deserialize)]
pub(super) enum RawUnit {
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "s with decimals")]
    DecimalSeconds,
    #[serde(rename = "ms")]
    Millis,
    #[serde(rename = "ms or us")]
    MillisOrMicros,
    #[serde(rename = "iso")]
    Iso,
    #[serde(rename = "iso seconds")]
    IsoSeconds,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNonce {
    pub(super) r#in: String,
    pub(super) kind: RawNonceKind,
    pub(super) length: Option<usize>,
    #[serde(default)]
    pub(super) window: u64,
    pub(super) clocked: Option<RawClocked>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawClocked {
    pub(super) by: String,
    pub(super) within_ms: u64,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawNonceKind {
    None,
    Unique,
    Growing,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWindow {
    pub(super) r#in: Option<String>,
    pub(super) default_ms: u64,
    pub(super) max_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAlgorithm {
    pub(super) r#in: String,
    pub(super) names: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSignature {
    pub(super) r#in: String,
    pub(super) algorithms: BTreeMap<String, RawEncoding>,
    #[serde(default)]
    pub(super) secret: RawSecret,
    #[serde(default)]
    pub(super) or_suffixed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPath {
    pub(super) field: String,
    pub(super) after: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawSecret {
    #[default]
    Text,
    Base64,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawEncoding {
    Hex,
    Base64,
    Base64url,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPassphrase {
    pub(super) r#in: String,
    pub(super) keyed: Option<RawKeyed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKeyed {
    pub(super) by: String,
    pub(super) keyed: Vec<String>,
    pub(super) clear: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMessage {
    pub(super) methods: Option<Vec<String>>,
    pub(super) body: Option<RawBodyIs>,
    pub(super) under: Option<String>,
    pub(super) text: String,
    #[serde(default)]
    pub(super) unsigned: Vec<RawPart>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawBodyIs {
    Empty,
    Form,
    Json,
}

#[derive(Clone, Copy, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawPart {
    Query,
    Body,
}

#[derive(Clone, Copy, Deserialize)]
pub(super) enum RawBody {
    #[serde(rename = "form")]
    Form,
    #[serde(rename = "json")]
    Json,
    #[serde(rename = "form or json")]
    FormOrJson,
}

fn raw_reading() -> Vec<String> {
    vec!["raw".to_owned()]
}

const fn one_second() -> u64 {
    1_000
}
