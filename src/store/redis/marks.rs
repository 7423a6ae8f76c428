//! Growing numbers, which carry no clock: defeats a second pass of each through any loss of the servers, by
//! reservations in the registry.
//!
//! Each server keeps a mark of each key in its memory: up to where nothing passes, and the last numbers accepted. The
//! registry keeps a reservation of each key on its disk. Why no server ever says of one number twice that it is new:
//!
//! 1. A gateway asks a server about a number only if the registry has answered that it is reserved ([`Known`]), and
//!    reservations never fall. So whatever a server ever accepted was reserved before it did.
//! 2. A server whose mark is lost, with its generation or alone, tells a token that it notes at that moment, and accepts
//!    no number of the key until it is told a floor for just this token. If the token is lost too, the next is another.
//! 3. A gateway reads the reservation after it was told the token, and gives it as the floor. Between the token and
//!    the floor the server accepts nothing. So all that it ever accepted was reserved when the floor was read: it lies
//!    at or below the floor, however late that arrives, and is not accepted again.
//!
//! With a majority of servers two acceptances would share one that said it twice. Nothing of this depends on a clock.
//! What is cached here can be old only to the lower side, where more is asked for than needs be.
//!
//! That marks be known comes before the reservation is raised: a mark begins at what was reserved until then, and the
//! number that it is raised for must lie above. Reservations reach ahead in steps of the number's own magnitude, for a
//! clock in any unit about 13 seconds, and are raised behind the requests' backs from their half on. A server that
//! forgot costs a key what lies below its reservation.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use foldhash::fast::RandomState;
use redis::Cmd;
use tokio::time::{Instant, timeout};

use super::RedisStore;
use super::counters::Counters;
use super::numbers::ask_mark;
use super::packed::{self, Said, Token, Vote};
use super::server::Server;
use crate::clock::{Clock, Micros};
use crate::registry::book::{Registry, RegistryError};
use crate::store::memory::marks::{furthest, step};
use crate::store::{Charge, Cost, SignedTime, Verdict};

/// What one gateway knows of reservations.
#[derive(Debug)]
pub(super) struct Marks {
    pub(super) registry: Arc<dyn Registry>,
    max_jump: Duration,
    known: Mutex<HashMap<[u8; 16], Arc<Known>, RandomState>>,
}

/// What a mark is called: two accounts whose keys have one secret have a mark each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    pub(super) own: [u8; 16],
    /// The tag of the secret, by which marks were called before.
    before: [u8; 16],
}

/// What it knows of those of one mark.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Numbers up to this one may be asked about: the registry has said so.
    reserved: AtomicU64,
    /// Up to which number it is being asked.
    asked: AtomicU64,
    /// Held by whoever asks the registry while others wait.
    turn: tokio::sync::Mutex<()>,
    /// By the place of a server, up to which number it does not know what it accepted, as far as is known here.
    forgotten: [AtomicU64; MOST_SERVERS],
}

impl<C: Clock> RedisStore<C> {
    /// Judges growing numbers from now on, reserved in `registry`, which every gateway of these servers must share.
    /// One that lies further ahead of now than `max_jump`, as nanoseconds, is refused.
    pub fn keep_marks(&self, registry: Arc<dyn Registry>, max_jump: Duration) {
        let marks = Marks { registry, max_jump, known: Mutex::default() };
        // An error means that there are some already.
        let _ = self.marks.set(marks);
    }

    /// Sees to it that a growing number is reserved before a server is asked about it.
    pub(super) async fn reserve(&self, charge: &Charge) -> Result<(), Verdict> {
        let SignedTime::Growing { key, nonce, window: _ } = charge.time else { return Ok(()) };
        let Some(marks) = self.marks.get() else { return Err(Verdict::Unavailable) };
        let most = furthest(charge.now, marks.max_jump, nonce)
            .map_err(|retry_after| Verdict::Fenced { retry_after })?;
        if nonce == 0 {
            return Err(Verdict::Low);
        }
        let name = Name::of(charge.account, key);
        let known = marks.known(name);
        if nonce > known.reserved() {
            let first =
                Box::pin(self.reserve_first(marks, &known, charge.account, name, (nonce, most)));
            let in_time = timeout(PATIENCE, first).await.is_ok();
            if !in_time || nonce > known.reserved() {
                return Err(self.unreserved(charge));
            }
        }
        marks.reserve_ahead(&known, name, nonce, most);
        Ok(())
    }

