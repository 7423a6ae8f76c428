//! A request and its nonce, recorded both or neither: defeats other content under a nonce that was used.

use super::accounts::AccountSlot;
use super::replay::{Entered, Full, ReplaySet, Standing};
use crate::store::{Charge, Identity, Repeat};

/// The parts of the set that a request and its nonce belong to, locked.
#[derive(Debug)]
pub(super) struct Pair<'a> {
    set: &'a ReplaySet,
    first: Entered<'a>,
    /// Where they belong to different parts, the one of the higher number.
    second: Option<Entered<'a>>,
    /// What `first` and `second` are entered for.
    records: [Charge; 2],
}

impl<'a> Pair<'a> {
    /// Locks both in the order of their parts, so that two pairs never wait for each other.
    pub(super) fn enter(set: &'a ReplaySet, charge: &Charge, nonce: Identity) -> Option<Self> {
        let mut records = [once(charge, charge.identity), once(charge, nonce)];
        records.sort_by_key(|record| set.spot(record).shard);
        let [low, high] = &records;
        let [at, other] = [set.spot(low), set.spot(high)];
        let first = set.enter(low, at)?;
        let second = if at.shard == other.shard { None } else { Some(set.enter(high, other)?) };
        Some(Self { set, first, second, records })
    }

    /// Whether the request or its nonce was seen before.
    pub(super) fn was_seen(&mut self) -> bool {
        self.each(|entered, record| entered.standing(record)).contains(&Standing::Seen)
    }

    /// Remembers both.
    pub(super) fn record(&mut self, account: u64) -> Result<(), Full> {
        let mut places = Places { set: self.set, taken: [None; 2] };
        for place in &mut places.taken {
            *place = Some(places.set.take_place(account)?);
        }
        let mut taken = std::mem::take(&mut places.taken).into_iter().flatten();
        self.each(|entered, record| {
            if let Some(place) = taken.next() {
                entered.insert(record, place);
            }
        });
        Ok(())
    }

    fn each<T>(&mut self, mut act: impl FnMut(&mut Entered<'a>, &Charge) -> T) -> [T; 2] {
        let [low, high] = &self.records;
        self.first.turn_to(low);
        let first = act(&mut self.first, low);
        let second = if let Some(entered) = &mut self.second {
            act(entered, high)
        } else {
            self.first.turn_to(high);
            act(&mut self.first, high)
        };
        [first, second]
    }
}

/// Places that go back unless they are used.
struct Places<'a> {
    set: &'a ReplaySet,
    taken: [Option<AccountSlot>; 2],
}

impl Drop for Places<'_> {
    fn drop(&mut self) {
        for place in self.taken.into_iter().flatten() {
            self.set.give_back(place);
        }
    }
}

/// The record of one of the two. Nothing that has a nonce repeats.
fn once(charge: &Charge, identity: Identity) -> Charge {
    Charge { identity, repeat: Repeat::Never, ..charge.clone() }
}
