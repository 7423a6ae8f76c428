//! The program as a child process, always ended by its own id.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes; only a failure waits for it.
pub(crate) const BOUND: Duration = Duration::from_mins(2);

/// What a finished run said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The command, with no variables but those given.
pub(crate) fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command.args(arguments).env_clear().envs(variables.iter().copied()).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Said {
    let mut program = Program::start(arguments, variables);
    let code = program.ended();
    Said { code, out: program.out.all(), err: program.err.all() }
}

/// Runs it to its end with `input` on its standard input.
pub(crate) fn run_reading(arguments: &[&str], input: &str) -> Said {
    let mut program = Program::of(command(arguments, &[]).stdin(Stdio::piped()));
    let mut stdin = program.child.stdin.take().unwrap();
    // It may have ended without reading all.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let code = program.ended();
    Said { code, out: program.out.all(), err: program.err.all() }
}

/// A child, killed when dropped.
pub(crate) struct Program {
    child: Child,
    /// Where its temporary files go: what one that is killed leaves behind goes with the test.
    _temporary: TempDir,
    pub(crate) out: Lines,
    pub(crate) err: Lines,
}

impl Program {
    pub(crate) fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::of(&mut command(arguments, variables))
    }

    /// A command of the test's own, with no variables but those given.
    pub(crate) fn of_command(command: &mut Command, variables: &[(&str, &str)]) -> Self {
        let path = std::env::var("PATH").unwrap_or_default();
        Self::of(
            command
                .env_clear()
                .env("PATH", path)
                .envs(variables.iter().copied())
                .stdin(Stdio::null()),
        )
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn of(command: &mut Command) -> Self {
        let temporary = TempDir::new().unwrap();
        command.env("TMPDIR", temporary.path());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = Lines::of(child.stdout.take().unwrap());
        let err = Lines::of(child.stderr.take().unwrap());
        Self { child, _temporary: temporary, out, err }
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends the signal of that name.
    pub(crate) fn signal(&self, name: &str) {
        let told = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.child.id())])
            .status()
            .unwrap();
        assert!(told.success());
    }

    /// Sends SIGKILL and waits.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end: the exit code, if no signal ended it.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.out.read_on();
        self.err.read_on();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines that a child writes, with their ends.
pub(crate) struct Lines {
    coming: Receiver<String>,
    seen: Vec<String>,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Self {
        let (send, coming) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            loop {
                let mut line = String::new();
                if !reader.read_line(&mut line).is_ok_and(|length| length > 0) {
                    break;
                }
                // Read on when nobody listens, so that the child is never blocked.
                let _ = send.send(line);
            }
        });
        Self { coming, seen: Vec::new() }
    }

    /// The next line; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<String> {
        match self.coming.recv_timeout(BOUND) {
            Ok(line) => {
                self.seen.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("silence after {:?}", self.seen),
        }
    }

    /// The first line to come that holds `text`.
    pub(crate) fn until(&mut self, text: &str) -> String {
        loop {
            match self.next() {
                Some(line) if line.contains(text) => return line,
                Some(_) => {}
                None => panic!("no `{text}` in {:?}", self.seen),
            }
        }
    }

    fn read_on(&mut self) {
        while self.next().is_some() {}
    }

    /// All that was read so far.
    pub(crate) fn all(&self) -> String {
        self.seen.concat()
    }
}

/// `countersign serve`, once it says that it listens.
pub(crate) struct Served {
    pub(crate) program: Program,
    pub(crate) listeners: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
}

impl Served {
    /// Starts it on the configuration in `file`; it may still refuse what it might have forgotten.
    pub(crate) fn listening(file: &str, variables: &[(&str, &str)]) -> Self {
        let arguments = ["serve", "--config", file, "--log-format", "json"];
        Self::of(Program::start(&arguments, variables))
    }

    /// A program that has been started so.
    pub(crate) fn of(mut program: Program) -> Self {
        let mut listeners = Vec::new();
        let admin = loop {
            let Some(line) = program.err.next() else { panic!("{}", program.err.all()) };
            let event: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            let address = || event["address"].as_str().unwrap().parse().unwrap();
            match event["message"].as_str() {
                Some("listening") => listeners.push(address()),
                Some("metrics and health") => break address(),
                _ => {}
            }
        };
        Self { program, listeners, admin }
    }

    /// Starts it, and waits until fresh requests are judged.
    pub(crate) fn ready(file: &str, variables: &[(&str, &str)]) -> Self {
        let mut served = Self::listening(file, variables);
        served.program.err.until("\"message\":\"ready\"");
        served
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listeners[0]
    }
}

/// Asks again and again until `holds`, with a bound.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < BOUND, "never came about: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
