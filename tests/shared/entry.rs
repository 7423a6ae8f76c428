//! Which servers a gateway goes by, and as whom: a version that is too old, a policy that may evict, a certificate that
//! proves nothing, a wrong password and a user that may too little are each refused, and the log says the cure and no
//! secret.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;

use countersign::config::{Config, Contents, Lookup};
use countersign::service::Service;
use countersign::store::redis::Weakened;
use zeroize::Zeroizing;

use crate::answers::{Instead, Liar};
use crate::free_port::free_port;
use crate::gateways::backend;
use crate::nodes::Nodes;
use crate::now;
use crate::process::{Process, SECRET, order, routes_and_keys};
use crate::server::RedisServer;

const PASSWORD: &str = "hunter2-hunter2-hunter2";

fn gateway(backend: SocketAddr, store: &str, files: impl FnOnce(&Path)) -> Process {
    let text = format!(
        "[store]\nkind = \"redis\"\n[store.redis]\ndeadline = \"2s\"\n{store}\n{}",
        routes_and_keys(backend)
    );
    Process::start(&text, &[("PASSWORD", PASSWORD), ("WRONG", "hunter2-hunter3")], false, files)
}

/// It serves, and its log holds no secret.
fn serves(store: &str, files: impl FnOnce(&Path)) {
    let (address, delivered) = backend();
    let gateway = gateway(address, store, files);
    gateway.wait(store, || gateway.is_ready());
    let mut number = 0;
    gateway.wait("an order passes", || {
        number += 1;
        gateway.status(&order("binance", number, now())) == 200
    });
    assert_eq!(delivered.load(Ordering::SeqCst), 1);
    assert!(!gateway.log().contains("hunter"), "{}", gateway.log());
}

/// It refuses everything, and says why and no secret.
fn refuses(store: &str, files: impl FnOnce(&Path), why: &str) {
    let (address, delivered) = backend();
    let gateway = gateway(address, store, files);
    gateway.wait(why, || gateway.log().contains(why));
    gateway.wait("it listens", || gateway.admin("/livez").starts_with("HTTP/1.1 200"));
    let log = gateway.log();
    assert!(log.contains("ERROR") && log.contains("the store is not used: it "), "{log}");
    assert!(!log.contains("hunter"), "{log}");
    for number in 0..5 {
        let reply = gateway.ask(&order("binance", number, now()));
        assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
    }
    assert!(gateway.admin("/readyz").contains("store not usable"));
    assert_eq!(delivered.load(Ordering::SeqCst), 0);
}

fn at(port: u16) -> String {
    format!("servers = [\"127.0.0.1:{port}\"]")
}

fn quorum(ports: [u16; 3]) -> String {
    let servers = ports.map(|port| format!("\"127.0.0.1:{port}\"")).join(", ");
    format!("topology = \"quorum\"\nservers = [{servers}]")
}

/// It does not start, and says why.
fn ends(store: &str, why: &str) {
    let (address, _) = backend();
    let mut gateway = gateway(address, store, |_| {});
    assert_eq!(gateway.ended(), Some(1), "{}", gateway.log());
    let log = gateway.log();
    assert!(log.contains("countersign serve: the shared store cannot be used as it is:"), "{log}");
    assert!(log.contains(why) && !log.contains("listening"), "{log}");
}

#[test]
fn a_server_older_than_version_7_or_one_that_may_evict_is_refused_at_the_start() {
    let server = RedisServer::start(&[]);
    let liar = Liar::start_beside(server.port);
    serves(&at(liar.port), |_| {});
    liar.say(Instead::Older);
    ends(&at(liar.port), ": Redis 7 or later is needed");
    for policy in ["allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl"] {
        let server = RedisServer::start(&["--maxmemory", "50mb", "--maxmemory-policy", policy]);
        ends(&at(server.port), &format!("(maxmemory-policy {policy}): set it to noeviction"));
    }
}

