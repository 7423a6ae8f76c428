//! `countersign keys create`, and what keys are bound to, for every command that says so.

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::super::desk::{Desk, Done, Failure, Reason};
use super::super::once::{self, Keep};
use super::super::sign::algorithm;
use super::super::text::cell;
use super::super::when::When;
use crate::clock::Micros;
use crate::key::Algorithm;

/// Issue a key. Its secret is told once, on standard output or in a file
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Who holds it
    #[arg(long)]
    account: String,
    #[command(flatten)]
    bound: Bound,
    #[command(flatten)]
    keep: Keep,
    #[command(flatten)]
    reason: Reason,
}

/// What a new key is, and what it is bound to.
#[derive(clap::Args, Debug)]
pub(super) struct Bound {
    /// What it may do: read, trade, cancel, transfer, withdraw, and your own names
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "read")]
    permissions: Vec<String>,
    /// Networks it may be used from, as 203.0.113.7 or 203.0.113.0/24; anywhere when absent
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',', value_parser = network)]
    allow: Vec<IpNet>,
    /// Dialect it signs in; `countersign dialects list` names them
    #[arg(long, default_value = "binance")]
    dialect: String,
    /// Its algorithm, as hmac-sha256 or ed25519; the dialect's HMAC when absent
    #[arg(long, value_parser = algorithm)]
    algorithm: Option<Algorithm>,
    /// When it ends by itself: 90d, or 2030-01-31T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = When::read)]
    expires: Option<When>,
    /// Application it is made for: it can do no more than that may
    #[arg(long, value_name = "NAME")]
    application: Option<String>,
    /// What its holder calls it
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// Routes it may use, by name; all when absent
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    routes: Vec<String>,
    /// Symbols it may trade, as BTCUSDT; all when absent
    #[arg(long, alias = "symbol", value_name = "SYMBOLS", value_delimiter = ',')]
    symbols: Vec<String>,
    /// Limits it has, by name in the configuration
    #[arg(long, alias = "limit", value_name = "NAMES", value_delimiter = ',')]
    limits: Vec<String>,
    /// Where it is valid
    #[arg(long, default_value = "main")]
    venue: String,
    /// File with the holder's public key in PEM: the private half never leaves them
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// How long it may trade though no network is named
    #[arg(long, value_name = "TIME", value_parser = super::super::when::span)]
    trade_unbound_for: Option<std::time::Duration>,
}

impl Args {
    pub(super) fn run(&self, desk: &mut Desk<'_>) -> Done {
        let body = self.reason.beside(self.bound.body(&self.account, desk.eye.now)?);
        let kept = self.keep.prepare(desk.common, self.bound.public_key.is_some())?;
        let made = desk.api.post("/v1/keys", &body).map_err(Failure::from);
        let Some((answer, kept)) = kept.unless_refused(desk, made)? else { return Ok(()) };
        let told = about(desk, answer.get("key").unwrap_or(&Value::Null));
        once::issued(desk, answer, kept, &told)
    }
}

/// What a person wants to see of a new key.
pub(super) fn about(desk: &Desk<'_>, key: &Value) -> Vec<(&'static str, String)> {
    let mut told = Vec::new();
    for name in [
        "account",
        "application",
        "label",
        "dialect",
        "permissions",
        "allowlist",
        "symbols",
        "limits",
    ] {
        let shown = cell(key.get(name));
        if shown != "-" {
            told.push((name, shown));
        }
    }
    if key.get("expires").is_some_and(|value| !value.is_null()) {
        told.push(("expires", desk.eye.time(key.get("expires"))));
    }
    told
}

