//! Learns of changes: LISTEN to wake at once, and a look at the revision to be sure.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::fault::{Failure, late};
use super::link::{Link, Live};

/// What is known of the registry's revision without asking.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Pulse {
    pub(super) revision: u64,
    /// One more whenever those who wait should ask for themselves.
    pub(super) beat: u64,
}

impl Pulse {
    /// Tells that `revision` was reached.
    pub(super) fn reached(pulse: &watch::Sender<Self>, revision: u64) {
        pulse.send_if_modified(|known| {
            let newer = revision > known.revision;
            known.revision = known.revision.max(revision);
            newer
        });
    }

    /// Tells that it is not known which revision was reached.
    fn lost(pulse: &watch::Sender<Self>) {
        pulse.send_modify(|known| known.beat = known.beat.wrapping_add(1));
    }
}

/// Between two looks at the revision. With the time that a look takes it stays below 250 ms.
const EVERY: Duration = Duration::from_millis(200);

/// Watches until it is stopped.
pub(super) async fn watch(link: Arc<Link>, pulse: watch::Sender<Pulse>, limit: Duration) {
    let mut listening: Option<Arc<Live>> = None;
    let mut lower = None;
    loop {
        match look(&link, &mut listening, limit).await {
            Some(revision) => {
                let known = pulse.borrow().revision;
                // Once may be an answer that was overtaken. Twice: an older copy was restored.
                let restored = revision < known && lower == Some(revision);
                lower = (revision < known).then_some(revision);
                if restored {
                    pulse.send_modify(|known| known.revision = revision);
                } else {
                    Pulse::reached(&pulse, revision);
                }
            }
            None => Pulse::lost(&pulse),
        }
        sleep(EVERY).await;
    }
}

/// The revision, if it can be learnt.
async fn look(link: &Link, listening: &mut Option<Arc<Live>>, limit: Duration) -> Option<u64> {
    let live = link.live().await.ok()?;
    let asked = async {
        if !listening.as_ref().is_some_and(|known| Arc::ptr_eq(known, &live)) {
            live.client.batch_execute("LISTEN countersign").await?;
        }
        super::reader::revision(Arc::clone(&live)).await
    };
    let why = match timeout(limit, asked).await {
        Ok(Ok(revision)) => {
            *listening = Some(live);
            return Some(revision);
        }
        Ok(Err(failure)) => Failure::told(failure),
        Err(_) => late(limit),
    };
    *listening = None;
    link.give_up(&live, why).await;
    None
}
