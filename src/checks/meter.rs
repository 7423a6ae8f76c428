//! What a limit counts, for whom, how, and when: all that configuration says of one.

use sha2::{Digest, Sha256};

pub use crate::store::{Charged, Counts};
use crate::store::{Limit, Scope, Subject, Window};

/// A limit with everything that is said of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Meter {
    /// How much.
    pub limit: Limit,
    /// How it is counted.
    pub window: Window,
    /// For whom.
    pub scope: Scope,
    /// What a request takes of it.
    pub counts: Counts,
    /// Which requests.
    pub lane: Lane,
    /// Which of them, once the backend has answered.
    pub charged: Charged,
    /// Whether it is counted and not enforced.
    pub shadow: bool,
    /// A digest of its name: requests that name the same limit share it, on every gateway. 0 for a limit that is not
    /// shared.
    pub name: u64,
}

/// The requests that a limit is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Lane {
    /// All of them; all but those that only cancel, where a limit of the same key is for these.
    #[default]
    All,
    /// Those that only cancel: what places anything too does not ride here.
    Cancel,
}

impl Meter {
    /// A digest of a limit's name.
    pub fn digest(name: &str) -> u64 {
        let digest = Sha256::digest(name.as_bytes());
        digest.first_chunk().map_or(1, |half| u64::from_le_bytes(*half)).max(1)
    }

    /// The allowance of `owner`: another one where the same limit is counted in another way, since what one way
    /// remembers says nothing to another.
    pub(crate) fn subject(&self, owner: u64) -> Subject {
        let way = match self.window {
            Window::Bucket => return Subject(owner),
            Window::Sliding => 1,
            Window::Fixed => 2,
        };
        let period = u64::try_from(self.limit.period.as_nanos()).unwrap_or(u64::MAX);
        Subject(owner ^ (period ^ way).wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }
}

impl From<Limit> for Meter {
    /// A bucket of each key's own.
    fn from(limit: Limit) -> Self {
        Self {
            limit,
            window: Window::Bucket,
            scope: Scope::Key,
            counts: Counts::Weight,
            lane: Lane::All,
            charged: Charged::Always,
            shadow: false,
            name: 0,
        }
    }
}
