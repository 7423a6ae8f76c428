//! A PostgreSQL of the tests' own: in a temporary directory, reached over a socket there, and gone with its owner.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use countersign::registry::postgres::{Options, Postgres};
use tempfile::TempDir;
use tokio_postgres::NoTls;

/// A server with its data.
#[derive(Debug)]
pub(crate) struct Server {
    directory: TempDir,
    settings: Mutex<Vec<String>>,
    running: Mutex<Option<Child>>,
    databases: AtomicU32,
}

impl Server {
    /// The server that tests share while any of them runs.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start(&["fsync=off"]));
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// A server with settings of its own.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        give_away(directory.path());
        let settings = Mutex::new(settings.iter().map(|setting| (*setting).to_owned()).collect());
        let server =
            Self { directory, settings, running: Mutex::new(None), databases: AtomicU32::new(0) };
        let data = server.data();
        let made = unprivileged(&binary("initdb"))
            .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync", "--no-locale", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        server.run();
        server
    }

    /// Starts it where it does not run, and waits until it answers.
    pub(crate) fn run(&self) {
        let mut running = self.running.lock().unwrap();
        assert!(running.is_none(), "it runs");
        for _ in 0..ATTEMPTS {
            let child = self.spawn();
            if self.is_ready(&child) {
                *running = Some(child);
                return;
            }
            // After a crash the last of the old processes may still be on their way out.
            end(child);
        }
        panic!("PostgreSQL does not start: {}", self.log());
    }

    /// Starts it without one of its settings.
    pub(crate) fn run_without(&self, setting: &str) {
        self.settings.lock().unwrap().retain(|held| held != setting);
        self.run();
    }

    /// Ends it at once, as a crash does: what is not on its disk is lost to it, but not to the system.
    pub(crate) fn crash(&self) {
        kill("-KILL", self.postmaster());
        self.end();
    }

    /// Ends it as `pg_ctl stop -m immediate` does, which sends this signal.
    pub(crate) fn stop_immediately(&self) {
        kill("-QUIT", self.postmaster());
        self.end();
    }

    /// Sends a signal to every process of it.
    pub(crate) fn signal(&self, signal: &str) {
        kill(signal, self.postmaster());
        for child in children(self.postmaster()) {
            kill(signal, child);
        }
    }

    /// Kills a process that serves a connection of the registry, if there is one.
    pub(crate) fn kill_one_backend(&self) {
        let of_registry = |pid: &u32| {
            let title = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            title.contains("postgres db")
        };
        if let Some(pid) = children(self.postmaster()).into_iter().find(of_registry) {
            kill("-KILL", pid);
        }
    }

    /// The URL of a new database with nothing in it.
    pub(crate) async fn empty_database(&self) -> String {
        let name = format!("db{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let (client, connection) =
            tokio_postgres::connect(&self.url("postgres"), NoTls).await.unwrap();
        let driver = tokio::spawn(connection);
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        drop(client);
        driver.await.unwrap().unwrap();
        self.url(&name)
    }

    /// A registry in a new database, patient enough for a busy machine.
    pub(crate) async fn registry(&self) -> (Postgres, Options) {
        let options = patient(&self.empty_database().await);
        blocking(&options, |options| Postgres::migrate(&options)).await.unwrap();
        (open(&options).await.unwrap(), options)
    }

    pub(crate) fn url(&self, database: &str) -> String {
        let socket = self.directory.path().to_str().unwrap().replace('/', "%2F");
        format!("postgres://postgres@{socket}/{database}")
    }

    /// Where the server's files lie.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// What it has said.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn spawn(&self) -> Child {
        let log = self.directory.path().join("log");
        let log = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        // The shell ends the server as soon as its standard input ends: with this process, however that ends.
        let mut command = Command::new("sh");
        command.args(["-c", "\"$@\" </dev/null & read _; kill -QUIT $! 2>/dev/null; wait"]);
        command.arg("sh").args(drop_privileges()).arg(binary("postgres"));
        command.arg("-D").arg(self.data()).arg("-k").arg(self.directory.path());
        for setting in ["listen_addresses=", "shared_buffers=32MB", "max_connections=50"] {
            command.args(["-c", setting]);
        }
        for setting in &*self.settings.lock().unwrap() {
            command.args(["-c", setting]);
        }
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        command.process_group(0).spawn().unwrap()
    }

    /// Whether it takes connections before it ends.
    fn is_ready(&self, child: &Child) -> bool {
        let mut seen = false;
        for _ in 0..ATTEMPTS {
            let asked = Command::new(binary("pg_isready"))
                .args(["-q", "-h"])
                .arg(self.directory.path())
                .args(["-p", &self.port()])
                .status()
                .unwrap();
            if asked.success() {
                return true;
            }
            let there = children(child.id()).first().is_some_and(|pid| is_alive(*pid));
            if seen && !there {
                return false;
            }
            seen |= there;
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn port(&self) -> String {
        let settings = self.settings.lock().unwrap();
        let port = settings.iter().find_map(|setting| setting.strip_prefix("port="));
        port.unwrap_or("5432").to_owned()
    }

    fn end(&self) {
        end(self.running.lock().unwrap().take().expect("it runs"));
    }

    fn postmaster(&self) -> u32 {
        let running = self.running.lock().unwrap();
        children(running.as_ref().expect("it runs").id())[0]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(child) = running.take() {
            end(child);
        }
    }
}

const ATTEMPTS: usize = 500;

/// Options for a machine that does much else.
pub(crate) fn patient(url: &str) -> Options {
    let mut options = Options::new(url, None).unwrap();
    options.connect_within(Duration::from_secs(30));
    options.timeout = Duration::from_secs(30);
    options
}

/// Opens a registry, off the thread that must go on.
pub(crate) async fn open(
    options: &Options,
) -> Result<Postgres, countersign::registry::book::RegistryError> {
    blocking(options, Postgres::open).await
}

/// Runs what blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    options: &Options,
    work: impl FnOnce(Options) -> T + Send + 'static,
) -> T {
    let options = options.clone();
    tokio::task::spawn_blocking(move || work(options)).await.unwrap()
}

/// Ends the shell and the server with it.
fn end(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

fn kill(signal: &str, pid: u32) {
    // One that is gone already needs no signal.
    Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status().unwrap();
}

/// Whether it has not ended, waited for or not.
fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn children(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// A program of PostgreSQL: Debian keeps them out of PATH.
fn binary(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.map(|version| version.unwrap().path().join("bin")).collect())
        .unwrap_or_default();
    folders.sort();
    let all = folders.into_iter().rev().chain(std::env::split_paths(&path));
    let found = all.map(|folder| folder.join(name)).find(|file| file.exists());
    found.unwrap_or_else(|| {
        panic!("{name} of PostgreSQL is missing: tests/run installs it, as does the package `postgresql`")
    })
}

fn unprivileged(program: &Path) -> Command {
    let mut words = drop_privileges().into_iter();
    let Some(first) = words.next() else { return Command::new(program) };
    let mut command = Command::new(first);
    command.args(words).arg(program).current_dir("/");
    command
}

/// PostgreSQL refuses to run as root; its package makes a user for it.
fn drop_privileges() -> Vec<String> {
    if !is_root() {
        return Vec::new();
    }
    let user = user();
    let words =
        ["setpriv", &format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "--"];
    words.map(str::to_owned).to_vec()
}

/// Makes a directory or a file the server's.
pub(crate) fn give_away(path: &Path) {
    if is_root() {
        assert!(Command::new("chown").arg(user()).arg(path).status().unwrap().success());
    }
}

fn user() -> &'static str {
    "postgres"
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}
