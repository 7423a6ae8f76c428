//! The admin API of a gateway: what it works on, who may call, where it listens, and what it tells the audit trail.

use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::StartError;
use crate::admin::{
    Access, Activity, AdminApi, CallLog, Desk, Door, Facts, Following, LogAlone, Logged, Noting,
    Socket, Sought, ThisGateway, TrailReader, acceptor,
};
use crate::audit::{self, Act, Filter, Tail, Trail};
use crate::clock::{Clock, Micros, SystemClock};
use crate::config::{Admin, Config};
use crate::key::sealing::MasterKeys;
use crate::registrar::Registrar;
use crate::registry::book::Registry;
use crate::registry::opened::{KeyOpener, Names};

/// What performs the acts of the control plane on `registry`, or else on the one that the configuration asks for; and
/// what opens the keys of its records.
pub(super) fn registrar(
    config: &Config,
    registry: Option<Arc<dyn Registry>>,
) -> Result<(Registrar, KeyOpener), StartError> {
    let opened = || crate::registry::open(&config.registry).map_err(StartError::Registry);
    let book = registry.map_or_else(opened, Ok)?;
    let dir = config.store.state_dir.as_deref();
    let masters = MasterKeys::gather(config.sealing.as_ref(), dir).map_err(StartError::Masters)?;
    let (names, clock) = (Arc::new(Names::of(config)), Arc::new(SystemClock::start()));
    let keys = KeyOpener { masters: masters.clone(), names: Arc::clone(&names) };
    Ok((Registrar::new(book, masters, names, clock, config.unbound_trade), keys))
}

/// The API over it.
pub(super) fn api(
    admin: &mut Admin,
    registrar: Registrar,
    clock: Arc<dyn Clock>,
    trail: Option<&Arc<Trail>>,
    this: ThisGateway,
) -> Result<AdminApi, StartError> {
    let facts = Facts {
        started: clock.now(),
        four_eyes: admin.four_eyes.clone(),
        issuer: "countersign".to_owned(),
        gateway: Some(this),
    };
    let (tokens, certificates) =
        (std::mem::take(&mut admin.tokens), std::mem::take(&mut admin.certificates));
    let access = Access::new(tokens, certificates, std::mem::take(&mut admin.providers));
    let kept = trail.map(|trail| Arc::new(Kept(Arc::clone(trail))));
    let log: Arc<dyn CallLog> = match &kept {
        Some(kept) => Arc::<Kept>::clone(kept),
        None => Arc::new(LogAlone),
    };
    let reader = kept.map(|kept| -> Arc<dyn TrailReader> { kept });
    let desk = Desk { clock, registrar, trail: reader, facts };
    AdminApi::new(desk, access, log).map_err(StartError::Random)
}

/// Where it listens. Called within the runtime that serves.
pub(super) fn doors(admin: &Admin, listener: TcpListener) -> Result<Vec<Door>, StartError> {
    let refused = |error| StartError::Admin(admin.address, error);
    listener.set_nonblocking(true).map_err(refused)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(refused)?;
    let mut doors = vec![match &admin.tls {
        Some(files) => Door::Tls(listener, acceptor(files).map_err(StartError::AdminTls)?),
        None => Door::Tcp(listener),
    }];
    if let Some(path) = &admin.socket {
        let socket = Socket::bind(path);
        let socket = socket.map_err(|error| StartError::AdminSocket(path.clone(), error))?;
        tracing::info!(path = %path.display(), "admin socket");
        doors.push(Door::Socket(socket));
    }
    Ok(doors)
}

/// How long workers may keep records to themselves: they hand them over once a second.
const HANDED_OVER: Duration = Duration::from_millis(1_200);

/// The audit trail, as the API tells and reads it.
#[derive(Debug)]
struct Kept(Arc<Trail>);

impl CallLog for Kept {
    fn is_writing(&self) -> bool {
        self.0.is_writing()
    }

    fn called<'a>(&'a self, call: &'a Logged<'a>) -> Noting<'a> {
        let verdict = match call.status {
            ..400 => "done",
            400..500 => "refused",
            _ => "failed",
        };
        Box::pin(async move {
            let act = Act {
                actor: &call.caller.actor,
                role: call.caller.role.name(),
                action: call.operation,
                target: call.subject.unwrap_or("-"),
                verdict,
                reason: call.detail,
                address: call.caller.address,
            };
            if self.0.act(&act).await.is_err() {
                tracing::error!(request = call.request, "an admin call is not in the audit trail");
            }
        })
    }

    fn unproven(&self, _: Micros, address: Option<IpAddr>, count: u32) {
        let trail = Arc::clone(&self.0);
        tracing::warn!(?address, count, "wrong admin credentials");
        tokio::spawn(async move {
            let reason = format!("wrong credentials within a minute: {count}");
            let act = Act {
                actor: "-",
                role: "-",
                action: "-",
                target: "-",
                verdict: "refused",
                reason: Some(&reason),
                address,
            };
            // It is in the log as well.
            let _ = trail.act(&act).await;
        });
    }
}

impl TrailReader for Kept {
    fn search(&self, sought: &Sought) -> io::Result<Vec<Value>> {
        let filter = Filter {
            key: sought.key.clone(),
            account: sought.account.clone(),
            kind: sought.kind.clone(),
            since: sought.since,
            until: sought.until,
            after: sought.after,
            limit: Some(sought.limit),
            ..Filter::default()
        };
        audit::search(self.0.dir(), &filter)
    }

    fn activity(&self, key: &str, since: Micros) -> io::Result<Vec<Activity>> {
        // What the workers hold back belongs to it too.
        std::thread::sleep(HANDED_OVER);
        self.0.settle();
        let rows = audit::activity(self.0.dir(), key, since)?;
        let row = |row: audit::Activity| Activity {
            address: row.address,
            route: row.route,
            count: row.count,
            refused: row.refused,
            first: row.first,
            last: row.last,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    fn follow(&self) -> io::Result<Following> {
        let mut tail = Tail::last(self.0.dir(), 0)?;
        Ok(Box::new(move || tail.more()))
    }
}
