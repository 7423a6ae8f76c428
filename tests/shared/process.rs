//! A gateway as a process of its own, whose clock can be set wrong, and clients of several dialects.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use countersign::clock::Micros;
use countersign::dialect::{Credentials, Draft, builtin};
use countersign::key::{Algorithm, Signer};
use http::Method;
use tempfile::TempDir;

use crate::faketime;
use crate::free_port::free_port;

pub(crate) const SECRET: &str = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fAT";
/// Longer than anything here takes; only a failure waits for it.
const BOUND: Duration = Duration::from_mins(2);

/// Writes of three dialects: a stamp in a parameter, a stamp in a header beside a passphrase, a deadline. With what each
/// one's client takes for "sign again and retry".
pub(crate) const DIALECTS: [(&str, &str, &str); 3] = [
    ("binance", "/api/v3/order", "{\"code\":-1001,"),
    ("okx", "/api/v5/trade/order", "\"code\":\"50013\"}"),
    ("bitmex", "/api/v1/order", "\"name\":\"HTTPError\"}}"),
];

/// A write of a dialect that is like no other, signed at `at`.
pub(crate) fn order(dialect: &str, number: u32, at: Micros) -> Vec<u8> {
    let (_, path, _) = DIALECTS.iter().find(|(name, ..)| *name == dialect).unwrap();
    let body = match dialect {
        "binance" => format!("symbol=BTCUSDT&n={number}"),
        _ => format!(r#"{{"n":"{number}"}}"#),
    };
    let built = builtin(dialect).unwrap().unwrap();
    let signer = Signer::read(Algorithm::HmacSha256, SECRET.as_bytes()).unwrap();
    let passphrase = built.has_passphrase().then_some(SECRET);
    let by = Credentials { key_id: dialect, signer: &signer, passphrase };
    let draft = Draft {
        method: Method::POST,
        path,
        query: "",
        body: &body,
        host: "h",
        window_ms: None,
        lead_ms: 4_000,
        nonce: None,
    };
    let sent = built.sign(&draft, &by, at).unwrap();
    let mut text = format!("POST {} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n", sent.target);
    for (name, value) in &sent.headers {
        write!(text, "{name}: {}\r\n", value.to_str().unwrap()).unwrap();
    }
    write!(text, "content-length: {}\r\n\r\n{}", sent.body.len(), sent.body).unwrap();
    text.into_bytes()
}

/// A route and a key of each dialect.
pub(crate) fn routes_and_keys(backend: SocketAddr) -> String {
    let mut text = format!(
        "[[upstream]]\nname = \"exchange\"\nbackends = [\"{backend}\"]\nidentity_key = \"none\"\n"
    );
    for (dialect, path, _) in DIALECTS {
        write!(
            text,
            "[[route]]\nname = \"{dialect}\"\nmethods = [\"POST\"]\npath = \"{path}\"\nupstream = \"exchange\"\n\
             dialect = \"{dialect}\"\npermission = \"trade\"\nlead = \"5s\"\n\
             [[key]]\nid = \"{dialect}\"\naccount = \"alice\"\ndialect = \"{dialect}\"\nsecret = {{ env = \"S\" }}\n\
             permissions = [\"trade\"]\n"
        )
        .unwrap();
        if dialect == "okx" {
            text += "passphrase = { env = \"S\" }\n";
        }
    }
    text
}

/// The gateway; killed when dropped.
pub(crate) struct Process {
    port: u16,
    admin: u16,
    folder: TempDir,
    child: Child,
}

impl Process {
    /// With `more` behind its sockets; with `faked`, its clock can be set. Files of `more` are looked up in the folder
    /// that `files` fills first.
    pub(crate) fn start(
        more: &str,
        variables: &[(&str, &str)],
        faked: bool,
        files: impl FnOnce(&Path),
    ) -> Self {
        let (port, admin) = (free_port(), free_port());
        let folder = TempDir::new().unwrap();
        files(folder.path());
        let text = format!(
            "version = 1\n[server]\nworkers = 1\n[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:{port}\"\n\
             [admin]\naddress = \"127.0.0.1:{admin}\"\n[audit]\nenabled = false\n\
             [guard]\nexempt = [\"127.0.0.0/8\"]\n{more}"
        );
        let config = folder.path().join("gateway.toml");
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command.env_clear().env("S", SECRET).envs(variables.iter().copied());
        if faked {
            set(folder.path(), "+0s");
            command
                .env("LD_PRELOAD", faketime::library())
                .env("FAKETIME_TIMESTAMP_FILE", folder.path().join("clock"))
                .env("FAKETIME_CACHE_DURATION", "1")
                .env("DONT_FAKE_MONOTONIC", "1");
        }
        command.args(["serve", "--log-format", "text", "--config"]).arg(config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap();
        Self { port, admin, folder, child }
    }

    /// Sets its clock so far off, as "+1s", from within a second on.
    pub(crate) fn set_clock(&self, off: &str) {
        set(self.folder.path(), off);
    }

    pub(crate) fn ask(&self, request: &[u8]) -> String {
        exchange(self.port, request).unwrap_or_else(|error| panic!("{error}: {}", self.log()))
    }

    pub(crate) fn status(&self, request: &[u8]) -> u16 {
        self.ask(request).split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// What an admin page says, or nothing while nobody answers.
    pub(crate) fn admin(&self, path: &str) -> String {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        exchange(self.admin, request.as_bytes()).unwrap_or_default()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.admin("/readyz").starts_with("HTTP/1.1 200")
    }

    /// Waits until it has ended by itself; its exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < BOUND, "it goes on: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The value of a metric, labels and all.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let all = self.admin("/metrics");
        let line = all.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Asks until it is so, and how long that took.
    pub(crate) fn wait(&self, what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < BOUND, "{what}: never\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        begun.elapsed()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        faketime::kill(&mut self.child);
    }
}

fn exchange(port: u16, request: &[u8]) -> std::io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(20))?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    socket.write_all(request)?;
    let mut reply = String::new();
    socket.read_to_string(&mut reply)?;
    Ok(reply)
}

fn set(folder: &Path, off: &str) {
    let beside = folder.join("clock.new");
    std::fs::write(&beside, format!("{off}\n")).unwrap();
    std::fs::rename(beside, folder.join("clock")).unwrap();
}
