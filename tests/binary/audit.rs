//! The audit trail of a running gateway: what is in it, what is not, and what outlives a kill or a full disk.

use std::collections::HashSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign::audit::{
    Act, Filter, Rules, Tail, Trail, Verified, VerifyError, public_key, search, verify,
};
use countersign::clock::SystemClock;
use countersign::metrics::{Labels, Metrics};
use http::Method;
use serde_json::Value;

use crate::backend::{Backend, Mode};
use crate::client::{Call, Client, ask, send};
use crate::demo::Demo;
use crate::program::{Program, Served, run, until};
use crate::world::{File, SECRET, VARIABLES, base, client, key, order, route};

/// A gateway with a trail: a route that records its intents, one that must be recorded, one that need not be.
fn recorded(backend: &Backend, audit: &str) -> File {
    let routes = [
        (
            "POST",
            "/api/v3/order",
            "permission = \"trade\"\naudit = \"required\"\naudit_intent = true",
        ),
        ("DELETE", "/api/v3/order", "permission = \"trade\"\naudit = \"required\""),
        ("GET", "/api/v3/account", "audit = \"best_effort\""),
        ("GET", "/api/v3/**", ""),
        ("PUT", "/api/v3/**", "permission = \"withdraw\""),
    ];
    let mut more = format!("[store]\nstate_dir = \"state\"\n\n[audit]\n{audit}\n\n");
    for (place, (method, path, extra)) in routes.into_iter().enumerate() {
        let text = route("binance", method, path, extra);
        more.push_str(&text.replacen("name = \"binance-", &format!("name = \"r{place}-"), 1));
    }
    more.push_str(&key("binance", "k", ""));
    File::new(&base("", &[backend.address], &more))
}

fn trail(file: &File) -> PathBuf {
    Path::new(&file.path()).parent().unwrap().join("state/audit")
}

fn sign(method: Method, path: &str, number: usize) -> Call {
    sign_by(client("binance", "k"), method, path, &order("binance", number))
}

/// Parameters where the dialect has them.
fn sign_by(by: Client<'_>, method: Method, path: &str, parameters: &str) -> Call {
    if method != Method::GET || parameters.is_empty() {
        return by.sign(method, path, parameters);
    }
    by.sign(method, &format!("{path}?{parameters}"), "")
}

/// The first of its kind that is accepted: while the disk is slow to note the clock's mark, some are not.
fn accepted(served: &Served, method: &Method, path: &str) -> Call {
    let mut number = 1_000_000;
    let mut call = sign(method.clone(), path, number);
    until("one is accepted", || {
        number += 1;
        call = sign(method.clone(), path, number);
        send(served.address(), &call).status == 200
    });
    call
}

fn of_kind(dir: &Path, kind: &str) -> Vec<Value> {
    search(dir, &Filter { kind: Some(kind.into()), ..Filter::default() }).unwrap()
}

