//! From one master key to the next by the command itself, broken off by `kill -9` on the way: afterwards everything opens
//! without the old one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use countersign::clock::Micros;
use countersign::dialect::builtin;
use countersign::key::Algorithm;
use countersign::key::master::MasterKey;
use countersign::key::sealing::{Bound, MasterKeys};
use countersign::registry::book::{Kind, Note, Query, Registry, Write};
use countersign::registry::embedded::Embedded;
use countersign::registry::postgres::{Options, Postgres};
use countersign::registry::records::{KeyRecord, Life, SecretMaterial, SecretRecord};
use http::Method;
use serde_json::Value;

use crate::fleet::client::{Client, Signatory, TOKEN, command_line};
use crate::program::Gateway;
use crate::server::Server;

const ONE: &str = "9b1f44c07ae2583d61d0f2c8a5b37e9460ce81f3ad2795b8174e3c0d6fa2b951";
const TWO: &str = "27c6e80d93fb14a56e0bd871c2f53a4e986d1b07cfe4923a5d40b68f7e19c3a2";
/// Several pages.
const KEYS: usize = 2_750;
/// It is broken off after so many.
const SEEN: u64 = 1_000;

/// A registry full of secrets under the old key, and configurations for before, between and after.
struct House {
    directory: tempfile::TempDir,
    place: Place,
}

enum Place {
    File(PathBuf),
    Postgres { options: Box<Options>, _server: Arc<Server> },
}

impl House {
    fn over(server: Option<Arc<Server>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = CONFIG.replace("BACKEND", &backend().to_string());
        let at = |name: &str| directory.path().join(name);
        for (name, text) in [("one", ONE), ("two", TWO), ("token", TOKEN)] {
            std::fs::write(at(name), text).unwrap();
        }
        let runtime = runtime();
        let (place, section) = match server {
            None => (Place::File(at("keys.redb")), "path = \"keys.redb\"".to_owned()),
            Some(server) => {
                let url = runtime.block_on(server.empty_database());
                std::fs::write(at("url"), &url).unwrap();
                let options = crate::server::patient(&url);
                Postgres::migrate(&options).unwrap();
                let section = "kind = \"postgres\"\nurl = { file = \"url\" }\ntimeout = \"30s\"";
                (
                    Place::Postgres { options: Box::new(options), _server: server },
                    section.to_owned(),
                )
            }
        };
        for (name, current, all) in [
            ("before", "one", &["one"][..]),
            ("between", "two", &["one", "two"]),
            ("after", "two", &["two"]),
        ] {
            let section_of = |key: &&str| format!("[sealing.keys.{key}]\nfile = \"{key}\"\n");
            let keys = all.iter().map(section_of).collect::<Vec<_>>().concat();
            let text = format!(
                "{config}\n[sealing]\ncurrent = \"{current}\"\n{keys}\n[registry]\n{section}\n"
            );
            std::fs::write(at(name).with_extension("toml"), text).unwrap();
        }
        let house = Self { directory, place };
        let (store, masters) = (house.open(), masters(&["one"]));
        for first in (0..KEYS).step_by(500) {
            let writes = (first..(first + 500).min(KEYS)).map(|number| record(number, &masters));
            let note = Note { at: Micros(1), actor: "t".into(), action: "t".into(), reason: None };
            runtime.block_on(store.commit(writes.collect(), note)).unwrap();
        }
        house
    }

    fn open(&self) -> Arc<dyn Registry> {
        match &self.place {
            Place::File(path) => Arc::new(Embedded::open(path).unwrap()),
            Place::Postgres { options, .. } => {
                Arc::new(Postgres::open((**options).clone()).unwrap())
            }
        }
    }

    fn config(&self, name: &str) -> PathBuf {
        self.directory.path().join(name).with_extension("toml")
    }

    /// How many secrets open with these master keys.
    fn opened(&self, with: &[&str]) -> usize {
        let (store, masters, runtime) = (self.open(), masters(with), runtime());
        let dialect = builtin("binance").unwrap().unwrap();
        let query =
            Query { kind: Kind::Key, account: None, application: None, after: None, limit: 9_999 };
        let records = runtime.block_on(store.list(query)).unwrap();
        assert_eq!(records.len(), KEYS);
        let opens = |record: &&countersign::registry::book::Record| {
            let says: KeyRecord = serde_json::from_slice(&record.body).unwrap();
            let SecretMaterial::Sealed(sealed) = &says.secrets[0].material else { panic!() };
            let place = Bound::secret(&record.id, &says.account, 1);
            masters.open_secret(&place, sealed, &dialect, Algorithm::HmacSha256).is_ok()
        };
        records.iter().filter(opens).count()
    }
}

const CONFIG: &str = r#"
version = 1
[server]
workers = 1
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[[admin.token]]
name = "sue"
role = "security"
token = { file = "token" }
[audit]
enabled = false
[[upstream]]
name = "exchange"
backends = ["BACKEND"]
identity_key = "none"
[[route]]
name = "orders"
methods = ["GET"]
path = "/orders"
upstream = "exchange"
dialect = "binance"
permission = "read"
"#;

/// Answers every request, until the test's process ends.
fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                while lines.any(|line| line.is_empty()) {
                    let reply = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                    (&stream).write_all(reply).unwrap();
                }
            });
        }
    });
    address
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn masters(names: &[&str]) -> MasterKeys {
    let key = |name: &&str| {
        let text = if *name == "one" { ONE } else { TWO };
        (Arc::from(*name), MasterKey::read(text.as_bytes()).unwrap())
    };
    MasterKeys::new(names[0], names.iter().map(key)).unwrap()
}

