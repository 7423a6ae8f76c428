//! Takes connections in and deals each to the worker that has the fewest.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, watch};

use super::observe::Observer;
use super::running::{Phase, reaches};
use super::worker::{Dealt, Seat};
use crate::config::Listener;

/// A listener that cannot be opened.
#[derive(Debug)]
pub struct BindError {
    /// Its name.
    pub listener: Arc<str>,
    /// Its address.
    pub address: SocketAddr,
    /// What the system said.
    pub cause: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listener, address, cause } = self;
        write!(f, "listener `{listener}`: ")?;
        if cause.kind() == io::ErrorKind::AddrInUse {
            return write!(
                f,
                "{address} is in use by another program; stop that one, or give this listener another \
                 `address` (port 0 takes a free one; with `demo`: --listen)"
            );
        }
        let cure = if cause.kind() == io::ErrorKind::PermissionDenied {
            "take a port above 1023, or grant CAP_NET_BIND_SERVICE"
        } else if cause.kind() == io::ErrorKind::AddrNotAvailable {
            "this machine has no such address; check its `address`"
        } else {
            "check its `address`"
        };
        write!(f, "cannot listen on {address}: {cause}; {cure}")
    }
}

impl std::error::Error for BindError {}

/// How many connections the system keeps until they are accepted.
const BACKLOG: i32 = 1_024;

/// Opens a listening socket.
pub(super) fn bind(listener: &Listener) -> Result<TcpListener, BindError> {
    let open = || {
        let socket =
            Socket::new(Domain::for_address(listener.address), Type::STREAM, Some(Protocol::TCP))?;
        // Else a restart would have to wait for the last connections of the process before.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&listener.address.into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    open().map_err(|cause| BindError {
        listener: Arc::clone(&listener.name),
        address: listener.address,
        cause,
    })
}

/// Where connections are dealt to.
pub(super) struct Dealer<O: Observer> {
    pub(super) workers: Vec<Hand<O>>,
    pub(super) observer: Arc<O>,
    pub(super) most: usize,
}

/// One worker, as the dealer sees it.
pub(super) struct Hand<O: Observer> {
    pub(super) load: Arc<AtomicUsize>,
    pub(super) deal: mpsc::UnboundedSender<Dealt<O>>,
}

impl<O: Observer> Dealer<O> {
    /// Accepts on one listener until the gateway drains. No error ends it, none makes it spin.
    pub(super) async fn accept(
        &self,
        index: usize,
        listener: tokio::net::TcpListener,
        mut phase: watch::Receiver<Phase>,
    ) {
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                () = reaches(&mut phase, Phase::Draining) => break,
                accepted = after(pause, listener.accept()) => match accepted {
                    Ok((socket, peer)) => {
                        pause = Duration::ZERO;
                        self.deal(index, socket, peer);
                    }
                    Err(error) if is_of_one_connection(&error) => {}
                    Err(error) => {
                        if pause.is_zero() {
                            tracing::error!(%error, "cannot accept connections; is the limit of open files too low?");
                        }
                        self.observer.accept_failed(index);
                        pause = (pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
                    }
                },
            }
        }
        // Whoever the system has let in already must not be reset. The runtime has not heard of the last of them yet:
        // the system is asked.
        let Ok(listener) = listener.into_std() else { return };
        while let Ok((socket, peer)) = listener.accept() {
            let socket = socket.set_nonblocking(true).map(|()| socket);
            if let Ok(socket) = socket.and_then(tokio::net::TcpStream::from_std) {
                self.deal(index, socket, peer);
            }
        }
    }

    fn deal(&self, index: usize, socket: tokio::net::TcpStream, peer: SocketAddr) {
        let load = |hand: &Hand<O>| hand.load.load(Ordering::Relaxed);
        let least = self.workers.iter().min_by_key(|hand| load(hand));
        let in_all: usize = self.workers.iter().map(load).sum();
        let Some(hand) = least.filter(|_| in_all < self.most) else {
            self.observer.connection_refused(index);
            return;
        };
        // Answers are small and whole: nothing is gained by waiting to fill a segment.
        let Ok(socket) = socket.set_nodelay(true).and_then(|()| socket.into_std()) else { return };
        let seat = Seat::take(&hand.load, &self.observer, index);
        // A worker that is gone drops the connection, and with it the seat.
        let _ = hand.deal.send(Dealt { socket, peer: peer.ip().to_canonical(), seat });
    }
}

const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

async fn after<T>(pause: Duration, then: impl Future<Output = T>) -> T {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    then.await
}

/// Whether the error is about the connection that was to be accepted, and the next may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
