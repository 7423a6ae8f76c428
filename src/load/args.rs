//! The command line of `countersign load`.

use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{ClientKey, LoadError, Mix, Options, Target, Template, Unique};
use crate::dialect::{BUILTIN, Dialect, builtin};

/// Send freshly signed requests and judge every answer.
///
/// Example: countersign demo --json --weight-limit 100000000 > demo.json & countersign load --demo-json demo.json --request 'GET /api/v3/account'
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
A valid request must be answered with 2xx, and not with a body that begins as a refusal of the dialect begins; every \
other kind must be refused, with 3xx, 4xx or such a body. Exit status: 0 fine, 1 wrong answers or errors, 2 usage.")]
pub struct Args {
    /// Where to: http://HOST:PORT or https://HOST:PORT
    #[arg(long, value_name = "URL")]
    pub target: Option<String>,
    /// A built-in dialect, or the file of a recipe
    #[arg(long, value_name = "NAME|FILE")]
    pub dialect: Option<String>,
    /// Keys, one JSON object a line: {"key", "secret", "passphrase"?, "algorithm"?}; they take turns
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "demo_json"])]
    pub keys: Option<PathBuf>,
    /// The id of the one key
    #[arg(long, value_name = "ID", conflicts_with = "demo_json")]
    pub key: Option<String>,
    /// The environment variable that holds its secret
    #[arg(long, value_name = "VAR", requires = "key", conflicts_with = "secret_file")]
    pub secret_env: Option<String>,
    /// The file that holds its secret, or its private key
    #[arg(long, value_name = "FILE", requires = "key")]
    pub secret_file: Option<PathBuf>,
    /// The environment variable that holds its passphrase
    #[arg(long, value_name = "VAR", requires = "key")]
    pub passphrase_env: Option<String>,
    /// Its algorithm; hmac-sha256 where the dialect has it
    #[arg(long, value_name = "NAME", requires = "key")]
    pub algorithm: Option<String>,
    /// The JSON line that the demo prints: target, dialect and key
    #[arg(long, value_name = "FILE")]
    pub demo_json: Option<PathBuf>,

    /// What to send, as in 'GET /api/v3/account'; n in braces is a counter, {id} is unique. May be repeated: they take turns
    #[arg(long, value_name = "REQUEST", conflicts_with = "requests_file")]
    pub request: Vec<String>,
    /// The body of every --request but GET and HEAD; it may hold such counters too
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub body: String,
    /// Requests to take turns, one a line: METHOD TARGET BODY
    #[arg(long, value_name = "FILE")]
    pub requests_file: Option<PathBuf>,
    /// How requests that would be identical are told apart: by a signed parameter, or by their time (at most one
    /// request per key and millisecond)
    #[arg(long, value_enum, default_value_t = UniqueBy::Param)]
    pub unique: UniqueBy,
    /// Kinds of request by share, as in valid=95,bad-sig=2,stale=1,replay=2
    #[arg(long, value_name = "SHARES", default_value = "valid=1", hide_default_value = true)]
    pub mix: Mix,

    /// Requests per second at fixed intervals (open loop); latency counts from when each was due
    #[arg(long, value_name = "N")]
    pub rate: Option<NonZeroU64>,
    /// Connections; without --rate each sends its next request when the last is answered (closed loop) [default: 16,
    /// or 64 with --rate]
    #[arg(long, value_name = "N")]
    pub connections: Option<NonZeroUsize>,
    /// Threads that generate load
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: NonZeroUsize,
    /// For how long to measure: 500ms, 10s, 2m [default: 10s, or until --count is reached]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// How many requests to measure
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Time before the measuring
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub warmup: Duration,
    /// How long to wait for an answer
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub timeout: Duration,

    /// Certificates to trust, PEM; needed for https
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Speak HTTP/2, one request at a time on each connection
    #[arg(long)]
    pub http2: bool,
    /// Allow a target that is not this machine
    #[arg(long)]
    pub allow_remote: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Serve the backend of the benchmarks instead
    #[arg(long, value_name = "ADDRESS", hide = true)]
    pub serve_backend: Option<SocketAddr>,
}

/// See [`Unique`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum UniqueBy {
    /// By a signed parameter.
    Param,
    /// By time.
    Time,
}

/// What the demo prints of itself.
#[derive(Deserialize)]
struct Demo {
    gateway: String,
    dialect: String,
    key: String,
    secret: String,
    passphrase: Option<String>,
    algorithm: Option<String>,
}

