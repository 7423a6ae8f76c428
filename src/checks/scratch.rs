//! Memory that is used again for each request.

use std::fmt;
use std::sync::Arc;

use super::limit::Standing;
use super::look::LONGEST;
use super::signature::Signed;
use crate::dialect::Room;
use crate::key::Key;

/// Memory that one worker reuses, so that nothing is allocated or cleared for each request.
pub struct Scratch {
    /// What a claim borrows.
    pub(crate) room: Room,
    pub(crate) bench: Bench,
    /// The proof of a request that is refused.
    pub(crate) refused: Option<Signed>,
    pub(crate) standing: Standing,
}

/// The part of a scratch that proofs need.
pub(crate) struct Bench {
    /// A whole message, for asymmetric signatures.
    pub(super) message: Vec<u8>,
    /// A signature with its `%XX` decoded.
    pub(super) unescaped: Box<[u8; 2 * LONGEST]>,
    /// A signature in bytes.
    pub(super) signature: Box<[u8; LONGEST]>,
    pub(super) verifications: u64,
}

impl Scratch {
    /// Memory for messages of common size; a longer one makes it grow.
    pub fn new() -> Self {
        Self {
            room: Room::default(),
            bench: Bench {
                message: Vec::with_capacity(4_096),
                unescaped: Box::new([0; 2 * LONGEST]),
                signature: Box::new([0; LONGEST]),
                verifications: 0,
            },
            refused: None,
            standing: Standing::default(),
        }
    }

    /// Takes whose request was judged last, where that was proved, and it was refused nonetheless.
    pub fn take_key(&mut self) -> Option<Arc<Key>> {
        self.refused.take().map(Signed::into_key)
    }

    /// How full the limits are that the request which was judged last is charged to; where it was refused, as far as that
    /// is known: all but the one that refused it.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// How many asymmetric signatures were verified with it, the costly work of a gateway.
    pub fn verifications(&self) -> u64 {
        self.bench.verifications
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scratch(..)")
    }
}
