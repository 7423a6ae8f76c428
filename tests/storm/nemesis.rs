//! What goes wrong, one thing after another, by the dice.

use std::thread::sleep;
use std::time::Duration;

use countersign::clock::Micros;

use crate::dice::Dice;
use crate::fault_proxy::Mode;
use crate::world::{GATEWAYS, World};

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
    pub(crate) healed: Micros,
    pub(crate) moves_limits: bool,
}

/// Lets one thing go wrong, for at most `longest`, and sets it right.
pub(crate) fn inflict(world: &World, kind: Kind, longest: u64, dice: &mut Dice) -> Fault {
    let held = dice.ms(500..longest.max(501));
    let (server, gateway) = (dice.below(world.servers.len()), dice.below(GATEWAYS));
    let mut began = world.now();
    match kind {
        Kind::RestartEmpty => {
            let mut server = world.servers[server].lock().unwrap();
            server.lose_snapshot();
            server.kill();
            sleep(dice.ms(0..400));
            server.restart();
        }
        Kind::RestartSnapshot => {
            let mut server = world.servers[server].lock().unwrap();
            server.run(&["SAVE"]).unwrap();
            sleep(dice.ms(200..900));
            began = world.now();
            server.kill();
            sleep(dice.ms(0..200));
            server.restart();
            server.lose_snapshot();
        }
        Kind::StopServer => {
            let server = world.servers[server].lock().unwrap();
            server.signal("STOP");
            sleep(held);
            server.signal("CONT");
        }
        Kind::Flush => drop(world.servers[server].lock().unwrap().run(&["FLUSHALL"]).unwrap()),
        Kind::Full => {
            let server = world.servers[server].lock().unwrap();
            server.run(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
            sleep(held);
            server.run(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
        }
        Kind::Evicting => {
            let server = world.servers[server].lock().unwrap();
            server.run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]).unwrap();
            server.run(&["CONFIG", "SET", "maxmemory", "1400kb"]).unwrap();
            sleep(held);
            server.run(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
            server.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).unwrap();
        }
        Kind::Clock => {
            // The last one's can be set.
            let server = world.servers.last().unwrap().lock().unwrap();
            server.set_clock(dice.one(&[-30, -10, -3, 3, 10, 30]));
            sleep(held + Duration::from_secs(1));
            server.set_clock(0);
            sleep(Duration::from_secs(1));
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
        Kind::KillGateway | Kind::StopGateway => {
            let traffic = world.traffic.as_ref().unwrap();
            let mut process = world.gateways[gateway].lock().unwrap();
            traffic.set_open(gateway, false);
            if kind == Kind::KillGateway {
                process.kill();
                sleep(dice.ms(0..500));
                process.restart();
            } else {
                process.signal("STOP");
                sleep(held);
                process.signal("CONT");
            }
            drop(process);
            // A balancer sends nobody there before it says that it is ready; with one server that is lost meanwhile
            // it may take long.
            for _ in 0..100 {
                if world.gateways[gateway].lock().unwrap().is_ready() {
                    break;
                }
                sleep(Duration::from_millis(30));
            }
            traffic.set_open(gateway, true);
        }
    }
    Fault { kind, began, healed: world.now(), moves_limits: kind.moves_limits() }
}
