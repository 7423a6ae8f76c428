//! The path of a request, from bytes to permit. Every check is named here once, in order.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use crate::checks::limit::{Costs, Payer};
use crate::checks::load::Load;
use crate::checks::signature::Signed;
use crate::checks::{
    LEAKY, address, digest, freshness, limit, load, otp, passphrase, permission, replay, signature,
    state, symbol, syntax,
};
use crate::clock::{Clock, Micros};
use crate::denial::{Denial, Shadowed};
use crate::dialect::{Claim, Dialect, Inbound, Nonce, Outgoing, Room, TimeKind};
use crate::key::Key;
use crate::registry::{Keys, Looked, Nearest};
use crate::store::{Levels, Receipt, Store, Verdict};

pub use crate::checks::challenge::{CHALLENGE, Challenges};
pub use crate::checks::decoy::Decoys;
pub use crate::checks::guard::{Ban, BanBounds, BanCounts, Bounds, Guard, LEVELS as BAN_LEVELS};
pub use crate::checks::limit::{Filled, Standing};
pub use crate::checks::load::{Charges, Orders, Shadow, WeightBy};
pub use crate::checks::meter::{Charged, Counts, Lane, Meter};
pub use crate::checks::otp::{CodePlace, SecondFactor};
pub use crate::checks::scratch::Scratch;
pub use crate::checks::seal::Seal;
pub use crate::checks::switches::Switches;
pub use crate::checks::symbol::SymbolPlace;
pub use crate::route::{Ask, Effect, Route};

/// Proof that every check passed. Only [`Gate::admit`] makes one, and forwarding takes one by value.
///
/// ```compile_fail
/// let forged = countersign::admit::Permit { key: None };
/// ```
#[derive(Debug)]
pub struct Permit {
    key: Option<Arc<Key>>,
    outgoing: Outgoing,
    /// Whether this gateway judged it alone.
    is_local: bool,
    good_until: Option<Micros>,
    seal: Option<Box<Seal>>,
    shadowed: Shadowed,
    receipt: Option<Box<Receipt>>,
}

impl Permit {
    /// Whose request this is; `None` on a public route.
    pub fn key(&self) -> Option<&Key> {
        self.key.as_deref()
    }

    /// The same for whoever keeps it.
    pub fn shared_key(&self) -> Option<Arc<Key>> {
        self.key.clone()
    }

    /// What may reach the backend.
    pub fn outgoing(&self) -> &Outgoing {
        &self.outgoing
    }

    /// Whether this gateway judged it alone, since the shared store could not be asked.
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// What of its charge may be given back, once the backend has answered.
    pub fn take_receipt(&mut self) -> Option<Box<Receipt>> {
        self.receipt.take()
    }

    /// What rules in shadow would have refused.
    pub fn shadowed(&self) -> Shadowed {
        self.shadowed
    }

    /// What signs the reply, where the dialect's clients check that.
    pub fn take_seal(&mut self) -> Option<Box<Seal>> {
        self.seal.take()
    }

    /// When the signature stops being good: nothing may be sent to a backend after it.
    pub fn good_until(&self) -> Option<Micros> {
        self.good_until
    }
}

/// Decides whether a request may pass.
#[derive(Debug)]
pub struct Gate<K, S, C> {
    /// Which keys there are.
    pub keys: K,
    /// What was seen and spent.
    pub store: S,
    /// What time it is.
    pub clock: C,
    /// What unknown keys are checked against.
    pub decoys: Decoys,
    /// Who failed too often.
    pub guard: Guard,
    /// What is switched off for every key.
    pub switches: Arc<Switches>,
}

