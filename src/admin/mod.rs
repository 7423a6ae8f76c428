//! The control plane's HTTP server: metrics, liveness, readiness. It reads only; nothing here can change
//! what the gateway does.

mod answer;
mod readiness;

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::metrics::Metrics;

pub use readiness::{NotReady, Readiness};

/// Brings gauges up to date just before a scrape; must be quick and must not block.
pub type Collector = Box<dyn Fn() + Send + Sync>;

/// What the server answers from. Cheap to clone.
#[derive(Clone)]
pub struct AdminState {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    collectors: Arc<[Collector]>,
    bounds: Bounds,
}

impl AdminState {
    /// Answers from `metrics` and `readiness`; each of `collectors` runs before every scrape.
    pub fn new(metrics: Arc<Metrics>, readiness: Readiness, collectors: Vec<Collector>) -> Self {
        Self { metrics, readiness, collectors: collectors.into(), bounds: Bounds::default() }
    }

    /// The same with other bounds.
    #[must_use]
    pub fn bounded(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Everything in the text exposition format, up to date.
    fn exposition(&self) -> Result<String, crate::metrics::Error> {
        self.collectors.iter().for_each(|collect| collect());
        self.metrics.set_ready(self.readiness.is_ready());
        self.metrics.exposition()
    }
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// How much one client, and all of them, can take of this server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Connections open at once; further ones are closed as they come.
    pub connections: usize,
    /// The longest wait for a head, on a new connection and between requests.
    pub head: Duration,
    /// The longest life of a connection.
    pub connection: Duration,
    /// How long answers under way may take at shutdown.
    pub drain: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 64,
            // Shorter than usual scrape intervals: a new connection for each costs nothing, an idle one holds a
            // place.
            head: Duration::from_secs(10),
            connection: Duration::from_mins(10),
            drain: Duration::from_secs(2),
        }
    }
}

/// The largest head, in bytes.
const HEAD_CAP: usize = 16 * 1024;

/// The most header fields.
const HEADER_CAP: usize = 64;

/// How long to wait after the system refused a connection, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown` is done, then lets answers under way end.
pub async fn serve(listener: TcpListener, state: AdminState, shutdown: impl Future<Output = ()>) {
    let mut shutdown = pin!(shutdown);
    let places = Arc::new(Semaphore::new(state.bounds.connections));
    let (drain, draining) = watch::channel(());
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = open.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    let connection = connection(stream, state.clone(), draining.clone());
                    open.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(_) => {
                    tracing::warn!(limit = state.bounds.connections, "admin connection refused");
                }
            },
            Err(error) => pause(&error).await,
        }
    }
    drop(listener);
    drop(draining);
    drain.send_replace(());
    let ended =
        timeout(state.bounds.drain, async { while open.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        open.shutdown().await;
    }
}

/// Serves one connection to its end. What a client does wrong is its own trouble, hence no result.
async fn connection(stream: TcpStream, state: AdminState, mut draining: watch::Receiver<()>) {
    let bounds = state.bounds;
    let service = service_fn(move |request: Request<Incoming>| {
        let answer = answer::answer(&state, request.method(), request.uri().path());
        async move { Ok::<_, std::convert::Infallible>(answer) }
    });
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.head)
            .max_buf_size(HEAD_CAP)
            .max_headers(HEADER_CAP)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        ended = &mut served => {
            if let Err(error) = ended {
                tracing::debug!(%error, "admin connection broke");
            }
            return;
        }
        _ = draining.changed() => {}
        () = sleep(bounds.connection) => {}
    }
    served.as_mut().graceful_shutdown();
    // An error or a client that will not read: either way the connection ends here.
    let _ended = timeout(bounds.drain, served).await;
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "admin listener could not accept");
    sleep(ACCEPT_PAUSE).await;
}
