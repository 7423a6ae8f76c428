//! Keys from the configuration: all in memory, always current, and found without a lock.

use std::fmt;
use std::hash::BuildHasher;
use std::hint::{black_box, select_unpredictable};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::{Keys, Looked, Nearest, Unavailable};
use crate::key::Key;

/// A set of keys in memory.
///
/// Looking up a key that is not there takes the same steps through memory as one that is: a key that stands in for it is
/// read instead, down to the last line that a check would read. Which one that is hangs on a seed of this process, so
/// time tells a stranger no more than whether that key or the one asked for was used lately.
#[derive(Default)]
pub struct FixedKeys {
    /// A power of two of them, at most half full. A key stands in one of two, both of which are always looked through
    /// to the end.
    buckets: Box<[Bucket]>,
    taken: usize,
    seed: RandomState,
}

/// As many places as a cache line holds.
#[derive(Default)]
#[repr(align(64))]
struct Bucket([Place; PLACES]);

/// Where a key may stand. The hash lies beside the key, so that a search reads no key but the one it is for.
///
/// Where none stands the hash is 0, and the key is any other one, to be read for keys that are not there; there is one
/// everywhere once there is one at all.
#[derive(Default)]
struct Place {
    hash: u64,
    key: Option<Arc<Key>>,
}

impl Place {
    fn is_free(&self) -> bool {
        self.hash == 0
    }
}

const PLACES: usize = 4;

