//! Names of header fields as an exchange writes them: to people, since HTTP takes any case.

use http::HeaderName;

use super::raw::Raw;
use super::{Dialect, Place};

/// The names of header fields as the recipe has them.
pub(super) type Spellings = Box<[Box<str>]>;

/// Every name of a header field that `raw` mentions.
pub(super) fn spellings(raw: &Raw) -> Spellings {
    let one = |place: &super::raw::RawPlace| place.r#in.clone();
    let passphrase = raw.passphrase.iter().flat_map(|raw| {
        let version = raw.keyed.as_ref().map(|keyed| keyed.by.clone());
        std::iter::once(raw.r#in.clone()).chain(version)
    });
    let places = std::iter::once(one(&raw.key))
        .chain(raw.payload.as_ref().map(one))
        .chain(raw.time.as_ref().map(|raw| raw.r#in.clone()))
        .chain(raw.nonce.as_ref().map(|raw| raw.r#in.clone()))
        .chain(raw.window.as_ref().and_then(|raw| raw.r#in.clone()))
        .chain(std::iter::once(raw.signature.r#in.clone()))
        .chain(raw.algorithm.as_ref().map(|raw| raw.r#in.clone()))
        .chain(passphrase)
        .chain(raw.sends.keys().cloned());
    let in_places = places.filter_map(|place| {
        let name = place.strip_prefix("header ")?;
        Some(name.split(' ').next().unwrap_or_default().to_owned())
    });
    let replies = raw.response.as_ref().map(|raw| raw.header.clone());
    let names = in_places.chain(raw.forward_headers.iter().cloned()).chain(replies);
    names.map(Into::into).collect()
}

impl Dialect {
    /// The name as the exchange writes it, as far as the recipe has it; else with capitals, as people do.
    pub fn spelled(&self, name: &HeaderName) -> String {
        let known = self.spellings.iter().find(|known| known.eq_ignore_ascii_case(name.as_str()));
        known.map_or_else(|| capitalised(name.as_str()), ToString::to_string)
    }

    /// The place, with names of header fields as the exchange writes them.
    pub fn spelled_place(&self, place: &Place) -> String {
        match place {
            Place::Header(name) => format!("header {}", self.spelled(name)),
            Place::After(name, word) => format!("header {} after \"{word}\"", self.spelled(name)),
            Place::Param(_)
            | Place::Field(_)
            | Place::Auth(_)
            | Place::TokenHeader(_)
            | Place::TokenPayload(_) => place.to_string(),
        }
    }
}

/// `x-key` as `X-Key`.
fn capitalised(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        first.to_ascii_uppercase() + rest
    });
    words.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::BUILTIN;

    #[test]
    fn names_are_spelled_as_their_exchange_has_them() {
        for (dialect, name, spelled) in [
            ("binance", "x-mbx-apikey", "X-MBX-APIKEY"),
            ("bitmex", "api-expires", "api-expires"),
            ("kucoin", "kc-api-key-version", "KC-API-KEY-VERSION"),
            ("okx", "content-type", "Content-Type"),
            ("kraken", "api-sign", "API-Sign"),
            ("gemini", "x-gemini-payload", "X-GEMINI-PAYLOAD"),
        ] {
            let (_, recipe) = BUILTIN.iter().find(|(known, _)| *known == dialect).unwrap();
            let dialect = Dialect::compile(recipe).unwrap();
            assert_eq!(dialect.spelled(&HeaderName::from_static(name)), spelled);
        }
    }
}
