//! What a run found, for people and as one JSON document.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::mix::Kind;
use super::tally::Tally;
use super::worker::Work;

/// What a run found. Its JSON is stable within one `schema_version`; times are in microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// 1.
    pub schema_version: u32,
    /// Where to.
    pub target: String,
    /// How requests were signed.
    pub dialect: String,
    /// `open` or `closed`.
    pub r#loop: &'static str,
    /// The rate that was asked for, in an open loop.
    pub asked_rps: Option<u64>,
    /// Connections.
    pub connections: usize,
    /// Threads.
    pub threads: usize,
    /// Keys.
    pub keys: usize,
    /// Kinds of request, as shares.
    pub mix: String,
    /// From the end of the warm-up to the last answer.
    pub seconds: f64,
    /// Measured requests, answered or not.
    pub requests: u64,
    /// Answers per second.
    pub rps: f64,
    /// In an open loop from when a request was due, in a closed one from when it was sent, to the end of its answer.
    pub latency_us: Latency,
    /// From when a request was sent.
    pub service_us: Latency,
    /// In an open loop, from when a request was due to when it was sent: all connections were busy, or the
    /// generator was late.
    pub lag_us: Option<Latency>,
    /// In an open loop, requests that were due and not sent when the run ended.
    pub unsent: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Counts by kind of request.
    pub kinds: BTreeMap<&'static str, KindReport>,
    /// Answers that their request must not get.
    pub wrong_answers: u64,
    /// Requests without an answer.
    pub errors: Errors,
    /// Connections that were opened after the first of each worker, in the warm-up too.
    pub reconnects: u64,
    /// The first wrong answer of each kind and the first error of each sort.
    pub samples: BTreeMap<&'static str, String>,
    /// What generating the load took.
    pub generator: Generator,
    /// What the reader should know before believing the numbers.
    pub warnings: Vec<String>,
}

/// Percentiles, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// Half were faster.
    pub p50: f64,
    /// Nine of ten were faster.
    pub p90: f64,
    /// All but one in 100 were faster.
    pub p99: f64,
    /// All but one in 1,000 were faster.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

/// Counts of one kind of request.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct KindReport {
    /// Sent.
    pub sent: u64,
    /// Answered as it must be.
    pub right: u64,
    /// Answered otherwise.
    pub wrong: u64,
}

/// Requests without an answer.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Errors {
    /// No connection could be made.
    pub connect: u64,
    /// The connection broke.
    pub broken: u64,
    /// No answer in time.
    pub timeout: u64,
}

impl Errors {
    /// All of them.
    pub const fn total(&self) -> u64 {
        self.connect + self.broken + self.timeout
    }
}

/// What generating the load took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Generator {
    /// CPU seconds of all its threads; `None` where the system does not tell.
    pub cpu_seconds: Option<f64>,
    /// CPU per measured request.
    pub cpu_us_per_request: Option<f64>,
    /// How busy its busiest thread was, from 0 to 1.
    pub busiest_thread: Option<f64>,
    /// For which part of the time a thread of it was ready to run and had no CPU, from 0 to 1: the worst of them.
    pub waiting_for_cpu: Option<f64>,
    /// Whether the busiest thread is over 0.9, so that the numbers tell of the generator rather than of the target.
    pub saturated: bool,
}

/// How busy a thread may be before its numbers are doubted.
const SATURATED: f64 = 0.9;
/// How long it may wait for a CPU before they are.
const CROWDED: f64 = 0.1;

impl Report {
    pub(super) fn of(work: &Work, tally: &Tally) -> Self {
        let options = &work.options;
        let requests = tally.kinds.iter().map(|counts| counts.sent).sum();
        let last =
            tally.last_done.map(|done| done.saturating_duration_since(work.plan.measured_from()));
        let seconds = last.unwrap_or_default().as_secs_f64();
        let kind = |(kind, name): (Kind, &'static str)| {
            let counts = tally.kinds.get(kind.place()).copied().unwrap_or_default();
            let (sent, right, wrong) = (counts.sent, counts.right, counts.wrong);
            (name, KindReport { sent, right, wrong })
        };
        let open = options.rate.is_some();
        let by_count = options.count.is_some_and(|count| requests >= count);
        let mut report = Self {
            schema_version: 1,
            target: options.target.to_string(),
            dialect: options.dialect.name().to_string(),
            r#loop: if open { "open" } else { "closed" },
            asked_rps: options.rate.map(std::num::NonZeroU64::get),
            connections: options.connections.get(),
            threads: options.threads.get(),
            keys: options.keys.len(),
            mix: options.mix.to_string(),
            seconds,
            requests,
            rps: if seconds > 0.0 { float(tally.latency.len()) / seconds } else { 0.0 },
            latency_us: Latency::of(&tally.latency),
            service_us: Latency::of(&tally.service),
            lag_us: open.then(|| Latency::of(&tally.lag)),
            unsent: if open && !by_count { work.plan.unsent() } else { 0 },
            statuses: tally.statuses.clone(),
            kinds: Kind::ALL.into_iter().map(kind).filter(|(_, counts)| counts.sent > 0).collect(),
            wrong_answers: tally.kinds.iter().map(|counts| counts.wrong).sum(),
            errors: Errors {
                connect: tally.no_connection,
                broken: tally.broken,
                timeout: tally.timed_out,
            },
            reconnects: tally.reconnects,
            samples: tally.samples.clone(),
            generator: Generator::of(tally, requests),
            warnings: Vec::new(),
        };
        report.warn();
        report
    }

