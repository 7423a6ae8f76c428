//! A dialect's example, signed with a fixed key at a fixed time, with every byte on the way.

use std::fmt::Write as _;

use data_encoding::{BASE64, HEXLOWER};
use http::HeaderMap;

use super::curl;
use crate::clock::Micros;
use crate::dialect::{
    Credentials, Dialect, Draft, Encoding, Explained, Inbound, NonceKind, Place, SecretForm,
    SignedRequest,
};
use crate::key::Algorithm;
use crate::snippet;

/// Appends the example to a page.
pub(super) fn example(dialect: &Dialect, out: &mut String) -> Result<(), String> {
    let algorithm = snippet::usual_algorithm(dialect).ok_or("no algorithm for an example")?;
    let secret = match (algorithm.is_symmetric(), dialect.secret_form()) {
        (false, _) => PRIVATE.to_owned(),
        (true, SecretForm::Text) => SECRET.to_owned(),
        (true, SecretForm::Base64) => BASE64.encode(SECRET.as_bytes()),
    };
    let private = dialect.read_signer(algorithm, secret.as_bytes());
    let private = private.map_err(|error| error.to_string())?;
    let by = Credentials { key_id: KEY, signer: &private, passphrase: Some(PASSPHRASE) };
    let nonce = dialect
        .places()
        .any(|(_, place)| matches!(place, Place::TokenHeader(_) | Place::TokenPayload(_)))
        || dialect.nonce_kind() == Some(NonceKind::Unique);
    let example = dialect.example();
    let (path, query) = example.target.split_once('?').unwrap_or((&example.target, ""));
    let draft = Draft {
        method: example.method.clone(),
        path,
        query,
        body: &example.body,
        host: HOST,
        window_ms: dialect.asks_window().then_some(5_000),
        lead_ms: 5_000,
        nonce: nonce.then_some(NONCE),
    };
    let now = Micros::from_millis(NOW_MS);
    let signed = dialect.sign(&draft, &by, now).map_err(|error| error.to_string())?;

    out.push_str("\n## Example\n\n");
    let _ = writeln!(out, "| | |\n|---|---|\n| key id | `{KEY}` |");
    let _ = writeln!(out, "| algorithm | {} |", algorithm.name());
    if algorithm.is_symmetric() {
        let _ = writeln!(out, "| secret | `{secret}` |");
    }
    if dialect.has_passphrase() {
        let _ = writeln!(out, "| passphrase | `{PASSPHRASE}` |");
    }
    let _ = writeln!(out, "| clock | 2023-11-14T22:13:20Z, which is {NOW_MS} ms |");
    if nonce {
        let _ = writeln!(out, "| nonce | `{NONCE}` |");
    }
    if !algorithm.is_symmetric() {
        let _ = writeln!(
            out,
            "\nIts private key, which nobody but this page uses:\n\n```text\n{secret}```"
        );
    }
    draft_of(&draft, out);
    signing(dialect, algorithm, &signed, out)?;
    wire(dialect, &signed, out);
    Ok(())
}

fn draft_of(draft: &Draft<'_>, out: &mut String) {
    let mark = if draft.query.is_empty() { "" } else { "?" };
    let _ = writeln!(
        out,
        "\nWhat the client wants to send:\n\n```text\n{} {}{mark}{}",
        draft.method, draft.path, draft.query
    );
    if !draft.body.is_empty() {
        let _ = writeln!(out, "\n{}", draft.body);
    }
    out.push_str("```\n");
}

