//! When secrets were last used, as gateways have told the registry.

use std::collections::HashMap;
use std::time::Duration;

use super::problem::Problem;
use crate::clock::Micros;
use crate::registrar::Kept;
use crate::registry::book::Registry;
use crate::registry::gossip::{Place, Topic, of_secret};
use crate::registry::records::KeyRecord;

/// Last uses of the secrets of some keys.
#[derive(Debug)]
pub(super) struct Uses {
    /// By [`of_secret`].
    pub(super) last: HashMap<String, Micros>,
    /// Up to when all of them are known; `None` where no gateway has told lately.
    pub(super) known_until: Option<Micros>,
}

impl Uses {
    /// Those of `keys`.
    pub(super) async fn of(
        registry: &dyn Registry,
        keys: &[Kept<KeyRecord>],
        now: Micros,
    ) -> Result<Self, Problem> {
        let secrets = keys.iter().flat_map(|key| {
            key.says.secrets.iter().map(|secret| of_secret(&key.id, secret.number))
        });
        let words = registry.told_of(Topic::Use, secrets.collect()).await?;
        let gateways = registry.told(Topic::Gateway, Place::default(), MOST_GATEWAYS).await?;
        let lately = |at: &Micros| now.since(*at) < GONE_AFTER;
        Ok(Self {
            last: words.into_iter().map(|word| (word.id, word.at)).collect(),
            known_until: gateways.into_iter().map(|(_, word)| word.at).filter(lately).min(),
        })
    }
}

const MOST_GATEWAYS: usize = 10_000;
/// A gateway that has told nothing for so long is not there; while it is, it tells once a minute.
const GONE_AFTER: Duration = Duration::from_mins(5);
