//! A whole gateway, put together from its configuration: keys, store, metrics, admin address, data plane.

mod api;
mod audited;
mod control;
mod counted;
mod epochs;
mod gossip;
mod start_error;

use std::fmt;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::admin::{NotReady, Readiness, ThisGateway};
use crate::admit::{Ask, Decoys, Gate, Guard};
use crate::audit::Trail;
use crate::clock::{Clock, Micros, SystemClock};
use crate::config::Config;
use crate::gateway::routes::Target;
use crate::gateway::{Cutter, Gateway, Running};
use crate::key::State;
use crate::metrics::{self, KeyCounts, Labels, Metrics, RouteLabels, UpstreamLabels};
use crate::registry::bans;
use crate::registry::book::Registry;
use crate::registry::cache::KeyCache;
use crate::registry::feed::{Follower, News, OpenKey, Tell};
use crate::registry::fixed::FixedKeys;
use crate::registry::opened::KeyOpener;
use crate::store::live::LiveStore;
use crate::store::memory::{MemoryStore, Options};
use crate::store::redis::RedisStore;
use audited::Audited;
use control::Control;
use counted::Counted;
use epochs::Epochs;
use gossip::Gossip;

pub use start_error::StartError;

/// The gate of a gateway with an embedded store, and keys of its configuration and a registry.
pub type LiveGate = Gate<KeyCache, LiveStore<Arc<SystemClock>>, Arc<SystemClock>>;

/// Where keys come from beside the configuration.
#[derive(Clone)]
pub struct Source {
    /// What keeps their records.
    pub registry: Arc<dyn Registry>,
    /// What makes keys of them.
    pub open: OpenKey,
}

