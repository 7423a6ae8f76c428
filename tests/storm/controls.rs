//! The same with one safeguard taken away: the checker must find it. No configuration takes one away; the options of the
//! store are changed in the program that is the test, so these gateways are no processes of their own.

use std::fmt::Write;
use std::io;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use countersign::config::{Config, Contents, Lookup};
use countersign::service::Service;
use countersign::store::redis::{FUNCTION, Weakened};
use zeroize::Zeroizing;

use crate::checker::{Verdicts, check};
use crate::clients::{PASSPHRASE, SECRET};
use crate::dice::Dice;
use crate::fault_proxy::Mode;
use crate::phases::Terms;
use crate::settings::{Reach, configuration};
use crate::traffic::Load;
use crate::world::{GATEWAYS, Topology, World};

struct Control {
    name: &'static str,
    topology: Topology,
    arguments: &'static [&'static str],
    weakened: Weakened,
    /// What brings it out, over and over.
    provoke: fn(&World, &mut Dice),
    /// What must be found.
    finds: fn(&Verdicts) -> bool,
}

fn twice(verdicts: &Verdicts) -> bool {
    verdicts.accepted_twice > 0
}

fn too_often(verdicts: &Verdicts) -> bool {
    verdicts.over_limit > 0
}

/// Runs each of them until the checker finds what it must find.
pub(crate) fn run(terms: &Terms<'_>) {
    let line = "  if born >= fence then";
    assert_eq!(FUNCTION.matches(line).count(), 1, "the fence is one line");
    let unfenced = FUNCTION.replace(line, "  if false then");
    let all = of_one(unfenced.clone()).into_iter().chain(of_a_quorum()).chain(clustered(unfenced));
    for control in all {
        control.run(terms);
    }
}

/// Those of one server.
fn of_one(unfenced: String) -> [Control; 2] {
    [
        Control {
            name: "fence off",
            topology: Topology::Independent(1),
            arguments: &[],
            weakened: Weakened { function: Some(unfenced.into()), ..Weakened::default() },
            provoke: |world, dice| {
                drop(world.servers[0].lock().unwrap().run(&["FLUSHALL"]).unwrap());
                sleep(dice.ms(200..400));
            },
            finds: twice,
        },
        Control {
            name: "eviction allowed",
            topology: Topology::Independent(1),
            arguments: &["--maxmemory", "2mb", "--maxmemory-policy", "allkeys-random"],
            weakened: Weakened {
                may_evict: true,
                function: Some(forgetful().into()),
                ..Weakened::default()
            },
            provoke: |world, dice| {
                let server = world.servers[0].lock().unwrap();
                let filler = "x".repeat(1_000);
                for _ in 0..50 {
                    let name = format!("filler{}", dice.next());
                    // Where it is refused there is no room to be made.
                    let _ = server.run(&["SET", &name, &filler]);
                    sleep(Duration::from_millis(1));
                }
            },
            finds: twice,
        },
    ]
}

/// Those of a quorum.
fn of_a_quorum() -> [Control; 2] {
    [
        Control {
            name: "one vote in a quorum",
            topology: Topology::Independent(3),
            arguments: &[],
            weakened: Weakened { votes: Some(1), ..Weakened::default() },
            provoke: |world, dice| {
                world.mend();
                for (gateway, links) in world.links.iter().enumerate() {
                    let reached = (gateway + dice.below(2)) % links.len();
                    for (_, link) in links.iter().enumerate().filter(|(at, _)| *at != reached) {
                        link.set(Mode::Reset);
                    }
                }
                sleep(Duration::from_secs(1));
            },
            finds: twice,
        },
        Control {
            name: "one vote, and a server for each gateway",
            topology: Topology::Independent(3),
            arguments: &[],
            weakened: Weakened { votes: Some(1), ..Weakened::default() },
            provoke: |world, _| {
                for (gateway, links) in world.links.iter().enumerate() {
                    for (_, link) in links.iter().enumerate().filter(|(at, _)| *at != gateway) {
                        link.set(Mode::Reset);
                    }
                }
                sleep(Duration::from_secs(1));
            },
            finds: too_often,
        },
    ]
}

