//! The way between a gateway and PostgreSQL, which can lose what it carries.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// How it carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    /// Everything.
    Open,
    /// Everything but notifications: who listens hears nothing.
    Mute,
    /// Nothing, and nobody is told.
    Silent,
    /// Nothing: connections are closed, and new ones too.
    Cut,
}

/// A way that gateways take by TCP to the server's socket.
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    way: watch::Sender<Way>,
    swallowed: Arc<AtomicUsize>,
}

impl Wire {
    pub(crate) fn to(server: PathBuf, on: &Handle) -> Self {
        let (way, known) = watch::channel(Way::Open);
        let swallowed = Arc::<AtomicUsize>::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::clone(&swallowed);
        on.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                if *known.borrow() == Way::Cut {
                    continue;
                }
                client.set_nodelay(true).unwrap();
                let server = UnixStream::connect(&server).await.unwrap();
                tokio::spawn(carry(client, server, known.clone(), Arc::clone(&count)));
            }
        });
        Self { address, way, swallowed }
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Notifications that did not come through.
    pub(crate) fn swallowed(&self) -> usize {
        self.swallowed.load(Ordering::SeqCst)
    }
}

/// Carries until an end closes, or the way is cut.
async fn carry(
    client: TcpStream,
    server: UnixStream,
    mut way: watch::Receiver<Way>,
    swallowed: Arc<AtomicUsize>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let known = way.clone();
    let there = async {
        let mut bytes = [0; 8 << 10];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            passable(known.clone()).await;
            if to_server.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    let back = async {
        let mut held = Vec::new();
        while let Ok(1..) = from_server.read_buf(&mut held).await {
            passable(known.clone()).await;
            // A kind, and a length that counts itself.
            while let Some(length) = held.get(1..5) {
                let length = u32::from_be_bytes(length.try_into().unwrap()) as usize + 1;
                if held.len() < length {
                    break;
                }
                let message: Vec<u8> = held.drain(..length).collect();
                if message[0] == b'A' && *known.borrow() == Way::Mute {
                    swallowed.fetch_add(1, Ordering::SeqCst);
                } else if to_client.write_all(&message).await.is_err() {
                    return;
                }
            }
        }
    };
    let cut = async { drop(way.wait_for(|way| *way == Way::Cut).await) };
    tokio::select! {
        () = there => {}
        () = back => {}
        () = cut => {}
    }
}

async fn passable(mut way: watch::Receiver<Way>) {
    drop(way.wait_for(|way| *way != Way::Silent).await);
}
