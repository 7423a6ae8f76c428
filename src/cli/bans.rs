//! `countersign bans`: addresses that sent too many wrong signatures.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};

use super::admin::encoded;
use super::desk::{Common, Desk, Done, Pages, Reason, Wanted, at_desk};
use super::table::Column;
use super::when;

/// See which addresses are banned, ban one, or lift a ban.
///
/// A ban stops what does not prove itself: requests that are rightly signed are served from a banned address too.
///
/// Example: countersign bans add 203.0.113.7 --for 1h --reason 'guessing'
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List banned addresses
    #[command(after_help = "Example: countersign bans list")]
    List {
        #[command(flatten)]
        pages: Pages,
    },
    /// Ban an address; of IPv6 the whole /64
    #[command(
        after_help = "Example: countersign bans add 203.0.113.7 --for 1h --reason 'guessing'"
    )]
    Add {
        /// The address
        #[arg(value_parser = place)]
        address: String,
        /// For how long
        #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = when::span)]
        span: Duration,
        #[command(flatten)]
        reason: Reason,
    },
    /// Lift the ban of an address
    #[command(after_help = "Example: countersign bans lift 203.0.113.7")]
    Lift {
        /// The address, or the /64 that `bans list` shows
        #[arg(value_parser = place)]
        address: String,
        #[command(flatten)]
        reason: Reason,
    },
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    let name = match args.command {
        Command::List { .. } => "bans list",
        Command::Add { .. } => "bans add",
        Command::Lift { .. } => "bans lift",
    };
    at_desk(name, &args.common, out, err, |desk| args.command.run(desk))
}

impl Command {
    fn run(&self, desk: &mut Desk<'_>) -> Done {
        match self {
            Self::List { pages } => {
                let wanted = Wanted {
                    path: "/v1/bans",
                    query: Vec::new(),
                    what: "bans",
                    id: "address",
                    pages: Some(pages),
                };
                desk.list(&wanted, &BANS)
            }
            Self::Add { address, span, reason } => {
                let body = json!({"address": address, "for": when::written(*span)});
                let outcome = desk.api.post("/v1/bans", &reason.beside(body))?;
                desk.done(
                    outcome,
                    address,
                    &format!("{address} banned for {}", when::written(*span)),
                )
            }
            Self::Lift { address, reason } => {
                let body = reason.reason.as_ref().map(|_| reason.beside(json!({})));
                let path = format!("/v1/bans/{}", encoded(address));
                let outcome =
                    desk.api.delete(&path, body.as_ref().filter(|body| **body != Value::Null))?;
                desk.done(outcome, address, &format!("{address} no longer banned"))
            }
        }
    }
}

/// An address as it is banned, or the /64 of one of IPv6.
fn place(text: &str) -> Result<String, String> {
    let whole = text.strip_suffix("/64").and_then(|start| start.parse::<Ipv6Addr>().ok());
    match (whole, text.parse::<IpAddr>()) {
        (Some(_), _) => Ok(text.to_owned()),
        (None, Ok(address)) => Ok(address.to_canonical().to_string()),
        (None, Err(_)) => Err("write it as 203.0.113.7 or 2001:db8::1".to_owned()),
    }
}

const BANS: [Column; 5] = [
    Column::of("ADDRESS", "address"),
    Column::time("SINCE", "since"),
    Column::time("UNTIL", "until"),
    Column::of("BY", "actor"),
    Column::of("REASON", "reason"),
];
