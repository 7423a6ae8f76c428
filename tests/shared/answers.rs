//! Every answer that a server may give in the place of ours: none lets a request through, and none stays for longer than
//! it is given.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use countersign::clock::SystemClock;
use countersign::store::redis::{Address, Local, Options, RedisStore, Topology, Weakened};
use countersign::store::{Charge, Identity, Store, Verdict};
use redis::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::server::RedisServer;
use crate::{BOUND, SKEW, local, past_fence};

/// What becomes of the answer to a request.
#[derive(Clone, Debug)]
pub(crate) enum Instead {
    /// It is the server's own.
    Nothing,
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, and the connection ends.
    Broken(Vec<u8>),
    /// It comes so much later.
    Late(Duration),
    /// These bytes, to whatever else is asked as well.
    Always(Vec<u8>),
    /// It is the server's own, but for the version that it says it has.
    Older,
}

/// In front of a real server: only the answers to requests are others.
pub(crate) struct Liar {
    pub(crate) port: u16,
    instead: Arc<Mutex<Instead>>,
}

impl Liar {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let instead = Arc::new(Mutex::new(Instead::Nothing));
        let told = Arc::clone(&instead);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else {
                    continue;
                };
                tokio::spawn(between(client, server, Arc::clone(&told)));
            }
        });
        Self { port, instead }
    }

    /// The same, on a thread that ends with the process.
    pub(crate) fn start_beside(server: u16) -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                tell.send(Self::start(server).await).unwrap();
                std::future::pending::<()>().await;
            });
        });
        told.recv().unwrap()
    }

    pub(crate) fn say(&self, instead: Instead) {
        *self.instead.lock().unwrap() = instead;
    }
}

/// One question at a time is asked in these tests, so each answer is to the last question.
async fn between(client: TcpStream, server: TcpStream, instead: Arc<Mutex<Instead>>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asked = Arc::new(Mutex::new(false));
    let is_request = Arc::clone(&asked);
    tokio::spawn(async move {
        let mut held = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from_client.read(&mut held).await {
            let text = String::from_utf8_lossy(&held[..length]);
            *is_request.lock().unwrap() = text.contains("countersign_2_spend");
            if to_server.write_all(&held[..length]).await.is_err() {
                break;
            }
        }
    });
    let mut held = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from_server.read(&mut held).await {
        let now = instead.lock().unwrap().clone();
        let is_said = *asked.lock().unwrap() || matches!(now, Instead::Always(_) | Instead::Older);
        let now = if is_said { now } else { Instead::Nothing };
        let (bytes, goes_on) = match now {
            Instead::Nothing => (held[..length].to_vec(), true),
            Instead::Bytes(bytes) | Instead::Always(bytes) => (bytes, true),
            Instead::Broken(bytes) => (bytes, false),
            Instead::Older => {
                let mut bytes = held[..length].to_vec();
                let version = b"redis_version:";
                if let Some(at) = bytes.windows(version.len()).position(|found| found == version) {
                    bytes[at + version.len()] = b'6';
                }
                (bytes, true)
            }
            Instead::Late(span) => {
                tokio::time::sleep(span).await;
                (held[..length].to_vec(), true)
            }
        };
        if to_client.write_all(&bytes).await.is_err() || !goes_on {
            break;
        }
    }
}

async fn store(ports: &[u16], watch: bool) -> Arc<RedisStore<SystemClock>> {
    let address = |port: &u16| Address {
        name: port.to_string(),
        client: Client::open(format!("redis://127.0.0.1:{port}")).unwrap(),
    };
    let options = Options {
        servers: ports.iter().map(address).collect(),
        deadline: Duration::from_millis(150),
        future_skew: SKEW,
        clock_bound: BOUND,
        max_in_flight: 1_000,
        local: Local::default(),
        topology: Topology::Independent,
        weakened: Weakened::default(),
    };
    let store = Arc::new(RedisStore::new(options, local(), SystemClock::start()).unwrap());
    assert_eq!(store.look().await, []);
    if watch {
        let watched = Arc::clone(&store);
        tokio::spawn(async move { watched.watch().await });
    }
    past_fence().await;
    store
}

fn charge(number: u32) -> Charge {
    Charge { identity: Identity(u128::from(number).to_le_bytes()), ..crate::charge(0) }
}

