//! One Redis server, as the workers see it: a pipelined connection of each thread, hard deadlines, and a breaker that
//! only a probe of the control plane closes again.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, Value};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::backlog::Backlog;
use super::trouble::Trouble;
use super::{FUNCTION, Weakened};
use crate::clock::Micros;
use crate::metrics::ServerMeter;

/// One server.
pub(super) struct Server {
    /// Its place among all of this process, so that threads find their connection to it.
    place: usize,
    pub(super) name: String,
    client: Client,
    connect_timeout: Duration,
    max_in_flight: usize,
    /// Whether it is one node of a cluster.
    in_cluster: bool,
    usable: AtomicBool,
    lapses: AtomicU32,
    /// When it began to remember, in microseconds, as far as is known here.
    born: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
    /// Rung when it stopped being usable, so that it is looked at at once.
    pub(super) alarm: Notify,
    meter: OnceLock<ServerMeter>,
    pub(super) weakened: Weakened,
    /// What gateways let through without it, up to where it knows of that, and what rings when there is more.
    pub(super) backlog: Arc<Backlog>,
    pub(super) written: AtomicU64,
    pub(super) behind: Notify,
}

/// Why a call brought no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// It was certainly not carried out.
    NotSent,
    /// Whether it was carried out is not known.
    Unknown,
    /// It was not carried out: what it is about belongs to another node of the cluster, or is on its way there.
    Moved,
}

/// Lapses in a row after which a server is not asked until a probe succeeds.
const LAPSES: u32 = 3;

impl Server {
    pub(super) fn new(
        name: String,
        client: Client,
        connect_timeout: Duration,
        max_in_flight: usize,
        in_cluster: bool,
        weakened: Weakened,
        backlog: Arc<Backlog>,
    ) -> Self {
        static PLACES: AtomicUsize = AtomicUsize::new(0);
        Self {
            place: PLACES.fetch_add(1, Ordering::Relaxed),
            name,
            client,
            connect_timeout,
            max_in_flight,
            in_cluster,
            usable: AtomicBool::new(false),
            lapses: AtomicU32::new(0),
            born: AtomicU64::new(0),
            trouble: Mutex::new(Some(Trouble::Unknown)),
            alarm: Notify::new(),
            meter: OnceLock::new(),
            weakened,
            backlog,
            written: AtomicU64::new(0),
            behind: Notify::new(),
        }
    }

    /// The library that it is to run.
    pub(super) fn function(&self) -> &str {
        self.weakened.function.as_deref().unwrap_or(FUNCTION)
    }