fn whole(dir: &Path) -> Verified {
    verify(dir, &[public_key(dir).unwrap()]).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_trail_of_the_demo_tells_of_a_request_and_verifies() {
    let mut demo = Demo::start(&[]);
    let client = Client {
        dialect: "binance",
        key: demo.text("key"),
        secret: demo.text("secret"),
        passphrase: "",
    };
    let dir = demo.text("audit_dir").to_owned();
    let call = client.sign(Method::GET, "/api/v3/account", "");
    let answer = send(demo.address("gateway"), &call);
    assert_eq!(answer.status, 200, "{answer:?}");
    let key = demo.text("key").to_owned();
    let asked = ["audit", "search", &dir, "--key", &key, "--since", "1h", "--json"];
    until("the request is in the trail", || run(&asked, &[]).out.contains("\"forwarded\""));
    let record: Value = serde_json::from_str(run(&asked, &[]).out.lines().next().unwrap()).unwrap();
    assert_eq!(record["path"], "/api/v3/account");
    assert_eq!(record["address"], "127.0.0.1");
    assert_eq!(record["request"].as_str(), answer.field("x-request-id"));

    let said = run(&["audit", "verify", &dir, "--json"], &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let file = Path::new(&dir).join("segment-0000000001.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("/api/v3/account", "/api/v3/Account", 1)).unwrap();
    let said = run(&["audit", "verify", &dir], &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let line = text.lines().position(|line| line.contains("/api/v3/account")).unwrap() + 1;
    assert!(said.out.contains(&format!("segment-0000000001.jsonl:{line}: ")), "{said:?}");

    demo.program.terminate();
    assert_eq!(demo.program.ended(), Some(0));
    assert!(!Path::new(&dir).exists());
}

#[test]
fn accepted_and_refused_requests_are_told_apart_and_unproven_ones_are_summed_up() {
    let backend = Backend::start();
    let file = recorded(&backend, "");
    let mut served = Served::ready(&file.path(), &VARIABLES);
    let call = accepted(&served, &Method::DELETE, "/api/v3/order");
    until("it is refused as a replay", || {
        let status = send(served.address(), &call).status;
        assert_ne!(status, 200);
        status != 503
    });
    assert_ne!(send(served.address(), &sign(Method::PUT, "/api/v3/x", 2)).status, 200);
    let forger = Client { secret: "another secret", ..client("binance", "k") };
    for number in 0..7 {
        let call = sign_by(forger, Method::GET, "/api/v3/account", &order("binance", number));
        assert_ne!(send(served.address(), &call).status, 200);
    }
    let metrics = send(served.admin, &Call::get("/metrics")).body;
    served.program.terminate();
    assert_eq!(served.program.ended(), Some(0));

    let dir = trail(&file);
    let told: Vec<_> = of_kind(&dir, "request")
        .iter()
        .map(|record| {
            let text = |name: &str| record[name].as_str().unwrap_or("-").to_owned();
            (text("method"), text("verdict"), text("reason"))
        })
        .filter(|(.., reason)| reason != "fenced")
        .collect();
    let expected = [
        ("DELETE", "forwarded", "-"),
        ("DELETE", "refused", "replayed"),
        ("PUT", "refused", "not_permitted"),
    ];
    let mut told: Vec<_> =
        told.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
    told.sort_unstable();
    assert_eq!(told, expected);
    let events = of_kind(&dir, "event");
    assert!(events.iter().any(|event| event["event"] == "permission_probed"), "{events:?}");
    let refused = of_kind(&dir, "unproven");
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!((&refused[0]["reason"], &refused[0]["count"]), (&"bad_signature".into(), &7.into()));
    assert!(metrics.contains("countersign_unusual_activity_total"), "{metrics}");
    assert_eq!(whole(&dir).unsealed, 0);
}

#[test]
fn the_intent_is_in_the_trail_before_the_backend_sees_the_request() {
    let backend = Backend::start();
    let file = recorded(&backend, "");
    let mut served = Served::ready(&file.path(), &VARIABLES);
    backend.set(Mode::Wait);
    let mut asked = Vec::new();
    until("five are at the backend", || {
        let number = asked.len();
        asked.push(ask(served.address(), &sign(Method::POST, "/api/v3/order", number)));
        backend.seen().len() >= 5
    });
    served.program.kill();
    drop(asked);
    let seen: HashSet<_> =
        backend.seen().iter().map(|seen| seen.field("x-request-id").unwrap().to_owned()).collect();
    let intents: HashSet<_> = of_kind(&trail(&file), "intent")
        .iter()
        .map(|intent| intent["request"].as_str().unwrap().to_owned())
        .collect();
    assert!(seen.is_subset(&intents), "{seen:?} {intents:?}");
}

/// Sends orders until nobody answers.
fn order_until_killed(address: SocketAddr, numbers: &AtomicUsize) {
    loop {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let call = sign(Method::POST, "/api/v3/order", number);
        let asked = std::panic::catch_unwind(|| ask(address, &call).text());
        if asked.is_err() {
            return;
        }
    }
}

#[test]
fn whatever_the_backend_saw_before_a_kill_is_in_the_trail_as_an_intent() {
    const KILLS: usize = 5;
    let backend = Backend::start();
    let file = recorded(&backend, "segment_size = \"64KiB\"");
    let numbers = AtomicUsize::new(0);
    for round in 1..=KILLS {
        let mut served = Served::ready(&file.path(), &VARIABLES);
        let (address, before) = (served.address(), backend.seen().len());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| order_until_killed(address, &numbers));
            }
            until("some have come through", || backend.seen().len() > before + 30 * round);
            served.program.kill();
        });
        whole(&trail(&file));
    }
    let intents: HashSet<_> = of_kind(&trail(&file), "intent")
        .iter()
        .map(|intent| intent["request"].as_str().unwrap().to_owned())
        .collect();
    let seen = backend.seen();
    assert!(seen.len() > 30 * KILLS);
    for request in &seen {
        assert!(intents.contains(request.field("x-request-id").unwrap()), "{request:?}");
    }
}

/// What the child acknowledges, one a line.
const WRITES: &str = "COUNTERSIGN_TEST_TRAIL";

