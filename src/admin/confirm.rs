//! Who has applied a change that takes something away: the gateways that have said so before the answer, and those that
//! have not.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::call::{Call, Content, Reply};
use super::desk::{Desk, ThisGateway};
use super::moment;
use super::operation::{Parameter, Scalar};
use super::problem::Problem;
use crate::clock::Micros;
use crate::registry::gossip::{Place, Topic, Word, has_applied};

/// The gateways of the registry, by whether they have applied the change.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub(super) struct Gateways {
    /// Those that have: none of them lets through any more what the change ended.
    confirmed: Vec<String>,
    /// Those that were heard of within ten minutes, and have not said so in time.
    waiting: Vec<Waiting>,
}

/// A gateway that has not said that it applied the change.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Waiting {
    /// What it is known by.
    name: String,
    /// When it was last heard of; what it knows of keys it trusts for no longer than its routes say.
    heard: Option<String>,
}

/// How long the answer may wait for gateways.
pub(super) const WAIT: Parameter = Parameter {
    name: "wait",
    about: "How long the answer may wait for other gateways to confirm, as \"500ms\", up to \"10s\"; 1s without it",
    kind: Scalar::Wait,
};
/// What [`WAIT`] holds.
pub(super) const PATTERN: &str = "^([0-9]{1,4}ms|[0-9]s|10s)$";

/// How long this call waits.
pub(super) fn patience(call: &Call) -> Result<Duration, Problem> {
    let Some(text) = call.parameter(WAIT.name) else { return Ok(Duration::from_secs(1)) };
    let parsed = [("ms", 1), ("s", 1_000)].iter().find_map(|(unit, scale)| {
        let digits = text.strip_suffix(unit)?;
        let plain = (1..=4).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        let count: u64 = plain.then(|| digits.parse().ok())??;
        Some(Duration::from_millis(count * scale))
    });
    parsed.filter(|wait| *wait <= LONGEST).ok_or_else(|| {
        Problem::bad("`wait` is no span of up to ten seconds.")
            .cured("write it as \"500ms\" or \"2s\"")
    })
}

/// The same reply with the gateways that have applied its change, once all have or `wait` is over.
pub(super) async fn told(reply: Reply, desk: &Desk, wait: Duration) -> Reply {
    let (Some(revision), Content::Json(bytes)) = (reply.binds, &reply.content) else {
        return reply;
    };
    let gateways = gateways(desk, revision, wait).await;
    let members = serde_json::to_vec(&gateways).unwrap_or_default();
    let Some(object) = bytes.strip_suffix(b"}") else { return reply };
    let joined = [object, b",\"gateways\":", &members, b"}"].concat();
    Reply { content: Content::Json(joined.into()), ..reply }
}

/// Waits until this gateway has applied a revision, so that whoever reads that a key was made can use it here at once, or
/// until `wait` is over.
pub(super) async fn here(revision: Option<u64>, desk: &Desk, wait: Duration) {
    if let (Some(revision), Some(this)) = (revision, &desk.facts.gateway) {
        // Where it is late the key is made all the same.
        let _late = applied_here(this, revision, Instant::now() + wait).await;
    }
}

/// The gateways that have applied `revision`, once all have or `wait` is over.
pub(super) async fn gateways(desk: &Desk, revision: u64, wait: Duration) -> Gateways {
    let due = Instant::now() + wait;
    let own = desk.facts.gateway.as_ref();
    let applied = match own {
        Some(this) => applied_here(this, revision, due).await,
        None => true,
    };
    loop {
        let look = Instant::now() + LOOK_EVERY;
        let found = look_around(desk, own.map(|this| (&*this.name, applied)), revision).await;
        let (gateways, worth) = found;
        if !worth || look >= due {
            return gateways;
        }
        sleep_until(look).await;
    }
}

/// Whether this gateway has applied it by then.
async fn applied_here(this: &ThisGateway, revision: u64, due: Instant) -> bool {
    let mut applied = this.applied.clone();
    let reached = applied.wait_for(|applied| *applied >= revision);
    matches!(timeout_at(due, reached).await, Ok(Ok(_)))
}

/// The gateways as they stand, and whether waiting for one of them is worth it.
async fn look_around(desk: &Desk, own: Option<(&str, bool)>, revision: u64) -> (Gateways, bool) {
    let mut gateways = Gateways::default();
    let now = desk.clock.now();
    if let Some((name, applied)) = own {
        gateways.put(name, applied, None);
    }
    if !desk.registry().is_shared() {
        return (gateways, false);
    }
    let others = match desk.registry().told(Topic::Applied, Place::default(), GATEWAYS).await {
        Ok(others) => others,
        Err(error) => {
            tracing::warn!(%error, "which gateways have applied a change is not known");
            return (gateways, false);
        }
    };
    let mut worth = false;
    for (_, Word { id, at, detail }) in others {
        let silent = now.since(at);
        if own.is_some_and(|(name, _)| name == id) || silent > FORGOTTEN {
            continue;
        }
        let applied = has_applied(detail, revision);
        worth |= !applied && silent <= SILENT;
        gateways.put(&id, applied, Some(at));
    }
    (gateways, worth)
}

impl Gateways {
    fn put(&mut self, name: &str, applied: bool, heard: Option<Micros>) {
        if applied {
            self.confirmed.push(name.to_owned());
        } else {
            let heard = heard.map(moment::written);
            self.waiting.push(Waiting { name: name.to_owned(), heard });
        }
    }
}

const LONGEST: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// Gateways say that they are there every five seconds: for one that was silent for longer nobody waits.
const SILENT: Duration = Duration::from_secs(12);
/// One that was silent for longer is gone.
const FORGOTTEN: Duration = Duration::from_mins(10);
const GATEWAYS: usize = 10_000;
