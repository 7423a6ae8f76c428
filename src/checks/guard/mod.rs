//! Defeats a flood of forgeries that keeps the processor verifying, and the guessing of passphrases and codes: failures
//! cost the address they come from, never the key that they name.

mod bans;
mod codes;
mod proven;
mod tally;

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::time::Duration;

use foldhash::quality::RandomState;
use ipnet::IpNet;

use self::bans::Bans;
pub use self::bans::{Ban, BanBounds, BanCounts, LEVELS};
use self::codes::Codes;
use self::proven::{Pair, Proven};
use self::tally::Tally;
use super::limit::network;
use crate::clock::{Clock, Micros};
use crate::denial::{Denial, Excess};
use crate::key::{Algorithm, Allowlist, Key};
use crate::store::Limit;

/// How many failures are borne.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Failed signatures of one address, or /64 of IPv6; any number when `None`. Its quota is 1,000 at most, its period
    /// 1 s at least.
    pub failures: Option<Limit>,
    /// What befalls an address that goes on failing; nothing more when `None`.
    pub bans: Option<BanBounds>,
    /// Wrong passphrases under good signatures of one key from one address; any number when `None`. Bounded likewise.
    pub passphrases: Option<Limit>,
    /// Wrong codes under good signatures of one account from one address; any number when `None`. Bounded likewise.
    pub codes: Option<Limit>,
    /// Wrong codes of one account from all addresses together that have shown no right one lately; any number when
    /// `None`. Bounded likewise.
    pub codes_per_account: Option<Limit>,
    /// For how long an address counts as one that has shown a right code. Counted in whole seconds.
    pub codes_known_for: Duration,
    /// For how long an address counts as one from which a key was proved. Counted in whole seconds.
    pub proven_for: Duration,
    /// Networks whose failed signatures cost them nothing.
    pub exempt: Vec<IpNet>,
}

impl Default for Bounds {
    fn default() -> Self {
        let minutes = Duration::from_mins;
        Self {
            failures: Some(Limit { quota: 100, period: minutes(1) }),
            bans: Some(BanBounds::default()),
            passphrases: Some(Limit { quota: 5, period: minutes(10) }),
            codes: Some(Limit { quota: 5, period: minutes(10) }),
            codes_per_account: Some(Limit { quota: 30, period: Duration::from_hours(24) }),
            codes_known_for: Duration::from_hours(30 * 24),
            proven_for: Duration::from_hours(1),
            exempt: Vec::new(),
        }
    }
}

/// Counts failures on this gateway, and remembers where keys were proved.
///
/// An address that has failed too often is told to wait, and banned if it does not, for longer each time. Both stop
/// only what proves nothing: signatures that are cheap to verify are always verified, and costly ones from where their
/// key was lately proved. Memory is fixed, about 5 MiB, and some more for each ban; see [`Tally`], [`Proven`] and
/// [`BanBounds::most`] for what a flood does to it.
pub struct Guard {
    failures: Tally,
    bans: Bans,
    passphrases: Tally,
    codes: Codes,
    proven: Proven,
    exempt: Allowlist,
    seed: RandomState,
}

impl Guard {
    /// A guard that has seen nothing.
    pub fn new(bounds: &Bounds) -> Self {
        let proven_for = bounds.failures.map_or(Duration::ZERO, |_| bounds.proven_for);
        Self {
            failures: Tally::new(bounds.failures, FAILURE_CELLS),
            bans: Bans::new(bounds.bans.filter(|_| bounds.failures.is_some())),
            passphrases: Tally::new(bounds.passphrases, GUESS_CELLS),
            codes: Codes::new(bounds),
            proven: Proven::new(proven_for, LINES),
            exempt: Allowlist::new(bounds.exempt.iter().copied()),
            seed: RandomState::default(),
        }
    }

    /// A guard that bears everything.
    pub fn off() -> Self {
        Self::new(&Bounds {
            failures: None,
            bans: None,
            passphrases: None,
            codes: None,
            codes_per_account: None,
            codes_known_for: Duration::ZERO,
            proven_for: Duration::ZERO,
            exempt: Vec::new(),
        })
    }

