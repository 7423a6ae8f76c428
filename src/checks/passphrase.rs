//! Defeats a stolen secret without its passphrase, in the dialects that have one.

use super::guard::Watch;
use crate::denial::Denial;
use crate::dialect::Offered;
use crate::key::Key;

/// Holds when the key has no passphrase, or `offered` is it. Asked after the signature: a stranger learns nothing, and
/// cannot use up the owner's tries. Once those of an address are used up, none is looked at, be it right or wrong.
pub(crate) fn check(
    key: &Key,
    offered: Option<Offered<'_>>,
    watch: &Watch<'_>,
) -> Result<(), Denial> {
    let Some(passphrase) = &key.passphrase else { return Ok(()) };
    watch.may_guess(key)?;
    if offered.is_some_and(|offered| passphrase.is(offered.text.as_bytes(), offered.keyed)) {
        return Ok(());
    }
    watch.guessed_wrong(key);
    Err(Denial::BadPassphrase)
}
