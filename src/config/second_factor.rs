//! `[second_factor]`, and `second_factor` of a route: where the code of the account's second factor travels.

use std::sync::Arc;

use http::HeaderName;

use super::document::{Node, Spot, Table, text};
use super::load::section;
use super::problem::{Fault, Reported, shown};
use super::secrets::secret;
use super::value::boolean;
use crate::admit::{Ask, Challenges, CodePlace, SecondFactor};
use crate::dialect::{Dialect, Place};
use crate::store::Repeat;

/// `[second_factor]`: the key of challenges, or a random one of this process.
pub(super) fn challenges(root: &Table<'_>) -> Option<Arc<Challenges>> {
    let table = section(root, "second_factor");
    let node = table.as_ref().and_then(|table| table.find("challenge_key"));
    let challenges = match &node {
        None => Challenges::new().map_err(|error| {
            root.spot.error(Fault::new(format!("the system gives no random bytes: {error}")));
        }),
        Some(node) => shared(node).ok_or(()),
    };
    table.iter().for_each(Table::finish);
    challenges.ok().map(Arc::new)
}

fn shared(node: &Node<'_>) -> Option<Challenges> {
    let key = secret(node)?;
    if key.len() < 32 {
        let problem = "the key is shorter than 32 bytes";
        node.spot.error(Fault::cured(problem, "make one with `openssl rand -hex 32`"));
        return None;
    }
    Challenges::shared(&key).ok()
}

/// The second factor that a route asks for, `None` where it asks for none. `challenges` are those of all routes.
pub(super) fn second_factor(
    route: &Table<'_>,
    ask: Option<&Ask>,
    repeat: Option<Repeat>,
    challenges: Option<&Arc<Challenges>>,
) -> Result<Option<SecondFactor>, Reported> {
    let Some(node) = route.find("second_factor") else { return Ok(None) };
    let table = node.table().ok_or(Reported)?;
    let place = place(&table);
    let challenge = table.or("challenge", false, boolean);
    table.finish();
    let (place, ask) = (place.ok_or(Reported)?, ask.ok_or(Reported)?);
    let Ask::Signed(dialect) = ask else {
        let problem = "only a signed request has an account, and so a second factor";
        return refuse(&node.spot, Fault::cured(problem, "leave `second_factor` out"));
    };
    if repeat == Some(Repeat::SameRoute) {
        let problem = "a code is good once, so the same bytes cannot come again";
        return refuse(&node.spot, Fault::cured(problem, "leave `replay` out"));
    }
    if holds_credential(dialect, &place) {
        let problem = "the dialect keeps a credential of its own there";
        return refuse(&node.spot, Fault::cured(problem, "choose another name"));
    }
    if challenge && matches!(place, CodePlace::Member(_)) {
        let problem =
            "with the code in the JSON, a challenge would hold for no other code than the first";
        return refuse(
            &node.spot,
            Fault::cured(problem, "take a header field, as header = \"x-otp\""),
        );
    }
    if challenge && !dialect.tells_content_apart() {
        return refuse(
            &node.spot,
            Fault::cured(
                format!(
                    "dialect {} has its time or nonce within the content, so a challenge would hold for no other \
                     signature than the first",
                    dialect.name()
                ),
                "leave `challenge` out",
            ),
        );
    }
    let challenges = if challenge { Some(Arc::clone(challenges.ok_or(Reported)?)) } else { None };
    Ok(Some(SecondFactor { place, challenges }))
}

fn place(table: &Table<'_>) -> Option<CodePlace> {
    let places = [table.find("header"), table.find("parameter"), table.find("member")];
    match places {
        [Some(header), None, None] => self::header(&header).map(CodePlace::Header),
        [None, Some(parameter), None] => plain(&parameter).map(CodePlace::Parameter),
        [None, None, Some(member)] => plain(&member).map(CodePlace::Member),
        [None, None, None] => {
            let problem = "none of `header`, `parameter` and `member` is given";
            table.spot.error(Fault::cured(problem, "say where the code is, as header = \"x-otp\""));
            None
        }
        _ => {
            let problem = "more than one of `header`, `parameter` and `member` is given";
            table.spot.error(Fault::cured(problem, "keep one"));
            None
        }
    }
}

/// The name of a parameter or member.
fn plain(node: &Node<'_>) -> Option<Box<str>> {
    node.read(|value| {
        let name = text(value)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if (1..=64).contains(&name.len()) && name.bytes().all(plain) {
            return Ok(name.into());
        }
        let problem = format!("\"{}\" is no name of a parameter", shown(name));
        Err(Fault::cured(problem, "use up to 64 letters, digits, `-` and `_`"))
    })
}

fn header(node: &Node<'_>) -> Option<HeaderName> {
    node.read(|value| {
        let text = text(value)?;
        let name = HeaderName::try_from(text)
            .map_err(|_| Fault::new(format!("\"{}\" is no header field", shown(text))))?;
        let lower = name.as_str();
        let is_taken = ["x-forwarded-", "x-countersign-", "countersign-"]
            .iter()
            .any(|prefix| lower.starts_with(prefix));
        if !is_taken && !is_standard(&name) {
            return Ok(name);
        }
        let problem = format!("`{lower}` has a meaning of its own");
        Err(Fault::cured(problem, "choose another, as header = \"x-otp\""))
    })
}

/// Whether HTTP itself, or everyone, uses the field.
fn is_standard(name: &HeaderName) -> bool {
    use http::header as of;
    let known = [
        of::ACCEPT,
        of::ACCEPT_ENCODING,
        of::ACCEPT_LANGUAGE,
        of::AUTHORIZATION,
        of::CONNECTION,
        of::CONTENT_LENGTH,
        of::CONTENT_TYPE,
        of::COOKIE,
        of::DATE,
        of::EXPECT,
        of::FORWARDED,
        of::HOST,
        of::ORIGIN,
        of::PROXY_AUTHORIZATION,
        of::REFERER,
        of::TE,
        of::TRAILER,
        of::TRANSFER_ENCODING,
        of::UPGRADE,
        of::USER_AGENT,
        of::VIA,
    ];
    known.contains(name)
        || ["traceparent", "tracestate", "keep-alive", "x-request-id"].contains(&name.as_str())
}

fn holds_credential(dialect: &Dialect, place: &CodePlace) -> bool {
    dialect.places().any(|(_, known)| match place {
        CodePlace::Header(name) => known.header() == Some(name),
        CodePlace::Parameter(name) => matches!(known, Place::Param(known) if known == name),
        CodePlace::Member(name) => matches!(known, Place::Field(known) if **known == **name),
    })
}

fn refuse<T>(spot: &Spot<'_>, fault: Fault) -> Result<T, Reported> {
    spot.error(fault);
    Err(Reported)
}
