//! What the control plane asks of each server: whether it can be trusted to remember, and what time it has.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value, cmd};
use tokio::time::{Instant, timeout, timeout_at};

use super::asks;
use super::cluster::Cluster;
use super::keys::tag_keys;
use super::server::Server;
use super::trouble::Trouble;
use super::twins::Twins;
use crate::clock::{Clock, Micros};

/// Whom a server stands beside.
#[derive(Clone, Copy)]
pub(super) enum Among<'a> {
    /// Others that know nothing of it; which process each is.
    Independent(&'a Twins),
    /// The nodes of its cluster.
    Cluster(&'a Cluster),
}

/// How often a server is looked at while it is used, and while it is not.
const CALM: Duration = Duration::from_millis(500);
const ALARMED: Duration = Duration::from_millis(100);
/// A server that fails so soon after it was taken back waits longer the next time.
const TRUSTED_AGAIN: Duration = Duration::from_secs(2);
/// The library's name, whatever its version.
const LIBRARIES: &str = "countersign_*";
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Looks at a server for as long as it is polled.
///
/// One that refuses calls though it looks well, or fails soon after it was taken back, waits longer each time.
pub(super) async fn watch(
    server: Arc<Server>,
    clock: &impl Clock,
    bound: Duration,
    among: Among<'_>,
) {
    let mut connection = None;
    let mut penalty = Duration::ZERO;
    let mut taken_back = Instant::now();
    loop {
        let was_usable = server.is_usable();
        look(&server, &mut connection, clock, bound, among).await;
        if !was_usable && server.is_usable() {
            taken_back = Instant::now();
        }
        let pause = if server.is_usable() { CALM } else { ALARMED };
        tokio::select! {
            () = keep_up(&server, &mut connection, clock, pause) => {}
            () = server.alarm.notified() => {
                penalty = match server.trouble() {
                    Some(_) if taken_back.elapsed() < TRUSTED_AGAIN => {
                        (penalty * 2).clamp(ALARMED, CALM)
                    }
                    Some(Trouble::Refuses(_)) => ALARMED,
                    Some(_) | None => Duration::ZERO,
                };
                tokio::time::sleep(penalty.max(Duration::from_millis(5))).await;
            }
        }
    }
}

/// Writes what is let through without the server as it comes, until it is to be looked at again.
async fn keep_up(
    server: &Server,
    connection: &mut Option<MultiplexedConnection>,
    clock: &impl Clock,
    pause: Duration,
) {
    let until = Instant::now() + pause;
    while timeout_at(until, server.behind.notified()).await.is_ok() {
        let Some(connection) = connection.as_mut().filter(|_| server.is_usable()) else { continue };
        if let Err(trouble) = server.backlog.write(server, connection, clock).await {
            server.lapse(&trouble);
        }
    }
}

/// Looks once, and judges: a server that is to be asked again is told first what passed without it.
pub(super) async fn look(
    server: &Server,
    connection: &mut Option<MultiplexedConnection>,
    clock: &impl Clock,
    bound: Duration,
    among: Among<'_>,
) {
    let looked = timeout(PATIENCE, examine(server, connection, clock, bound, among)).await;
    let mut after = looked.unwrap_or(Err(Trouble::Slow)).err();
    while let Some(connection) = connection.as_mut().filter(|_| after.is_none()) {
        after = server.backlog.write(server, connection, clock).await.err();
        let take_back = || {
            if server.trouble().is_some() {
                server.judge(None);
            }
        };
        if after.is_none() && server.backlog.if_written(server, clock.now(), take_back) {
            return;
        }
    }
    if let Some(trouble) = &after {
        if let Among::Independent(twins) = among {
            twins.release(server.place());
        }
        server.note(trouble);
        *connection = None;
    }
    if server.trouble() != after {
        server.judge(after.as_ref());
    }
}

async fn examine(
    server: &Server,
    kept: &mut Option<MultiplexedConnection>,
    clock: &impl Clock,
    bound: Duration,
    among: Among<'_>,
) -> Result<(), Trouble> {
    let is_new = kept.is_none();
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => server.connect().await.map_err(|error| Trouble::of(&error))?,
    };
    let info: String =
        cmd("INFO").query_async(&mut connection).await.map_err(|error| Trouble::of(&error))?;
    let info = Info(&info);
    info.check(server, matches!(among, Among::Cluster(_)))?;
    let evicted = if server.weakened.may_evict { "0" } else { info.field("evicted_keys") };
    match among {
        Among::Independent(twins) => {
            info.check_alone(server, twins)?;
            load(&mut connection, server.function()).await?;
            server.set_born(wake(server, &mut connection, evicted, clock, bound).await?);
        }
        Among::Cluster(cluster) => {
            if is_new {
                asks::advise(cluster, server, &mut connection).await?;
            }
            let is_primary = info.field("role") == "master";
            if !cluster.held_by(server, clock.now()).is_empty() {
                load(&mut connection, server.function()).await?;
                let wake = asks::wake(cluster, server, &mut connection, evicted, clock, bound);
                if let Some(born) = wake.await? {
                    server.set_born(born);
                }
            } else if is_primary && cluster.claims(server, clock.now()) {
                return Err(Trouble::Unconfirmed);
            }
        }
    }
    *kept = Some(connection);
    Ok(())
}

