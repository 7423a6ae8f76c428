//! `countersign demo`.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use http::Method;
use serde_json::Value;

use crate::client::{Call, Client, send};
use crate::program::{Program, run};

pub(crate) struct Demo {
    pub(crate) program: Program,
    pub(crate) line: String,
    pub(crate) facts: Value,
}

impl Demo {
    pub(crate) fn start(more: &[&str]) -> Self {
        let free = ["demo", "--json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let mut program = Program::start(&[&free, more].concat(), &[]);
        let line = program.out.next().unwrap_or_else(|| panic!("{}", program.err.all()));
        let facts = serde_json::from_str(&line).unwrap();
        Self { program, line, facts }
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.facts[name].as_str().unwrap_or_else(|| panic!("{name} in {}", self.line))
    }

    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        self.text(name).strip_prefix("http://").unwrap().parse().unwrap()
    }
}

const ORDER: &str = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.01&price=20000";

#[test]
fn one_line_says_all_and_orders_are_accepted_as_soon_as_it_is_there() {
    let mut demo = Demo::start(&[]);
    let client = Client {
        dialect: demo.text("dialect"),
        key: demo.text("key"),
        secret: demo.text("secret"),
        passphrase: "",
    };
    let order = client.sign(Method::POST, "/api/v3/order", ORDER);
    let answer = send(demo.address("gateway"), &order);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains("\"orderId\":"), "{answer:?}");
    assert_eq!(send(demo.address("admin"), &Call::get("/readyz")).status, 200);

    demo.program.terminate();
    assert_eq!(demo.program.ended(), Some(0));
    assert_eq!(demo.program.out.all(), demo.line);
    assert_eq!(demo.program.err.all(), "");
}

#[test]
fn every_printed_key_works_in_its_dialect_and_within_its_limits() {
    let demo = Demo::start(&[]);
    let at = demo.address("gateway");
    for (prefix, dialect, target) in [
        ("read_only_", "binance", "/api/v3/account"),
        ("small_limit_", "binance", "/api/v3/account"),
        ("bybit_", "bybit", "/v5/account/wallet-balance"),
        ("bitget_", "bitget", "/api/v2/spot/account/assets"),
    ] {
        let passphrase = demo.facts[format!("{prefix}passphrase")].as_str().unwrap_or_default();
        let (key, secret) = (format!("{prefix}key"), format!("{prefix}secret"));
        let client =
            Client { dialect, key: demo.text(&key), secret: demo.text(&secret), passphrase };
        let answer = send(at, &client.sign(Method::GET, target, ""));
        assert_eq!(answer.status, 200, "{prefix} {answer:?}");
        assert!(!answer.body.contains("\"retCode\":1"), "{prefix} {answer:?}");
    }
    let (key, secret) = (demo.text("read_only_key"), demo.text("read_only_secret"));
    let reader = Client { dialect: "binance", key, secret, passphrase: "" };
    let answer = send(at, &reader.sign(Method::POST, "/api/v3/order", ORDER));
    assert_eq!((answer.status, answer.body.contains("-2015")), (401, true), "{answer:?}");
}

#[test]
fn the_printed_line_places_an_order_once() {
    let arguments = ["demo", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let mut program = Program::start(&arguments, &[]);
    let line = program.out.until("curl -sS");
    let paste = || {
        if Command::new("curl").arg("--version").output().is_err() {
            return sent_by_hand(line.trim_end());
        }
        let pasted = Command::new("sh").args(["-c", &line]).output().unwrap();
        assert!(pasted.status.success(), "{pasted:?}");
        String::from_utf8(pasted.stdout).unwrap()
    };
    let (first, second) = (paste(), paste());
    assert!(first.contains("\"orderId\":"), "{first}");
    assert!(second.contains("\"code\":-2010"), "{second}");
    program.terminate();
    assert_eq!(program.ended(), Some(0));
}

/// Where there is no curl: what it would send.
fn sent_by_hand(line: &str) -> String {
    let words: Vec<_> = line.split('\'').skip(1).step_by(2).collect();
    let (url, rest) = words.split_last().unwrap();
    let (body, fields) = rest.split_last().unwrap();
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut call = Call::new(Method::POST, &format!("/{path}")).body(body);
    for (name, value) in fields.iter().map(|field| field.split_once(": ").unwrap()) {
        call = call.with(name, value);
    }
    send(address.parse().unwrap(), &call).body
}

#[test]
fn an_address_in_use_is_named_with_the_cure() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().to_string();
    for (listen, admin, cure) in
        [(&*taken, "127.0.0.1:0", "--listen"), ("127.0.0.1:0", &*taken, "--admin-listen")]
    {
        let said = run(&["demo", "--listen", listen, "--admin-listen", admin], &[]);
        assert_eq!((said.code, &*said.out), (Some(1), ""), "{said:?}");
        assert!(said.err.contains(&taken) && said.err.contains("in use"), "{said:?}");
        assert!(said.err.contains(cure), "{said:?}");
    }
}
