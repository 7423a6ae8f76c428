//! Reads the parts of a request strictly: names, query, conditions, idempotency keys, bodies.

use std::net::IpAddr;

use data_encoding::HEXLOWER_PERMISSIVE;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, IF_MATCH, ORIGIN};
use http::uri::Authority;

use super::idempotency::KEY_CAP;
use super::operation::{Operation, Scalar};
use super::problem::Problem;

/// The longest name in a path, in bytes.
const NAME_CAP: usize = 256;

/// The longest parameter of a query, in characters: a cursor after the longest name fits.
pub(super) const PARAMETER_CAP: usize = 512;

/// Whether a browser sent it for a page: a certificate that the browser shows by itself must serve no page.
pub(super) fn is_of_a_page(fields: &HeaderMap) -> bool {
    let sites = fields.get_all(SEC_FETCH_SITE);
    fields.contains_key(ORIGIN) || sites.iter().any(|site| site.as_bytes() != b"none")
}

/// Whether it is for a name that somebody else gave this machine: so a page that a browser on it shows could read what
/// is served here without credentials. From other machines the network decides who reaches it.
pub(super) fn is_rebound(fields: &HeaderMap, from: Option<IpAddr>) -> bool {
    if !from.is_some_and(|from| from.is_loopback()) {
        return false;
    }
    let ours = |host: &HeaderValue| {
        let host = host.to_str().ok()?.parse::<Authority>().ok()?;
        let name = host.host().trim_matches(['[', ']']).to_ascii_lowercase();
        let named = name == "localhost" || name.ends_with(".localhost");
        Some(named || name.parse::<IpAddr>().is_ok())
    };
    // Every browser names the host.
    fields.get_all(HOST).iter().any(|host| ours(host) != Some(true))
}

/// Where a request comes from, as browsers tell: `none` is what somebody typed.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses names that nothing can have.
pub(super) fn names(path: &[(String, String)]) -> Result<(), Problem> {
    let plain =
        |text: &str| !text.is_empty() && text.len() <= NAME_CAP && !text.contains(char::is_control);
    if path.iter().all(|(_, value)| plain(value)) {
        return Ok(());
    }
    Err(Problem::bad(format!(
        "A name in the path is empty, longer than {NAME_CAP} bytes, or holds control characters."
    )))
}

/// The parameters of the query: each known, each once.
pub(super) fn query(
    operation: &Operation,
    query: Option<&str>,
) -> Result<Vec<(String, String)>, Problem> {
    let mut found: Vec<(String, String)> = Vec::new();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text| unescaped(text).filter(|text| !text.contains(char::is_control));
        let (Some(name), Some(value)) = (plain(name), plain(value)) else {
            return Err(Problem::bad(
                "The query is no text in %-encoded UTF-8, or holds control characters.",
            ));
        };
        let Some(known) = operation.query.iter().find(|known| known.name == name) else {
            let known: Vec<_> = operation.query.iter().map(|known| known.name).collect();
            let cure = if known.is_empty() {
                "this operation takes no parameters".to_owned()
            } else {
                format!("known here: {}", known.join(", "))
            };
            let name: String = name.chars().take(60).collect();
            return Err(Problem::bad(format!("There is no parameter `{name}`.")).cured(cure));
        };
        if found.iter().any(|(before, _)| *before == name) {
            return Err(Problem::bad(format!("The parameter `{name}` is there twice.")));
        }
        if let Scalar::Word(words) = known.kind
            && !words.contains(&&*value)
        {
            let detail = format!("`{name}` is none of its words.");
            return Err(Problem::bad(detail).cured(format!("known: {}", words.join(", "))));
        }
        if value.is_empty() || value.chars().count() > PARAMETER_CAP {
            return Err(Problem::bad(format!("The parameter `{name}` is empty or too long.")));
        }
        found.push((name, value));
    }
    Ok(found)
}

/// Text with `%XX` and `+` undone; `None` where that is no UTF-8.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                *HEXLOWER_PERMISSIVE.decode(&digits).ok()?.first()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// The version that the caller saw, from `If-Match`; `None` for any.
pub(super) fn expected(operation: &Operation, fields: &HeaderMap) -> Result<Option<u64>, Problem> {
    let mut sent = fields.get_all(IF_MATCH).iter();
    let Some(value) = sent.next() else { return Ok(None) };
    let wrong = || {
        Problem::bad("If-Match holds neither * nor one entity tag.")
            .cured("send the ETag of the record as it was read, as \"7\" with its quotes")
    };
    let text = value.to_str().map_err(|_| wrong())?.trim();
    if !operation.answer.versioned {
        return Err(Problem::bad("This operation knows no If-Match.").cured("leave it out"));
    }
    if text == "*" && sent.next().is_none() {
        return Ok(None);
    }
    let strong = text.strip_prefix("W/").unwrap_or(text);
    let inner = strong.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let inner = inner.filter(|inner| !inner.contains('"')).ok_or_else(wrong)?;
    if sent.next().is_some() {
        return Err(wrong());
    }
    // A weak tag, or one that we never gave, is the tag of nothing here.
    let plain = strong.len() == text.len() && inner.bytes().all(|byte| byte.is_ascii_digit());
    Ok(Some(if plain { inner.parse().unwrap_or(0) } else { 0 }))
}

/// The key under which a retry is recognised.
pub(super) fn idempotency_key(fields: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut sent = fields.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = sent.next() else { return Ok(None) };
    let text = value.as_bytes();
    let plain = (1..=KEY_CAP).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
    match value.to_str() {
        Ok(text) if plain && sent.next().is_none() => Ok(Some(text)),
        Ok(_) | Err(_) => Err(Problem::bad(format!(
            "Idempotency-Key is not one text of up to {KEY_CAP} visible ASCII characters."
        ))),
    }
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Refuses a body that is missing, not asked for, or not JSON by its own word.
pub(super) fn body(operation: &Operation, fields: &HeaderMap, bytes: &[u8]) -> Result<(), Problem> {
    let Some(taken) = &operation.body else {
        if bytes.is_empty() {
            return Ok(());
        }
        return Err(Problem::bad("This operation takes no body.").cured("leave it out"));
    };
    if bytes.is_empty() {
        if taken.required {
            return Err(Problem::bad("The body is missing.").cured("send a JSON object"));
        }
        return Ok(());
    }
    let kind = fields.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let (kind, parameters) = kind.split_once(';').unwrap_or((kind, ""));
    let parameters = parameters.trim();
    let is_utf8 = parameters.is_empty()
        || parameters.eq_ignore_ascii_case("charset=utf-8")
        || parameters.eq_ignore_ascii_case("charset=\"utf-8\"");
    if kind.trim().eq_ignore_ascii_case("application/json") && is_utf8 {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body does not say that it is JSON.")
        .cured("send `Content-Type: application/json`"))
}