#[test]
fn a_quorum_does_not_start_where_too_few_servers_can_ever_be_used_and_waits_for_those_that_are_down()
 {
    let evicting =
        || RedisServer::start(&["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"]);
    let (one, other) = (evicting(), evicting());
    let (mut good, mut better) = (RedisServer::start(&[]), RedisServer::start(&[]));
    serves(&quorum([one.port, good.port, better.port]), |_| {});
    ends(&quorum([one.port, other.port, good.port]), "set it to noeviction");
    // Those that are down may come back; whoever waits for them is told of the other meanwhile.
    good.kill();
    better.kill();
    refuses(&quorum([one.port, good.port, better.port]), |_| {}, "set it to noeviction");
    refuses(&at(good.port), |_| {}, "cannot be reached");
}

/// What a gateway of this process says at its start, where a safeguard is taken away.
fn start(store: &str, weakened: Weakened) -> Result<(), String> {
    struct Environment;
    impl Lookup for Environment {
        fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
            (name == "S").then(|| SECRET.to_owned().into())
        }

        fn file(&self, _: &Path) -> std::io::Result<Contents> {
            Err(std::io::ErrorKind::NotFound.into())
        }
    }
    let (address, _) = backend();
    let text = format!(
        "version = 1\n[[listener]]\nname = \"public\"\naddress = \"127.0.0.1:0\"\n[admin]\n\
         address = \"127.0.0.1:0\"\n[store]\nkind = \"redis\"\n[store.redis]\ndeadline = \"2s\"\n{store}\n{}",
        routes_and_keys(address)
    );
    let mut config = Config::parse(&text, Path::new("entry.toml"), &Environment).unwrap().config;
    config.shared.as_mut().unwrap().weakened = weakened;
    let service = Service::start(config).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(service.drain_unless(std::future::ready(())));
    Ok(())
}

#[test]
fn control_without_the_check_of_version_or_policy_a_gateway_starts_on_what_it_refuses() {
    let evicting =
        || RedisServer::start(&["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"]);
    let (one, other, good) = (evicting(), evicting(), RedisServer::start(&[]));
    let may_evict = || Weakened { may_evict: true, ..Weakened::default() };
    for store in [at(one.port), quorum([one.port, other.port, good.port])] {
        let refused = start(&store, Weakened::default()).unwrap_err();
        assert!(refused.contains("set it to noeviction"), "{refused}");
        assert_eq!(start(&store, may_evict()), Ok(()), "{store}");
    }
    let liar = Liar::start_beside(good.port);
    liar.say(Instead::Older);
    let refused = start(&at(liar.port), may_evict()).unwrap_err();
    assert!(refused.contains(": Redis 7 or later is needed"), "{refused}");
    assert_eq!(start(&at(liar.port), Weakened { may_be_old: true, ..Weakened::default() }), Ok(()));
}

/// The nodes of a cluster, at their own addresses or behind others.
fn cluster(nodes: &Nodes, reached: &[u16]) -> String {
    let ports = nodes.ports();
    let quoted = |port: &u16| format!("\"127.0.0.1:{port}\"");
    let servers: Vec<String> = reached.iter().map(quoted).collect();
    let renamed = ports.iter().zip(reached);
    let renamed = renamed.map(|(own, other)| format!("{} = {}", quoted(own), quoted(other)));
    format!(
        "topology = \"cluster\"\nservers = [{}]\naddresses = {{ {} }}",
        servers.join(", "),
        renamed.collect::<Vec<_>>().join(", ")
    )
}

#[test]
fn a_cluster_does_not_start_where_most_accounts_lie_on_primaries_that_may_evict() {
    let nodes = Nodes::of(3, 3);
    let store = cluster(&nodes, &nodes.ports());
    let set = |place: usize, policy: &str| {
        drop(nodes.all[place].run(&["CONFIG", "SET", "maxmemory-policy", policy]));
    };
    let told = ": set it to noeviction";
    // Replicas judge nothing.
    (3..6).for_each(|replica| set(replica, "allkeys-lru"));
    serves(&store, |_| {});
    // The accounts of the other primaries are served.
    set(0, "volatile-lru");
    let (address, _) = backend();
    let serving = gateway(address, &store, |_| {});
    serving.wait("it is ready", || serving.is_ready());
    assert!(serving.log().contains("(maxmemory-policy volatile-lru): set it to noeviction"));
    drop(serving);
    set(1, "volatile-ttl");
    ends(&store, &format!("(maxmemory-policy volatile-ttl){told}"));
    let one_seed = format!("topology = \"cluster\"\n{}", at(nodes.ports()[2]));
    ends(&one_seed, &format!("(maxmemory-policy volatile-lru){told}"));
    set(2, "allkeys-random");
    ends(&store, &format!("(maxmemory-policy allkeys-random){told}"));
    // The control: with the check taken away it starts.
    assert_eq!(start(&store, Weakened { may_evict: true, ..Weakened::default() }), Ok(()));
    assert!(start(&store, Weakened::default()).unwrap_err().contains(told));
}