impl<K: Keys, S: Store, C: Clock> Gate<K, S, C> {
    /// What the head alone decides, so that a body is read only for who may send one.
    pub fn screen(&self, head: &Inbound<'_>, route: &Route) -> Result<(), Denial> {
        syntax::check(head, route.body_cap)?;
        match &route.ask {
            Ask::Public => Ok(()),
            Ask::Key(dialect) | Ask::Signed(dialect)
                if dialect.claims_in_body() && !dialect.names_key_in_head() =>
            {
                Ok(())
            }
            Ask::Key(dialect) => dialect.key_id(head, &mut Room::default()).map(|_| ()),
            Ask::Signed(dialect) if dialect.claims_in_body() => {
                dialect.key_id(head, &mut Room::default()).map(|_| ())
            }
            Ask::Signed(dialect) => {
                let room = &mut Room::default();
                let claim = dialect.claim(head, room)?;
                fresh(dialect, &claim, route, self.clock.now())
            }
        }
    }

    /// Runs every check, cheapest first, and stops at the first that fails.
    ///
    /// Nothing is written to any store before the signature holds. What else is known of the request then stands in
    /// `scratch`: how full limits are, and of one that is refused whose it was proved to be.
    pub async fn admit(
        &self,
        request: &Inbound<'_>,
        route: &Route,
        scratch: &mut Scratch,
    ) -> Result<Permit, Denial> {
        self.admit_at(request, route, scratch, self.clock.now()).await
    }

    /// The same for the gateway, which has just looked at the clock, when the last of the request had come. An embedder's
    /// moment could be any: what is stale must not pass by it.
    pub(crate) async fn admit_at(
        &self,
        request: &Inbound<'_>,
        route: &Route,
        scratch: &mut Scratch,
        now: Micros,
    ) -> Result<Permit, Denial> {
        let Scratch { room, bench, refused, standing } = scratch;
        *refused = None;
        standing.clear();
        syntax::check(request, route.body_cap)?;
        let dialect = match &route.ask {
            Ask::Public => return self.admit_public(request, route, standing).await,
            Ask::Key(named) => return self.admit_key(named, request, route, standing).await,
            Ask::Signed(dialect) => dialect,
        };
        // Looked at where it was made: it is large.
        let claim = dialect.claim(request, room);
        let claim = claim.as_ref().map_err(|denial| *denial)?;
        if !LEAKY {
            fresh(dialect, claim, route, now)?;
        }
        digest::check(request, claim)?;
        let mut waited = false;
        let looked = noting(pin!(self.look(claim.key_id, route)), &mut waited).await?;
        let watch = self.guard.watch(request.peer, claim.key_id, now);
        let at = replay::signed_at(dialect, claim);
        let foresee = |identity, account| self.store.foresee(identity, at, account);
        let against = (&self.decoys, &watch);
        let signed = signature::check(dialect, request, claim, looked, against, bench, foresee)?;
        let signed = &*refused.insert(signed);
        state::check(signed.key(), &route.venue, now).map_err(|denial| watch.disowned(denial))?;
        signed.secret().note_use(now);
        passphrase::check(signed.key(), claim.passphrase, &watch)?;
        let mut shadowed = Shadowed::default();
        self.check_key(signed.key(), request.peer, route, now, &mut shadowed)?;
        watching(route, symbol::check(signed.key(), route, request, claim), &mut shadowed)?;
        let load = load::of(route, request)?;
        let (code, cut) = otp::ask(route, request, claim, signed, &watch, &mut shadowed)?;

        let mut charge = replay::charge(signed, dialect, claim, route, now);
        limit::charge(Payer::Holder(signed.key()), route, request.peer, load, &mut charge.costs);
        otp::bind(code.as_ref(), &mut charge);
        let mut receipt = Receipt::of(&charge);
        freshness::after_doubt(self.clock.sure_since(), &charge, dialect.future())?;
        let verdict = noting(pin!(self.store.spend(&charge)), &mut waited).await;
        let spent =
            settle(&verdict, &charge.costs, standing).map_err(|denial| watch.disowned(denial));
        let levels = otp::settle(code.as_ref(), spent)?;
        // Where nobody waited no time has passed.
        if waited || LEAKY {
            fresh(dialect, claim, route, self.clock.now())
                .inspect_err(|_| standing.fill(&charge.costs, levels))?;
        }
        watch.proved(signed.secret().algorithm());
        limit::complete(&charge.costs, levels, receipt.as_deref_mut());
        tell(&charge.costs, levels, (&mut shadowed, standing));
        let code = code.and_then(otp::Code::into_cut).or(cut);
        Ok(Permit {
            outgoing: Outgoing::of(dialect, claim, signed.reading(), request, code),
            is_local: levels.is_local,
            good_until: replay::good_until(dialect, claim),
            seal: signature::seal(signed, dialect, claim),
            key: refused.take().map(Signed::into_key),
            shadowed,
            receipt,
        })
    }

