//! Defeats a key whose time is over, and one that was made for another venue.

use crate::clock::Micros;
use crate::denial::Denial;
use crate::key::{Key, State, Venue};

/// Holds when the key is in use, belongs to `venue`, and has not expired.
///
/// What could tell a stranger that the key exists is answered like a wrong signature; expiry is said plainly,
/// to whoever has proved to hold the key.
pub(crate) fn check(key: &Key, venue: &Venue, now: Micros) -> Result<(), Denial> {
    match key.state {
        State::Active => {}
        State::Suspended | State::Revoked | State::Frozen | State::Stopped => {
            return Err(Denial::KeyInactive);
        }
    }
    if key.venue != *venue {
        return Err(Denial::WrongVenue);
    }
    if key.expires.is_some_and(|end| end <= now) { Err(Denial::KeyExpired) } else { Ok(()) }
}
