//! Raises in the shared store what the registry says of a key's epoch, so that a gateway that has not heard of a
//! revocation yet is refused there.

use std::sync::Arc;

use super::LiveGate;
use crate::key::Tag;
use crate::registry::book::Record;
use crate::registry::opened;
use crate::store::live::LiveStore;

/// Raises it, where there is a shared store. Called on the control plane; it does not wait.
pub(super) fn raise(gate: &Arc<LiveGate>, record: &Record) {
    let LiveStore::Shared(_) = gate.store else { return };
    let says = match opened::read(record) {
        Ok(says) => says,
        Err(why) => {
            tracing::error!(key = record.id, %why, "the epoch of a key is not known to the shared store");
            return;
        }
    };
    let (gate, key) = (Arc::clone(gate), Tag::of(&record.id));
    let account = Tag::of(&says.account).short();
    tokio::spawn(async move {
        let LiveStore::Shared(store) = &gate.store else { return };
        // Every gateway does so, and what is missed binds by the feed: within the age that routes allow.
        if store.raise(account, key.0, says.epoch).await == 0 {
            tracing::warn!("no server of the shared store heard of a key's new epoch");
        }
    });
}
