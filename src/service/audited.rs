//! Counts what the data plane tells, and records it in the audit trail.

use std::net::IpAddr;
use std::sync::Arc;

use super::counted::{Counted, Counts};
use crate::audit::{Closing, Ending, OpenError, Recorder, Request, Trail, Unrecorded};
use crate::clock::{Micros, SystemClock};
use crate::config::Config;
use crate::denial::Denial;
use crate::gateway::observe::{
    End, Finished, Intent, Observer, Passed, Proven, Tally, TurnedAway, WebSocketClosed,
};
use crate::gateway::request_id::RequestId;
use crate::metrics::AuditMeter;

/// The trail that a configuration asks for, if it does.
pub(super) fn open(config: &Config, meter: &AuditMeter) -> Result<Option<Arc<Trail>>, OpenError> {
    let Some(rules) = config.audit.clone() else {
        tracing::warn!("no audit trail is kept: set `store.state_dir`, or `dir` under `[audit]`");
        return Ok(None);
    };
    let routes = config.routes.all().iter().map(|entry| Arc::clone(&entry.demand.name)).collect();
    let trail = Trail::start(rules, routes, Arc::new(SystemClock::start()), meter.clone())?;
    tracing::info!(
        dir = %trail.dir().display(),
        key = trail.public_key().name(),
        "the audit trail is written; keep a copy of checkpoint.pub elsewhere"
    );
    Ok(Some(Arc::new(trail)))
}

/// A proven request as the trail has it.
fn request<'r>(
    proven: &Proven<'r>,
    (id, at, peer, route): (&'r RequestId, Micros, IpAddr, Option<u16>),
) -> Request<'r> {
    let Proven { key, method, path, signed } = *proven;
    let (id, path) = (id.as_str(), std::str::from_utf8(path).unwrap_or_default());
    Request { at, id, key, peer, route: route.unwrap_or(u16::MAX), method, path, signed }
}

/// Hears for the metrics and for the trail.
pub(super) struct Audited {
    counted: Counted,
    trail: Option<Arc<Trail>>,
    meter: AuditMeter,
}

impl Audited {
    pub(super) fn new(counted: Counted, trail: Option<Arc<Trail>>, meter: AuditMeter) -> Self {
        Self { counted, trail, meter }
    }
}

impl Observer for Audited {
    type Tally = Recorded;

    fn tally(&self) -> Recorded {
        Recorded {
            counts: self.counted.tally(),
            recorder: self.trail.as_ref().map(|trail| trail.recorder()),
            meter: self.meter.clone(),
        }
    }

    fn connection_opened(&self, listener: usize) {
        self.counted.connection_opened(listener);
    }

    fn connection_closed(&self, listener: usize, end: End) {
        self.counted.connection_closed(listener, end);
    }

    fn connection_refused(&self, listener: usize, why: TurnedAway) {
        self.counted.connection_refused(listener, why);
    }

    fn draining(&self) {
        self.counted.draining();
    }
}

/// Counts and records the requests of one worker.
pub(super) struct Recorded {
    counts: Counts,
    recorder: Option<Recorder>,
    meter: AuditMeter,
}

impl Tally for Recorded {
    fn finished(&self, finished: &Finished<'_>) {
        self.counts.finished(finished);
        let Some(recorder) = &self.recorder else { return };
        match (&finished.proven, finished.denial) {
            (Some(proven), denial) => {
                let request = request(
                    proven,
                    (finished.request_id, finished.at, finished.peer, finished.route),
                );
                let ending = Ending {
                    outcome: finished.outcome,
                    unheard: finished.unheard,
                    denial: denial.map(Denial::index),
                    shadowed: finished.shadowed,
                    is_local: finished.is_local,
                    status: finished.status,
                    took: u64::try_from(finished.total.as_micros()).unwrap_or(u64::MAX),
                };
                recorder.ended(&request, ending);
                recorder.settle();
            }
            (None, Some(denial)) => recorder.refused(finished.peer, denial.index()),
            (None, None) => {}
        }
    }

    fn websocket_opened(&self, route: u16) {
        self.counts.websocket_opened(route);
    }

    fn websocket_passed(&self, route: u16, passed: Passed) {
        self.counts.websocket_passed(route, passed);
    }

    fn websocket_closed(&self, closed: &WebSocketClosed<'_>) {
        self.counts.websocket_closed(closed);
        let (Some(recorder), Some(proven)) = (&self.recorder, &closed.proven) else { return };
        let opened = (closed.request_id, closed.at, closed.peer, Some(closed.route));
        let closing = Closing {
            parting: closed.parting,
            passed: closed.passed,
            took: u64::try_from(closed.total.as_micros()).unwrap_or(u64::MAX),
        };
        recorder.closed(&request(proven, opened), closing);
        recorder.settle();
    }

    fn is_recording(&self) -> bool {
        let recording = self.recorder.as_ref().is_some_and(Recorder::is_recording);
        if !recording {
            self.meter.unrecorded(true);
        }
        recording
    }

    async fn intend(&self, intent: &Intent<'_>) -> Result<(), Unrecorded> {
        let Some(recorder) = &self.recorder else { return Err(Unrecorded) };
        let Intent { request_id, at, peer, route, proven, required } = intent;
        let request = request(proven, (request_id, *at, *peer, Some(*route)));
        let intended = recorder.intend(&request).await;
        if intended.is_err() {
            self.meter.unrecorded(*required);
        }
        intended
    }

    fn flush(&self) {
        self.counts.flush();
        if let Some(recorder) = &self.recorder {
            recorder.flush();
        }
    }
}