    /// The bans that hold at `now`, in the order of their addresses.
    pub fn bans(&self, now: Micros) -> Vec<Ban> {
        self.bans.all(now)
    }

    /// Bans an address, or the /64 of an IPv6 one, by hand. Such a ban keeps out whatever proves nothing: what asks for
    /// no proof too. It does not grow into a longer one, and is not told to other gateways by [`Guard::fresh`].
    pub fn ban(&self, address: IpAddr, until: Micros) {
        self.bans.by_hand(network(address), until);
    }

    /// Lifts the ban of an address, whoever made it, and forgets what it did; whether there was one.
    pub fn lift(&self, address: IpAddr) -> bool {
        let network = network(address);
        self.failures.clear(self.seed.hash_one(network));
        self.bans.lift(network, self.seed.hash_one(network))
    }

    /// Bans that other gateways made of what failed there. They are not told on.
    pub fn learn(&self, bans: &[Ban], now: Micros) {
        for ban in bans.iter().filter(|ban| !self.exempts(ban.network)) {
            self.bans.learn(&Ban { network: network(ban.network), ..*ban }, now);
        }
    }

    /// Bans that were made here of what failed here and that nobody was told of, at most `most`, the oldest first:
    /// for other gateways. Each is given out once.
    pub fn fresh(&self, most: usize) -> Vec<Ban> {
        self.bans.fresh(most)
    }

    /// Takes back bans that could not be told, to be given out again; but not those that were lifted meanwhile.
    pub fn untold(&self, bans: Vec<Ban>, now: Micros) {
        for ban in bans {
            if self.bans.of(ban.network, now).is_some() {
                self.bans.to_be_told(ban);
            }
        }
    }

    /// How bans stand, and what came of them.
    pub fn counts(&self, now: Micros) -> BanCounts {
        self.bans.counts(now)
    }

    /// Holds where no hand has banned the address: asked where there is no proof to stop for.
    pub(crate) fn welcomes(&self, peer: IpAddr, clock: &impl Clock) -> Result<(), Denial> {
        if self.bans.is_empty() {
            return Ok(());
        }
        let ban = self.bans.of(network(peer), clock.now()).filter(|ban| ban.by_hand);
        ban.map_or(Ok(()), |ban| Err(Denial::Banned(self.bans.refuse(&ban, clock.now()))))
    }

    /// Watches one request, which names `key_id`.
    pub(crate) fn watch<'w>(&'w self, peer: IpAddr, key_id: &'w str, now: Micros) -> Watch<'w> {
        Watch { guard: self, peer, key_id, now }
    }

    fn exempts(&self, address: IpAddr) -> bool {
        self.exempt.is_bound() && self.exempt.permits(address)
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self::new(&Bounds::default())
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Guard(..)")
    }
}

/// One request under the eyes of the guard. Nothing is worked out before it is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch<'w> {
    guard: &'w Guard,
    peer: IpAddr,
    key_id: &'w str,
    now: Micros,
}

