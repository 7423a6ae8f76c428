//! Who calls gateways: clients that sign, an operator over the admin API, and the command line.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign::clock::{Clock as _, SystemClock};
use countersign::dialect::{Credentials, Dialect, Draft, builtin};
use countersign::key::{Algorithm, Signer};
use http::Method;
use serde_json::{Value, json};

/// Who may do everything.
pub(crate) const TOKEN: &str = "the-token-of-whoever-runs-these-gateways";
/// Only a failure waits so long.
pub(crate) const BOUND: Duration = Duration::from_mins(1);

/// Signs for the keys it was given, no request like another.
pub(crate) struct Signatory {
    dialect: Dialect,
    clock: SystemClock,
    keys: HashMap<String, Signer>,
    sent: AtomicU64,
}

impl Signatory {
    /// For keys by id and secret.
    pub(crate) fn of<'k>(keys: impl IntoIterator<Item = (&'k str, &'k str)>) -> Self {
        let signer = |text: &str| Signer::read(Algorithm::HmacSha256, text.as_bytes()).unwrap();
        Self {
            dialect: builtin("binance").unwrap().unwrap(),
            clock: SystemClock::start(),
            keys: keys.into_iter().map(|(id, text)| (id.to_owned(), signer(text))).collect(),
            sent: AtomicU64::new(0),
        }
    }

    fn write(&self, key_id: &str, method: &Method, path: &str) -> Vec<u8> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let draft = Draft {
            method: method.clone(),
            path,
            query: &format!("n={number}"),
            body: "",
            host: "h",
            window_ms: Some(60_000),
            lead_ms: 5_000,
            nonce: None,
        };
        let by = Credentials { key_id, signer: &self.keys[key_id], passphrase: None };
        let signed = self.dialect.sign(&draft, &by, self.clock.now()).unwrap();
        let mut text = format!("{} {} HTTP/1.1\r\nhost: h\r\n", signed.method, signed.target);
        for (name, value) in &signed.headers {
            text += &format!("{name}: {}\r\n", value.to_str().unwrap());
        }
        text += &format!("content-length: {}\r\n\r\n{}", signed.body.len(), signed.body);
        text.into()
    }
}

/// A connection of a client to a gateway, made anew where it was cut.
pub(crate) struct Client {
    to: SocketAddr,
    stream: Option<TcpStream>,
}

impl Client {
    pub(crate) fn to(to: SocketAddr) -> Self {
        Self { to, stream: None }
    }

    /// The status of a fresh request's answer; `None` where it was cut.
    pub(crate) fn send(&mut self, by: &Signatory, key: &str, to: (&Method, &str)) -> Option<u16> {
        let request = by.write(key, to.0, to.1);
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.to).unwrap();
            stream.set_read_timeout(Some(BOUND)).unwrap();
            stream.set_nodelay(true).unwrap();
            self.stream = Some(stream);
        }
        let stream = self.stream.as_mut()?;
        let answer = stream.write_all(&request).ok().and_then(|()| answer(stream));
        if answer.is_none() {
            self.stream = None;
        }
        answer
    }
}

/// Reads one answer whole.
fn answer(stream: &mut TcpStream) -> Option<u16> {
    let (mut come, mut piece) = (Vec::new(), [0; 4 << 10]);
    loop {
        let text = String::from_utf8_lossy(&come).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap();
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            if body.len() >= length {
                return head.split(' ').nth(1).unwrap().parse().ok();
            }
        }
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        come.extend(&piece[..count]);
    }
}

/// Asks the admin API at `admin`; the answer must be good.
pub(crate) fn post(admin: SocketAddr, path: &str, body: &Value) -> Value {
    let (status, said) = ask(admin, path, body);
    assert!((200..300).contains(&status), "{path}: {status} {said}");
    serde_json::from_str(&said).unwrap()
}

/// Revokes a key. Where the registry did not answer in time, as on a machine that does much else, it is asked again, and
/// may then say that it was done.
pub(crate) fn revoke(admin: SocketAddr, id: &str) {
    // What counts is the time from the change, not from when gateways have confirmed it.
    let path = format!("/v1/keys/{id}/revoke?wait=0ms");
    let (begun, mut is_unsure) = (Instant::now(), false);
    loop {
        match ask(admin, &path, &json!({})) {
            (200..300, _) => return,
            (409, _) if is_unsure => return,
            (503, _) if begun.elapsed() < BOUND => is_unsure = true,
            (status, said) => panic!("{path}: {status} {said}"),
        }
    }
}

/// The status and body of the admin API's answer.
fn ask(admin: SocketAddr, path: &str, body: &Value) -> (u16, String) {
    let text = body.to_string();
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {admin}\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    stream.write_all((head + &text).as_bytes()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// Runs the program against the admin API at `admin`, and says what it printed; it must end well.
pub(crate) fn command_line(admin: SocketAddr, arguments: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(arguments)
        .env_clear()
        .env("COUNTERSIGN_ADMIN", format!("http://{admin}"))
        .env("COUNTERSIGN_ADMIN_TOKEN", TOKEN)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (out, err) =
        (String::from_utf8(done.stdout).unwrap(), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{arguments:?}: {out}{err}");
    out
}
