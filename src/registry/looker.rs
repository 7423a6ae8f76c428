//! Looks keys up in a registry, on the control plane.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Unavailable;
use super::book::{Kind, Record, Registry};
use super::flights::{Found, Wanted};
use super::live::{LOOKUP_DEADLINE, Live};
use crate::key::{Key, KeyId};

/// Makes a key of its record, and of those of its account, its application and its account's second factor, where there
/// are any; else says what is wrong. [`KeyOpener`](super::opened::KeyOpener) does.
pub type OpenKey = Arc<
    dyn Fn(&Record, Option<&Record>, Option<&Record>, Option<&Record>) -> Result<Key, String>
        + Send
        + Sync,
>;

/// Looks keys up for workers.
#[derive(Clone)]
pub(super) struct Looker {
    pub(super) live: Arc<Live>,
    pub(super) registry: Arc<dyn Registry>,
    pub(super) open: OpenKey,
}

impl Looker {
    /// Looks up what is wanted, and gives it to whoever waits.
    pub(super) async fn seek(self, Wanted { id, tag }: Wanted) {
        let seek = async {
            // Each time but the last it may have changed meanwhile.
            for _ in 0..MOST_TRIES {
                if self.live.land(tag, &self.load(&id).await) {
                    return;
                }
            }
            self.live.land(tag, &Err(Unavailable));
        };
        if timeout(LOOKUP_DEADLINE, seek).await.is_err() {
            self.live.land(tag, &Err(Unavailable));
        }
    }

    /// The key as the registry has it now.
    pub(super) async fn load(&self, id: &KeyId) -> Found {
        let key = self.record(Kind::Key, Some(id)).await?;
        let Some(key) = key else { return Ok(None) };
        let account = self.record(Kind::Account, key.account.as_deref()).await?;
        let application = self.record(Kind::Application, key.application.as_deref()).await?;
        let factor = self.record(Kind::Factor, key.account.as_deref()).await?;
        match (self.open)(&key, account.as_ref(), application.as_ref(), factor.as_ref()) {
            Ok(key) => Ok(Some(Arc::new(key))),
            Err(why) => {
                tracing::warn!(key = &**id, why, "a key of the registry cannot be used here");
                Ok(None)
            }
        }
    }

    async fn record(&self, kind: Kind, id: Option<&str>) -> Result<Option<Record>, Unavailable> {
        let Some(id) = id else { return Ok(None) };
        self.registry.find(kind, id).await.map_err(|error| {
            tracing::warn!(%error, "a key cannot be looked up");
            Unavailable
        })
    }
}

/// Reads which ids there are, until that is known as of `revision` at least.
pub(super) async fn learn(live: Arc<Live>, registry: Arc<dyn Registry>, revision: u64) {
    loop {
        match registry.key_tags().await {
            Ok((tags, at)) if at >= revision => return live.filter.fill(&tags),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the ids of keys cannot be read yet"),
        }
        sleep(PAUSE).await;
    }
}

const PAUSE: Duration = Duration::from_secs(1);
/// How often a key is looked up in a row, while it keeps changing.
const MOST_TRIES: usize = 8;
