//! Defeats a stolen key used from elsewhere: a key may name the networks it is used from, and so may the application
//! that it was made for.

use std::net::IpAddr;

use crate::denial::Denial;
use crate::key::Key;

/// Holds when `peer` lies in one of the networks that the key names, if any, and in one of its application's.
pub(crate) fn check(key: &Key, peer: IpAddr) -> Result<(), Denial> {
    if !key.allowlist.permits(peer) {
        return Err(Denial::AddressRefused);
    }
    match &key.bindings {
        Some(bindings) if !bindings.application_allowlist.permits(peer) => {
            Err(Denial::ApplicationAddressRefused)
        }
        Some(_) | None => Ok(()),
    }
}
