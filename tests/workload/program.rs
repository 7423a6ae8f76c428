//! The processes: a backend, a gateway, Redis. Each is ended by its own id.

use std::io::{BufRead as _, BufReader, Lines};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::cases::Case;
use crate::free_port::free_port;
use crate::settings::{self, Store};

const OWN: &str = env!("CARGO_BIN_EXE_countersign");

/// Killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A gateway before a backend.
pub(crate) struct Gateway {
    process: Process,
    _backend: Process,
    _dir: TempDir,
    /// Of each case: in plain, and over TLS.
    pub(crate) addresses: Vec<(SocketAddr, SocketAddr)>,
    pub(crate) certificate: String,
}

impl Gateway {
    /// Starts it, and waits until fresh requests are judged.
    pub(crate) fn start(cases: &[Case], store: &Store) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..cases.len()).map(settings::host).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let certificate = made.cert.pem();
        let (backend, address) = backend();
        let config = settings::text(cases, store, address, dir.path());
        for (name, text) in [
            ("cert.pem", certificate.as_str()),
            ("key.pem", &made.signing_key.serialize_pem()),
            ("gateway.toml", &config),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let program = std::env::var("COUNTERSIGN_PROGRAM").unwrap_or(OWN.to_owned());
        let mut command = Command::new(program);
        command.args(["serve", "--log-format", "json", "--config"]);
        command.arg(dir.path().join("gateway.toml")).envs(settings::variables(cases));
        let mut process = Process(command.stderr(Stdio::piped()).spawn().unwrap());
        let mut said = BufReader::new(process.0.stderr.take().unwrap()).lines();
        let listening = listening(&mut said);
        // Read on, so that it is never blocked.
        std::thread::spawn(move || said.for_each(drop));
        assert_eq!(listening.len(), 2 * cases.len());
        if matches!(store, Store::Redis(_)) {
            import(dir.path(), cases);
        }
        let addresses = listening.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        Self { process, _backend: backend, _dir: dir, addresses, certificate }
    }

    /// Asks it to end, as an operator would, and sees that it ends well.
    pub(crate) fn end(mut self) {
        let id = self.process.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(self.process.0.wait().unwrap().success());
    }
}

/// Gives the gateway its keys, as whoever moves to it would.
fn import(dir: &Path, cases: &[Case]) {
    let file = dir.join("keys.jsonl");
    std::fs::write(&file, settings::lines(cases)).unwrap();
    let mut command = Command::new(OWN);
    command.args(["keys", "import", "--quiet", "--admin"]);
    command.arg(format!("unix://{}", dir.join(settings::SOCKET).display()));
    let ran = command.arg("--file").arg(file).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

/// Where it listens, once it is ready.
fn listening(said: &mut Lines<BufReader<ChildStderr>>) -> Vec<SocketAddr> {
    let mut listening = Vec::new();
    let mut all = String::new();
    for line in said {
        let line = line.unwrap();
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        all.push_str(&line);
        match event["message"].as_str() {
            Some("listening") => {
                listening.push(event["address"].as_str().unwrap().parse().unwrap());
            }
            Some("ready") => return listening,
            Some(_) | None => {}
        }
    }
    panic!("it has ended: {all}");
}

/// What the benchmarks have as a backend.
fn backend() -> (Process, SocketAddr) {
    let mut command = Command::new(OWN);
    command.args(["load", "--serve-backend", "127.0.0.1:0"]).stdout(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().trim_start_matches("http://").parse();
    (process, address.unwrap_or_else(|_| panic!("the backend said `{line}`")))
}

/// A redis-server on a port of its own, which keeps nothing.
pub(crate) struct Redis {
    pub(crate) port: u16,
    _process: Process,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let port = free_port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no"]).stdout(Stdio::null());
        let spawned =
            command.spawn().expect("redis-server is needed (Debian package redis-server)");
        let process = Process(spawned);
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "redis-server does not come up");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { port, _process: process }
    }
}
