//! Sends: one worker per connection, each takes a turn, signs, sends, and waits for the answer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use http::uri::PathAndQuery;
use tokio::runtime::Runtime;
use tokio::task::{JoinSet, LocalSet};

use super::judge::Judge;
use super::keys::ClientKey;
use super::mix::Kind;
use super::pace::{Plan, Turn};
use super::tally::{Outcome, Tally};
use super::template::{Filled, Template};
use super::wire::{Fault, Packet, Wire};
use super::{LoadError, Options, Unique, cpu};
use crate::clock::{Clock, Micros, SystemClock};
use crate::dialect::{Dialect, Draft, NonceKind, Place, SignedRequest, Unsignable};

/// What every thread shares.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) options: Options,
    pub(super) plan: Arc<Plan>,
    pub(super) judge: Judge,
    /// The name of this run, which makes its ids its own.
    pub(super) run: String,
}

/// How long after signing a deadline lies, where the dialect signs deadlines.
const LEAD: Duration = Duration::from_secs(10);
/// How far before the longest window a stale request is signed.
const PAST: Duration = Duration::from_secs(10);
/// How long to wait after a connection was refused.
const PAUSE: Duration = Duration::from_millis(10);

impl Work {
    /// Signs with each key and each template once, so that what cannot be signed is known before anything is sent.
    pub(super) fn rehearse(&self) -> Result<(), LoadError> {
        let now = SystemClock::start().now();
        let Options { keys, requests, .. } = &self.options;
        let (mut filled, mut first) = (Filled::default(), None);
        for template in requests {
            let key = keys.first();
            for key in key.into_iter().chain(first.is_none().then_some(keys).into_iter().flatten())
            {
                self.sign(template, key, 0, Kind::Valid, now, &mut filled)?;
            }
            first = Some(template);
        }
        Ok(())
    }

    fn key(&self, n: u64) -> Option<&ClientKey> {
        turn_of(&self.options.keys, n)
    }

    /// A request of this kind, signed at `now`.
    fn sign(
        &self,
        template: &Template,
        key: &ClientKey,
        n: u64,
        kind: Kind,
        now: Micros,
        filled: &mut Filled,
    ) -> Result<Packet, LoadError> {
        template.fill(&self.run, n, filled);
        let dialect = &self.options.dialect;
        let draft = Draft {
            method: template.method.clone(),
            path: &filled.path,
            query: &filled.query,
            body: &filled.body,
            host: self.options.target.authority.as_str(),
            window_ms: None,
            lead_ms: u64::try_from(LEAD.as_millis()).unwrap_or_default(),
            nonce: None,
        };
        let at = match kind {
            Kind::Stale => now - dialect.max_window().max(LEAD) - PAST,
            Kind::Valid | Kind::BadSignature | Kind::Replay => now,
        };
        let mut signed = dialect.sign(&draft, &key.credentials(), at)?;
        if kind == Kind::BadSignature {
            spoil(dialect, &mut signed);
        }
        let target = PathAndQuery::from_maybe_shared(Bytes::from(signed.target))
            .map_err(|error| LoadError::Usage(format!("a target that is none: {error}")))?;
        let (method, headers) = (signed.method, signed.headers);
        Ok(Packet { method, target, headers, body: signed.body.into() })
    }
}

/// Alters the first digit of the signature.
fn spoil(dialect: &Dialect, signed: &mut SignedRequest) {
    match &dialect.signature {
        Place::Field(name) => {
            let marker = format!("\"{name}\":\"");
            if let Some(at) = signed.body.find(&marker) {
                signed.body = altered(&signed.body, at + marker.len());
            }
        }
        Place::Auth(item) => {
            let marker = format!("{item}=");
            for (_, value) in
                signed.headers.iter_mut().filter(|(name, _)| *name == http::header::AUTHORIZATION)
            {
                let text = value.to_str().unwrap_or_default();
                let other = text.find(&marker).map(|at| altered(text, at + marker.len()));
                if let Some(Ok(other)) = other.map(HeaderValue::try_from) {
                    *value = other;
                }
            }
        }
        // A signature stands behind the token, never in it.
        Place::TokenHeader(_) | Place::TokenPayload(_) => {}
        Place::Header(name) | Place::After(name, _) => {
            for (known, value) in &mut signed.headers {
                // A token ends with its signature, after a dot; a byte sequence has its label before it.
                let place = |text: &str| {
                    let dot = text.rfind('.').map(|dot| dot + 1);
                    text.find("=:").map(|at| at + 2).or(dot).unwrap_or_default()
                };
                let text = value.to_str().ok().filter(|_| known == name);
                let other = text.map(|text| altered(text, place(text)));
                if let Some(Ok(other)) = other.map(HeaderValue::try_from) {
                    *value = other;
                }
            }
        }
        Place::Param(name) => {
            // The signature is the last parameter, in the body where there is a form.
            let marker = format!("{name}=");
            for text in [&mut signed.body, &mut signed.target] {
                if let Some(at) = text.rfind(&marker) {
                    *text = altered(text, at + marker.len());
                    return;
                }
            }
        }
    }
}

