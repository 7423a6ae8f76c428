//! `countersign sign`: makes the signed request that a client of a dialect would send.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use http::{Method, Uri};
use serde_json::json;
use zeroize::Zeroizing;

use super::curl;
use crate::checks::syntax;
use crate::clock::{Clock, Micros, SystemClock};
use crate::denial::{Credential, Denial};
use crate::dialect::{Credentials, Dialect, Draft, SignedRequest, Unsignable, builtin};
use crate::key::Algorithm;
use crate::snippet;

/// Sign a request in a dialect and print it as a curl line.
///
/// The secret comes from an environment variable or a file, never from the command line, where others could see it.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// URL to send to, with the query if there is one
    url: Uri,
    /// Dialect to sign in; `countersign dialects list` names them
    #[arg(long, default_value = "binance")]
    dialect: String,
    /// Recipe file of the dialect, instead of a built-in one
    #[arg(long, value_name = "FILE", conflicts_with = "dialect")]
    recipe: Option<PathBuf>,
    /// Key id
    #[arg(long)]
    key: String,
    /// Environment variable that holds the secret, or the private key in PEM
    #[arg(long, value_name = "VAR", required_unless_present = "secret_file")]
    secret_env: Option<String>,
    /// File that holds the secret, or the private key in PEM; `-` reads standard input
    #[arg(long, value_name = "FILE", conflicts_with = "secret_env")]
    secret_file: Option<PathBuf>,
    /// Environment variable that holds the passphrase, for dialects that have one
    #[arg(long, value_name = "VAR")]
    passphrase_env: Option<String>,
    /// The key's algorithm; when absent, the one of the dialect's that the private key is of, or its HMAC
    #[arg(long, value_parser = algorithm)]
    algorithm: Option<Algorithm>,
    /// Method; POST when there is --data, else GET
    #[arg(short = 'X', long)]
    method: Option<Method>,
    /// Body: parameters or JSON, as the dialect has it
    #[arg(short = 'd', long, default_value = "")]
    data: String,
    /// Receive window to ask for, in milliseconds; the dialect's default when absent
    #[arg(long, value_name = "MS")]
    window: Option<u64>,
    /// Time of signing, in milliseconds since the epoch; now when absent
    #[arg(long, value_name = "MS")]
    at: Option<u64>,
    /// How long after signing a deadline lies, for dialects that sign a deadline; when absent, what the dialect's
    /// recipe says of its clients, or 5000
    #[arg(long, value_name = "MS")]
    lead: Option<u64>,
    /// Print {"method", "url", "headers", "body", "curl"} instead
    #[arg(long)]
    json: bool,
}

pub(super) fn algorithm(name: &str) -> Result<Algorithm, String> {
    let names = || Algorithm::ALL.map(|(_, name)| name).join(", ");
    Algorithm::named(name).ok_or_else(|| format!("one of {}", names()))
}

/// The algorithm that a private key in PEM is of, or else that most keys of a dialect have.
fn likely(dialect: &Dialect, secret: &[u8]) -> Option<Algorithm> {
    let armoured = std::str::from_utf8(secret).is_ok_and(|text| text.contains("-----BEGIN"));
    let reads =
        |known: &Algorithm| !known.is_symmetric() && dialect.read_signer(*known, secret).is_ok();
    let pair = dialect.algorithms().find(|known| armoured && reads(known));
    pair.or_else(|| snippet::usual_algorithm(dialect))
}

