//! What an identity provider signs with, followed as it changes: read in the background, within bounds, and forgotten
//! when it cannot be read any more.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{StatusCode, Uri};
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::fetch;
use super::jwks;
use super::provider::{TokenAlgorithm, TokenKey};
use crate::clock::{Clock, Micros};

/// The published keys of an identity provider.
pub struct KeySet {
    source: Source,
    algorithms: Vec<TokenAlgorithm>,
    times: Times,
    held: ArcSwap<Held>,
    asked: Mutex<Option<Asked>>,
    wake: Notify,
    tries: watch::Sender<u64>,
}

/// Where a provider publishes its keys.
#[derive(Clone)]
pub enum Source {
    /// A file on this machine.
    File(PathBuf),
    /// An `https` address.
    Url(Uri, TlsConnector),
    /// What the provider's own description (`OpenID` Connect Discovery) names; the text is its issuer.
    Discovery(String, TlsConnector),
}

/// How often keys are read, and for how long what was read counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Times {
    /// From one reading to the next.
    pub refresh: Duration,
    /// From a reading to the moment when its keys count no more, for want of a newer one.
    pub keep: Duration,
}

#[derive(Debug, Default)]
struct Held {
    at: Micros,
    keys: Vec<TokenKey>,
}

/// When somebody asked for a reading, and how many had been tried by then.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Micros,
    tries: u64,
}

/// Why keys could not be read.
#[derive(Debug)]
pub enum Unread {
    /// The other end, or the file, gave nothing.
    Failed(io::Error),
    /// It took too long.
    Late,
    /// It answered something else than 200; redirections are not followed.
    Status(StatusCode),
    /// It is larger than 256 KiB.
    Large,
    /// It is not what it should be.
    Garbled,
    /// The description is another issuer's, or names no `https` address.
    Foreign,
    /// Nothing in it verifies with an algorithm that is allowed.
    NoKey,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Late => f.write_str("it took too long"),
            Self::Status(status) => write!(f, "it answered {status}"),
            Self::Large => write!(f, "it is larger than {SIZE} bytes"),
            Self::Garbled => f.write_str("it is no set of keys"),
            Self::Foreign => {
                f.write_str("the description is another issuer's, or names no https address")
            }
            Self::NoKey => f.write_str("no key in it is of an algorithm that is allowed"),
        }
    }
}

impl std::error::Error for Unread {}

impl KeySet {
    /// The keys at `source` that sign with one of `algorithms`. None are known before [`follow`](Self::follow) runs.
    pub fn new(source: Source, algorithms: Vec<TokenAlgorithm>, times: Times) -> Self {
        Self {
            source,
            algorithms,
            times,
            held: ArcSwap::default(),
            asked: Mutex::default(),
            wake: Notify::new(),
            tries: watch::Sender::new(0),
        }
    }

    /// The keys in the text of a set, as they would be read.
    pub fn judge(text: &[u8], algorithms: &[TokenAlgorithm]) -> Result<Vec<TokenKey>, Unread> {
        let keys = jwks::keys(text, algorithms).ok_or(Unread::Garbled)?;
        if keys.is_empty() { Err(Unread::NoKey) } else { Ok(keys) }
    }

    /// Reads the keys now, and again and again.
    pub(super) async fn follow(&self, clock: &dyn Clock) {
        let mut after_failure = SOON;
        loop {
            let read = timeout(DEADLINE, self.source.read());
            let read = read.await.unwrap_or(Err(Unread::Late));
            let pause = match read.and_then(|text| Self::judge(&text, &self.algorithms)) {
                Ok(keys) => {
                    self.held.store(Held { at: clock.now(), keys }.into());
                    after_failure = SOON;
                    self.times.refresh
                }
                Err(error) => {
                    tracing::warn!(source = %self.source, %error, "keys of the identity provider were not read");
                    let pause = after_failure.min(self.times.refresh);
                    after_failure = (after_failure * 2).min(ASK_EVERY);
                    pause
                }
            };
            self.tries.send_modify(|tries| *tries += 1);
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Whether one of the keys that count now passes.
    pub(super) fn any(&self, now: Micros, passes: impl FnMut(&TokenKey) -> bool) -> bool {
        let held = self.held.load();
        now.since(held.at) <= self.times.keep && held.keys.iter().any(passes)
    }

    /// Whether a key of this algorithm could be among them.
    pub(super) fn allows(&self, algorithm: TokenAlgorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// Has the keys read before their time, for a token that names one that is not known, and waits for that: once a
    /// minute at most. Meanwhile nobody waits.
    pub(super) async fn ask(&self, now: Micros) {
        let mut tries = self.tries.subscribe();
        let done = *tries.borrow_and_update();
        {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            match *asked {
                // The first reading is under way.
                None if done == 0 => {}
                // The reading that somebody asked for is.
                Some(asked) if asked.tries == done && now.since(asked.at) < DEADLINE => {}
                Some(asked) if now.since(asked.at) < ASK_EVERY => return,
                Some(_) | None => {
                    *asked = Some(Asked { at: now, tries: done });
                    self.wake.notify_one();
                }
            }
        }
        // Late or never: then the token is judged by what is known.
        let _ = timeout(DEADLINE, tries.changed()).await;
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Source {
    async fn read(&self) -> Result<Vec<u8>, Unread> {
        match self {
            Self::File(path) => {
                let file = tokio::fs::File::open(path).await.map_err(Unread::Failed)?;
                let mut text = Vec::new();
                let cap = u64::try_from(SIZE).unwrap_or(u64::MAX).saturating_add(1);
                file.take(cap).read_to_end(&mut text).await.map_err(Unread::Failed)?;
                if text.len() > SIZE { Err(Unread::Large) } else { Ok(text) }
            }
            Self::Url(url, tls) => fetch::get(url, tls, SIZE).await,
            Self::Discovery(issuer, tls) => {
                let about = format!("{}{DESCRIPTION}", issuer.trim_end_matches('/'));
                let about = about.parse().map_err(|_| Unread::Foreign)?;
                let text = fetch::get(&about, tls, SIZE).await?;
                let found: Description =
                    serde_json::from_slice(&text).map_err(|_| Unread::Garbled)?;
                let url: Uri = found.jwks_uri.parse().map_err(|_| Unread::Foreign)?;
                if found.issuer != *issuer || url.scheme_str() != Some("https") {
                    return Err(Unread::Foreign);
                }
                fetch::get(&url, tls, SIZE).await
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url, _) => url.fmt(f),
            Self::Discovery(issuer, _) => issuer.fmt(f),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({self})")
    }
}

#[derive(Deserialize)]
struct Description {
    issuer: String,
    jwks_uri: String,
}

const DESCRIPTION: &str = "/.well-known/openid-configuration";
/// The largest document, in bytes.
const SIZE: usize = 256 << 10;
/// The longest that a reading takes, all of it.
const DEADLINE: Duration = Duration::from_secs(5);
/// How often a token may have keys read before their time.
const ASK_EVERY: Duration = Duration::from_mins(1);
/// The pause after a first failure; each further one is twice as long.
const SOON: Duration = Duration::from_secs(1);
