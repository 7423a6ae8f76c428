//! The backend and the proxies: each a process of its own on a core of its own, ended when dropped.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use countersign::config::DEMO;
use countersign::load::ClientKey;

use super::cpu;

/// The gateway under test, built as it is shipped.
const COUNTERSIGN: &str = env!("CARGO_BIN_EXE_countersign");
const NGINX: &str = "/usr/sbin/nginx";
const HAPROXY: &str = "/usr/sbin/haproxy";
/// Keys that sign the load in turn.
const KEYS: usize = 100;
/// The longest that a server may take until it listens.
const START: Duration = Duration::from_secs(20);

/// A process that is ended when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) name: &'static str,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
}

impl Server {
    /// All its processes.
    pub(crate) fn processes(&self) -> io::Result<Vec<u32>> {
        cpu::tree(self.process.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM, so that nginx ends its worker too.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until && matches!(self.process.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The keys that the load signs with; the configuration of the gateway holds the same.
pub(crate) fn keys(dialect: &countersign::dialect::Dialect) -> Result<Vec<ClientKey>, String> {
    let key = |n| ClientKey::new(dialect, key_id(n), secret(n).as_bytes(), None, None);
    (0..KEYS).map(key).collect()
}

fn key_id(n: usize) -> String {
    format!("vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91due{n:03}")
}

fn secret(n: usize) -> String {
    format!("NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fAT{n:03}")
}

/// Writes a certificate for 127.0.0.1 and its key: `cert.pem`, `key.pem`, and both in `pair.pem`.
pub(crate) fn write_certificate(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    std::fs::write(dir.join("cert.pem"), &cert)?;
    write(dir, "key.pem", &key)?;
    write(dir, "pair.pem", &(cert + &key))?;
    Ok(())
}

/// The backend that every proxy forwards to.
pub(crate) fn backend(core: usize) -> io::Result<Server> {
    let mut command = cpu::pinned(core, COUNTERSIGN.as_ref());
    command.args(["load", "--serve-backend", "127.0.0.1:0"]).stdout(Stdio::piped());
    let mut process = command.spawn()?;
    let mut line = String::new();
    if let Some(out) = process.stdout.take() {
        BufReader::new(out).read_line(&mut line)?;
    }
    let address = line.trim().trim_start_matches("http://").parse();
    let plain = address.map_err(|_| io::Error::other(format!("the backend said `{line}`")))?;
    Ok(Server { process, name: "backend", plain, tls: plain })
}

/// One for each proxy.
pub(crate) struct Each<T> {
    pub(crate) nginx: T,
    pub(crate) haproxy: T,
    /// As cargo builds it.
    pub(crate) countersign: T,
    /// The same with an audit trail.
    pub(crate) audited: T,
    /// As `packaging/build` builds it, where that was done.
    pub(crate) production: Option<T>,
}

impl<T> Each<T> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        [&self.nginx, &self.haproxy, &self.countersign, &self.audited]
            .into_iter()
            .chain(&self.production)
    }

    pub(crate) fn map<U>(&self, mut of: impl FnMut(&T) -> U) -> Each<U> {
        Each {
            nginx: of(&self.nginx),
            haproxy: of(&self.haproxy),
            countersign: of(&self.countersign),
            audited: of(&self.audited),
            production: self.production.as_ref().map(of),
        }
    }
}

/// All proxies; one of `production` too, where that program is given.
pub(crate) fn proxies(
    core: usize,
    backend: SocketAddr,
    dir: &Path,
    production: Option<&Path>,
) -> io::Result<Each<Server>> {
    for (program, package) in [(NGINX, "nginx"), (HAPROXY, "haproxy")] {
        if !Path::new(program).exists() {
            return Err(io::Error::other(format!(
                "{program} is missing: install Debian's package, `apt-get install {package}`"
            )));
        }
    }
    let nginx = |plain, tls| {
        let file = write(dir, "nginx.conf", &nginx_conf(plain, tls, backend))?;
        let mut command = cpu::pinned(core, NGINX.as_ref());
        command.arg("-e").arg("stderr").arg("-p").arg(dir).arg("-c").arg(file);
        Ok(command)
    };
    let haproxy = |plain, tls| {
        let file = write(dir, "haproxy.cfg", &haproxy_cfg(plain, tls, backend, dir))?;
        let mut command = cpu::pinned(core, HAPROXY.as_ref());
        command.arg("-db").arg("-f").arg(file);
        Ok(command)
    };
    write(dir, "identity", "an identity key of 32 bytes or more")?;
    let gateway = |name: &str, program: &Path, trail: Trail, (plain, tls)| {
        let text = gateway_toml(plain, tls, backend, &dir.join(name), trail);
        let file = write(dir, &format!("{name}.toml"), &text)?;
        let mut command = cpu::pinned(core, program);
        command.arg("serve").arg("--config").arg(file).env("COUNTERSIGN_LOG", "warn");
        command.envs((0..KEYS).map(|n| (format!("SECRET_{n}"), secret(n))));
        Ok(command)
    };
    let countersign = |name, program, trail| {
        start(name, |plain, tls| gateway(name, program, trail, (plain, tls)))
    };
    let own = Path::new(COUNTERSIGN);
    Ok(Each {
        nginx: start("nginx", nginx)?,
        haproxy: start("haproxy", haproxy)?,
        countersign: countersign("countersign", own, Trail::None)?,
        audited: countersign("countersign audited", own, Trail::Kept)?,
        production: production
            .map(|program| countersign("production build", program, Trail::None))
            .transpose()?,
    })
}

/// Whether a gateway keeps an audit trail.
#[derive(Clone, Copy)]
enum Trail {
    None,
    Kept,
}

/// Starts a server on two free ports and waits until it listens.
fn start(
    name: &'static str,
    command: impl FnOnce(SocketAddr, SocketAddr) -> io::Result<Command>,
) -> io::Result<Server> {
    let (plain, tls) = free_addresses()?;
    let process = command(plain, tls)?.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let mut server = Server { process, name, plain, tls };
    let until = Instant::now() + START;
    for address in [plain, tls] {
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.process.try_wait()? {
                return Err(io::Error::other(format!("{name} has ended at once: {status}")));
            }
            if Instant::now() > until {
                return Err(io::Error::other(format!("{name} does not listen on {address}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(server)
}

/// Two at once, so that they differ.
fn free_addresses() -> io::Result<(SocketAddr, SocketAddr)> {
    let sockets = (
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
    );
    Ok((sockets.0.local_addr()?, sockets.1.local_addr()?))
}

/// Writes a file that only this user may read.
fn write(dir: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    let file = dir.join(name);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file)?
        .write_all(text.as_bytes())?;
    Ok(file)
}

fn nginx_conf(plain: SocketAddr, tls: SocketAddr, backend: SocketAddr) -> String {
    format!(
        "daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    client_body_temp_path client_body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream backend {{
        server {backend};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {plain};
        listen {tls} ssl;
        ssl_certificate cert.pem;
        ssl_certificate_key key.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
        }}
    }}
}}
"
    )
}