impl Bound {
    /// As the API reads it, for a key that `account` holds.
    pub(super) fn body(&self, account: &str, now: Micros) -> Result<Value, Failure> {
        let mut body = Map::new();
        body.insert("account".into(), json!(account));
        body.insert("venue".into(), json!(self.venue));
        body.insert("dialect".into(), json!(self.dialect));
        body.insert("permissions".into(), json!(named(&self.permissions)));
        if let Some(algorithm) = self.algorithm {
            body.insert("algorithm".into(), json!(algorithm.name()));
        }
        for (name, value) in [("application", &self.application), ("label", &self.label)] {
            if let Some(value) = value {
                body.insert(name.into(), json!(value));
            }
        }
        for (name, values) in
            [("routes", &self.routes), ("symbols", &self.symbols), ("limits", &self.limits)]
        {
            if !values.is_empty() {
                body.insert(name.into(), json!(named(values)));
            }
        }
        if !self.allow.is_empty() {
            body.insert("allowlist".into(), json!(self.allow));
        }
        if let Some(expires) = self.expires {
            body.insert("expires".into(), json!(ahead(expires, now)?));
        }
        if let Some(span) = self.trade_unbound_for {
            body.insert("trade_unbound_for".into(), json!(super::super::when::written(span)));
        }
        if let Some(file) = &self.public_key {
            body.insert("public_key".into(), json!(public_key(file)?));
        }
        Ok(Value::Object(body))
    }
}

/// Names as they were meant: `read, trade` has a space in it, and `read,` an end without a name.
pub(in super::super) fn named(names: &[String]) -> Vec<&str> {
    names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect()
}

/// An address, or a network in CIDR form.
pub(in super::super) fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let address = text.parse::<std::net::IpAddr>().map(IpNet::from);
    let network = address.or_else(|_| text.parse::<IpNet>());
    let network = network
        .map_err(|_| "write it as 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32".to_owned())?;
    if network.prefix_len() == 0 {
        return Err("that is every address, so it protects nothing: name the networks".to_owned());
    }
    if network.addr() != network.network() {
        return Err(format!(
            "it has bits set behind its prefix: did you mean {}?",
            network.trunc()
        ));
    }
    Ok(network)
}

/// A moment that is still to come.
pub(super) fn ahead(when: When, now: Micros) -> Result<String, Failure> {
    match when {
        When::At(moment) if moment <= now => Err(Failure::Usage(format!(
            "--expires {} lies in the past\n  to end a key now: countersign keys revoke",
            when.written()
        ))),
        When::Off(span) if span.is_zero() => {
            Err(Failure::Usage("--expires 0s is now: to end a key, revoke it".to_owned()))
        }
        When::At(_) | When::Off(_) => Ok(when.written()),
    }
}

/// The public half of a pair. A file that holds the private half is refused, unsent.
pub(super) fn public_key(file: &Path) -> Result<String, Failure> {
    let at = file.display();
    let text =
        std::fs::read_to_string(file).map_err(|error| Failure::Usage(format!("{at}: {error}")))?;
    if text.contains("PRIVATE KEY") {
        return Err(Failure::Usage(format!(
            "{at} holds a private key, which stays where it is\n  make the public half: openssl pkey -in {at} -pubout"
        )));
    }
    if !text.contains("-----BEGIN PUBLIC KEY-----") {
        return Err(Failure::Usage(format!("{at} holds no public key in PEM")));
    }
    Ok(text)
}

const EXAMPLES: &str = "\
Example: countersign keys create --account alice --permissions read,trade --expires 90d

  # for a bot, from one network, with its secret in a file that only you can read
  countersign keys create --account alice --application gridbot --permissions read,trade \\
    --allow 203.0.113.0/24 --secret-file alice.secret

  # in a script
  countersign keys create --account alice --json | jq -r .id";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_one_address_or_more_and_never_all() {
        for (text, read) in [
            ("203.0.113.7", "203.0.113.7/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("2001:db8::/32", "2001:db8::/32"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), read);
        }
        for (text, told) in
            [("0.0.0.0/0", "every address"), ("10.0.0.1/8", "10.0.0.0/8"), ("home", "203.0.113.7")]
        {
            assert!(network(text).unwrap_err().contains(told), "{text}");
        }
    }

    #[test]
    fn an_end_lies_ahead() {
        let now = Micros::from_millis(1_700_000_000_000);
        for (text, good) in [
            ("2023-11-14T22:13:20Z", false),
            ("2023-11-14T22:13:21Z", true),
            ("0s", false),
            ("1s", true),
        ] {
            assert_eq!(ahead(When::read(text).unwrap(), now).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn a_private_key_is_never_sent() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key.pem");
        std::fs::write(&file, "-----BEGIN PRIVATE KEY-----\nplanted\n").unwrap();
        let Err(Failure::Usage(told)) = public_key(&file) else { panic!("sent") };
        assert!(told.contains("-pubout") && !told.contains("planted"), "{told}");
    }
}
