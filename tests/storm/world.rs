//! Three gateways over real servers, each pair joined by a link that can fail.

use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use countersign::clock::{Clock, Micros, SystemClock};
use countersign::registry::postgres::Postgres;
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::backend::Backend;
use crate::clients::LEAD;
use crate::cluster::{Bus, arguments, form, text};
use crate::fault_proxy::{FaultProxy, Mode};
use crate::free_port::free_port;
use crate::gateway::GatewayProcess;
use crate::postgres::{Server, blocking, patient};
use crate::redis_server::RedisServer;
use crate::settings::{Reach, alone, greedy, growing, honest};
use crate::traffic::{Load, Traffic};

pub(crate) const GATEWAYS: usize = 3;
/// Requests a second that sign growing numbers.
const GROWING_RATE: u32 = 3;

/// How the servers stand to each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Topology {
    /// So many that know nothing of each other.
    Independent(usize),
    /// Three primaries with a replica each.
    Cluster,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) topology: Topology,
    /// By which the nodes of a cluster hear of each other.
    pub(crate) bus: Option<Bus>,
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) servers: Vec<Mutex<RedisServer>>,
    /// By gateway, then by server.
    pub(crate) links: Vec<Vec<FaultProxy>>,
    pub(crate) gateways: Vec<Mutex<GatewayProcess>>,
    pub(crate) backend: Backend,
    pub(crate) traffic: Option<Arc<Traffic>>,
    /// Where gateways reserve growing numbers, if any such are sent.
    tables: Option<Arc<Server>>,
    threads: Vec<Thread>,
    folder: TempDir,
}

impl World {
    /// Servers, links and the backend; no gateway yet.
    pub(crate) fn empty(topology: Topology, arguments: &[&str]) -> Self {
        let clock = Arc::new(SystemClock::start());
        let (servers, bus) = match topology {
            Topology::Independent(servers) => {
                // The last one's clock can be set.
                let start = |n| RedisServer::start(n + 1 == servers, arguments);
                ((0..servers).map(start).collect(), None)
            }
            Topology::Cluster => clustered(),
        };
        let servers: Vec<_> = servers.into_iter().map(Mutex::new).collect();
        let ports: Vec<u16> = servers.iter().map(|server| server.lock().unwrap().port).collect();
        let wires = Thread::start("wires");
        let (backend, links) = wires.run({
            let clock = Arc::clone(&clock);
            async move {
                let mut links = Vec::new();
                for _ in 0..GATEWAYS {
                    let mut to_servers = Vec::new();
                    for port in &ports {
                        to_servers.push(FaultProxy::start(*port).await);
                    }
                    links.push(to_servers);
                }
                (Backend::start(clock).await, links)
            }
        });
        Self {
            topology,
            bus,
            clock,
            servers,
            links,
            gateways: Vec::new(),
            backend,
            traffic: None,
            tables: None,
            threads: vec![wires],
            folder: TempDir::new().unwrap(),
        }
    }

    /// The same with gateways that are ready.
    pub(crate) fn start(topology: Topology, deadline_ms: u64) -> Self {
        let mut world = Self::empty(topology, &[]);
        let url = world.reserve();
        for gateway in 0..GATEWAYS {
            let ports = world.reach(gateway);
            let address = world.backend.addresses[gateway];
            let folder = world.folder.path();
            let gateway = GatewayProcess::start(folder, &ports, address, deadline_ms, &url);
            world.gateways.push(Mutex::new(gateway));
        }
        for gateway in &world.gateways {
            gateway.lock().unwrap().wait_until_ready();
        }
        // Deadlines are judged a while after stamps are.
        sleep(LEAD);
        world
    }

    /// Starts a registry in which gateways reserve growing numbers; tells its address.
    fn reserve(&mut self) -> String {
        let tables = Server::shared();
        let url = self.threads[0].run({
            let tables = Arc::clone(&tables);
            async move {
                let url = tables.empty_database().await;
                blocking(&patient(&url), |options| Postgres::migrate(&options)).await.unwrap();
                url
            }
        });
        self.tables = Some(tables);
        url
    }

    /// How a gateway reaches the servers.
    pub(crate) fn reach(&self, gateway: usize) -> Reach {
        let ports = self.links[gateway].iter().map(|link| link.port).collect();
        let announced = match self.topology {
            Topology::Independent(_) => Vec::new(),
            Topology::Cluster => {
                self.servers.iter().map(|server| server.lock().unwrap().port).collect()
            }
        };
        Reach { ports, announced }
    }