    /// What tells it from all others of this process.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// Whether it is asked.
    pub(super) fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Acquire)
    }

    /// Why it is not asked, if it is not.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts in `meter` from now on.
    pub(super) fn set_meter(&self, meter: ServerMeter) {
        meter.set_usable(self.is_usable());
        // An error means that there is one already.
        let _ = self.meter.set(meter);
    }

    pub(super) fn meter(&self) -> Option<&ServerMeter> {
        self.meter.get()
    }

    /// Asks it again, or no longer.
    pub(super) fn judge(&self, trouble: Option<&Trouble>) {
        let usable = trouble.is_none();
        let before = {
            let mut held = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *held, trouble.cloned())
        };
        match (&before, trouble) {
            (Some(_), None) => tracing::info!(server = %self.name, "the store is used"),
            (None | Some(Trouble::Unknown), Some(trouble)) => {
                tracing::error!(server = %self.name, "the store is not used: it {trouble}");
            }
            (Some(before), Some(after)) if before.ailment() != after.ailment() => {
                tracing::warn!(server = %self.name, "the store is still not used: it {after}");
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        if let Some(meter) = self.meter() {
            meter.set_usable(usable);
        }
        self.lapses.store(0, Ordering::Relaxed);
        if self.usable.swap(usable, Ordering::AcqRel) && !usable {
            self.alarm.notify_one();
        }
    }

    /// Counts what went wrong.
    pub(super) fn note(&self, trouble: &Trouble) {
        if let Some(meter) = self.meter() {
            meter.failed(trouble.ailment());
        }
    }

    /// When it began to remember, as far as is known here.
    pub(super) fn born(&self) -> Micros {
        Micros(self.born.load(Ordering::Relaxed))
    }

    /// It began to remember then. What begins to be younger than was known is looked at anew.
    pub(super) fn set_born(&self, born: Micros) {
        let before = self.born.fetch_max(born.0, Ordering::Relaxed);
        if before < born.0 {
            self.alarm.notify_one();
            if before > 0 {
                tracing::warn!(server = %self.name, "the store has forgotten, and remembers anew");
            }
            if let Some(meter) = self.meter() {
                meter.born();
            }
        }
    }

    /// The host that it is reached at.
    pub(super) fn host(&self) -> &str {
        let host = self.name.rsplit_once(':').map_or(&*self.name, |(host, _)| host);
        host.trim_matches(['[', ']'])
    }

    /// A connection of its own, for probes.
    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(None);
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Asks, on this thread's connection, until `deadline`.
    pub(super) async fn call(
        self: &Arc<Self>,
        command: &Cmd,
        deadline: Instant,
    ) -> Result<Vec<u8>, Fault> {
        if !self.is_usable() {
            return Err(Fault::NotSent);
        }
        let line = line(self.place);
        let Some(_seat) = Seat::take(&line, self.max_in_flight) else { return Err(Fault::NotSent) };
        let begun = Instant::now();
        let called = tokio::time::timeout_at(deadline, self.ask(&line, command)).await;
        if let Some(meter) = self.meter() {
            meter.called(begun.elapsed());
        }
        match called {
            Ok(Ok(answer)) => {
                line.silent.store(0, Ordering::Relaxed);
                Ok(answer)
            }
            Ok(Err(fault)) => Err(fault),
            Err(_) => {
                // One answer may be late. After a few, nobody knows whether anything comes through still.
                if line.silent.fetch_add(1, Ordering::Relaxed) + 1 >= LAPSES {
                    line.drop_connection();
                }
                self.lapse(&Trouble::Slow);
                Err(Fault::Unknown)
            }
        }
    }

    /// Sends, and once more where the connection broke: a call carries what makes its repetition harmless.
    async fn ask(self: &Arc<Self>, line: &Arc<Line>, command: &Cmd) -> Result<Vec<u8>, Fault> {
        let mut fault = Fault::NotSent;
        for _ in 0..2 {
            let Some(mut connection) = self.connection(line).await else { return Err(fault) };
            fault = Fault::Unknown;
            let trouble = match connection.send_packed_command(command).await {
                Ok(Value::BulkString(answer)) => return Ok(answer),
                Ok(Value::ServerError(error)) => Trouble::of(&error.into()),
                Ok(_) => Trouble::Refuses("an answer of another kind".to_owned()),
                Err(error) => Trouble::of(&error),
            };
            if self.in_cluster && trouble.is_elsewhere() {
                self.note(&trouble);
                return Err(Fault::Moved);
            }
            let is_lost = matches!(trouble, Trouble::Unreachable(_) | Trouble::Slow);
            self.lapse(&trouble);
            if !is_lost {
                return Err(fault);
            }
            line.drop_connection();
        }
        Err(fault)
    }

    /// Whether the last call brought an answer.
    pub(super) fn is_steady(&self) -> bool {
        self.lapses.load(Ordering::Relaxed) == 0
    }

    /// It answered as it should.
    pub(super) fn thrive(&self) {
        if self.lapses.load(Ordering::Relaxed) > 0 {
            self.lapses.store(0, Ordering::Relaxed);
        }
    }

    /// One call brought nothing. After a few in a row it is not asked until a probe finds it in order.
    pub(super) fn lapse(&self, trouble: &Trouble) {
        self.note(trouble);
        if self.lapses.fetch_add(1, Ordering::Relaxed) + 1 >= LAPSES {
            self.judge(Some(trouble));
        }
    }

    /// This thread's connection, made if there is none. It goes on being made when whoever asked no longer waits.
    async fn connection(self: &Arc<Self>, line: &Arc<Line>) -> Option<MultiplexedConnection> {
        loop {
            let made = line.made.notified();
            {
                let mut state = line.state.lock().unwrap_or_else(PoisonError::into_inner);
                match &*state {
                    State::Up(connection) => return Some(connection.clone()),
                    State::Connecting => {}
                    State::Down => {
                        *state = State::Connecting;
                        tokio::spawn(Arc::clone(self).make(Arc::clone(line)));
                    }
                }
            }
            made.await;
            if !self.is_usable() {
                return None;
            }
        }
    }

    async fn make(self: Arc<Self>, line: Arc<Line>) {
        let connected = self.connect().await;
        let state = match connected {
            Ok(connection) => State::Up(connection),
            Err(error) => {
                let trouble = Trouble::of(&error);
                self.note(&trouble);
                self.judge(Some(&trouble));
                State::Down
            }
        };
        *line.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        line.made.notify_waiters();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("name", &self.name)
            .field("trouble", &self.trouble())
            .finish_non_exhaustive()
    }
}

/// A thread's connection to a server.
struct Line {
    state: Mutex<State>,
    made: Notify,
    in_flight: AtomicUsize,
    /// Calls in a row that were not answered in time.
    silent: AtomicU32,
}

enum State {
    Down,
    Connecting,
    Up(MultiplexedConnection),
}

impl Line {
    fn drop_connection(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Up(_)) {
            *state = State::Down;
        }
    }
}

/// A place among the calls under way.
struct Seat<'a>(&'a Line);

impl<'a> Seat<'a> {
    fn take(line: &'a Line, most: usize) -> Option<Self> {
        let seat = Self(line);
        (line.in_flight.fetch_add(1, Ordering::Relaxed) < most).then_some(seat)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

thread_local! {
    static LINES: RefCell<Vec<Option<Arc<Line>>>> = const { RefCell::new(Vec::new()) };
}

/// This thread's line to the server at `place`.
fn line(place: usize) -> Arc<Line> {
    LINES.with_borrow_mut(|lines| {
        if lines.len() <= place {
            lines.resize_with(place + 1, || None);
        }
        let new = || {
            Arc::new(Line {
                state: Mutex::new(State::Down),
                made: Notify::new(),
                in_flight: AtomicUsize::new(0),
                silent: AtomicU32::new(0),
            })
        };
        lines.get_mut(place).map_or_else(new, |line| Arc::clone(line.get_or_insert_with(new)))
    })
}
