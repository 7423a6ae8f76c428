//! One thread of the data plane: its connections, its upstream pool, and nothing that another worker waits for.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::connection;
use super::cut::Sleepers;
use super::desk::Desk;
use super::forward::Upstreams;
use super::observe::{End, Observer, Tally};
use super::request_id::RequestIds;
use super::running::{Phase, reaches};
use super::shares::Share;
use super::tunnel;
use super::tunnels::Tunnels;
use crate::admit::{Gate, Scratch};
use crate::clock::Clock;
use crate::config::Config;
use crate::registry::Keys;
use crate::store::Store;

/// What one worker works with.
pub(super) struct Worker<K, S, C, O: Observer> {
    pub(super) config: Arc<Config>,
    pub(super) gate: Arc<Gate<K, S, C>>,
    pub(super) tally: Rc<O::Tally>,
    pub(super) upstreams: Upstreams,
    /// Memory for checks; requests that wait for a store hold theirs meanwhile. Boxed, so that only addresses are
    /// taken out and put back.
    #[expect(clippy::vec_box, reason = "taken out and put back as they are")]
    pub(super) scratches: RefCell<Vec<Box<Scratch>>>,
    pub(super) request_ids: RequestIds,
    pub(super) desk: Desk,
    /// Whom to wake when a key has ended.
    pub(super) sleepers: Rc<Sleepers>,
    /// How many WebSockets there may be, over all workers.
    pub(super) tunnels: Arc<Tunnels>,
    pub(super) scratch: tunnel::Scratch,
    /// By listener.
    pub(super) tls: Vec<Option<TlsAcceptor>>,
    pub(super) http1: http1::Builder,
    pub(super) http2: http2::Builder<Here>,
}

/// A connection on its way to a worker.
pub(super) struct Dealt<O: Observer> {
    pub(super) socket: std::net::TcpStream,
    pub(super) peer: IpAddr,
    pub(super) seat: Seat<O>,
}

/// A connection's place among those of its worker, given back when dropped.
pub(super) struct Seat<O: Observer> {
    load: Arc<AtomicUsize>,
    observer: Arc<O>,
    pub(super) listener: usize,
    pub(super) end: End,
    /// Of its address, where those of one are bounded.
    share: Option<Share<IpAddr>>,
}

impl<O: Observer> Seat<O> {
    pub(super) fn take(
        load: &Arc<AtomicUsize>,
        observer: &Arc<O>,
        listener: usize,
        share: Option<Share<IpAddr>>,
    ) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        observer.connection_opened(listener);
        let (load, observer) = (Arc::clone(load), Arc::clone(observer));
        Self { load, observer, listener, end: End::Stopped, share }
    }
}

impl<O: Observer> Drop for Seat<O> {
    fn drop(&mut self) {
        // First, so that whoever hears of the closing finds the place free.
        drop(self.share.take());
        self.load.fetch_sub(1, Ordering::Relaxed);
        let end = if std::thread::panicking() { End::Panicked } else { self.end };
        self.observer.connection_closed(self.listener, end);
    }
}

impl<K, S, C, O> Worker<K, S, C, O>
where
    K: Keys + 'static,
    S: Store + 'static,
    C: Clock + 'static,
    O: Observer,
{
    /// Serves what it is dealt until nothing more can come, then lets what is under way finish.
    pub(super) async fn run(
        self: Rc<Self>,
        mut dealt: mpsc::UnboundedReceiver<Dealt<O>>,
        mut phase: watch::Receiver<Phase>,
    ) {
        let mut connections = JoinSet::new();
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                _ = second.tick() => self.tally.flush(),
                next = dealt.recv() => match next {
                    Some(next) => {
                        let worker = Rc::clone(&self);
                        connections.spawn_local(connection::serve(worker, next, phase.clone()));
                    }
                    None => break,
                },
                Some(ended) = connections.join_next() => note(ended),
            }
        }
        let rest = async {
            while let Some(ended) = connections.join_next().await {
                note(ended);
            }
        };
        // What is still there afterwards ends with the set.
        tokio::select! {
            _ = tokio::time::timeout(self.config.server.drain_timeout, rest) => {}
            () = reaches(&mut phase, Phase::Aborting) => {}
        }
    }
}

/// A panic costs one connection: it is told, and the worker goes on.
fn note(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection's handler panicked");
    }
}

/// Runs the streams of an HTTP/2 connection on the thread of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Here;

impl<F: Future<Output: 'static> + 'static> Executor<F> for Here {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(stream);
    }
}
