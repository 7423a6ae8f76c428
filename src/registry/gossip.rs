//! What gateways tell each other through a registry, beside its records: words without version and history, kept as long
//! as they are of use, so that a flood of them fills nothing.
//!
//! The registry is what gateways have in common wherever there are several, with or without a shared store of replay
//! records: so words go by it, and by nothing else.

use crate::clock::Micros;

/// What words are about. The names are those of the stores: they never change.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Topic {
    /// Bans that gateways made: the address, the end, and how many came before.
    Ban,
    /// Last uses of secrets: [`of_secret`], the moment.
    Use,
    /// Up to when a gateway has told all uses: its name, the moment.
    Gateway,
}

impl Topic {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::Use => "use",
            Self::Gateway => "gateway",
        }
    }

    /// How many words there are of it at most: what comes then is dropped. Uses are as many as secrets.
    pub const fn most(self) -> Option<u64> {
        match self {
            Self::Ban => Some(100_000),
            Self::Gateway => Some(10_000),
            Self::Use => None,
        }
    }
}

/// Something that was told. Of two words of one id the one with the later moment counts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Word {
    /// What it is told of.
    pub id: String,
    /// The moment that it tells.
    pub at: Micros,
    /// What else it tells.
    pub detail: u32,
}

/// A place in the order in which words came; the default is before the first.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// Words that were told together have one turn.
    pub turn: u64,
    /// Within the turn they are in the order of their ids.
    pub id: String,
}

/// The id of words of a secret of a key.
pub fn of_secret(key: &str, number: u32) -> String {
    format!("{key}/{number}")
}

/// Each id once, with the word that counts.
pub(super) fn latest(mut words: Vec<Word>) -> Vec<Word> {
    words.sort_by(|a, b| (&a.id, b.at).cmp(&(&b.id, a.at)));
    words.dedup_by(|later, first| later.id == first.id);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_words_of_one_id_the_latest_is_left() {
        let word = |id: &str, at| Word { id: id.into(), at: Micros(at), detail: 0 };
        let left = latest(vec![word("b", 1), word("a", 2), word("b", 3), word("b", 2)]);
        assert_eq!(left, [word("a", 2), word("b", 3)]);
    }
}