    /// Reserves a number that is the first beyond what is reserved, once most servers know the key's mark.
    async fn reserve_first(
        &self,
        marks: &Marks,
        known: &Known,
        account: u64,
        name: Name,
        (nonce, most): (u64, u64),
    ) {
        let _turn = known.turn.lock().await;
        if nonce > known.reserved()
            && self.make_known(marks, known, account, name).await
            && nonce > known.reserved()
        {
            known.raise(&*marks.registry, name, nonce, most).await;
        }
    }

    /// Sees to it that servers know a mark; whether most do.
    async fn make_known(&self, marks: &Marks, known: &Known, account: u64, name: Name) -> bool {
        if let Some(cluster) = &self.cluster {
            return self.know_in(cluster, marks, known, account, name).await;
        }
        let token = self.token();
        let ask = ask_mark(account, name, token, None);
        let asks = (0..self.servers.len()).map(|place| (place, ask.clone()));
        let votes = self.ask_each(asks, &[]).await;
        let mut know = known.hear(&votes);
        let told = votes.iter().filter_map(|(place, vote)| match vote.said {
            Said::Unmarked(told) => Some((*place, told)),
            Said::New(_)
            | Said::Seen
            | Said::Over(_)
            | Said::Full
            | Said::Fenced(_)
            | Said::Unborn
            | Said::Outdated
            | Said::StepSpent
            | Said::Low
            | Said::Marked(_) => None,
        });
        let told: Vec<_> = told.collect();
        if !told.is_empty() && know + told.len() >= self.majority {
            let Ok(reserved) = name.reserved(&*marks.registry).await else { return false };
            let floor = known.learn(reserved);
            let ask = |(place, told)| (place, ask_mark(account, name, token, Some((told, floor))));
            know += known.hear(&self.ask_each(told.into_iter().map(ask), &[]).await);
        }
        know >= self.majority
    }

    /// Has servers know a mark that they told they do not, each by its place, behind the request's back.
    pub(super) fn mark_later(&self, charge: &Charge, unmarked: Vec<(usize, Arc<Server>, Token)>) {
        let SignedTime::Growing { key, nonce, window: _ } = charge.time else { return };
        let Some(marks) = self.marks.get() else { return };
        // What is reserved by now will be at or below its floor.
        let name = Name::of(charge.account, key);
        let known = marks.known(name);
        for (place, ..) in &unmarked {
            known.forgets(*place, known.reserved().max(nonce));
        }
        let registry = Arc::clone(&marks.registry);
        let (account, deadline, token) = (charge.account, self.deadline, self.token());
        tokio::spawn(async move {
            // Whoever has the turn does the same; and if not for these servers, the next request will.
            let Ok(_turn) = known.turn.try_lock() else { return };
            let Ok(Ok(reserved)) = timeout(PATIENCE, name.reserved(&*registry)).await else {
                return;
            };
            let floor = known.learn(reserved);
            for (place, server, told) in unmarked {
                known.forgets(place, floor);
                let ask = ask_mark(account, name, token, Some((told, floor)));
                // Where it fails, it is told anew.
                let _ = server.call(&ask, Instant::now() + deadline).await;
            }
        });
    }

    /// Who counts the account's limits: for growing numbers among those that know more of them than their reservation. A
    /// client cannot choose it, since it cannot make a server forget.
    pub(super) fn counters_of(&self, charge: &Charge, fence: Micros) -> Option<Counters> {
        let SignedTime::Growing { key, nonce, window: _ } = charge.time else {
            return self.counters(charge.account, fence);
        };
        let known = self.marks.get()?.known(Name::of(charge.account, key));
        self.counters_among(charge.account, |place, server| {
            server.born() < fence && known.remembers(place, nonce)
        })
    }

    /// Learns behind the request's back whether servers that count its limits forgot, where a number passed that is too
    /// low for them: another gateway may have told them their floor.
    pub(super) fn ask_later(&self, charge: &Charge, places: &[usize]) {
        let SignedTime::Growing { key, nonce: _, window: _ } = charge.time else { return };
        let Some(marks) = self.marks.get() else { return };
        let name = Name::of(charge.account, key);
        let deadline = Instant::now() + self.deadline;
        for place in places.iter().copied() {
            let Some(server) = self.servers.get(place).map(Arc::clone) else { continue };
            let (known, ask) =
                (marks.known(name), ask_mark(charge.account, name, self.token(), None));
            tokio::spawn(async move {
                let Ok(answer) = server.call(&ask, deadline).await else { return };
                if let Ok(vote) = packed::read(&answer, &[]) {
                    known.hear(&[(place, vote)]);
                }
            });
        }
    }

