//! What a registry is: records with versions, changed by compare-and-set, every change in the history.
//!
//! A registry knows nothing of what its records mean: [`super::records`] does. So its two stores stay small, and one
//! suite proves that they behave alike.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::gossip::{Place, Topic, Word};
use crate::clock::Micros;

/// What a record is about. The names are those of the stores: they never change.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// An API key.
    Key,
    /// A holder of keys.
    Account,
    /// A vetted third party that keys are made for.
    Application,
    /// The second factor of an account.
    Factor,
    /// A switch that stops a permission, or all of them.
    Switch,
    /// An act that waits for a second person.
    Approval,
    /// An address that is kept out.
    Ban,
    /// What the registry keeps of itself, as the keys that audit checkpoints are signed with.
    Own,
}

impl Kind {
    /// Every kind with its name.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Key, "key"),
        (Self::Account, "account"),
        (Self::Application, "application"),
        (Self::Factor, "factor"),
        (Self::Switch, "switch"),
        (Self::Approval, "approval"),
        (Self::Ban, "ban"),
        (Self::Own, "own"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }
}

/// A record as it stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// What it is about.
    pub kind: Kind,
    /// Its name, unique within the kind.
    pub id: String,
    /// 1 when it was made, one more with each change.
    pub version: u64,
    /// The registry's revision that brought this version.
    pub revision: u64,
    /// The account it belongs to, to list by.
    pub account: Option<String>,
    /// The application it was made for, to list by.
    pub application: Option<String>,
    /// What it says, as JSON. Secrets in it are sealed.
    pub body: Vec<u8>,
}

/// One record to be written. Nothing is ever deleted: what ends is written as ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Write {
    /// What it is about.
    pub kind: Kind,
    /// Its name.
    pub id: String,
    /// The version that it replaces; `None` makes a new record and fails where there is one.
    pub replaces: Option<u64>,
    /// The account it belongs to.
    pub account: Option<String>,
    /// The application it was made for.
    pub application: Option<String>,
    /// What it says, as JSON.
    pub body: Vec<u8>,
}

/// Who changed something, when and why: a row of the history for each record written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    /// When.
    pub at: Micros,
    /// Who, as the admin API knows them.
    pub actor: String,
    /// What was done, as `keys.revoke`.
    pub action: String,
    /// Why, in the words of whoever did it.
    pub reason: Option<String>,
}

/// A change that was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// The record as the change left it.
    pub record: Record,
    /// Who made it, when and why.
    pub note: Note,
}

/// What to list: records of one kind in the order of their ids.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Query {
    /// What they are about.
    pub kind: Kind,
    /// Only those of this account.
    pub account: Option<String>,
    /// Only those of this application.
    pub application: Option<String>,
    /// Only those after this id: the cursor.
    pub after: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// Why a registry did not do what it was asked, in the order it can happen.
#[derive(Clone, Debug)]
pub enum RegistryError {
    /// It cannot be reached, or does not answer in time. Whether a write was made is not known.
    Unavailable(String),
    /// Its format is not the one this program knows; the text says the cure.
    Format(String),
    /// What it holds cannot be read.
    Damaged(String),
    /// A record is not the one that the write replaces: it was changed in between, or is new, or is gone.
    Conflict {
        /// Which kind of record.
        kind: Kind,
        /// Which one.
        id: String,
        /// The version that stands there; `None` when there is none.
        version: Option<u64>,
    },
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => write!(f, "the registry does not answer: {why}"),
            Self::Format(why) => write!(f, "the registry has another format: {why}"),
            Self::Damaged(why) => write!(f, "the registry is damaged: {why}"),
            Self::Conflict { kind, id, version: None } => {
                write!(f, "there is no {} {id}", kind.name())
            }
            Self::Conflict { kind, id, version: Some(version) } => {
                write!(f, "{} {id} is at version {version} by now", kind.name())
            }
        }
    }
}

impl std::error::Error for RegistryError {}

/// An answer of a registry, once it comes.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, RegistryError>> + Send + 'a>>;

/// Keeps records. Once a write is answered, no crash loses it.
pub trait Registry: fmt::Debug + Send + Sync {
    /// One record as it stands.
    fn find(&self, kind: Kind, id: &str) -> Answer<'_, Option<Record>>;

    /// Writes all of `writes` or none, with a row of history for each, and answers the new revision: one more than
    /// the last. It fails with [`RegistryError::Conflict`] where a record is not at the version that a write replaces,
    /// and where it stands twice in `writes`. Nothing to write is no change: the revision stays.
    fn commit(&self, writes: Vec<Write>, note: Note) -> Answer<'_, u64>;

    /// Records as they stand, in the order of their ids (by bytes).
    fn list(&self, query: Query) -> Answer<'_, Vec<Record>>;

    /// Changes of one record, the newest first, at most `limit`, from before the revision `before` where it is given.
    fn history(
        &self,
        kind: Kind,
        id: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Answer<'_, Vec<Change>>;

    /// Every change after `revision` in the order they were made, at most `limit` rows; those of one revision are
    /// never parted, so that the first may bring more.
    fn since(&self, revision: u64, limit: usize) -> Answer<'_, Vec<Change>>;

    /// The revision of the last change; 0 where there was none.
    fn revision(&self) -> Answer<'_, u64>;

    /// Returns when a change after `revision` may have been made, or soon anyway: a hint to ask [`Registry::since`].
    fn changed(&self, revision: u64) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// [`Tag::short`](crate::key::Tag::short) of every key's id, to know in memory which ids there can be, and the
    /// revision it was true at.
    fn key_tags(&self) -> Answer<'_, (Vec<u64>, u64)>;

    /// Names of accounts that have keys, each once, in the order of their bytes, from behind `after` on, at most `limit`.
    fn holders(&self, _after: Option<String>, _limit: usize) -> Answer<'_, Vec<String>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Whether other gateways may have it open as well.
    fn is_shared(&self) -> bool {
        true
    }

    /// Keeps each of `words` that is later than what is known of its id, as long as there is room
    /// ([`Topic::most`]), and forgets words of the topic from before `forget`. They make no revision, and a crash may
    /// lose those that came last. A registry that keeps none has nothing to tell.
    fn tell(&self, _topic: Topic, _words: Vec<Word>, _forget: Option<Micros>) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Words that came after `after`, in the order they came, at most `limit`.
    fn told(&self, _topic: Topic, _after: Place, _limit: usize) -> Answer<'_, Vec<(Place, Word)>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// What is told of these ids, in no order.
    fn told_of(&self, _topic: Topic, _ids: Vec<String>) -> Answer<'_, Vec<Word>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    /// Forgets what is told of this id.
    fn unsay(&self, _topic: Topic, _id: &str) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Reserves the numbers up to `up_to` of the mark of this name, where fewer than those up to `least` are reserved,
    /// and answers up to which they are then. That never falls, makes no revision, and is lost to no crash once it
    /// was answered. A registry that keeps none says so.
    fn reserve(&self, _mark: [u8; 16], _least: u64, _up_to: u64) -> Answer<'_, u64> {
        Box::pin(std::future::ready(Err(keeps_no_marks())))
    }

    /// Up to which number those of the mark of this name are reserved; 0 where none is.
    fn reserved(&self, _mark: [u8; 16]) -> Answer<'_, u64> {
        Box::pin(std::future::ready(Err(keeps_no_marks())))
    }
}

fn keeps_no_marks() -> RegistryError {
    RegistryError::Unavailable("it keeps no marks of growing numbers".into())
}