impl Args {
    /// Reads every file and variable that is named.
    pub fn options(&self) -> Result<Options, LoadError> {
        let demo = self.demo()?;
        let dialect = self.dialect(demo.as_ref())?;
        let keys = self.keys(&dialect, demo.as_ref())?;
        let url = self.target.as_deref().or(demo.as_ref().map(|demo| &*demo.gateway));
        let url = url.ok_or_else(|| usage("give --target URL, or --demo-json FILE"))?;
        let ca = self.ca.as_deref().map(read).transpose()?;
        let target = Target::parse(url, ca.as_deref(), self.http2, self.allow_remote);
        let connections = if self.rate.is_some() { 64 } else { 16 };
        let connections = NonZeroUsize::new(connections).unwrap_or(NonZeroUsize::MIN);
        let unbounded = self.duration.is_none() && self.count.is_none();
        Ok(Options {
            target: target.map_err(LoadError::Usage)?,
            requests: self.requests()?,
            dialect,
            keys,
            unique: match self.unique {
                UniqueBy::Param => Unique::Param,
                UniqueBy::Time => Unique::Time,
            },
            rate: self.rate,
            connections: self.connections.unwrap_or(connections.max(self.threads)),
            threads: self.threads,
            duration: self.duration.or(unbounded.then_some(Duration::from_secs(10))),
            count: self.count,
            warmup: self.warmup,
            timeout: self.timeout,
            mix: self.mix.clone(),
        })
    }

    fn demo(&self) -> Result<Option<Demo>, LoadError> {
        let Some(path) = &self.demo_json else { return Ok(None) };
        let begun = Instant::now();
        let text = loop {
            let text = read_text(path)?;
            // A demo that was started beside this one may not have written its line yet.
            if !text.trim().is_empty() || begun.elapsed() > DEMO_STARTS {
                break text;
            }
            std::thread::sleep(LOOK_AGAIN);
        };
        let line = text.lines().find(|line| line.trim_start().starts_with('{'));
        // The error of the parser could repeat a secret.
        let demo = line.and_then(|line| serde_json::from_str(line).ok());
        demo.map(Some).ok_or_else(|| {
            let path = path.display();
            usage(format!("{path}: no JSON object with gateway, dialect, key and secret"))
        })
    }

    fn dialect(&self, demo: Option<&Demo>) -> Result<Dialect, LoadError> {
        let name = self.dialect.as_deref().or(demo.map(|demo| &*demo.dialect));
        let name = name.ok_or_else(|| usage("give --dialect NAME"))?;
        if let Some(compiled) = builtin(name) {
            return compiled.map_err(|error| usage(format!("{name}: {error}")));
        }
        let path = Path::new(name);
        if !path.exists() {
            let known: Vec<_> = BUILTIN.iter().map(|(name, _)| *name).collect();
            return Err(usage(format!(
                "`{name}` is neither a dialect ({}) nor a file",
                known.join(", ")
            )));
        }
        Dialect::compile(&read_text(path)?).map_err(|error| usage(format!("{name}: {error}")))
    }

    fn keys(&self, dialect: &Dialect, demo: Option<&Demo>) -> Result<Vec<ClientKey>, LoadError> {
        if let Some(path) = &self.keys {
            let keys = ClientKey::parse_all(dialect, &read_text(path)?);
            return keys.map_err(|error| usage(format!("{}: {error}", path.display())));
        }
        let key = match (&self.key, demo) {
            (Some(id), _) => {
                let passphrase = self.passphrase_env.as_deref().map(variable).transpose()?;
                let secret = self.secret()?;
                ClientKey::new(dialect, id.clone(), &secret, passphrase, self.algorithm.as_deref())
            }
            (None, Some(demo)) => ClientKey::new(
                dialect,
                demo.key.clone(),
                demo.secret.as_bytes(),
                demo.passphrase.clone(),
                demo.algorithm.as_deref(),
            ),
            (None, None) => return Err(usage("give --keys FILE, --key ID or --demo-json FILE")),
        };
        Ok(vec![key.map_err(LoadError::Usage)?])
    }

    fn secret(&self) -> Result<Vec<u8>, LoadError> {
        match (&self.secret_env, &self.secret_file) {
            (Some(name), _) => variable(name).map(String::into_bytes),
            (None, Some(path)) => {
                // Editors end a file with a line feed; a secret has none.
                let mut secret = read(path)?;
                secret.truncate(secret.trim_ascii_end().len());
                Ok(secret)
            }
            (None, None) => Err(usage("give --secret-env VAR or --secret-file FILE with --key")),
        }
    }

    fn requests(&self) -> Result<Vec<Template>, LoadError> {
        if let Some(path) = &self.requests_file {
            let all = Template::parse_all(&read_text(path)?);
            return all.map_err(|error| usage(format!("{}: {error}", path.display())));
        }
        if self.request.is_empty() {
            return Err(usage("give --request 'GET /path', or --requests-file FILE"));
        }
        let bodyless = |request: &str| {
            let method = request.trim_start();
            method.starts_with("GET ") || method.starts_with("HEAD ")
        };
        let template = |request: &String| {
            let body = if bodyless(request) { "" } else { &self.body };
            Template::parse(request, body).map_err(LoadError::Usage)
        };
        self.request.iter().map(template).collect()
    }
}

