//! A real redis-server on a free port of the loopback, with a clock that can be set wrong; ended by its process id.

use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use countersign::clock::{Clock, Micros};
use redis::{Client, RedisResult, Value, cmd, from_redis_value};
use tempfile::TempDir;

use crate::faketime;
use crate::free_port::free_port;

#[derive(Debug)]
pub(crate) struct RedisServer {
    pub(crate) port: u16,
    dir: TempDir,
    child: Option<Child>,
    faked: bool,
    arguments: Vec<String>,
}

impl RedisServer {
    /// With `faked`, its clock can be set.
    pub(crate) fn start(faked: bool, arguments: &[&str]) -> Self {
        let port = free_port();
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let mut server = Self { port, dir: TempDir::new().unwrap(), child: None, faked, arguments };
        server.restart();
        server
    }

    /// Starts it with whatever its folder holds.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let mut command = Command::new("redis-server");
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(self.dir.path());
        command.args(&self.arguments).stdout(Stdio::null()).stderr(Stdio::null());
        if self.faked {
            if !self.clock().exists() {
                self.write_clock(0);
            }
            command
                .env("LD_PRELOAD", faketime::library())
                .env("FAKETIME_TIMESTAMP_FILE", self.clock())
                .env("FAKETIME_CACHE_DURATION", "1")
                .env("DONT_FAKE_MONOTONIC", "1");
        }
        let mut spawn =
            || command.spawn().expect("redis-server is needed (Debian package redis-server)");
        let mut child = spawn();
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "redis-server does not come up");
            std::thread::sleep(Duration::from_millis(5));
            // Its port may be taken for a moment.
            if child.try_wait().unwrap().is_some() {
                child = spawn();
            }
        }
        self.child = Some(child);
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            faketime::kill(&mut child);
        }
    }

    /// Whatever it saved is gone.
    pub(crate) fn lose_snapshot(&self) {
        let _ = std::fs::remove_file(self.dir.path().join("dump.rdb"));
    }

    /// Sets its clock so many seconds ahead of `clock`, and returns once it tells so: what fakes it looks at its file now
    /// and then.
    pub(crate) fn set_clock(&self, ahead: i32, clock: &impl Clock) {
        self.write_clock(ahead);
        let begun = Instant::now();
        while (self.is_ahead(clock.now()) - f64::from(ahead)).abs() > 0.5 {
            assert!(begun.elapsed() < Duration::from_secs(20), "its clock is not {ahead} s ahead");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many seconds its clock is ahead of a moment; no end where it does not say.
    fn is_ahead(&self, of: Micros) -> f64 {
        let told = self.run(&["TIME"]).and_then(|time| Ok(from_redis_value::<(f64, f64)>(time)?));
        told.map_or(f64::INFINITY, |(seconds, micros)| seconds + micros / 1e6 - of.0 as f64 / 1e6)
    }

    fn write_clock(&self, ahead: i32) {
        let beside = self.dir.path().join("clock.new");
        std::fs::write(&beside, format!("{ahead:+}s\n")).unwrap();
        std::fs::rename(beside, self.clock()).unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.as_ref().unwrap().id(), name);
    }

    /// Runs a command, straight.
    pub(crate) fn run(&self, words: &[&str]) -> RedisResult<Value> {
        let client = Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let mut connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut connection)
    }

    fn clock(&self) -> PathBuf {
        self.dir.path().join("clock")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            faketime::kill(&mut child);
        }
    }
}

pub(crate) fn signal(process: u32, name: &str) {
    let told = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status();
    assert!(told.unwrap().success(), "kill -{name} {process}");
}
