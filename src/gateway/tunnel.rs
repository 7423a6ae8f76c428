//! Defeats a revoked key whose WebSocket is still open: passes its bytes both ways for as long as its key may, and cuts
//! it when the key ends.
//!
//! Bytes are passed on unread but for the heads of frames, so that a frame of ours, which closes, never stands inside
//! one of theirs. While nothing moves a tunnel holds no buffer.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::exit::Known;
use super::frames::Code;
use super::observe::{End, Observer, Parting, Passed, Tally, WebSocketClosed};
use super::pulse::Pulse;
use super::request_id::RequestId;
use super::serve::Line;
use super::stream::Watched;
use super::way::{Over, Way};
use super::websocket::Agreed;
use super::worker::Worker;
use crate::admit::{Gate, Route};
use crate::clock::{Clock, Micros};
use crate::denial::Denial;
use crate::key::Key;
use crate::registry::Keys;
use crate::store::Store;

/// Passes the bytes of a WebSocket on until it ends. `ahead` came from the client before it was told.
pub(super) async fn run<K: Keys, S: Store, C: Clock, O: Observer>(
    worker: &Worker<K, S, C, O>,
    line: &Line,
    mut client: Watched,
    ahead: Bytes,
    agreed: Agreed,
) -> End {
    client.hush();
    line.pulse.open_tunnel();
    let mut report = Report::open(&worker.tally, &agreed);
    let Agreed { backend, held, known, endings, route, peer, _place, .. } = agreed;
    let Some(entry) = worker.config.routes.all().get(usize::from(route)) else {
        return End::Broken;
    };
    let mut tunnel = Tunnel {
        client,
        backend,
        up: Way::beginning(ahead.into()),
        down: Way::beginning(held),
        key: known.map(|known| known.key),
        endings,
        pulse: Rc::clone(&line.pulse),
        idle_since: Instant::now(),
        left: None,
    };
    let watch = Watch {
        gate: &worker.gate,
        route: &entry.demand,
        peer,
        idle: worker.config.websocket.idle_timeout,
    };
    let parting = watch.keep(&mut tunnel, &worker.scratch, &mut report).await;
    report.end(&tunnel, parting);
    tunnel.close(parting).await;
    End::Closed
}

/// What must hold for a tunnel to go on.
struct Watch<'w, K, S, C> {
    gate: &'w Gate<K, S, C>,
    route: &'w Route,
    peer: IpAddr,
    idle: Duration,
}

impl<K: Keys, S: Store, C: Clock> Watch<'_, K, S, C> {
    /// Passes bytes on, and looks now and then whether that may go on.
    async fn keep<T: Tally>(
        &self,
        tunnel: &mut Tunnel,
        scratch: &Scratch,
        report: &mut Report<T>,
    ) -> Parting {
        let mut known_at = Instant::now();
        loop {
            let until = tunnel.key.as_ref().map(|key| key.expires.unwrap_or(Micros(u64::MAX)));
            let look = self.look_is_due(until);
            if let Err(parting) = tunnel.pass(scratch, look).await {
                return parting;
            }
            let now = Instant::now();
            report.tell(tunnel);
            if let Some(parting) = tunnel.rests(now, self.idle) {
                return parting;
            }
            let Some(key) = tunnel.key.clone() else { continue };
            // What ends while it is being looked up is noticed.
            let endings = tunnel.endings_now();
            let asking = self.gate.recheck(&key, self.route, self.peer);
            match tunnel.pass(scratch, asking).await {
                Err(parting) => return parting,
                Ok(Ok(key)) => {
                    tunnel.key = Some(key);
                    tunnel.endings = endings;
                    known_at = now;
                }
                Ok(Err(Denial::Unavailable)) => {
                    let max_age = self.route.key_max_age;
                    // A lookup may fail where all is known that changes: it is tried again, for as long as keys may
                    // be unknown.
                    if !self.gate.keys.is_current(max_age) || now.duration_since(known_at) > max_age
                    {
                        return Parting::KeyUnknown;
                    }
                }
                Ok(Err(_)) => return Parting::KeyEnded,
            }
        }
    }

    /// Returns after a while; where there is a key, when it expires, if that is sooner, and when a switch is thrown.
    async fn look_is_due(&self, expires: Option<Micros>) {
        let left = expires.map_or(LOOK, |end| end.since(self.gate.clock.now()).min(LOOK));
        let mut due = pin!(sleep_until(Instant::now() + left));
        let stopped = self.gate.switches.stopped();
        poll_fn(|cx| {
            if expires.is_some() && self.gate.switches.stopped() != stopped {
                return Poll::Ready(());
            }
            due.as_mut().poll(cx)
        })
        .await;
    }
}