impl Source {
    /// A registry whose keys `opener` opens.
    pub fn of(registry: Arc<dyn Registry>, opener: KeyOpener) -> Self {
        let open: OpenKey = Arc::new(move |key, account, application, factor| {
            opener.open_key(key, account, application, factor)
        });
        Self { registry, open }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// A gateway that serves.
#[derive(Debug)]
pub struct Service {
    /// Where clients connect, in the order of the configuration.
    pub listeners: Vec<SocketAddr>,
    /// Where metrics and health are served.
    pub admin: SocketAddr,
    gate: Arc<LiveGate>,
    readiness: Readiness,
    running: Running,
    control: Control,
    trail: Option<Arc<Trail>>,
}

impl Service {
    /// Opens the store, the admin address and the listeners, and starts to serve.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_over(config, None)
    }

    /// The same with keys from `source` instead of the registry that the configuration asks for.
    pub fn start_over(mut config: Config, source: Option<Source>) -> Result<Self, StartError> {
        let keys = std::mem::take(&mut config.keys);
        let counts = count(keys.iter().map(|key| key.state));
        let clock = Arc::new(SystemClock::start());
        // First of all: it makes the state directory, and locks it.
        let store = store(&mut config, &clock)?;
        let registry = source.as_ref().map(|source| Arc::clone(&source.registry));
        let (registrar, opener) = api::registrar(&config, registry)?;
        let source = source.unwrap_or_else(|| Source::of(Arc::clone(registrar.registry()), opener));
        let fixed: FixedKeys = keys.into_iter().collect();
        let (keys, end) = KeyCache::over(fixed, CACHED_KEYS, Arc::<SystemClock>::clone(&clock));
        if let LiveStore::Shared(store) = &store {
            store.keep_marks(Arc::clone(&source.registry), config.store.max_jump);
        }
        let gate = Arc::new(Gate {
            store,
            keys,
            clock,
            decoys: Decoys::new().map_err(StartError::Random)?,
            guard: Guard::new(&config.guard),
            switches: Arc::default(),
        });
        let metrics = Arc::new(declare(&config).map_err(StartError::Metrics)?);
        metrics.set_keys(counts);
        if let LiveStore::Shared(store) = &gate.store {
            store.set_meters(&metrics);
        }
        let refused = |error| StartError::Admin(config.admin.address, error);
        let admin = TcpListener::bind(config.admin.address).map_err(refused)?;
        let admin_address = admin.local_addr().map_err(refused)?;

        let readiness = Readiness::starting();
        readiness.hold(NotReady::Registry);
        let trail = audited::open(&config, metrics.audit()).map_err(StartError::Audit)?;
        let counted = Counted::new(Arc::clone(&metrics), readiness.clone());
        let observer = Arc::new(Audited::new(counted, trail.clone(), metrics.audit().clone()));
        let api_clock = Arc::new(SystemClock::start());
        let (applied, following) = watch::channel(0);
        let this =
            ThisGateway { name: gossip::name().map_err(StartError::Random)?, applied: following };
        tracing::info!(name = this.name, "what revocations name this gateway by");
        let api = api::api(&mut config.admin, registrar, api_clock, trail.as_ref(), this.clone())?;
        let config = Arc::new(config);
        await_store(&gate)?;
        let running = Gateway::start(&config, &gate, &observer).map_err(StartError::Gateway)?;
        let backends = Arc::clone(&running.backends);
        let Source { registry, open } = source;
        let gossip = Gossip::new(Arc::clone(&registry), Arc::clone(&gate), config.guard.bans, this);
        let tell = tell(&metrics, &running.cutter, &gate, &registry, applied);
        let (switches, names) = (Arc::clone(&gate.switches), Arc::clone(&config.permissions));
        let follower = Follower::new(end, registry, open, switches, names, tell);
        let doors = (&config.admin, admin, api);
        let watched = (&gate, &backends);
        let control = Control::start(doors, &metrics, &readiness, watched, follower, gossip)?;
        readiness.clear(NotReady::Starting);
        let listeners = running.addresses.clone();
        Ok(Self { listeners, admin: admin_address, gate, readiness, running, control, trail })
    }

    /// The gate, to ask what it knows.
    pub fn gate(&self) -> &LiveGate {
        &self.gate
    }

    /// The audit trail, where one is kept.
    pub fn trail(&self) -> Option<&Arc<Trail>> {
        self.trail.as_ref()
    }

    /// The moment from which freshly signed requests are judged: the fence at start has passed. `None` as long as a
    /// shared store does not say.
    pub fn ready_at(&self) -> Option<Micros> {
        self.gate.store.ready_at()
    }

    /// Returns once freshly signed requests are judged, under every key that there is.
    pub async fn ready(&self) {
        loop {
            let wait = self.ready_at().map(|ready| ready.since(self.gate.clock.now()));
            let wait = wait.unwrap_or(STORE_LOOK);
            if wait.is_zero() {
                self.readiness.clear(NotReady::Fence);
                if self.gate.keys.is_informed() {
                    self.readiness.clear(NotReady::Registry);
                    return;
                }
            }
            // A mark far in the future is waited for in steps, so that a clock set right is noticed.
            tokio::time::sleep(wait.clamp(STORE_LOOK, Duration::from_secs(1))).await;
        }
    }

    /// Takes no more connections, finishes what is under way, leaves exact marks, and ends; at once when `hurry`
    /// does.
    pub async fn drain_unless(self, hurry: impl Future<Output = ()>) {
        self.running.drain_unless(hurry).await;
        self.control.stop();
        if let Some(trail) = self.trail {
            trail.close();
        }
    }
}

/// About how many keys of a registry are held at a time.
const CACHED_KEYS: usize = 100_000;

/// What is done with the news of the registry.
fn tell(
    metrics: &Arc<Metrics>,
    cutter: &Cutter,
    gate: &Arc<LiveGate>,
    registry: &Arc<dyn Registry>,
    applied: watch::Sender<u64>,
) -> Tell {
    let (metrics, cutter, gate) = (Arc::clone(metrics), cutter.clone(), Arc::clone(gate));
    let epochs = Epochs::new(Arc::clone(&gate), Arc::clone(registry));
    Box::new(move |news: News<'_>| match news {
        News::Applied(lag) => metrics.registry_lag(lag),
        News::Reached(revision) => drop(applied.send_replace(revision)),
        News::Ended | News::Switched => cutter.cut(),
        News::Key(record) => epochs.raise(record),
        News::Holder(record) => epochs.raise_all(record),
        News::Ban(record) => {
            if let Err(error) = bans::heed(&gate.guard, record, gate.clock.now()) {
                tracing::error!(%error, "a ban of the registry is not kept to");
            }
        }
    })
}

/// The embedded store, or the shared one where the configuration asks for it.
fn store(
    config: &mut Config,
    clock: &Arc<SystemClock>,
) -> Result<LiveStore<Arc<SystemClock>>, StartError> {
    let options = options(config);
    let open =
        |options: &Options| MemoryStore::open(options, clock.now()).map_err(StartError::Store);
    let Some(mut shared) = config.shared.take() else {
        return open(&options).map(LiveStore::Embedded);
    };
    shared.future_skew = options.future_skew;
    let local = open(&Options { max_records: 1_000, ..options })?;
    let store = RedisStore::new(shared, local, Arc::clone(clock)).map_err(StartError::Random)?;
    Ok(LiveStore::Shared(Box::new(store)))
}

