//! Answers kept by the `Idempotency-Key` of the request they answered, so that a retry does nothing twice.
//!
//! An answer that shows a secret is not kept: its retry is told that the work is done and the secret was shown.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use sha2::{Digest, Sha256};

use crate::clock::Micros;

/// How long an answer is kept, if the process lives so long and no newer ones take its place.
pub(super) const KEPT: Duration = Duration::from_hours(24);
/// Answers kept at a time, the newest.
pub(super) const ANSWERS: usize = 4_096;
/// The longest key.
pub(super) const KEY_CAP: usize = 255;
/// An answer longer than this is not kept.
const BODY_CAP: usize = 256 << 10;

/// What was answered to whom. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Idempotency(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    answers: HashMap<Name, (Print, State)>,
    order: VecDeque<(Micros, Name)>,
}

/// Who sent which key.
type Name = (Arc<str>, Arc<str>);
type Print = [u8; 32];

#[derive(Clone, Debug)]
enum State {
    UnderWay,
    Done(Saved),
    Shown(String),
}

/// An answer as it is given again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Saved {
    /// Its status.
    pub(super) status: StatusCode,
    /// Its body.
    pub(super) body: Bytes,
    /// The version in its `ETag`.
    pub(super) version: Option<u64>,
    /// Its Location.
    pub(super) location: Option<String>,
}

/// What a request with a key comes to.
#[derive(Debug)]
pub(super) enum Begun {
    /// It is the first: do it, and say how it ended.
    First(Ticket),
    /// It was done, and this was the answer.
    Again(Saved),
    /// It was done to this, and the answer held a secret.
    Shown(String),
    /// It is under way.
    UnderWay,
    /// The key was used for something else.
    Other,
}

/// The right to answer first. Dropped without an answer, it frees the key: nothing was done.
#[derive(Debug)]
pub(super) struct Ticket {
    kept: Idempotency,
    name: Name,
    open: bool,
}

impl Idempotency {
    /// Begins a request of `actor` under `key`, recognised by its method, target and body.
    pub(super) fn begin(
        &self,
        actor: &Arc<str>,
        key: &str,
        parts: [&[u8]; 3],
        now: Micros,
    ) -> Begun {
        let name: Name = (Arc::clone(actor), key.into());
        let print = print(parts);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.forget(now);
        if let Some((known, state)) = kept.answers.get(&name) {
            return match state {
                _ if *known != print => Begun::Other,
                State::UnderWay => Begun::UnderWay,
                State::Done(saved) => Begun::Again(saved.clone()),
                State::Shown(subject) => Begun::Shown(subject.clone()),
            };
        }
        kept.answers.insert(name.clone(), (print, State::UnderWay));
        kept.order.push_back((now, name.clone()));
        drop(kept);
        Begun::First(Ticket { kept: self.clone(), name, open: true })
    }
}

impl Kept {
    fn forget(&mut self, now: Micros) {
        while self.order.len() >= ANSWERS
            || self.order.front().is_some_and(|(at, _)| now.since(*at) >= KEPT)
        {
            let Some((_, name)) = self.order.pop_front() else { return };
            self.answers.remove(&name);
        }
    }
}

impl Ticket {
    /// The request was done, and this is the answer.
    pub(super) fn done(self, saved: Saved) {
        if saved.body.len() <= BODY_CAP {
            self.end(State::Done(saved));
        }
    }

    /// The request was done to `subject`, and the answer holds a secret.
    pub(super) fn shown(self, subject: String) {
        self.end(State::Shown(subject));
    }

    fn end(mut self, state: State) {
        let mut kept = self.kept.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, place)) = kept.answers.get_mut(&self.name) {
            *place = state;
        }
        drop(kept);
        self.open = false;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.open {
            let mut kept = self.kept.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.answers.remove(&self.name);
            kept.order.retain(|(_, name)| *name != self.name);
        }
    }
}

fn print(parts: [&[u8]; 3]) -> Print {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: [&[u8]; 3] = [b"POST", b"/v1/keys", b"{}"];

    fn saved() -> Saved {
        let body = Bytes::from_static(b"{}");
        Saved { status: StatusCode::CREATED, body, version: Some(1), location: None }
    }

    fn first(begun: Begun) -> Ticket {
        match begun {
            Begun::First(ticket) => ticket,
            other @ (Begun::Again(_) | Begun::Shown(_) | Begun::UnderWay | Begun::Other) => {
                panic!("{other:?}")
            }
        }
    }

    #[test]
    fn a_retry_gets_the_first_answer_and_another_request_does_not() {
        let kept = Idempotency::default();
        let ann: Arc<str> = "ann".into();
        let ticket = first(kept.begin(&ann, "k", POST, Micros(0)));
        assert!(matches!(kept.begin(&ann, "k", POST, Micros(0)), Begun::UnderWay));
        ticket.done(saved());
        assert!(matches!(kept.begin(&ann, "k", POST, Micros(1)), Begun::Again(s) if s == saved()));
        let other: [&[u8]; 3] = [b"POST", b"/v1/keys", b"{} "];
        assert!(matches!(kept.begin(&ann, "k", other, Micros(1)), Begun::Other));
        let bob = "bob".into();
        drop(first(kept.begin(&bob, "k", POST, Micros(1))));
        drop(first(kept.begin(&bob, "k", POST, Micros(1))));
    }

    #[test]
    fn a_secret_is_not_kept() {
        let kept = Idempotency::default();
        let ann: Arc<str> = "ann".into();
        first(kept.begin(&ann, "k", POST, Micros(0))).shown("csk_1".into());
        let again = kept.begin(&ann, "k", POST, Micros(0));
        assert!(matches!(again, Begun::Shown(subject) if subject == "csk_1"));
    }

    #[test]
    fn a_day_later_and_under_many_others_it_is_forgotten() {
        let kept = Idempotency::default();
        let ann: Arc<str> = "ann".into();
        first(kept.begin(&ann, "k", POST, Micros(0))).done(saved());
        let late = Micros(0) + KEPT - Duration::from_micros(1);
        assert!(matches!(kept.begin(&ann, "k", POST, late), Begun::Again(_)));
        drop(first(kept.begin(&ann, "k", POST, Micros(0) + KEPT)));

        first(kept.begin(&ann, "k", POST, Micros(0))).done(saved());
        for n in 0..ANSWERS {
            first(kept.begin(&ann, &n.to_string(), POST, Micros(0))).done(saved());
        }
        let held = kept.0.lock().unwrap().answers.len();
        assert!(held <= ANSWERS, "{held}");
        drop(first(kept.begin(&ann, "k", POST, Micros(0))));
    }
}
