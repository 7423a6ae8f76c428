//! What the control plane asks of each server: whether it can be trusted to remember, and what time it has.

use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value, cmd};
use tokio::time::{Instant, timeout, timeout_at};

use super::LIBRARY;
use super::keys::tag_keys;
use super::server::Server;
use super::trouble::Trouble;
use crate::clock::{Clock, Micros};

/// How often a server is looked at while it is used, and while it is not.
const CALM: Duration = Duration::from_millis(500);
const ALARMED: Duration = Duration::from_millis(100);
/// A server that fails so soon after it was taken back waits longer the next time.
const TRUSTED_AGAIN: Duration = Duration::from_secs(2);
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Looks at a server for as long as it is polled.
///
/// One that refuses calls though it looks well, or fails soon after it was taken back, waits longer each time.
pub(super) async fn watch(server: Arc<Server>, clock: &impl Clock, bound: Duration) {
    let mut connection = None;
    let mut penalty = Duration::ZERO;
    let mut taken_back = Instant::now();
    loop {
        let was_usable = server.is_usable();
        look(&server, &mut connection, clock, bound).await;
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
) {
    let looked = timeout(PATIENCE, examine(server, connection, clock, bound)).await;
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
) -> Result<(), Trouble> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => server.connect().await.map_err(|error| Trouble::of(&error))?,
    };
    let info: String =
        cmd("INFO").query_async(&mut connection).await.map_err(|error| Trouble::of(&error))?;
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .unwrap_or_default()
            .trim()
    };
    let version = field("redis_version");
    if version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok())
        .is_none_or(|major: u32| major < 7)
    {
        return Err(Trouble::TooOld(version.to_owned()));
    }
    if field("loading") == "1" {
        return Err(Trouble::Refuses("it is loading".into()));
    }
    if field("role") != "master" {
        return Err(Trouble::Refuses("it is a replica".into()));
    }
    let mode = field("redis_mode");
    if mode != "standalone" {
        return Err(Trouble::Refuses(format!(
            "it runs as {mode}, where a primary that was cut off goes on answering and would accept twice: give one \
             server, or three or five that know nothing of each other"
        )));
    }
    let policy = field("maxmemory_policy");
    if policy != "noeviction" && !server.weakened.may_evict {
        return Err(Trouble::Evicts(policy.to_owned()));
    }
    let evicted = if server.weakened.may_evict { "0" } else { field("evicted_keys") }.to_owned();
    load(&mut connection, server.function()).await?;
    server.set_born(wake(server, &mut connection, &evicted, clock, bound).await?);
    *kept = Some(connection);
    Ok(())
}

/// Loads the library where it is missing.
async fn load(connection: &mut MultiplexedConnection, function: &str) -> Result<(), Trouble> {
    let mut ask = cmd("FUNCTION");
    ask.arg("LIST").arg("LIBRARYNAME").arg(LIBRARY).arg("WITHCODE");
    let held: Value = ask.query_async(connection).await.map_err(|error| Trouble::of(&error))?;
    match code(&held) {
        Some(code) if code == function.as_bytes() => return Ok(()),
        Some(_) => return Err(Trouble::OtherLibrary),
        None => {}
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

/// The library's code in the answer of FUNCTION LIST.
fn code(held: &Value) -> Option<&[u8]> {
    let Value::Array(libraries) = held else { return None };
    let Value::Array(fields) = libraries.first()? else { return None };
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
        let mut name = [0; 16];
        getrandom::fill(&mut name).map_err(|error| Trouble::Refuses(error.to_string()))?;
        let name = HEXLOWER.encode(&name);
        let mut wake = cmd("FCALL");
        wake.arg("countersign_1_wake").arg(keys.len()).arg(&keys);
        wake.arg(sent.0).arg(name).arg(&known).arg(evicted);
        let told: String =
            wake.query_async(connection).await.map_err(|error| Trouble::of(&error))?;
        let mut told = told.split(' ');
        let mut moment = || Some(Micros(told.next()?.parse().ok()?));
        let (Some(now), Some(born)) = (moment(), moment()) else {
            return Err(Trouble::Refuses("an answer that cannot be read".into()));
        };
        let apart = apart(now, sent, clock.now());
        if let Some(meter) = server.meter() {
            meter.set_clock(apart);
        }
        if apart > bound {
            return Err(Trouble::Clock(apart));
        }
        told.next().unwrap_or_default().clone_into(&mut known);
        if known.is_empty() {
            return Ok(born);
        }
    }
    Err(Trouble::Refuses("it goes on forgetting".into()))
}

/// How often a server is told what it named, when other gateways do the same.
const ROUNDS: usize = 5;

/// How far a clock that was read between two moments of ours lies outside of them.
pub(super) fn apart(told: Micros, sent: Micros, received: Micros) -> Duration {
    sent.since(told).max(told.since(received))
}
