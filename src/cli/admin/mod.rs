//! The admin API as its client sees it: found, asked, and its refusals told with their cure.

mod refused;
mod target;
mod tls;
mod token;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::runtime::Runtime;

pub(super) use refused::ApiError;
use refused::Problem;
use target::Target;
use token::Token;
use wire::{Call, Line};

use super::serve::runtime;
use super::when;

/// Where the admin API is, and as whom it is asked.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Reaching the gateway")]
pub(super) struct Reach {
    /// The gateway's admin API, as `https://HOST:PORT` or `unix:///PATH` [default: a socket on this machine, else `http://127.0.0.1:9180`]
    #[arg(long, global = true, value_name = "URL", env = "COUNTERSIGN_ADMIN", hide_env_values = true, value_parser = Target::read)]
    admin: Option<Target>,
    /// File with the token that says who you are, readable by you alone; `COUNTERSIGN_ADMIN_TOKEN` holds it otherwise
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    token_file: Option<PathBuf>,
    /// Authorities to trust under https, in PEM, instead of this machine's
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    ca: Option<PathBuf>,
    /// Certificate to show under https, in PEM
    #[arg(long, global = true, value_name = "FILE", requires = "cert_key", hide_short_help = true)]
    cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM
    #[arg(long, global = true, value_name = "FILE", requires = "cert", hide_short_help = true)]
    cert_key: Option<PathBuf>,
    /// How long to wait for an answer
    #[arg(long, global = true, value_name = "TIME", default_value = "30s", value_parser = when::span, hide_short_help = true)]
    timeout: Duration,
    /// Send the token in clear to another machine, over a network that nobody else can read
    #[arg(long, global = true, hide_short_help = true)]
    plain_http: bool,
    /// Repeats a change whose answer was lost: with the key that was told then, it is done once
    #[arg(long, global = true, value_name = "KEY", hide_short_help = true)]
    idempotency_key: Option<String>,
}

/// The admin API.
pub(super) struct Api {
    line: Line,
    runtime: Runtime,
    /// Given by the user to repeat a call; the first change takes it.
    repeated: Option<String>,
}

/// What came of a change.
pub(super) enum Outcome {
    /// It is done.
    Done(Value),
    /// It waits for a second person.
    Waits(Value),
}

impl Api {
    /// Makes ready to ask. Nothing is sent yet.
    pub(super) fn new(reach: &Reach) -> Result<Self, String> {
        let target = reach.admin.clone().unwrap_or_else(Target::found);
        let token = Token::find(reach.token_file.as_deref())?;
        if token.is_some() && !target.is_private() && !reach.plain_http {
            return Err(format!(
                "{target} would get the token in clear: use https://, or --plain-http if nobody else can read that network"
            ));
        }
        let shown = reach.cert.as_deref().zip(reach.cert_key.as_deref());
        let under_tls = matches!(target, Target::Tcp { tls: true, .. });
        if !under_tls && (shown.is_some() || reach.ca.is_some()) {
            return Err(format!("{target} is not under TLS: --ca and --cert go with https://"));
        }
        let tls = under_tls.then(|| tls::config(reach.ca.as_deref(), shown)).transpose()?;
        let runtime = runtime().map_err(|error| error.to_string())?;
        let line = Line { target, tls, token, patience: reach.timeout };
        Ok(Self { line, runtime, repeated: reach.idempotency_key.clone() })
    }

