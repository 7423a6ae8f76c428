//! What backends are told of the holders of keys, written once for as long as it is asked for.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use bytes::BufMut;

use super::identity::write_holder;
use crate::key::{Key, PermissionNames, Permissions};

/// The texts of the keys that one worker has served lately: a place for each, which another key may take. What is found
/// in a place is compared with all that it was made of.
#[derive(Default)]
pub(super) struct Holders {
    names: Arc<PermissionNames>,
    places: RefCell<Vec<Place>>,
}

/// What is said of one holder, and of what it was made: one after the other, so that few lines of memory are read.
#[derive(Default)]
struct Place {
    /// Id, account, venue and text; nothing where there is none yet.
    whole: Vec<u8>,
    /// Where the first three end.
    ends: [usize; 3],
    permissions: Permissions,
}

impl Holders {
    /// None are known yet. Permissions are told by these names.
    pub(super) fn new(names: Arc<PermissionNames>) -> Self {
        Self { names, places: RefCell::default() }
    }

    /// Writes what is said of the holder of `key`, who uses it at `venue`.
    pub(super) fn write(&self, key: &Key, venue: &str, out: &mut Vec<u8>) {
        let places = &mut *self.places.borrow_mut();
        if places.is_empty() {
            places.resize_with(PLACES, Place::default);
        }
        let number = usize::try_from(key.tag.short()).unwrap_or(0) % PLACES;
        let Some(place) = places.get_mut(number) else { return };
        if !place.is_of(key, venue) {
            place.take(key, venue, &self.names);
        }
        let [.., start] = place.ends;
        out.put_slice(place.whole.get(start..).unwrap_or_default());
    }
}

impl Place {
    fn is_of(&self, key: &Key, venue: &str) -> bool {
        let [id, account, at] = self.ends;
        let is = |from: usize, to: usize, own: &str| {
            self.whole.get(from..to).is_some_and(|kept| *kept == *own.as_bytes())
        };
        // A text is never empty, so what was not made is nobody's.
        !self.whole.is_empty()
            && is(0, id, &key.id)
            && is(id, account, &key.account)
            && is(account, at, venue)
            && self.permissions == key.permissions
    }

    fn take(&mut self, key: &Key, venue: &str, names: &PermissionNames) {
        let Self { whole, ends, permissions } = self;
        whole.clear();
        for (end, own) in ends.iter_mut().zip([&*key.id, &*key.account, venue]) {
            whole.put_slice(own.as_bytes());
            *end = whole.len();
        }
        write_holder(key, venue, names, whole);
        *permissions = key.permissions;
    }
}

impl fmt::Debug for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Holders(..)")
    }
}

/// So many that keys seldom meet. All that they hold is about a megabyte.
const PLACES: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Algorithm, Allowlist, Permission, Secret, State, Tag, Venue};

    fn key(id: &str, account: &str, permissions: Permissions) -> Key {
        Key {
            id: id.into(),
            // All in one place.
            tag: Tag([7; 16]),
            account: account.into(),
            account_tag: Tag::of(account),
            venue: Venue("main".into()),
            dialect: "binance".into(),
            secret: Secret::read(Algorithm::HmacSha256, b"secret").unwrap(),
            passphrase: None,
            permissions,
            allowlist: Allowlist::default(),
            state: State::Active,
            expires: None,
            limits: Arc::from([]),
            epoch: 0,
            bindings: None,
        }
    }

    #[test]
    fn each_holder_is_told_of_as_if_it_were_the_only_one() {
        let none = Permissions::NONE;
        let read = none.with(Permission::READ);
        let holders = Holders::default();
        let long = "long".repeat(40);
        let told = [
            (key("a", "b", none), "main"),
            (key("a", "b", read), "main"),
            (key("a", "b", read), "spot one"),
            (key("a", "c", read), "main"),
            (key("ab", "c", read), "main"),
            (key("a", "bc", read), "main"),
            (key("-", "-", none.with(Permission::TRADE)), "-"),
            (key(&long, "; key=a", Permissions::ALL), "main"),
        ];
        for _ in 0..2 {
            for (key, venue) in &told {
                let mut alone = Vec::new();
                write_holder(key, venue, &PermissionNames::default(), &mut alone);
                for _ in 0..2 {
                    let mut out = b"before".to_vec();
                    holders.write(key, venue, &mut out);
                    assert_eq!(out.strip_prefix(b"before"), Some(&*alone));
                }
            }
        }
        let mut out = Vec::new();
        let (key, venue) = &told[6];
        holders.write(key, venue, &mut out);
        assert_eq!(out, b"; key=%2D; account=%2D; venue=-; permissions=trade");
    }
}