impl FixedKeys {
    /// Adds a key, or replaces the one of the same id.
    pub fn insert(&mut self, key: Key) {
        let mut key = Arc::new(key);
        while let Err(unplaced) = self.put(key) {
            key = unplaced;
            self.grow();
        }
        if self.taken == 1 {
            self.fill();
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.taken
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// The key of this id, or the one that was read instead.
    pub(super) fn named(&self, id: &str) -> Looked {
        let (key, known) = self.nearest(id)?;
        Some(Nearest::read(Arc::clone(key), known))
    }

    /// Gives the key back where there is no room for it, or where another one hashes alike.
    fn put(&mut self, key: Arc<Key>) -> Result<(), Arc<Key>> {
        let hash = self.hash(&key.id);
        let [first, second] = self.homes(hash);
        for at in [first, second] {
            let Some(Bucket(places)) = self.buckets.get_mut(at) else { continue };
            if let Some(old) = places
                .iter_mut()
                .filter(|place| place.hash == hash)
                .find_map(|place| place.key.as_mut())
            {
                if old.id != key.id {
                    return Err(key);
                }
                let old = std::mem::replace(old, key);
                self.let_go(&old);
                return Ok(());
            }
        }
        let free = |at: usize| {
            let places = self.buckets.get(at).map_or(&[][..], |bucket| &bucket.0);
            places.iter().filter(|place| place.is_free()).count()
        };
        let emptier = if free(second) > free(first) { second } else { first };
        let has_room = self.taken < self.buckets.len() * PLACES / 2;
        let home = if !has_room {
            None
        } else if free(emptier) > 0 {
            Some(emptier)
        } else {
            self.make_room([first, second])
        };
        let bucket = home.and_then(|at| self.buckets.get_mut(at));
        match bucket.and_then(|bucket| bucket.0.iter_mut().find(|place| place.is_free())) {
            Some(place) => {
                *place = Place { hash, key: Some(key) };
                self.taken += 1;
                Ok(())
            }
            None => Err(key),
        }
    }

    /// Moves a key from one of two full buckets to the other one where it may stand, if any can be moved; and says which
    /// bucket then has a free place.
    fn make_room(&mut self, full: [usize; 2]) -> Option<usize> {
        for (at, number) in full.into_iter().flat_map(|at| (0..PLACES).map(move |n| (at, n))) {
            let [first, second] = self.homes(self.buckets.get(at)?.0.get(number)?.hash);
            let other = if first == at { second } else { first };
            let free = self.buckets.get(other)?.0.iter().position(Place::is_free);
            let Some(free) = free else { continue };
            let moved = std::mem::take(self.buckets.get_mut(at)?.0.get_mut(number)?);
            *self.buckets.get_mut(other)?.0.get_mut(free)? = moved;
            return Some(at);
        }
        None
    }

    /// Makes room for twice as many, under another seed.
    fn grow(&mut self) {
        let mut more = self.buckets.len() * 2;
        loop {
            more = more.max(2);
            let buckets = (0..more).map(|_| Bucket::default()).collect();
            let mut larger = Self { buckets, taken: 0, seed: RandomState::default() };
            if self.all().cloned().all(|key| larger.put(key).is_ok()) {
                larger.fill();
                *self = larger;
                return;
            }
            more *= 2;
        }
    }

    /// Has every key stand in where none stands.
    fn fill(&mut self) {
        let all: Vec<_> = self.all().cloned().collect();
        let mut next = all.iter().cycle();
        for place in self.buckets.iter_mut().flat_map(|bucket| &mut bucket.0) {
            if place.is_free() {
                place.key = next.next().cloned();
            }
        }
    }

    /// Has other keys stand in where this one did.
    fn let_go(&mut self, old: &Arc<Key>) {
        let stands_in = |place: &Place| place.key.as_ref().is_some_and(|key| Arc::ptr_eq(key, old));
        if self.buckets.iter().flat_map(|bucket| &bucket.0).any(stands_in) {
            self.fill();
        }
    }

    /// Every key, once.
    fn all(&self) -> impl Iterator<Item = &Arc<Key>> {
        let places = self.buckets.iter().flat_map(|bucket| &bucket.0);
        places.filter(|place| !place.is_free()).filter_map(|place| place.key.as_ref())
    }

    /// Never 0.
    fn hash(&self, id: &str) -> u64 {
        self.seed.hash_one(id) | 1 << 63
    }

    /// The two buckets in which a key of this hash may stand.
    fn homes(&self, hash: u64) -> [usize; 2] {
        let mask = self.buckets.len().wrapping_sub(1);
        let half = |half: u64| usize::try_from(half & u64::from(u32::MAX)).unwrap_or(0);
        [half(hash) & mask, half(hash >> 32) & mask]
    }

    /// The key of this id, or else another one that stands where it could stand; and whether it is that very key.
    ///
    /// No step hangs on what is found on the way.
    fn nearest(&self, id: &str) -> Option<(&Arc<Key>, bool)> {
        let hash = self.hash(id);
        let [first, second] = self.homes(hash).map(|at| self.buckets.get(at));
        let [Bucket(first), Bucket(second)] = [first?, second?];
        let drawn = usize::try_from(hash >> 59 & 0x7).unwrap_or(0);
        // A bit for each place, and one behind them. No two keys hash alike.
        let places = first.iter().chain(second);
        let alike = places.rfold(1_u32, |bits, place| bits << 1 | u32::from(place.hash == hash));
        let found = usize::try_from(alike.trailing_zeros()).unwrap_or(0);
        let is_alike = found < 2 * PLACES;
        let at = select_unpredictable(is_alike, found, drawn);
        let key =
            select_unpredictable(at < PLACES, first, second).get(at % PLACES)?.key.as_ref()?;
        Some((key, is_named(key, id, is_alike)))
    }
}

/// Whether the key, which hashes as `id` does where `is_alike` says so, is named `id`: as much work for any key as if it
/// were that very one.
pub(super) fn is_named(key: &Key, id: &str, is_alike: bool) -> bool {
    key.fetch();
    let (own, asked) = (key.id.as_bytes(), id.as_bytes());
    let is_as_long = own.len() == asked.len();
    let own = black_box(select_unpredictable(is_as_long, own, asked));
    black_box(are_equal(own, asked)) & is_as_long & is_alike
}

/// Whether two texts of one length are equal, looked at to the end in any case.
fn are_equal(a: &[u8], b: &[u8]) -> bool {
    let differ = |a: &[u8; 8], b: &[u8; 8]| u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b);
    let words = a.as_chunks().0.iter().zip(b.as_chunks().0);
    let words = words.fold(0, |differs, (a, b)| differs | differ(a, b));
    // The last word again where it overlaps.
    let rest = match (a.last_chunk(), b.last_chunk()) {
        (Some(a), Some(b)) => differ(a, b),
        _ => u64::from(a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b))),
    };
    words | rest == 0
}

impl FromIterator<Key> for FixedKeys {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        let mut all = Self::default();
        keys.into_iter().for_each(|key| all.insert(key));
        // Those that came late stand in as often as those that came first.
        all.fill();
        all
    }
}