fn haproxy_cfg(plain: SocketAddr, tls: SocketAddr, backend: SocketAddr, dir: &Path) -> String {
    let pair = dir.join("pair.pem");
    let pair = pair.display();
    format!(
        "global
    nbthread 1
    maxconn 2000
defaults
    mode http
    timeout connect 5s
    timeout client 75s
    timeout server 10s
    option http-keep-alive
    http-reuse always
frontend clients
    bind {plain}
    bind {tls} ssl crt {pair} alpn http/1.1
    default_backend servers
backend servers
    server one {backend}
"
    )
}

/// Every check, with the routes of the demonstration, two limits on each key, and the proof of identity.
fn gateway_toml(
    plain: SocketAddr,
    tls: SocketAddr,
    backend: SocketAddr,
    state: &Path,
    trail: Trail,
) -> String {
    let (state, audited) = (state.display(), matches!(trail, Trail::Kept));
    let mut text = format!(
        "version = 1
[server]
workers = 1
[[listener]]
name = \"plain\"
address = \"{plain}\"
[[listener]]
name = \"tls\"
address = \"{tls}\"
tls = {{ cert = \"cert.pem\", key = \"key.pem\" }}
[admin]
address = \"127.0.0.1:0\"
[store]
state_dir = \"{state}\"
[audit]
enabled = {audited}
[[upstream]]
name = \"exchange\"
backends = [\"{backend}\"]
identity_key = {{ file = \"identity\" }}
[[limit]]
name = \"account\"
quota = 1000000000
per = \"1m\"
[[limit]]
name = \"burst\"
quota = 1000000000
per = \"10s\"
[[limit]]
name = \"address\"
quota = 1000000000
per = \"1m\"
scope = \"address\"
"
    );
    let routes = DEMO.find("[[route]]").and_then(|at| DEMO.get(at..));
    text.push_str(routes.unwrap_or_default());
    for n in 0..KEYS {
        let id = key_id(n);
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            "
[[key]]
id = \"{id}\"
account = \"account-{n}\"
dialect = \"binance\"
secret = {{ env = \"SECRET_{n}\" }}
permissions = [\"read\", \"trade\"]
limits = [\"account\", \"burst\"]
"
        );
    }
    text
}
