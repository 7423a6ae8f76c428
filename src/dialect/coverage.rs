//! What a dialect's signature does not cover, derived from the compiled recipe.

use super::form::BodyIs;
use super::template::{Field, mentions};
use super::{BodyKind, Dialect, Fate, Message, Place, Scheme};
use crate::denial::Credential;

/// What one message of a dialect signs, and what becomes of the rest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Coverage {
    /// The methods it holds for: `GET POST`, or `any other`.
    pub methods: String,
    /// The text of the message, as the recipe has it.
    pub text: String,
    /// The parts that are signed.
    pub signed: Vec<&'static str>,
    /// The parts that are not, and what is done about each.
    pub unsigned: Vec<(&'static str, &'static str)>,
}

impl Dialect {
    /// What each message signs.
    pub fn coverage(&self) -> Vec<Coverage> {
        match &self.scheme {
            Scheme::Text(_) | Scheme::Token(_) => {
                self.messages().iter().map(|message| self.cover(message)).collect()
            }
            Scheme::Signatures(rule) => vec![self.cover_signatures(rule)],
        }
    }

    /// Where each credential travels, for those that the dialect has.
    pub fn places(&self) -> impl Iterator<Item = (Credential, &Place)> {
        let always = [(Credential::Key, &self.key), (Credential::Signature, &self.signature)];
        let time = self.time.as_ref().map(|rule| (Credential::Time, &rule.place));
        let nonce = self.nonce.as_ref().map(|rule| (Credential::Nonce, &rule.place));
        let window = self.window.place.as_ref().map(|place| (Credential::Window, place));
        let passphrase = self.passphrase.as_ref();
        let passphrase = passphrase.map(|rule| (Credential::Passphrase, &rule.place));
        let algorithm = self.algorithm.as_ref();
        let algorithm = algorithm.map(|rule| (Credential::Algorithm, &rule.place));
        let all = always.into_iter().chain(time).chain(nonce).chain(window);
        all.chain(passphrase).chain(algorithm)
    }

    /// How long a stamp is good where the client asks for no window.
    pub fn default_window(&self) -> std::time::Duration {
        self.window.default
    }

    fn cover(&self, message: &Message) -> Coverage {
        let covers = |field| mentions(&message.parts, field);
        let time = self.time.as_ref().map(|rule| &rule.place);
        let nonce = self.nonce.as_ref().map(|rule| &rule.place);
        let carried = |place: Option<&Place>, field| {
            place.is_some_and(|place| covers(field) || place.header().is_none())
        };
        let parts = [
            (
                "method",
                covers(Field::Method),
                "bound by the replay record: a capture cannot come again with another",
            ),
            ("host", covers(Field::Host), "bound by the key's venue"),
            (
                "path",
                covers(Field::Path),
                "bound by the replay record: a capture cannot come again on another",
            ),
            ("query", message.query == Fate::Signed, unless_passed(message.query)),
            ("body", message.entity == Fate::Signed, self.body_note(message.entity)),
            (
                "time",
                carried(time, Field::Timestamp),
                "the dialect has none: its nonce must grow, or may come once",
            ),
            ("nonce", carried(nonce, Field::Nonce), "the dialect has none"),
            ("window", carried(self.window.place.as_ref(), Field::Window), "fixed by the recipe"),
            ("key id", covers(Field::Key) || self.key.header().is_none(), "bound by its secret"),
            ("content type", message.signs_type, self.content_type_note()),
            ("other headers", false, "only those on the forward list reach the backend"),
        ];
        let alone = self.messages().len() == 1;
        let mut methods = message.methods.as_ref().map_or_else(
            || if alone { "any".to_owned() } else { "any other".to_owned() },
            |all| all.iter().map(http::Method::as_str).collect::<Vec<_>>().join(" "),
        );
        methods.push_str(match message.body {
            None => "",
            Some(BodyIs::Empty) => " without a body",
            Some(BodyIs::A(BodyKind::Form)) => " with a form",
            Some(BodyIs::A(BodyKind::Json)) => " with JSON",
        });
        if let Some(prefix) = &message.under {
            methods.push_str(" under ");
            methods.push_str(prefix);
        }
        Coverage {
            methods,
            text: message.text.to_string(),
            signed: parts.iter().filter(|(_, signed, _)| *signed).map(|(name, ..)| *name).collect(),
            unsigned: parts
                .iter()
                .filter(|(_, signed, _)| !signed)
                .map(|(name, _, fate)| (*name, *fate))
                .collect(),
        }
    }

    fn body_note(&self, fate: Fate) -> &'static str {
        if self.payload.is_some() {
            "dropped: the backend gets the payload"
        } else {
            unless_passed(fate)
        }
    }

    pub(super) fn content_type_note(&self) -> &'static str {
        match (self.body, self.other_body) {
            (_, Some(_)) => {
                "any but what the body's first byte says is refused, and the backend gets that"
            }
            (BodyKind::Form, None) => "any but a form's is refused, and the backend gets a form's",
            (BodyKind::Json, None) => "any but JSON's is refused, and the backend gets JSON's",
        }
    }
}

const fn unless_passed(fate: Fate) -> &'static str {
    match fate {
        Fate::Passed => "forwarded as it came: whoever can alter it in flight may",
        Fate::Signed | Fate::Refused => "refused when present",
    }
}
