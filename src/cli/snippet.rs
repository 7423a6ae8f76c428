//! `countersign snippet`: writes a small program that signs a request in a dialect and sends it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use http::{Method, Uri};

use super::sign;
use crate::dialect::{Dialect, Draft};
use crate::key::Algorithm;
use crate::snippet::{self, Language, Unwritable};

/// Write a small program that signs a request as clients of a dialect do, and sends it.
///
/// It holds no secret: KEY, SECRET (a private key is PEM) and, where the dialect has one, PASSPHRASE come from its
/// environment. JavaScript and Go need no packages, and Python needs cryptography for private keys alone; bash needs
/// openssl 3 and curl 7.83, and jq where JSON is signed by its members; Rust names its crates in the first lines.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// URL to send to, with the query if there is one; the dialect's example at the demo's address when absent
    url: Option<Uri>,
    /// Dialect to sign in; `countersign dialects list` names them
    #[arg(long, default_value = "binance")]
    dialect: String,
    /// Recipe file of the dialect, instead of a built-in one
    #[arg(long, value_name = "FILE", conflicts_with = "dialect")]
    recipe: Option<PathBuf>,
    /// Language: python, javascript, go, rust, bash
    #[arg(long, value_parser = language)]
    lang: Language,
    /// The key's algorithm; the dialect's HMAC when absent, or Ed25519 where it has none
    #[arg(long, value_parser = sign::algorithm)]
    algorithm: Option<Algorithm>,
    /// Method; POST when there is --data, else GET
    #[arg(short = 'X', long)]
    method: Option<Method>,
    /// Body: parameters or JSON, as the dialect has it
    #[arg(short = 'd', long)]
    data: Option<String>,
    /// Receive window to ask for, in milliseconds; the dialect's default when absent
    #[arg(long, value_name = "MS")]
    window: Option<u64>,
    /// How long after signing a deadline lies, for dialects that sign a deadline
    #[arg(long, value_name = "MS", default_value_t = 5_000)]
    lead: u64,
}

const EXAMPLE: &str = r#"Examples:
  countersign snippet --dialect okx --lang python > order.py
  KEY=my-key SECRET=… PASSPHRASE=… python3 order.py

  countersign snippet --dialect binance --algorithm rsa-sha256 --lang go > main.go
  KEY=my-key SECRET="$(cat private.pem)" go run main.go

  countersign snippet --dialect kraken --lang bash -d 'pair=XBTUSD' https://api.example/0/private/OpenOrders"#;

fn language(name: &str) -> Result<Language, String> {
    let names = || Language::ALL.map(|(_, name)| name).join(", ");
    Language::named(name).ok_or_else(|| format!("one of {}", names()))
}

/// Runs the command.
pub fn run(args: &Args, out: &mut impl Write, err: &mut impl Write) -> io::Result<ExitCode> {
    match program(args) {
        Ok(program) => {
            out.write_all(program.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(problem) => {
            writeln!(err, "countersign snippet: {problem}")?;
            Ok(ExitCode::from(2))
        }
    }
}

fn program(args: &Args) -> Result<String, String> {
    let dialect = sign::dialect(&args.dialect, args.recipe.as_deref())?;
    let (base, host, target) = place(args)?;
    let example = dialect.example();
    let of_example = target.is_none();
    let target = target.unwrap_or_else(|| example.target.clone());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let body = args.data.as_deref().unwrap_or(if of_example { &example.body } else { "" });
    let method = match &args.method {
        Some(method) => method.clone(),
        None if of_example && args.data.is_none() => example.method.clone(),
        None if body.is_empty() => Method::GET,
        None => Method::POST,
    };
    let draft = Draft {
        method,
        path,
        query,
        body,
        host: &host,
        window_ms: args.window.or_else(|| asked(&dialect)),
        lead_ms: args.lead,
        nonce: None,
    };
    let algorithm = args.algorithm.or_else(|| snippet::usual_algorithm(&dialect));
    let algorithm = algorithm.ok_or("the dialect has no keys")?;
    snippet::write(&dialect, algorithm, &draft, &base, args.lang).map_err(|error| match error {
        Unwritable::Algorithm(_) => format!("{error}, but {}", sign::names(&dialect)),
        Unwritable::Draft(_) | Unwritable::Json => error.to_string(),
    })
}

/// The window that clients of the dialect send, where they send one.
fn asked(dialect: &Dialect) -> Option<u64> {
    let sends = dialect.asks_window();
    sends.then(|| u64::try_from(dialect.default_window().as_millis()).unwrap_or(u64::MAX))
}

/// Scheme and host to send to, the host by itself, and the target if one was given.
fn place(args: &Args) -> Result<(String, String, Option<String>), String> {
    let Some(url) = &args.url else {
        return Ok((format!("http://{DEMO}"), DEMO.to_owned(), None));
    };
    let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err(format!("`{url}` is no URL: write http://HOST/PATH"));
    };
    let target = url.path_and_query().map(|target| target.as_str().to_owned());
    Ok((format!("{scheme}://{authority}"), authority.to_string(), target))
}

const DEMO: &str = "127.0.0.1:8080";