#[test]
fn a_cluster_whose_nodes_are_too_old_does_not_start() {
    let nodes = Nodes::of(3, 0);
    let liars: Vec<Liar> = nodes.ports().into_iter().map(Liar::start_beside).collect();
    let ports: Vec<u16> = liars.iter().map(|liar| liar.port).collect();
    let store = cluster(&nodes, &ports);
    serves(&store, |_| {});
    for liar in &liars {
        liar.say(Instead::Older);
    }
    ends(&store, ": Redis 7 or later is needed");
    assert_eq!(start(&store, Weakened { may_be_old: true, ..Weakened::default() }), Ok(()));
}

/// What an operator is told to enter, with our password.
fn documented_user() -> Vec<String> {
    let page = include_str!("../../docs/shared-store.md");
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER countersign ")).unwrap();
    line.replace("PASSWORD", PASSWORD).split(' ').map(str::to_owned).collect()
}

#[test]
fn the_documented_user_serves_and_one_that_may_less_or_has_another_password_is_told_so() {
    let server = RedisServer::start(&[]);
    let words = documented_user();
    drop(server.run(&words.iter().map(String::as_str).collect::<Vec<_>>()));
    let as_user = |password: &str| {
        format!("{}\nusername = \"countersign\"\npassword = {password}", at(server.port))
    };
    let file = |folder: &Path| std::fs::write(folder.join("password"), PASSWORD).unwrap();
    serves(&as_user("{ env = \"PASSWORD\" }"), |_| {});
    serves(&as_user("{ file = \"password\" }"), file);
    refuses(&as_user("{ env = \"WRONG\" }"), |_| {}, "WRONGPASS");
    // Everyone else is to be turned away.
    drop(server.run(&["ACL", "SETUSER", "default", "-fcall"]));
    refuses(&at(server.port), |_| {}, "NOPERM");
    drop(server.run(&["ACL", "SETUSER", "countersign", "-time"]));
    refuses(&as_user("{ env = \"PASSWORD\" }"), |_| {}, "can't run this command");
    drop(server.run(&["ACL", "SETUSER", "countersign", "+time", "resetkeys", "~other:*"]));
    refuses(&as_user("{ env = \"PASSWORD\" }"), |_| {}, "NOPERM");
    drop(server.run(&["CONFIG", "SET", "requirepass", PASSWORD]));
    refuses(&at(server.port), |_| {}, "NOAUTH");
}

/// A certificate for `name` that vouches for itself, and its key, as PEM.
fn certificate(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn with_tls_a_server_must_prove_its_name_or_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = certificate("localhost");
    let (stranger, _) = certificate("localhost");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let port = free_port();
    let server = RedisServer::start(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &file("cert.pem", &cert),
        "--tls-key-file",
        &file("key.pem", &key),
        "--tls-ca-cert-file",
        &file("ca.pem", &cert),
        "--tls-auth-clients",
        "no",
    ]);
    let by = |ca: String| move |folder: &Path| std::fs::write(folder.join("ca.pem"), ca).unwrap();
    let named = |host: &str, port: u16| {
        format!("servers = [\"{host}:{port}\"]\ntls = {{ ca = \"ca.pem\" }}")
    };
    serves(&named("localhost", port), by(cert.clone()));
    refuses(&named("localhost", port), by(stranger), "certificate");
    refuses(&named("127.0.0.1", port), by(cert.clone()), "certificate");
    // The machine's own roots do not vouch for it.
    refuses(&format!("servers = [\"localhost:{port}\"]\ntls = {{}}"), |_| {}, "certificate");
    // One side speaks TLS, and the other waits for something else or does not understand.
    refuses(&named("localhost", server.port), by(cert), "did not answer in time");
    refuses(&at(port), |_| {}, "the store is not used: it ");
}
