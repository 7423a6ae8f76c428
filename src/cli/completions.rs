//! `countersign completions` and `countersign man`: what shells and manuals want to know of the command line.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;

/// Print the completions of a shell.
///
/// Example: countersign completions bash > ~/.local/share/bash-completion/completions/countersign
#[derive(clap::Args, Debug)]
#[command(after_help = SHELLS)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Write a manual page for every command.
///
/// Example: countersign man ~/.local/share/man/man1
#[derive(clap::Args, Debug)]
pub struct ManArgs {
    /// Directory to write them to
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Prints completions.
pub fn run(args: &Args, out: &mut dyn Write) -> io::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "countersign", &mut script);
    out.write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes manual pages.
pub fn man(args: &ManArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    let written = std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.dir));
    if let Err(error) = written {
        writeln!(err, "countersign man: {}: {error}", args.dir.display())?;
        return Ok(ExitCode::FAILURE);
    }
    writeln!(out, "Written to {}; `man -M` or MANPATH finds them there.", args.dir.display())?;
    Ok(ExitCode::SUCCESS)
}

const SHELLS: &str = "\
Where shells look for them:
  countersign completions bash > ~/.local/share/bash-completion/completions/countersign
  countersign completions zsh > ~/.zfunc/_countersign
  countersign completions fish > ~/.config/fish/completions/countersign.fish";
