//! The latest moments that were signed, which a clean close leaves as its mark.

use crate::clock::Micros;
use crate::store::SignedTime;

/// The latest signed times that were accepted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Highest {
    pub(super) stamp: Micros,
    pub(super) deadline: Micros,
}

impl Highest {
    pub(super) fn raise(&mut self, time: SignedTime) {
        match time {
            SignedTime::Stamp(at) => self.stamp = self.stamp.max(at),
            SignedTime::Deadline { at, lead: _ } => self.deadline = self.deadline.max(at),
            SignedTime::Growing { key: _, nonce: _, window: _ }
            | SignedTime::Unique { key: _, nonce: _ } => {}
        }
    }
}
