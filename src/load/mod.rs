//! The load tester: signs every request afresh, as a client of the dialect would, and judges every answer.
//!
//! Nothing is signed ahead. Each request is made unique, since two identical ones under one key in the same
//! millisecond are the same signed bytes, and so an honest gateway calls the second a replay: see [`Unique`].
//! In an open loop latency is measured from the moment a request was due, so that a server that stalls is not
//! spared the requests which waited for it.

pub mod args;
pub mod backend;
mod cpu;
mod judge;
mod keys;
mod mix;
mod pace;
mod report;
mod tally;
mod template;
mod wire;
mod worker;

use std::fmt;
use std::io::Write;
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::time::Duration;

pub use args::Args;
pub use keys::ClientKey;
pub use mix::{Kind, Mix};
pub use report::{Latency, Report};
pub use template::Template;
pub use wire::Target;

use crate::dialect::{Dialect, Unsignable};
use judge::Judge;
use pace::Plan;
use tally::Tally;
use worker::{Thread, Work};

/// What a run needs to know.
#[derive(Debug)]
pub struct Options {
    /// Where to.
    pub target: Target,
    /// How requests are signed.
    pub dialect: Dialect,
    /// Who signs: the keys take turns.
    pub keys: Vec<ClientKey>,
    /// What is sent: the templates take turns.
    pub requests: Vec<Template>,
    /// How requests that would be identical are told apart.
    pub unique: Unique,
    /// Requests per second in an open loop; a closed loop when `None`.
    pub rate: Option<NonZeroU64>,
    /// Connections, shared out over the threads.
    pub connections: NonZeroUsize,
    /// Threads that generate load.
    pub threads: NonZeroUsize,
    /// For how long to measure.
    pub duration: Option<Duration>,
    /// How many requests to measure; whichever of the two ends first.
    pub count: Option<u64>,
    /// Time before the measuring, in which answers are not recorded.
    pub warmup: Duration,
    /// How long to wait for an answer.
    pub timeout: Duration,
    /// How many of which kind.
    pub mix: Mix,
}

/// How requests that would be identical are told apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unique {
    /// By a signed parameter: where query and body hold neither `{n}` nor `{id}`, the parameter `_` is added.
    /// Bounds no rate.
    Param,
    /// By time: the times that one key signs grow by at least one unit of the dialect, and a request waits for
    /// its time. That is one request per key and millisecond (or second) at most.
    Time,
}

/// Why there is nothing to report.
#[derive(Debug)]
pub enum LoadError {
    /// What was asked for makes no sense; the text says what.
    Usage(String),
    /// A file could not be read.
    File(PathBuf, std::io::Error),
    /// The target could not be reached.
    Connect(SocketAddr, String),
    /// A request could not be signed.
    Unsignable(Unsignable),
    /// A thread or its runtime could not be started.
    Start(std::io::Error),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => f.write_str(text),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Connect(address, error) => write!(f, "cannot connect to {address}: {error}"),
            Self::Unsignable(error) => write!(f, "cannot sign: {error}"),
            Self::Start(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl std::error::Error for LoadError {}

impl LoadError {
    /// The exit status that goes with it: 2 where the caller can do better, 1 otherwise.
    pub const fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::File(..) | Self::Unsignable(_) => 2,
            Self::Connect(..) | Self::Start(_) => 1,
        }
    }
}

impl From<Unsignable> for LoadError {
    fn from(error: Unsignable) -> Self {
        Self::Unsignable(error)
    }
}

/// The longest duration, warm-up and timeout.
const LONGEST: Duration = Duration::from_hours(24);