/// Waits until a shared store judges what is signed now, so that a gateway that is restarted under load takes no
/// connection before it can serve it; but for no longer than [`STORE_PATIENCE`], and not where waiting cures nothing.
fn await_store(gate: &Arc<LiveGate>) -> Result<(), StartError> {
    let LiveStore::Shared(_) = &gate.store else { return Ok(()) };
    let gate = Arc::clone(gate);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(StartError::System)?;
    let wait = async move {
        let LiveStore::Shared(store) = &gate.store else { return Vec::new() };
        let mut troubles = store.look().await;
        while !store.is_beyond_waiting(&troubles) {
            if gate.store.fence_passed(gate.clock.now()) {
                return Vec::new();
            }
            tokio::time::sleep(STORE_LOOK).await;
            if !store.is_usable() {
                troubles = store.look().await;
            }
        }
        troubles
    };
    // On a thread of its own: whoever starts a gateway may have a runtime already.
    let waiting = std::thread::Builder::new().name("await-store".into()).spawn(move || {
        // Whether it was in time or not: what is refused meanwhile is told so.
        let waited = runtime.block_on(async { tokio::time::timeout(STORE_PATIENCE, wait).await });
        waited.unwrap_or_default()
    });
    let troubles = waiting.map_err(StartError::System)?.join().unwrap_or_default();
    if troubles.is_empty() { Ok(()) } else { Err(StartError::SharedStore(troubles)) }
}

/// How long a gateway waits for its shared store before it listens.
const STORE_PATIENCE: Duration = Duration::from_secs(3);
/// How often what is not ready yet is looked at.
const STORE_LOOK: Duration = Duration::from_millis(50);

fn options(config: &Config) -> Options {
    let future = config.dialects.iter().map(|dialect| dialect.future()).max();
    let seconds = config.dialects.iter().any(|dialect| dialect.counts_seconds());
    let defaults = Options::default();
    Options {
        max_records: config.store.max_records,
        max_records_per_account: u32::try_from(config.store.max_records_per_account)
            .unwrap_or(u32::MAX),
        max_subjects: config.store.max_subjects,
        max_marks: config.store.max_marks,
        max_unique: config.store.max_unique,
        max_unique_per_key: u32::try_from(config.store.max_unique_per_key).unwrap_or(u32::MAX),
        max_jump: config.store.max_jump,
        volatile_marks: config.store.volatile_marks,
        state_dir: config.store.state_dir.clone(),
        future_skew: future.unwrap_or(defaults.future_skew),
        longest_lead: config.longest_lead(),
        stamp_unit: if seconds { Duration::from_secs(1) } else { defaults.stamp_unit },
        ..defaults
    }
}

/// Declares every metric with the label values that the configuration brings.
fn declare(config: &Config) -> Result<Metrics, metrics::Error> {
    let entries = config.routes.all();
    let routes: Vec<_> = entries
        .iter()
        .map(|entry| RouteLabels {
            name: &entry.demand.name,
            dialect: match &entry.demand.ask {
                Ask::Public => None,
                Ask::Key(dialect) | Ask::Signed(dialect) => Some(&**dialect.name()),
            },
        })
        .collect();
    let upstreams: Vec<_> = config
        .upstreams
        .iter()
        .map(|upstream| UpstreamLabels { name: &upstream.name, backends: upstream.backends.len() })
        .collect();
    let dialects: Vec<_> = config.dialects.iter().map(|dialect| &**dialect.name()).collect();
    let listeners: Vec<_> = config.listeners.iter().map(|listener| &*listener.name).collect();
    let metrics = Metrics::new(&Labels {
        routes: &routes,
        upstreams: &upstreams,
        dialects: &dialects,
        stores: &["memory", "marks", "nonces"],
        listeners: &listeners,
    })?;
    let websockets = entries.iter().filter(|entry| matches!(entry.target, Target::WebSocket(_)));
    Ok(metrics.with_websockets(websockets.map(|entry| (entry.demand.id, &*entry.demand.name))))
}

fn count(states: impl Iterator<Item = State>) -> KeyCounts {
    let mut counts = KeyCounts::default();
    for state in states {
        match state {
            State::Active => counts.active += 1,
            State::Suspended | State::Frozen | State::Stopped => counts.suspended += 1,
            State::Revoked => counts.revoked += 1,
        }
    }
    counts
}
