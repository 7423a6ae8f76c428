//! `countersign otp`: the second factor of an account, enrolled at the terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::admin::encoded;
use super::desk::{Common, Desk, Done, Failure, Reason, Sure, at_desk};
use super::once::{fill, private};
use super::text::{clean, text};

/// Enrol the second factor of an account, show it, or take it away.
///
/// Example: countersign otp enrol alice
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a second factor: a QR code for the app, and recovery codes. It counts once it is confirmed
    #[command(after_help = ENROL)]
    Enrol {
        /// The account
        account: String,
        /// Show no QR code
        #[arg(long)]
        no_qr: bool,
        /// Write the URI and the recovery codes to this new file, which only you can read, instead of printing them
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        #[command(flatten)]
        reason: Reason,
    },
    /// Show with a first code that the app has it; the code is read from standard input
    #[command(after_help = CONFIRM)]
    Confirm {
        /// The account
        account: String,
    },
    /// Make a new second factor in place of a lost one, by one of its recovery codes, read from standard input
    #[command(after_help = RECOVER)]
    Recover {
        /// The account
        account: String,
        /// Show no QR code
        #[arg(long)]
        no_qr: bool,
        /// Write the URI and the recovery codes to this new file, which only you can read, instead of printing them
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        #[command(flatten)]
        reason: Reason,
    },
    /// Show whether an account has a second factor, and how many recovery codes are left
    #[command(after_help = "Example: countersign otp show alice")]
    Show {
        /// The account
        account: String,
    },
    /// Take the second factor of an account away
    #[command(
        after_help = "Example: countersign otp remove alice --reason 'phone lost, met in person'"
    )]
    Remove {
        /// The account
        account: String,
        #[command(flatten)]
        reason: Reason,
        #[command(flatten)]
        sure: Sure,
    },
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    let name = match args.command {
        Command::Enrol { .. } => "otp enrol",
        Command::Confirm { .. } => "otp confirm",
        Command::Recover { .. } => "otp recover",
        Command::Show { .. } => "otp show",
        Command::Remove { .. } => "otp remove",
    };
    at_desk(name, &args.common, out, err, |desk| args.command.run(desk))
}

impl Command {
    fn run(&self, desk: &mut Desk<'_>) -> Done {
        match self {
            Self::Enrol { account, no_qr, secret_file, reason } => {
                let asked = Asked { path: at(account), body: reason.beside(json!({})) };
                enrol(desk, account, !no_qr, secret_file.as_ref(), &asked)
            }
            Self::Recover { account, no_qr, secret_file, reason } => {
                let code = typed(desk, "Recovery code: ")?;
                if code.bytes().filter(u8::is_ascii_alphanumeric).count() != 16 {
                    return Err(Failure::Usage(
                        "standard input holds no recovery code\n  it has sixteen letters and digits"
                            .to_owned(),
                    ));
                }
                let body = reason.beside(json!({"code": *code}));
                let asked = Asked { path: format!("{}/recover", at(account)), body };
                enrol(desk, account, !no_qr, secret_file.as_ref(), &asked)
            }
            Self::Confirm { account } => confirm(desk, account),
            Self::Show { account } => {
                let factor = desk.api.get(&at(account))?;
                desk.thing(factor, account, &["account", "confirmed", "recovery_left", "created"])
            }
            Self::Remove { account, reason, sure } => {
                let id = clean(account);
                desk.confirm(*sure, &format!("This takes the second factor of {id} away."), &id)?;
                let body = reason.reason.as_ref().map(|_| reason.beside(json!({})));
                let outcome = desk.api.delete(&at(account), body.as_ref())?;
                desk.done(outcome, account, &format!("{id} has no second factor any more"))
            }
        }
    }
}

/// What makes a second factor.
struct Asked {
    path: String,
    body: Value,
}