    /// Whether something was measured and every request got the answer it must get.
    pub fn is_fine(&self) -> bool {
        self.wrong_answers == 0 && self.errors.total() == 0 && self.requests > 0
    }

    fn warn(&mut self) {
        if self.requests == 0 {
            self.warnings.push("nothing was measured".into());
        }
        if self.generator.saturated {
            self.warnings.push(
                "the generator itself was saturated: use more --threads, or believe the numbers as a lower bound"
                    .into(),
            );
        }
        if let Some(waiting) = self.generator.waiting_for_cpu.filter(|part| *part > CROWDED) {
            let percent = waiting * 100.0;
            self.warnings.push(format!(
                "the generator waited for a CPU {percent:.0} % of the time: latencies hold that wait"
            ));
        }
        if self.unsent * 100 > self.requests {
            self.warnings.push(format!(
                "{} requests were due and never sent: the target, the connections or the generator did not keep up",
                self.unsent
            ));
        }
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let micros = |quantile| float(histogram.value_at_quantile(quantile)) / 1_000.0;
        Self {
            p50: micros(0.5),
            p90: micros(0.9),
            p99: micros(0.99),
            p999: micros(0.999),
            max: float(histogram.max()) / 1_000.0,
            mean: histogram.mean() / 1_000.0,
        }
    }
}

impl Generator {
    fn of(tally: &Tally, requests: u64) -> Self {
        let known = !tally.cpu.is_empty();
        let cpu: f64 = tally.cpu.iter().map(|share| share.cpu.as_secs_f64()).sum();
        let busiest = tally.cpu.iter().map(|share| share.busy()).fold(0.0, f64::max);
        let waiting = tally.cpu.iter().map(|share| share.waiting()).fold(0.0, f64::max);
        Self {
            cpu_seconds: known.then_some(cpu),
            cpu_us_per_request: (known && requests > 0).then(|| cpu * 1e6 / float(requests)),
            busiest_thread: known.then_some(busiest),
            waiting_for_cpu: known.then_some(waiting),
            saturated: busiest > SATURATED,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { p50, p99, p999, max, .. } = self.latency_us;
        writeln!(
            f,
            "{:.0} requests/s; p50 {p50:.0} us, p99 {p99:.0} us, p99.9 {p999:.0} us, max {max:.0} us; {} errors, {} wrong answers",
            self.rps,
            self.errors.total(),
            self.wrong_answers
        )?;
        let asked = self.asked_rps.map(|rate| format!(" at {rate}/s")).unwrap_or_default();
        writeln!(
            f,
            "{} requests to {} ({}) in {:.2} s: {} loop{asked}, {} connections, {} threads, {} keys, {}",
            self.requests,
            self.target,
            self.dialect,
            self.seconds,
            self.r#loop,
            self.connections,
            self.threads,
            self.keys,
            self.mix
        )?;
        if let Some(lag) = self.lag_us {
            let Latency { p50, p99, max, .. } = self.service_us;
            writeln!(
                f,
                "from sending alone: p50 {p50:.0} us, p99 {p99:.0} us, max {max:.0} us; sent late by p50 {:.0} us, p99 {:.0} us",
                lag.p50, lag.p99
            )?;
        }
        for (status, count) in &self.statuses {
            writeln!(f, "status {status}: {count}")?;
        }
        for (name, counts) in &self.kinds {
            let KindReport { sent, right, wrong } = counts;
            writeln!(f, "{name}: {sent} sent, {right} answered rightly, {wrong} wrongly")?;
        }
        let Errors { connect, broken, timeout } = self.errors;
        if self.errors.total() > 0 {
            writeln!(f, "errors: {connect} no connection, {broken} broken, {timeout} timed out")?;
        }
        if self.reconnects > 0 {
            writeln!(f, "reconnects: {}", self.reconnects)?;
        }
        for (name, sample) in &self.samples {
            writeln!(f, "for example, {name}: {sample}")?;
        }
        self.generator.fmt(f)?;
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(cpu), Some(busiest)) = (self.cpu_seconds, self.busiest_thread) else {
            return Ok(());
        };
        let each = self.cpu_us_per_request.unwrap_or_default();
        let percent = busiest * 100.0;
        writeln!(
            f,
            "generator: {cpu:.2} CPU s, {each:.1} us per request, busiest thread {percent:.0} %"
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds stay far below 2^53")]
fn float(number: u64) -> f64 {
    number as f64
}