/// Reads `500ms`, `10s`, `2m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let scale = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("write a number and a unit: 500ms, 10s, 2m, 1h".into()),
    };
    let millis = number.parse().ok().and_then(|number: u64| number.checked_mul(scale));
    millis.map(Duration::from_millis).ok_or_else(|| format!("`{number}` is no number of {unit}"))
}

fn variable(name: &str) -> Result<String, LoadError> {
    std::env::var(name).map_err(|_| usage(format!("the environment variable {name} is not set")))
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|error| LoadError::File(path.into(), error))
}

fn read_text(path: &Path) -> Result<String, LoadError> {
    std::fs::read_to_string(path).map_err(|error| LoadError::File(path.into(), error))
}

fn usage(text: impl Into<String>) -> LoadError {
    LoadError::Usage(text.into())
}

/// How long a demo may take to write its line.
const DEMO_STARTS: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(words: &str) -> Result<Args, clap::Error> {
        let words = std::iter::once("load").chain(words.split_whitespace());
        Cli::try_parse_from(words).map(|cli| cli.args)
    }

    fn written(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    const TARGET: &str = "--target http://127.0.0.1:1 --dialect binance";

    /// The options for one key and one request, with `words` beside.
    fn options(words: &str) -> Result<Options, String> {
        let (keys, requests) =
            (written(r#"{"key":"a","secret":"s"}"#), written("GET /a\nPOST /b x={n}\n"));
        let (keys, requests) = (keys.path().display(), requests.path().display());
        let args = parsed(&format!("{TARGET} --keys {keys} --requests-file {requests} {words}"));
        args.map_err(|error| error.to_string())?.options().map_err(|error| error.to_string())
    }

    #[test]
    fn a_run_is_bounded_by_ten_seconds_unless_a_count_bounds_it() {
        assert_eq!(options("").unwrap().duration, Some(Duration::from_secs(10)));
        let counted = options("--count 5").unwrap();
        assert_eq!((counted.duration, counted.count), (None, Some(5)));
        let both = options("--count 5 --duration 2m").unwrap();
        assert_eq!((both.duration, both.count), (Some(Duration::from_mins(2)), Some(5)));
    }

    #[test]
    fn the_loop_is_closed_unless_a_rate_is_given() {
        let (closed, open) = (options("").unwrap(), options("--rate 100").unwrap());
        assert_eq!((closed.rate, closed.connections.get()), (None, 16));
        assert_eq!((open.rate.map(NonZeroU64::get), open.connections.get()), (Some(100), 64));
        assert_eq!(open.requests.len(), 2);
    }

    #[test]
    fn what_contradicts_itself_or_is_no_number_is_refused() {
        for words in [
            "--rate 0",
            "--connections 0",
            "--threads 0",
            "--duration 10",
            "--duration x",
            "--warmup -1s",
            "--mix good=1",
            "--secret-env X",
            "--keys a --key b",
            "--keys a --demo-json b",
            "--request GET --requests-file b",
            "--unique never",
        ] {
            assert!(parsed(words).is_err(), "{words}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let refusal = |words: &str| parsed(words).unwrap().options().unwrap_err();
        for (words, missing) in [
            ("", "--dialect"),
            ("--dialect nowhere", "binance"),
            ("--dialect binance", "--keys"),
            ("--dialect binance --key a", "--secret-env"),
            ("--dialect binance --key a --secret-env COUNTERSIGN_UNSET", "COUNTERSIGN_UNSET"),
        ] {
            let error = refusal(words);
            assert!(error.to_string().contains(missing), "{words}: {error}");
            assert_eq!(error.exit_status(), 2);
        }
        let secret = written("s\n");
        let key = format!("--dialect binance --key a --secret-file {}", secret.path().display());
        assert!(refusal(&key).to_string().contains("--target"));
        assert!(
            refusal(&format!("{key} --target http://[::1]:1")).to_string().contains("--request")
        );
    }

    #[test]
    fn the_line_of_the_demo_says_where_how_and_who() {
        let demo = written(
            r#"{"gateway":"http://127.0.0.1:9","dialect":"bitget","key":"k","secret":"s","passphrase":"p"}"#,
        );
        let mut args = parsed(&format!("--demo-json {}", demo.path().display())).unwrap();
        args.request = vec!["GET /a".into()];
        let options = args.options().unwrap();
        assert_eq!(options.target.to_string(), "http://127.0.0.1:9");
        assert_eq!((&**options.dialect.name(), options.keys.len()), ("bitget", 1));
    }
}