/// `text` with another digit at `place`.
fn altered(text: &str, place: usize) -> String {
    let (before, rest) = text.split_at_checked(place).unwrap_or((text, ""));
    let mut rest = rest.chars();
    let digit = if rest.next() == Some('0') { "1" } else { "0" };
    [before, digit, rest.as_str()].concat()
}

fn turn_of<T>(all: &[T], n: u64) -> Option<&T> {
    let length = u64::try_from(all.len()).ok().filter(|length| *length > 0)?;
    all.get(usize::try_from(n % length).ok()?)
}

/// A runtime of one thread.
pub(super) fn runtime() -> Result<Runtime, LoadError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(LoadError::Start)
}

/// One thread and its share of the connections.
pub(super) struct Thread {
    pub(super) work: Arc<Work>,
    pub(super) place: usize,
    /// Waited for twice: when connected, and when the start is set.
    pub(super) barrier: Arc<Barrier>,
    pub(super) failure: Arc<Mutex<Option<LoadError>>>,
}

impl Thread {
    /// Connects, waits for the others, sends until the plan is over.
    pub(super) fn run(self, runtime: &Runtime) -> Tally {
        LocalSet::new().block_on(runtime, async {
            let wires = self.connect().await.unwrap_or_else(|error| {
                fail(&self.failure, error);
                Vec::new()
            });
            self.barrier.wait();
            self.barrier.wait();
            let tally = Rc::new(RefCell::new(Tally::new()));
            self.send_all(wires, &tally).await;
            tally.replace(Tally::new())
        })
    }

    async fn connect(&self) -> Result<Vec<Wire>, LoadError> {
        let options = &self.work.options;
        let target = Arc::new(options.target.clone());
        let (all, threads) = (options.connections.get(), options.threads.get());
        let mine = all / threads + usize::from(self.place < all % threads);
        let mut wires = Vec::with_capacity(mine);
        for _ in 0..mine {
            let opened = tokio::time::timeout(options.timeout, Wire::open(Arc::clone(&target)));
            wires.push(match opened.await {
                Ok(Ok(wire)) => wire,
                Ok(Err(Fault::Connect(error) | Fault::Broken(error))) => {
                    return Err(LoadError::Connect(target.address, error));
                }
                Err(_) => return Err(LoadError::Connect(target.address, "no answer".into())),
            });
        }
        Ok(wires)
    }

    async fn send_all(&self, wires: Vec<Wire>, tally: &Rc<RefCell<Tally>>) {
        let measured_from = self.work.plan.measured_from();
        let at_start = Rc::new(Cell::new(None));
        let reading = Rc::clone(&at_start);
        let sample = tokio::task::spawn_local(async move {
            tokio::time::sleep_until(measured_from.into()).await;
            reading.set(cpu::Reading::of_this_thread());
        });
        let mut workers = JoinSet::new();
        for wire in wires {
            let worker = Worker {
                work: Arc::clone(&self.work),
                clock: SystemClock::start(),
                wire,
                filled: Filled::default(),
                accepted: None,
                tally: Rc::clone(tally),
            };
            let failure = Arc::clone(&self.failure);
            workers.spawn_local(async move {
                if let Err((work, error)) = worker.run().await {
                    fail(&failure, error);
                    work.plan.stop();
                }
            });
        }
        while workers.join_next().await.is_some() {}
        sample.abort();
        let share = at_start.get().and_then(cpu::Reading::share_since);
        tally.borrow_mut().cpu.extend(share);
    }
}

/// The first failure is the one that is told.
fn fail(failure: &Mutex<Option<LoadError>>, error: LoadError) {
    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
}

/// One connection's sender.
struct Worker {
    work: Arc<Work>,
    clock: SystemClock,
    wire: Wire,
    filled: Filled,
    /// The last accepted request, kept where the mix holds replays.
    accepted: Option<Packet>,
    tally: Rc<RefCell<Tally>>,
}

