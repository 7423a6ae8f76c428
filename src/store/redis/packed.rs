//! The bytes of a call and of its answer, as the library in `function/` packs them.

use std::time::Duration;

use super::numbers::Growing;
use crate::clock::Micros;
use crate::store::memory::Rate;
use crate::store::{Charge, Cost, Levels, Repeat, Scope, SignedTime, Subject, Verdict, Window};

/// What marks one call, so that its repetition is known for ours: the gateway's own number, and a counter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Token(pub(super) [u8; 6]);

/// The arguments of one `spend` or `grow`.
pub(super) struct Spend {
    /// All that stands before the number of costs.
    head: [u8; HEAD],
    payer: Payer,
    pub(super) identity: [u8; FIELD],
    pub(super) record: [u8; RECORD],
    /// Its number, where it signs one that grows and no time.
    pub(super) growing: Option<Growing>,
    step: Option<u64>,
}

const HEAD: usize = 4 * 8 + 1;
/// 112 bits of a digest of 128: two requests of one do not come about by chance, nor by trying.
const FIELD: usize = 14;
const RECORD: usize = 8;

/// How far a signed time must lie after a server's birth.
#[derive(Clone, Copy, Debug)]
pub(super) struct Margins {
    /// The furthest ahead that a stamp may lie.
    pub(super) skew: Duration,
    /// How far two clocks of gateways may lie apart.
    pub(super) bound: Duration,
    /// For how long a predecessor may go on after a server's birth; nothing but in a cluster.
    pub(super) lease: Duration,
}

impl Margins {
    /// What a stamp must lie later than a birth, at least.
    pub(super) fn of_stamps(self) -> Duration {
        self.reach() + self.bound * 2
    }

    /// What a stamp may lie later than the moment at which nodes were asked that confirmed a lease: so much that every
    /// stamp that is not too far ahead of its time passes as long as they answer.
    pub(super) fn reach(self) -> Duration {
        self.skew + self.after_a_predecessor()
    }

    /// By how much more than after a birth a stamp must lie after the last lease of a predecessor began.
    pub(super) fn after_a_predecessor(self) -> Duration {
        (self.lease.saturating_sub(self.skew) + self.lease / 8).min(self.lease)
    }

    /// How long after nodes were asked that confirmed a lease what signs a deadline passes by it. A deadline does not tell
    /// when it was signed, so the whole of that is waited for; nodes are asked several times meanwhile.
    pub(super) fn for_deadlines(self) -> Duration {
        self.lease * 3 / 8
    }

    /// The same as `after_a_predecessor` for what a request is told to wait. One whose key the registry must vouch for, or
    /// a second factor, waits for that as long as for a stamp.
    pub(super) fn after_last_word(self, charge: &Charge) -> Duration {
        let is_alone = charge.step.is_none() && charge.epoch == 0;
        match charge.time {
            SignedTime::Deadline { .. } if is_alone => self.for_deadlines(),
            SignedTime::Deadline { .. }
            | SignedTime::Stamp(_)
            | SignedTime::Growing { .. }
            | SignedTime::Unique { .. } => self.after_a_predecessor(),
        }
    }

    /// How long after a birth another may have gone on, by any gateway's clock, with what signs neither.
    pub(super) fn after_birth(self) -> Duration {
        self.bound * 2 + self.lease
    }

    /// The same where nobody goes by a predecessor any longer.
    pub(super) fn without_lease(self) -> Self {
        Self { lease: Duration::ZERO, ..self }
    }
}

impl Spend {
    /// A call of servers that were born before `fence`.
    pub(super) fn new(charge: &Charge, token: Token, fence: Micros) -> Self {
        let payer = Payer::of(charge.account, charge.key);
        let mut head = [0; HEAD];
        let numbers = [fence.0, charge.keep_until.0].map(|number| exact(number).to_le_bytes());
        let key = [payer.key_tag(), exact(charge.epoch).to_le_bytes()];
        let flags =
            u8::from(charge.repeat == Repeat::SameRoute) | u8::from(charge.step.is_some()) << 1;
        let bytes = numbers.into_iter().chain(key).flatten().chain([flags]);
        head.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
        let mut record = [0; RECORD];
        let bytes = charge.route.to_le_bytes().into_iter().chain(token.0);
        record.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
        let growing = Growing::of(charge);
        let identity = field(charge.identity.0);
        Self { head, payer, identity, record, growing, step: charge.step }
    }