    /// The servers that take writes, as they say themselves.
    pub(crate) fn primaries(&self) -> Vec<usize> {
        let is_primary = |place: &usize| {
            let role = self.servers[*place].lock().unwrap().run(&["INFO", "replication"]);
            role.is_ok_and(|role| text(&role).contains("role:master"))
        };
        (0..self.servers.len()).filter(is_primary).collect()
    }

    pub(crate) fn ports(&self) -> Vec<u16> {
        self.gateways.iter().map(|gateway| gateway.lock().unwrap().port).collect()
    }

    /// Lets clients and the attacker loose on the gateways at `ports`.
    pub(crate) fn begin(&mut self, ports: &[u16], load: Load, seed: u64) -> Arc<Traffic> {
        let clients = Thread::start("clients");
        let traffic = Traffic::new(ports, Arc::clone(&self.clock), seed);
        // Whoever signs growing numbers has an attacker as well.
        let grows = if self.tables.is_some() && load.most_replays > 0 { GROWING_RATE } else { 0 };
        let all = [
            (honest(), load.honest),
            (greedy(), load.greedy),
            (growing(), grows),
            (alone(), load.alone),
        ];
        for (who, rate) in all.into_iter().filter(|(_, rate)| *rate > 0) {
            let run = Arc::clone(&traffic).run(who, rate, load.most_replays);
            clients.run(async move { drop(tokio::spawn(run)) });
        }
        self.threads.push(clients);
        self.traffic = Some(Arc::clone(&traffic));
        traffic
    }

    pub(crate) fn now(&self) -> Micros {
        self.clock.now()
    }

    /// Every link as it should be.
    pub(crate) fn mend(&self) {
        for link in self.links.iter().flatten() {
            link.set(Mode::Pass);
        }
        if let Some(bus) = &self.bus {
            bus.cut(&[]);
        }
    }

    /// What the gateways wrote, for whoever looks into a failure.
    pub(crate) fn logs(&self) -> String {
        let tail = |gateway: &Mutex<GatewayProcess>| {
            let log = gateway.lock().unwrap().log();
            let lines: Vec<_> = log.lines().collect();
            lines[lines.len().saturating_sub(30)..].join("\n")
        };
        self.gateways.iter().map(tail).collect::<Vec<_>>().join("\n--\n")
    }
}

/// The servers of a cluster. One primary's clock can be set.
fn clustered() -> (Vec<RedisServer>, Option<Bus>) {
    let buses: Vec<u16> = (0..NODES).map(|_| free_port()).collect();
    let bus = Bus::start(buses.clone());
    let start = |(place, port): (usize, &u16)| {
        let arguments = arguments(place, *port, bus.ports[place]);
        let arguments: Vec<&str> = arguments.iter().map(|text| &**text).collect();
        RedisServer::start(place == FAKED, &arguments)
    };
    let servers: Vec<RedisServer> = buses.iter().enumerate().map(start).collect();
    let ports: Vec<u16> = servers.iter().map(|server| server.port).collect();
    form(PRIMARIES, &ports, &bus.ports, &|node, words| servers[node].run(words).unwrap());
    (servers, Some(bus))
}

/// The first nodes of a cluster, each of which has a share of the slots, and all.
pub(crate) const PRIMARIES: usize = NODES / 2;
const NODES: usize = 6;
/// The node of a cluster whose clock can be set.
pub(crate) const FAKED: usize = 2;

/// A thread with a runtime, which ends when dropped.
#[derive(Debug)]
struct Thread {
    handle: tokio::runtime::Handle,
    stop: Option<oneshot::Sender<()>>,
    joined: Option<JoinHandle<()>>,
}

impl Thread {
    fn start(name: &str) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let run = move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tell.send(runtime.handle().clone()).unwrap();
            let _ = runtime.block_on(stopped);
            runtime.shutdown_timeout(Duration::from_secs(1));
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run).unwrap();
        Self { handle: told.recv().unwrap(), stop: Some(stop), joined: Some(thread) }
    }

    fn run<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> T {
        let (tell, told) = std::sync::mpsc::channel();
        drop(self.handle.spawn(async move { drop(tell.send(task.await)) }));
        told.recv().unwrap()
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.joined.take() {
            let _ = thread.join();
        }
    }
}