impl Worker {
    async fn run(mut self) -> Result<(), (Arc<Work>, LoadError)> {
        while let Some(turn) = self.work.plan.turn().await {
            if let Err(error) = self.send(turn).await {
                return Err((self.work, error));
            }
        }
        self.tally.borrow_mut().reconnects += self.wire.reconnects;
        Ok(())
    }

    async fn send(&mut self, turn: Turn) -> Result<(), LoadError> {
        let mix = &self.work.options.mix;
        let repeats = mix.holds(Kind::Replay);
        // Before anything was accepted there is nothing to replay: a valid request goes out instead.
        let (kind, packet) = match (mix.kind(turn.n), &self.accepted) {
            (Kind::Replay, Some(accepted)) => (Kind::Replay, accepted.clone()),
            (Kind::Replay, None) => (Kind::Valid, self.sign(turn, Kind::Valid).await?),
            (kind, _) => (kind, self.sign(turn, kind).await?),
        };
        let kept = (repeats && kind == Kind::Valid).then(|| packet.clone());
        let sent = Instant::now();
        let answer = tokio::time::timeout(self.work.options.timeout, self.wire.send(packet)).await;
        let done = Instant::now();
        let outcome = match answer {
            Ok(Ok(reply)) => {
                let verdict = self.work.judge.verdict(reply.status, &reply.beginning);
                let right = verdict.is_right(kind);
                if kept.is_some() && right {
                    self.accepted = kept;
                }
                Outcome::Answered { reply, right }
            }
            Ok(Err(Fault::Connect(error))) => {
                tokio::time::sleep(PAUSE).await;
                Outcome::NoConnection(error)
            }
            Ok(Err(Fault::Broken(error))) => Outcome::Broken(error),
            Err(_) => {
                self.wire.reset();
                Outcome::TimedOut
            }
        };
        if turn.measured {
            let from = if self.work.options.rate.is_some() { turn.due } else { sent };
            self.tally.borrow_mut().record(kind, from, sent, done, outcome);
        }
        Ok(())
    }

    async fn sign(&mut self, turn: Turn, kind: Kind) -> Result<Packet, LoadError> {
        let options = &self.work.options;
        let key = self.work.key(turn.n).ok_or(Unsignable::Draft("there is no key"))?;
        let template = turn_of(&options.requests, turn.n);
        let template = template.ok_or(Unsignable::Draft("there is no request"))?;
        let mut now = self.clock.now();
        let grows = options.dialect.nonce_kind() == Some(NonceKind::Growing);
        if options.unique == Unique::Time || grows {
            let unit = if options.dialect.counts_seconds() { 1_000 } else { 1 };
            let own = key.own_time(now, Duration::from_millis(unit));
            tokio::time::sleep(own.since(now)).await;
            now = own;
        }
        self.work.sign(template, key, turn.n, kind, now, &mut self.filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Credentials;
    use crate::dialect::builtin;
    use crate::key::{Algorithm, Signer};

    fn signed(dialect: &Dialect, body: &str) -> SignedRequest {
        let signer = Signer::read(Algorithm::HmacSha256, b"secret").unwrap();
        let by = Credentials { key_id: "key", signer: &signer, passphrase: Some("p") };
        let draft = Draft {
            method: http::Method::POST,
            path: "/order",
            query: "",
            body,
            host: "localhost",
            window_ms: None,
            lead_ms: 0,
            nonce: None,
        };
        dialect.sign(&draft, &by, Micros::from_millis(1_700_000_000_000)).unwrap()
    }

    #[test]
    fn a_spoiled_signature_differs_in_one_digit_and_nothing_else_does() {
        for (name, body) in [
            ("binance", "a=1"),
            ("binance", ""),
            ("bybit", "{}"),
            ("bitget", "{}"),
            ("native", "{}"),
        ] {
            let dialect = builtin(name).unwrap().unwrap();
            let before = signed(&dialect, body);
            let mut after = before.clone();
            spoil(&dialect, &mut after);
            let text = |signed: &SignedRequest| {
                format!("{} {:?} {}", signed.target, signed.headers, signed.body)
            };
            let (before, after) = (text(&before), text(&after));
            assert_eq!(before.len(), after.len(), "{name}");
            let different = before.bytes().zip(after.bytes()).filter(|(a, b)| a != b).count();
            assert_eq!(different, 1, "{name} {body}: {before} {after}");
        }
    }

    #[test]
    fn a_digit_is_altered_at_either_end_and_past_the_end_none_is() {
        assert_eq!(altered("0a", 0), "1a");
        assert_eq!(altered("a0", 1), "a1");
        assert_eq!(altered("af", 1), "a0");
    }
}
