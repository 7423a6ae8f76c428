//! Stops a permission, or every request that shows a key, for all keys at once.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::key::Permissions;

/// What is switched off. Read by every request, written by hardly anybody.
#[derive(Debug, Default)]
pub struct Switches(AtomicU64);

impl Switches {
    /// From now on `stopped` is off, and nothing else is; with [`Permissions::ALL`], so is every request that shows a
    /// key, whatever its route asks for.
    pub fn set(&self, stopped: Permissions) {
        self.0.store(stopped.bits(), Ordering::Release);
    }

    /// What is off.
    pub fn stopped(&self) -> Permissions {
        Permissions::from_bits(self.0.load(Ordering::Acquire))
    }

    /// Whether what is left of `held` opens what asks for one of `asked`.
    pub(crate) fn leave(&self, held: Permissions, asked: Permissions) -> bool {
        let stopped = self.stopped();
        stopped != Permissions::ALL && held.without(stopped).open(asked)
    }
}