fn signing(
    dialect: &Dialect,
    algorithm: Algorithm,
    signed: &SignedRequest,
    out: &mut String,
) -> Result<(), String> {
    let headers: HeaderMap = signed.headers.iter().cloned().collect();
    let (path, query) = match signed.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*signed.target, None),
    };
    let request = Inbound {
        method: &signed.method,
        path,
        query,
        host: HOST,
        headers: (&headers).into(),
        body: signed.body.as_bytes(),
        peer: std::net::Ipv4Addr::LOCALHOST.into(),
    };
    let explained = dialect.explain(&request);
    let (_, parts) = explained.first().ok_or("the example makes no claim")?;
    out.push_str("\nThe parts of what is signed, in order:\n\n| part | bytes |\n|---|---|\n");
    for part in parts {
        row(part, "", out);
    }
    let whole: Vec<u8> = parts.iter().flat_map(|part| part.bytes.clone()).collect();
    let _ = writeln!(out, "\nAll of it, {} bytes:\n\n```text\n{}\n```", whole.len(), shown(&whole));
    if !is_plain(&whole) {
        let _ = writeln!(out, "\nIn hexadecimal:\n\n```text\n{}\n```", folded(&whole));
    }
    let written = dialect.signature(&request).ok_or("the example has no signature")?;
    let mut encodings = dialect.encodings().filter(|(known, _)| *known == algorithm);
    let (_, encoding) = encodings.next().ok_or("the algorithm has no encoding")?;
    let bytes = match encoding {
        Encoding::Hex => HEXLOWER.decode(written.as_bytes()),
        Encoding::Base64 => BASE64.decode(written.as_bytes()),
        Encoding::Base64Url => data_encoding::BASE64URL_NOPAD.decode(written.as_bytes()),
    };
    let bytes = bytes.map_err(|error| error.to_string())?;
    let kind = if algorithm.is_symmetric() { "MAC" } else { "signature" };
    let _ = writeln!(
        out,
        "\nIts {} {kind}, in hexadecimal:\n\n```text\n{}\n```\n\nAs it is written:\n\n```text\n{written}\n```",
        algorithm.name(),
        HEXLOWER.encode(&bytes)
    );
    Ok(())
}

/// One line of a table, and one for each part that it was made of.
fn row(part: &Explained, before: &str, out: &mut String) {
    let bytes = if part.bytes.is_empty() {
        "none".to_owned()
    } else if is_text(&part.bytes) {
        format!("`` {} ``", shown(&part.bytes).replace('|', "\\|"))
    } else {
        format!("hex `{}`", HEXLOWER.encode(&part.bytes))
    };
    let name = part.part.replace('|', "\\|");
    let _ = writeln!(out, "| {before}`` {name} `` | {bytes} |");
    let of = format!("{before}of ");
    for inner in &part.inner {
        row(inner, &of, out);
    }
}

/// The request as it goes over the wire, and as a line for the shell.
fn wire(dialect: &Dialect, signed: &SignedRequest, out: &mut String) {
    let _ = writeln!(
        out,
        "\nThe request:\n\n```http\n{} {} HTTP/1.1\nHost: {HOST}",
        signed.method, signed.target
    );
    for (name, value) in &signed.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let _ = writeln!(out, "{}: {value}", dialect.spelled(name));
    }
    if !signed.body.is_empty() {
        let _ = writeln!(out, "Content-Length: {}\n\n{}", signed.body.len(), signed.body);
    }
    let line = curl::line(dialect, signed, &format!("https://{HOST}"));
    let _ = writeln!(out, "```\n\n```sh\n{line}\n```");
}

fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_ok_and(|text| text.chars().all(|char| char == '\n' || !char.is_control()))
}

/// Whether it reads as it is, byte for byte.
fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'\\')
}

/// Text in which what is no printable ASCII is escaped.
fn shown(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(char::from(*byte)),
            other => {
                let _ = write!(out, "\\x{other:02x}");
            }
        }
    }
    out
}

/// Hexadecimal in lines of 32 bytes.
fn folded(bytes: &[u8]) -> String {
    bytes.chunks(32).map(|line| HEXLOWER.encode(line)).collect::<Vec<_>>().join("\n")
}

const KEY: &str = "example-key";
const SECRET: &str = "an example's secret, known to all";
const PASSPHRASE: &str = "example-passphrase";
const NONCE: &str = "3f1a7c52-9f0e-4d5b-8c6a-0b2d4e6f8a1c";
const HOST: &str = "api.exchange.example";
const NOW_MS: u64 = 1_700_000_000_000;
/// Made for these pages.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
