//! The gateway as a process of its own, ended by its own id.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Only a failure waits so long.
const BOUND: Duration = Duration::from_mins(2);

/// `countersign serve`.
pub(crate) struct Gateway {
    child: Child,
    began: Instant,
    pub(crate) admin: SocketAddr,
    pub(crate) address: SocketAddr,
}

impl Gateway {
    /// Starts it, and reads where it listens.
    pub(crate) fn start(config: &Path) -> Self {
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["serve", "--log-format", "json", "--config"])
            .arg(config)
            .env_clear()
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let (mut address, mut said) = (None, String::new());
        let admin = loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it ended: {said}");
            said += &line;
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            let at = || event["address"].as_str().unwrap().parse().unwrap();
            match event["message"].as_str() {
                Some("listening") => address = Some(at()),
                Some("metrics and health") => break at(),
                _ => {}
            }
        };
        // Read on, so that it is never kept from writing.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Self { child, began, admin, address: address.unwrap() }
    }

    /// How long after its start it said that it is ready.
    pub(crate) fn ready(&self) -> Duration {
        while !self.is_ready() {
            assert!(self.began.elapsed() < BOUND, "it does not get ready");
            std::thread::sleep(Duration::from_millis(1));
        }
        self.began.elapsed()
    }

    fn is_ready(&self) -> bool {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        let ask = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(ask).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said.starts_with("HTTP/1.1 200")
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
