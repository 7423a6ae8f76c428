//! Connections to one backend, of one worker: taken newest first, never shared between threads.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::back::Connection;
use super::backends::{Backend, Slot};
use super::files::is_exhausted;
use super::rooms::Rooms;
use crate::clock::{Clock, Micros};
use crate::config::Upstream;

/// Why there is no connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Lack {
    /// All that the backend may have are in use.
    Crowded,
    /// The backend could not be reached in time.
    Unreachable,
    /// This machine has no file or port left to reach it by.
    Exhausted,
}

/// The connections of one worker to one backend.
pub(super) struct Pool {
    backend: Arc<Backend>,
    address: Box<str>,
    connect_timeout: Duration,
    response_timeout: Duration,
    idle_timeout: Duration,
    clock: Arc<dyn Clock>,
    /// Whom to tell that an idle connection has closed.
    closings: Waker,
    /// Where replies are read to.
    rooms: Rc<Rooms>,
    /// Oldest first.
    idle: RefCell<Vec<Idle>>,
    returned: Notify,
    waiters: Cell<usize>,
    /// Whether the last attempt to connect failed for want of files or ports: it is told once.
    was_exhausted: Cell<bool>,
}

struct Idle {
    connection: Box<Connection>,
    since: Micros,
}

impl Pool {
    pub(super) fn new(
        backend: &Arc<Backend>,
        upstream: &Upstream,
        clock: &Arc<dyn Clock>,
        closings: &Arc<Closings>,
        rooms: &Rc<Rooms>,
    ) -> Self {
        Self {
            address: address(backend.authority()),
            backend: Arc::clone(backend),
            connect_timeout: upstream.connect_timeout,
            response_timeout: upstream.response_timeout,
            idle_timeout: upstream.idle_timeout,
            clock: Arc::clone(clock),
            closings: Waker::from(Arc::clone(closings)),
            rooms: Rc::clone(rooms),
            idle: RefCell::default(),
            returned: Notify::new(),
            waiters: Cell::new(0),
            was_exhausted: Cell::new(false),
        }
    }

    pub(super) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    pub(super) fn now(&self) -> Micros {
        self.clock.now()
    }

    /// The idle connection that was used last.
    pub(super) fn take(&self, now: Micros) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        while idle.pop_if(|last| last.connection.is_stale()).is_some() {}
        let newest = idle.pop()?;
        if now.since(newest.since) >= self.idle_timeout {
            // Every other was used longer ago.
            idle.clear();
            return None;
        }
        Some(newest.connection)
    }

    /// A new connection.
    pub(super) async fn open(&self) -> Result<Box<Connection>, Lack> {
        let slot = self.backend.reserve().ok_or(Lack::Crowded)?;
        self.connect(slot).await
    }

    /// The first connection that becomes free, within the time to connect. No more wait than may be served at a time.
    pub(super) async fn wait(&self) -> Result<Box<Connection>, Lack> {
        let _waiting = Waiting::begin(self).ok_or(Lack::Crowded)?;
        let free = async {
            loop {
                if let Some(connection) = self.take(self.clock.now()) {
                    return Ok(connection);
                }
                if let Some(slot) = self.backend.reserve() {
                    match self.connect(slot).await {
                        Err(Lack::Exhausted) => {}
                        connected => return connected,
                    }
                }
                // What becomes free at another worker is not heard of here: hence the short time.
                let _ = timeout(LOOK_AGAIN, self.returned.notified()).await;
            }
        };
        timeout(self.connect_timeout, free).await.unwrap_or(Err(Lack::Crowded))
    }

    async fn connect(&self, slot: Slot) -> Result<Box<Connection>, Lack> {
        let connecting = async {
            let socket = TcpStream::connect(&*self.address).await?;
            socket.set_nodelay(true).map(|()| socket)
        };
        let connected = timeout(self.connect_timeout, connecting).await;
        let socket = match connected {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) if is_exhausted(&error) => {
                if !self.was_exhausted.replace(true) {
                    tracing::error!(%error, backend = %self.address, "no connection can be opened; is the limit of open files too low?");
                }
                return Err(Lack::Exhausted);
            }
            Ok(Err(_)) | Err(_) => return Err(Lack::Unreachable),
        };
        self.was_exhausted.set(false);
        Ok(Box::new(Connection::new(socket, slot, self.response_timeout, &self.rooms)))
    }

    /// Takes back a connection whose reply has been read to its end.
    pub(super) fn put(&self, mut connection: Box<Connection>, now: Micros) {
        let elsewhere = self.waiters.get() == 0 && self.backend.is_waited_for();
        if elsewhere || !connection.is_reusable() {
            return;
        }
        connection.rest();
        self.idle.borrow_mut().push(Idle { connection, since: now });
        if self.waiters.get() > 0 {
            self.returned.notify_one();
        }
    }

    /// Closes what has closed at its other end, has been idle too long, or is wanted by another worker; and wants to be
    /// told of what closes from here on. Busy connections seldom lie idle when it looks, and cost nothing.
    pub(super) fn sweep(&self) {
        let elsewhere = self.waiters.get() == 0 && self.backend.is_waited_for();
        let now = self.clock.now();
        let mut told = Context::from_waker(&self.closings);
        self.idle.borrow_mut().retain(|idle| {
            !elsewhere
                && now.since(idle.since) < self.idle_timeout
                && idle.connection.poll_stale(&mut told).is_pending()
        });
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.address)
    }
}

/// Hears that idle connections have closed.
#[derive(Debug, Default)]
pub(super) struct Closings(Notify);

impl Wake for Closings {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.notify_one();
    }
}

/// Closes idle connections of `pools` now and then, and when they have closed, as long as their worker lives.
pub(super) async fn keep_swept(pools: Vec<std::rc::Weak<Pool>>, closings: Arc<Closings>) {
    loop {
        let _ = timeout(SWEEP, closings.0.notified()).await;
        let mut live = pools.iter().filter_map(std::rc::Weak::upgrade).peekable();
        if live.peek().is_none() {
            return;
        }
        live.for_each(|pool: Rc<Pool>| pool.sweep());
    }
}

/// A request that waits for a connection.
struct Waiting<'p>(&'p Pool);

impl<'p> Waiting<'p> {
    fn begin(pool: &'p Pool) -> Option<Self> {
        if pool.waiters.get() >= pool.backend.max_connections() {
            return None;
        }
        pool.waiters.set(pool.waiters.get() + 1);
        pool.backend.wait_begins();
        Some(Self(pool))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiters.set(self.0.waiters.get().saturating_sub(1));
        self.0.backend.wait_ends();
    }
}

/// What to connect to: port 80 where the configuration names none.
fn address(authority: &str) -> Box<str> {
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    if has_port { authority.into() } else { [authority, ":80"].concat().into() }
}

const LOOK_AGAIN: Duration = Duration::from_millis(10);
const SWEEP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_without_a_port_is_reached_at_port_80() {
        for (authority, reached) in [
            ("orders.internal", "orders.internal:80"),
            ("orders.internal:8080", "orders.internal:8080"),
            ("[2001:db8::1]", "[2001:db8::1]:80"),
            ("[2001:db8::1]:8080", "[2001:db8::1]:8080"),
        ] {
            assert_eq!(&*address(authority), reached);
        }
    }
}
