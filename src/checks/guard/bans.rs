//! Keeps addresses that go on failing out for a while, for longer each time, and those that an operator names.
//!
//! There is no room for a flood to fill: an address comes in only after it has failed hundreds of times by itself, and
//! when there is no room left what has ended goes first. An address that finds none is told to wait, and not banned.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use foldhash::fast::RandomState;

use super::tally::Tally;
use crate::clock::Micros;
use crate::denial::Excess;
use crate::store::Limit;

/// When an address is banned, and for how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BanBounds {
    /// Failures of an address that was told to wait, after which it is banned. Bounded as all failures are.
    pub after: Limit,
    /// How long the first ban is; each one after it is twice as long as the last.
    pub first: Duration,
    /// How long the longest is.
    pub longest: Duration,
    /// How long after a ban the next one is the first again.
    pub forget: Duration,
    /// The most addresses that are banned or remembered for it, about 80 bytes each. Bans by hand are not counted.
    pub most: usize,
}

impl Default for BanBounds {
    fn default() -> Self {
        Self {
            after: Limit { quota: 100, period: Duration::from_mins(10) },
            first: Duration::from_mins(2),
            longest: Duration::from_hours(72),
            forget: Duration::from_hours(24),
            most: 50_000,
        }
    }
}

/// A ban, as gateways tell each other of it too.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub struct Ban {
    /// The IPv4 address, or the first of the /64.
    pub network: IpAddr,
    /// When it ends.
    pub until: Micros,
    /// How many came before it.
    pub level: u8,
    /// Whether an operator made it.
    pub by_hand: bool,
}

/// Bans, and those that ended lately.
#[derive(Debug)]
pub(super) struct Bans {
    bounds: Option<BanBounds>,
    /// Failures of addresses that were told to wait.
    insisting: Tally,
    held: DashMap<IpAddr, Ban, RandomState>,
    /// How many there are, to be asked without a lock.
    count: AtomicUsize,
    /// Those that were made here and not yet told.
    untold: Mutex<VecDeque<Ban>>,
    /// When room was last made, in seconds.
    tidied: AtomicU64,
}

impl Bans {
    pub(super) fn new(bounds: Option<BanBounds>) -> Self {
        Self {
            bounds,
            insisting: Tally::new(bounds.map(|bounds| bounds.after), INSIST_CELLS),
            held: DashMap::with_hasher(RandomState::default()),
            count: AtomicUsize::new(0),
            untold: Mutex::default(),
            tidied: AtomicU64::new(0),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// The ban that holds for it.
    pub(super) fn of(&self, network: IpAddr, now: Micros) -> Option<Ban> {
        if self.is_empty() {
            return None;
        }
        self.held.get(&network).map(|ban| *ban).filter(|ban| now < ban.until)
    }

    /// What to tell of a ban that ends then. In whole seconds: no more than a client needs.
    pub(super) fn excess(&self, until: Micros, now: Micros) -> Excess {
        let micros = until.since(now).as_micros();
        let retry_after =
            Duration::from_secs(u64::try_from(micros.div_ceil(1_000_000)).unwrap_or(u64::MAX));
        let Limit { quota, period } = self.bounds.map_or(NO_LIMIT, |bounds| bounds.after);
        Excess { retry_after, level: quota, quota, period }
    }

    /// Counts a failure of an address that was told to wait; what to tell it, if that brings a ban.
    pub(super) fn insist(&self, network: IpAddr, subject: u64, now: Micros) -> Option<Excess> {
        let bounds = self.bounds.as_ref()?;
        let is_enough = self.insisting.over(subject, now).is_some();
        self.insisting.count(subject, now);
        let ban = if is_enough { self.escalate(bounds, network, now)? } else { return None };
        self.insisting.clear(subject);
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        if untold.len() >= MOST_UNTOLD {
            untold.pop_front();
        }
        untold.push_back(ban);
        Some(self.excess(ban.until, now))
    }

    pub(super) fn by_hand(&self, network: IpAddr, until: Micros) {
        self.held.insert(network, Ban { network, until, level: 0, by_hand: true });
        self.recount();
    }

    pub(super) fn lift(&self, network: IpAddr, subject: u64) -> bool {
        self.insisting.clear(subject);
        let lifted = self.held.remove(&network).is_some();
        self.recount();
        lifted
    }

    /// Takes a ban over from another gateway: of two the later end and the higher level count.
    pub(super) fn learn(&self, told: &Ban, now: Micros) {
        let Some(bounds) = &self.bounds else { return };
        // Another's clock, or an older configuration, bans nobody for longer than ours would.
        let until = told.until.min(now + bounds.longest);
        if until <= now || !self.has_room(bounds, told.network, now) {
            return;
        }
        let told = Ban { until, level: told.level.min(MOST_LEVELS), by_hand: false, ..*told };
        self.held
            .entry(told.network)
            .and_modify(|ban| {
                ban.until = ban.until.max(told.until);
                ban.level = ban.level.max(told.level);
            })
            .or_insert(told);
        self.recount();
    }

    pub(super) fn all(&self, now: Micros) -> Vec<Ban> {
        let held = self.held.iter().map(|ban| *ban).filter(|ban| now < ban.until);
        let mut all: Vec<Ban> = held.collect();
        all.sort_by_key(|ban| ban.network);
        all
    }

    pub(super) fn fresh(&self) -> Vec<Ban> {
        std::mem::take(&mut *self.untold.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }

    fn escalate(&self, bounds: &BanBounds, network: IpAddr, now: Micros) -> Option<Ban> {
        if !self.has_room(bounds, network, now) {
            return None;
        }
        let first = Ban { network, until: now + bounds.first, level: 0, by_hand: false };
        let ban = match self.held.entry(network) {
            Entry::Vacant(free) => *free.insert(first),
            Entry::Occupied(mut taken) => {
                let last = taken.get_mut();
                if now < last.until {
                    return Some(*last);
                }
                *last = if now < last.until + bounds.forget && !last.by_hand {
                    let level = last.level.saturating_add(1).min(MOST_LEVELS);
                    let span = bounds.first.saturating_mul(1 << level).min(bounds.longest);
                    Ban { until: now + span, level, ..first }
                } else {
                    first
                };
                *last
            }
        };
        self.recount();
        Some(ban)
    }

    /// Whether one more fits, after clearing away what is forgotten, or else what has ended; tried once a second.
    fn has_room(&self, bounds: &BanBounds, network: IpAddr, now: Micros) -> bool {
        let fits = || self.held.len() < bounds.most;
        if fits() || self.held.contains_key(&network) {
            return true;
        }
        let second = now.0 / 1_000_000;
        if self.tidied.swap(second, Ordering::Relaxed) != second {
            self.held.retain(|_, ban| now < ban.until + bounds.forget);
            if !fits() {
                self.held.retain(|_, ban| now < ban.until);
            }
            self.recount();
        }
        fits()
    }

    fn recount(&self) {
        self.count.store(self.held.len(), Ordering::Relaxed);
    }
}

const NO_LIMIT: Limit = Limit { quota: 1, period: Duration::from_secs(1) };
const INSIST_CELLS: usize = 1 << 14;
/// Doubled so often, two minutes are longer than any ban.
const MOST_LEVELS: u8 = 20;
/// Bans that wait to be told, at most; the oldest go first.
const MOST_UNTOLD: usize = 1_024;
