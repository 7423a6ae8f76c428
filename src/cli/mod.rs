//! The command line.

pub mod audit;
pub mod check;
pub mod curl;
pub mod demo;
pub mod dialects;
mod page;
pub mod registry;
pub mod serve;
pub mod sign;
pub mod snippet;
pub mod verify;
mod worked;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
        match self {
            Self::Demo(args) => demo::run(args, out, err),
            Self::Serve(args) => serve::run(args, out, err),
            Self::Check(args) => check::run(args, out, err),
            Self::Sign(args) => sign::run(args, out, err),
            Self::Snippet(args) => snippet::run(args, out, err),
            Self::Verify(args) => verify::run(args, out, err),
            Self::Load(args) => load::command(args, out, err).map(ExitCode::from),
            Self::Dialects(args) => dialects::run(args, out, err),
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
            assert!(help.contains("Example:") || sub.has_subcommands(), "{help}");
        }
    }

    #[test]
    fn a_command_line_that_is_wrong_is_told_from_one_that_asks_for_help() {
        assert!(Cli::try_parse_from(["countersign", "serve"]).unwrap_err().use_stderr());
        assert!(!Cli::try_parse_from(["countersign", "--help"]).unwrap_err().use_stderr());
    }
}
