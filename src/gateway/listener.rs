//! Takes connections in and deals each to the worker that has the fewest.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{mpsc, watch};

use super::observe::{Observer, TurnedAway};
use super::running::{Phase, reaches};
use super::shares::{Share, Shares};
use super::worker::{Dealt, Seat};
use crate::checks::limit::network;
use crate::config::{Listener, Server};

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
    pub(super) crowd: Crowd,
}

/// Defeats one address that takes all the connections there is room for.
pub(super) struct Crowd {
    most: Option<NonZeroUsize>,
    /// They bring many clients each.
    proxies: Vec<IpNet>,
    open: Arc<Shares<IpAddr>>,
}

impl Crowd {
    pub(super) fn new(server: &Server) -> Self {
        let proxies = server.trusted_proxies.clone();
        Self { most: server.max_connections_per_address, proxies, open: Arc::default() }
    }

    /// A share for one more connection, where they are counted; an error where the address has no more.
    fn let_in(&self, peer: IpAddr) -> Result<Option<Share<IpAddr>>, usize> {
        let Some(most) = self.most else { return Ok(None) };
        if self.proxies.iter().any(|proxy| proxy.contains(&peer)) {
            return Ok(None);
        }
        Shares::take(&self.open, network(peer), most.get()).map(Some)
    }
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
                        self.observer.connection_refused(index, TurnedAway::Unaccepted);
                        pause = (pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
                    }
                },
            }
        }
        // Whoever the system has let in already must not be reset. The runtime has not heard of the last of them yet:
        // the system is asked, and lets nobody in meanwhile.
        let Ok(listener) = listener.into_std() else { return };
        let_nobody_in(&listener);
        self.take_in(index, &listener);
        tokio::time::sleep(LAST_HANDSHAKE).await;
        self.take_in(index, &listener);
    }

    fn take_in(&self, index: usize, listener: &TcpListener) {
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
            self.observer.connection_refused(index, TurnedAway::Full);
            return;
        };
        let peer = peer.ip().to_canonical();
        let Ok(share) = self.crowd.let_in(peer) else {
            self.observer.connection_refused(index, TurnedAway::AddressFull);
            return;
        };
        // Answers are small and whole: nothing is gained by waiting to fill a segment.
        let Ok(socket) = socket.set_nodelay(true).and_then(|()| socket.into_std()) else { return };
        let seat = Seat::take(&hand.load, &self.observer, index, share);
        // A worker that is gone drops the connection, and with it the seat.
        let _ = hand.deal.send(Dealt { socket, peer, seat });
    }
}

/// Has the system throw away whatever would begin a connection, as it does when a listener is overrun: whoever asks is
/// told that nobody listens once that is so, where it would be let in and then reset. Handshakes that have begun end well.
///
/// Best effort: a system that has no such filters resets those few.
#[cfg(target_os = "linux")]
fn let_nobody_in(listener: &TcpListener) {
    use socket2::{SockFilter, SockRef};

    // Of what comes to a listener the filter sees the TCP header (RFC 9293, section 3.1): the fourteenth byte holds SYN.
    const FLAGS: u32 = 13;
    const SYN: u32 = 2;
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    let filter = [
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(JUMP_IF_SET, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    let _unfiltered = SockRef::from(listener).attach_filter(&filter);
}

#[cfg(not(target_os = "linux"))]
fn let_nobody_in(_listener: &TcpListener) {}

/// How long a handshake that had begun may take to end: a few round trips to a balancer.
const LAST_HANDSHAKE: Duration = Duration::from_millis(5);
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn who_was_let_in_is_heard_and_nobody_else_is_let_in() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200));
            let mut before = connect().unwrap();
            let_nobody_in(&listener);
            assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::TimedOut, "{address}");
            before.write_all(b"heard").unwrap();
            let (mut socket, _) = listener.accept().unwrap();
            let mut bytes = [0; 5];
            socket.read_exact(&mut bytes).unwrap();
            assert_eq!(&bytes, b"heard");
            drop(listener);
            assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        }
    }
}
