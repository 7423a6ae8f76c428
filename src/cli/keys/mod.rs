//! `countersign keys`: the life of a key, over the admin API.

mod compromised;
pub(super) mod create;
mod export;
mod import;
mod life;
mod look;
mod rotate;
mod update;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Subcommand;

use super::admin::encoded;
use super::desk::{Common, at_desk};

/// Issue, bind, rotate, suspend, revoke and recover keys.
///
/// The gateway is found by --admin or `COUNTERSIGN_ADMIN`, and `COUNTERSIGN_ADMIN_TOKEN` says who you are.
///
/// Example: countersign keys create --account alice --permissions read,trade
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(Box<create::Args>),
    List(look::ListArgs),
    Show(look::ShowArgs),
    Update(Box<update::Args>),
    Rotate(rotate::Args),
    Suspend(life::SuspendArgs),
    Resume(life::ResumeArgs),
    Revoke(life::RevokeArgs),
    Compromised(compromised::Args),
    Import(Box<import::Args>),
    Export(export::Args),
    History(look::HistoryArgs),
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    let (name, common) = (args.command.name(), &args.common);
    at_desk(name, common, out, err, |desk| match &args.command {
        Command::Create(args) => args.run(desk),
        Command::List(args) => args.run(desk),
        Command::Show(args) => args.run(desk),
        Command::Update(args) => args.run(desk),
        Command::Rotate(args) => args.run(desk),
        Command::Suspend(args) => args.run(desk),
        Command::Resume(args) => args.run(desk),
        Command::Revoke(args) => args.run(desk),
        Command::Compromised(args) => args.run(desk),
        Command::Import(args) => args.run(desk),
        Command::Export(args) => args.run(desk),
        Command::History(args) => args.run(desk),
    })
}

impl Command {
    const fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "keys create",
            Self::List(_) => "keys list",
            Self::Show(_) => "keys show",
            Self::Update(_) => "keys update",
            Self::Rotate(_) => "keys rotate",
            Self::Suspend(_) => "keys suspend",
            Self::Resume(_) => "keys resume",
            Self::Revoke(_) => "keys revoke",
            Self::Compromised(_) => "keys compromised",
            Self::Import(_) => "keys import",
            Self::Export(_) => "keys export",
            Self::History(_) => "keys history",
        }
    }
}

/// Where a key is.
fn at(id: &str) -> String {
    format!("/v1/keys/{}", encoded(id))
}

/// What is shown of a key first.
const FIRST: [&str; 18] = [
    "id",
    "account",
    "application",
    "label",
    "state",
    "venue",
    "dialect",
    "algorithm",
    "permissions",
    "allowlist",
    "routes",
    "symbols",
    "limits",
    "created",
    "expires",
    "trade_until",
    "last_used",
    "secrets",
];
