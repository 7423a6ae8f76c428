//! The command line.

pub mod accounts;
mod admin;
pub mod approvals;
pub mod apps;
pub mod audit;
pub mod bans;
pub mod check;
pub mod completions;
pub mod curl;
pub mod demo;
mod desk;
pub mod dialects;
pub mod keys;
mod once;
pub mod otp;
mod page;
mod progress;
pub mod registry;
mod rewrap;
pub mod serve;
pub mod sign;
pub mod snippet;
pub mod status;
pub mod switches;
mod table;
mod text;
mod trail;
pub mod verify;
mod when;
mod worked;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::gateway::files::raise_limit;
use crate::load;

/// Stands in front of an exchange and lets through what is genuine, fresh, new, allowed and within its limits.
///
/// Start with `countersign demo`: a gateway with a small exchange behind it, a key, and a signed request to paste.
/// Then write a configuration, look it over with `countersign check --config gateway.toml`, and run it with
/// `countersign serve --config gateway.toml`.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, propagate_version = true, max_term_width = 100, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  countersign demo
  countersign check --config gateway.toml
  countersign dialects page kraken
  countersign snippet --dialect okx --lang python > order.py";

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Serve(serve::Args),
    Check(check::Args),
    Sign(Box<sign::Args>),
    Snippet(snippet::Args),
    Verify(verify::Args),
    Load(Box<load::Args>),
    Dialects(dialects::Args),
    Status(status::Args),
    Keys(keys::Args),
    Accounts(accounts::Args),
    Apps(apps::Args),
    Switches(switches::Args),
    Otp(otp::Args),
    Bans(bans::Args),
    Approvals(approvals::Args),
    Completions(completions::Args),
    Man(completions::ManArgs),
    Audit(audit::Args),
    Registry(registry::Args),
}

/// Reads the command line and runs what it says: 0 when all went well, 1 when something was refused or failed, 2
/// when the command line itself is wrong.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let printed = error.print();
            return if error.use_stderr() {
                ExitCode::from(2)
            } else {
                outcome(printed.map(|()| ExitCode::SUCCESS))
            };
        }
    };
    let mut out = io::BufWriter::new(io::stdout());
    let mut err = io::stderr();
    let ended = cli.command.run(&mut out, &mut err);
    outcome(ended.and_then(|code| out.flush().map(|()| code)))
}

impl Command {
    fn run(&self, out: &mut impl Write, err: &mut impl Write) -> io::Result<ExitCode> {
        if matches!(self, Self::Demo(_) | Self::Serve(_) | Self::Load(_)) {
            raise_limit();
        }
        match self {
            Self::Demo(args) => demo::run(args, out, err),
            Self::Serve(args) => serve::run(args, out, err),
            Self::Check(args) => check::run(args, out, err),
            Self::Sign(args) => sign::run(args, out, err),
            Self::Snippet(args) => snippet::run(args, out, err),
            Self::Verify(args) => verify::run(args, out, err),
            Self::Load(args) => load::command(args, out, err).map(ExitCode::from),
            Self::Dialects(args) => dialects::run(args, out, err),
            Self::Status(args) => status::run(args, out, err),
            Self::Keys(args) => keys::run(args, out, err),
            Self::Accounts(args) => accounts::run(args, out, err),
            Self::Apps(args) => apps::run(args, out, err),
            Self::Switches(args) => switches::run(args, out, err),
            Self::Otp(args) => otp::run(args, out, err),
            Self::Bans(args) => bans::run(args, out, err),
            Self::Approvals(args) => approvals::run(args, out, err),
            Self::Completions(args) => completions::run(args, out),
            Self::Man(args) => completions::man(args, out, err),
            Self::Audit(args) => audit::run(args, out, err),
            Self::Registry(args) => registry::run(args, out, err),
        }
    }
}

/// Whoever reads our output may stop when it has seen enough.
fn outcome(ended: io::Result<ExitCode>) -> ExitCode {
    match ended {
        Ok(code) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Where even this cannot be written, the exit code still tells.
            drop(writeln!(io::stderr(), "countersign: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_command_shows_an_example() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands_mut() {
            let help = sub.render_long_help().to_string();
            assert!(help.contains("Example") || sub.has_subcommands(), "{help}");
        }
    }

    #[test]
    fn short_help_of_whatever_speaks_to_a_gateway_shows_an_example() {
        fn look(command: &mut clap::Command) {
            let name = command.get_name().to_owned();
            for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
                let help = sub.render_help().to_string();
                assert!(
                    help.contains("Example: countersign ") || sub.has_subcommands(),
                    "{name}: {help}"
                );
                look(sub);
            }
        }
        for name in ["keys", "accounts", "apps", "switches", "otp", "bans", "approvals"] {
            let mut command = Cli::command();
            look(command.find_subcommand_mut(name).unwrap());
        }
    }

    #[test]
    fn many_keys_are_imported_without_what_each_of_them_says() {
        for line in [
            "keys import --file keys.jsonl",
            "keys import --id a --account b --secret-env S",
            "keys create --account a",
            "keys list --json",
            "keys --json list",
            "keys update csk_1 --permissions read --if-version 3",
            "otp enrol alice --admin unix:///run/a.sock",
        ] {
            let words = ["countersign"].into_iter().chain(line.split(' '));
            Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in [
            "keys import --account b",
            "keys import --file keys.jsonl --permissions trade",
            "keys create",
            "keys create --account a --token csa_x",
            "keys list --json --quiet",
            "keys revoke",
            "keys create --account a --allow 0.0.0.0/0",
            "keys create --account a --expires tomorrow",
            "bans add nowhere",
        ] {
            let words = ["countersign"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(words).unwrap_err().use_stderr(), "{line}");
        }
    }

    #[test]
    fn a_command_line_that_is_wrong_is_told_from_one_that_asks_for_help() {
        assert!(Cli::try_parse_from(["countersign", "serve"]).unwrap_err().use_stderr());
        assert!(!Cli::try_parse_from(["countersign", "--help"]).unwrap_err().use_stderr());
    }
}
