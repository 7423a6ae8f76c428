//! The end of a request that was judged: it is sent, or refused, and answered.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Instant;

use http::HeaderValue;

use super::cut::Cut;
use super::exit::Record;
use super::forward::Ready;
use super::observe::{Observer, Outcome, Tally};
use super::refusal::Refusal;
use super::reply::{Reply, Value};
use super::request::JUDGED;
use super::routes::Entry;
use super::standing::tell;
use super::worker::Worker;
use crate::admit::Seal;
use crate::clock::{Clock, Micros};
use crate::denial::Denial;
use crate::dialect::Said;
use crate::registry::Keys;
use crate::store::{Receipt, Store};

/// What judging a request comes to.
pub(super) enum Judged<'w> {
    /// Its answer.
    Answered(Reply),
    /// It is to be sent to a backend.
    Admitted(Admitted<'w>),
}

/// A request that was admitted: all that is kept of it while its backend is waited for.
pub(super) struct Admitted<'w> {
    pub(super) ready: Ready<'w>,
    pub(super) upstream: usize,
    pub(super) entry: &'w Entry,
    pub(super) seal: Option<Box<Seal>>,
    pub(super) receipt: Option<Box<Receipt>>,
    /// When, by either clock.
    pub(super) at: (Micros, Instant),
}

impl<K: Keys, S: Store, C: Clock, O: Observer> Worker<K, S, C, O> {
    /// The reply to a request that was judged, or the refusal's.
    pub(super) async fn conclude(
        &self,
        judged: Result<Judged<'_>, Unanswered>,
        entry: Option<&Entry>,
        record: &mut Record<O::Tally>,
    ) -> Result<Reply, Cut> {
        let answered = match judged {
            Ok(Judged::Answered(reply)) => Ok(reply),
            Ok(Judged::Admitted(admitted)) => self.forward(admitted, record).await,
            Err(unanswered) => Err(unanswered),
        };
        match answered {
            Ok(reply) => Ok(reply),
            Err(Unanswered::Cut) => {
                record.outcome = Some(Outcome::Cut);
                Err(Cut)
            }
            Err(Unanswered::Refused(refusal)) => Ok(self.refusal(&refusal, entry, record)),
        }
    }

    /// The answer to what is no request.
    pub(super) fn refuse(&self, refusal: &Refusal, record: &mut Record<O::Tally>) -> Reply {
        let mut reply = self.refusal(refusal, None, record);
        record.answer(&mut reply);
        reply
    }

    fn refusal(
        &self,
        refusal: &Refusal,
        entry: Option<&Entry>,
        record: &mut Record<O::Tally>,
    ) -> Reply {
        record.denial = refusal.denial();
        record.skew = refusal.skew();
        record.outcome = Some(match refusal {
            Refusal::Failed(fault) => Outcome::Failed(*fault),
            Refusal::Denied(_) | Refusal::Skewed(..) | Refusal::Broken(..) => Outcome::Denied,
        });
        let now = self.gate.clock.now();
        refusal.reply(entry, now, &record.request_id, &record.standing).into()
    }

    /// Sends a request that was admitted to its backend.
    async fn forward(
        &self,
        admitted: Admitted<'_>,
        record: &mut Record<O::Tally>,
    ) -> Result<Reply, Unanswered> {
        let Admitted { ready, upstream, entry, seal, receipt, at: (now, sent) } = admitted;
        record.ask(upstream, sent);
        let (replied, latest) = unless_cut(record, pin!(ready.send(&record.sent))).await?;
        record.heard(upstream, sent, latest);
        let mut reply = replied.map_err(Refusal::Failed)?;
        let status = reply.status().as_u16();
        if let Some(receipt) = receipt.and_then(|receipt| receipt.given_back(status)) {
            self.gate.store.give_back(&receipt, self.gate.clock.now());
            record.standing.iter_mut().for_each(|told| told.give_back(status));
        }
        if let Some(seal) = seal {
            // Boxed, so that every other request has less to carry along.
            reply = Box::pin(reply.sealed(*seal)).await.map_err(Refusal::Failed)?;
        }
        Ok(told(reply, record, now, entry))
    }
}

/// A reply that tells how full the limits were at the moment `now`, and who judged the request.
pub(super) fn told<T: Tally>(
    mut reply: Reply,
    record: &Record<T>,
    now: Micros,
    entry: &Entry,
) -> Reply {
    tell(&mut reply, &record.standing, now, entry);
    if record.is_local {
        let local = HeaderValue::from_static("local");
        reply.set(JUDGED, Value::Said(Said::Text(local)));
    }
    reply
}

/// Why a request gets no reply from the one who serves it.
pub(super) enum Unanswered {
    Refused(Refusal),
    Cut,
}

impl From<Refusal> for Unanswered {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Denial> for Unanswered {
    fn from(denial: Denial) -> Self {
        Self::Refused(denial.into())
    }
}

impl From<Cut> for Unanswered {
    fn from(_: Cut) -> Self {
        Self::Cut
    }
}

/// What `work` comes to, unless the key of the request ends first.
pub(super) async fn unless_cut<T: Tally, W: Future>(
    record: &Record<T>,
    mut work: Pin<&mut W>,
) -> Result<W::Output, Cut> {
    poll_fn(|cx| {
        if record.is_cut() {
            return Poll::Ready(Err(Cut));
        }
        work.as_mut().poll(cx).map(Ok)
    })
    .await
}
