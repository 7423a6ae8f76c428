//! Keeps addresses that go on failing out for a while, for longer each time, and those that an operator names.
//!
//! There is no room for a flood to fill: an address comes in only after it has failed hundreds of times by itself, and
//! when there is no room left what has ended goes first. An address that finds none is told to wait, and not banned.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
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
    /// Whether they are told to other gateways, and those of others are kept to here.
    pub share: bool,
}

impl Default for BanBounds {
    fn default() -> Self {
        Self {
            after: Limit { quota: 100, period: Duration::from_mins(10) },
            first: Duration::from_mins(2),
            longest: Duration::from_hours(72),
            forget: Duration::from_hours(24),
            most: 50_000,
            share: true,
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
    made: AtomicU64,
    learnt: AtomicU64,
    /// By level, the last for all above.
    refused: [AtomicU64; LEVELS],
    refused_by_hand: AtomicU64,
}

/// How bans stand, and what came of them since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BanCounts {
    /// Those that hold now.
    pub active: usize,
    /// Bans that were made of failures here.
    pub made: u64,
    /// Those that other gateways made, and that hold longer than what was known here.
    pub learnt: u64,
    /// Requests that were refused, by how many bans the address had before: none, one, and so on, the last for all
    /// above.
    pub refused: [u64; LEVELS],
    /// Requests that were refused for a ban by hand.
    pub refused_by_hand: u64,
}

/// Levels of bans that are counted each by itself.
pub const LEVELS: usize = 6;

impl Bans {
    pub(super) fn new(bounds: Option<BanBounds>) -> Self {
        Self {
            bounds,
            insisting: Tally::new(bounds.map(|bounds| bounds.after), INSIST_CELLS),
            held: DashMap::with_hasher(RandomState::default()),
            count: AtomicUsize::new(0),
            untold: Mutex::default(),
            tidied: AtomicU64::new(0),
            made: AtomicU64::new(0),
            learnt: AtomicU64::new(0),
            refused: Default::default(),
            refused_by_hand: AtomicU64::new(0),
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

    /// What to tell whoever this ban stops.
    pub(super) fn refuse(&self, ban: &Ban, now: Micros) -> Excess {
        let of_level = self.refused.get(usize::from(ban.level).min(LEVELS - 1));
        let count = of_level.filter(|_| !ban.by_hand).unwrap_or(&self.refused_by_hand);
        count.fetch_add(1, Ordering::Relaxed);
        self.excess(ban.until, now)
    }

    /// What to tell of a ban that ends then. In whole seconds: no more than a client needs.
    fn excess(&self, until: Micros, now: Micros) -> Excess {
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
        self.made.fetch_add(1, Ordering::Relaxed);
        self.to_be_told(ban);
        Some(self.refuse(&ban, now))
    }

    /// Queues a ban for other gateways.
    pub(super) fn to_be_told(&self, ban: Ban) {
        let mut untold = self.untold();
        if untold.len() >= MOST_UNTOLD {
            untold.pop_front();
        }
        untold.push_back(ban);
    }

    fn untold(&self) -> MutexGuard<'_, VecDeque<Ban>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn by_hand(&self, network: IpAddr, until: Micros) {
        self.held.insert(network, Ban { network, until, level: 0, by_hand: true });
        self.recount();
    }

    pub(super) fn lift(&self, network: IpAddr, subject: u64) -> bool {
        self.insisting.clear(subject);
        self.untold().retain(|ban| ban.network != network);
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
        let is_new = match self.held.entry(told.network) {
            Entry::Vacant(free) => {
                free.insert(told);
                true
            }
            Entry::Occupied(mut taken) => {
                let ban = taken.get_mut();
                // What an operator said stands, and no longer than they said.
                if ban.by_hand && now < ban.until {
                    return;
                }
                let is_new = ban.until < told.until;
                let level = ban.level.max(told.level);
                *ban = Ban { until: ban.until.max(told.until), level, ..told };
                is_new
            }
        };
        self.learnt.fetch_add(u64::from(is_new), Ordering::Relaxed);
        self.recount();
    }

    pub(super) fn counts(&self, now: Micros) -> BanCounts {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        BanCounts {
            active: self.held.iter().filter(|ban| now < ban.until).count(),
            made: count(&self.made),
            learnt: count(&self.learnt),
            refused: self.refused.each_ref().map(count),
            refused_by_hand: count(&self.refused_by_hand),
        }
    }

    pub(super) fn all(&self, now: Micros) -> Vec<Ban> {
        let held = self.held.iter().map(|ban| *ban).filter(|ban| now < ban.until);
        let mut all: Vec<Ban> = held.collect();
        all.sort_by_key(|ban| ban.network);
        all
    }

    pub(super) fn fresh(&self, most: usize) -> Vec<Ban> {
        let mut untold = self.untold();
        let count = untold.len().min(most);
        untold.drain(..count).collect()
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