#[test]
fn a_child_writes_until_it_is_killed() {
    let Ok(dir) = std::env::var(WRITES) else { return };
    let labels = Labels { routes: &[], upstreams: &[], dialects: &[], stores: &[], listeners: &[] };
    let meter = Metrics::new(&labels).unwrap().audit().clone();
    let rules = Rules {
        segment_bytes: 32 << 10,
        checkpoint: Duration::from_millis(5),
        ..Rules::of(dir.into())
    };
    let routes: Arc<[Arc<str>]> = Arc::from([]);
    let trail = Trail::start(rules, routes, Arc::new(SystemClock::start()), meter).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = std::process::id();
    for number in 0..u32::MAX {
        let target = format!("key/{run}-{number}");
        let act = Act {
            actor: "test",
            role: "security",
            action: "key.revoke",
            target: &target,
            verdict: "done",
            reason: Some("a reason that makes the line longer"),
            address: None,
        };
        let recorder = trail.recorder();
        recorder.refused(std::net::Ipv4Addr::from_bits(number).into(), 3);
        drop(recorder);
        runtime.block_on(trail.act(&act)).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{target}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn killed_a_hundred_times_it_loses_nothing_acknowledged_and_its_chain_holds() {
    const KILLS: u64 = 100;
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = HashSet::new();
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..KILLS {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "audit::a_child_writes_until_it_is_killed", "--nocapture"])
            .env(WRITES, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut lines = std::io::BufRead::lines(out).map_while(Result::ok);
        let mut take = |most: u64| {
            let acts = lines
                .by_ref()
                .filter(|line| line.contains("key/"))
                .take(usize::try_from(most).unwrap());
            acknowledged.extend(acts.map(|line| line.split("key/").nth(1).unwrap().to_owned()));
        };
        take(1 + noise % 60);
        // Anywhere between two acknowledgements.
        for _ in 0..noise % 50_000 {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        take(u64::from(u32::MAX));
        child.wait().unwrap();
        match verify(dir.path(), &[public_key(dir.path()).unwrap()]) {
            Ok(_) => {}
            Err(VerifyError::Broken(broken)) => panic!("{round}: {broken:?}"),
            Err(error) => panic!("{round}: {error}"),
        }
    }
    let found: HashSet<_> = of_kind(dir.path(), "act")
        .iter()
        .map(|act| act["target"].as_str().unwrap().strip_prefix("key/").unwrap().to_owned())
        .collect();
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "{} of {}: {lost:?}", lost.len(), acknowledged.len());
    assert!(acknowledged.len() > 1_000, "{}", acknowledged.len());
    let started =
        of_kind(dir.path(), "event").iter().filter(|event| event["event"] == "started").count();
    assert!(started > 90, "{started}");
}

#[test]
fn with_a_full_disk_each_route_does_as_it_says_and_all_go_on_when_there_is_room() {
    let backend = Backend::start();
    let file = recorded(&backend, "");
    let script = "trap '' XFSZ; exec \"$@\"";
    let program = env!("CARGO_BIN_EXE_countersign");
    let path = file.path();
    let arguments =
        ["-c", script, "sh", program, "serve", "--config", &path, "--log-format", "json"];
    let served = Served::of(Program::of_command(Command::new("sh").args(arguments), &VARIABLES));
    let address = served.address();
    let mut number = 0;
    let mut status = |method: Method, path: &str| {
        number += 1;
        send(address, &sign(method, path, number)).status
    };
    until("the fence has passed", || status(Method::GET, "/api/v3/account") == 200);
    let id = served.program.id().to_string();
    let limit = |most: &str| {
        let set = Command::new("prlimit").args(["--pid", &id, &format!("--fsize={most}")]).status();
        assert!(set.unwrap().success());
    };
    // The largest file that the gateway may write: the trail meets it first.
    limit("65536:");
    let value = |name: &str| {
        let metrics = send(served.admin, &Call::get("/metrics")).body;
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let refused = "countersign_audit_unrecorded_total{request=\"refused\"}";
    until("the disk is full", || {
        status(Method::DELETE, "/api/v3/order");
        value(refused) >= 1.0
    });
    let before = backend.seen().len();
    assert_eq!(status(Method::POST, "/api/v3/order"), 503);
    assert_eq!(status(Method::DELETE, "/api/v3/order"), 503);
    assert_eq!(backend.seen().len(), before);
    until("what need not be recorded is served", || status(Method::GET, "/api/v3/account") == 200);
    assert!(value(refused) >= 2.0);
    assert!(value("countersign_audit_write_failures_total") >= 1.0);

    limit("unlimited:");
    until("required routes are served again", || status(Method::POST, "/api/v3/order") == 200);
    let forwarded = backend.seen().len();
    let mut served = served;
    served.program.terminate();
    assert_eq!(served.program.ended(), Some(0));
    let dir = trail(&file);
    assert_eq!(whole(&dir).unsealed, 0);
    let told =
        of_kind(&dir, "request").iter().filter(|record| record["verdict"] == "forwarded").count();
    let lost: u64 = of_kind(&dir, "event").iter().filter_map(|event| event["count"].as_u64()).sum();
    assert_eq!(told as u64 + lost, forwarded as u64);
}

/// A secret as exchanges make them: 32 letters and digits, or more.
fn planted_secret(number: u64) -> String {
    let digits = format!("{:016x}", (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    if number.is_multiple_of(2) {
        format!("pl4nted{digits}{digits}{digits}")
    } else {
        format!("pl4nted-{digits}{digits}").chars().take(32).collect()
    }
}

/// A request with a secret in one of ten places, and a one-time code in some.
fn with_secret(number: u64, secret: &str, code: &str) -> Call {
    const READ: &str = "/api/v3/account";
    let good = client("binance", "k");
    let forger = Client { secret, ..good };
    let stranger = Client { key: secret, ..good };
    let get = |by, path: &str, query: &str| sign_by(by, Method::GET, path, query);
    match number % 10 {
        0 => get(good, READ, &format!("note={secret}")),
        1 => get(good, READ, "a=b").with("x-mbx-secret", secret),
        2 => get(good, &format!("/api/v3/{secret}"), ""),
        3 => get(good, &format!("/api/v3/x/{code}"), ""),
        4 => get(stranger, READ, ""),
        5 => get(forger, READ, ""),
        6 => Call::get(&format!("/{secret}?secret={secret}")),
        7 => Call::get(READ).with("x-mbx-apikey", "k").with("authorization", secret),
        8 => good.sign(Method::POST, "/api/v3/order", &format!("otp={secret}&n={number}")),
        _ => get(good, READ, &format!("n={number}")).with("cookie", secret).with("x-otp", code),
    }
}

/// Sends a thousand; everything that was secret about them, and how many were accepted.
fn plant(served: &Served) -> (Vec<String>, u64) {
    let (mut planted, mut accepted) = (vec![SECRET.to_owned()], 0);
    for number in 0..1_000 {
        let (secret, code) = (planted_secret(number), (900_000 + number).to_string());
        let call = with_secret(number, &secret, &code);
        for text in [&call.target, &call.body] {
            let rest = text.split_once("signature=").map(|(_, rest)| rest);
            planted.extend(rest.and_then(|rest| rest.split('&').next()).map(str::to_owned));
        }
        accepted += u64::from(send(served.address(), &call).status == 200);
        planted.push(secret);
        if matches!(number % 10, 3 | 9) {
            planted.push(code);
        }
    }
    (planted, accepted)
}

#[test]
fn of_a_thousand_planted_secrets_none_is_in_trail_log_or_metrics() {
    let backend = Backend::start();
    let file = recorded(&backend, "");
    let variables = [&VARIABLES[..], &[("COUNTERSIGN_LOG", "trace")]].concat();
    let mut served = Served::ready(&file.path(), &variables);
    let (planted, accepted) = plant(&served);
    assert!(accepted > 500 && planted.len() > 1_500, "{accepted} {}", planted.len());
    let metrics = send(served.admin, &Call::get("/metrics")).body;
    served.program.terminate();
    assert_eq!(served.program.ended(), Some(0));

    let dir = trail(&file);
    assert!(of_kind(&dir, "request").len() > 500);
    let mut places = vec![("metrics", metrics), ("log", served.program.err.all())];
    for entry in std::fs::read_dir(&dir).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        places.push(("trail", String::from_utf8_lossy(&bytes).into_owned()));
    }
    for (place, text) in &places {
        let words: HashSet<_> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        for secret in &planted {
            // A code stands alone where it stands: its digits are in longer numbers too.
            let is_code = secret.len() == 6;
            let found = if is_code { words.contains(&**secret) } else { text.contains(&**secret) };
            assert!(!found, "{secret} in {place}");
        }
    }
}

#[test]
fn a_tail_follows_a_running_gateway() {
    let backend = Backend::start();
    let file = recorded(&backend, "");
    let served = Served::ready(&file.path(), &VARIABLES);
    let mut tail = Tail::last(&trail(&file), 0).unwrap();
    accepted(&served, &Method::GET, "/api/v3/account");
    let mut told = Vec::new();
    until("the record comes", || {
        told.extend(tail.more().unwrap());
        told.iter().any(|line: &String| line.contains("\"/api/v3/account\""))
    });
}