fn wrong() -> Vec<(&'static str, Instead)> {
    let error = |text: &'static str| (text, Instead::Bytes(format!("-{text}\r\n").into_bytes()));
    let bulk = |bytes: &[u8]| {
        let mut whole = format!("${}\r\n", bytes.len()).into_bytes();
        whole.extend_from_slice(bytes);
        whole.extend_from_slice(b"\r\n");
        Instead::Bytes(whole)
    };
    vec![
        error("LOADING Redis is loading the dataset in memory"),
        error("READONLY You can't write against a read only replica."),
        error("MASTERDOWN Link with MASTER is down"),
        error("CLUSTERDOWN The cluster is down"),
        error("MOVED 3999 127.0.0.1:6381"),
        error("ASK 3999 127.0.0.1:6381"),
        error("TRYAGAIN Multiple keys request during rehashing of slot"),
        error("OOM command not allowed when used memory > 'maxmemory'."),
        error("BUSY Redis is busy running a script."),
        error("NOSCRIPT No matching script."),
        error("NOAUTH Authentication required."),
        error("NOPERM this user has no permissions"),
        error("MISCONF Redis is configured to save RDB snapshots"),
        error("ERR Function not found"),
        error("WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("a wrong type", Instead::Bytes(b":1\r\n".to_vec())),
        ("nothing", Instead::Bytes(b"$-1\r\n".to_vec())),
        ("an empty answer", bulk(b"")),
        ("an answer of ours that is cut", bulk(&[0, 1, 2])),
        ("a mebibyte", bulk(&vec![0; 1 << 20])),
        ("half an answer", Instead::Broken(b"$9\r\nabc".to_vec())),
        ("half an answer, for ever", Instead::Bytes(b"$9\r\nabc".to_vec())),
        ("no protocol at all", Instead::Bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())),
        ("an end", Instead::Broken(Vec::new())),
    ]
}

#[tokio::test]
async fn no_answer_but_ours_lets_a_request_through_and_service_comes_back_by_itself() {
    let server = RedisServer::start(&[]);
    let liar = Liar::start(server.port).await;
    let store = store(&[liar.port], true).await;
    let mut number = 0;
    for (name, instead) in wrong() {
        liar.say(instead);
        for _ in 0..4 {
            number += 1;
            let verdict = store.spend(&charge(number)).await;
            assert_eq!(verdict, Verdict::Unavailable, "{name}");
        }
        liar.say(Instead::Nothing);
        let healed = Instant::now();
        loop {
            number += 1;
            if matches!(store.spend(&charge(number)).await, Verdict::New(_)) {
                break;
            }
            assert!(healed.elapsed() < Duration::from_secs(30), "{name}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn one_error_costs_one_request() {
    let server = RedisServer::start(&[]);
    let liar = Liar::start(server.port).await;
    // Nobody looks after the servers: what is out of use would stay so.
    let store = store(&[liar.port], false).await;
    for (number, error) in [(1, "-BUSY\r\n"), (3, "-OOM full\r\n"), (5, "-LOADING\r\n")] {
        liar.say(Instead::Bytes(error.into()));
        assert_eq!(store.spend(&charge(number)).await, Verdict::Unavailable, "{error}");
        liar.say(Instead::Nothing);
        let next = store.spend(&charge(number + 1)).await;
        assert!(matches!(next, Verdict::New(_)), "{error}: {next:?}");
    }
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_not_taken_for_the_next_one() {
    let server = RedisServer::start(&[]);
    let liar = Liar::start(server.port).await;
    let store = store(&[liar.port], true).await;
    let spent = charge(1);
    assert!(matches!(store.spend(&spent).await, Verdict::New(_)));
    for number in (10..40).step_by(2) {
        liar.say(Instead::Late(Duration::from_millis(220)));
        // "New" is on its way.
        assert_eq!(store.spend(&charge(number)).await, Verdict::Unavailable);
        liar.say(Instead::Nothing);
        let next = store.spend(&spent).await;
        assert!(matches!(next, Verdict::Seen | Verdict::Unavailable), "{next:?}");
        while !store.is_usable() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn a_quorum_serves_on_while_one_server_talks_nonsense() {
    let servers = [(); 3].map(|()| RedisServer::start(&[]));
    let liar = Liar::start(servers[0].port).await;
    let store = store(&[liar.port, servers[1].port, servers[2].port], true).await;
    let mut number = 0;
    for (name, instead) in wrong() {
        liar.say(instead);
        let mut passed = 0;
        for _ in 0..10 {
            number += 1;
            let once = charge(number);
            passed += usize::from(matches!(store.spend(&once).await, Verdict::New(_)));
            assert!(!matches!(store.spend(&once).await, Verdict::New(_)), "{name}");
        }
        // Until it is known for what it is, a request whose limits it keeps may be lost.
        assert!(passed >= 7, "{name}: {passed}");
        liar.say(Instead::Nothing);
        while !store.troubles().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
