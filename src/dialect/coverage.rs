//! What a dialect's signature does not cover, derived from the compiled recipe.

use super::template::{Field, mentions};
use super::{BodyKind, Dialect, Message, Place};
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
        self.messages().iter().map(|message| self.cover(message)).collect()
    }

    /// Where each credential travels, for those that the dialect has.
    pub fn places(&self) -> impl Iterator<Item = (Credential, &Place)> {
        let always = [
            (Credential::Key, &self.key),
            (Credential::Time, &self.time.place),
            (Credential::Signature, &self.signature),
        ];
        let window = self.window.place.as_ref().map(|place| (Credential::Window, place));
        let passphrase = self.passphrase.as_ref().map(|place| (Credential::Passphrase, place));
        always.into_iter().chain(window).chain(passphrase)
    }

    /// How long a stamp is good where the client asks for no window.
    pub fn default_window(&self) -> std::time::Duration {
        self.window.default
    }

    fn cover(&self, message: &Message) -> Coverage {
        let covers = |field| mentions(&message.parts, field);
        let in_param = |place: &Place| matches!(place, Place::Param(_));
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
            ("query", message.signs_query, "refused when present"),
            ("body", message.signs_body, "refused when present"),
            ("time", covers(Field::Timestamp) || in_param(&self.time.place), "refused at load"),
            (
                "window",
                covers(Field::Window) || self.window.place.as_ref().is_some_and(in_param),
                "fixed by the recipe",
            ),
            ("key id", covers(Field::Key), "bound by its secret"),
            ("content type", false, self.content_type_note()),
            ("other headers", false, "only those on the forward list reach the backend"),
        ];
        let methods = message.methods.as_ref().map_or_else(
            || if self.messages().len() == 1 { "any".to_owned() } else { "any other".to_owned() },
            |all| all.iter().map(http::Method::as_str).collect::<Vec<_>>().join(" "),
        );
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

    fn content_type_note(&self) -> &'static str {
        match self.body {
            BodyKind::Form => "any but a form's is refused, and the backend gets a form's",
            BodyKind::Json => "any but JSON's is refused, and the backend gets JSON's",
        }
    }
}