    /// Reads `path`; tries again where that may help.
    pub(super) fn get(&self, path: &str) -> Result<Value, ApiError> {
        let call = call(Method::GET, path, None);
        let mut pauses = PAUSES.iter();
        loop {
            match (self.runtime.block_on(self.carry_out(&call)), pauses.next()) {
                (Ok((_, body)), _) => return Ok(body),
                (Err(error), Some(pause)) if error.may_pass() => std::thread::sleep(*pause),
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// Asks for a change. It is sent once; a lost answer tells with what it can be repeated.
    pub(super) fn post(&mut self, path: &str, body: &Value) -> Result<Outcome, ApiError> {
        let once = self.once()?;
        self.change(&Call { once: Some(once), ..call(Method::POST, path, Some(body)) })
    }

    /// Changes parts of what is at `path`, if it still has `version`.
    pub(super) fn patch(
        &self,
        path: &str,
        body: &Value,
        version: Option<String>,
    ) -> Result<Outcome, ApiError> {
        self.change(&Call { version, ..call(Method::PATCH, path, Some(body)) })
    }

    /// Takes away what is at `path`.
    pub(super) fn delete(&self, path: &str, body: Option<&Value>) -> Result<Outcome, ApiError> {
        self.change(&call(Method::DELETE, path, body))
    }

    /// Asks for a change that tells of itself line by line; `each` sees every line.
    pub(super) fn follow(
        &mut self,
        path: &str,
        body: &Value,
        mut each: impl FnMut(Value),
    ) -> Result<(), ApiError> {
        let call = Call { once: Some(self.once()?), ..call(Method::POST, path, Some(body)) };
        self.each_line(&call, &mut each)
    }

    /// Reads what is told line by line, until whoever tells ends it; `each` sees every line.
    pub(super) fn listen(&self, path: &str, mut each: impl FnMut(Value)) -> Result<(), ApiError> {
        self.each_line(&call(Method::GET, path, None), &mut each)
    }

    fn each_line(&self, call: &Call, each: &mut impl FnMut(Value)) -> Result<(), ApiError> {
        self.runtime.block_on(async {
            let answer = self.line.ask(call).await?;
            if !answer.status().is_success() {
                return Err(self.refusal(call, answer).await);
            }
            self.lines(call, answer, each).await
        })
    }

    fn change(&self, call: &Call) -> Result<Outcome, ApiError> {
        let (status, body) = self.runtime.block_on(self.carry_out(call))?;
        let waits = status == StatusCode::ACCEPTED;
        Ok(if waits { Outcome::Waits(body) } else { Outcome::Done(body) })
    }

    async fn carry_out(&self, call: &Call) -> Result<(StatusCode, Value), ApiError> {
        let answer = self.line.ask(call).await?;
        let status = answer.status();
        if !status.is_success() {
            return Err(self.refusal(call, answer).await);
        }
        let body = self.line.body(call, answer).await?;
        if body.is_empty() {
            return Ok((status, Value::Null));
        }
        let read = serde_json::from_slice(&body);
        // What was sent may hold a secret: it is not repeated.
        let foreign = |_| ApiError::Foreign(self.at(), "its answer is no JSON".to_owned());
        Ok((status, read.map_err(foreign)?))
    }

    async fn refusal(&self, call: &Call, answer: Response<Incoming>) -> ApiError {
        let status = answer.status();
        let with_token = self.line.token.is_some();
        match self.line.body(call, answer).await {
            Ok(body) => ApiError::Refused(Box::new(Problem::read(status, &body, with_token))),
            Err(error) => error,
        }
    }

    async fn lines(
        &self,
        call: &Call,
        answer: Response<Incoming>,
        each: &mut impl FnMut(Value),
    ) -> Result<(), ApiError> {
        let mut body = answer.into_body();
        let mut pending = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.line.broken(&error, call.once.clone()))?;
            pending.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()));
            while let Some(end) = memchr::memchr(b'\n', &pending) {
                let line: Vec<u8> = pending.drain(..=end).collect();
                self.line_of(&line, each)?;
            }
            if pending.len() > LONGEST_LINE {
                return Err(ApiError::Foreign(self.at(), "a line without an end".to_owned()));
            }
        }
        self.line_of(&pending, each)
    }

    fn line_of(&self, line: &[u8], each: &mut impl FnMut(Value)) -> Result<(), ApiError> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let foreign = |_| ApiError::Foreign(self.at(), "a line that is no JSON".to_owned());
        each(serde_json::from_slice(line).map_err(foreign)?);
        Ok(())
    }

    fn once(&mut self) -> Result<String, ApiError> {
        if let Some(repeated) = self.repeated.take() {
            return Ok(repeated);
        }
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| ApiError::Broken {
            target: "the system".to_owned(),
            problem: format!("gives no random bytes: {error}"),
            repeat: None,
        })?;
        Ok(HEXLOWER.encode(&bytes))
    }

    /// Where it is.
    pub(super) fn at(&self) -> String {
        self.line.target.to_string()
    }
}

fn call(method: Method, path: &str, body: Option<&Value>) -> Call {
    let body = body.map(|body| Bytes::from(body.to_string()));
    Call { method, path: path.to_owned(), body, version: None, once: None }
}

/// A piece of a path or of a query, whatever it holds.
pub(super) fn encoded(piece: &str) -> String {
    let mut out = String::with_capacity(piece.len());
    for byte in piece.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            HEXLOWER.encode_append(&[byte], &mut out);
        }
    }
    out
}

/// A path with those parts of a query that there are.
pub(super) fn with_query(path: &str, query: &[(&str, Option<&str>)]) -> String {
    let mut out = path.to_owned();
    let mut separator = '?';
    for (name, value) in query {
        if let Some(value) = value {
            out.push(separator);
            out.push_str(name);
            out.push('=');
            out.push_str(&encoded(value));
            separator = '&';
        }
    }
    out
}

/// Before reading again.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_millis(800)];
const LONGEST_LINE: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_piece_can_change_the_path() {
        assert_eq!(encoded("a/../b?c=d&e%"), "a%2f..%2fb%3fc%3dd%26e%25");
        assert_eq!(encoded("csk_Az09-.~"), "csk_Az09-.~");
        let query = [("account", Some("a&b")), ("state", None), ("limit", Some("5"))];
        assert_eq!(with_query("/v1/keys", &query), "/v1/keys?account=a%26b&limit=5");
    }
}