    /// Asks servers, each its question with `costs`, and returns once all have answered or cannot.
    pub(super) async fn ask_each(
        &self,
        asks: impl Iterator<Item = (usize, Cmd)>,
        costs: &[Cost],
    ) -> Vec<(usize, Vote)> {
        type Asked<'a> = Pin<Box<dyn Future<Output = Option<Vec<u8>>> + 'a>>;
        let sent = self.clock.now();
        let deadline = Instant::now() + self.deadline;
        let asked = asks.filter_map(|(place, command)| {
            let server = self.servers.get(place)?;
            let call = async move { server.call(&command, deadline).await.ok() };
            Some((place, Box::pin(call) as Asked<'_>))
        });
        let mut asked: Vec<_> = asked.collect();
        let mut votes = Vec::new();
        poll_fn(|context| {
            asked.retain_mut(|(place, call)| {
                let Poll::Ready(answer) = call.as_mut().poll(context) else { return true };
                let heard = answer.zip(self.servers.get(*place));
                let vote =
                    heard.and_then(|(bytes, server)| self.believe(server, &bytes, costs, sent));
                votes.extend(vote.map(|vote| (*place, vote)));
                false
            });
            if asked.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        votes
    }
}

impl Marks {
    fn known(&self, name: Name) -> Arc<Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN && !known.contains_key(&name.own) {
            // The registry knows what is forgotten here.
            known.retain(|_, known| Arc::strong_count(known) > 1);
        }
        Arc::clone(known.entry(name.own).or_default())
    }

    /// Raises the reservation before it is needed, behind the request's back.
    fn reserve_ahead(&self, known: &Arc<Known>, name: Name, nonce: u64, most: u64) {
        let soon = nonce.saturating_add(step(nonce) / 2).min(most);
        let asked = known.asked.load(Ordering::Relaxed);
        if soon <= known.reserved().max(asked) {
            return;
        }
        let exchanged =
            known.asked.compare_exchange(asked, soon, Ordering::Relaxed, Ordering::Relaxed);
        if exchanged.is_err() {
            return;
        }
        let (known, registry) = (Arc::clone(known), Arc::clone(&self.registry));
        tokio::spawn(async move {
            known.raise(&*registry, name, nonce, most).await;
            known.asked.store(0, Ordering::Relaxed);
        });
    }
}

impl Known {
    fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Acquire)
    }

    /// What the registry answered. It may be older than another answer.
    pub(super) fn learn(&self, reserved: u64) -> u64 {
        self.reserved.fetch_max(reserved, Ordering::AcqRel).max(reserved)
    }

    /// What servers said of the mark, and how many know it.
    fn hear(&self, votes: &[(usize, Vote)]) -> usize {
        let mut know = 0;
        for (place, vote) in votes {
            if let Said::Marked(forgotten) = vote.said {
                self.forgets(*place, forgotten);
                know += 1;
            }
        }
        know
    }

    fn forgets(&self, place: usize, up_to: u64) {
        if let Some(forgotten) = self.forgotten.get(place) {
            forgotten.fetch_max(up_to, Ordering::Relaxed);
        }
    }

    fn remembers(&self, place: usize, nonce: u64) -> bool {
        let forgotten = self.forgotten.get(place);
        forgotten.is_none_or(|forgotten| nonce > forgotten.load(Ordering::Relaxed))
    }

    /// Reserves a step beyond `nonce`, but none that could not be accepted now: what is reserved is lost if the servers
    /// forget.
    async fn raise(&self, registry: &dyn Registry, name: Name, nonce: u64, most: u64) {
        let step = step(nonce);
        let least = nonce.saturating_add(step / 2).min(most);
        let up_to = nonce.saturating_add(step).min(most);
        if let Ok(reserved) = registry.reserve(name.own, least, up_to).await {
            self.learn(reserved);
        }
    }
}

impl Name {
    pub(super) fn of(account: u64, key: [u8; 16]) -> Self {
        // Odd, so that each account has another; tags of secrets are even by themselves.
        let mixed = u128::from(account).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        Self { own: (u128::from_le_bytes(key) ^ mixed).to_le_bytes(), before: key }
    }

    /// Up to which number all may have been accepted, under either name.
    pub(super) async fn reserved(self, registry: &dyn Registry) -> Result<u64, RegistryError> {
        let before = registry.reserved(self.before).await?;
        Ok(registry.reserved(self.own).await?.max(before))
    }
}

/// The longest that a request waits for the registry.
const PATIENCE: Duration = Duration::from_secs(1);
/// The most marks whose reservation is known at a time.
const MOST_KNOWN: usize = 100_000;
/// The most servers that there are.
const MOST_SERVERS: usize = 5;
