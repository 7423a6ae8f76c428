//! A stub of the admin API, and the program that asks it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

/// What is answered.
pub(crate) enum Told {
    /// A status and a body.
    Answer(u16, Value),
    /// Some lines.
    Lines(Vec<Value>),
    /// Whatever bytes.
    Bytes(&'static str),
    /// An end without an answer.
    Nothing,
}

type Answers = dyn Fn(&Asked) -> Told + Send + Sync;

/// A stub, until the test ends.
pub(crate) struct Stub {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Stub {
    pub(crate) fn new(answers: impl Fn(&Asked) -> Told + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let next = move || listener.accept().map(|(stream, _)| stream);
        Self::serve(url, next, |stream| stream, answers)
    }

    pub(crate) fn on_socket(
        path: &Path,
        answers: impl Fn(&Asked) -> Told + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let next = move || listener.accept().map(|(stream, _)| stream);
        Self::serve(format!("unix://{}", path.display()), next, |stream| stream, answers)
    }

    /// Serves what `next` accepts and `wrap` makes of it, one request a connection.
    pub(crate) fn serve<C, S: Read + Write>(
        url: String,
        next: impl Fn() -> std::io::Result<C> + Send + 'static,
        wrap: impl Fn(C) -> S + Send + 'static,
        answers: impl Fn(&Asked) -> Told + Send + Sync + 'static,
    ) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let answers: Box<Answers> = Box::new(answers);
        // It ends with the test's process.
        std::thread::spawn(move || {
            while let Ok(connection) = next() {
                serve_one(wrap(connection), &noted, &*answers);
            }
        });
        Self { url, asked }
    }

    /// Answers everything alike.
    pub(crate) fn always(status: u16, body: Value) -> Self {
        Self::new(move |_| Told::Answer(status, body.clone()))
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Runs a command against it, with a token.
    pub(crate) fn run(&self, line: &str) -> Said {
        run(&words(line), &[("COUNTERSIGN_ADMIN", &self.url), TOKEN])
    }
}

pub(crate) const TOKEN: (&str, &str) = ("COUNTERSIGN_ADMIN_TOKEN", "csa_planted");

fn serve_one(stream: impl Read + Write, noted: &Mutex<Vec<Asked>>, answers: &Answers) {
    let mut reader = BufReader::new(stream);
    let Some(asked) = read(&mut reader) else { return };
    noted.lock().unwrap().push(asked.clone());
    let answer = match answers(&asked) {
        Told::Answer(status, Value::Null) => {
            format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        }
        Told::Answer(status, body) => {
            let body = body.to_string();
            let length = body.len();
            format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
        }
        Told::Lines(lines) => {
            let mut text = "HTTP/1.1 200 X\r\nconnection: close\r\n\r\n".to_owned();
            text.extend(lines.iter().map(|line| format!("{line}\n")));
            text
        }
        Told::Bytes(bytes) => bytes.to_owned(),
        Told::Nothing => return,
    };
    // Whoever asked may be gone.
    let _ = reader.get_mut().write_all(answer.as_bytes());
    let _ = reader.get_mut().flush();
}

fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
        Some(line.trim_end().to_owned())
    };
    let start = line()?;
    let mut words = start.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut fields = Vec::new();
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        fields.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = fields.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or(json!(null));
    Some(Asked { method, path, fields, body })
}

/// What a finished run said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// All that went well, and what it printed as JSON.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

/// Words as a shell parts them: `'one word'`.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Runs the program, with no variables but those given, and nothing to read.
pub(crate) fn run(words: &[String], variables: &[(&str, &str)]) -> Said {
    run_reading(words, variables, "")
}

/// Runs the program with `input` to read.
pub(crate) fn run_reading(words: &[String], variables: &[(&str, &str)], input: &str) -> Said {
    let mut child = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(words)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}
