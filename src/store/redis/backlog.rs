//! What this gateway let through alone, until every server of the shared store knows of it.
//!
//! A server is not asked again before it knows all of it: what was let through meanwhile passes nowhere again.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

use super::judge::command;
use super::keys::{Keys, signed_at};
use super::packed::{self, Margins, Said, Spend, Token};
use super::server::Server;
use super::trouble::Trouble;
use crate::clock::{Clock, Micros};
use crate::metrics::Written;
use crate::store::{Charge, Identity, Repeat, SignedTime};

/// What is to be written, in the order it came.
#[derive(Debug)]
pub(super) struct Backlog {
    log: Mutex<Log>,
    most: usize,
    margins: Margins,
}

/// The log, locked.
#[derive(Debug, Default)]
pub(super) struct Log {
    waiting: VecDeque<(u64, Pending)>,
    /// The number of the next one.
    next: u64,
    most: usize,
    /// How long one may still be good elsewhere after it is not here.
    apart: Duration,
    /// When what is past was last searched for.
    tidied: Micros,
}

/// One request that was let through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    identity: Identity,
    nonce: Option<Identity>,
    account: u64,
    key: [u8; 16],
    time: SignedTime,
    keep_until: Micros,
    route: u16,
    repeat: Repeat,
    token: Token,
}

impl Pending {
    pub(super) fn of(charge: &Charge, token: Token) -> Self {
        Self {
            identity: charge.identity,
            nonce: charge.nonce,
            account: charge.account,
            key: charge.key,
            time: charge.time,
            keep_until: charge.keep_until,
            route: charge.route,
            repeat: charge.repeat,
            token,
        }
    }

    /// The same as a charge that costs nothing, whatever became of the key since.
    fn charge(&self, now: Micros) -> Charge {
        Charge {
            now,
            identity: self.identity,
            nonce: self.nonce,
            account: self.account,
            key: self.key,
            epoch: u64::MAX,
            step: None,
            time: self.time,
            keep_until: self.keep_until,
            route: self.route,
            repeat: self.repeat,
            costs: [].into_iter().collect(),
        }
    }
}

impl Backlog {
    pub(super) fn new(margins: Margins) -> Self {
        let log = Log { most: MOST, apart: margins.bound * 2, ..Log::default() };
        Self { log: Mutex::new(log), most: BATCH, margins }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes to a server all that it does not know of yet.
    pub(super) async fn write(
        &self,
        server: &Server,
        connection: &mut MultiplexedConnection,
        clock: &impl Clock,
    ) -> Result<(), Trouble> {
        if server.weakened.keeps_local {
            return Ok(());
        }
        loop {
            let now = clock.now();
            let batch = self.lock().after(server.written.load(Ordering::Acquire), self.most, now);
            let Some((last, _)) = batch.last() else { return Ok(()) };
            let next = last + 1;
            let mut pipe = redis::pipe();
            let fenced = |pending: &&Pending| packed::fence(pending.time, self.margins).is_some();
            let mut count = 0;
            for pending in batch.iter().map(|(_, pending)| pending).filter(fenced) {
                let charge = pending.charge(now);
                let Some(fence) = packed::fence(charge.time, self.margins) else { continue };
                let spend = Spend::new(&charge, pending.token, fence);
                let keys = Keys::of(charge.account, signed_at(&charge));
                pipe.add_command(command(&keys, &charge, &spend, &[]));
                count += 1;
            }
            let sent = timeout(PATIENCE, connection.send_packed_commands(&pipe, 0, count)).await;
            let answers = sent.map_err(|_| Trouble::Slow)?.map_err(|error| Trouble::of(&error))?;
            let mut found = 0;
            for answer in answers {
                let written = read(answer)?;
                if let Some(meter) = server.meter() {
                    meter.written(written);
                }
                found += usize::from(written == Written::FoundElsewhere);
            }
            if found > 0 {
                tracing::error!(
                    server = %server.name,
                    found,
                    "requests that this gateway let through alone had passed at another one too"
                );
            }
            server.written.fetch_max(next, Ordering::AcqRel);
        }
    }

    /// Does `work` if the server knows of all, and nothing can come before it is done.
    pub(super) fn if_written(&self, server: &Server, now: Micros, work: impl FnOnce()) -> bool {
        let mut log = self.lock();
        let is_written = server.weakened.keeps_local
            || log.after(server.written.load(Ordering::Acquire), 1, now).is_empty();
        if is_written {
            work();
        }
        is_written
    }
}

impl Log {
    /// Whether one more may be added.
    pub(super) fn has_room(&mut self, now: Micros) -> bool {
        self.drop_past(now);
        // Not for each that comes: a full one is long.
        if self.waiting.len() >= self.most && now >= self.tidied + TIDIED_EVERY {
            self.tidied = now;
            let apart = self.apart;
            self.waiting.retain(|(_, pending)| pending.keep_until + apart >= now);
        }
        self.waiting.len() < self.most
    }

    /// Adds one, for which there is room.
    pub(super) fn push(&mut self, pending: Pending) {
        self.waiting.push_back((self.next, pending));
        self.next += 1;
    }

    /// The first of those whose number is not below `from` and that could come again.
    fn after(&mut self, from: u64, most: usize, now: Micros) -> Vec<(u64, Pending)> {
        self.drop_past(now);
        let begin = self.waiting.partition_point(|(number, _)| *number < from);
        self.waiting.range(begin..).take(most).copied().collect()
    }

    fn drop_past(&mut self, now: Micros) {
        let is_past = |pending: &Pending| pending.keep_until + self.apart < now;
        while self.waiting.front().is_some_and(|(_, pending)| is_past(pending)) {
            self.waiting.pop_front();
        }
    }
}

/// What a server says of one that is written there.
fn read(answer: Value) -> Result<Written, Trouble> {
    if let Value::ServerError(error) = answer {
        return Err(Trouble::of(&error.into()));
    }
    let Value::BulkString(bytes) = answer else {
        return Err(Trouble::Refuses("an answer of another kind".to_owned()));
    };
    let unreadable = |_| Trouble::Refuses("an answer that cannot be read".to_owned());
    match packed::read(&bytes, &[]).map_err(unreadable)?.said {
        Said::New(_) => Ok(Written::Now),
        Said::Seen => Ok(Written::FoundElsewhere),
        Said::Fenced(_) => Ok(Written::Fenced),
        // Growing numbers are never judged alone.
        Said::Low | Said::Unmarked(_) | Said::Marked(_) => {
            Err(Trouble::Refuses("a record as a number".to_owned()))
        }
        Said::Unborn | Said::Over(_) | Said::Full | Said::Outdated | Said::StepSpent => {
            Err(Trouble::Refuses("what was let through without it".to_owned()))
        }
    }
}

/// How often a full backlog is searched for what is past and lies behind what is not.
const TIDIED_EVERY: Duration = Duration::from_millis(100);
/// About 20 MB.
const MOST: usize = 131_072;
/// How many are written at a time: a few milliseconds of a server.
const BATCH: usize = 256;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(1);
