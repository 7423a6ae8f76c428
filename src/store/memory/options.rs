//! How the embedded store is opened.

use std::path::PathBuf;
use std::time::Duration;

/// How large the store may grow, and what it must withstand.
#[derive(Clone, Debug)]
pub struct Options {
    /// The most requests remembered at once, up to 2^29; one with a nonce of its own counts twice. Memory for them is
    /// taken at open: about 60 bytes each.
    pub max_records: usize,
    /// The most of them that one account may take.
    pub max_records_per_account: u32,
    /// The most subjects of limits that are not paid off, about 36 bytes each.
    pub max_subjects: usize,
    /// The most subjects of sliding and fixed windows that are not over, about 96 bytes each.
    pub max_windows: usize,
    /// The most keys that sign with growing numbers; their marks are kept for ever.
    pub max_marks: usize,
    /// The most nonces without a clock that may ever be accepted: each is kept for ever, in 28 bytes of memory (for
    /// all of them, as soon as there are some) and 32 in the state directory. When they are used up, such requests
    /// are refused until there may be more.
    pub max_unique: usize,
    /// The most of them that one secret of a key may use up.
    pub max_unique_per_key: u32,
    /// The directory that holds what must outlive the process. Without one, a clock set back across a restart can
    /// bring back what was accepted.
    pub state_dir: Option<PathBuf>,
    /// The furthest ahead of now that any freshness rule accepts a stamp; stamps further ahead are refused.
    pub future_skew: Duration,
    /// The longest lead of any deadline that is to be judged. A longer one may be asked for: the first deadline that is
    /// signed so far ahead waits for the disk to take note of it, 250 ms.
    pub longest_lead: Duration,
    /// How far this machine's clock may be from the clocks that gateways before it used; zero where it is the only
    /// one.
    pub clock_bound: Duration,
    /// The coarsest unit that any client writes a stamp in. The fence ends with a whole one, so that whoever signs
    /// right after it is judged.
    pub stamp_unit: Duration,
    /// Keeps the marks of growing numbers, and unique nonces, in memory alone where there is no state directory: for
    /// tests and demonstrations, since a restart forgets them. For the same reason codes of second factors are then good
    /// at once, and not only once those are over that a process before may have taken.
    pub volatile_marks: bool,
    /// How far beyond the present, counted in nanoseconds since the epoch, a growing number may lie; one further
    /// ahead is refused, and changes nothing.
    ///
    /// Nanoseconds are the finest clock that clients count in, so no slip locks a key out for longer than this,
    /// restarts and crashes included: its owner can always go on in nanoseconds, or at once with a new secret.
    /// Numbers in its own coarser unit (seconds, milliseconds, microseconds, a counter) do not pass again where the
    /// slip was larger than they will ever be; within its own unit, a slip costs as long as it was ahead.
    pub max_jump: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_records: 1_000_000,
            max_records_per_account: 100_000,
            max_subjects: 1_000_000,
            max_windows: 16_384,
            max_marks: 1_000_000,
            max_unique: 10_000_000,
            max_unique_per_key: 5_000_000,
            state_dir: None,
            future_skew: Duration::from_secs(1),
            longest_lead: Duration::ZERO,
            clock_bound: Duration::ZERO,
            stamp_unit: Duration::from_millis(1),
            volatile_marks: false,
            max_jump: Duration::from_hours(1),
        }
    }
}