impl Watch<'_> {
    /// When the request is judged.
    pub(crate) fn now(&self) -> Micros {
        self.now
    }

    /// Holds when a signature of this algorithm may be verified: always where that is cheap.
    pub(crate) fn admits(&self, algorithm: Algorithm) -> Result<(), Denial> {
        if algorithm.is_symmetric() || !self.is_in_trouble() {
            return Ok(());
        }
        if self.guard.proven.holds(self.pair(), self.now) {
            return Ok(());
        }
        self.turned_away().map_or(Ok(()), Err)
    }

    /// Counts a signature that does not hold, and says what to answer.
    ///
    /// An address that has failed too often gets one answer whatever key it names, and whether the work was done or
    /// spared: it is not told from which keys it is spared, nor which there are.
    pub(crate) fn failed(&self, denial: Denial) -> Denial {
        if self.guard.exempts(self.peer) {
            return denial;
        }
        let turned_away = self.turned_away();
        self.guard.failures.count(self.address(), self.now);
        turned_away.unwrap_or(denial)
    }

    /// What is answered to whoever signed rightly, and is told that nothing is proved: the same as to a wrong signature,
    /// which counts. Every other denial stays what it is.
    pub(crate) fn disowned(&self, denial: Denial) -> Denial {
        if matches!(denial, Denial::KeyInactive | Denial::WrongVenue) {
            self.failed(denial)
        } else {
            denial
        }
    }

    /// Remembers that the key was proved from here, where that can spare it a refusal.
    pub(crate) fn proved(&self, algorithm: Algorithm) {
        if !algorithm.is_symmetric() {
            self.guard.proven.note(self.pair(), self.now);
        }
    }

    /// Holds when a passphrase for `key` may be tried from here.
    pub(crate) fn may_guess(&self, key: &Key) -> Result<(), Denial> {
        let tries = &self.guard.passphrases;
        if !tries.is_any_over(self.now) {
            return Ok(());
        }
        let excess = tries.over(self.guess(key), self.now);
        excess.map_or(Ok(()), |excess| Err(Denial::TooManyGuesses(excess)))
    }

    /// Counts a wrong passphrase of `key`, whose signature holds.
    pub(crate) fn guessed_wrong(&self, key: &Key) {
        self.guard.passphrases.count(self.guess(key), self.now);
    }

    /// Takes one of the tries for a code of the account of `key`, if there is one left here.
    pub(crate) fn take_try(&self, key: &Key) -> Result<(), Denial> {
        self.guard.codes.take(self.holder(key), self.now).map_err(Denial::TooManyCodes)
    }

    /// Gives it back.
    pub(crate) fn give_try_back(&self, key: &Key) {
        self.guard.codes.give_back(self.holder(key), self.now);
    }

    /// Remembers that a right code was shown from here.
    pub(crate) fn knows_factor(&self, key: &Key) {
        self.guard.codes.shown(self.holder(key), self.now);
    }

    fn is_in_trouble(&self) -> bool {
        let guard = self.guard;
        (guard.failures.is_any_over(self.now) || !guard.bans.is_empty())
            && !guard.exempts(self.peer)
    }

    /// What an address is told that is banned or has failed too often. Whoever goes on although it was told to wait is
    /// banned in the end.
    fn turned_away(&self) -> Option<Denial> {
        let (bans, network) = (&self.guard.bans, network(self.peer));
        if let Some(ban) = bans.of(network, self.now) {
            return Some(Denial::Banned(bans.refuse(&ban, self.now)));
        }
        let excess = self.over()?;
        let ban = bans.insist(network, self.address(), self.now);
        Some(ban.map_or(Denial::TooManyFailures(excess), Denial::Banned))
    }

    fn over(&self) -> Option<Excess> {
        let failures = &self.guard.failures;
        if failures.is_any_over(self.now) { failures.over(self.address(), self.now) } else { None }
    }

    fn address(&self) -> u64 {
        self.hash(network(self.peer))
    }

    fn guess(&self, key: &Key) -> u64 {
        self.hash((key.tag, network(self.peer)))
    }

    fn pair(&self) -> Pair {
        Pair { key: self.hash(self.key_id), address: self.address() }
    }

    /// An account, and from where it is used.
    fn holder(&self, key: &Key) -> Pair {
        Pair { key: self.hash(key.account_tag), address: self.address() }
    }

    fn hash(&self, what: impl Hash) -> u64 {
        self.guard.seed.hash_one(what)
    }
}

/// Cells in each row, at most 2^16: 2 MiB in all.
const FAILURE_CELLS: usize = 1 << 16;
const GUESS_CELLS: usize = 1 << 12;
/// Lines: 2 MiB, and room for 262,144 pairs.
const LINES: usize = 1 << 15;

#[cfg(test)]
mod ban_tests;
#[cfg(test)]
mod tests;
