//! A backend that writes down what it was sent, and answers when it is let.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use crate::program::{BOUND, until};

/// A request as the backend saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Seen {
    /// The value of the only field of this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut all = self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        let first = all.next();
        assert!(all.next().is_none(), "{name} twice in {self:?}");
        first.map(|(_, value)| value.as_str())
    }

    /// What the gateway says of it under `name`.
    pub(crate) fn identity(&self, name: &str) -> String {
        let text = self.field("countersign-identity").unwrap();
        let mut parts = text.split("; ").filter_map(|part| part.split_once('='));
        parts.find(|(known, _)| *known == name).unwrap().1.to_owned()
    }
}

/// What the backend does with requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Answer,
    /// Keeps them waiting until the mode changes.
    Wait,
    /// Closes the connection without an answer.
    Drop,
}

pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    seen: Mutex<Vec<Seen>>,
    mode: Mutex<Mode>,
    changed: Condvar,
    sockets: Mutex<Option<Vec<TcpStream>>>,
}

impl Backend {
    pub(crate) fn start() -> Self {
        Self::named("backend")
    }

    pub(crate) fn named(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            name: name.into(),
            seen: Mutex::default(),
            mode: Mutex::new(Mode::Answer),
            changed: Condvar::new(),
            sockets: Mutex::new(Some(Vec::new())),
        });
        let server = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(sockets) = &mut *server.sockets.lock().unwrap() else { return };
                sockets.push(stream.try_clone().unwrap());
                let server = Arc::clone(&server);
                std::thread::spawn(move || server.serve(&stream));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().unwrap()
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = mode;
        self.shared.changed.notify_all();
    }

    /// Breaks every connection and stops listening, as a process that is killed.
    pub(crate) fn kill(&self) {
        let sockets = self.shared.sockets.lock().unwrap().take().unwrap();
        for socket in sockets {
            // It may be closed already.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
        until("the backend is gone", || TcpStream::connect(self.address).is_err());
    }
}

impl Shared {
    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(seen) = read(&mut reader) {
            self.seen.lock().unwrap().push(seen);
            let mode = self.mode.lock().unwrap();
            let waiting = |mode: &mut Mode| *mode == Mode::Wait;
            let (mode, late) = self.changed.wait_timeout_while(mode, BOUND, waiting).unwrap();
            if late.timed_out() || *mode == Mode::Drop {
                // The listing holds another handle to it.
                let _ = stream.shutdown(std::net::Shutdown::Both);
                return;
            }
            drop(mode);
            let (name, length) = (&self.name, self.name.len());
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}");
            if (&*stream).write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// The next request, whose body must have its length before it.
fn read(reader: &mut impl BufRead) -> Option<Seen> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let first = lines.remove(0);
    let fields = lines.iter().map(|line| line.split_once(": ").unwrap_or((line, "")));
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut seen = Seen { line: first, fields, body: String::new() };
    let length = seen.field("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    seen.body = String::from_utf8(body).unwrap();
    Some(seen)
}
