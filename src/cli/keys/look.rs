//! `countersign keys list`, `show` and `history`.

use super::super::admin::with_query;
use super::super::desk::{Desk, Done, Pages, Wanted};
use super::super::table::Column;
use super::at;

/// List keys
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: countersign keys list --account alice --state active")]
pub(super) struct ListArgs {
    #[command(flatten)]
    pub(super) which: Which,
    #[command(flatten)]
    pages: Pages,
}

/// Which keys.
#[derive(clap::Args, Debug, Default)]
pub(super) struct Which {
    /// Only those that this account holds
    #[arg(long)]
    account: Option<String>,
    /// Only those made for this application
    #[arg(long, value_name = "NAME")]
    application: Option<String>,
    /// Only those that are active, suspended or revoked
    #[arg(long, value_parser = ["active", "suspended", "revoked"])]
    state: Option<String>,
}

/// Show all that is known of a key, but its secret
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: countersign keys show csk_…")]
pub(super) struct ShowArgs {
    /// The key
    id: String,
}

/// Show every change that a key has seen
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: countersign keys history csk_…")]
pub(super) struct HistoryArgs {
    /// The key
    id: String,
    #[command(flatten)]
    pages: Pages,
}

impl Which {
    pub(super) fn query(&self) -> Vec<(&str, Option<&str>)> {
        vec![
            ("account", self.account.as_deref()),
            ("application", self.application.as_deref()),
            ("state", self.state.as_deref()),
        ]
    }
}

impl ListArgs {
    pub(super) fn run(&self, desk: &mut Desk<'_>) -> Done {
        let wanted = Wanted {
            path: "/v1/keys",
            query: self.which.query(),
            what: "keys",
            id: "id",
            pages: Some(&self.pages),
        };
        desk.list(&wanted, &KEYS)
    }
}

impl ShowArgs {
    pub(super) fn run(&self, desk: &mut Desk<'_>) -> Done {
        let key = desk.api.get(&at(&self.id))?;
        desk.thing(key, &self.id, &super::FIRST)
    }
}

impl HistoryArgs {
    pub(super) fn run(&self, desk: &mut Desk<'_>) -> Done {
        let path = with_query(&format!("{}/history", at(&self.id)), &[]);
        let wanted = Wanted {
            path: &path,
            query: Vec::new(),
            what: "changes",
            id: "version",
            pages: Some(&self.pages),
        };
        desk.list(&wanted, &HISTORY)
    }
}

const KEYS: [Column; 7] = [
    Column::of("ID", "id"),
    Column::of("ACCOUNT", "account"),
    Column::of("LABEL", "label"),
    Column::of("STATE", "state"),
    Column::of("PERMISSIONS", "permissions"),
    Column::of("FROM", "allowlist"),
    Column::time("EXPIRES", "expires"),
];
const HISTORY: [Column; 5] = [
    Column::of("VERSION", "version"),
    Column::time("WHEN", "at"),
    Column::of("WHO", "actor"),
    Column::of("DID", "act"),
    Column::of("REASON", "reason"),
];
