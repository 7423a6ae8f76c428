//! A backend that records every byte and does as it is told.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What to do with one request.
pub(crate) enum Step {
    /// Answer these bytes and keep the connection.
    Reply(Vec<u8>),
    /// Answer these bytes, then close.
    Last(Vec<u8>),
    /// Never answer.
    Hang,
}

pub(crate) fn ok(body: &str) -> Step {
    Step::Reply(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into())
}

#[derive(Clone, Default)]
pub(crate) struct Log {
    requests: Rc<RefCell<Vec<String>>>,
    connections: Rc<Cell<usize>>,
    bytes: Rc<Cell<usize>>,
    open: Rc<Cell<usize>>,
}

impl Log {
    /// Whole requests, byte for byte.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.borrow().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }

    pub(crate) fn open(&self) -> usize {
        self.open.get()
    }

    /// Bytes of requests that were read, whole or not.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }
}

pub(crate) struct Backend {
    pub(crate) authority: String,
    pub(crate) log: Log,
}

impl Backend {
    /// Answers each request as `script` says, given how many came before it and its bytes.
    pub(crate) async fn start(script: impl Fn(usize, &str) -> Step + 'static) -> Self {
        Self::reading(usize::MAX, script).await
    }

    pub(crate) async fn answering(body: &'static str) -> Self {
        Self::start(move |_, _| ok(body)).await
    }

    /// Reads at most `most` bytes of each connection, then closes it.
    pub(crate) async fn reading(
        most: usize,
        script: impl Fn(usize, &str) -> Step + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let (log, script) = (Log::default(), Rc::new(script));
        let shared = log.clone();
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.set(shared.connections.get() + 1);
                let (log, script) = (shared.clone(), Rc::clone(&script));
                tokio::task::spawn_local(async move {
                    log.open.set(log.open.get() + 1);
                    serve(stream, most, &*script, &log).await;
                    log.open.set(log.open.get() - 1);
                });
            }
        });
        Self { authority, log }
    }
}

async fn serve(
    mut stream: TcpStream,
    most: usize,
    script: &dyn Fn(usize, &str) -> Step,
    log: &Log,
) {
    let (mut held, mut read) = (Vec::new(), 0);
    while read < most {
        let mut piece = [0; 4_096];
        let room = piece.len().min(most - read);
        let Ok(count @ 1..) = stream.read(&mut piece[..room]).await else { return };
        read += count;
        log.bytes.set(log.bytes.get() + count);
        held.extend_from_slice(&piece[..count]);
        while let Some(length) = whole(&held) {
            let request: Vec<u8> = held.drain(..length).collect();
            let request = String::from_utf8(request).unwrap();
            let place = log.requests.borrow().len();
            log.requests.borrow_mut().push(request.clone());
            let written = match script(place, &request) {
                Step::Reply(bytes) => stream.write_all(&bytes).await,
                Step::Last(bytes) => {
                    let _ = stream.write_all(&bytes).await;
                    return;
                }
                Step::Hang => std::future::pending().await,
            };
            if written.is_err() {
                return;
            }
        }
    }
}

/// The length of the first whole request in `bytes`.
fn whole(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let body: usize = length.map_or(0, |length| length.parse().unwrap());
    (bytes.len() >= head + body).then_some(head + body)
}