impl Keys for FixedKeys {
    async fn find(&self, id: &str, _max_age: Duration) -> Result<Option<Arc<Key>>, Unavailable> {
        Ok(self.named(id).and_then(Nearest::into_key))
    }

    async fn look(&self, id: &str, _max_age: Duration) -> Result<Looked, Unavailable> {
        Ok(self.named(id))
    }
}

impl fmt::Debug for FixedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FixedKeys({})", self.taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Algorithm, Allowlist, Permissions, Secret, State, Tag, Venue};

    fn key(id: &str, account: &str) -> Key {
        Key {
            id: id.into(),
            tag: Tag::of(id),
            account: account.into(),
            account_tag: Tag::of(account),
            venue: Venue("main".into()),
            dialect: "binance".into(),
            secret: Secret::read(Algorithm::HmacSha256, b"secret").unwrap(),
            passphrase: None,
            permissions: Permissions::NONE,
            allowlist: Allowlist::default(),
            state: State::Active,
            expires: None,
            limits: Arc::from([]),
            epoch: 0,
            bindings: None,
        }
    }

    #[test]
    fn each_key_is_found_under_its_own_id_and_no_other() {
        for count in [0, 1, 2, 5, 6, 1_000] {
            let keys: FixedKeys = (0..count).map(|n| key(&n.to_string(), "a")).collect();
            assert_eq!((keys.len(), keys.is_empty()), (count, count == 0));
            for n in 0..count {
                let id = n.to_string();
                assert_eq!(*keys.nearest(&id).filter(|(_, known)| *known).unwrap().0.id, *id);
            }
            for id in ["", "x", "0 ", "1001"] {
                assert!(keys.nearest(id).is_none_or(|(_, known)| !known), "{id}");
                assert_eq!(keys.nearest(id).is_some(), count > 0, "another is read instead");
            }
        }
    }

    #[test]
    fn a_difference_in_any_letter_or_in_length_makes_another_name() {
        for length in [1, 7, 8, 9, 16, 41, 64, 100] {
            let id = "k".repeat(length);
            let key = key(&id, "a");
            assert!(is_named(&key, &id, true) && !is_named(&key, &id, false));
            for place in 0..length {
                let letters = (0..length).map(|at| if at == place { 'j' } else { 'k' });
                let other: String = letters.collect();
                assert!(!is_named(&key, &other, true), "{other}");
            }
            for other in [length - 1, length + 1].map(|length| "k".repeat(length)) {
                assert!(!is_named(&key, &other, true), "{other}");
            }
        }
    }

    #[test]
    fn a_key_replaces_the_one_of_its_id() {
        let mut keys = FixedKeys::default();
        for account in ["a", "b", "c"] {
            keys.insert(key("one", account));
            keys.insert(key("two", "z"));
        }
        assert_eq!(keys.len(), 2);
        assert_eq!(&*keys.nearest("one").unwrap().0.account, "c");
    }

    #[test]
    fn the_table_is_no_larger_than_half_full_asks_for() {
        // Without moving keys a bucket of this many fills up long before.
        let keys: FixedKeys = (0..32_000).map(|n| key(&n.to_string(), "a")).collect();
        assert_eq!(keys.buckets.len() * PLACES, 1 << 16);
        assert!((0..32_000).all(|n| keys.nearest(&n.to_string()).unwrap().1));
    }

    #[test]
    fn strangers_read_many_different_keys() {
        let keys: FixedKeys = (0..1_000).map(|n| key(&n.to_string(), "a")).collect();
        let mut read: Vec<&str> =
            (0..1_000).map(|n| &*keys.nearest(&format!("x{n}")).unwrap().0.id).collect();
        read.sort_unstable();
        read.dedup();
        assert!(read.len() > 500, "{}", read.len());
    }

    #[test]
    fn a_key_stands_in_wherever_none_stands_and_none_that_was_replaced() {
        let mut keys = FixedKeys::default();
        for count in 1..100 {
            keys.insert(key(&count.to_string(), "old"));
            keys.insert(key(&count.to_string(), "new"));
            let places = || keys.buckets.iter().flat_map(|bucket| &bucket.0);
            let is_new = |place: &Place| &*place.key.as_ref().unwrap().account == "new";
            assert!(places().all(is_new), "{count}");
            assert_eq!(places().filter(|place| !place.is_free()).count(), count);
        }
    }
}
