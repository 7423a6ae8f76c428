//! A real redis-server, started on a free port of the loopback and ended by its process id.

use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use countersign::store::redis::Address;
use redis::{Client, cmd};
use tempfile::TempDir;

use crate::faketime;
use crate::free_port::free_port;

/// A server of its own.
pub(crate) struct RedisServer {
    pub(crate) port: u16,
    dir: TempDir,
    child: Option<Child>,
    arguments: Vec<String>,
    /// How it is reached where not plainly at its port.
    reach: Option<fn(u16) -> Client>,
    /// How its clock goes, in the words of faketime.
    clock: Option<String>,
}

impl RedisServer {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::reached(arguments, None)
    }

    /// One whose clock is off, or goes at another pace, in the words of faketime.
    pub(crate) fn with_clock(clock: &str) -> Self {
        Self::began(&[], None, Some(clock.to_owned()))
    }

    /// One that is reached in another way, over TLS.
    pub(crate) fn reached(arguments: &[&str], reach: Option<fn(u16) -> Client>) -> Self {
        Self::began(arguments, reach, None)
    }

    fn began(arguments: &[&str], reach: Option<fn(u16) -> Client>, clock: Option<String>) -> Self {
        let port = free_port();
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let dir = TempDir::new().unwrap();
        let mut server = Self { port, dir, child: None, arguments, reach, clock };
        server.restart();
        server
    }

    /// Starts it anew, with whatever its directory holds.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let port = self.port.to_string();
        let at = match self.reach {
            None => vec!["--port", &port],
            Some(_) => vec!["--port", "0", "--tls-port", &port],
        };
        let mut command = Command::new("redis-server");
        if let Some(clock) = &self.clock {
            command.env("LD_PRELOAD", faketime::library());
            command.env("FAKETIME", clock).env("DONT_FAKE_MONOTONIC", "1");
        }
        let child = command
            .args(at)
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(self.dir.path())
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is needed (Debian package redis-server)");
        self.child = Some(child);
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "redis-server does not come up");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            faketime::kill(&mut child);
        }
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    pub(crate) fn client(&self) -> Client {
        let plain = |port| Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
        self.reach.unwrap_or(plain)(self.port)
    }

    pub(crate) fn address(&self) -> Address {
        Address { name: self.port.to_string(), client: self.client() }
    }

    /// Runs a command.
    pub(crate) fn run(&self, words: &[&str]) -> redis::Value {
        self.try_run(words).unwrap()
    }

    /// Runs a command that may be refused.
    pub(crate) fn try_run(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let mut connection = self.client().get_connection()?;
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut connection)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            faketime::kill(&mut child);
        }
    }
}
