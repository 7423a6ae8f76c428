//! `countersign apps create`, `update`, `stop` and `start`.

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::super::desk::{Desk, Done, Failure, Reason, Sure};
use super::super::keys::create::{named, network};
use super::super::text::clean;
use super::at;

/// Make an application: what its keys may do at most
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Example: countersign apps create gridbot --permissions read,trade --allow 203.0.113.0/24"
)]
pub(super) struct CreateArgs {
    /// Its name
    name: String,
    /// The most that its keys may do
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "read")]
    permissions: Vec<String>,
    /// Networks that its keys may be used from; anywhere when absent
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',', value_parser = network)]
    allow: Vec<IpNet>,
    /// Whom to ask
    #[arg(long, value_name = "TEXT")]
    contact: Option<String>,
    #[command(flatten)]
    reason: Reason,
}

/// Change what an application's keys may do at most. What is not named stays
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: countersign apps update gridbot --permissions read")]
pub(super) struct UpdateArgs {
    /// The application
    name: String,
    /// The most that its keys may do from now on
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    permissions: Option<Vec<String>>,
    /// All networks that its keys may be used from, from now on
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',', value_parser = network)]
    allow: Option<Vec<IpNet>>,
    /// Let its keys be used from anywhere that each of them may
    #[arg(long, conflicts_with = "allow")]
    allow_anywhere: bool,
    /// Whom to ask
    #[arg(long, value_name = "TEXT")]
    contact: Option<String>,
    /// Change it only if it still has this version, as `apps show` tells it
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
    #[command(flatten)]
    reason: Reason,
}

/// Let none of an application's keys be good until it is started again
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: countersign apps stop gridbot --reason 'odd orders'")]
pub(super) struct StopArgs {
    /// The application
    name: String,
    #[command(flatten)]
    reason: Reason,
    #[command(flatten)]
    sure: Sure,
}

/// Let an application's keys be good again
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: countersign apps start gridbot")]
pub(super) struct StartArgs {
    /// The application
    name: String,
    #[command(flatten)]
    reason: Reason,
}

impl CreateArgs {
    pub(super) fn run(&self, desk: &mut Desk<'_>) -> Done {
        let mut body = Map::new();
        body.insert("name".into(), json!(self.name));
        body.insert("permissions".into(), json!(named(&self.permissions)));
        if !self.allow.is_empty() {
            body.insert("allowlist".into(), json!(self.allow));
        }
        if let Some(contact) = &self.contact {
            body.insert("contact".into(), json!(contact));
        }
        let outcome = desk.api.post("/v1/apps", &self.reason.beside(Value::Object(body)))?;
        desk.done(outcome, &self.name, &format!("{} made", clean(&self.name)))
    }
}

impl UpdateArgs {
    pub(super) fn run(&self, desk: &mut Desk<'_>) -> Done {
        let mut body = Map::new();
        if let Some(permissions) = &self.permissions {
            body.insert("permissions".into(), json!(named(permissions)));
        }
        if let Some(networks) = &self.allow {
            body.insert("allowlist".into(), json!(networks));
        } else if self.allow_anywhere {
            body.insert("allowlist".into(), json!([]));
        }
        if let Some(contact) = &self.contact {
            body.insert("contact".into(), json!(contact));
        }
        if body.is_empty() {
            return Err(Failure::Usage(
                "nothing to change\n  say what, as --permissions read".to_owned(),
            ));
        }
        let version = self.if_version.map(|version| version.to_string());
        let body = self.reason.beside(Value::Object(body));
        let outcome = desk.api.patch(&at(&self.name), &body, version)?;
        desk.done(outcome, &self.name, &format!("{} changed", clean(&self.name)))
    }
}

impl StopArgs {
    pub(super) fn run(&self, desk: &mut Desk<'_>) -> Done {
        let name = clean(&self.name);
        desk.confirm(self.sure, &format!("This stops every key of {name}."), &name)?;
        let body = self.reason.beside(json!({}));
        let outcome = desk.api.post(&format!("{}/stop", at(&self.name)), &body)?;
        desk.done(outcome, &self.name, &format!("{name} stopped"))
    }
}

impl StartArgs {
    pub(super) fn run(&self, desk: &mut Desk<'_>) -> Done {
        let body = self.reason.beside(json!({}));
        let outcome = desk.api.post(&format!("{}/start", at(&self.name)), &body)?;
        desk.done(outcome, &self.name, &format!("{} started", clean(&self.name)))
    }
}
