//! One connection that comes back by itself, and never tries more often than it should.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault::{Failure, MIGRATE, late};
use super::options::Options;
use super::schema::FORMAT;
use super::statements::Statements;
use super::watcher::Pulse;
use crate::registry::book::RegistryError;

/// A connection, or the wait for the next attempt at one.
#[derive(Debug)]
pub(super) struct Link {
    options: Arc<Options>,
    pulse: watch::Sender<Pulse>,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Up(Arc<Live>),
    Down { until: Instant, wait: Duration, why: RegistryError },
}

/// A connection that works, as far as is known.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) client: Client,
    pub(super) statements: Statements,
    driver: Driver,
}

/// The task that moves a connection's bytes; it ends with the connection.
#[derive(Debug)]
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The first wait after an attempt that failed; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

impl Link {
    /// A connection that is made when it is first asked for.
    pub(super) fn new(options: Arc<Options>, pulse: watch::Sender<Pulse>) -> Self {
        let why = RegistryError::Unavailable("it was not reached yet".into());
        let state = Mutex::new(State::Down { until: Instant::now(), wait: FIRST_WAIT, why });
        Self { options, pulse, state }
    }

    /// The connection, made anew where it is gone; the last failure while it is too early to try again.
    pub(super) async fn live(&self) -> Result<Arc<Live>, RegistryError> {
        let mut state = self.state.lock().await;
        let wait = match &*state {
            State::Up(live) if live.is_up() => return Ok(Arc::clone(live)),
            State::Up(_) => FIRST_WAIT,
            State::Down { until, why, .. } if Instant::now() < *until => return Err(why.clone()),
            State::Down { wait, .. } => *wait,
        };
        match Live::connect(&self.options, &self.pulse).await {
            Ok(live) => {
                let live = Arc::new(live);
                *state = State::Up(Arc::clone(&live));
                Ok(live)
            }
            Err(why) => {
                let (until, next) = (Instant::now() + wait, (wait * 2).min(LONGEST_WAIT));
                *state = State::Down { until, wait: next, why: why.clone() };
                Err(why)
            }
        }
    }

    /// Gives a connection up that proved to be of no use.
    pub(super) async fn give_up(&self, gone: &Arc<Live>, why: RegistryError) {
        let mut state = self.state.lock().await;
        if matches!(&*state, State::Up(live) if Arc::ptr_eq(live, gone)) {
            *state = State::Down { until: Instant::now(), wait: FIRST_WAIT, why };
        }
        // Whoever still waits for an answer of it gets none.
        gone.driver.0.abort();
    }
}

impl Live {
    fn is_up(&self) -> bool {
        !self.client.is_closed() && !self.driver.0.is_finished()
    }

    /// Connects, and sees that the tables are what this program knows.
    async fn connect(
        options: &Options,
        pulse: &watch::Sender<Pulse>,
    ) -> Result<Self, RegistryError> {
        let attempt = async {
            let (client, driver) = dial(options, options.timeout, Some(pulse.clone())).await?;
            known_format(&client).await?;
            let statements = Statements::prepare(&client).await?;
            Ok(Self { client, statements, driver })
        };
        let connected = timeout(options.connect_timeout, attempt).await;
        connected
            .map_or_else(|_| Err(late(options.connect_timeout)), |live| live.map_err(Failure::told))
    }
}

/// A connection for one purpose alone, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Once {
    pub(super) client: Client,
    _driver: Driver,
}

impl Once {
    /// Connects; each statement may take up to `limit`.
    pub(super) async fn connect(options: &Options, limit: Duration) -> Result<Self, Failure> {
        let connected = timeout(options.connect_timeout, dial(options, limit, None)).await;
        let (client, driver) = connected.map_err(|_| late(options.connect_timeout))??;
        Ok(Self { client, _driver: driver })
    }
}

async fn dial(
    options: &Options,
    limit: Duration,
    pulse: Option<watch::Sender<Pulse>>,
) -> Result<(Client, Driver), Failure> {
    let (client, driver) = match &options.roots {
        None => {
            let (client, connection) = options.server.connect(NoTls).await?;
            (client, Driver(tokio::spawn(drive(connection, pulse))))
        }
        Some(roots) => {
            let tls =
                rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                    .with_safe_default_protocol_versions()
                    .map_err(|error| RegistryError::Unavailable(error.to_string()))?
                    .with_root_certificates(Arc::clone(roots))
                    .with_no_client_auth();
            let (client, connection) = options.server.connect(MakeRustlsConnect::new(tls)).await?;
            (client, Driver(tokio::spawn(drive(connection, pulse))))
        }
    };
    // The server gives up as well, and what it has answered is on its disk, whatever its own settings say.
    let settings = format!(
        "SET statement_timeout = {limit}; SET idle_in_transaction_session_timeout = {limit}; \
         SELECT set_config('synchronous_commit', 'on', FALSE) WHERE current_setting('synchronous_commit') = 'off'",
        limit = limit.as_millis().clamp(1, 2_000_000_000),
    );
    client.batch_execute(&settings).await?;
    Ok((client, driver))
}

/// Moves the bytes of a connection until it ends, and tells of what the server says by itself.
async fn drive<S, T>(mut connection: Connection<S, T>, pulse: Option<watch::Sender<Pulse>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let (AsyncMessage::Notification(told), Some(pulse)) = (message, &pulse)
            && let Ok(revision) = told.payload().parse()
        {
            Pulse::reached(pulse, revision);
        }
    }
}

/// Sees that the tables have the format that this program knows.
async fn known_format(client: &Client) -> Result<(), Failure> {
    let format = super::migrate::format(client).await?;
    match format.cmp(&FORMAT) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(Failure::Registry(RegistryError::Format(format!(
            "it is of format {format}, and this program needs {FORMAT}; {MIGRATE}"
        )))),
        std::cmp::Ordering::Greater => Err(Failure::Registry(super::migrate::too_new(format))),
    }
}
