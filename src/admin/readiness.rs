//! Whether the gateway should be sent traffic, and if not, why.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A reason to send traffic elsewhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotReady {
    /// Not everything has started.
    Starting,
    /// The store still refuses what it may have forgotten.
    Fence,
    /// The registry was never reached: none of its keys is known.
    Registry,
    /// Too few servers of the shared store are in order.
    Store,
    /// The state directory takes no mark: without it nothing signed is judged.
    Disk,
    /// The machine's clock was moved, and is not steady yet.
    Clock,
    /// No backend of some upstream is up.
    NoBackend,
    /// Shutting down.
    Draining,
}

impl NotReady {
    /// Every reason, with the name `/readyz` gives it.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Starting, "starting"),
        (Self::Fence, "fence not passed"),
        (Self::Registry, "registry not reached"),
        (Self::Store, "store not usable"),
        (Self::Disk, "state directory not writable"),
        (Self::Clock, "clock moved"),
        (Self::NoBackend, "no backend up"),
        (Self::Draining, "draining"),
    ];

    const fn bit(self) -> u8 {
        match self {
            Self::Starting => 1,
            Self::Fence => 1 << 1,
            Self::NoBackend => 1 << 2,
            Self::Draining => 1 << 3,
            Self::Registry => 1 << 4,
            Self::Store => 1 << 5,
            Self::Clock => 1 << 6,
            Self::Disk => 1 << 7,
        }
    }
}

/// The reasons that hold now. Clones share them.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// Of a gateway that begins to start: [`NotReady::Starting`] and [`NotReady::Fence`] hold.
    pub fn starting() -> Self {
        Self(Arc::new(AtomicU8::new(NotReady::Starting.bit() | NotReady::Fence.bit())))
    }

    /// From now on `reason` holds.
    pub fn hold(&self, reason: NotReady) {
        self.0.fetch_or(reason.bit(), Ordering::AcqRel);
    }

    /// From now on `reason` does not hold.
    pub fn clear(&self, reason: NotReady) {
        self.0.fetch_and(!reason.bit(), Ordering::AcqRel);
    }

    /// Whether no reason holds.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }

    /// The names of the reasons that hold.
    pub fn reasons(&self) -> Vec<&'static str> {
        let held = self.0.load(Ordering::Acquire);
        NotReady::ALL
            .iter()
            .filter(|(reason, _)| held & reason.bit() != 0)
            .map(|(_, name)| *name)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_once_every_reason_is_cleared() {
        let readiness = Readiness::starting();
        readiness.clear(NotReady::Starting);
        assert_eq!((readiness.is_ready(), readiness.reasons()), (false, vec!["fence not passed"]));
        readiness.clear(NotReady::Fence);
        assert_eq!((readiness.is_ready(), readiness.reasons()), (true, vec![]));
    }

    #[test]
    fn a_reason_held_twice_is_cleared_at_once_and_clones_share_it() {
        let readiness = Readiness::starting();
        let clone = readiness.clone();
        for (reason, _) in NotReady::ALL {
            clone.hold(reason);
            clone.hold(reason);
        }
        assert_eq!(readiness.reasons().len(), NotReady::ALL.len());
        for (reason, _) in NotReady::ALL {
            readiness.clear(reason);
        }
        assert!(clone.is_ready());
    }
}
