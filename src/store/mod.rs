//! What must be remembered between requests: which signed bytes were seen, and what was spent.
//!
//! One call, [`Store::spend`], settles replay and limits together, all or nothing.

mod grid;
#[cfg(feature = "server")]
pub mod live;
pub mod memory;
#[cfg(feature = "server")]
pub mod redis;

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use arrayvec::ArrayVec;

use crate::clock::Micros;

/// The most limits that one request can be charged to.
pub const MAX_COSTS: usize = 8;

/// What makes two requests the same request: a digest of the key and the canonical signed bytes.
///
/// Never of the signature's text, which can be spelled in several ways.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Identity(pub [u8; 16]);

/// The signed time of a request, by the kind its dialect declares. The fence at start depends on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SignedTime {
    /// The moment of signing.
    Stamp(Micros),
    /// The moment after which the request is void. `lead` is the furthest ahead a route lets it lie.
    Deadline {
        /// The signed deadline.
        at: Micros,
        /// The furthest ahead of now that this route accepts.
        lead: Duration,
    },
    /// No clock: a number that must grow with every request of its key.
    ///
    /// A number too far ahead is refused, so that a slip does not lock its owner out for ever: how far is
    /// the store's to say. What a slip below that bound jumped over is lost to the key, until it signs with larger
    /// numbers or gets a new secret.
    Growing {
        /// Whose numbers: a digest of the key id and of which of its secrets signed, so that a new secret starts
        /// afresh.
        key: [u8; 16],
        /// The number.
        nonce: u64,
        /// How far below the highest number accepted one may lie that has not come yet, for clients that send in
        /// parallel; 0 where every number must exceed all before it. The store remembers a bounded count of
        /// numbers; where more came within the window, the window is that much narrower.
        window: u64,
    },
    /// No clock: a nonce that may pass once, ever. It is accepted only when it is noted where it outlives the process.
    Unique {
        /// Whose share of the room it takes: a digest of the key id and of which of its secrets signed.
        key: [u8; 16],
        /// A digest of `key` and the nonce, so that the same nonce under another key or another secret is another
        /// one.
        nonce: [u8; 16],
    },
}

/// Whether the very same bytes may come again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Repeat {
    /// Never, on any route.
    Never,
    /// On the same route only: reads in dialects whose time counts whole seconds, polled by honest clients
    /// more often than that. Each repetition is charged.
    SameRoute,
}

/// The name of one allowance: a hash of its scope and whom it belongs to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Subject(pub u64);

/// A rate: `quota` units per `period`, spendable in one burst of `quota`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Limit {
    /// Units allowed per period; at least 1.
    pub quota: u32,
    /// The period; at least 1 ms.
    pub period: Duration,
}

/// How what was spent is counted, and when it is over.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Window {
    /// A bucket of tokens: `quota` at once, and then as the period brings them back. A span of one period sees at
    /// most twice the quota: a full bucket, and what came back meanwhile.
    #[default]
    Bucket,
    /// Any span of one period sees at most the quota. What was spent is counted in fifteenths of the period, and
    /// counts until the last of its fifteenth is a period old: a steady client gets at least 15/16 of the quota.
    Sliding,
    /// Each period, counted from the epoch, sees at most the quota: minutes begin with minutes, days with days of UTC.
    Fixed,
}

/// For whom a limit is counted.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Scope {
    /// Each key.
    #[default]
    Key,
    /// Each account, over all its keys.
    Account,
    /// Each client address, or /64 of IPv6.
    Address,
    /// All requests together.
    Global,
}

/// What a request takes of a limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Counts {
    /// Its weight.
    #[default]
    Weight,
    /// The orders that it places; a request that places none is not counted.
    Orders,
}

/// Which requests are charged in the end. Each is charged before it is sent, so that no limit is ever exceeded
/// meanwhile; what is given back is given back once, and only what still counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Charged {
    /// All that were sent.
    #[default]
    Always,
    /// Those that the backend refused: one that it answers with 2xx is given back.
    Refused,
    /// Those that it accepted: one that it answers with 4xx is given back.
    Accepted,
}

