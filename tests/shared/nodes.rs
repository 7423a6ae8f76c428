//! A real cluster of redis-servers: three primaries with a replica each, on free ports of the loopback.

use std::time::{Duration, Instant};

use countersign::store::redis::{Address, ClusterOptions};
use redis::Client;

use crate::cluster::{Bus, arguments, form, text};
use crate::free_port::free_port;
use crate::server::RedisServer;

/// Three primaries, then the replica of each.
pub(crate) struct Nodes {
    pub(crate) all: Vec<RedisServer>,
    pub(crate) bus: Bus,
}

impl Nodes {
    pub(crate) fn start() -> Self {
        Self::of(3, 3)
    }

    /// So many primaries, and replicas of the first of them.
    pub(crate) fn of(primaries: usize, replicas: usize) -> Self {
        Self::reached(primaries, replicas, &[], None)
    }

    /// With these arguments too, and reached in another way.
    pub(crate) fn reached(
        primaries: usize,
        replicas: usize,
        more: &[&str],
        reach: Option<fn(u16) -> Client>,
    ) -> Self {
        let buses: Vec<u16> = (0..primaries + replicas).map(|_| free_port()).collect();
        let bus = Bus::start(buses.clone());
        let start = |(place, port): (usize, &u16)| {
            let arguments = arguments(place, *port, bus.ports[place]);
            let arguments = arguments.iter().map(|text| &**text).chain(more.iter().copied());
            RedisServer::reached(&arguments.collect::<Vec<_>>(), reach)
        };
        let all: Vec<RedisServer> = buses.iter().enumerate().map(start).collect();
        let ports: Vec<u16> = all.iter().map(|node| node.port).collect();
        form(primaries, &ports, &bus.ports, &|node, words| all[node].run(words));
        Self { all, bus }
    }

    /// How a gateway reaches it, by way of `name` for a port.
    pub(crate) fn options(name: impl Fn(u16) -> u16 + Send + Sync + 'static) -> ClusterOptions {
        ClusterOptions {
            lease: Duration::from_secs(1),
            by_name: false,
            name: Box::new(move |host, port| format!("{host}:{}", name(port))),
            reach: Box::new(|name| Client::open(format!("redis://{name}"))),
        }
    }

    /// Those that are asked for the others.
    pub(crate) fn seeds(ports: &[u16]) -> Vec<Address> {
        let seed = |port: &u16| {
            let name = format!("127.0.0.1:{port}");
            Address { client: Client::open(format!("redis://{name}")).unwrap(), name }
        };
        ports.iter().map(seed).collect()
    }

    pub(crate) fn ports(&self) -> Vec<u16> {
        self.all.iter().map(|node| node.port).collect()
    }

    /// Waits until a node is a primary with slots by the word of all others that answer.
    pub(crate) async fn until_primary(&self, place: usize, others: &[usize]) {
        let id = id(&self.all[place]);
        let begun = Instant::now();
        let is_primary = |node: &RedisServer| {
            let nodes = text(&node.run(&["CLUSTER", "NODES"]));
            let line = nodes.lines().find(|line| line.starts_with(&id)).unwrap_or_default();
            line.contains("master") && line.split(' ').count() > 8
        };
        while !others.iter().all(|other| is_primary(&self.all[*other])) {
            assert!(begun.elapsed() < Duration::from_secs(30), "no failover came about");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Lets a replica take its primary's place with that one's consent. A node gives up after five seconds, and says
    /// nothing of it, so it is asked again.
    pub(crate) async fn hand_over(&self, replica: usize) {
        self.until_replica(replica).await;
        let begun = Instant::now();
        let role = || text(&self.all[replica].run(&["INFO", "replication"]));
        while !role().contains("role:master") {
            assert!(
                begun.elapsed() < Duration::from_mins(1),
                "it is never handed over: {}",
                role()
            );
            // Where its primary is out of reach for a moment it refuses.
            let asked = Instant::now();
            let is_taken = self.all[replica].try_run(&["CLUSTER", "FAILOVER"]).is_ok();
            while is_taken
                && asked.elapsed() < Duration::from_secs(6)
                && !role().contains("role:master")
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a node has synchronised with its primary.
    pub(crate) async fn until_replica(&self, place: usize) {
        let begun = Instant::now();
        loop {
            let info = text(&self.all[place].run(&["INFO", "replication"]));
            if info.contains("role:slave") && info.contains("master_link_status:up") {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not come back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The name of a node.
pub(crate) fn id(node: &RedisServer) -> String {
    text(&node.run(&["CLUSTER", "MYID"]))
}
