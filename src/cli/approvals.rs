//! `countersign approvals`: what waits for a second person.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::admin::encoded;
use super::desk::{Common, Desk, Done, Pages, Reason, Wanted, at_desk};
use super::table::Column;
use super::text::clean;

/// See what waits for a second person, and approve or reject it.
///
/// Example: countersign approvals list
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what waits
    #[command(after_help = "Example: countersign approvals list")]
    List {
        /// Show what was decided too
        #[arg(long)]
        decided: bool,
        #[command(flatten)]
        pages: Pages,
    },
    /// Let it happen; not what you asked for yourself
    #[command(after_help = "Example: countersign approvals approve ID")]
    Approve {
        /// What waits
        id: String,
        #[command(flatten)]
        reason: Reason,
    },
    /// Let it not happen
    #[command(after_help = "Example: countersign approvals reject ID --reason 'not agreed'")]
    Reject {
        /// What waits
        id: String,
        #[command(flatten)]
        reason: Reason,
    },
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    let name = match args.command {
        Command::List { .. } => "approvals list",
        Command::Approve { .. } => "approvals approve",
        Command::Reject { .. } => "approvals reject",
    };
    at_desk(name, &args.common, out, err, |desk| args.command.run(desk))
}

impl Command {
    fn run(&self, desk: &mut Desk<'_>) -> Done {
        match self {
            Self::List { decided, pages } => {
                let wanted = Wanted {
                    path: "/v1/approvals",
                    query: vec![("state", decided.then_some("all"))],
                    what: "approvals that wait",
                    id: "id",
                    pages: Some(pages),
                };
                desk.list(&wanted, &APPROVALS)
            }
            Self::Approve { id, reason } => decide(desk, id, "approve", "approved", reason),
            Self::Reject { id, reason } => decide(desk, id, "reject", "rejected", reason),
        }
    }
}

fn decide(desk: &mut Desk<'_>, id: &str, act: &str, told: &str, reason: &Reason) -> Done {
    let path = format!("/v1/approvals/{}/{act}", encoded(id));
    let outcome = desk.api.post(&path, &reason.beside(json!({})))?;
    desk.done(outcome, id, &format!("{} {told}", clean(id)))
}

const APPROVALS: [Column; 7] = [
    Column::of("ID", "id"),
    Column::of("KEY", "key"),
    Column::of("CHANGES", "changes"),
    Column::of("STATE", "state"),
    Column::of("BY", "actor"),
    Column::time("SINCE", "requested"),
    Column::time("UNTIL", "expires"),
];
