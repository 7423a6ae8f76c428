//! What a request signs and means, told without the code that is tried.

use std::collections::BTreeMap;

use countersign::denial::Credential;
use countersign::dialect::{Dialect, Inbound, Place};
use countersign::offline::Recorded;
use serde_json::Value;

/// The parameters that a backend would find, in no order; JSON by its names and values as text.
type Read = (String, Vec<(String, String)>);

/// Reads path, query and body as a common backend does.
pub(crate) fn read(request: &Recorded, target: &str, body: &str) -> Read {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut all = form(query);
    match serde_json::from_str(body) {
        Ok(Value::Object(members)) => {
            for (name, value) in members {
                match value {
                    // As Upbit's clients write a list in a query.
                    Value::Array(all_of) if request.dialect == "upbit" => {
                        all.extend(all_of.iter().map(|one| (format!("{name}[]"), plain(one))));
                    }
                    Value::Null
                    | Value::Bool(_)
                    | Value::Number(_)
                    | Value::String(_)
                    | Value::Array(_)
                    | Value::Object(_) => all.push((name, plain(&value))),
                }
            }
        }
        Ok(_) | Err(_) => all.extend(form(body)),
    }
    // Its own spelling decides nothing.
    all.retain(|(name, _)| !["signature", "Signature", "sig"].contains(&&**name));
    all.sort();
    // Of a payload in a header the body is only a copy.
    let in_header = ["x-gemini-payload", "x-txc-payload"];
    if request.headers.keys().any(|name| in_header.contains(&&*name.to_ascii_lowercase())) {
        all.clear();
    }
    (path.to_owned(), all)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}

fn form(text: &str) -> Vec<(String, String)> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (decoded(name, true), decoded(value, true))).collect()
}

fn decoded(text: &str, plus: bool) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) if plus => {
                bytes.push(b' ');
                rest = after;
            }
            (other, _) => {
                bytes.push(*other);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The template with its fields filled in, the query decoded if so asked; `None` where it has others than plain ones.
pub(crate) fn filled(
    dialect: &Dialect,
    inbound: &Inbound<'_>,
    form: Option<bool>,
) -> Option<String> {
    let template = dialect.template(inbound)?;
    let query = without_signature(dialect, inbound.query.unwrap_or_default());
    let query = form.map_or_else(|| query.clone(), |plus| decoded(&query, plus));
    let marked = if query.is_empty() { String::new() } else { format!("?{query}") };
    let mut values = BTreeMap::from([
        ("method", inbound.method.to_string()),
        ("host", inbound.host.to_owned()),
        ("path", inbound.path.to_owned()),
        ("query", query),
        ("?query", marked),
        ("body", without_signature(dialect, std::str::from_utf8(inbound.body).ok()?)),
        ("content-type", header(inbound, "content-type").unwrap_or_default()),
    ]);
    for (credential, place) in dialect.places() {
        let name = match credential {
            Credential::Key => "key",
            Credential::Time => "timestamp",
            Credential::Nonce => "nonce",
            Credential::Window => "window",
            Credential::Signature | Credential::Passphrase | Credential::Algorithm => continue,
        };
        let value = match place {
            Place::Header(field) => header(inbound, field.as_str()),
            Place::After(field, word) => header(inbound, field.as_str())
                .and_then(|value| value.strip_prefix(&format!("{word} ")).map(str::to_owned)),
            Place::Auth(item) => header(inbound, "authorization").and_then(|value| {
                let items = value.split_once(' ')?.1.split(',');
                let mut items = items.filter_map(|item| item.trim().split_once('='));
                items.find(|(name, _)| *name == &**item).map(|(_, value)| value.to_owned())
            }),
            Place::Param(_) | Place::Field(_) | Place::TokenHeader(_) | Place::TokenPayload(_) => {
                None
            }
        };
        values.extend(value.map(|value| (name, value)));
    }
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        text.push_str(before);
        text.push_str(values.get(name)?);
        rest = after;
    }
    Some(text + rest)
}

fn header(inbound: &Inbound<'_>, name: &str) -> Option<String> {
    let name = http::HeaderName::from_bytes(name.as_bytes()).ok()?;
    inbound.headers.get(&name)?.to_str().map(str::to_owned)
}

fn without_signature(dialect: &Dialect, text: &str) -> String {
    let place = dialect.places().find(|(credential, _)| *credential == Credential::Signature);
    let Some((_, Place::Param(name))) = place else { return text.to_owned() };
    let is_other = |pair: &&str| pair.split('=').next() != Some(&**name);
    text.split('&').filter(is_other).collect::<Vec<_>>().join("&")
}
