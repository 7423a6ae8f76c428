//! `countersign apps`: the vetted third parties that keys are made for.

mod change;
mod compromised;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Subcommand;

use super::admin::encoded;
use super::desk::{Common, Desk, Done, Pages, Wanted, at_desk};
use super::table::Column;

/// Vet, stop and recover the applications that keys are made for.
///
/// A key that is made for an application can do no more than the application may, and only from where it may.
///
/// Example: countersign apps create gridbot --permissions read,trade --allow 203.0.113.0/24
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(change::CreateArgs),
    /// List applications
    #[command(after_help = "Example: countersign apps list")]
    List {
        #[command(flatten)]
        pages: Pages,
    },
    /// Show what an application may, and whether it is stopped
    #[command(after_help = "Example: countersign apps show gridbot")]
    Show {
        /// The application
        name: String,
    },
    Update(change::UpdateArgs),
    Stop(change::StopArgs),
    Start(change::StartArgs),
    Compromised(compromised::Args),
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    let name = match args.command {
        Command::Create(_) => "apps create",
        Command::List { .. } => "apps list",
        Command::Show { .. } => "apps show",
        Command::Update(_) => "apps update",
        Command::Stop(_) => "apps stop",
        Command::Start(_) => "apps start",
        Command::Compromised(_) => "apps compromised",
    };
    at_desk(name, &args.common, out, err, |desk| args.command.run(desk))
}

impl Command {
    fn run(&self, desk: &mut Desk<'_>) -> Done {
        match self {
            Self::Create(args) => args.run(desk),
            Self::List { pages } => {
                let wanted = Wanted {
                    path: "/v1/apps",
                    query: Vec::new(),
                    what: "applications",
                    id: "name",
                    pages: Some(pages),
                };
                desk.list(&wanted, &APPS)
            }
            Self::Show { name } => {
                let app = desk.api.get(&at(name))?;
                desk.thing(app, name, &FIRST)
            }
            Self::Update(args) => args.run(desk),
            Self::Stop(args) => args.run(desk),
            Self::Start(args) => args.run(desk),
            Self::Compromised(args) => args.run(desk),
        }
    }
}

/// Where an application is.
fn at(name: &str) -> String {
    format!("/v1/apps/{}", encoded(name))
}

/// What is shown of an application first.
const FIRST: [&str; 6] = ["name", "contact", "permissions", "allowlist", "stopped", "compromised"];
const APPS: [Column; 6] = [
    Column::of("NAME", "name"),
    Column::of("PERMISSIONS", "permissions"),
    Column::of("FROM", "allowlist"),
    Column::of("STOPPED", "stopped"),
    Column::time("COMPROMISED", "compromised"),
    Column::of("CONTACT", "contact"),
];
