//! Starts the data plane and stops it: threads, sockets, drain.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread;
use std::time::Instant;

use tokio::runtime;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::backends::SharedBackends;
use super::connection;
use super::cut::{Cutter, Sleepers, keep_waking};
use super::desk::Desk;
use super::files::most_connections;
use super::forward::Upstreams;
use super::listener::{BindError, Crowd, Dealer, Hand, bind};
use super::observe::Observer;
use super::request_id::RequestIds;
use super::tls::{self, TlsError};
use super::tunnels::Tunnels;
use super::worker::{Dealt, Worker};
use crate::admit::Gate;
use crate::clock::{Clock, Micros};
use crate::config::Config;
use crate::registry::Keys;
use crate::store::Store;

/// Why a gateway does not start.
#[derive(Debug)]
pub enum StartError {
    /// A listener cannot be opened.
    Bind(BindError),
    /// A listener has no TLS; its name is given.
    Tls(Arc<str>, Box<TlsError>),
    /// The system gives no thread, no event queue or no randomness.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => error.fmt(f),
            Self::Tls(listener, error) => write!(f, "listener `{listener}`: {error}"),
            Self::System(error) => {
                write!(
                    f,
                    "cannot start a worker: {error}; check the limits of threads and open files"
                )
            }
        }
    }
}

impl std::error::Error for StartError {}

/// How far a gateway's life has come.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Phase {
    Serving,
    Draining,
    Aborting,
}

/// Returns once the gateway has come to `phase`; at once when whoever ran it is gone.
pub(super) async fn reaches(life: &mut watch::Receiver<Phase>, phase: Phase) {
    let _ = life.wait_for(|now| *now >= phase).await;
}

/// Serves until `shutdown`, then drains; `hurry` ends the draining.
pub async fn serve<K, S, C, O>(
    config: &Arc<Config>,
    gate: &Arc<Gate<K, S, C>>,
    observer: &Arc<O>,
    shutdown: impl Future<Output = ()>,
    hurry: impl Future<Output = ()>,
) -> Result<(), StartError>
where
    K: Keys + Send + Sync + 'static,
    S: Store + Send + Sync + 'static,
    C: Clock + 'static,
    O: Observer,
{
    let running = Gateway::start(config, gate, observer)?;
    shutdown.await;
    running.drain_unless(hurry).await;
    Ok(())
}

/// Starts gateways.
#[derive(Debug)]
pub struct Gateway;

impl Gateway {
    /// Opens the listeners and starts the workers. It needs no runtime of the caller's.
    pub fn start<K, S, C, O>(
        config: &Arc<Config>,
        gate: &Arc<Gate<K, S, C>>,
        observer: &Arc<O>,
    ) -> Result<Running, StartError>
    where
        K: Keys + Send + Sync + 'static,
        S: Store + Send + Sync + 'static,
        C: Clock + 'static,
        O: Observer,
    {
        let mut sockets = Vec::new();
        let mut acceptors = Vec::new();
        for listener in &config.listeners {
            let tls = listener.tls.as_ref().map(tls::server_config).transpose();
            let tls =
                tls.map_err(|error| StartError::Tls(Arc::clone(&listener.name), error.into()))?;
            acceptors.push(tls.map(TlsAcceptor::from));
            sockets.push(bind(listener).map_err(StartError::Bind)?);
        }
        let addresses =
            sockets.iter().map(std::net::TcpListener::local_addr).collect::<Result<_, _>>();
        let addresses = addresses.map_err(StartError::System)?;

        let (life, phase) = watch::channel(Phase::Serving);
        let (alive, ended) = mpsc::channel(1);
        let shared = Arc::new(SharedBackends::new(&config.upstreams));
        let (cutter, told) = Cutter::new();
        let rules = &config.websocket;
        let tunnels = Arc::new(Tunnels::new(rules.max_open, rules.max_open_each));
        let mut dealer = Dealer {
            workers: Vec::new(),
            observer: Arc::clone(observer),
            most: most_connections(config, workers(config)),
            crowd: Crowd::new(&config.server),
        };
        for number in 0..workers(config) {
            let (deal, dealt) = mpsc::unbounded_channel();
            dealer.workers.push(Hand { load: Arc::new(AtomicUsize::new(0)), deal });
            let seed = Seed {
                config: Arc::clone(config),
                gate: Arc::clone(gate),
                observer: Arc::clone(observer),
                shared: Arc::clone(&shared),
                acceptors: acceptors.clone(),
                request_ids: RequestIds::new()
                    .map_err(|error| StartError::System(io::Error::other(error.to_string())))?,
                dealt,
                phase: phase.clone(),
                told: told.clone(),
                tunnels: Arc::clone(&tunnels),
            };
            spawn(format!("worker-{number}"), alive.clone(), move || seed.grow())?;
        }
        let observer = Arc::clone(observer);
        spawn("accept".into(), alive, move || accept(dealer, sockets, phase))?;
        Ok(Running {
            addresses,
            backends: shared,
            cutter,
            life,
            ended,
            draining: Box::new(move || observer.draining()),
        })
    }
}

