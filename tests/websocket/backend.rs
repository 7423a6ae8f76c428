//! A backend of WebSockets that does what the path says, and notes what it was told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::fleet::BOUND;
use crate::wire::{CLOSE, accept, answer, bare, frame, head};

#[derive(Default)]
pub(crate) struct Notes {
    /// The heads of requests.
    heads: Mutex<Vec<String>>,
    /// What it heard last on each connection.
    ends: Mutex<Vec<String>>,
    news: Notify,
}

pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    notes: Arc<Notes>,
}

impl Backend {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let notes = Arc::<Notes>::default();
        let writer = Arc::clone(&notes);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&writer)));
            }
        });
        Self { address, notes }
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.notes.heads.lock().unwrap().clone()
    }

    /// Returns once a connection has ended so.
    pub(crate) async fn ends(&self, how: &str) {
        let ends = async {
            loop {
                let news = self.notes.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                if self.notes.ends.lock().unwrap().iter().any(|end| end == how) {
                    return;
                }
                news.await;
            }
        };
        let ended = tokio::time::timeout(BOUND, ends).await;
        ended.unwrap_or_else(|_| panic!("no {how} in {:?}", self.notes.ends.lock().unwrap()));
    }
}

async fn serve(mut socket: TcpStream, notes: Arc<Notes>) {
    loop {
        let request = answer(&mut socket).await;
        if request.is_empty() {
            return;
        }
        notes.heads.lock().unwrap().push(request.clone());
        let path = request.split(['?', ' ']).nth(1).unwrap();
        let what = path.rsplit('/').next().unwrap().to_owned();
        let key = field(&request, "sec-websocket-key").unwrap_or_default();
        let wrong = if what == "wrong" { "x" } else { "" };
        let switch = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n{}\r\n",
            accept(&(key + wrong)),
            match what.as_str() {
                "protocol" => "Sec-WebSocket-Protocol: chat\r\nX-Backend: yes\r\n",
                "length" => "Content-Length: 5\r\n",
                _ => "",
            }
        );
        let reply = match what.as_str() {
            "deny" => "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno".to_owned(),
            "ok" => "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes".to_owned(),
            "h2c" => switch.replace("websocket", "h2c"),
            "hang" => std::future::pending().await,
            _ => switch,
        };
        let mut reply = reply.into_bytes();
        if what == "eager" {
            reply.extend(bare(1, b"first"));
        }
        socket.write_all(&reply).await.unwrap();
        if !reply.starts_with(b"HTTP/1.1 101") {
            continue;
        }
        let end = match what.as_str() {
            "half" => half(&mut socket).await,
            "flood" => flood(&mut socket).await,
            "leave" => "left".to_owned(),
            _ => echo(&mut socket).await,
        };
        notes.ends.lock().unwrap().push(end);
        notes.news.notify_waiters();
        return;
    }
}

pub(crate) fn field(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
}

/// Sends back what comes.
async fn echo(socket: &mut TcpStream) -> String {
    while let Some((opcode, payload)) = frame(socket).await {
        if opcode == CLOSE {
            let _ = socket.write_all(&bare(CLOSE, &payload)).await;
            let code = payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
            return format!("closed {code}");
        }
        if socket.write_all(&bare(opcode, &payload)).await.is_err() {
            return "broken".to_owned();
        }
    }
    let _ = socket.write_all(&bare(1, b"last words")).await;
    "ended".to_owned()
}

/// Sends half a large frame, and the rest once something comes.
async fn half(socket: &mut TcpStream) -> String {
    let payload = vec![b'x'; 1 << 20];
    let mut bytes = head(0x82, 0, payload.len());
    bytes.extend(&payload[..1 << 19]);
    socket.write_all(&bytes).await.unwrap();
    let come = frame(socket).await;
    let _ = socket.write_all(&payload[1 << 19..]).await;
    // More than was asked for.
    let _ = socket.write_all(&bare(1, b"the next frame")).await;
    match (come, frame(socket).await) {
        (_, Some((CLOSE, _))) | (Some((CLOSE, _)), _) => "closed".to_owned(),
        _ => "ended".to_owned(),
    }
}

/// Sends frames as long as anybody takes them.
async fn flood(socket: &mut TcpStream) -> String {
    let frame = bare(2, &vec![b'f'; 10_000]);
    let (mut from, mut to) = socket.split();
    let listen = async {
        let mut scrap = [0; 1_024];
        while let Ok(1..) = from.read(&mut scrap).await {}
    };
    let send = async { while to.write_all(&frame).await.is_ok() {} };
    tokio::select! { () = listen => {}, () = send => {} }
    "ended".to_owned()
}