    /// A key id alone proves little: no address, permission or venue is waived, and nothing is recorded.
    ///
    /// Whoever may not pass learns nothing of the key, and who may spends nothing of its holder's.
    async fn admit_key(
        &self,
        dialect: &Dialect,
        request: &Inbound<'_>,
        route: &Route,
        standing: &mut Standing,
    ) -> Result<Permit, Denial> {
        self.guard.welcomes(request.peer, &self.clock)?;
        syntax::check_unsigned(request)?;
        let room = &mut Room::default();
        let looked = self.look(dialect.key_id(request, room)?, route).await?;
        let key = looked.and_then(Nearest::into_key).ok_or(Denial::UnknownKey)?;
        if key.dialect != *dialect.name() {
            return Err(Denial::WrongDialect);
        }
        let now = self.clock.now();
        let mut shadowed = Shadowed::default();
        state::check(&key, &route.venue, now)
            .and_then(|()| self.check_key(&key, request.peer, route, now, &mut shadowed))
            .and_then(|()| watching(route, symbol::check_unread(&key, route), &mut shadowed))
            .map_err(|_| Denial::UnknownKey)?;
        let load = load::of(route, request)?;
        let outgoing = Outgoing::unproven(dialect, request)?;
        let payer = Payer::Claimant(&key);
        self.pay(payer, route, request, load, (&mut shadowed, standing)).await?;
        let (key, good_until, seal) = (Some(key), None, None);
        let receipt = None;
        Ok(Permit { key, outgoing, is_local: false, good_until, seal, shadowed, receipt })
    }

    async fn admit_public(
        &self,
        request: &Inbound<'_>,
        route: &Route,
        standing: &mut Standing,
    ) -> Result<Permit, Denial> {
        self.guard.welcomes(request.peer, &self.clock)?;
        syntax::check_unsigned(request)?;
        let load = load::of(route, request)?;
        let mut shadowed = Shadowed::default();
        self.pay(Payer::Anyone, route, request, load, (&mut shadowed, standing)).await?;
        let outgoing = Outgoing::default();
        let (key, good_until, seal, receipt) = (None, None, None, None);
        Ok(Permit { key, outgoing, is_local: false, good_until, seal, shadowed, receipt })
    }

    /// Whether the key may be used from there, for that; rules in shadow only note what they think.
    fn check_key(
        &self,
        key: &Key,
        peer: IpAddr,
        route: &Route,
        now: Micros,
        shadowed: &mut Shadowed,
    ) -> Result<(), Denial> {
        let shadow = route.shadow();
        match address::check(key, peer) {
            Err(denial) if shadow.address => shadowed.note(denial)?,
            checked => checked?,
        }
        match permission::check(key, route, &self.switches, now) {
            Err(denial) if shadow.permission => {
                shadowed.note(permission::check_in_shadow(denial, route, &self.switches)?)
            }
            checked => checked,
        }
    }

    /// Whether `key` may go on at `route` from `peer`, as of now: the key as it stands. It is asked now and then of what
    /// outlives its request.
    pub async fn recheck(
        &self,
        key: &Key,
        route: &Route,
        peer: IpAddr,
    ) -> Result<Arc<Key>, Denial> {
        let found = self.keys.find(&key.id, route.key_max_age).await;
        let key = found.map_err(|_| Denial::Unavailable)?.ok_or(Denial::UnknownKey)?;
        let now = self.clock.now();
        state::check(&key, &route.venue, now)?;
        self.check_key(&key, peer, route, now, &mut Shadowed::default())?;
        Ok(key)
    }