/// A WebSocket through the gateway.
struct Tunnel {
    client: Watched,
    backend: TcpStream,
    /// To the backend.
    up: Way,
    /// To the client.
    down: Way,
    /// Whose it is, as last looked up.
    key: Option<Arc<Key>>,
    endings: u64,
    pulse: Rc<Pulse>,
    idle_since: Instant,
    /// When nothing more was passed up, and who has gone then.
    left: Option<(Instant, Parting)>,
}

impl Tunnel {
    /// Passes bytes on until `until` comes to something, or the tunnel is over.
    async fn pass<F: Future>(&mut self, scratch: &Scratch, until: F) -> Result<F::Output, Parting> {
        let mut until = pin!(until);
        poll_fn(|cx| {
            if self.is_cut() {
                return Poll::Ready(Err(Parting::KeyEnded));
            }
            if let Poll::Ready(came) = until.as_mut().poll(cx) {
                return Poll::Ready(Ok(came));
            }
            let scratch = &mut *scratch.0.borrow_mut();
            scratch.resize(ROOM, 0);
            self.poll(cx, scratch).map(Err)
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<Parting> {
        let Self { client, backend, up, down, .. } = self;
        // Who is asked to leave finishes the frame it is in.
        let is_leaving = self.pulse.is_leaving();
        if let Poll::Ready(Err(over)) = down.poll(cx, backend, client, scratch, is_leaving) {
            return Poll::Ready(match (over, self.left) {
                (Over::Between, _) => Parting::Stopped,
                (Over::From, Some((_, who))) => self.gone(who),
                (Over::From, None) => self.gone(Parting::BackendGone),
                (Over::To, _) => self.gone(Parting::ClientGone),
            });
        }
        if self.left.is_none()
            && let Poll::Ready(Err(over)) = up.poll(cx, client, backend, scratch, false)
        {
            let who = if over == Over::To { Parting::BackendGone } else { Parting::ClientGone };
            if over == Over::From && up.is_broken {
                return Poll::Ready(self.gone(who));
            }
            // The backend may still have something to say, be it only that it closes.
            self.left = Some((Instant::now(), who));
            let _ = Pin::new(&mut self.backend).poll_shutdown(cx);
        }
        Poll::Pending
    }

    /// How it parts where an end has gone: by agreement, if one has said so.
    fn gone(&self, who: Parting) -> Parting {
        let has_closed = self.up.frames.is_closed() || self.down.frames.is_closed();
        if has_closed { Parting::Closed } else { who }
    }

    /// Whether it has been at rest for too long.
    fn rests(&mut self, now: Instant, idle: Duration) -> Option<Parting> {
        if let Some((left, who)) = self.left
            && now.duration_since(left) >= LAST_WORDS
        {
            return Some(self.gone(who));
        }
        let moved = std::mem::take(&mut self.up.moved) | std::mem::take(&mut self.down.moved);
        if moved {
            self.idle_since = now;
        }
        (now.duration_since(self.idle_since) >= idle).then_some(Parting::Idle)
    }

    fn endings_now(&self) -> u64 {
        self.pulse.endings.as_ref().map_or(0, |endings| endings.count())
    }

    fn is_cut(&mut self) -> bool {
        let (Some(key), Some(endings)) = (&self.key, &self.pulse.endings) else { return false };
        let count = endings.count();
        if count == self.endings {
            return false;
        }
        self.endings = count;
        endings.holds(key)
    }

    /// Says why to both ends, where a frame can be said, and closes.
    async fn close(self, parting: Parting) {
        let code = match parting {
            Parting::KeyEnded | Parting::KeyUnknown => Some(Code::Policy),
            Parting::Idle | Parting::Stopped => Some(Code::Away),
            Parting::Closed | Parting::ClientGone | Parting::BackendGone | Parting::Panicked => {
                None
            }
        };
        // From here on the connection has as long as any that closes.
        self.pulse.set_unread(true);
        self.pulse.close();
        let (up, down) = (self.up.frames, self.down.frames);
        if code.is_some() && up.is_between() && !up.is_closed() {
            let mut mask = [0; 4];
            if getrandom::fill(&mut mask).is_ok() {
                // Where it finds no room at once, closing must do.
                let _ = self.backend.try_write(&Code::Away.masked(mask));
            }
        }
        let mut backend = self.backend;
        let mut client = self.client;
        let to_client = async {
            if let Some(code) = code.filter(|_| down.is_between() && !down.is_closed()) {
                // How a client goes is its own affair.
                let _ = client.write_all(&code.frame()).await;
            }
            let _ = client.shutdown().await;
        };
        tokio::join!(to_client, finish(&mut backend));
    }
}

/// Ends our side, and reads on for a while: a connection closed with bytes unread would be reset, and its peer might
/// lose what we said last.
async fn finish(backend: &mut TcpStream) {
    let mut scrap = [0; 2_048];
    if backend.shutdown().await.is_err() {
        return;
    }
    for _ in 0..MOST_LEFTOVERS / scrap.len() {
        if let Ok(0) | Err(_) = backend.read(&mut scrap).await {
            return;
        }
    }
}

/// What is told of a tunnel: once that it was opened, once that it is closed, and between them what passed.
struct Report<T: Tally> {
    tally: Rc<T>,
    request_id: RequestId,
    at: Micros,
    since: std::time::Instant,
    peer: IpAddr,
    route: u16,
    known: Option<Known>,
    told: Passed,
    passed: Passed,
    parting: Option<Parting>,
}

impl<T: Tally> Report<T> {
    fn open(tally: &Rc<T>, agreed: &Agreed) -> Self {
        tally.websocket_opened(agreed.route);
        Self {
            tally: Rc::clone(tally),
            request_id: agreed.request_id,
            at: agreed.at,
            since: agreed.since,
            peer: agreed.peer,
            route: agreed.route,
            known: agreed.known.clone(),
            told: Passed::default(),
            passed: Passed::default(),
            parting: None,
        }
    }

    fn tell(&mut self, tunnel: &Tunnel) {
        self.passed = Passed { up: tunnel.up.passed, down: tunnel.down.passed };
        let since = Passed {
            up: self.passed.up.saturating_sub(self.told.up),
            down: self.passed.down.saturating_sub(self.told.down),
        };
        if since != Passed::default() {
            self.told = self.passed;
            self.tally.websocket_passed(self.route, since);
        }
    }

    fn end(&mut self, tunnel: &Tunnel, parting: Parting) {
        self.tell(tunnel);
        self.parting = Some(parting);
    }
}

impl<T: Tally> Drop for Report<T> {
    fn drop(&mut self) {
        let lost = if std::thread::panicking() { Parting::Panicked } else { Parting::Stopped };
        self.tally.websocket_closed(&WebSocketClosed {
            request_id: &self.request_id,
            at: self.at,
            peer: self.peer,
            proven: self.known.as_ref().map(Known::proven),
            route: self.route,
            parting: self.parting.unwrap_or(lost),
            passed: self.passed,
            total: self.since.elapsed(),
        });
    }
}

/// Memory that all tunnels of a worker read into.
#[derive(Default)]
pub(super) struct Scratch(RefCell<Vec<u8>>);

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scratch")
    }
}

/// How often it is looked whether a tunnel may go on, where nothing says that it may not.
const LOOK: Duration = Duration::from_secs(1);
/// How long a backend may go on alone.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How much is read at a time, and the most that is held of a direction.
const ROOM: usize = 32 << 10;
/// The most that is read from a backend after our side is closed.
const MOST_LEFTOVERS: usize = 1 << 20;
