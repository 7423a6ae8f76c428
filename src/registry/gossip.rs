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
    /// Which revision a gateway has applied: its name, when it said so, and the revision's lower 32 bits.
    Applied,
}

impl Topic {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::Use => "use",
            Self::Gateway => "gateway",
            Self::Applied => "applied",
        }
    }

    /// How many words there are of it at most: what comes then is dropped. Uses are as many as secrets.
    pub const fn most(self) -> Option<u64> {
        match self {
            Self::Ban => Some(100_000),
            Self::Gateway | Self::Applied => Some(10_000),
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

/// The lower half of a revision, as words tell it.
pub const fn of_revision(revision: u64) -> u32 {
    let [_, _, _, _, rest @ ..] = revision.to_be_bytes();
    u32::from_be_bytes(rest)
}

/// Whether a gateway that told `detail` has applied `revision`.
pub const fn has_applied(detail: u32, revision: u64) -> bool {
    detail.wrapping_sub(of_revision(revision)) < 1 << 31
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
    fn a_revision_is_applied_by_whoever_is_there_or_beyond() {
        for (told, asked, applied) in [
            (7, 7, true),
            (8, 7, true),
            (6, 7, false),
            (0, 0, true),
            ((1 << 32) + 1, u64::from(u32::MAX), true),
            (u64::from(u32::MAX), (1 << 32) + 1, false),
        ] {
            assert_eq!(has_applied(of_revision(told), asked), applied, "{told} {asked}");
        }
    }

    #[test]
    fn of_several_words_of_one_id_the_latest_is_left() {
        let word = |id: &str, at| Word { id: id.into(), at: Micros(at), detail: 0 };
        let left = latest(vec![word("b", 1), word("a", 2), word("b", 3), word("b", 2)]);
        assert_eq!(left, [word("a", 2), word("b", 3)]);
    }
}