impl Charged {
    /// Whether a request is given back that the backend answered with this status. What it neither accepted nor
    /// refused stays charged: it may have acted.
    pub const fn gives_back(self, status: u16) -> bool {
        match self {
            Self::Always => false,
            Self::Refused => matches!(status, 200..=299),
            Self::Accepted => matches!(status, 400..=499),
        }
    }
}

/// One limit that a request is charged to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Whose allowance. It names how it is counted as well, so that two ways never share one.
    pub subject: Subject,
    /// How large it is.
    pub limit: Limit,
    /// Units this request takes.
    pub weight: u32,
    /// Whether more than one account spends it, as an address's. Such costs come last, and no store is asked about
    /// them on a request's way.
    pub spans_accounts: bool,
    /// How it is counted.
    pub window: Window,
    /// For whom.
    pub scope: Scope,
    /// Whether it is counted and not enforced. What does not fit is then not charged, and passes: its level lies above
    /// the quota.
    pub shadow: bool,
    /// What its units are.
    pub counts: Counts,
    /// Whether it is given back, once the backend has answered.
    pub charged: Charged,
}

impl Cost {
    /// What a key spends of a bucket of its own.
    pub const fn of_key(subject: Subject, limit: Limit, weight: u32) -> Self {
        Self {
            subject,
            limit,
            weight,
            spans_accounts: false,
            window: Window::Bucket,
            scope: Scope::Key,
            shadow: false,
            counts: Counts::Weight,
            charged: Charged::Always,
        }
    }
}

/// All that one proven request wants of the store.
#[derive(Clone, Debug)]
pub struct Charge {
    /// The moment it is judged.
    pub now: Micros,
    /// What it is.
    pub identity: Identity,
    /// Its nonce under its key, where other content with the same nonce must be refused as well. It is
    /// remembered as long as the request is, and nothing with a nonce may repeat. Only for requests that sign a
    /// time, and told apart from every request's own identity by what is digested.
    pub nonce: Option<Identity>,
    /// Whose share of the store it takes: the account, as a hash.
    pub account: u64,
    /// The key that signed it.
    pub key: [u8; 16],
    /// The epoch of what is known of that key. A shared store refuses one that is older than the key's last
    /// revocation there.
    pub epoch: u64,
    /// The step of the account's second factor that its code spends, where the route asks for one. A wrong code makes
    /// a charge without step and costs, so that the request is spent and nothing else.
    pub step: Option<u64>,
    /// When it was signed, for the fence. It is part of what was signed: the same identity always comes with the same
    /// time, and is sought where that says.
    pub time: SignedTime,
    /// Until when its signature could be accepted, and so must be remembered.
    pub keep_until: Micros,
    /// The route it came by.
    pub route: u16,
    /// Whether it may repeat there.
    pub repeat: Repeat,
    /// The limits it is charged to.
    pub costs: ArrayVec<Cost, MAX_COSTS>,
}

/// How full each charged limit is after the charge, in the order of [`Charge::costs`], in units; and when that was.
#[derive(Clone, Debug, Default)]
pub struct Levels {
    units: ArrayVec<u32, MAX_COSTS>,
    /// The moment of the charge by the clock of whoever counts, which says in which window it lies.
    pub at: Micros,
    /// Whether this gateway judged alone, since the shared store could not be asked.
    pub is_local: bool,
    /// Where more than one server counts: which did, and when by the clock of each.
    pub(crate) counted: Vec<(usize, Micros)>,
}

impl Deref for Levels {
    type Target = ArrayVec<u32, MAX_COSTS>;

    fn deref(&self) -> &Self::Target {
        &self.units
    }
}

impl DerefMut for Levels {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.units
    }
}

impl PartialEq for Levels {
    /// Whether they are equally full: no two clocks agree about the moment.
    fn eq(&self, other: &Self) -> bool {
        self.units == other.units
    }
}

impl FromIterator<u32> for Levels {
    fn from_iter<T: IntoIterator<Item = u32>>(units: T) -> Self {
        Self { units: units.into_iter().collect(), ..Self::default() }
    }
}