    /// The key that is claimed, or what was read in its place.
    async fn look(&self, id: &str, route: &Route) -> Result<Looked, Denial> {
        self.keys.look(id, route.key_max_age).await.map_err(|_| Denial::Unavailable)
    }

    async fn pay(
        &self,
        payer: Payer<'_>,
        route: &Route,
        request: &Inbound<'_>,
        load: Load,
        (shadowed, standing): (&mut Shadowed, &mut Standing),
    ) -> Result<(), Denial> {
        let mut costs = Costs::new();
        limit::charge(payer, route, request.peer, load, &mut costs);
        if costs.is_empty() {
            return Ok(());
        }
        let verdict = self.store.pay(self.clock.now(), &costs).await;
        let levels = settle(&verdict, &costs, standing)?;
        tell(&costs, levels, (shadowed, standing));
        Ok(())
    }
}

/// Tells how full the limits are, and what those in shadow would have refused.
fn tell(costs: &Costs, levels: &Levels, (shadowed, standing): (&mut Shadowed, &mut Standing)) {
    for denial in limit::beyond(costs, levels) {
        // Limits can all be in shadow.
        let _noted = shadowed.note(denial);
    }
    standing.fill(costs, levels);
}

/// What was checked, but where the route's permissions are in shadow: there it is noted alone.
fn watching(
    route: &Route,
    checked: Result<(), Denial>,
    shadowed: &mut Shadowed,
) -> Result<(), Denial> {
    match checked {
        Err(denial) if route.shadow().permission => shadowed.note(denial),
        Ok(()) | Err(_) => checked,
    }
}

/// What `work` comes to; and notes whether that took any waiting.
async fn noting<W: Future>(mut work: Pin<&mut W>, waited: &mut bool) -> W::Output {
    poll_fn(|context| {
        let polled = work.as_mut().poll(context);
        *waited |= polled.is_pending();
        polled
    })
    .await
}

fn fresh(dialect: &Dialect, claim: &Claim<'_>, route: &Route, now: Micros) -> Result<(), Denial> {
    let Some(time) = claim.time else {
        let near = |nonce: Nonce<'_>| Some((Micros::from_millis(nonce.number), nonce.near?));
        let near = claim.nonce.and_then(near);
        return near.map_or(Ok(()), |(at, bound)| freshness::stamp(at, now, bound, bound));
    };
    match dialect.time_kind() {
        TimeKind::Stamp => freshness::stamp(time.at, now, claim.window, dialect.future()),
        TimeKind::Deadline => {
            let begun = claim.not_before().map(|at| freshness::begun(at, now, dialect.future()));
            begun.unwrap_or(Ok(()))?;
            freshness::deadline(time.at, now, route.lead)
        }
        TimeKind::None => Ok(()),
    }
}

/// What the store's verdict comes to. Whatever is not plainly new is a denial; with one by a limit goes how full the
/// others are.
fn settle<'v>(
    verdict: &'v Verdict,
    costs: &Costs,
    standing: &mut Standing,
) -> Result<&'v Levels, Denial> {
    match verdict {
        Verdict::New(levels) => Ok(levels),
        Verdict::Seen => Err(Denial::Replayed),
        Verdict::Low => Err(Denial::Stale(Duration::ZERO)),
        Verdict::StepSpent => Err(Denial::CodeSpent),
        Verdict::Outdated => Err(Denial::KeyInactive),
        Verdict::Over { cost, retry_after, level, beside } => {
            standing.fill_some(costs, beside);
            Err(limit::exceeded(costs, *cost, *level, *retry_after))
        }
        Verdict::Fenced { retry_after } => Err(Denial::Fenced(*retry_after)),
        Verdict::Full => Err(Denial::StoreFull),
        Verdict::Unavailable => Err(Denial::Unavailable),
    }
}
