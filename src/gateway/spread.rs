//! Which backend a request goes to: the least loaded, never one that keeps failing while another serves.

use std::cell::Cell;
use std::rc::Rc;

use super::backends::Backend;
use super::pool::Pool;
use crate::clock::Micros;

/// The backends of one upstream, as one worker sees them.
#[derive(Debug)]
pub(super) struct Group {
    pools: Box<[Rc<Pool>]>,
    rotation: Cell<usize>,
}

impl Group {
    pub(super) fn new(pools: impl Iterator<Item = Rc<Pool>>) -> Self {
        Self { pools: pools.collect(), rotation: Cell::new(0) }
    }

    pub(super) fn pools(&self) -> &[Rc<Pool>] {
        &self.pools
    }

    /// The backend to try next: one that is due for a probe; else of those that are up the one with the fewest
    /// requests in flight, ties in turn; else, since all are ejected, the one that may return first.
    pub(super) fn choose(&self, tried: &[usize], now: Micros) -> Option<Turn> {
        let start = self.rotation.replace(self.rotation.get().wrapping_add(1));
        let count = self.pools.len();
        let mut best: Option<(Rank, usize, &Rc<Pool>)> = None;
        for step in 0..count {
            let place = start.wrapping_add(step) % count;
            let Some(pool) = self.pools.get(place).filter(|_| !tried.contains(&place)) else {
                continue;
            };
            if pool.backend().claims_probe(now) {
                return Some(Turn::begin(pool, place, true));
            }
            let rank = Rank::of(pool.backend());
            if best.is_none_or(|(least, ..)| rank < least) {
                best = Some((rank, place, pool));
            }
        }
        best.map(|(_, place, pool)| Turn::begin(pool, place, false))
    }

    /// A second turn at a backend that had no connection free.
    pub(super) fn again(&self, place: usize) -> Option<Turn> {
        self.pools.get(place).map(|pool| Turn::begin(pool, place, false))
    }
}

/// Lower is better.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Rank {
    Up { in_flight: usize },
    Ejected { until: Micros },
}

impl Rank {
    fn of(backend: &Backend) -> Self {
        if backend.is_up() {
            Self::Up { in_flight: backend.in_flight() }
        } else {
            Self::Ejected { until: backend.ejected_until() }
        }
    }
}

/// One request at one backend, counted as in flight until dropped.
#[derive(Debug)]
pub(super) struct Turn {
    pool: Rc<Pool>,
    place: usize,
    is_probe: bool,
}

impl Turn {
    fn begin(pool: &Rc<Pool>, place: usize, is_probe: bool) -> Self {
        pool.backend().begin();
        Self { pool: Rc::clone(pool), place, is_probe }
    }

    pub(super) fn pool(&self) -> &Rc<Pool> {
        &self.pool
    }

    /// The backend's place among those of its upstream.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// The backend failed: it did not connect, did not answer in time, or broke off.
    pub(super) fn failed(&self) {
        self.pool.backend().failed(self.pool.now());
    }

    /// The backend gave its whole reply.
    pub(super) fn succeeded(&self) {
        self.pool.backend().succeeded();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pool.backend().end(self.is_probe);
    }
}
