//! What is counted while a run goes on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::cpu;
use super::mix::Kind;
use super::wire::Reply;

/// What became of a request.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// An answer came.
    Answered { reply: Reply, right: bool },
    /// No connection could be made.
    NoConnection(String),
    /// The connection broke before the answer was complete.
    Broken(String),
    /// No answer in time.
    TimedOut,
}

/// Counts of one kind of request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct ByKind {
    pub(super) sent: u64,
    pub(super) right: u64,
    pub(super) wrong: u64,
}

/// The counts of a thread, or of all when merged.
#[derive(Debug)]
pub(super) struct Tally {
    /// From when the request was due (open loop) or sent (closed loop) to the end of the answer, in nanoseconds.
    pub(super) latency: Histogram<u64>,
    /// From when the request was sent to the end of the answer.
    pub(super) service: Histogram<u64>,
    /// From when the request was due to when it was sent.
    pub(super) lag: Histogram<u64>,
    pub(super) kinds: [ByKind; 4],
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) no_connection: u64,
    pub(super) broken: u64,
    pub(super) timed_out: u64,
    pub(super) reconnects: u64,
    /// The first wrong answer of each kind, and the first error.
    pub(super) samples: BTreeMap<&'static str, String>,
    pub(super) last_done: Option<Instant>,
    pub(super) cpu: Vec<cpu::Share>,
}

/// How much of a wrong answer is shown, in bytes.
const SAMPLE: usize = 200;

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            latency: histogram(),
            service: histogram(),
            lag: histogram(),
            kinds: [ByKind::default(); 4],
            statuses: BTreeMap::new(),
            no_connection: 0,
            broken: 0,
            timed_out: 0,
            reconnects: 0,
            samples: BTreeMap::new(),
            last_done: None,
            cpu: Vec::new(),
        }
    }

    /// Records a request that was `due`, `sent` and `done`. One without an answer has no latency.
    pub(super) fn record(
        &mut self,
        kind: Kind,
        due: Instant,
        sent: Instant,
        done: Instant,
        outcome: Outcome,
    ) {
        self.last_done = self.last_done.max(Some(done));
        if let Some(counts) = self.kinds.get_mut(kind.place()) {
            counts.sent += 1;
        }
        match outcome {
            Outcome::Answered { reply, right } => {
                self.latency.saturating_record(nanos(done - due));
                self.service.saturating_record(nanos(done - sent));
                self.lag.saturating_record(nanos(sent - due));
                *self.statuses.entry(reply.status.as_u16()).or_default() += 1;
                self.judge(kind, right, &reply);
            }
            Outcome::NoConnection(error) => {
                self.no_connection += 1;
                self.samples.entry("connect").or_insert(error);
            }
            Outcome::Broken(error) => {
                self.broken += 1;
                self.samples.entry("broken").or_insert(error);
            }
            Outcome::TimedOut => self.timed_out += 1,
        }
    }

    fn judge(&mut self, kind: Kind, right: bool, reply: &Reply) {
        let Some(counts) = self.kinds.get_mut(kind.place()) else { return };
        if right {
            counts.right += 1;
            return;
        }
        counts.wrong += 1;
        let name = Kind::ALL.get(kind.place()).map_or("", |(_, name)| name);
        self.samples.entry(name).or_insert_with(|| {
            let beginning = reply.beginning.get(..SAMPLE).unwrap_or(&reply.beginning);
            format!("{} {}", reply.status.as_u16(), String::from_utf8_lossy(beginning))
        });
    }

    /// Adds what another thread counted.
    pub(super) fn merge(&mut self, other: &Self) {
        // Both have the same bounds, so adding cannot fail.
        let _ = self.latency.add(&other.latency);
        let _ = self.service.add(&other.service);
        let _ = self.lag.add(&other.lag);
        for (counts, more) in self.kinds.iter_mut().zip(&other.kinds) {
            counts.sent += more.sent;
            counts.right += more.right;
            counts.wrong += more.wrong;
        }
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        self.no_connection += other.no_connection;
        self.broken += other.broken;
        self.timed_out += other.timed_out;
        self.reconnects += other.reconnects;
        for (name, sample) in &other.samples {
            self.samples.entry(name).or_insert_with(|| sample.clone());
        }
        self.last_done = self.last_done.max(other.last_done);
        self.cpu.extend(&other.cpu);
    }
}

/// Three digits, from a nanosecond to an hour.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000_000, 3)
        .unwrap_or_else(|_| unreachable!("constant bounds"))
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;

    use super::super::pace::Schedule;
    use super::*;

    fn answered(right: bool) -> Outcome {
        let beginning = Bytes::from_static(b"{}");
        Outcome::Answered { reply: Reply { status: StatusCode::OK, beginning }, right }
    }

    /// One connection, 1,000 requests a second, each served in 100 us but for one that stalls for a second.
    fn stalled_once(open: bool) -> Tally {
        let (schedule, start) = (Schedule::new(1_000), Instant::now());
        let (mut tally, mut free) = (Tally::new(), start);
        for n in 0..4_000 {
            let due = start + schedule.at(n);
            let sent = due.max(free);
            let stalls = n == 1_000;
            let done =
                sent + if stalls { Duration::from_secs(1) } else { Duration::from_micros(100) };
            free = done;
            tally.record(Kind::Valid, if open { due } else { sent }, sent, done, answered(true));
        }
        tally
    }

    #[test]
    fn a_stall_shows_in_the_percentiles_of_an_open_loop() {
        let tally = stalled_once(true);
        let p99 = tally.latency.value_at_quantile(0.99);
        assert!(p99 > 900_000_000, "{p99}");
        assert!(tally.service.value_at_quantile(0.99) < 200_000);
        assert!(tally.lag.max() > 900_000_000);
    }

    #[test]
    fn the_same_stall_hides_where_latency_counts_from_sending() {
        let tally = stalled_once(false);
        assert!(tally.latency.value_at_quantile(0.99) < 200_000);
    }

    #[test]
    fn wrong_answers_and_errors_are_counted_apart_and_add_up_when_merged() {
        let (mut all, mut one) = (Tally::new(), Tally::new());
        let now = Instant::now();
        one.record(Kind::Valid, now, now, now, answered(true));
        one.record(Kind::Replay, now, now, now, answered(false));
        one.record(Kind::Stale, now, now, now, Outcome::TimedOut);
        one.record(Kind::Stale, now, now, now, Outcome::Broken("reset".into()));
        all.merge(&one);
        all.merge(&one);
        assert_eq!(all.kinds[Kind::Valid.place()], ByKind { sent: 2, right: 2, wrong: 0 });
        assert_eq!(all.kinds[Kind::Replay.place()], ByKind { sent: 2, right: 0, wrong: 2 });
        assert_eq!(all.kinds[Kind::Stale.place()], ByKind { sent: 4, right: 0, wrong: 0 });
        assert_eq!((all.timed_out, all.broken, all.statuses[&200]), (2, 2, 4));
        assert_eq!(all.samples["replay"], "200 {}");
        assert_eq!(all.latency.len(), 4);
    }
}
