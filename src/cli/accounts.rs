//! `countersign accounts`: those who hold keys.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::admin::encoded;
use super::desk::{Common, Desk, Done, Pages, Reason, Sure, Wanted, at_desk};
use super::table::Column;
use super::text::clean;

/// Look at accounts, and freeze one at once.
///
/// Example: countersign accounts freeze alice --reason 'the owner called'
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List accounts
    #[command(after_help = "Example: countersign accounts list")]
    List {
        #[command(flatten)]
        pages: Pages,
    },
    /// Show what is known of an account
    #[command(after_help = "Example: countersign accounts show alice")]
    Show {
        /// The account
        #[arg(value_name = "ACCOUNT")]
        id: String,
    },
    /// Let none of an account's keys be good until it is thawed
    #[command(
        after_help = "Example: countersign accounts freeze alice --reason 'the owner called'"
    )]
    Freeze {
        /// The account
        #[arg(value_name = "ACCOUNT")]
        id: String,
        #[command(flatten)]
        reason: Reason,
        #[command(flatten)]
        sure: Sure,
    },
    /// Let an account's keys be good again
    #[command(after_help = "Example: countersign accounts unfreeze alice")]
    Unfreeze {
        /// The account
        #[arg(value_name = "ACCOUNT")]
        id: String,
        #[command(flatten)]
        reason: Reason,
    },
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    let name = match args.command {
        Command::List { .. } => "accounts list",
        Command::Show { .. } => "accounts show",
        Command::Freeze { .. } => "accounts freeze",
        Command::Unfreeze { .. } => "accounts unfreeze",
    };
    at_desk(name, &args.common, out, err, |desk| args.command.run(desk))
}

impl Command {
    fn run(&self, desk: &mut Desk<'_>) -> Done {
        match self {
            Self::List { pages } => {
                let wanted = Wanted {
                    path: "/v1/accounts",
                    query: Vec::new(),
                    what: "accounts",
                    id: "id",
                    pages: Some(pages),
                };
                desk.list(&wanted, &ACCOUNTS)
            }
            Self::Show { id } => {
                let account = desk.api.get(&at(id))?;
                desk.thing(account, id, &["id", "frozen", "reason", "keys"])
            }
            Self::Freeze { id, reason, sure } => {
                let what = format!("This lets none of the keys of {} be good.", clean(id));
                desk.confirm(*sure, &what, &clean(id))?;
                let body = reason.beside(json!({}));
                let outcome = desk.api.post(&format!("{}/freeze", at(id)), &body)?;
                desk.done(outcome, id, &format!("{} frozen", clean(id)))
            }
            Self::Unfreeze { id, reason } => {
                let body = reason.beside(json!({}));
                let outcome = desk.api.post(&format!("{}/unfreeze", at(id)), &body)?;
                desk.done(outcome, id, &format!("{} in use again", clean(id)))
            }
        }
    }
}

fn at(id: &str) -> String {
    format!("/v1/accounts/{}", encoded(id))
}

const ACCOUNTS: [Column; 3] =
    [Column::of("ACCOUNT", "id"), Column::of("FROZEN", "frozen"), Column::of("REASON", "reason")];
