//! CPU per request, beside the peers: `cargo bench --bench end_to_end`.
//!
//! One backend and one load of freshly signed requests go through nginx and `HAProxy`, which forward them
//! unchecked, and through countersign, which checks everything: Binance's dialect, replay, limits, metrics. A second
//! countersign keeps an audit trail as well: what that costs is the difference between the two. The build that
//! `packaging/build` makes takes part where it is there and no older than the sources. Each proxy has one worker alone
//! on a core; load and backend share another. The rounds of all take turns, so that whatever else the machine does meets
//! them alike. What counts is the CPU time of the proxy's processes in a round,
//! divided by the requests answered in it; medians and the medians of the ratios by rounds are printed.

mod built;
mod cpu;
mod servers;

use std::error::Error;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Parser as _;
use countersign::dialect::{Dialect, builtin};
use countersign::load::{self, Mix, Options, Target, Template, Unique};

use servers::{Each, Server};

/// Compares CPU per request with nginx and `HAProxy`, and with and without an audit trail.
#[derive(clap::Parser)]
struct Args {
    /// Rounds of each proxy and case
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of a round
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Connections of the load
    #[arg(long, default_value = "32")]
    connections: NonZeroUsize,
    /// The core of the proxies
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    /// The core of load and backend
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Only the cases whose name holds this text, as in `GET` or `TLS`
    #[arg(long, default_value = "")]
    case: String,
    /// Said by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one round found; CPU in microseconds per request.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    proxy: f64,
    backend: f64,
    generator: f64,
    /// The part of the round in which the proxy was on its core.
    busy: f64,
    rps: f64,
    p99: f64,
}

/// What is sent.
struct Case {
    name: &'static str,
    tls: bool,
    request: &'static str,
    body: &'static str,
}

const GET: &str = "GET /api/v3/account?omitZeroBalances=true&n={id}";
const POST: &str = "POST /api/v3/order";
/// With recvWindow, timestamp and signature it is a form of 290 bytes, of which the caller writes 200.
const ORDER: &str = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.01000000&price=20000.50000000\
    &newOrderRespType=FULL&selfTradePreventionMode=EXPIRE_MAKER&newClientOrderId={id}";

const CASES: [Case; 4] = [
    Case { name: "GET, plain", tls: false, request: GET, body: "" },
    Case { name: "POST, plain", tls: false, request: POST, body: ORDER },
    Case { name: "GET, TLS", tls: true, request: GET, body: "" },
    Case { name: "POST, TLS", tls: true, request: POST, body: ORDER },
];

fn main() -> Result<(), Box<dyn Error>> {
    // `cargo test` runs benches too, and wants no measurement.
    let args =
        if std::env::args().any(|word| word == "--bench") { Args::parse() } else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    servers::write_certificate(dir.path())?;
    cpu::pin(std::process::id(), args.load_core)?;
    let backend = servers::backend(args.load_core)?;
    let production = built::for_production()?;
    let proxies =
        servers::proxies(args.proxy_core, backend.plain, dir.path(), production.as_deref())?;
    let ca = std::fs::read(dir.path().join("cert.pem"))?;
    let dialect = builtin("binance").ok_or("no dialect")??;
    let bench = Bench { args, backend, ca, dialect };
    for case in CASES.iter().filter(|case| case.name.contains(&bench.args.case)) {
        bench.compare(case, &proxies)?;
    }
    Ok(())
}

struct Bench {
    args: Args,
    backend: Server,
    ca: Vec<u8>,
    dialect: Dialect,
}

impl Bench {
    fn compare(&self, case: &Case, proxies: &Each<Server>) -> Result<(), Box<dyn Error>> {
        // The first round opens connections to the backend and fills caches.
        for proxy in proxies.iter() {
            self.round(case, proxy, Duration::from_millis(500))?;
        }
        let mut rounds: Vec<_> = proxies.iter().map(|_| Vec::new()).collect();
        let length = Duration::from_secs_f64(self.args.seconds);
        for _ in 0..self.args.rounds {
            for (proxy, rounds) in proxies.iter().zip(&mut rounds) {
                rounds.push(self.round(case, proxy, length)?);
            }
        }
        let mut rounds = rounds.into_iter();
        print(case, &proxies.map(|proxy| (proxy.name, rounds.next().unwrap_or_default())))?;
        Ok(())
    }