    /// All of it in one argument, with what it costs.
    pub(super) fn packed(&self, costs: &[Cost]) -> Vec<u8> {
        let most = HEAD + 1 + FIELD + RECORD + 2 * 16 + 8 + costs.len() * COST;
        let mut packed = Vec::with_capacity(most);
        packed.extend_from_slice(&self.head);
        packed.push(u8::try_from(costs.len()).unwrap_or(u8::MAX));
        packed.extend_from_slice(&self.identity);
        packed.extend_from_slice(&self.record);
        packed.extend(self.growing.iter().flat_map(Growing::packed));
        packed.extend(self.step.into_iter().flat_map(|step| exact(step).to_le_bytes()));
        pack(costs, Some(self.payer), &mut packed);
        packed
    }
}

/// Whose limits and epoch a request is subject to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Payer {
    account: u64,
    key: u64,
}

impl Payer {
    pub(super) fn of(account: u64, key: [u8; 16]) -> Self {
        Self { account, key: key.first_chunk().map_or(0, |half| u64::from_le_bytes(*half)) }
    }

    /// What tells the key from others, of other accounts too.
    pub(super) fn key_tag(self) -> [u8; 8] {
        (self.key ^ self.account.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_le_bytes()
    }

    /// The subject of a cost among those of all accounts.
    fn subject(self, cost: &Cost) -> u64 {
        let (Self { account, key }, Subject(subject)) = (self, cost.subject);
        subject
            ^ match cost.scope {
                Scope::Account => account.wrapping_mul(0x9E37_79B9_7F4A_7C15),
                Scope::Key | Scope::Address | Scope::Global => {
                    key.wrapping_mul(0xD6E8_FEB8_6659_FD93)
                }
            }
    }
}

/// What of a digest is remembered.
pub(super) fn field(digest: [u8; 16]) -> [u8; FIELD] {
    digest.first_chunk().copied().unwrap_or_default()
}

/// The moment that a server must have been born before; `None` where the request signs no time: what has none is not
/// remembered here.
pub(super) fn fence(time: SignedTime, margins: Margins) -> Option<Micros> {
    match time {
        SignedTime::Stamp(at) => Some(at - margins.of_stamps()),
        SignedTime::Deadline { at, lead } => {
            Some(at - lead - margins.bound * 2 - margins.for_deadlines())
        }
        SignedTime::Growing { key: _, nonce: _, window: _ }
        | SignedTime::Unique { key: _, nonce: _ } => None,
    }
}

/// Lua counts in doubles, which are exact below this.
fn exact(number: u64) -> u64 {
    number.min((1 << 53) - 1)
}

/// The limits of a call; those of nobody in particular have no payer.
pub(super) fn costs(costs: &[Cost], payer: Option<Payer>) -> Vec<u8> {
    let mut packed = Vec::with_capacity(costs.len() * COST);
    pack(costs, payer, &mut packed);
    packed
}

fn pack(costs: &[Cost], payer: Option<Payer>, to: &mut Vec<u8>) {
    for cost in costs {
        let rate = Rate::of(cost.limit);
        let subject = payer.map_or(cost.subject.0, |payer| payer.subject(cost));
        // What is counted in one way says nothing to another.
        let subject = subject ^ u64::from(kind(cost) & WAY).wrapping_mul(0xA076_1D64_78BD_642F);
        let (width, (amount, part)) = match cost.window {
            Window::Bucket => (rate.period_micros(), rate.taken(cost.weight)),
            Window::Sliding => (rate.period_micros().div_ceil(SPANS - 1), (cost.weight.into(), 0)),
            Window::Fixed => (rate.period_micros(), (cost.weight.into(), 0)),
        };
        to.extend_from_slice(&subject.to_le_bytes());
        to.push(kind(cost));
        to.extend_from_slice(&rate.quota().to_le_bytes());
        to.extend_from_slice(&width.to_le_bytes());
        to.extend_from_slice(&exact(amount).to_le_bytes());
        to.extend_from_slice(&part.to_le_bytes());
    }
}

/// How a cost is counted, whether it is enforced, and whether it can ever fit.
fn kind(cost: &Cost) -> u8 {
    let window = match cost.window {
        Window::Bucket => 0,
        Window::Sliding => 1,
        Window::Fixed => 2,
    };
    window | u8::from(cost.shadow) << 2 | u8::from(cost.weight > cost.limit.quota.max(1)) << 3
}

/// The part of a kind that says how it is counted.
const WAY: u8 = 3;
/// In how many spans a sliding window is counted, the present one among them.
const SPANS: u64 = 16;

/// The length of one packed cost.
const COST: usize = 8 + 1 + 4 + 8 + 8 + 4;

/// What one server answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Vote {
    /// The server's clock when it answered.
    pub(super) at: Micros,
    pub(super) said: Said,
}

