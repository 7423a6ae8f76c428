//! A TCP proxy that misbehaves when told to: delay, throttle, hold back one way or both, half-close, reset.
//!
//! What is held back is delivered late once it passes again, as TCP does after a partition.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How a link behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// As if it were not there.
    Pass,
    /// Everything comes so much later.
    Delay(Duration),
    /// So many bytes a second.
    Throttle(u32),
    /// Nothing passes towards the server until the mode changes.
    HoldRequests,
    /// Nothing passes towards the client until the mode changes.
    HoldReplies,
    /// Nothing passes.
    HoldAll,
    /// The client's side ends each connection once something passes on it; the server's stays.
    HalfClose,
    /// Every connection is reset, new ones too.
    Reset,
}

/// One address in front of another.
#[derive(Clone, Debug)]
pub(crate) struct FaultProxy {
    /// Where it listens, on the loopback.
    pub(crate) port: u16,
    mode: Arc<watch::Sender<Mode>>,
}

impl FaultProxy {
    /// Listens on a free port, in front of `server`. It ends with the runtime that it is started on.
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, watched) = watch::channel(Mode::Pass);
        tokio::spawn(accept(listener, server, watched));
        Self { port, mode: Arc::new(mode) }
    }

    /// Behaves so from now on.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn accept(listener: TcpListener, server: u16, mode: watch::Receiver<Mode>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let mode = mode.clone();
        tokio::spawn(async move {
            if *mode.borrow() == Mode::Reset {
                reset(&client);
                return;
            }
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else {
                reset(&client);
                return;
            };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::join!(
                pump(from_client, to_server, Towards::Server, mode.clone()),
                pump(from_server, to_client, Towards::Client, mode),
            );
        });
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Towards {
    Server,
    Client,
}

/// Moves bytes one way, as the mode lets it.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    towards: Towards,
    mut mode: watch::Receiver<Mode>,
) {
    let mut held = [0; 16 * 1024];
    loop {
        let length = tokio::select! {
            read = from.read(&mut held) => read.unwrap_or(0),
            _ = mode.wait_for(|mode| *mode == Mode::Reset) => {
                reset(from.as_ref());
                return;
            }
        };
        if length == 0 {
            let _ = to.shutdown().await;
            return;
        }
        if !pass(&held[..length], &mut to, towards, &mut mode).await {
            reset(from.as_ref());
            return;
        }
    }
}

/// Writes, once and however the mode lets it; `false` where the connection is to end.
async fn pass(
    bytes: &[u8],
    to: &mut OwnedWriteHalf,
    towards: Towards,
    mode: &mut watch::Receiver<Mode>,
) -> bool {
    loop {
        let now = *mode.borrow_and_update();
        let is_held = match now {
            Mode::HoldAll => true,
            Mode::HoldRequests => towards == Towards::Server,
            Mode::HoldReplies => towards == Towards::Client,
            Mode::Reset => return false,
            Mode::HalfClose if towards == Towards::Client => {
                let _ = to.shutdown().await;
                return true;
            }
            Mode::Throttle(rate) => {
                for few in bytes.chunks(256) {
                    tokio::time::sleep(Duration::from_secs(few.len() as u64) / rate).await;
                    if to.write_all(few).await.is_err() {
                        return false;
                    }
                }
                return true;
            }
            Mode::Delay(span) => {
                tokio::time::sleep(span).await;
                false
            }
            Mode::Pass | Mode::HalfClose => false,
        };
        if !is_held {
            return to.write_all(bytes).await.is_ok();
        }
        if mode.changed().await.is_err() {
            return false;
        }
    }
}

fn reset(stream: &TcpStream) {
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
