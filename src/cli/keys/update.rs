//! `countersign keys update`: what a key is bound to, changed.

use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::super::desk::{Desk, Done, Failure, Reason};
use super::super::text::clean;
use super::super::when::When;
use super::at;
use super::create::{ahead, named, network};

/// Change what a key may do, from where, and until when. What is not named stays
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Args {
    /// The key
    id: String,
    /// All that it may do from now on
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    permissions: Option<Vec<String>>,
    /// All networks it may be used from, from now on
    #[arg(long, value_name = "NETWORKS", value_delimiter = ',', value_parser = network)]
    allow: Option<Vec<IpNet>>,
    /// Let it be used from anywhere
    #[arg(long, conflicts_with = "allow")]
    allow_anywhere: bool,
    /// When it ends by itself: 90d, or 2030-01-31T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = When::read)]
    expires: Option<When>,
    /// Let it never end by itself
    #[arg(long, conflicts_with = "expires")]
    never_expires: bool,
    /// What its holder calls it
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// All routes it may use, by name
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    routes: Option<Vec<String>>,
    /// Let it use every route
    #[arg(long, conflicts_with = "routes")]
    all_routes: bool,
    /// All symbols it may trade
    #[arg(long, value_name = "SYMBOLS", value_delimiter = ',')]
    symbols: Option<Vec<String>>,
    /// Let it trade every symbol
    #[arg(long, conflicts_with = "symbols")]
    all_symbols: bool,
    /// All limits it has, by name in the configuration
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    limits: Option<Vec<String>>,
    /// Change it only if it still has this version, as `keys show` tells it
    #[arg(long, value_name = "VERSION")]
    if_version: Option<u64>,
    #[command(flatten)]
    reason: Reason,
}

impl Args {
    pub(super) fn run(&self, desk: &mut Desk<'_>) -> Done {
        let changes = self.changes(desk)?;
        let body = self.reason.beside(changes);
        let version = self.if_version.map(|version| version.to_string());
        let outcome = desk.api.patch(&at(&self.id), &body, version)?;
        let told = format!("{} changed", clean(&self.id));
        desk.done(outcome, &self.id, &told)
    }

    fn changes(&self, desk: &Desk<'_>) -> Result<Value, Failure> {
        let mut body = Map::new();
        let lists = [
            ("permissions", &self.permissions),
            ("routes", &self.routes),
            ("symbols", &self.symbols),
            ("limits", &self.limits),
        ];
        for (name, values) in lists {
            if let Some(values) = values {
                body.insert(name.into(), json!(named(values)));
            }
        }
        if self.all_routes {
            body.insert("routes".into(), json!([]));
        }
        if self.all_symbols {
            body.insert("symbols".into(), json!([]));
        }
        if let Some(networks) = &self.allow {
            body.insert("allowlist".into(), json!(networks));
        } else if self.allow_anywhere {
            body.insert("allowlist".into(), json!([]));
        }
        if let Some(expires) = self.expires {
            body.insert("expires".into(), json!(ahead(expires, desk.eye.now)?));
        } else if self.never_expires {
            body.insert("expires".into(), Value::Null);
        }
        if let Some(label) = &self.label {
            body.insert("label".into(), json!(label));
        }
        if body.is_empty() {
            return Err(Failure::Usage(
                "nothing to change\n  say what, as --permissions read,trade or --expires 90d"
                    .to_owned(),
            ));
        }
        Ok(Value::Object(body))
    }
}

const EXAMPLES: &str = "\
Example: countersign keys update csk_… --permissions read,trade --allow 203.0.113.0/24

  # only if nobody changed it since you looked
  countersign keys update csk_… --if-version 3 --expires 30d";
