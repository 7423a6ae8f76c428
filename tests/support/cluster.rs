//! A cluster of real servers, and its bus by way of proxies, so that nodes can be cut off from each other while their
//! clients still reach them.
//!
//! Each node announces its proxy's port in the place of its own bus, and connects from a source address of its own, by
//! which a proxy knows who comes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redis::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The proxies of all nodes, on a thread of their own.
#[derive(Debug)]
pub(crate) struct Bus {
    /// The port that each node announces.
    pub(crate) ports: Vec<u16>,
    /// Which nodes are cut off from all others; `None` ends it.
    cut: watch::Sender<Option<Vec<usize>>>,
    thread: Option<JoinHandle<()>>,
}

impl Bus {
    /// In front of nodes whose own buses are at these ports.
    pub(crate) fn start(nodes: Vec<u16>) -> Self {
        let (cut, watched) = watch::channel(Some(Vec::new()));
        let (tell, told) = mpsc::channel();
        let run = async move {
            let mut ports = Vec::new();
            for (place, node) in nodes.into_iter().enumerate() {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                ports.push(listener.local_addr().unwrap().port());
                tokio::spawn(serve(listener, place, node, watched.clone()));
            }
            tell.send(ports).unwrap();
            let mut watched = watched;
            let _ = watched.wait_for(Option::is_none).await;
        };
        let thread = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(run);
        });
        Self { ports: told.recv().unwrap(), cut, thread: Some(thread) }
    }

    /// Where the node at `place` connects from.
    pub(crate) fn source(place: usize) -> Ipv4Addr {
        Ipv4Addr::new(127, 0, 0, 10 + u8::try_from(place).unwrap())
    }

    /// From now on these are cut off from all others, and from each other.
    pub(crate) fn cut(&self, nodes: &[usize]) {
        self.cut.send_replace(Some(nodes.to_vec()));
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.cut.send_replace(None);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(
    listener: TcpListener,
    place: usize,
    node: u16,
    cut: watch::Receiver<Option<Vec<usize>>>,
) {
    loop {
        let Ok((client, from)) = listener.accept().await else { continue };
        tokio::spawn(join(client, from, place, node, cut.clone()));
    }
}

async fn join(
    mut client: TcpStream,
    from: SocketAddr,
    place: usize,
    node: u16,
    mut cut: watch::Receiver<Option<Vec<usize>>>,
) {
    let is_from = |other: usize| from.ip() == IpAddr::V4(Bus::source(other));
    let is_cut = |cut: &Option<Vec<usize>>| {
        cut.as_ref().is_none_or(|cut| cut.iter().any(|other| *other == place || is_from(*other)))
    };
    if is_cut(&cut.borrow_and_update()) {
        return;
    }
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, node)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        _ = cut.wait_for(is_cut) => {}
    }
}

/// What the server at `place` is started with: its bus at `bus`, by way of the proxy at `announced`.
pub(crate) fn arguments(place: usize, bus: u16, announced: u16) -> Vec<String> {
    let source = Bus::source(place).to_string();
    let pairs = [
        ["--cluster-enabled", "yes"],
        // They come from other addresses of the loopback.
        ["--protected-mode", "no"],
        ["--cluster-config-file", "nodes.conf"],
        ["--cluster-port", &bus.to_string()],
        ["--cluster-announce-ip", "127.0.0.1"],
        ["--cluster-announce-bus-port", &announced.to_string()],
        ["--bind-source-addr", &source],
        ["--cluster-node-timeout", "1000"],
        ["--cluster-require-full-coverage", "no"],
        ["--cluster-replica-validity-factor", "0"],
        ["--cluster-allow-replica-migration", "no"],
        ["--repl-diskless-sync-delay", "0"],
    ];
    pairs.concat().into_iter().map(str::to_owned).collect()
}

/// Runs a command on one of the nodes.
pub(crate) type Run<'a> = &'a dyn Fn(usize, &[&str]) -> Value;

/// Makes servers a cluster: so many primaries, which share the slots, then replicas of the first of them.
pub(crate) fn form(primaries: usize, ports: &[u16], buses: &[u16], run: Run<'_>) {
    let count = ports.len();
    for node in 0..count {
        run(node, &["CLUSTER", "SET-CONFIG-EPOCH", &(node + 1).to_string()]);
        if node < primaries {
            let (first, last) = share(node, primaries);
            run(node, &["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
        let (port, bus) = (ports[node].to_string(), buses[node].to_string());
        run(0, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
    }
    wait("all know each other", || (0..count).all(|node| known(node, run) == count));
    for node in primaries..count {
        let primary = text(&run(node - primaries, &["CLUSTER", "MYID"]));
        run(node, &["CLUSTER", "REPLICATE", &primary]);
    }
    wait("all is in order", || (0..count).all(|node| is_well(node, run)));
    wait("all are agreed", || {
        let first = slots(0, run);
        (1..count).all(|node| slots(node, run) == first)
    });
}

/// The first and the last slot of a primary.
pub(crate) fn share(node: usize, primaries: usize) -> (usize, usize) {
    let share = 16_384 / primaries;
    let last = if node + 1 == primaries { 16_384 } else { share * (node + 1) };
    (share * node, last - 1)
}

pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        other => format!("{other:?}"),
    }
}

fn known(node: usize, run: Run<'_>) -> usize {
    let nodes = text(&run(node, &["CLUSTER", "NODES"]));
    nodes.lines().filter(|line| !line.contains("handshake")).count()
}

/// Whether a node serves, or follows whoever does.
pub(crate) fn is_well(node: usize, run: Run<'_>) -> bool {
    let replication = text(&run(node, &["INFO", "replication"]));
    let is_linked = replication.contains("role:master") || replication.contains("link_status:up");
    is_linked && text(&run(node, &["CLUSTER", "INFO"])).contains("cluster_state:ok")
}

/// Who has which slots, as a node sees it.
fn slots(node: usize, run: Run<'_>) -> Vec<String> {
    let nodes = text(&run(node, &["CLUSTER", "NODES"]));
    let owners = nodes.lines().filter(|line| line.split(' ').count() > 8).map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        format!("{} {} {}", fields[0], fields[6], fields[8..].join(" "))
    });
    let mut owners: Vec<String> = owners.collect();
    owners.sort();
    owners
}

fn wait(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_mins(1), "{what}: never");
        std::thread::sleep(Duration::from_millis(20));
    }
}
