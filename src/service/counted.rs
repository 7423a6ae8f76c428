//! Counts what the data plane tells, and logs what an operator must know.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::admin::{NotReady, Readiness};
use crate::denial::Denial;
use crate::gateway::forward::ForwardFault;
use crate::gateway::observe::{
    End, Finished, Observer, Outcome, Passed, Tally, TurnedAway, WebSocketClosed,
};
use crate::metrics::{self, Metrics, StoreRefusal, UpstreamOutcome, Worker};

/// Hears of connections.
pub(super) struct Counted {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    told_full: Told,
    told_address_full: Told,
}

/// When something was last told that could fill the log: once a minute is enough where a metric counts it.
#[derive(Default)]
struct Told(Mutex<Option<Instant>>);

impl Told {
    /// Whether it is to be told again, which is noted.
    fn is_due(&self) -> bool {
        let now = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| now.duration_since(last) >= TELL_AGAIN);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

const TELL_AGAIN: Duration = Duration::from_mins(1);

impl Counted {
    pub(super) fn new(metrics: Arc<Metrics>, readiness: Readiness) -> Self {
        Self { metrics, readiness, told_full: Told::default(), told_address_full: Told::default() }
    }
}

impl Observer for Counted {
    type Tally = Counts;

    fn tally(&self) -> Counts {
        Counts { worker: self.metrics.worker(), metrics: Arc::clone(&self.metrics) }
    }

    fn connection_opened(&self, listener: usize) {
        if let Some(meter) = self.metrics.listener(listener) {
            meter.opened();
        }
    }

    fn connection_closed(&self, listener: usize, end: End) {
        let Some(meter) = self.metrics.listener(listener) else { return };
        meter.closed(end);
        if end == End::Panicked {
            tracing::error!("a handler panicked; its connection was closed");
        }
    }

    fn connection_refused(&self, listener: usize, why: TurnedAway) {
        if let Some(meter) = self.metrics.listener(listener) {
            meter.refused(why);
        }
        let (told, bound) = match why {
            TurnedAway::Full => (&self.told_full, "server.max_connections"),
            TurnedAway::AddressFull => {
                (&self.told_address_full, "server.max_connections_per_address")
            }
            // The acceptor knows more of it, and has told.
            TurnedAway::Unaccepted => return,
        };
        if told.is_due() {
            tracing::warn!("connections are refused: there are as many as `{bound}` allows");
        }
    }

    fn draining(&self) {
        self.readiness.hold(NotReady::Draining);
    }
}

/// Counts the requests of one worker.
pub(super) struct Counts {
    worker: Worker,
    metrics: Arc<Metrics>,
}

impl Tally for Counts {
    fn finished(&self, finished: &Finished<'_>) {
        let route = match finished.route {
            Some(id) => self.worker.route(id),
            None => self.worker.unrouted(),
        };
        match finished.denial {
            Some(denial) => {
                route.denied(denial, finished.verify);
                self.count_store(denial);
            }
            None if finished.verify.is_zero() => {}
            None => route.admitted(finished.verify),
        }
        if !finished.shadowed.is_empty() {
            route.shadowed(finished.shadowed);
        }
        if let Some(skew) = finished.skew {
            route.skew(skew.signed, skew.now);
        }
        if let Some((upstream, took)) = finished.upstream
            && let Some(meter) = self.worker.upstream(upstream)
        {
            let answered = finished.status.is_some();
            meter.finish(upstream_outcome(finished.outcome, answered, finished.unheard), took);
        }
        route.finish(outcome(finished.outcome), finished.total);
        if let Outcome::Failed(fault) = finished.outcome {
            tracing::warn!(
                request_id = finished.request_id.as_str(),
                ?fault,
                "no answer from a backend, or not all of it"
            );
        }
    }

    fn websocket_opened(&self, route: u16) {
        if let Some(meter) = self.metrics.websocket(route) {
            meter.opened();
        }
    }

    fn websocket_passed(&self, route: u16, passed: Passed) {
        if let Some(meter) = self.metrics.websocket(route) {
            meter.passed(passed);
        }
    }

    fn websocket_closed(&self, closed: &WebSocketClosed<'_>) {
        if let Some(meter) = self.metrics.websocket(closed.route) {
            meter.closed(closed.parting);
        }
    }

    fn flush(&self) {
        self.worker.flush();
    }
}

impl Counts {
    fn count_store(&self, denial: &Denial) {
        let why = if matches!(denial, Denial::StoreFull) {
            StoreRefusal::Full
        } else if matches!(denial, Denial::Fenced(_)) {
            StoreRefusal::Fenced
        } else if matches!(denial, Denial::Unavailable) {
            StoreRefusal::Unavailable
        } else {
            return;
        };
        if let Some(store) = self.metrics.store(0) {
            store.refused(why);
        }
    }
}

const fn outcome(outcome: Outcome) -> metrics::Outcome {
    match outcome {
        Outcome::Forwarded | Outcome::Answered => metrics::Outcome::Accepted,
        Outcome::Denied => metrics::Outcome::Rejected,
        Outcome::Failed(_) | Outcome::Panicked => metrics::Outcome::BackendError,
        Outcome::Aborted => metrics::Outcome::ClientGone,
        Outcome::Cut => metrics::Outcome::Cut,
    }
}

/// `answered` is whether an answer began, `unheard` what is known of the backend where none did.
const fn upstream_outcome(
    outcome: Outcome,
    answered: bool,
    unheard: Option<ForwardFault>,
) -> UpstreamOutcome {
    match outcome {
        Outcome::Forwarded | Outcome::Answered | Outcome::Denied => UpstreamOutcome::Ok,
        Outcome::Failed(fault) => match fault {
            ForwardFault::NoBackend | ForwardFault::Unsent | ForwardFault::Expired => {
                UpstreamOutcome::Unsent
            }
            ForwardFault::TimedOut => UpstreamOutcome::Timeout,
            ForwardFault::Unknown | ForwardFault::BadReply => UpstreamOutcome::Unknown,
        },
        // The client left it, or was cut off from it: the backend is not to blame.
        Outcome::Aborted | Outcome::Cut if answered => UpstreamOutcome::Ok,
        Outcome::Aborted | Outcome::Cut | Outcome::Panicked => match unheard {
            Some(ForwardFault::Unsent) => UpstreamOutcome::Unsent,
            Some(_) | None => UpstreamOutcome::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_blamed_for_what_it_did_and_not_for_a_client_that_leaves() {
        use ForwardFault::{NoBackend, TimedOut, Unknown, Unsent};
        for (outcome, answered, unheard, blamed) in [
            (Outcome::Forwarded, true, None, UpstreamOutcome::Ok),
            (Outcome::Aborted, true, None, UpstreamOutcome::Ok),
            (Outcome::Aborted, false, Some(Unknown), UpstreamOutcome::Unknown),
            (Outcome::Aborted, false, Some(Unsent), UpstreamOutcome::Unsent),
            (Outcome::Cut, true, None, UpstreamOutcome::Ok),
            (Outcome::Cut, false, Some(Unsent), UpstreamOutcome::Unsent),
            (Outcome::Failed(Unknown), true, None, UpstreamOutcome::Unknown),
            (Outcome::Failed(TimedOut), true, None, UpstreamOutcome::Timeout),
            (Outcome::Failed(NoBackend), true, None, UpstreamOutcome::Unsent),
        ] {
            let found = upstream_outcome(outcome, answered, unheard);
            assert_eq!(found, blamed, "{outcome:?} {answered} {unheard:?}");
        }
    }
}
