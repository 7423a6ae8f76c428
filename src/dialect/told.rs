//! What a dialect tells of itself: to its page, to `countersign dialects`, and to those who set it up.

use std::time::Duration;

use http::{HeaderName, StatusCode};

use super::{Dialect, Encoding, Example, Fate, Place, Reading};
use crate::denial::Condition;
use crate::key::Algorithm;

impl Dialect {
    /// Whose dialect it is, for people.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The names of the header fields that every reply carries to a client with a limit; one with `<interval>` is there
    /// for each limit of its kind.
    pub fn reply_header_names(&self) -> impl Iterator<Item = &str> {
        self.refusals.reply_header_names()
    }

    /// Where its rules come from.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// What the recipe's author wants operators to know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// A request that its clients send.
    pub fn example(&self) -> &Example {
        &self.example
    }

    /// Whether clients may ask for a window.
    pub fn asks_window(&self) -> bool {
        self.window.place.is_some()
    }

    /// Whether a passphrase belongs to each key.
    pub fn has_passphrase(&self) -> bool {
        self.passphrase.is_some()
    }

    /// The algorithms its keys may have.
    pub fn algorithms(&self) -> impl Iterator<Item = Algorithm> {
        self.encodings.iter().map(|(algorithm, _)| *algorithm)
    }

    /// How its signed time is written, in words, where it has one.
    pub fn time_unit(&self) -> Option<&'static str> {
        self.time.as_ref().map(|time| time.unit.in_words())
    }

    /// The conditions that the recipe words, with status and body.
    pub fn worded(&self) -> impl Iterator<Item = (Condition, StatusCode, String)> {
        self.refusals.worded()
    }

    /// The same with what the gateway fills in as the recipe has it: `<now_ms>`.
    pub fn wording(&self) -> impl Iterator<Item = (Condition, StatusCode, String)> {
        self.refusals.wording()
    }

    /// The header fields that every reply carries, as the recipe has them.
    pub fn reply_wording(&self) -> impl Iterator<Item = (&str, String)> {
        self.refusals.reply_wording()
    }

    /// What clients send beside credentials: places, each with its text.
    pub fn sends(&self) -> impl Iterator<Item = (&Place, &str)> {
        self.sends.iter().map(|(place, text)| (place, &**text))
    }

    /// The parameters that may occur, where the signed text does not separate them: by method, `*` for all others.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.names.iter().map(|(method, names)| (&**method, names.all()))
    }

    /// Parameters of which no other stands beside them, by the one that comes first.
    pub fn parameter_sets(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.sets.iter().map(|(first, names)| (&**first, names.all()))
    }

    /// How signatures are written, by algorithm.
    pub fn encodings(&self) -> impl Iterator<Item = (Algorithm, Encoding)> {
        self.encodings.iter().copied()
    }

    /// The ways in which a query may have been read before it was signed.
    pub fn readings(&self) -> &[Reading] {
        &self.readings
    }

    /// The same, where only its operator can switch them on.
    pub fn lenient_readings(&self) -> &[Reading] {
        &self.lenient
    }

    /// The header fields that its clients need passed on, beside those that always are.
    pub fn forward_headers(&self) -> &[HeaderName] {
        &self.forward_headers
    }

    /// The longest window a client may ask for.
    pub fn max_window(&self) -> Duration {
        self.window.max
    }

    /// The header field that holds the payload, where there is one.
    #[cfg(feature = "server")]
    pub(crate) fn payload_header(&self) -> Option<&HeaderName> {
        self.payload.as_ref()
    }

    /// How far ahead of the clock a stamp may lie.
    pub fn future(&self) -> Duration {
        self.time.as_ref().map_or(Duration::ZERO, |time| time.future)
    }

    /// Whether its signed time counts whole seconds, so that honest clients may send identical bytes twice.
    pub fn counts_seconds(&self) -> bool {
        // Where a nonce is signed too, two requests never are the same bytes.
        self.nonce.is_none() && self.time.as_ref().is_some_and(|time| time.unit.counts_seconds())
    }

    /// Whether a body reaches backends that no signature covers.
    pub fn passes_unsigned_body(&self) -> bool {
        self.messages().iter().any(|message| message.entity == Fate::Passed)
    }
}
