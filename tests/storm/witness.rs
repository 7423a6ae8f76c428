//! A client of the cluster beside the gateways, which asks every node directly whether it takes writes: what tells how
//! much of a recovery is the cluster's own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use countersign::clock::{Clock, Micros, SystemClock};
use redis::{Client, Connection, RedisResult, Value, cmd};

use crate::cluster::share;
use crate::world::{PRIMARIES, World};

/// Asks until it is dropped.
#[derive(Debug)]
pub(crate) struct Witness {
    seen: Arc<Mutex<Vec<Begun>>>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// When a node began to take writes of one of the shares of slots, which it had not taken before.
#[derive(Clone, Copy, Debug)]
struct Begun(Micros);

impl Witness {
    /// Of all nodes of a world.
    pub(crate) fn start(world: &World) -> Self {
        let (seen, is_over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let ports = world.servers.iter().map(|server| server.lock().unwrap().port);
        let ports: Vec<u16> = ports.collect();
        let keys = keys(ports[0]);
        let attend = |port: &u16| {
            let (seen, is_over) = (Arc::clone(&seen), Arc::clone(&is_over));
            let (clock, keys, port) = (Arc::clone(&world.clock), keys.clone(), *port);
            std::thread::spawn(move || attend(port, &keys, &clock, &seen, &is_over))
        };
        let threads = ports.iter().map(attend).collect();
        Self { seen, is_over, threads }
    }

    /// When the cluster served all slots again after a fault that was undone at `undone`, and went on to until `until`: when
    /// the last node began to take what it did not take before, by being lost and back or chosen in another's place. While
    /// nodes are still electing, or a primary that was restarted still waits for a better one, nothing is healed.
    pub(crate) fn healed(&self, began: Micros, undone: Micros, until: Micros) -> Micros {
        let seen = self.seen.lock().unwrap();
        let within = seen.iter().map(|begun| begun.0).filter(|at| began <= *at && *at <= until);
        within.max().map_or(undone, |at| at.max(undone))
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A key of each share of the slots.
fn keys(port: u16) -> Vec<String> {
    let mut connection = connect(port).unwrap();
    let mut key_of = |primary: usize| {
        let (first, last) = share(primary, PRIMARIES);
        let is_of = |key: &String| {
            let slot: usize =
                cmd("CLUSTER").arg("KEYSLOT").arg(key).query(&mut connection).unwrap();
            (first..=last).contains(&slot)
        };
        (0..10_000).map(|n| format!("witness:{n}")).find(is_of).unwrap()
    };
    (0..PRIMARIES).map(&mut key_of).collect()
}

fn attend(
    port: u16,
    keys: &[String],
    clock: &SystemClock,
    seen: &Mutex<Vec<Begun>>,
    is_over: &AtomicBool,
) {
    let mut kept = None;
    let mut takes = vec![false; keys.len()];
    while !is_over.load(Ordering::SeqCst) {
        for (key, took) in keys.iter().zip(&mut takes) {
            let takes = write(port, &mut kept, key);
            if takes && !*took {
                seen.lock().unwrap().push(Begun(clock.now()));
            }
            *took = takes;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether a node takes a write, as the gateways' calls are.
fn write(port: u16, kept: &mut Option<Connection>, key: &str) -> bool {
    let Ok(mut connection) = kept.take().map_or_else(|| connect(port), Ok) else { return false };
    let said: RedisResult<Value> = cmd("SET").arg(key).arg(1).query(&mut connection);
    match said {
        Ok(_) => {
            *kept = Some(connection);
            true
        }
        Err(error) => {
            // One that sends elsewhere, or refuses, is there.
            *kept = (!error.is_io_error()).then_some(connection);
            false
        }
    }
}

fn connect(port: u16) -> RedisResult<Connection> {
    let client = Client::open(format!("redis://127.0.0.1:{port}"))?;
    let connection = client.get_connection_with_timeout(SILENT)?;
    connection.set_read_timeout(Some(SILENT))?;
    Ok(connection)
}

/// How long after an answer it asks again.
const PAUSE: Duration = Duration::from_millis(20);
/// One that says nothing for so long takes nothing.
const SILENT: Duration = Duration::from_millis(500);
