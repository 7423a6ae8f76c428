//! The keys that sign, as read from files: one JSON object a line.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Deserialize;

use crate::clock::Micros;
use crate::dialect::{Credentials, Dialect};
use crate::key::{Algorithm, Signer};

/// A key and what it signs with.
#[derive(Debug)]
pub struct ClientKey {
    id: String,
    signer: Signer,
    passphrase: Option<String>,
    /// The last time that this key signed, in microseconds since the epoch.
    last: AtomicU64,
}

#[derive(Deserialize)]
struct Line {
    key: String,
    secret: String,
    passphrase: Option<String>,
    algorithm: Option<String>,
}

impl ClientKey {
    /// A key of `dialect`; of HMAC with SHA-256 where the dialect has it and no algorithm is given.
    pub fn new(
        dialect: &Dialect,
        id: String,
        secret: &[u8],
        passphrase: Option<String>,
        algorithm: Option<&str>,
    ) -> Result<Self, String> {
        let algorithm = match algorithm {
            Some(name) => dialect.algorithms().find(|known| known.name() == name),
            None => dialect
                .algorithms()
                .find(|known| *known == Algorithm::HmacSha256)
                .or_else(|| dialect.algorithms().next()),
        };
        let algorithm = algorithm.ok_or_else(|| {
            let known: Vec<_> = dialect.algorithms().map(Algorithm::name).collect();
            format!("key {id}: {} has keys of {}", dialect.name(), known.join(", "))
        })?;
        let signer = dialect.read_signer(algorithm, secret);
        let signer = signer.map_err(|error| format!("the secret of key {id}: {error}"))?;
        if dialect.has_passphrase() && passphrase.is_none() {
            return Err(format!("key {id}: {} needs a passphrase", dialect.name()));
        }
        Ok(Self { id, signer, passphrase, last: AtomicU64::new(0) })
    }

    /// Reads `{"key", "secret", "passphrase"?, "algorithm"?}`, one a line.
    pub fn parse_all(dialect: &Dialect, text: &str) -> Result<Vec<Self>, String> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let key = |(place, line): (usize, &str)| {
            // The error of the parser could repeat a secret.
            let line: Line = serde_json::from_str(line)
                .map_err(|_| format!("line {}: no JSON object with key and secret", place + 1))?;
            let (secret, algorithm) = (line.secret.as_bytes(), line.algorithm.as_deref());
            Self::new(dialect, line.key, secret, line.passphrase, algorithm)
        };
        lines.map(key).collect()
    }

    pub(super) fn credentials(&self) -> Credentials<'_> {
        Credentials {
            key_id: &self.id,
            signer: &self.signer,
            passphrase: self.passphrase.as_deref(),
        }
    }

    /// A time to sign that this key has not signed yet: `now`, or one `unit` after the last.
    pub(super) fn own_time(&self, now: Micros, unit: Duration) -> Micros {
        let after = |last: u64| now.max(Micros(last) + unit);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let last = self.last.fetch_update(set, fetch, |last| Some(after(last).0));
        last.map_or(now, after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::builtin;

    fn dialect(name: &str) -> Dialect {
        builtin(name).unwrap().unwrap()
    }

    #[test]
    fn keys_are_read_one_a_line() {
        let text = "{\"key\":\"a\",\"secret\":\"s\"}\n\n{\"key\":\"b\",\"secret\":\"t\",\"algorithm\":\"hmac-sha256\"}\n";
        let keys = ClientKey::parse_all(&dialect("binance"), text).unwrap();
        assert_eq!(keys.iter().map(|key| &*key.id).collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_key_that_cannot_sign_is_refused_and_its_secret_not_repeated() {
        let binance = dialect("binance");
        for line in [
            "hunter2",
            r#"{"key":"a","secret":"hunter2""#,
            r#"{"key":"a","secret":"hunter2","algorithm":"hmac-md5"}"#,
            r#"{"key":"a","secret":"hunter2","algorithm":"ed25519"}"#,
        ] {
            let error = ClientKey::parse_all(&binance, line).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let line = r#"{"key":"a","secret":"hunter2"}"#;
        let error = ClientKey::parse_all(&dialect("bitget"), line).unwrap_err();
        assert!(error.contains("passphrase"), "{error}");
    }

    #[test]
    fn a_key_never_signs_the_same_time_twice() {
        let key = ClientKey::new(&dialect("binance"), "a".into(), b"s", None, None).unwrap();
        let (now, unit) = (Micros::from_millis(1_700_000_000_000), Duration::from_millis(1));
        assert_eq!(key.own_time(now, unit), now);
        assert_eq!(key.own_time(now, unit), now + unit);
        assert_eq!(key.own_time(now + unit * 5, unit), now + unit * 5);
    }
}
