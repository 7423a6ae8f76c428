//! What the control plane asks of each server: whether it can be trusted to remember, and what time it has.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value, cmd};
use tokio::time::timeout;

use super::keys::tag_keys;
use super::server::{Server, Trouble};
use super::{FUNCTION, LIBRARY};
use crate::clock::{Clock, Micros};

/// How often a server is looked at while it is used, and while it is not.
const CALM: Duration = Duration::from_secs(1);
const ALARMED: Duration = Duration::from_millis(100);
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Looks at a server for as long as it is polled.
pub(super) async fn watch(server: Arc<Server>, clock: &impl Clock, bound: Duration) {
    let mut connection = None;
    loop {
        look(&server, &mut connection, clock, bound).await;
        let pause = if server.is_usable() { CALM } else { ALARMED };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = server.alarm.notified() => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Looks once, and judges.
pub(super) async fn look(
    server: &Server,
    connection: &mut Option<MultiplexedConnection>,
    clock: &impl Clock,
    bound: Duration,
) {
    let before = server.trouble();
    let looked = timeout(PATIENCE, examine(server, connection, clock, bound)).await;
    let after = match looked {
        Ok(Ok(())) => None,
        Ok(Err(trouble)) => Some(trouble),
        Err(_) => Some(Trouble::Unreachable("it did not answer in time".into())),
    };
    if after.is_some() {
        *connection = None;
    }
    match (&before, &after) {
        (Some(_), None) => tracing::info!(server = %server.name, "the store is used"),
        (None | Some(Trouble::Unknown), Some(trouble)) => {
            tracing::error!(server = %server.name, "the store is not used: it {trouble}");
        }
        (None, None) | (Some(_), Some(_)) => {}
    }
    if before != after {
        server.judge(after);
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
        None => server.connect().await.map_err(|error| unreachable(&error))?,
    };
    let info: String =
        cmd("INFO").query_async(&mut connection).await.map_err(|error| refused(&error))?;
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
    let policy = field("maxmemory_policy");
    if policy != "noeviction" {
        return Err(Trouble::Evicts(policy.to_owned()));
    }
    load(&mut connection).await?;
    server.set_born(check_clock(&mut connection, clock, bound).await?);
    *kept = Some(connection);
    Ok(())
}

/// Loads the library where it is missing.
async fn load(connection: &mut MultiplexedConnection) -> Result<(), Trouble> {
    let mut ask = cmd("FUNCTION");
    ask.arg("LIST").arg("LIBRARYNAME").arg(LIBRARY).arg("WITHCODE");
    let held: Value = ask.query_async(connection).await.map_err(|error| refused(&error))?;
    match code(&held) {
        Some(code) if code == FUNCTION.as_bytes() => return Ok(()),
        Some(_) => return Err(Trouble::OtherLibrary),
        None => {}
    }
    let loaded: Result<Value, RedisError> =
        cmd("FUNCTION").arg("LOAD").arg(FUNCTION).query_async(connection).await;
    match loaded {
        Ok(_) => Ok(()),
        // Another gateway was quicker.
        Err(error) if error.to_string().contains("already exists") => Ok(()),
        Err(error) => Err(refused(&error)),
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

/// Asks the server's clock, and makes the generations that are missing: all at once after a loss, so that no account
/// waits for its own later. Tells the latest birth.
async fn check_clock(
    connection: &mut MultiplexedConnection,
    clock: &impl Clock,
    bound: Duration,
) -> Result<Micros, Trouble> {
    let sent = clock.now();
    let keys: Vec<String> = tag_keys().collect();
    let mut wake = cmd("FCALL");
    wake.arg("countersign_1_wake").arg(keys.len()).arg(&keys).arg(sent.0);
    let told: String = wake.query_async(connection).await.map_err(|error| refused(&error))?;
    let moments =
        told.split_once(' ').and_then(|(now, born)| Some((now.parse().ok()?, born.parse().ok()?)));
    let Some((now, born)) = moments else {
        return Err(Trouble::Refuses("an answer that cannot be read".into()));
    };
    match apart(Micros(now), sent, clock.now()) {
        apart if apart > bound => Err(Trouble::Clock(apart)),
        _ => Ok(Micros(born)),
    }
}

/// How far a clock that was read between two moments of ours lies outside of them.
pub(super) fn apart(told: Micros, sent: Micros, received: Micros) -> Duration {
    sent.since(told).max(told.since(received))
}

fn unreachable(error: &RedisError) -> Trouble {
    Trouble::Unreachable(error.to_string())
}

fn refused(error: &RedisError) -> Trouble {
    if error.is_io_error() { unreachable(error) } else { Trouble::Refuses(error.to_string()) }
}
