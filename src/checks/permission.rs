//! Defeats an over-broad key: each route names the permissions that open it.

use crate::denial::Denial;
use crate::key::{Key, Permissions};

/// Holds when the key carries one of `permissions`, or none is asked.
pub(crate) fn check(key: &Key, permissions: Permissions) -> Result<(), Denial> {
    if permissions.is_empty() || key.permissions.holds_any(permissions) {
        Ok(())
    } else {
        Err(Denial::NotPermitted)
    }
}