/// Those of a cluster.
fn clustered(unfenced: String) -> [Control; 2] {
    [
        Control {
            name: "fence off in a cluster",
            topology: Topology::Cluster,
            arguments: &[],
            weakened: Weakened { function: Some(unfenced.into()), ..Weakened::default() },
            provoke: |world, dice| {
                for primary in world.primaries() {
                    // It may be none any longer.
                    let _ = world.servers[primary].lock().unwrap().run(&["FLUSHALL"]);
                }
                sleep(dice.ms(200..400));
            },
            finds: twice,
        },
        Control {
            name: "lease off in a cluster",
            topology: Topology::Cluster,
            arguments: &[],
            weakened: Weakened { lease_off: true, ..Weakened::default() },
            provoke: |world, _| {
                // One primary is cut off with one gateway, and takes its time to notice.
                let timeout = ["CONFIG", "SET", "cluster-node-timeout", "600000"];
                drop(world.servers[0].lock().unwrap().run(&timeout).unwrap());
                world.bus.as_ref().unwrap().cut(&[0]);
                world.links[0].iter().skip(1).for_each(|link| link.set(Mode::Reset));
                world.links.iter().skip(1).for_each(|links| links[0].set(Mode::Reset));
                sleep(Duration::from_secs(1));
            },
            finds: twice,
        },
    ]
}

/// The library without what it knows of its buckets beside them: by that it notices that one was evicted.
fn forgetful() -> String {
    let line = "  if until_then and until_then * 1000 > now then";
    assert_eq!(FUNCTION.matches(line).count(), 1);
    FUNCTION.replace(line, "  if false then")
}

impl Control {
    fn run(self, terms: &Terms<'_>) {
        let Self { name, topology, arguments, weakened, provoke, finds } = self;
        let mut world = World::empty(topology, arguments);
        let services: Vec<Service> = (0..GATEWAYS)
            .map(|gateway| {
                let reach = world.reach(gateway);
                let text = configuration(0, 0, &reach, world.backend.addresses[gateway], 250);
                let mut config =
                    Config::parse(&text, Path::new("storm.toml"), &Environment).unwrap().config;
                config.shared.as_mut().unwrap().weakened = weakened.clone();
                Service::start(config).unwrap()
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for service in &services {
            let ready =
                async { tokio::time::timeout(Duration::from_secs(30), service.ready()).await };
            runtime.block_on(ready).unwrap();
        }
        let ports: Vec<u16> = services.iter().map(|service| service.listeners[0].port()).collect();
        let load = Load { honest: 60, greedy: 60, alone: 0, most_replays: 8 };
        let traffic = world.begin(&ports, load, terms.seed);
        let mut dice = Dice(terms.seed);
        let begun = Instant::now();
        let found = loop {
            provoke(&world, &mut dice);
            let verdicts = check(&world.backend.arrivals(), &traffic.sent(), &[]);
            // What is on its way while the two are asked counts at the next turn.
            if finds(&verdicts) || begun.elapsed() > Duration::from_secs(30) {
                break verdicts;
            }
        };
        traffic.stopped.store(true, std::sync::atomic::Ordering::SeqCst);
        println!(
            "control, {name}: accepted twice {}, over limit {} after {:.1} s",
            found.accepted_twice,
            found.over_limit,
            begun.elapsed().as_secs_f64()
        );
        assert!(finds(&found), "{name}: the checker must find what gets through");
        for service in services {
            runtime.block_on(service.drain_unless(std::future::ready(())));
        }
    }
}

/// An environment that holds the secrets.
struct Environment;

impl Lookup for Environment {
    fn variable(&self, name: &str) -> Option<Zeroizing<String>> {
        let value = match name {
            "S" => SECRET,
            "P" => PASSPHRASE,
            _ => return None,
        };
        Some(value.to_owned().into())
    }

    fn file(&self, _: &Path) -> io::Result<Contents> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// That dialects without a clock are refused over Redis, by name, before anything starts: unique nonces always, numbers
/// that grow where there is no registry that gateways share.
pub(crate) fn refused_over_redis() {
    for (dialect, path) in [("kraken", "/0/private/AddOrder"), ("upbit", "/v1/orders")] {
        let address = ([127, 0, 0, 1], 1).into();
        let mut text = configuration(0, 0, &Reach::of(vec![1]), address, 20);
        write!(
            text,
            "[[route]]\nname = \"timeless\"\nmethods = [\"POST\"]\npath = \"{path}\"\nupstream = \"exchange\"\n\
             dialect = \"{dialect}\"\npermission = \"trade\"\n"
        )
        .unwrap();
        let refused = Config::parse(&text, Path::new("storm.toml"), &Environment).unwrap_err();
        let says = format!("dialect {dialect} signs no time");
        assert!(refused.to_string().contains(&says), "{refused}");
    }
    println!(
        "without a clock: kraken (growing nonce) without a registry that gateways share, and upbit (unique nonce), are \
         refused over Redis"
    );
}
