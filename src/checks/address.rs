//! Defeats a stolen key used from elsewhere: a key may name the networks it is used from.

use std::net::IpAddr;

use crate::denial::Denial;
use crate::key::Key;

/// Holds when the key names no networks, or `peer` lies in one of them.
pub(crate) fn check(key: &Key, peer: IpAddr) -> Result<(), Denial> {
    if key.allowlist.permits(peer) { Ok(()) } else { Err(Denial::AddressRefused) }
}