    fn round(
        &self,
        case: &Case,
        proxy: &Server,
        length: Duration,
    ) -> Result<Round, Box<dyn Error>> {
        let url = if case.tls {
            format!("https://{}", proxy.tls)
        } else {
            format!("http://{}", proxy.plain)
        };
        let options = Options {
            target: Target::parse(&url, Some(&self.ca), false, false)?,
            dialect: self.dialect.clone(),
            keys: servers::keys(&self.dialect)?,
            requests: vec![Template::parse(case.request, case.body)?],
            unique: Unique::Param,
            rate: None,
            connections: self.args.connections,
            threads: NonZeroUsize::MIN,
            duration: Some(length),
            count: None,
            warmup: Duration::ZERO,
            timeout: Duration::from_secs(10),
            mix: Mix::valid(),
        };
        let (tree, behind) = (proxy.processes()?, self.backend.processes()?);
        let before = (cpu::used(&tree)?, cpu::used(&behind)?);
        let report = load::run(options)?;
        let after = (cpu::used(&tree)?, cpu::used(&behind)?);
        if !report.is_fine() {
            return Err(
                format!("{}: not every request was answered right\n{report}", proxy.name).into()
            );
        }
        #[expect(clippy::cast_precision_loss, reason = "requests of some seconds")]
        let each = |spent: Duration| spent.as_secs_f64() * 1e6 / report.requests as f64;
        let proxy = each(after.0.saturating_sub(before.0));
        Ok(Round {
            proxy,
            backend: each(after.1.saturating_sub(before.1)),
            generator: report.generator.cpu_us_per_request.unwrap_or_default(),
            busy: proxy * report.rps / 1e6,
            rps: report.rps,
            p99: report.latency_us.p99,
        })
    }
}

/// What is said of a case: of each proxy its name and its rounds.
fn print(case: &Case, each: &Each<(&str, Vec<Round>)>) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{} ({} rounds of each, medians)", case.name, each.nginx.1.len())?;
    writeln!(
        out,
        "{:<19} {:>14} {:>10} {:>12} {:>9} {:>11} {:>13}",
        "", "CPU us/request", "requests/s", "core busy %", "p99 us", "backend us", "generator us"
    )?;
    for (name, rounds) in each.iter() {
        let of = |field: fn(&Round) -> f64| median(rounds.iter().map(field).collect());
        writeln!(
            out,
            "{name:<19} {:>14.2} {:>10.0} {:>12.0} {:>9.0} {:>11.2} {:>13.2}",
            of(|round| round.proxy),
            of(|round| round.rps),
            of(|round| round.busy) * 100.0,
            of(|round| round.p99),
            of(|round| round.backend),
            of(|round| round.generator),
        )?;
    }
    let compared = |own: &[Round], of: fn(f64, f64) -> f64, other: &[Round]| {
        let each = || own.iter().zip(other).map(|(own, other)| of(own.proxy, other.proxy));
        let (low, high) = each().fold((f64::MAX, f64::MIN), |(l, h), r| (l.min(r), h.max(r)));
        format!("{:.2} ({low:.2} to {high:.2})", median(each().collect()))
    };
    for (build, own) in std::iter::once(&each.countersign).chain(&each.production) {
        for (peer, name) in [(&each.nginx.1, "nginx"), (&each.haproxy.1, "HAProxy")] {
            let ratio = compared(own, |own, peer| own / peer, peer);
            writeln!(out, "CPU of checking and forwarding, {build} / {name} unchecked: {ratio}")?;
        }
    }
    let trail = compared(&each.audited.1, |with, without| with - without, &each.countersign.1);
    writeln!(out, "CPU of the audit trail, us/request: {trail}")?;
    out.flush()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle.wrapping_sub(1)), values.get(middle)) {
        (Some(low), Some(high)) if values.len().is_multiple_of(2) => f64::midpoint(*low, *high),
        (_, Some(middle)) => *middle,
        _ => f64::NAN,
    }
}
