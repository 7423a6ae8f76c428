//! `[[admin.provider]]`: identity providers whose tokens are accepted at the admin API, and what they sign with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use super::admin::ROLES;
use super::document::{Node, Table, text};
use super::problem::Fault;
use super::secrets::secret;
use super::value::{span, word};
use crate::admin::{KeySet, Provider, Source, Times, TokenAlgorithm, TokenKey};
use crate::audit::connector;
use crate::key::{Algorithm, Secret};

pub(super) fn providers(admin: &Table<'_>) -> Option<Vec<Provider>> {
    let all: Vec<_> = admin.tables("provider").iter().map(provider).collect();
    all.into_iter().collect()
}

fn provider(table: &Table<'_>) -> Option<Provider> {
    let owned = |name, cure| table.need(name, cure)?.read(text).map(ToOwned::to_owned);
    let issuer = owned("issuer", "the `iss` of its tokens, as \"https://id.example.com\"");
    let audience = owned("audience", "the `aud` that its tokens for this API name");
    let claim = table.or("role_claim", "roles", text).to_owned();
    let roles = table.need("roles", "as roles = { \"exchange-security\" = \"security\" }");
    let roles = roles.and_then(|node| {
        let all = node.table()?.all();
        let role = |(name, node): (&str, Node<'_>)| {
            Some((name.to_owned(), node.read(word("role", &ROLES))?))
        };
        all.into_iter().map(role).collect::<Option<BTreeMap<_, _>>>()
    });
    let keys: Vec<_> = table.tables("key").iter().map(public_key).collect();
    let set = key_set(table, issuer.as_deref());
    if keys.is_empty() && set.is_none() {
        table.spot.error(Fault::cured(
            "there is no key to verify its tokens with",
            "say where it publishes them, as jwks = \"discover\", or add `[[admin.provider.key]]` with `algorithm` \
             and `public_key`",
        ));
        return None;
    }
    table.finish();
    Some(Provider {
        issuer: issuer?,
        audience: audience?,
        keys: keys.into_iter().collect::<Option<_>>()?,
        set: set.map_or(Some(None), |set| set.map(|set| Some(Arc::new(set))))?,
        role_claim: claim,
        roles: roles?,
    })
}

/// Where it publishes what it signs with; `Some(None)` where that is said wrong.
#[expect(clippy::option_option, reason = "absent, wrong, and a set are three things")]
fn key_set(table: &Table<'_>, issuer: Option<&str>) -> Option<Option<KeySet>> {
    let algorithms = table.find("algorithms");
    let ca = table.find("ca");
    let hour = Duration::from_hours(1);
    let times = Times {
        refresh: table.or("refresh", hour / 4, span(Duration::from_mins(1)..=24 * hour)),
        keep: table.or("keep", 24 * hour, span(hour / 6..=168 * hour)),
    };
    let Some(node) = table.find("jwks") else {
        if let Some(node) = algorithms.or(ca) {
            let cure = "write jwks = \"discover\", or leave this out";
            node.spot.error(Fault::cured("it counts only for keys that `jwks` names", cure));
            return Some(None);
        }
        return None;
    };
    if times.keep <= times.refresh {
        node.spot.error(Fault::new("`keep` must be longer than `refresh`"));
        return Some(None);
    }
    let cure = "as algorithms = [\"RS256\"]: what its tokens are signed with";
    let Some(named) = algorithms.or_else(|| table.need("algorithms", cure)) else {
        return Some(None);
    };
    let algorithms = named.texts(algorithm);
    if algorithms.is_empty() {
        named.spot.error(Fault::cured("no algorithm is allowed", cure));
        return Some(None);
    }
    Some(
        source(&node, ca.as_ref(), issuer, &algorithms)
            .map(|source| KeySet::new(source, algorithms, times)),
    )
}

fn algorithm(name: &str) -> Result<TokenAlgorithm, Fault> {
    let all = TokenAlgorithm::ALL;
    let found = all.into_iter().find(|one| one.name() == name);
    found.ok_or_else(|| Fault::unknown("algorithm of tokens", name, all.map(TokenAlgorithm::name)))
}

fn source(
    node: &Node<'_>,
    ca: Option<&Node<'_>>,
    issuer: Option<&str>,
    algorithms: &[TokenAlgorithm],
) -> Option<Source> {
    if node.value.as_table().is_some() {
        let table = node.table()?;
        let file = table.need("file", "as { file = \"keys.json\" }");
        table.finish();
        let file = file?;
        let path = file.spot.document.path(file.read(text)?);
        file.read(|_| {
            let read = file.spot.document.lookup.file(&path);
            let read = read.map_err(|error| {
                Fault::new(format!("this file cannot be read: {}", error.kind()))
            })?;
            KeySet::judge(&read.bytes, algorithms).map_err(|error| Fault::new(error.to_string()))
        })?;
        return Some(Source::File(path));
    }
    let named = node.read(text)?;
    let path = match ca {
        Some(node) => Some(node.spot.document.path(node.read(text)?)),
        None => None,
    };
    let tls = connector(path.as_deref()).map_err(|error| match &path {
        Some(path) => Fault::new(format!("{} cannot be read: {error}", path.display())),
        None => Fault::new(error.to_string()),
    });
    let tls = ca.unwrap_or(node).spot.noted(tls)?;
    let address = if named == "discover" { issuer? } else { named };
    let url = address.parse::<Uri>().ok();
    let url = url.filter(|url| url.scheme_str() == Some("https") && url.host().is_some());
    let fault = || {
        Fault::cured(
            "keys come from an https address, or from a file",
            "write jwks = \"https://…\", { file = \"keys.json\" }, or \"discover\" with an issuer that is an https \
         address",
        )
    };
    let url = node.spot.noted(url.ok_or_else(fault))?;
    Some(if named == "discover" {
        Source::Discovery(address.to_owned(), tls)
    } else {
        Source::Url(url, tls)
    })
}

/// What providers sign with, by the names that keys have here.
const ALGORITHMS: [(Algorithm, &str); 4] = [
    (Algorithm::RsaSha256, "rsa-sha256"),
    (Algorithm::RsaPssSha512, "rsa-pss-sha512"),
    (Algorithm::EcdsaP256Sha256, "ecdsa-p256-sha256"),
    (Algorithm::Ed25519, "ed25519"),
];

fn public_key(table: &Table<'_>) -> Option<TokenKey> {
    let id = table.find("id").map(|node| node.read(text));
    let algorithm = table.need("algorithm", "as algorithm = \"rsa-sha256\"");
    let algorithm = algorithm.and_then(|node| node.read(word("algorithm", &ALGORITHMS)));
    let node = table.need("public_key", "as public_key = { file = \"provider.pem\" }");
    let public = node.zip(algorithm).and_then(|(node, algorithm)| {
        let read = Secret::read(algorithm, &secret(&node)?);
        node.spot.noted(read.map_err(|error| Fault::new(error.to_string())))
    });
    table.finish();
    let id = id.map_or(Some(None), |id| id.map(|id| Some(id.to_owned())))?;
    Some(TokenKey { id, algorithm: TokenAlgorithm::of(algorithm?)?, public: public? })
}
