//! The server that is measured, and the processor time that it and this process take.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Client, cmd};
use tempfile::TempDir;

/// A server of its own.
pub(crate) struct Server {
    pub(crate) child: Child,
    port: u16,
    _dir: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let dir = TempDir::new().unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "redis-server does not come up");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, port, _dir: dir }
    }

    pub(crate) fn client(&self) -> Client {
        Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap()
    }

    /// A figure of INFO.
    pub(crate) fn info(&self, section: &str, name: &str) -> f64 {
        let mut connection = self.client().get_connection().unwrap();
        let told: String = cmd("INFO").arg(section).query(&mut connection).unwrap();
        let line = told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().trim().parse().unwrap()
    }

    /// Processor seconds so far.
    pub(crate) fn cpu(&self) -> f64 {
        self.info("cpu", "used_cpu_user") + self.info("cpu", "used_cpu_sys")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Processor seconds of this process so far.
pub(crate) fn own_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |place: usize| fields[place].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// For how many milliseconds a process has had work and no processor, as the scheduler counts it.
pub(crate) fn starved(process: u32) -> f64 {
    let told = std::fs::read_to_string(format!("/proc/{process}/schedstat")).unwrap();
    told.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1e6
}

/// Lets the caller and the server each have a core, where there are two; ends with it.
pub(crate) struct PinnedApart {
    cores: usize,
}

impl PinnedApart {
    pub(crate) fn new(server: &Server) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        pin(std::process::id(), "0");
        pin(server.child.id(), "1");
        Self { cores }
    }
}

impl Drop for PinnedApart {
    fn drop(&mut self) {
        pin(std::process::id(), &format!("0-{}", self.cores - 1));
    }
}

/// A machine without the command, or with one core, measures without.
fn pin(process: u32, cores: &str) {
    let pid = process.to_string();
    let mut taskset = Command::new("taskset");
    let _pinned = taskset.args(["-acp", cores, &pid]).stdout(Stdio::null()).status();
}
