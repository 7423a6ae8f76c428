//! `countersign serve`: the gateway.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{Config, System};
use crate::log;
use crate::service::Service;

/// Run the gateway that a configuration describes, until SIGTERM, SIGHUP or Ctrl-C.
///
/// On any of them no new connection is taken, requests under way are finished, and the exit status is 0; a second signal
/// ends it at once. The configuration is read at the start alone.
///
/// Example: countersign serve --config /etc/countersign/gateway.toml
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The configuration; `countersign check` says what is wrong with it
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// Form of log lines on standard error: auto, text or json
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = log_format)]
    pub log_format: log::Format,
    /// Level of log lines, as `debug` or `countersign=trace`; `COUNTERSIGN_LOG` sets it too
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// Reads the name of a log format.
pub(super) fn log_format(name: &str) -> Result<log::Format, String> {
    let found = log::Format::ALL.iter().find(|(_, known)| *known == name);
    found.map(|(format, _)| *format).ok_or_else(|| "one of auto, text, json".to_owned())
}

/// Runs the command.
pub fn run(args: &Args, _out: &mut impl Write, err: &mut impl Write) -> io::Result<ExitCode> {
    if let Err(error) = log::start(args.log_format, args.log_level.as_deref()) {
        writeln!(err, "countersign serve: {error}")?;
        return Ok(ExitCode::from(2));
    }
    let loaded = match Config::load(&args.config, &System) {
        Ok(loaded) => loaded,
        Err(refused) => {
            writeln!(err, "{refused}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        let service = match Service::start(loaded.config) {
            Ok(service) => service,
            Err(error) => {
                writeln!(err, "countersign serve: {error}")?;
                return Ok(ExitCode::FAILURE);
            }
        };
        for address in &service.listeners {
            tracing::info!(%address, "listening");
        }
        tracing::info!(address = %service.admin, "metrics and health");
        tokio::select! {
            () = service.ready() => {
                tracing::info!("ready");
                signals.next().await;
            }
            () = signals.next() => {}
        }
        tracing::info!("draining; another signal ends it at once");
        service.drain_unless(signals.next()).await;
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    })
}

/// The runtime of the main thread, which only waits: the data plane has threads of its own.
pub(super) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// SIGTERM, Ctrl-C, and SIGHUP: a terminal that is closed must not cut requests off.
pub(super) struct Signals([Signal; 3]);

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        let [term, int, hup] = kinds.map(signal);
        Ok(Self([term?, int?, hup?]))
    }

    pub(super) async fn next(&mut self) {
        let [term, int, hup] = &mut self.0;
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
            _ = hup.recv() => {}
        }
    }
}
