//! What goes wrong, one thing after another, by the dice.

use std::thread::sleep;
use std::time::Duration;

use countersign::clock::Micros;

use crate::dice::Dice;
use crate::fault_proxy::Mode;
use crate::redis_server::RedisServer;
use crate::world::{FAKED, GATEWAYS, Topology, World};

/// What may happen.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    /// A server is killed and comes back empty.
    RestartEmpty,
    /// A server is killed and comes back with what it saved a while before.
    RestartSnapshot,
    /// A server stands still.
    StopServer,
    /// All that a server holds is deleted.
    Flush,
    /// A server can write nothing more.
    Full,
    /// A server's policy changes to one that evicts, and back.
    Evicting,
    /// A server's clock is off, ahead or behind.
    Clock,
    /// Nothing passes between one gateway and one server, one way or both, and comes late.
    Hold,
    /// One gateway's connections to one server are reset, and new ones too.
    Reset,
    /// A server's answers end connections.
    HalfClose,
    /// A link is slow.
    Delay,
    /// A link is narrow.
    Throttle,
    /// No gateway reaches a server.
    CutOff,
    /// A gateway is killed and comes back.
    KillGateway,
    /// A gateway stands still.
    StopGateway,
    /// A replica of a cluster is made the primary by hand, with or without the old one's or anyone's consent.
    Failover,
    /// A primary of a cluster is cut off from the other nodes, and one gateway from all but that one.
    Partition,
}

impl Kind {
    pub(crate) const ALL: [Self; 15] = [
        Self::RestartEmpty,
        Self::RestartSnapshot,
        Self::StopServer,
        Self::Flush,
        Self::Full,
        Self::Evicting,
        Self::Clock,
        Self::Hold,
        Self::Reset,
        Self::HalfClose,
        Self::Delay,
        Self::Throttle,
        Self::CutOff,
        Self::KillGateway,
        Self::StopGateway,
    ];

    /// Those that such servers can suffer.
    pub(crate) fn of(topology: Topology) -> Vec<Self> {
        let mut all = Self::ALL.to_vec();
        if topology == Topology::Cluster {
            all.extend([Self::Failover, Self::Partition]);
        }
        all
    }

    /// Whether a store may forget or another may take its place.
    fn moves_limits(self) -> bool {
        !matches!(self, Self::KillGateway | Self::StopGateway)
    }
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) began: Micros,
    pub(crate) undone: Micros,
    pub(crate) moves_limits: bool,
}

/// Lets one thing go wrong, for at most `longest` milliseconds, and sets it right.
pub(crate) fn inflict(world: &World, kind: Kind, longest: u64, dice: &mut Dice) -> Fault {
    let held = dice.ms(500..longest.max(501));
    let (mut server, gateway) = (dice.below(world.servers.len()), dice.below(GATEWAYS));
    let primaries = if world.bus.is_some() { world.primaries() } else { Vec::new() };
    if !primaries.is_empty() {
        server = dice.one(&primaries);
    }
    let mut began = world.now();
    match kind {
        Kind::RestartEmpty | Kind::RestartSnapshot => {
            began = restart(world, server, kind == Kind::RestartSnapshot, dice);
        }
        Kind::StopServer | Kind::Flush | Kind::Full | Kind::Evicting | Kind::Clock => {
            // Not everyone's clock can be set.
            let server = match (kind, world.topology) {
                (Kind::Clock, Topology::Independent(servers)) => servers - 1,
                (Kind::Clock, Topology::Cluster) => FAKED,
                _ => server,
            };
            trouble(world, &world.servers[server].lock().unwrap(), kind, held, dice);
        }
        Kind::Hold | Kind::Reset | Kind::HalfClose | Kind::Delay | Kind::Throttle => {
            let mode = match kind {
                Kind::Hold => dice.one(&[Mode::HoldAll, Mode::HoldRequests, Mode::HoldReplies]),
                Kind::Reset => Mode::Reset,
                Kind::HalfClose => Mode::HalfClose,
                Kind::Delay => Mode::Delay(dice.ms(5..600)),
                _ => Mode::Throttle(2_000),
            };
            let link = &world.links[gateway][server];
            link.set(mode);
            sleep(held);
            link.set(Mode::Pass);
        }
        Kind::CutOff => {
            let mode = dice.one(&[Mode::HoldAll, Mode::Reset]);
            world.links.iter().for_each(|links| links[server].set(mode));
            sleep(held);
            world.links.iter().for_each(|links| links[server].set(Mode::Pass));
        }
        Kind::Failover | Kind::Partition => {
            upset(world, kind, (server, gateway), held, &primaries, dice);
        }
        Kind::KillGateway | Kind::StopGateway => {
            fell(world, gateway, (kind == Kind::StopGateway).then_some(held), dice);
        }
    }
    Fault { kind, began, undone: world.now(), moves_limits: kind.moves_limits() }
}

