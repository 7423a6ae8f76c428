//! The control plane: one ordinary runtime on a thread of its own, for the admin address and for what is looked at
//! now and then. The data plane never waits for it.

use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::gossip::Gossip;
use super::{LiveGate, StartError, api};
use crate::admin::{AdminApi, AdminState, Door, NotReady, Readiness, serve_at};
use crate::clock::{Clock, Micros, Standing, Steadiness};
use crate::config::Admin;
use crate::gateway::backends::SharedBackends;
use crate::metrics::Metrics;
use crate::registry::feed::Follower;
use crate::store::live::LiveStore;

/// How often readiness and the machine's clock are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// In how many looks in a row a mark must be missing to be said to. One may fall between two that are written.
const LASTING: u32 = 2;

/// The running control plane.
pub(super) struct Control {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Control")
    }
}

impl Control {
    pub(super) fn start(
        (admin, listener, api): (&Admin, TcpListener, AdminApi),
        metrics: &Arc<Metrics>,
        readiness: &Readiness,
        (gate, backends): (&Arc<LiveGate>, &Arc<SharedBackends>),
        follower: Follower,
        gossip: Gossip,
    ) -> Result<Self, StartError> {
        let (stop, stopped) = oneshot::channel();
        let watch = Watch {
            metrics: Arc::clone(metrics),
            readiness: readiness.clone(),
            gate: Arc::clone(gate),
            backends: Arc::clone(backends),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(StartError::System)?;
        let doors = {
            let _within = runtime.enter();
            api::doors(admin, listener)?
        };
        let run = move || {
            runtime.block_on(async move {
                let state = watch.admin_state().with_api(api.clone());
                tokio::select! {
                    () = api.follow_providers() => {}
                    () = serve(doors, &state, stopped) => {}
                    () = watch.look() => {}
                    () = watch.gate.store.watch() => {}
                    () = follower.run() => {}
                    () = gossip.run() => {}
                }
                gossip.finish().await;
            });
        };
        let thread = std::thread::Builder::new().name("control".into()).spawn(run);
        let thread = thread.map_err(StartError::System)?;
        Ok(Self { stop, thread })
    }

    /// Ends it, and waits until it has let go of the store.
    pub(super) fn stop(self) {
        // An error means that it has ended already.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// Serves at every door until it is told to stop, or nobody could tell any more.
async fn serve(doors: Vec<Door>, state: &AdminState, stopped: oneshot::Receiver<()>) {
    let (tell, told) = watch::channel(());
    let mut open = JoinSet::new();
    for door in doors {
        let mut told = told.clone();
        open.spawn(serve_at(door, state.clone(), async move {
            // An error means that nobody is left to tell.
            let _ = told.changed().await;
        }));
    }
    stopped.await.unwrap_or_default();
    tell.send_replace(());
    while open.join_next().await.is_some() {}
}

/// What is looked at.
#[derive(Clone)]
struct Watch {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    gate: Arc<LiveGate>,
    backends: Arc<SharedBackends>,
}

impl Watch {
    fn admin_state(&self) -> AdminState {
        let watch = self.clone();
        let collect = Box::new(move || watch.collect());
        AdminState::new(Arc::clone(&self.metrics), self.readiness.clone(), vec![collect])
    }

    /// Brings gauges up to date.
    fn collect(&self) {
        let store = self.gate.store.local();
        store.sweep(self.gate.clock.now());
        let (marks, nonces) = (store.marks(), store.unique());
        let fills = [
            (store.records(), store.capacity(), store.subjects()),
            (marks.live, marks.capacity, 0),
            (nonces.live, nonces.capacity, 0),
        ];
        for (id, (records, capacity, subjects)) in fills.into_iter().enumerate() {
            if let Some(meter) = self.metrics.store(id) {
                meter.set_fill(records, capacity, subjects);
            }
        }
        self.metrics.set_write_failures(store.write_failures());
        self.metrics.set_clock_apart(self.gate.clock.apart());
        if let LiveStore::Shared(shared) = &self.gate.store
            && shared.is_cluster()
        {
            self.metrics.set_map_age(shared.map_age());
        }
        if let Some(counts) = self.gate.keys.counts() {
            self.metrics.set_cache(&counts);
        }
        self.metrics.set_bans(&self.gate.guard.counts(self.gate.clock.now()));
        for (upstream, up, ejected) in self.backend_counts() {
            self.metrics.set_backends(upstream, up, ejected);
        }
    }

    /// Keeps readiness true, and says when the machine's clock has moved.
    async fn look(&self) {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut steadiness = Steadiness::default();
        let mut unnoted = 0;
        loop {
            ticks.tick().await;
            self.inform();
            let shared = match &self.gate.store {
                LiveStore::Embedded(_) => None,
                LiveStore::Shared(store) => Some(store),
            };
            self.hold_if(NotReady::Store, shared.is_some_and(|store| !store.is_usable()));
            let now = self.gate.clock.now();
            self.hold_if(NotReady::Fence, !self.gate.store.fence_passed(now));
            self.check_disk(self.gate.store.is_noted(now), &mut unnoted);
            if self.gate.keys.is_informed() {
                self.readiness.clear(NotReady::Registry);
            }
            self.hold_if(
                NotReady::NoBackend,
                self.backend_counts().iter().any(|(_, up, _)| *up == 0),
            );
            self.check_clock(&mut steadiness);
        }
    }

    /// Nothing signed is judged while the state directory does not take the mark that covers it. Once is none: the gateway
    /// may just have followed its clock ahead, and the next mark is under way.
    fn check_disk(&self, is_noted: bool, unnoted: &mut u32) {
        let before = std::mem::replace(unnoted, if is_noted { 0 } else { *unnoted + 1 });
        if *unnoted == LASTING {
            tracing::error!(
                "the state directory cannot be written: signed requests are refused until it can; make room on its disk"
            );
        } else if is_noted && before >= LASTING {
            tracing::info!("the state directory can be written again: signed requests are judged");
        }
        self.hold_if(NotReady::Disk, *unnoted >= LASTING);
    }

    /// Nothing signed is judged by a clock that was moved.
    fn check_clock(&self, steadiness: &mut Steadiness) {
        let was_sure = self.gate.clock.sure_since().is_some();
        let standing = self.gate.clock.check(steadiness);
        match standing {
            Standing::Sure if !was_sure => {
                tracing::info!(
                    "the machine's clock is right again: what is signed from now on is judged"
                );
            }
            Standing::Doubted { ahead, behind } if was_sure => tracing::error!(
                ahead_ms = ahead.as_millis(),
                behind_ms = behind.as_millis(),
                "the machine's clock was moved: signed requests are refused until it is steady"
            ),
            Standing::Follow(step) => tracing::warn!(
                step_ms = step.as_millis(),
                "the machine's clock went ahead and is steady: the gateway follows it, and judges what is signed from now on"
            ),
            Standing::Sure | Standing::Doubted { .. } => {}
        }
        self.hold_if(NotReady::Clock, self.gate.clock.sure_since().is_none());
    }

    /// Tells a shared store how much is known of keys: one that has forgotten counts only on what was learned since.
    fn inform(&self) {
        let LiveStore::Shared(store) = &self.gate.store else { return };
        if let Some(counts) = self.gate.keys.counts() {
            let now = self.gate.clock.now();
            store.set_informed(counts.age.map_or(Micros(0), |age| now - age));
        }
    }

    fn hold_if(&self, reason: NotReady, holds: bool) {
        if holds { self.readiness.hold(reason) } else { self.readiness.clear(reason) }
    }

    /// Each upstream with its backends up and ejected.
    fn backend_counts(&self) -> Vec<(usize, usize, usize)> {
        let mut counts: Vec<(usize, usize, usize)> = Vec::new();
        for backend in self.backends.snapshot() {
            if counts.last().is_none_or(|(upstream, ..)| *upstream != backend.upstream) {
                counts.push((backend.upstream, 0, 0));
            }
            if let Some((_, up, ejected)) = counts.last_mut() {
                *(if backend.up { up } else { ejected }) += 1;
            }
        }
        counts
    }
}
