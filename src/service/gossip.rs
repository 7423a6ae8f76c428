//! Tells other gateways through the registry what this one has seen, and hears what they have: bans of addresses, and
//! when secrets were last used.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::LiveGate;
use crate::admin::ThisGateway;
use crate::admit::{Ban, BanBounds};
use crate::clock::{Clock as _, Micros};
use crate::registry::bans;
use crate::registry::book::{Registry, RegistryError};
use crate::registry::gossip::{Place, Topic, Word, of_revision};

/// What passes between this gateway and the others.
pub(super) struct Gossip {
    registry: Arc<dyn Registry>,
    gate: Arc<LiveGate>,
    this: ThisGateway,
    /// How bans are shared; `None` where they are not.
    bans: Option<BanBounds>,
}

impl Gossip {
    pub(super) fn new(
        registry: Arc<dyn Registry>,
        gate: Arc<LiveGate>,
        bans: Option<BanBounds>,
        this: ThisGateway,
    ) -> Self {
        Self { registry, gate, this, bans: bans.filter(|bans| bans.share) }
    }

    /// Goes on for ever. What cannot be told or heard is tried again; nobody waits for it.
    pub(super) async fn run(&self) {
        let share = async {
            match &self.bans {
                Some(bounds) => self.share_bans(bounds).await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(share, self.tell_uses(), self.tell_applied());
    }

    /// Tells what is left, once, before this gateway ends.
    pub(super) async fn finish(&self) {
        let now = self.gate.clock.now();
        let uses = self.gate.keys.take_uses(USES_AT_ONCE);
        if !uses.is_empty() {
            let told = self.registry.tell(Topic::Use, uses, None);
            said("when keys were last used", self.answered(told).await);
        }
        self.tell_bans(now, None).await;
        if self.registry.is_shared() {
            let unsaid = self.registry.unsay(Topic::Applied, &self.this.name);
            said("that it is gone", self.answered(unsaid).await);
        }
    }

    /// Tells which revision is applied whenever that changes, and that it is there: whoever revokes a key waits for it.
    async fn tell_applied(&self) {
        if !self.registry.is_shared() {
            return;
        }
        let mut applied = self.this.applied.clone();
        loop {
            let (revision, now) = (*applied.borrow_and_update(), self.gate.clock.now());
            let id = self.this.name.clone();
            let word = Word { id, at: now, detail: of_revision(revision) };
            let told = self.registry.tell(Topic::Applied, vec![word], Some(now - FORGET_APPLIED));
            said("which revision is applied", self.answered(told).await);
            // Of changes that come one upon the other the last is told.
            sleep(APPLIED_APART).await;
            let _ = timeout(APPLIED_EVERY, applied.changed()).await;
        }
    }

    async fn share_bans(&self, bounds: &BanBounds) {
        let mut ticks = interval(BANS_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut heard, mut tidied, mut anew) = (Place::default(), None, Instant::now());
        loop {
            ticks.tick().await;
            let now = self.gate.clock.now();
            let due = tidied.is_none_or(|at: Instant| at.elapsed() > TIDY_EVERY);
            let forget = due.then_some(now - bounds.forget);
            if self.tell_bans(now, forget).await && due {
                tidied = Some(Instant::now());
            }
            if anew.elapsed() > ANEW_EVERY {
                // Turns begin again where an older copy of the registry was restored.
                (heard, anew) = (Place::default(), Instant::now());
            }
            self.hear_bans(&mut heard).await;
        }
    }

    /// Whether the registry took what there was.
    async fn tell_bans(&self, now: Micros, forget: Option<Micros>) -> bool {
        let fresh = if self.bans.is_some() { self.gate.guard.fresh(BANS_AT_ONCE) } else { vec![] };
        if fresh.is_empty() && forget.is_none() {
            return true;
        }
        let words = fresh.iter().map(word_of).collect();
        let told = self.answered(self.registry.tell(Topic::Ban, words, forget)).await;
        if said("bans", told).is_none() {
            self.gate.guard.untold(fresh, now);
            return false;
        }
        true
    }

    async fn hear_bans(&self, heard: &mut Place) {
        for _ in 0..PAGES_AT_ONCE {
            let told = self.answered(self.registry.told(Topic::Ban, heard.clone(), PAGE)).await;
            let Some(told) = said("the bans of other gateways", told) else { return };
            let bans: Vec<_> = told.iter().filter_map(|(_, word)| ban_of(word)).collect();
            self.gate.guard.learn(&bans, self.gate.clock.now());
            let is_all = told.len() < PAGE;
            if let Some((place, _)) = told.into_iter().next_back() {
                *heard = place;
            }
            if is_all {
                return;
            }
        }
    }

    async fn tell_uses(&self) {
        let mut ticks = interval(USES_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut known, mut tidied, mut uses) = (None, None, Vec::new());
        loop {
            ticks.tick().await;
            let now = self.gate.clock.now();
            if uses.is_empty() {
                uses = self.gate.keys.take_uses(USES_AT_ONCE);
            }
            let is_all = uses.len() < USES_AT_ONCE;
            let due = tidied.is_none_or(|at: Instant| at.elapsed() > FORGET_EVERY);
            if !uses.is_empty() || due {
                let forget = due.then_some(now - FORGET_USES);
                let told = self.registry.tell(Topic::Use, uses.clone(), forget);
                if said("when keys were last used", self.answered(told).await).is_none() {
                    continue;
                }
                uses.clear();
                tidied = if due { Some(Instant::now()) } else { tidied };
            }
            if is_all && known.is_none_or(|at: Instant| at.elapsed() > KNOWN_EVERY) {
                let known_until = vec![Word { id: self.this.name.clone(), at: now, detail: 0 }];
                let forget = Some(now - FORGET_GATEWAYS);
                let told = self.answered(self.registry.tell(Topic::Gateway, known_until, forget));
                if said("that it is there", told.await).is_some() {
                    known = Some(Instant::now());
                }
            }
        }
    }

    async fn answered<T>(
        &self,
        answer: impl Future<Output = Result<T, RegistryError>>,
    ) -> Result<T, RegistryError> {
        let late = |_| RegistryError::Unavailable("it does not answer in time".into());
        timeout(DEADLINE, answer).await.map_err(late)?
    }
}

/// What a gateway that starts now is known by: where it runs, and a number of its own.
pub(super) fn name() -> Result<String, getrandom::Error> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let host: String = host.trim().chars().filter(plain).take(40).collect();
    let host = if host.is_empty() { "gateway".to_owned() } else { host };
    Ok(format!("{host}-{:08x}", getrandom::u32()?))
}

fn said<T>(what: &str, told: Result<T, RegistryError>) -> Option<T> {
    told.map_err(|error| tracing::debug!(%error, what, "gateways cannot tell each other")).ok()
}

fn word_of(ban: &Ban) -> Word {
    Word { id: bans::id(ban.network), at: ban.until, detail: ban.level.into() }
}

fn ban_of(word: &Word) -> Option<Ban> {
    let network: IpAddr = word.id.parse().ok()?;
    let level = u8::try_from(word.detail).unwrap_or(u8::MAX);
    Some(Ban { network, until: word.at, level, by_hand: false })
}

/// With the time that both take, a ban is heard of within half a second.
const BANS_EVERY: Duration = Duration::from_millis(200);
/// So 320 a second, and no more than [`Topic::most`] in all.
const BANS_AT_ONCE: usize = 64;
const PAGE: usize = 1_000;
const PAGES_AT_ONCE: usize = 100;
const TIDY_EVERY: Duration = Duration::from_mins(1);
const ANEW_EVERY: Duration = Duration::from_mins(10);

const USES_EVERY: Duration = Duration::from_secs(5);
/// So 200 a second at most.
const USES_AT_ONCE: usize = 1_000;
const KNOWN_EVERY: Duration = Duration::from_mins(1);
const FORGET_EVERY: Duration = Duration::from_hours(1);
/// What was last used before is as good as never used.
const FORGET_USES: Duration = Duration::from_hours(400 * 24);
const FORGET_GATEWAYS: Duration = Duration::from_hours(1);
/// With a change of the registry a gateway tells that it has applied it; and so often that it is there.
const APPLIED_EVERY: Duration = Duration::from_secs(5);
const APPLIED_APART: Duration = Duration::from_millis(50);
/// A gateway that was not heard of for so long trusts nothing it knew of keys: reads go on for five minutes at most
/// unless a configuration says longer.
const FORGET_APPLIED: Duration = Duration::from_mins(10);
const DEADLINE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_ban_is_what_is_heard() {
        for network in ["198.51.100.7", "2001:db8:1:2::"] {
            let (network, until) = (network.parse().unwrap(), Micros(1_760_000_000_000_000));
            let ban = Ban { network, until, level: 3, by_hand: false };
            assert_eq!(ban_of(&word_of(&ban)), Some(ban));
        }
    }

    #[test]
    fn what_is_no_ban_bans_nobody() {
        let word = |id: &str| Word { id: id.into(), at: Micros(1), detail: u32::MAX };
        for id in ["", "0.0.0.0/0", "nobody"] {
            assert_eq!(ban_of(&word(id)), None, "{id}");
        }
    }
}