/// Runs the command.
pub fn run(args: &Args, out: &mut impl Write, err: &mut impl Write) -> io::Result<ExitCode> {
    match sign(args) {
        Ok((dialect, signed, base)) if args.json => {
            writeln!(out, "{}", as_json(&dialect, &signed, &base))?;
            Ok(ExitCode::SUCCESS)
        }
        Ok((dialect, signed, base)) => {
            writeln!(out, "{}", curl::line(&dialect, &signed, &base))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(problem) => {
            writeln!(err, "countersign sign: {problem}")?;
            Ok(ExitCode::from(2))
        }
    }
}

fn sign(args: &Args) -> Result<(Dialect, SignedRequest, String), String> {
    let dialect = dialect(&args.dialect, args.recipe.as_deref())?;
    let (Some(scheme), Some(authority)) = (args.url.scheme_str(), args.url.authority()) else {
        return Err(format!("`{}` is no URL: write http://HOST/PATH", args.url));
    };
    if !["http", "https"].contains(&scheme) {
        return Err(format!("`{}` is neither http:// nor https://", args.url));
    }
    let (path, query) = (args.url.path(), args.url.query().unwrap_or_default());
    syntax::target(path, query).map_err(|denial| {
        let cure =
            if path.is_ascii() && query.is_ascii() { "" } else { ": write it as %XX, of UTF-8" };
        format!("the gateway refuses `{}`: {}{cure}", args.url, denial.detail())
    })?;
    let secret = secret(args)?;
    let algorithm = args.algorithm.or_else(|| likely(&dialect, &secret));
    let algorithm = algorithm.ok_or_else(|| format!("{} has no keys", dialect.name()))?;
    if !dialect.algorithms().any(|known| known == algorithm) {
        let (name, taken) = (algorithm.name(), names(&dialect));
        return Err(format!("{} takes no {name} key, but {taken}", dialect.name()));
    }
    if algorithm.is_symmetric() && secret.starts_with(b"-----BEGIN") {
        let taken = names(&dialect);
        return Err(format!(
            "the secret is PEM, of which {} keys are none; {} takes {taken}",
            algorithm.name(),
            dialect.name()
        ));
    }
    let signer = dialect
        .read_signer(algorithm, &secret)
        .map_err(|error| format!("the secret is of no use for {}: {error}", algorithm.name()))?;
    let passphrase = args.passphrase_env.as_deref().map(variable).transpose()?;
    let method = match (&args.method, args.data.is_empty()) {
        (Some(method), _) => method.clone(),
        (None, true) => Method::GET,
        (None, false) => Method::POST,
    };
    let usual_lead = dialect.lead().and_then(|lead| u64::try_from(lead.as_millis()).ok());
    let draft = Draft {
        method,
        path,
        query,
        body: &args.data,
        host: authority.as_str(),
        window_ms: args.window,
        lead_ms: args.lead.or(usual_lead).unwrap_or(5_000),
        nonce: None,
    };
    let by = Credentials {
        key_id: &args.key,
        signer: &signer,
        passphrase: passphrase.as_ref().map(|text| text.as_str()),
    };
    let now = args.at.map_or_else(|| SystemClock::start().now(), Micros::from_millis);
    let request = dialect.sign(&draft, &by, now).map_err(|error| in_words(&error))?;
    Ok((dialect, request, format!("{scheme}://{authority}")))
}

/// Why a request cannot be signed, with the cure where the refusal itself is but a word.
fn in_words(error: &Unsignable) -> String {
    let cured = [
        (
            Denial::Malformed("method"),
            "the dialect has no such method; write it in capitals, as in -X POST",
        ),
        (Denial::Missing(Credential::Key), "the key id is empty: give --key"),
        (Denial::Missing(Credential::Passphrase), "the passphrase is empty: see --passphrase-env"),
        (Denial::WindowTooLarge, "the dialect has no receive window as long: lower --window"),
    ];
    let Unsignable::Refused(denial) = error else { return error.to_string() };
    let cured = cured.into_iter().find(|(refusal, _)| refusal == denial);
    cured.map_or_else(|| error.to_string(), |(_, cure)| cure.to_owned())
}

/// The algorithms of a dialect's keys, in words.
pub(super) fn names(dialect: &Dialect) -> String {
    dialect.algorithms().map(Algorithm::name).collect::<Vec<_>>().join(", ")
}

/// The dialect in the file `recipe`, or the built-in one called `name`.
pub(super) fn dialect(name: &str, recipe: Option<&Path>) -> Result<Dialect, String> {
    match recipe {
        Some(file) => {
            let text = std::fs::read_to_string(file);
            let text = text.map_err(|error| format!("{}: {error}", file.display()))?;
            Dialect::compile(&text).map_err(|error| format!("{}: {error}", file.display()))
        }
        None => builtin(name)
            .ok_or_else(|| {
                format!("no dialect is called \"{name}\": see `countersign dialects list`")
            })?
            .map_err(|error| error.to_string()),
    }
}

fn secret(args: &Args) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    match (&args.secret_env, &args.secret_file) {
        (Some(name), _) => bytes.extend_from_slice(variable(name)?.as_bytes()),
        (None, Some(file)) if file.as_os_str() == "-" => {
            let read = io::stdin().lock().read_to_end(&mut bytes);
            read.map_err(|error| format!("standard input: {error}"))?;
        }
        (None, Some(file)) => {
            let text =
                std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
            bytes.extend_from_slice(&Zeroizing::new(text));
        }
        (None, None) => return Err("give --secret-env or --secret-file".to_owned()),
    }
    // Editors end files with a line break that is no part of the secret.
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(bytes)
}

/// The text of an environment variable.
pub(super) fn variable(name: &str) -> Result<Zeroizing<String>, String> {
    std::env::var(name).map(Zeroizing::new).map_err(|_| {
        format!(
            "the environment has no variable {name}: set it, as in `{name}=… countersign sign …`"
        )
    })
}

fn as_json(dialect: &Dialect, signed: &SignedRequest, base: &str) -> serde_json::Value {
    let headers: serde_json::Map<_, _> = signed
        .headers
        .iter()
        .map(|(name, value)| {
            (dialect.spelled(name), String::from_utf8_lossy(value.as_bytes()).into())
        })
        .collect();
    json!({
        "method": signed.method.as_str(),
        "url": format!("{base}{}", signed.target),
        "headers": headers,
        "body": signed.body,
        "curl": curl::line(dialect, signed, base),
    })
}

const EXAMPLE: &str = "\
Examples:
  SECRET=… countersign sign --dialect binance --key KEY --secret-env SECRET -X POST \
http://127.0.0.1:8080/api/v3/order --data 'symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.01'

  countersign sign --dialect coinbase_jwt --key KEY --secret-file private.pem \
http://127.0.0.1:8080/api/v3/brokerage/accounts";
