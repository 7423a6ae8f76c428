//! The backend: it writes down every request that reaches it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use countersign::clock::{Clock, Micros, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::GATEWAYS;

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Micros,
    /// The gateway that sent it on.
    pub(crate) by: usize,
    /// The number that its client signed: whatever else differs, one number is one request.
    pub(crate) number: u64,
    pub(crate) account: String,
    /// A digest of method, target and body.
    pub(crate) what: u64,
}

/// What came, in the order it came.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    /// Where each gateway finds it.
    pub(crate) addresses: [SocketAddr; GATEWAYS],
    arrivals: Arc<Mutex<Vec<Arrival>>>,
}

impl Backend {
    /// It ends with the runtime that it is started on.
    pub(crate) async fn start(clock: Arc<SystemClock>) -> Self {
        let arrivals = Arc::default();
        let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); GATEWAYS];
        for (by, address) in addresses.iter_mut().enumerate() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            *address = listener.local_addr().unwrap();
            tokio::spawn(listen(listener, by, Arc::clone(&clock), Arc::clone(&arrivals)));
        }
        Self { addresses, arrivals }
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().unwrap().clone()
    }
}

async fn listen(
    listener: TcpListener,
    by: usize,
    clock: Arc<SystemClock>,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        tokio::spawn(serve(socket, by, Arc::clone(&clock), Arc::clone(&arrivals)));
    }
}

async fn serve(
    mut socket: TcpStream,
    by: usize,
    clock: Arc<SystemClock>,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
) {
    let _ = socket.set_nodelay(true);
    let mut held = Vec::new();
    loop {
        while let Some((request, length)) = whole(&held) {
            let arrival = read(request, by, clock.now());
            let reply = format!("served {}", arrival.number);
            arrivals.lock().unwrap().push(arrival);
            held.drain(..length);
            let reply =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{reply}", reply.len());
            if socket.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
        }
        match socket.read_buf(&mut held).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// The first whole request among `held`, and its length.
fn whole(held: &[u8]) -> Option<(&str, usize)> {
    let begun = held.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&held[..begun]).unwrap();
    let length: usize = field(text, "content-length").map_or(0, |length| length.parse().unwrap());
    let all = held.get(..begun + length)?;
    Some((std::str::from_utf8(all).unwrap(), begun + length))
}

pub(crate) fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn read(request: &str, by: usize, at: Micros) -> Arrival {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let first = head.lines().next().unwrap_or_default();
    let identity = field(head, "countersign-identity").unwrap_or_default();
    let account = identity
        .split("; ")
        .find_map(|part| part.strip_prefix("account="))
        .unwrap_or("-")
        .to_owned();
    let mut digest = DefaultHasher::new();
    (first, body, &account).hash(&mut digest);
    let number = number(first).or_else(|| number(body)).expect("every request has a number");
    Arrival { at, by, number, account, what: digest.finish() }
}

/// What every request carries among what is signed.
pub(crate) const MARK: &str = "storm-";

fn number(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once(MARK)?;
    rest.get(..10)?.parse().ok()
}
