//! Defeats a stolen secret without its passphrase, in the dialects that have one.

use crate::denial::Denial;
use crate::key::Key;

/// Holds when the key has no passphrase, or `offered` is it. Asked after the signature: a stranger learns nothing.
pub(crate) fn check(key: &Key, offered: Option<&str>) -> Result<(), Denial> {
    match (&key.passphrase, offered) {
        (None, _) => Ok(()),
        (Some(passphrase), Some(offered)) if passphrase.is(offered.as_bytes()) => Ok(()),
        (Some(_), _) => Err(Denial::BadPassphrase),
    }
}
