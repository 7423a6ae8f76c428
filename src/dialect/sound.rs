//! Refuses a recipe under which a request could be altered or sent again for ever.

use http::Method;

use super::form::BodyIs;
use super::json_rendering::Style;
use super::template::{self, Field};
use super::{BodyKind, Dialect, Fate, Message, NonceKind, Place, Scheme};

pub(super) fn refuse_unsafe(dialect: &Dialect) -> Result<(), String> {
    if !dialect.is_guarded() {
        return Ok(());
    }
    match &dialect.scheme {
        Scheme::Text(_) | Scheme::Token(_) => refuse_unsafe_text(dialect, dialect.messages()),
        // Its compilation refuses what leaves a part unsigned.
        Scheme::Signatures(_) => Ok(()),
    }
}

fn refuse_unsafe_text(dialect: &Dialect, messages: &[Message]) -> Result<(), String> {
    let for_all = |message: &Message| {
        message.methods.is_none() && message.body.is_none() && message.under.is_none()
    };
    if !messages.last().is_some_and(for_all) {
        return Err(
            "message: the last one must hold for every request, so leave out its `methods`, `body` and `under`"
                .into(),
        );
    }
    let remembered = matches!(dialect.nonce_kind(), Some(NonceKind::Growing | NonceKind::Unique));
    if dialect.time.is_none() && !remembered {
        return Err(
            "neither `time` nor a growing or unique `nonce`: a captured request would be good for ever"
                .into(),
        );
    }
    let within = |place: &Place| matches!(place, Place::TokenHeader(_) | Place::TokenPayload(_));
    let is_token = matches!(dialect.scheme, Scheme::Token(_));
    if dialect.places().any(|(_, place)| within(place)) != is_token {
        return Err("`token` places and a table `[token]` belong together".into());
    }
    let items = dialect.places().any(|(_, place)| matches!(place, Place::Auth(_)));
    if items != dialect.authorization.is_some() {
        return Err("`auth` places and `authorization = \"SCHEME\"` belong together".into());
    }
    messages.iter().try_for_each(|message| refuse_unsigned(dialect, message))
}

fn refuse_unsigned(dialect: &Dialect, message: &Message) -> Result<(), String> {
    let text = message.text.escape_debug();
    let covers = |field| template::mentions(&message.parts, field);
    let has_forms = [Some(dialect.body), dialect.other_body].contains(&Some(BodyKind::Form));
    let signed = |place: &Place, field| match place {
        Place::Header(_)
        | Place::After(..)
        | Place::Auth(_)
        | Place::TokenHeader(_)
        | Place::TokenPayload(_) => covers(field),
        // A query or body that is not signed is refused, unless the recipe lets it pass.
        Place::Param(_) => {
            message.query != Fate::Passed && (!has_forms || message.entity != Fate::Passed)
        }
        // A rendering of the whole body covers each of its members.
        Place::Field(_) => {
            covers(field)
                || covers(Field::Payload)
                || covers(Field::Body)
                || message.params == Some(Style::BingX)
        }
    };
    let missing =
        |what: &str, then: &str| format!("message `{text}` does not sign the {what}: {then}");
    if let Some(time) = &dialect.time
        && !signed(&time.place, Field::Timestamp)
    {
        return Err(missing("time", "a captured request would be good for ever"));
    }
    if let Some(nonce) = &dialect.nonce
        && !signed(&nonce.place, Field::Nonce)
    {
        return Err(missing("nonce", "a captured request could be given another"));
    }
    if dialect.window.place.as_ref().is_some_and(|place| !signed(place, Field::Window)) {
        return Err(missing("window", "a captured request could be given a longer one"));
    }
    let nothing = message.query == Fate::Refused && message.entity == Fate::Refused;
    if nothing && message.body != Some(BodyIs::Empty) {
        return Err(format!("message `{text}` signs no parameters: they could be changed"));
    }
    let reads = message.methods.as_ref().is_some_and(|all| all.iter().all(is_read));
    if message.query == Fate::Passed && !reads {
        return Err(format!(
            "message `{text}` lets an unsigned query pass: name `methods` that only read"
        ));
    }
    Ok(())
}

fn is_read(method: &Method) -> bool {
    *method == Method::GET || *method == Method::HEAD
}
