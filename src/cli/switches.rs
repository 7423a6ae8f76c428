//! `countersign switches`: what stops a permission, or everything, on every gateway at once.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::admin::encoded;
use super::desk::{Common, Desk, Done, Reason, Sure, Wanted, at_desk};
use super::table::Column;
use super::text::clean;

/// Stop a permission, or everything, on every gateway at once.
///
/// Example: countersign switches throw withdraw --reason 'odd withdrawals'
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List switches, and which are thrown
    #[command(after_help = "Example: countersign switches list")]
    List,
    /// Refuse every request that needs a permission, or every signed request with `all`
    #[command(
        after_help = "Example: countersign switches throw withdraw --reason 'odd withdrawals'"
    )]
    Throw {
        /// A permission, or `all`
        #[arg(value_name = "PERMISSION")]
        name: String,
        #[command(flatten)]
        reason: Reason,
        #[command(flatten)]
        sure: Sure,
    },
    /// Let requests through again
    #[command(after_help = "Example: countersign switches release withdraw")]
    Release {
        /// A permission, or `all`
        #[arg(value_name = "PERMISSION")]
        name: String,
        #[command(flatten)]
        reason: Reason,
    },
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    let name = match args.command {
        Command::List => "switches list",
        Command::Throw { .. } => "switches throw",
        Command::Release { .. } => "switches release",
    };
    at_desk(name, &args.common, out, err, |desk| args.command.run(desk))
}

impl Command {
    fn run(&self, desk: &mut Desk<'_>) -> Done {
        match self {
            Self::List => {
                let wanted = Wanted {
                    path: "/v1/switches",
                    query: Vec::new(),
                    what: "switches",
                    id: "id",
                    pages: None,
                };
                desk.list(&wanted, &SWITCHES)
            }
            Self::Throw { name, reason, sure } => {
                let stops = if name == "all" { "everything that is signed" } else { name };
                desk.confirm(*sure, &format!("This stops {}.", clean(stops)), &clean(name))?;
                let body = reason.beside(json!({}));
                let outcome = desk.api.post(&format!("{}/throw", at(name)), &body)?;
                desk.done(outcome, name, &format!("{} stopped", clean(name)))
            }
            Self::Release { name, reason } => {
                let body = reason.beside(json!({}));
                let outcome = desk.api.post(&format!("{}/release", at(name)), &body)?;
                desk.done(outcome, name, &format!("{} goes on", clean(name)))
            }
        }
    }
}

fn at(name: &str) -> String {
    format!("/v1/switches/{}", encoded(name))
}

const SWITCHES: [Column; 3] =
    [Column::of("SWITCH", "id"), Column::of("THROWN", "thrown"), Column::of("REASON", "reason")];
