//! Connections to one backend, of one worker: taken newest first, never shared between threads.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::backends::{Backend, Slot};
use super::sender::Sender;
use super::stream::Backward;
use crate::clock::{Clock, Micros};
use crate::config::Upstream;

/// A connection that is free to carry one request.
pub(super) struct Connection {
    pub(super) sender: Sender,
    /// Whether it has carried none before.
    pub(super) is_fresh: bool,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Lack {
    /// All that the backend may have are in use.
    Crowded,
    /// The backend could not be reached in time.
    Unreachable,
}

/// The connections of one worker to one backend.
pub(super) struct Pool {
    backend: Arc<Backend>,
    address: Box<str>,
    connect_timeout: Duration,
    response_timeout: Duration,
    idle_timeout: Duration,
    clock: Arc<dyn Clock>,
    /// Oldest first.
    idle: RefCell<Vec<Idle>>,
    returned: Notify,
    waiters: Cell<usize>,
}

struct Idle {
    sender: Sender,
    since: Micros,
}

impl Pool {
    pub(super) fn new(backend: &Arc<Backend>, upstream: &Upstream, clock: &Arc<dyn Clock>) -> Self {
        Self {
            address: address(backend.authority()),
            backend: Arc::clone(backend),
            connect_timeout: upstream.connect_timeout,
            response_timeout: upstream.response_timeout,
            idle_timeout: upstream.idle_timeout,
            clock: Arc::clone(clock),
            idle: RefCell::default(),
            returned: Notify::new(),
            waiters: Cell::new(0),
        }
    }

    pub(super) fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }

    pub(super) fn now(&self) -> Micros {
        self.clock.now()
    }

    /// The idle connection that was used last.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while idle.pop_if(|last| last.sender.is_closed()).is_some() {}
        let place = idle.iter().rposition(|idle| idle.sender.is_ready())?;
        let newest = idle.remove(place);
        if self.clock.now().since(newest.since) >= self.idle_timeout {
            // Every other was used longer ago.
            idle.clear();
            return None;
        }
        Some(Connection { sender: newest.sender, is_fresh: false })
    }

    /// A new connection.
    pub(super) async fn open(&self) -> Result<Connection, Lack> {
        let slot = self.backend.reserve().ok_or(Lack::Crowded)?;
        self.connect(slot).await
    }

    /// The first connection that becomes free, within the time to connect. No more wait than may be served at a time.
    pub(super) async fn wait(&self) -> Result<Connection, Lack> {
        let _waiting = Waiting::begin(self).ok_or(Lack::Crowded)?;
        let free = async {
            loop {
                if let Some(connection) = self.take() {
                    return Ok(connection);
                }
                if let Some(slot) = self.backend.reserve() {
                    return self.connect(slot).await;
                }
                // What becomes free at another worker is not heard of here: hence the short time.
                let _ = timeout(LOOK_AGAIN, self.returned.notified()).await;
            }
        };
        timeout(self.connect_timeout, free).await.unwrap_or(Err(Lack::Crowded))
    }

    async fn connect(&self, slot: Slot) -> Result<Connection, Lack> {
        let connecting = async {
            let stream = TcpStream::connect(&*self.address).await.ok()?;
            stream.set_nodelay(true).ok()?;
            http1::Builder::new().handshake(TokioIo::new(Backward(stream))).await.ok()
        };
        let connected = timeout(self.connect_timeout, connecting).await;
        let (requests, connection) = connected.ok().flatten().ok_or(Lack::Unreachable)?;
        tokio::task::spawn_local(async move {
            // How a connection ends is told to whoever awaits its reply.
            let _ = connection.await;
            drop(slot);
        });
        let sender = Sender::new(requests, self.response_timeout);
        Ok(Connection { sender, is_fresh: true })
    }

    /// Takes back a connection whose reply has been read to its end.
    pub(super) fn put(&self, sender: Sender) {
        let elsewhere = self.waiters.get() == 0 && self.backend.is_waited_for();
        if sender.is_closed() || elsewhere {
            return;
        }
        self.idle.borrow_mut().push(Idle { sender, since: self.clock.now() });
        if self.waiters.get() > 0 {
            self.returned.notify_one();
        }
    }

    /// Closes what has been idle too long, or is wanted by another worker.
    pub(super) fn sweep(&self) {
        let elsewhere = self.waiters.get() == 0 && self.backend.is_waited_for();
        let now = self.clock.now();
        self.idle.borrow_mut().retain(|idle| {
            !elsewhere && !idle.sender.is_closed() && now.since(idle.since) < self.idle_timeout
        });
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({})", self.address)
    }
}

/// Closes idle connections of `pools` now and then, as long as their worker lives.
pub(super) async fn keep_swept(pools: Vec<std::rc::Weak<Pool>>) {
    let mut pause = tokio::time::interval(SWEEP);
    loop {
        pause.tick().await;
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
