//! `countersign demo`: a gateway and a sample exchange, with a key to try them.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use http::Method;
use serde_json::json;

use super::curl;
use super::serve::{Signals, runtime};
use crate::admin::{Role, Token};
use crate::audit::Rules;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, DEMO, System};
use crate::dialect::{Credentials, Dialect, Draft, builtin};
use crate::exchange::{self, Exchange};
use crate::key::{
    Algorithm, Allowlist, Key, Passphrase, Permission, Permissions, Secret, State, Tag, Venue, id,
};
use crate::log;
use crate::service::Service;
use crate::store::Limit;

/// Run a gateway with a small sample exchange behind it, and print a key and a signed request to paste.
///
/// Nothing needs to be installed or configured, and nothing leaves this machine. Stop it with Ctrl-C.
///
/// Example: countersign demo --listen 127.0.0.1:0 --json
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where clients connect; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where metrics and health are served; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9180")]
    pub admin_listen: SocketAddr,
    /// Print one line of JSON once orders are accepted: {"gateway", "admin", "dialect", "key", "secret", …}
    #[arg(long)]
    pub json: bool,
    /// Directory for what must outlive a restart; nothing is kept without it
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Units of weight that each key may spend a minute, as Binance counts them; an address has ten times that
    #[arg(long, value_name = "UNITS", default_value_t = 6_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub weight_limit: u32,
    /// Level of log lines on standard error
    #[arg(long, value_name = "LEVEL", default_value = "warn")]
    pub log_level: String,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut impl Write, err: &mut impl Write) -> io::Result<ExitCode> {
    if let Err(error) = log::start(log::Format::Auto, Some(&args.log_level)) {
        writeln!(err, "countersign demo: {error}")?;
        return Ok(ExitCode::from(2));
    }
    match Demo::prepare(args) {
        Ok((demo, config)) => runtime()?.block_on(demo.serve(config, args, out, err)),
        Err(problem) => {
            writeln!(err, "countersign demo: {problem}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// A key made for this run, in clear: it is printed, and dies with the process.
struct DemoKey {
    dialect: &'static str,
    id: String,
    secret: String,
    passphrase: Option<String>,
}

/// What the demo prints.
struct Demo {
    /// In the order of [`KEYS`].
    keys: Vec<DemoKey>,
    /// What the admin API is called with.
    admin_token: String,
    audit: Trailing,
}

/// Where the audit trail of this run lies.
struct Trailing {
    dir: PathBuf,
    /// Whether it goes with the process.
    passes: bool,
}

impl Trailing {
    fn new(state_dir: Option<&Path>) -> Result<Self, String> {
        if let Some(dir) = state_dir {
            return Ok(Self { dir: dir.join("audit"), passes: false });
        }
        let name: [u8; 8] = random()?;
        let name = format!("countersign-demo-{}", HEXLOWER.encode(&name));
        Ok(Self { dir: std::env::temp_dir().join(name), passes: true })
    }
}

impl Drop for Trailing {
    fn drop(&mut self) {
        if self.passes {
            // What cannot be removed is found among temporary files.
            drop(std::fs::remove_dir_all(&self.dir));
        }
    }
}

/// What each key is for: its name in the JSON, its dialect, its permissions, and the part of the limit it has.
const KEYS: [(&str, &str, &[Permission], u32); 5] = [
    ("", "binance", ALL, 1),
    ("read_only_", "binance", &[Permission::READ], 1),
    ("small_limit_", "binance", ALL, 60),
    ("bybit_", "bybit", ALL, 1),
    ("bitget_", "bitget", ALL, 1),
];
/// Limits counted at a time: a demo has few clients.
const SUBJECTS: usize = 10_000;
const ALL: &[Permission] =
    &[Permission::READ, Permission::TRADE, Permission::CANCEL, Permission::TRANSFER];

impl Demo {
    /// Starts the exchange, makes the keys, and fills in the configuration.
    fn prepare(args: &Args) -> Result<(Self, Config), String> {
        let loaded = Config::parse(DEMO, Path::new("demo.toml"), &System);
        let mut config = loaded.map_err(|refused| refused.to_string())?.config;
        let identity_key: [u8; 32] = random()?;
        let backend =
            start_exchange(identity_key).map_err(|error| format!("the exchange: {error}"))?;
        let backend = backend.to_string().parse().map_err(|_| "the exchange has no address")?;

        for listener in &mut config.listeners {
            listener.address = args.listen;
        }
        config.admin.address = args.admin_listen;
        let admin_token = id::with_checksum("csa_")
            .map_err(|error| format!("the system gives no random bytes: {error}"))?;
        config.admin.tokens.push(Token::new("demo", Role::Security, admin_token.as_bytes()));
        config.store.state_dir.clone_from(&args.state_dir);
        let audit = Trailing::new(args.state_dir.as_deref())?;
        config.audit = Some(Rules::of(audit.dir.clone()));
        config.store.max_records_per_account = config.store.max_records;
        config.store.max_subjects = SUBJECTS;
        config.store.volatile_marks = true;
        let upstreams = Arc::get_mut(&mut config.upstreams).unwrap_or_default();
        for upstream in upstreams {
            upstream.backends = vec![Clone::clone(&backend)];
            let secret = Secret::read(Algorithm::HmacSha256, &identity_key);
            upstream.identity_key = Some(secret.map_err(|error| error.to_string())?);
        }
        let routes = Arc::get_mut(&mut config.routes).ok_or("the routes are in use")?;
        // Ten keys' worth, so that one key meets its own limit first.
        routes.limit_addresses(per_minute(args.weight_limit.saturating_mul(10)));
        let mut keys = Vec::new();
        for (_, dialect, permissions, part) in KEYS {
            let key = DemoKey::new(dialect)?;
            config
                .keys
                .push(key.record(permissions, per_minute((args.weight_limit / part).max(1)))?);
            keys.push(key);
        }
        Ok((Self { keys, admin_token, audit }, config))
    }

    async fn serve(
        self,
        config: Config,
        args: &Args,
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> io::Result<ExitCode> {
        let mut signals = Signals::listen()?;
        let service = match Service::start(config) {
            Ok(service) => service,
            Err(error) => {
                writeln!(err, "countersign demo: {error}")?;
                return Ok(ExitCode::FAILURE);
            }
        };
        tokio::select! {
            () = service.ready() => {
                let printed = if args.json { self.json(&service, out) } else { self.text(&service, out) };
                printed.and_then(|()| out.flush())?;
                signals.next().await;
            }
            () = signals.next() => {}
        }
        service.drain_unless(signals.next()).await;
        Ok(ExitCode::SUCCESS)
    }

    fn json(&self, service: &Service, out: &mut impl Write) -> io::Result<()> {
        let mut facts = serde_json::Map::new();
        facts.insert("gateway".into(), json!(url(service.listeners.first())));
        facts.insert("admin".into(), json!(url(Some(&service.admin))));
        facts.insert("admin_token".into(), json!(self.admin_token));
        facts.insert("dialect".into(), json!("binance"));
        facts.insert("audit_dir".into(), json!(self.audit.dir));
        for (key, (name, ..)) in self.keys.iter().zip(KEYS) {
            facts.insert(format!("{name}key"), json!(key.id));
            facts.insert(format!("{name}secret"), json!(key.secret));
            if let Some(passphrase) = &key.passphrase {
                facts.insert(format!("{name}passphrase"), json!(passphrase));
            }
        }
        writeln!(out, "{}", serde_json::Value::Object(facts))
    }

    fn text(&self, service: &Service, out: &mut impl Write) -> io::Result<()> {
        let (gateway, admin) = (url(service.listeners.first()), url(Some(&service.admin)));
        let Some(key) = self.keys.first() else { return Ok(()) };
        writeln!(out, "countersign demo: a gateway with a small exchange behind it\n")?;
        writeln!(
            out,
            "  gateway   {gateway}   (Binance's API; Bybit's and Bitget's paths are echoed)"
        )?;
        writeln!(out, "  metrics   {admin}/metrics   health {admin}/readyz")?;
        writeln!(out, "  audit     countersign audit tail {} -f\n", self.audit.dir.display())?;
        writeln!(
            out,
            "  admin     {}   (for `countersign keys`, `apps` and the rest)",
            self.admin_token
        )?;
        writeln!(out, "  key       {}", key.id)?;
        writeln!(out, "  secret    {}", key.secret)?;
        writeln!(
            out,
            "            all die with this process; --json prints more keys, for other dialects too\n"
        )?;
        if let Some(line) = key.order(&gateway) {
            writeln!(
                out,
                "Paste this within a minute to place an order; paste it again to see a replay refused:\n"
            )?;
            writeln!(out, "{line}\n")?;
        }
        writeln!(out, "Sign another one:\n")?;
        writeln!(
            out,
            "SECRET={} countersign sign --key {} --secret-env SECRET '{gateway}/api/v3/account'\n",
            key.secret, key.id
        )?;
        writeln!(out, "Ctrl-C stops it.")
    }
}

impl DemoKey {
    fn new(dialect: &'static str) -> Result<Self, String> {
        let [id, secret, passphrase]: [[u8; 32]; 3] = [random()?, random()?, random()?];
        let has_passphrase = compiled(dialect)?.has_passphrase();
        let short = |bytes: [u8; 32]| HEXLOWER.encode(&bytes).chars().take(16).collect();
        Ok(Self {
            dialect,
            id: format!("demo{}", HEXLOWER.encode(&id)),
            secret: HEXLOWER.encode(&secret),
            passphrase: has_passphrase.then(|| short(passphrase)),
        })
    }

    fn record(&self, permissions: &[Permission], limit: Limit) -> Result<Key, String> {
        Ok(Key {
            id: self.id.as_str().into(),
            tag: Tag::of(&self.id),
            account: self.id.as_str().into(),
            account_tag: Tag::of(&self.id),
            venue: Venue("main".into()),
            dialect: self.dialect.into(),
            secret: compiled(self.dialect)?
                .read_secret(Algorithm::HmacSha256, self.secret.as_bytes())
                .map_err(|error| error.to_string())?,
            passphrase: self.passphrase.as_deref().map(Passphrase::new),
            permissions: permissions.iter().copied().collect::<Permissions>(),
            allowlist: Allowlist::default(),
            state: State::Active,
            expires: None,
            limits: Arc::from([limit.into()]),
            epoch: 0,
            bindings: None,
        })
    }

    /// A signed order as a line for the shell, good for as long as the dialect allows.
    fn order(&self, gateway: &str) -> Option<String> {
        let dialect = compiled(self.dialect).ok()?;
        let signer = dialect.read_signer(Algorithm::HmacSha256, self.secret.as_bytes()).ok()?;
        let by = Credentials { key_id: &self.id, signer: &signer, passphrase: None };
        let draft = Draft {
            method: Method::POST,
            path: "/api/v3/order",
            query: "",
            body: "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.01&price=20000",
            host: "",
            window_ms: u64::try_from(dialect.max_window().as_millis()).ok(),
            lead_ms: 0,
            nonce: None,
        };
        let order = dialect.sign(&draft, &by, SystemClock::start().now()).ok()?;
        Some(curl::line(&dialect, &order, gateway))
    }
}

/// Starts the exchange on a thread of its own; it ends with the process.
fn start_exchange(identity_key: [u8; 32]) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = runtime()?;
    std::thread::Builder::new().name("exchange".into()).spawn(move || {
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            exchange::serve(listener, Exchange::new(Some(identity_key)), std::future::pending())
                .await
        });
        if let Err(error) = served {
            tracing::error!(%error, "the sample exchange stopped");
        }
    })?;
    Ok(address)
}

fn compiled(dialect: &str) -> Result<Dialect, String> {
    let found = builtin(dialect).ok_or_else(|| format!("no dialect is called {dialect}"))?;
    found.map_err(|error| error.to_string())
}

fn per_minute(quota: u32) -> Limit {
    Limit { quota, period: Duration::from_mins(1) }
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| format!("the system gives no random bytes: {error}"))?;
    Ok(bytes)
}

fn url(address: Option<&SocketAddr>) -> String {
    address.map(|address| format!("http://{address}")).unwrap_or_default()
}