/// Sends until the duration or the count is reached, or the process is interrupted, and reports.
///
/// Blocks; must not be called from inside a tokio runtime.
pub fn run(options: Options) -> Result<Report, LoadError> {
    let work = Arc::new(Work::new(options)?);
    let threads = work.options.threads.get();
    let barrier = Arc::new(Barrier::new(threads + 1));
    let failure = Arc::new(Mutex::new(None));
    let (ended, all_ended) = tokio::sync::mpsc::channel::<()>(1);
    // All are made before any thread starts, so that none is left waiting for one that cannot.
    let waiting = worker::runtime()?;
    let runtimes = (0..threads).map(|_| worker::runtime()).collect::<Result<Vec<_>, _>>()?;
    let start = |(place, runtime)| {
        let thread = Thread {
            work: Arc::clone(&work),
            place,
            barrier: Arc::clone(&barrier),
            failure: Arc::clone(&failure),
        };
        let ended = ended.clone();
        std::thread::spawn(move || {
            let tally = thread.run(&runtime);
            drop(ended);
            tally
        })
    };
    let running: Vec<_> = runtimes.into_iter().enumerate().map(start).collect();
    drop(ended);
    barrier.wait();
    if failure.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
        work.plan.stop();
    }
    work.plan.begin();
    barrier.wait();
    let pacer = pace::start(&work.plan);
    waiting.block_on(wait(&work.plan, all_ended));
    work.plan.stop();
    let mut tally = Tally::new();
    for thread in running {
        if let Ok(part) = thread.join() {
            tally.merge(&part);
        }
    }
    let pacing = pacer.map(|pacer| pacer.join().unwrap_or_default());
    tally.cpu.extend(pacing.flatten());
    match failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(error) => Err(error),
        None => Ok(Report::of(&work, &tally)),
    }
}

/// Waits for every thread to end; an interrupt asks them to, and what was measured is kept.
async fn wait(plan: &Plan, mut all_ended: tokio::sync::mpsc::Receiver<()>) {
    tokio::select! {
        _ = all_ended.recv() => {}
        Ok(()) = tokio::signal::ctrl_c() => plan.stop(),
    }
}

/// Runs the command: the report goes to `out`, what went wrong to `err`.
///
/// The result is the exit status: 0 fine, 1 wrong answers or errors, 2 usage.
pub fn command(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> std::io::Result<u8> {
    if let Some(address) = args.serve_backend {
        return serve_backend(address, out, err);
    }
    let report = match args.options().and_then(run) {
        Ok(report) => report,
        Err(error) => {
            writeln!(err, "countersign load: {error}")?;
            return Ok(error.exit_status());
        }
    };
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(u8::from(!report.is_fine()))
}

fn serve_backend(
    address: SocketAddr,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> std::io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => listener,
            Err(error) => {
                writeln!(err, "countersign load: cannot listen on {address}: {error}")?;
                return Ok(1);
            }
        };
        writeln!(out, "http://{}", listener.local_addr()?)?;
        out.flush()?;
        backend::serve(listener, async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await;
        Ok(0)
    })
}

/// The judge of answers and the rest of what all threads share are made once, here.
impl Work {
    fn new(options: Options) -> Result<Self, LoadError> {
        let mut options = options;
        if options.keys.is_empty() || options.requests.is_empty() {
            return Err(LoadError::Usage("give at least one key and one request".into()));
        }
        if options.threads > options.connections {
            return Err(LoadError::Usage("there are more threads than connections".into()));
        }
        if options.duration.is_none() && options.count.is_none() {
            return Err(LoadError::Usage("give a duration or a count".into()));
        }
        let times = [options.duration, Some(options.warmup), Some(options.timeout)];
        if times.into_iter().flatten().any(|time| time > LONGEST) {
            return Err(LoadError::Usage("a time is longer than 24h".into()));
        }
        if options.unique == Unique::Param {
            for template in &mut options.requests {
                template.make_unique(&options.dialect).map_err(LoadError::Usage)?;
            }
        }
        let plan = Arc::new(Plan::new(&options));
        let judge = Judge::of(&options.dialect);
        let work = Self { plan, judge, run: template::run_id()?, options };
        work.rehearse()?;
        Ok(work)
    }
}