/// A gateway that serves. Dropping it stops it at once.
pub struct Running {
    /// Where it listens, in the order of the configuration.
    pub addresses: Vec<SocketAddr>,
    /// How its backends are.
    pub backends: Arc<SharedBackends>,
    /// Cuts the requests under way whose keys have ended.
    pub cutter: Cutter,
    life: watch::Sender<Phase>,
    ended: mpsc::Receiver<()>,
    draining: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Running {
    /// Takes no more connections, lets what is under way finish within the drain timeout, and ends.
    pub async fn drain(self) {
        self.drain_unless(std::future::pending()).await;
    }

    /// As [`Running::drain`], but ends at once when `hurry` does.
    pub async fn drain_unless(mut self, hurry: impl Future<Output = ()>) {
        (self.draining)();
        self.life.send_replace(Phase::Draining);
        tokio::select! {
            _ = self.ended.recv() => return,
            () = hurry => {}
        }
        self.life.send_replace(Phase::Aborting);
        self.ended.recv().await;
    }
}

/// What a worker is made of; what it becomes cannot leave its thread.
struct Seed<K, S, C, O: Observer> {
    config: Arc<Config>,
    gate: Arc<Gate<K, S, C>>,
    observer: Arc<O>,
    shared: Arc<SharedBackends>,
    acceptors: Vec<Option<TlsAcceptor>>,
    request_ids: RequestIds,
    dealt: mpsc::UnboundedReceiver<Dealt<O>>,
    phase: watch::Receiver<Phase>,
    told: watch::Receiver<()>,
    tunnels: Arc<Tunnels>,
}

impl<K, S, C, O> Seed<K, S, C, O>
where
    K: Keys + Send + Sync + 'static,
    S: Store + Send + Sync + 'static,
    C: Clock + 'static,
    O: Observer,
{
    async fn grow(self) {
        let sleepers = Rc::<Sleepers>::default();
        tokio::task::spawn_local(keep_waking(Rc::clone(&sleepers), self.told));
        let worker = Worker {
            upstreams: Upstreams::new(
                Arc::clone(&self.config.upstreams),
                self.shared,
                Arc::clone(&self.config.permissions),
                Arc::new(GateClock(Arc::clone(&self.gate))),
            ),
            http1: connection::http1(&self.config.server),
            http2: connection::http2(&self.config.server),
            config: self.config,
            gate: self.gate,
            tally: Rc::new(self.observer.tally()),
            scratches: Vec::new().into(),
            request_ids: self.request_ids,
            desk: Desk::default(),
            sleepers,
            tunnels: self.tunnels,
            scratch: super::tunnel::Scratch::default(),
            tls: self.acceptors,
        };
        Rc::new(worker).run(self.dealt, self.phase).await;
    }
}

/// The clock that the gate judges by.
struct GateClock<K, S, C>(Arc<Gate<K, S, C>>);

impl<K: Send + Sync, S: Send + Sync, C: Clock> Clock for GateClock<K, S, C> {
    fn now(&self) -> Micros {
        self.0.clock.now()
    }

    fn both(&self) -> (Micros, Instant) {
        self.0.clock.both()
    }
}

/// Accepts on all listeners. When it ends the workers learn that nothing more will come.
async fn accept<O: Observer>(
    dealer: Dealer<O>,
    sockets: Vec<std::net::TcpListener>,
    phase: watch::Receiver<Phase>,
) {
    let dealer = Rc::new(dealer);
    let mut listeners = tokio::task::JoinSet::new();
    for (index, socket) in sockets.into_iter().enumerate() {
        let Ok(socket) = tokio::net::TcpListener::from_std(socket) else { continue };
        let (dealer, phase) = (Rc::clone(&dealer), phase.clone());
        listeners.spawn_local(async move { dealer.accept(index, socket, phase).await });
    }
    while listeners.join_next().await.is_some() {}
}

/// Runs `task` on a thread with a runtime of its own. `alive` is held until it has ended.
fn spawn<F: Future<Output = ()> + 'static>(
    name: String,
    alive: mpsc::Sender<()>,
    task: impl FnOnce() -> F + Send + 'static,
) -> Result<(), StartError> {
    let (made, is_made) = std::sync::mpsc::channel();
    let run = move || {
        // A runtime whose tasks are all local: in a `LocalSet` each would pass through a second queue. It cannot
        // leave its thread, so it is made there.
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build_local(runtime::LocalOptions::default());
        match runtime {
            Ok(runtime) => {
                // Whoever starts us waits for this.
                let _ = made.send(Ok(()));
                runtime.block_on(async { task().await });
                drop(runtime);
            }
            Err(error) => drop(made.send(Err(error))),
        }
        drop(alive);
    };
    thread::Builder::new().name(name).spawn(run).map_err(StartError::System)?;
    let ended = io::Error::other("a thread ended at once");
    is_made.recv().unwrap_or(Err(ended)).map_err(StartError::System)
}

fn workers(config: &Config) -> usize {
    match config.server.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        some => some,
    }
}