fn secret(number: usize) -> String {
    format!("{number:064}")
}

fn record(number: usize, masters: &MasterKeys) -> Write {
    let (id, account) = (format!("key-{number:08}"), format!("account-{}", number / 2));
    let sealed = masters.seal(&Bound::secret(&id, &account, 1), secret(number).as_bytes());
    let says = KeyRecord {
        format: 1,
        account: account.clone(),
        application: None,
        label: String::new(),
        venue: "main".into(),
        dialect: "binance".into(),
        algorithm: "hmac-sha256".into(),
        secrets: vec![SecretRecord {
            number: 1,
            material: SecretMaterial::Sealed(sealed.unwrap()),
            created: Micros(1),
            until: None,
        }],
        passphrase: None,
        permissions: vec!["read".into()],
        allowlist: vec![],
        routes: vec![],
        symbols: vec![],
        limits: vec![],
        state: Life::Active,
        created: Micros(1),
        expires: None,
        trade_until: None,
        epoch: 1,
    };
    let body = serde_json::to_vec(&says).unwrap();
    Write { kind: Kind::Key, id, replaces: None, account: Some(account), application: None, body }
}

/// Asks the gateway to rewrap, and kills it once it has looked at some.
fn kill_in_the_middle(gateway: Gateway) {
    let mut stream = TcpStream::connect(gateway.admin).unwrap();
    let ask = format!(
        "POST /v1/registry/rewrap HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
    );
    stream.write_all(ask.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines();
    let told = lines
        .by_ref()
        .map(Result::unwrap)
        .filter_map(|line| serde_json::from_str::<Value>(&line).ok().filter(Value::is_object));
    let mut total = None;
    for line in told {
        total = total.or(line["total"].as_u64());
        assert_eq!((&line["done"], &line["master"]), (&Value::Bool(false), &Value::from("two")));
        if line["seen"].as_u64().unwrap() >= SEEN {
            break;
        }
    }
    gateway.kill();
    assert_eq!(total, Some(KEYS as u64));
}

fn rewrapped(report: &str) -> u64 {
    let report: Value = serde_json::from_str(report).unwrap();
    assert_eq!((&report["schema"], &report["seen"]), (&Value::from(1), &Value::from(KEYS)));
    assert_eq!(report["failed"], Value::Array(Vec::new()));
    report["rewrapped"].as_u64().unwrap()
}

fn online(house: &House) {
    assert_eq!(house.opened(&["one"]), KEYS);
    kill_in_the_middle(Gateway::start(&house.config("between")));
    let half = house.opened(&["two"]);
    assert!(half as u64 >= SEEN && half < KEYS, "it was killed in the middle: {half}");
    assert_eq!(house.opened(&["two", "one"]), KEYS, "with both everything opens");
    let gateway = Gateway::start(&house.config("between"));
    let report = command_line(gateway.admin, &["registry", "rewrap", "--json"]);
    assert_eq!(rewrapped(&report), (KEYS - half) as u64);
    let told = command_line(gateway.admin, &["registry", "rewrap"]);
    let all = format!("{KEYS} records looked at, 0 rewrapped; all are under master key \"two\"\n");
    assert_eq!(told, all);
    drop(gateway);
    assert_eq!((house.opened(&["two"]), house.opened(&["one"])), (KEYS, 0));
    let gateway = Gateway::start(&house.config("after"));
    gateway.ready();
    for number in [0, KEYS / 2, KEYS - 1] {
        let (id, secret) = (format!("key-{number:08}"), secret(number));
        let signatory = Signatory::of([(&*id, &*secret)]);
        let mut client = Client::to(gateway.address);
        assert_eq!(client.send(&signatory, &id, (&Method::GET, "/orders")), Some(200), "{id}");
    }
}

#[test]
fn a_gateway_rewraps_its_file_while_it_serves_and_a_kill_on_the_way_costs_nothing() {
    online(&House::over(None));
}

#[test]
fn a_gateway_rewraps_postgresql_while_it_serves_and_a_kill_on_the_way_costs_nothing() {
    online(&House::over(Some(Server::shared())));
}

/// Runs the command on the registry itself; `None` where it was killed.
fn offline(config: &Path, kill: bool) -> Option<(bool, String)> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_countersign"))
        .args(["registry", "rewrap", "--json", "--config"])
        .arg(config)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if kill {
        std::thread::sleep(std::time::Duration::from_millis(300));
        child.kill().unwrap();
    }
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
    done.status.code().map(|code| (code == 0, said))
}

#[test]
fn a_file_that_no_gateway_has_open_is_rewrapped_by_the_command_alone() {
    let house = House::over(None);
    let gateway = Gateway::start(&house.config("between"));
    let (done, said) = offline(&house.config("between"), false).unwrap();
    assert!(!done && said.contains("in use") && said.contains("without --config"), "{said}");
    drop(gateway);
    offline(&house.config("between"), true);
    let half = house.opened(&["two"]);
    let (done, said) = offline(&house.config("between"), false).unwrap();
    assert!(done, "{said}");
    assert_eq!(rewrapped(&said), (KEYS - half) as u64);
    assert_eq!((house.opened(&["two"]), house.opened(&["one"])), (KEYS, 0));
}

#[test]
fn without_the_old_key_what_lies_under_it_is_named_and_stays() {
    let house = House::over(None);
    let (done, said) = offline(&house.config("after"), false).unwrap();
    assert!(!done && said.contains("key-00000000") && said.contains("\"one\""), "{said:.500}");
    assert_eq!(house.opened(&["one"]), KEYS);
}
