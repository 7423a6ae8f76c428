//! A gateway as a process of its own, on a fixed address, so that it can be killed and come back.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::clients::{GROWING_SECRET, PASSPHRASE, SECRET};
use crate::free_port::free_port;
use crate::redis_server::signal;
use crate::settings::{Reach, configuration, with_growing};

#[derive(Debug)]
pub(crate) struct GatewayProcess {
    pub(crate) port: u16,
    admin: u16,
    config: std::path::PathBuf,
    registry: String,
    child: Option<Child>,
}

impl GatewayProcess {
    pub(crate) fn start(
        folder: &Path,
        servers: &Reach,
        backend: SocketAddr,
        deadline_ms: u64,
        registry: &str,
    ) -> Self {
        let (port, admin) = (free_port(), free_port());
        let config = folder.join(format!("{port}.toml"));
        let mut text = configuration(port, admin, servers, backend, deadline_ms);
        if !registry.is_empty() {
            text += &with_growing();
        }
        std::fs::write(&config, text).unwrap();
        let registry = registry.to_owned();
        let mut gateway = Self { port, admin, config, registry, child: None };
        gateway.restart();
        gateway
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.config.with_extension("log"))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.env_clear().env("S", SECRET).env("P", PASSPHRASE);
        command.env("G", GROWING_SECRET).env("R", &self.registry);
        command.args(["serve", "--log-format", "text", "--config"]).arg(&self.config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Asks it to end, and waits until it has: whether it says in time that all went well.
    pub(crate) fn end(&mut self) -> bool {
        self.signal("TERM");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            match self.child.as_mut().unwrap().try_wait().unwrap() {
                Some(status) => {
                    self.child = None;
                    return status.success();
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        false
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.as_ref().unwrap().id(), name);
    }

    /// Whether it says that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        let ask = || -> std::io::Result<bool> {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.admin));
            let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
            socket.set_read_timeout(Some(Duration::from_secs(1)))?;
            socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
            let mut reply = String::new();
            socket.read_to_string(&mut reply)?;
            Ok(reply.starts_with("HTTP/1.1 200"))
        };
        ask().unwrap_or(false)
    }

    pub(crate) fn wait_until_ready(&self) {
        let begun = Instant::now();
        while !self.is_ready() {
            assert!(begun.elapsed() < Duration::from_mins(1), "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.config.with_extension("log")).unwrap_or_default()
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