/// What a server said of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    /// It is new there; what it left of the limits that were asked for.
    New(Levels),
    /// It was seen there.
    Seen,
    /// Over a limit.
    Over(Verdict),
    /// There is no room for what it would be charged to, or for its mark.
    Full,
    /// The server was born, by a gateway's clock, too late to know.
    Fenced(Micros),
    /// No gateway has told the server yet that it knows of its latest loss.
    Unborn,
    /// The key has changed.
    Outdated,
    /// The step of the second factor is spent.
    StepSpent,
    /// Its number is not above the mark, and never passed there.
    Low,
    /// It is not known there which numbers of its key were accepted, since this was told first.
    Unmarked(Token),
    /// The mark is known there; of nothing up to this number it is known whether it was accepted.
    Marked(u64),
}

/// An answer that is none of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Unreadable;

/// Reads an answer to a call with `costs`.
pub(super) fn read(bytes: &[u8], costs: &[Cost]) -> Result<Vote, Unreadable> {
    let mut rest = Reader(bytes);
    let (status, at) = (rest.byte()?, Micros(rest.long()?));
    let said = match status {
        0 => Said::New(levels(&mut rest, costs)?),
        1 => Said::Seen,
        2 => over(&mut rest, costs)?,
        3 => Said::Fenced(Micros(rest.long()?)),
        4 => Said::Outdated,
        5 => Said::StepSpent,
        6 => Said::Unborn,
        7 => Said::Low,
        8 => Said::Unmarked(Token(rest.take()?)),
        9 => Said::Marked(rest.long()?),
        10 => Said::Full,
        _ => return Err(Unreadable),
    };
    if rest.0.is_empty() { Ok(Vote { at, said }) } else { Err(Unreadable) }
}

fn levels(rest: &mut Reader<'_>, costs: &[Cost]) -> Result<Levels, Unreadable> {
    let at = Micros(rest.long()?);
    let mut levels = Levels::default();
    if !rest.0.is_empty() {
        let beyond = rest.byte()?;
        for (place, cost) in costs.iter().enumerate() {
            let level = level(rest, cost)?;
            let past = || level.saturating_add(cost.weight).max(cost.limit.quota.saturating_add(1));
            levels.push(if beyond >> place & 1 == 1 { past() } else { level });
        }
    }
    levels.at = at;
    Ok(levels)
}

fn level(rest: &mut Reader<'_>, cost: &Cost) -> Result<u32, Unreadable> {
    let (spent, part) = (rest.long()?, rest.int()?);
    Ok(match cost.window {
        Window::Bucket => Rate::of(cost.limit).units(spent, part),
        Window::Sliding | Window::Fixed => u32::try_from(spent).unwrap_or(u32::MAX),
    })
}

fn over(rest: &mut Reader<'_>, costs: &[Cost]) -> Result<Said, Unreadable> {
    let retry_after = Duration::from_micros(rest.long()?);
    let place = usize::from(rest.byte()?);
    let cost = costs.get(place).ok_or(Unreadable)?;
    let (mut full, mut beside) = (0, Vec::with_capacity(costs.len()));
    for (other, cost) in costs.iter().enumerate() {
        let level = level(rest, cost)?;
        if other == place {
            full = level;
        } else {
            beside.push((other, level));
        }
    }
    let never = cost.weight > cost.limit.quota;
    let retry_after = if never { cost.limit.period } else { retry_after };
    Ok(Said::Over(Verdict::Over { cost: place, retry_after, level: full, beside: beside.into() }))
}

/// What the store says to a tab that is to be settled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Settled {
    /// It is paid.
    Granted,
    /// It does not fit before that time is over.
    Over(Duration),
    /// There is no room to count it.
    Full,
}

/// Reads the answer to a tab.
pub(super) fn settled(bytes: &[u8]) -> Result<Settled, Unreadable> {
    let mut rest = Reader(bytes);
    match (rest.byte()?, rest.long()?) {
        (0, _) => Ok(Settled::Granted),
        (10, _) => Ok(Settled::Full),
        (_, wait) => Ok(Settled::Over(Duration::from_micros(wait))),
    }
}

/// Reads little-endian numbers.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Unreadable)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn int(&mut self) -> Result<u32, Unreadable> {
        self.take().map(u32::from_le_bytes)
    }

    fn long(&mut self) -> Result<u64, Unreadable> {
        self.take().map(u64::from_le_bytes)
    }
}
