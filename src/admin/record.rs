//! What is noted of each call: the seam to the audit trail.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use super::caller::Caller;
use crate::clock::Micros;

/// A call that was answered, whichever way. It holds no secret and no token.
#[derive(Debug)]
pub struct Logged<'a> {
    /// When it came.
    pub at: Micros,
    /// Its id, which its answer carries.
    pub request: &'a str,
    /// Who called.
    pub caller: &'a Caller,
    /// The operation's name, as `keys.revoke`; `-` where there is none at that path.
    pub operation: &'static str,
    /// What it was done to, or would have been.
    pub subject: Option<&'a str>,
    /// The status of the answer.
    pub status: u16,
    /// Why it was refused.
    pub detail: Option<&'a str>,
    /// How long it took.
    pub took: Duration,
}

/// Once it is kept, or cannot be.
pub type Noting<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Keeps what is noted.
pub trait CallLog: fmt::Debug + Send + Sync {
    /// Whether calls can be kept: where they cannot, nothing is changed.
    fn is_writing(&self) -> bool {
        true
    }

    /// A call of a known caller ended; its answer waits for this.
    fn called<'a>(&'a self, call: &'a Logged<'a>) -> Noting<'a>;

    /// Wrong credentials came from `address`: so many within a minute by now. Called for the first, the tenth, the
    /// hundredth … alone.
    fn unproven(&self, at: Micros, address: Option<IpAddr>, count: u32);
}

/// Writes calls to the log alone, where there is no audit trail.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogAlone;

impl CallLog for LogAlone {
    fn called<'a>(&'a self, call: &'a Logged<'a>) -> Noting<'a> {
        tracing::info!(
            request = call.request,
            actor = &*call.caller.actor,
            proof = call.caller.proof.name(),
            operation = call.operation,
            subject = call.subject,
            status = call.status,
            detail = call.detail,
            "admin call"
        );
        Box::pin(std::future::ready(()))
    }

    fn unproven(&self, _: Micros, address: Option<IpAddr>, count: u32) {
        tracing::warn!(?address, count, "wrong admin credentials");
    }
}

/// Which records of the audit trail are asked for; what is `None` is any.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Sought {
    /// The key's id.
    pub key: Option<String>,
    /// The account.
    pub account: Option<String>,
    /// The kind of record.
    pub kind: Option<String>,
    /// Not before.
    pub since: Option<Micros>,
    /// Not after.
    pub until: Option<Micros>,
    /// Only those behind the record of this number.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

/// What a key did from one address on one route.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct Activity {
    /// Where from.
    pub address: String,
    /// On which route.
    pub route: String,
    /// How many requests.
    pub count: u64,
    /// How many of them were refused.
    pub refused: u64,
    /// When first, RFC 3339.
    pub first: String,
    /// When last.
    pub last: String,
}

/// The records that have come since it was last called, a JSON object each.
pub type Following = Box<dyn FnMut() -> io::Result<Vec<String>> + Send>;

/// Reads the audit trail. Each call may block: it is made where that does no harm.
pub trait TrailReader: fmt::Debug + Send + Sync {
    /// Records, oldest first.
    fn search(&self, sought: &Sought) -> io::Result<Vec<serde_json::Value>>;

    /// What a key did since a moment.
    fn activity(&self, key: &str, since: Micros) -> io::Result<Vec<Activity>>;

    /// Follows the trail from now on.
    fn follow(&self) -> io::Result<Following>;
}
