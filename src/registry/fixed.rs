//! Keys from the configuration: all in memory, always current, and found without a lock.

use std::fmt;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::{Keys, Unavailable};
use crate::key::Key;

/// A set of keys in memory.
///
/// To look up a key that is not there takes the same steps through memory as one that is: where it would stand, the
/// next key after that place is read instead. Which one that is hangs on a seed of this process, so time tells a
/// stranger no more than whether that key or the one asked for was used lately.
#[derive(Default)]
pub struct FixedKeys {
    /// A power of two of places, at most five in eight of them taken.
    places: Box<[Place]>,
    taken: usize,
    seed: RandomState,
}

/// Where a key may stand. The hash lies beside the key, so that a search reads no key but the one it is for.
#[derive(Default)]
struct Place {
    hash: u64,
    key: Option<Arc<Key>>,
}

impl FixedKeys {
    /// Adds a key, or replaces the one of the same id.
    pub fn insert(&mut self, key: Key) {
        if self.taken * 8 >= self.places.len() * 5 {
            self.grow();
        }
        let hash = self.seed.hash_one(&*key.id);
        let is_free = |place: &Place| {
            place.key.as_ref().is_none_or(|old| place.hash == hash && old.id == key.id)
        };
        if let Some(at) = self.search(hash).find(|at| self.places.get(*at).is_some_and(is_free))
            && let Some(place) = self.places.get_mut(at)
        {
            self.taken += usize::from(place.key.is_none());
            *place = Place { hash, key: Some(Arc::new(key)) };
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

    fn grow(&mut self) {
        let more = (self.places.len() * 2).max(8);
        let mut old = std::mem::take(&mut self.places);
        self.places = (0..more).map(|_| Place::default()).collect();
        for place in &mut old {
            if place.key.is_some()
                && let Some(at) = self
                    .search(place.hash)
                    .find(|at| self.places.get(*at).is_some_and(|new| new.key.is_none()))
                && let Some(new) = self.places.get_mut(at)
            {
                *new = std::mem::take(place);
            }
        }
    }

    /// Every place, from the one that belongs to `hash` on.
    fn search(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.places.len().wrapping_sub(1);
        let home = usize::try_from(hash & u64::from(u32::MAX)).unwrap_or(0);
        (0..self.places.len()).map(move |step| (home + step) & mask)
    }

    /// The key of this id, or else the next one after the place where it would stand; and whether it is that very key.
    fn nearest(&self, id: &str) -> Option<(&Arc<Key>, bool)> {
        let hash = self.seed.hash_one(id);
        let mut next = None;
        for at in self.search(hash) {
            let Place { hash: known, key } = self.places.get(at)?;
            match key {
                Some(key) if *known == hash => {
                    key.fetch();
                    if *key.id == *id {
                        return Some((key, true));
                    }
                }
                Some(key) => next = next.or(Some(key)),
                None if next.is_some() => break,
                None => {}
            }
        }
        let key = next?;
        key.fetch();
        Some((key, black_box(*key.id == *id)))
    }
}

impl FromIterator<Key> for FixedKeys {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        let mut all = Self::default();
        keys.into_iter().for_each(|key| all.insert(key));
        all
    }
}

impl Keys for FixedKeys {
    async fn find(&self, id: &str, _max_age: Duration) -> Result<Option<Arc<Key>>, Unavailable> {
        let Some((key, known)) = self.nearest(id) else { return Ok(None) };
        let shared = Arc::clone(key);
        Ok(black_box(known).then_some(shared))
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
    fn strangers_read_many_different_keys() {
        let keys: FixedKeys = (0..1_000).map(|n| key(&n.to_string(), "a")).collect();
        let mut read: Vec<&str> =
            (0..1_000).map(|n| &*keys.nearest(&format!("x{n}")).unwrap().0.id).collect();
        read.sort_unstable();
        read.dedup();
        assert!(read.len() > 300, "{}", read.len());
    }
}