/// What the store answers.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// First delivery: recorded and charged.
    New(Levels),
    /// These signed bytes were seen before; nothing was charged.
    Seen,
    /// A growing number that does not exceed its key's highest, of a request that never passed; nothing was charged.
    Low,
    /// Over the limit at index `cost`; nothing was recorded nor charged.
    Over {
        /// Which of [`Charge::costs`].
        cost: usize,
        /// After how long this charge would fit.
        retry_after: Duration,
        /// How full that limit is, in units.
        level: u32,
        /// How full the others are, each by its place among the costs, as far as that is known.
        beside: Box<[(usize, u32)]>,
    },
    /// Signed before this store was sure to remember everything; sign again after `retry_after`.
    Fenced {
        /// When a request signed then will be judged again.
        retry_after: Duration,
    },
    /// The key was changed since it was looked up: what is known of it counts no longer.
    Outdated,
    /// The account has spent this step of its second factor before, or a later one. Judged before the limits, and
    /// nothing was recorded nor charged.
    StepSpent,
    /// No room for another record, in the whole store or for this account; nothing live is ever evicted.
    Full,
    /// The store could not answer, or not in time. Limits may have been charged.
    Unavailable,
}

/// Remembers. Nothing is changed but for a request whose signature holds.
pub trait Store {
    /// Told just before a signature is checked: what the request is if it holds, when it says that it was signed, and
    /// whose account it would be. What [`Store::spend`] then looks up can be on its way from memory meanwhile.
    ///
    /// Nothing is proved by then. So nothing may be changed, and the same is to be done whatever is told: where no such
    /// key is known, the account is another one.
    fn foresee(&self, _identity: Identity, _signed_at: Option<Micros>, _account: u64) {}

    /// Settles one charge, all or nothing.
    ///
    /// Not required to be `Send`: each worker thread awaits its own requests.
    fn spend(&self, charge: &Charge) -> impl Future<Output = Verdict>;

    /// Charges limits alone, all or nothing, for requests that are not signed and so not recorded.
    ///
    /// Not required to be `Send`, as [`Store::spend`].
    fn pay(&self, now: Micros, costs: &[Cost]) -> impl Future<Output = Verdict>;

    /// Gives back what a request was charged, once, as far as it still counts. It may be lost, and then it is not
    /// given back.
    ///
    /// Nobody waits for it.
    fn give_back(&self, _receipt: &Receipt, _now: Micros) {}
}

/// What a request was charged that may be given back.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// When, by the clock of whoever counts.
    pub at: Micros,
    /// Where more than one server counts: which did, and when by the clock of each.
    pub(crate) counted: Vec<(usize, Micros)>,
    /// What it is.
    pub identity: Identity,
    /// Its account, as in [`Charge::account`].
    pub account: u64,
    /// The key that signed it.
    pub key: [u8; 16],
    /// When it was signed.
    pub time: SignedTime,
    /// The route it came by.
    pub route: u16,
    /// What was charged, and may be given back.
    pub costs: ArrayVec<Cost, MAX_COSTS>,
}

impl Receipt {
    /// The receipt of a charge, where some of it may be given back.
    pub fn of(charge: &Charge) -> Option<Box<Self>> {
        let may = |cost: &&Cost| cost.charged != Charged::Always && !cost.spans_accounts;
        charge.costs.iter().any(|cost| may(&cost)).then(|| {
            Box::new(Self {
                at: charge.now,
                counted: Vec::new(),
                identity: charge.identity,
                account: charge.account,
                key: charge.key,
                time: charge.time,
                route: charge.route,
                costs: charge.costs.iter().filter(may).copied().collect(),
            })
        })
    }

    /// What of it is given back to a request that the backend answered with this status.
    pub fn given_back(mut self: Box<Self>, status: u16) -> Option<Box<Self>> {
        self.costs.retain(|cost| cost.charged.gives_back(status));
        (!self.costs.is_empty()).then_some(self)
    }
}