/// Kills a server, which comes back with what it saved a while before, or with nothing; when it was killed.
fn restart(world: &World, server: usize, saved: bool, dice: &mut Dice) -> Micros {
    let mut server = world.servers[server].lock().unwrap();
    if saved {
        // A replica may be reading its primary's.
        let _ = server.run(&["SAVE"]);
        sleep(dice.ms(200..900));
    }
    let began = world.now();
    server.kill();
    sleep(dice.ms(0..400));
    server.restart();
    server.lose_snapshot();
    began
}

fn trouble(world: &World, server: &RedisServer, kind: Kind, held: Duration, dice: &mut Dice) {
    // On a busy machine one may not be answered in time.
    let set = |name, value| {
        let is_set = (0..5).any(|_| server.run(&["CONFIG", "SET", name, value]).is_ok());
        assert!(is_set, "{name} {value} is not taken");
    };
    match kind {
        Kind::StopServer => {
            server.signal("STOP");
            sleep(held);
            server.signal("CONT");
        }
        // A primary may have become a replica meanwhile.
        Kind::Flush => drop(server.run(&["FLUSHALL"])),
        Kind::Full => {
            set("maxmemory", "1");
            sleep(held);
            set("maxmemory", "0");
        }
        Kind::Evicting => {
            set("maxmemory-policy", "allkeys-random");
            set("maxmemory", "1400kb");
            sleep(held);
            set("maxmemory", "0");
            set("maxmemory-policy", "noeviction");
        }
        _ => {
            server.set_clock(dice.one(&[-30, -10, -3, 3, 10, 30]), &*world.clock);
            sleep(held);
            server.set_clock(0, &*world.clock);
        }
    }
}

/// Another node of the cluster takes a primary's place.
fn upset(
    world: &World,
    kind: Kind,
    (server, gateway): (usize, usize),
    held: Duration,
    primaries: &[usize],
    dice: &mut Dice,
) {
    if kind == Kind::Failover {
        let how = dice.one(&["", "FORCE", "TAKEOVER"]);
        let words = ["CLUSTER", "FAILOVER", how];
        let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let all = 0..world.servers.len();
        let replicas: Vec<usize> = all.filter(|node| !primaries.contains(node)).collect();
        if !replicas.is_empty() {
            // It may have become one meanwhile, or be lost itself.
            let _ = world.servers[dice.one(&replicas)].lock().unwrap().run(&words);
        }
        sleep(held);
        return;
    }
    world.bus.as_ref().unwrap().cut(&[server]);
    for (place, links) in world.links.iter().enumerate() {
        for (to, link) in links.iter().enumerate() {
            if (place == gateway) != (to == server) {
                link.set(Mode::HoldAll);
            }
        }
    }
    sleep(held + Duration::from_secs(2));
    world.mend();
}

/// Kills a gateway, or lets it stand still for a while. Meanwhile a balancer sends nobody there, nor before it says that
/// it is ready.
fn fell(world: &World, gateway: usize, held: Option<Duration>, dice: &mut Dice) {
    let traffic = world.traffic.as_ref().unwrap();
    let mut process = world.gateways[gateway].lock().unwrap();
    traffic.set_open(gateway, false);
    if let Some(held) = held {
        process.signal("STOP");
        sleep(held);
        process.signal("CONT");
    } else {
        process.kill();
        sleep(dice.ms(0..500));
        process.restart();
    }
    // With one server that is lost meanwhile it may take long.
    for _ in 0..100 {
        if process.is_ready() {
            break;
        }
        sleep(Duration::from_millis(30));
    }
    traffic.set_open(gateway, true);
}