/// What a server says of itself.
struct Info<'a>(&'a str);

impl<'a> Info<'a> {
    fn field(&self, name: &str) -> &'a str {
        let mut lines = self.0.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or_default().trim()
    }

    /// Whether such a server can be used at all.
    fn check(&self, server: &Server, in_cluster: bool) -> Result<(), Trouble> {
        let version = self.field("redis_version");
        let major = version.split('.').next().and_then(|major| major.parse().ok());
        if major.is_none_or(|major: u32| major < 7) && !server.weakened.may_be_old {
            return Err(Trouble::TooOld(version.to_owned()));
        }
        if self.field("loading") == "1" {
            return Err(Trouble::Refuses("it is loading".into()));
        }
        let mode = self.field("redis_mode");
        match (in_cluster, mode) {
            (true, "cluster") => {}
            (true, _) => {
                return Err(Trouble::Refuses(format!(
                    "it runs as {mode}: topology = \"cluster\" needs nodes with cluster-enabled yes"
                )));
            }
            (false, "standalone") if self.field("role") != "master" => {
                return Err(Trouble::Refuses("it is a replica".into()));
            }
            (false, "standalone") => {}
            (false, _) => {
                return Err(Trouble::Refuses(format!(
                    "it runs as {mode}, where a primary that was cut off goes on answering and would accept twice: \
                     give one server, or three or five that know nothing of each other, or set topology = \"cluster\""
                )));
            }
        }
        let policy = self.field("maxmemory_policy");
        if policy != "noeviction" && !server.weakened.may_evict {
            return Err(Trouble::Evicts(policy.to_owned()));
        }
        Ok(())
    }

    /// Whether no other name leads to the same process.
    fn check_alone(&self, server: &Server, twins: &Twins) -> Result<(), Trouble> {
        match twins.claim(server.place(), self.field("run_id")) {
            Err(_) if !server.weakened.counts_twins => Err(Trouble::Twin),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Loads the library where it is missing. One of another version beside it is a gateway of another version, which would
/// accept what this one has.
async fn load(connection: &mut MultiplexedConnection, function: &str) -> Result<(), Trouble> {
    let mut ask = cmd("FUNCTION");
    ask.arg("LIST").arg("LIBRARYNAME").arg(LIBRARIES).arg("WITHCODE");
    let held: Value = ask.query_async(connection).await.map_err(|error| Trouble::of(&error))?;
    match &*codes(&held) {
        [] => {}
        [code] if *code == function.as_bytes() => return Ok(()),
        [..] => return Err(Trouble::OtherLibrary),
    }
    let loaded: Result<Value, RedisError> =
        cmd("FUNCTION").arg("LOAD").arg(function).query_async(connection).await;
    match loaded {
        Ok(_) => Ok(()),
        // Another gateway was quicker.
        Err(error) if error.to_string().contains("already exists") => Ok(()),
        Err(error) => Err(Trouble::of(&error)),
    }
}

/// The code of each library in the answer of FUNCTION LIST; that of one that has none is empty.
fn codes(held: &Value) -> Vec<&[u8]> {
    let Value::Array(libraries) = held else { return Vec::new() };
    libraries.iter().map(|library| code(library).unwrap_or_default()).collect()
}

fn code(library: &Value) -> Option<&[u8]> {
    let Value::Array(fields) = library else { return None };
    let mut fields = fields.iter();
    while let Some(name) = fields.next() {
        let value = fields.next()?;
        if let (Value::BulkString(name), Value::BulkString(code)) = (name, value)
            && name == b"library_code"
        {
            return Some(code);
        }
    }
    None
}

/// Asks the server's clock, and sees to it that it remembers under every tag: all at once after a loss, so that no
/// account waits for its own later. Tells the latest birth.
///
/// After a loss it takes two steps: the server names what begins, and begins once it hears that we know the name. What
/// we said before may have been on its way for long, and arrive only after the loss.
async fn wake(
    server: &Server,
    connection: &mut MultiplexedConnection,
    evicted: &str,
    clock: &impl Clock,
    bound: Duration,
) -> Result<Micros, Trouble> {
    let keys: Vec<String> = tag_keys().collect();
    let mut known = String::new();
    for _ in 0..ROUNDS {
        let sent = clock.now();
        let mut wake = cmd("FCALL");
        wake.arg("countersign_2_wake").arg(keys.len()).arg(&keys);
        wake.arg(sent.0).arg(fresh_name()?).arg(&known).arg(evicted);
        let told: Vec<u8> =
            wake.query_async(connection).await.map_err(|error| Trouble::of(&error))?;
        let told = Told::read(&told)?;
        agree(server, told.now, (sent, clock.now()), bound)?;
        known = told.pending;
        if known.is_empty() {
            return Ok(told.born);
        }
    }
    Err(Trouble::Refuses("it goes on forgetting".into()))
}

/// A name that was never used.
pub(super) fn fresh_name() -> Result<String, Trouble> {
    let mut name = [0; 16];
    getrandom::fill(&mut name).map_err(|error| Trouble::Refuses(error.to_string()))?;
    Ok(HEXLOWER.encode(&name))
}

/// What a server says when it is to remember.
pub(super) struct Told {
    /// Its clock.
    pub(super) now: Micros,
    /// The latest birth.
    pub(super) born: Micros,
    /// A name that nobody has confirmed yet, if there is one.
    pub(super) pending: String,
}

impl Told {
    pub(super) fn read(told: &[u8]) -> Result<Self, Trouble> {
        let read = || {
            let mut told = std::str::from_utf8(told).ok()?.split(' ');
            let now = Micros(told.next()?.parse().ok()?);
            let born = Micros(told.next()?.parse().ok()?);
            Some(Self { now, born, pending: told.next().unwrap_or_default().to_owned() })
        };
        read().ok_or_else(|| Trouble::Refuses("an answer that cannot be read".into()))
    }
}

/// Whether a server's clock, as it was read between two moments of ours, agrees with ours.
pub(super) fn agree(
    server: &Server,
    told: Micros,
    (sent, received): (Micros, Micros),
    bound: Duration,
) -> Result<(), Trouble> {
    let apart = apart(told, sent, received);
    if let Some(meter) = server.meter() {
        meter.set_clock(apart);
    }
    if apart > bound && !server.weakened.any_clock { Err(Trouble::Clock(apart)) } else { Ok(()) }
}

/// How often a server is told what it named, when other gateways do the same.
pub(super) const ROUNDS: usize = 5;

/// How far a clock that was read between two moments of ours lies outside of them.
pub(super) fn apart(told: Micros, sent: Micros, received: Micros) -> Duration {
    sent.since(told).max(told.since(received))
}