fn enrol(
    desk: &mut Desk<'_>,
    account: &str,
    with_qr: bool,
    file: Option<&PathBuf>,
    asked: &Asked,
) -> Done {
    if desk.common.quiet && file.is_none() {
        return Err(Failure::Usage(
            "-q prints no secret, and it is told once\n  add --secret-file FILE".to_owned(),
        ));
    }
    let mut made = file.map(|path| private(path).map(|file| (path, file))).transpose()?;
    let asked = desk.api.post(&asked.path, &asked.body);
    let settled = asked.map_err(Failure::from).and_then(|outcome| desk.settled(outcome));
    let answer = match settled {
        Ok(Some(answer)) => answer,
        other => {
            if let Some((path, _)) = made {
                // An empty file does no harm.
                drop(std::fs::remove_file(path));
            }
            return other.map(drop);
        }
    };
    let told = Zeroizing::new(told(&answer));
    if let Some((path, file)) = &mut made {
        fill(file, told.trim_end()).map_err(|error| {
            Failure::Failed(format!(
                "{}: {error}\n  enrol again: what was made is lost",
                path.display()
            ))
        })?;
        let at = path.display().to_string();
        if desk.common.json {
            desk.document(json!({"account": account, "secret_file": at}))?;
        } else {
            writeln!(desk.out, "{}", clean(account))?;
        }
        return desk.note(&format!(
            "The URI and the recovery codes are in {at}, which only you can read."
        ));
    }
    if desk.common.json {
        desk.document(answer)?;
    } else {
        if let (true, true, Some(picture)) =
            (with_qr, desk.eye.human, picture(text(&answer, "uri")))
        {
            writeln!(desk.out, "{picture}\n")?;
        }
        write!(desk.out, "{}", *told)?;
    }
    desk.out.flush()?;
    desk.note("This is told once. Put the recovery codes away: should the app be lost, one of them makes a new factor.")?;
    desk.note(&format!(
        "It counts once a first code is given: countersign otp confirm {}",
        clean(account)
    ))
}

/// What the holder keeps.
fn told(answer: &Value) -> String {
    let mut lines = format!(
        "uri       {}\nsecret    {}\n",
        clean(text(answer, "uri")),
        clean(text(answer, "secret"))
    );
    let codes = answer.get("recovery").and_then(Value::as_array);
    for (at, code) in codes.into_iter().flatten().filter_map(Value::as_str).enumerate() {
        lines.push_str(if at == 0 { "recovery  " } else { "          " });
        lines.push_str(&clean(code));
        lines.push('\n');
    }
    lines
}

/// A QR code in half blocks, dark on light whatever the terminal's colours: readers need it so.
fn picture(uri: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(uri, EcLevel::L).ok()?;
    let drawn = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Dark)
        .light_color(Dense1x2::Light)
        .quiet_zone(true)
        .build();
    // Black on white, said to the terminal for each line.
    let lines: Vec<_> =
        drawn.lines().map(|line| format!("\u{1b}[30;107m{line}\u{1b}[0m")).collect();
    Some(lines.join("\n"))
}

fn confirm(desk: &mut Desk<'_>, account: &str) -> Done {
    let code = typed(desk, "Code that the app shows: ")?;
    if code.is_empty() || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Failure::Usage(
            "standard input holds no code\n  type the six digits that the app shows".to_owned(),
        ));
    }
    let outcome = desk.api.post(&format!("{}/confirm", at(account)), &json!({"code": *code}))?;
    desk.done(outcome, account, &format!("{} has a second factor", clean(account)))
}

/// A line of standard input, without its blanks.
fn typed(desk: &mut Desk<'_>, prompt: &str) -> Result<Zeroizing<String>, Failure> {
    if io::stdin().is_terminal() {
        write!(desk.err, "{prompt}")?;
        desk.err.flush()?;
    }
    let mut line = Zeroizing::new(String::new());
    io::stdin().lock().read_line(&mut line)?;
    Ok(Zeroizing::new(line.split_whitespace().collect()))
}

fn at(account: &str) -> String {
    format!("/v1/accounts/{}/otp", encoded(account))
}

const ENROL: &str = "\
Example: countersign otp enrol alice

  # without a terminal to scan from
  countersign otp enrol alice --secret-file alice.otp";
const RECOVER: &str = "\
Example: countersign otp recover alice

  # in a script
  countersign otp recover alice --secret-file alice.otp < alice.code";
const CONFIRM: &str = "\
Example: countersign otp confirm alice

  # in a script, with the secret of `otp enrol`
  oathtool --totp -b - < alice.base32 | countersign otp confirm alice";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_fits_a_terminal_of_eighty_columns() {
        let uri = format!(
            "otpauth://totp/countersign:{}?secret={}&issuer=countersign&algorithm=SHA1&digits=6&period=30",
            "a".repeat(30),
            "A".repeat(32)
        );
        let picture = picture(&uri).unwrap();
        let drawn =
            picture.lines().map(|line| line.chars().filter(|c| " ▀▄█".contains(*c)).count());
        let width = drawn.max().unwrap();
        assert!((30..80).contains(&width), "{width}");
    }

    #[test]
    fn what_is_told_holds_every_code() {
        let answer = json!({"uri": "otpauth://x", "secret": "ABC", "recovery": ["a-1", "b-2"]});
        let expected = "uri       otpauth://x\nsecret    ABC\nrecovery  a-1\n          b-2\n";
        assert_eq!(told(&answer), expected);
    }
}
