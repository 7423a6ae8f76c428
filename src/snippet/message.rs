//! The steps that sign an HTTP message: its digest, the parameters of the signature, and a line for each component.

use http::HeaderMap;

use super::Unwritable;
use super::plan::{EXPIRES, MARKS, plain};
use super::script::{Piece, Pieces, Script, Step, Var, joined};
use crate::clock::Micros;
use crate::dialect::{
    Credentials, Dialect, Draft, Encoding, Inbound, SignedRequest, TimeUnit, Unsignable,
};
use crate::key::{Algorithm, Signer};

/// Puts the steps for `draft` into `script`.
pub(super) fn fill(
    dialect: &Dialect,
    draft: &Draft<'_>,
    script: &mut Script,
) -> Result<(), Unwritable> {
    let signed = signed(dialect, draft)?;
    let base = base(dialect, draft, &signed);
    let lines: Vec<_> = base.lines().filter_map(|line| line.split_once(": ")).collect();
    script.has_query = !draft.query.is_empty();
    script.has_body = !draft.body.is_empty();

    let text = |text: &str| vec![Piece::Text(text.to_owned())];
    if let Some((_, host)) = lines.iter().find(|(name, _)| *name == "\"@authority\"") {
        script.before.push(Step::Let(Var::Host, text(host)));
    }
    if script.has_query {
        script.before.push(Step::Let(Var::Query, text(draft.query)));
    }
    if script.has_body {
        script.before.push(Step::Let(Var::Body, text(draft.body)));
        let digest = vec![Piece::Sha256Base64(vec![Piece::Var(Var::Body)])];
        script.before.push(Step::Let(Var::Digest, digest));
    }
    script.before.push(Step::Clock(Var::Timestamp, TimeUnit::Seconds, 0));
    let ahead = draft.window_ms.map(|window| window.div_ceil(1_000));
    if let Some(seconds) = ahead {
        script.before.push(Step::Clock(Var::Expires, TimeUnit::Seconds, seconds * 1_000));
    }
    let parameters = lines.last().map_or("", |(_, value)| value);
    let marked = parameters.replace(&format!("created={CREATED}"), &stamped("created", MARKS.time));
    let until = format!("expires={}", CREATED + ahead.unwrap_or_default());
    let marked = marked.replace(&until, &stamped("expires", EXPIRES));
    script.before.push(Step::Let(Var::Parameters, plain(&marked)));

    for (place, (name, value)) in lines.iter().enumerate() {
        let end = if place == 0 { "" } else { "\n" };
        script.message.push(Piece::Text(format!("{end}{name}: ")));
        script.message.extend(component(name, value, script.has_query));
    }
    script.message = joined(std::mem::take(&mut script.message));
    script.headers = signed
        .headers
        .iter()
        .map(|(name, value)| {
            let value = value.to_str().unwrap_or_default();
            (dialect.spelled(name), joined(field(name.as_str(), value)))
        })
        .collect();
    Ok(())
}

/// The request as it would be signed at a moment that stands nowhere else in it.
fn signed(dialect: &Dialect, draft: &Draft<'_>) -> Result<SignedRequest, Unwritable> {
    let mut stand_in = dialect.clone();
    // What is signed is the same for every algorithm, and this one needs no key pair.
    stand_in.encodings = [(Algorithm::HmacSha256, Encoding::Base64)].into();
    let signer = Signer::read(Algorithm::HmacSha256, b"of no key");
    let signer = signer.map_err(|_| Unwritable::Draft(Unsignable::Algorithm))?;
    let by = Credentials { key_id: MARKS.key_id, signer: &signer, passphrase: None };
    stand_in.sign(draft, &by, Micros::from_millis(CREATED * 1_000)).map_err(Unwritable::Draft)
}

/// The text that is signed of it.
fn base(dialect: &Dialect, draft: &Draft<'_>, signed: &SignedRequest) -> String {
    let headers: HeaderMap = signed.headers.iter().cloned().collect();
    let request = Inbound {
        method: &signed.method,
        path: draft.path,
        query: (!draft.query.is_empty()).then_some(draft.query),
        host: draft.host,
        headers: (&headers).into(),
        body: signed.body.as_bytes(),
        peer: std::net::Ipv4Addr::LOCALHOST.into(),
    };
    let bytes = dialect.signed_bytes(&request).into_iter().next();
    bytes.map_or_else(String::new, |(_, bytes)| String::from_utf8_lossy(&bytes).into_owned())
}

/// The value of a component.
fn component(name: &str, value: &str, has_query: bool) -> Pieces {
    let question = || Piece::Text("?".to_owned());
    match name {
        "\"@method\"" => vec![Piece::Var(Var::Method)],
        "\"@authority\"" => vec![Piece::Var(Var::Host)],
        "\"@query\"" if has_query => vec![question(), Piece::Var(Var::Query)],
        "\"@request-target\"" if has_query => {
            vec![Piece::Var(Var::Path), question(), Piece::Var(Var::Query)]
        }
        "\"@path\"" | "\"@request-target\"" => vec![Piece::Var(Var::Path)],
        "\"@signature-params\"" => vec![Piece::Var(Var::Parameters)],
        name => field(name.trim_matches('"'), value),
    }
}

/// The value of a header field.
fn field(name: &str, value: &str) -> Pieces {
    let around = |before: &str, var, after: &str| {
        let text = |text: &str| Piece::Text(text.to_owned());
        vec![text(before), Piece::Var(var), text(after)]
    };
    match name {
        "content-digest" => around("sha-256=:", Var::Digest, ":"),
        "signature-input" => around("sig=", Var::Parameters, ""),
        "signature" => around("sig=:", Var::Signature, ":"),
        _ => vec![Piece::Text(value.to_owned())],
    }
}

fn stamped(name: &str, mark: &str) -> String {
    format!("{name}={mark}")
}

/// A moment long ago, in seconds.
const CREATED: u64 = 1_111_111_111;
