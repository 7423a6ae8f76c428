//! Counts the failures of very many subjects in memory of fixed size.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Micros;
use crate::denial::Excess;
use crate::store::Limit;

/// How often each of many subjects failed, in memory of fixed size.
///
/// A subject has one cell in each of four rows, by a seeded hash, and stands as the best of them says. So nothing is ever
/// evicted or forgotten early, and there is no room to run out of. A flood from very many addresses fails towards
/// refusing: an address that did not fail is taken for one that did once all four of its cells are shared with such,
/// which 10,000 of them at their limit do to 1 address in 2,000.
#[derive(Debug)]
pub(super) struct Tally {
    limit: Limit,
    /// What one failure takes of the period, in microseconds.
    step: u64,
    period: u64,
    /// When all failures of a cell will have been lived down, in microseconds; four rows.
    cells: Box<[AtomicU64]>,
    /// The latest of them, so that in peace one look is enough.
    latest: AtomicU64,
}

impl Tally {
    pub(super) fn new(limit: Option<Limit>, cells: usize) -> Self {
        let unlimited = Limit { quota: u32::MAX, period: Duration::MAX };
        let cells = if limit.is_some() { ROWS * cells } else { 0 };
        let limit = limit.unwrap_or(unlimited);
        let period = u64::try_from(limit.period.as_micros()).unwrap_or(u64::MAX);
        Self {
            limit,
            step: period / u64::from(limit.quota.max(1)),
            period,
            cells: (0..cells).map(|_| AtomicU64::new(0)).collect(),
            latest: AtomicU64::new(0),
        }
    }

    /// Whether any subject at all has failed too often.
    pub(super) fn is_any_over(&self, now: Micros) -> bool {
        self.latest.load(Ordering::Relaxed).saturating_add(self.step) > self.full(now)
    }

    /// By how much `subject` has, if so. Told in whole seconds: no more than a client needs.
    pub(super) fn over(&self, subject: u64, now: Micros) -> Option<Excess> {
        let at = self.cells(subject).map(|cell| cell.load(Ordering::Relaxed)).min()?;
        let beyond = at.saturating_add(self.step).saturating_sub(self.full(now));
        let Limit { quota, period } = self.limit;
        let retry_after = Duration::from_secs(beyond.div_ceil(1_000_000));
        (beyond > 0).then_some(Excess { retry_after, level: quota, quota, period })
    }

    /// Counts one failure of `subject`. What is beyond the quota adds nothing, so that all is lived down one period after
    /// the last.
    pub(super) fn count(&self, subject: u64, now: Micros) {
        let full = self.full(now);
        let mut reached = 0;
        for cell in self.cells(subject) {
            let raised = |at: u64| at.max(now.0).saturating_add(self.step).min(full);
            let before = cell.update(Ordering::Relaxed, Ordering::Relaxed, |at| at.max(raised(at)));
            reached = before.max(raised(before)).max(reached);
        }
        self.latest.fetch_max(reached, Ordering::Relaxed);
    }

    /// Forgets what `subject` did, and whatever others did that share all of its cells.
    pub(super) fn clear(&self, subject: u64) {
        self.cells(subject).for_each(|cell| cell.store(0, Ordering::Relaxed));
    }

    /// Takes one try of `subject`, if there is one left. Whoever calls it sees to it that nobody else does meanwhile.
    ///
    /// Unlike [`Tally::count`] it adds the same to every cell, so that a try can be given back.
    pub(super) fn take(&self, subject: u64, now: Micros) -> Result<(), Excess> {
        if let Some(excess) = self.over(subject, now) {
            return Err(excess);
        }
        for cell in self.cells(subject) {
            cell.update(Ordering::Relaxed, Ordering::Relaxed, |at| {
                at.max(now.0).saturating_add(self.step)
            });
        }
        Ok(())
    }

    /// Gives a try of `subject` back that [`Tally::take`] took.
    pub(super) fn give_back(&self, subject: u64) {
        for cell in self.cells(subject) {
            cell.update(Ordering::Relaxed, Ordering::Relaxed, |at| at.saturating_sub(self.step));
        }
    }

    fn full(&self, now: Micros) -> u64 {
        now.0.saturating_add(self.period)
    }

    fn cells(&self, subject: u64) -> impl Iterator<Item = &AtomicU64> {
        let row = self.cells.len() / ROWS;
        self.cells.chunks_exact(row.max(1)).enumerate().filter_map(move |(number, cells)| {
            cells.get((subject >> (16 * number) & 0xffff) as usize % row)
        })
    }
}

const ROWS: usize = 4;
