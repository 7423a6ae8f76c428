//! What becomes known of a registry.

use std::time::Duration;

use super::book::Record;

/// What a follower tells, from the control plane.
#[derive(Clone, Copy, Debug)]
pub enum News<'r> {
    /// The record of a ban, as it stands, and again whenever it changes.
    Ban(&'r Record),
    /// The record of a key that has changed.
    Key(&'r Record),
    /// The record of an account or application that has changed, and with it what all its keys may do.
    Holder(&'r Record),
    /// A change was applied, so long after it was made.
    Applied(Duration),
    /// Everything up to this revision is applied.
    Reached(u64),
    /// Keys have ended that requests under way have: they are to be cut.
    Ended,
    /// What is switched off has changed: what is open may not go on.
    Switched,
}

/// Hears the news, on the control plane: it must not block.
pub type Tell = Box<dyn Fn(News<'_>) + Send + Sync>;
