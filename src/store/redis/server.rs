//! One Redis server, as the workers see it: a pipelined connection of each thread, hard deadlines, and a breaker that
//! only a probe of the control plane closes again.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, Value};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::Micros;

/// One server.
pub(super) struct Server {
    /// Its place among all of this process, so that threads find their connection to it.
    place: usize,
    pub(super) name: String,
    client: Client,
    connect_timeout: Duration,
    max_in_flight: usize,
    usable: AtomicBool,
    lapses: AtomicU32,
    /// When it began to remember, in microseconds, as far as is known here.
    born: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
    /// Rung when it stopped being usable, so that it is looked at at once.
    pub(super) alarm: Notify,
    pub(super) calls: AtomicU64,
    pub(super) failures: AtomicU64,
}

/// Why a server is not asked, in the order it is found out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// It was never reached yet.
    Unknown,
    /// It cannot be reached, or did not answer in time.
    Unreachable(String),
    /// It answered with an error: loading, read-only, full, no permission and the like.
    Refuses(String),
    /// It is older than version 7.
    TooOld(String),
    /// It may evict what must be remembered; the text is its policy.
    Evicts(String),
    /// It has a library of our name with other code.
    OtherLibrary,
    /// Its clock is further from ours than the bound.
    Clock(Duration),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("was not reached yet"),
            Self::Unreachable(why) => write!(f, "cannot be reached: {why}"),
            Self::Refuses(why) => write!(f, "refuses: {why}"),
            Self::TooOld(version) => write!(f, "has version {version}: Redis 7 or later is needed"),
            Self::Evicts(policy) => write!(
                f,
                "may evict what must be remembered (maxmemory-policy {policy}): set it to noeviction"
            ),
            Self::OtherLibrary => {
                f.write_str("has other code in its library countersign_1: run gateways of one version, or FUNCTION DELETE it")
            }
            Self::Clock(apart) => write!(f, "has a clock {} ms away from ours", apart.as_millis()),
        }
    }
}

/// Why a call brought no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// It was certainly not carried out.
    NotSent,
    /// Whether it was carried out is not known.
    Unknown,
}

/// Lapses in a row after which a server is not asked until a probe succeeds.
const LAPSES: u32 = 3;

impl Server {
    pub(super) fn new(
        name: String,
        client: Client,
        connect_timeout: Duration,
        max_in_flight: usize,
    ) -> Self {
        static PLACES: AtomicUsize = AtomicUsize::new(0);
        Self {
            place: PLACES.fetch_add(1, Ordering::Relaxed),
            name,
            client,
            connect_timeout,
            max_in_flight,
            usable: AtomicBool::new(false),
            lapses: AtomicU32::new(0),
            born: AtomicU64::new(0),
            trouble: Mutex::new(Some(Trouble::Unknown)),
            alarm: Notify::new(),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Whether it is asked.
    pub(super) fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Acquire)
    }

    /// Why it is not asked, if it is not.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks it again, or no longer.
    pub(super) fn judge(&self, trouble: Option<Trouble>) {
        let usable = trouble.is_none();
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
        self.lapses.store(0, Ordering::Relaxed);
        if self.usable.swap(usable, Ordering::AcqRel) && !usable {
            self.alarm.notify_one();
        }
    }

    /// When it began to remember, as far as is known here.
    pub(super) fn born(&self) -> Micros {
        Micros(self.born.load(Ordering::Relaxed))
    }

    /// It began to remember then. What begins to be younger than was known is looked at anew.
    pub(super) fn set_born(&self, born: Micros) {
        if self.born.fetch_max(born.0, Ordering::Relaxed) < born.0 {
            self.alarm.notify_one();
        }
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
        self.calls.fetch_add(1, Ordering::Relaxed);
        let called = tokio::time::timeout_at(deadline, self.ask(&line, command)).await;
        let answer = called.unwrap_or_else(|_| {
            self.lapse("it did not answer in time");
            Err(Fault::Unknown)
        });
        match &answer {
            Ok(_) if self.lapses.load(Ordering::Relaxed) > 0 => {
                self.lapses.store(0, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(_) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        answer
    }

    /// Sends, and once more where the connection broke: a call carries what makes its repetition harmless.
    async fn ask(self: &Arc<Self>, line: &Arc<Line>, command: &Cmd) -> Result<Vec<u8>, Fault> {
        let mut fault = Fault::NotSent;
        for _ in 0..2 {
            let Some(mut connection) = self.connection(line).await else { return Err(fault) };
            let refused = match connection.send_packed_command(command).await {
                Ok(Value::BulkString(answer)) => return Ok(answer),
                Ok(Value::ServerError(error)) => error.to_string(),
                Ok(_) => "an answer of another kind".to_owned(),
                Err(error) if error.is_io_error() || error.is_unrecoverable_error() => {
                    line.drop_connection();
                    fault = Fault::Unknown;
                    self.lapse(&error.to_string());
                    continue;
                }
                Err(error) => error.to_string(),
            };
            // What it says of itself does not get better by asking on.
            self.judge(Some(Trouble::Refuses(refused)));
            return Err(Fault::Unknown);
        }
        Err(fault)
    }

    fn lapse(&self, why: &str) {
        if self.lapses.fetch_add(1, Ordering::Relaxed) + 1 >= LAPSES {
            self.judge(Some(Trouble::Unreachable(why.to_owned())));
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
                self.judge(Some(Trouble::Unreachable(error.to_string())));
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
            })
        };
        lines.get_mut(place).map_or_else(new, |line| Arc::clone(line.get_or_insert_with(new)))
    })
}
