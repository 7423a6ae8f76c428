//! The audit trail: searched, and followed.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;

use super::call::{Call, Reply};
use super::caller::Role;
use super::cursor;
use super::key_ask::past;
use super::lines::lines;
use super::operation::{AFTER, LIMIT, Operation, Outcome, Parameter, Scalar, Verb, shape};
use super::problem::Problem;
use super::record::{Sought, TrailReader};

/// A page of records, oldest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RecordList {
    #[schema(value_type = Vec<Object>)]
    items: Vec<serde_json::Value>,
    /// Where to go on; `null` at the end.
    next: Option<String>,
}

/// A record of the audit trail.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct TrailRecord {
    /// The version of its form.
    v: u32,
    /// What it is about: `request`, `intent`, `act`, `event`, `unproven`, `checkpoint` or `segment`.
    kind: String,
    /// When, RFC 3339.
    time: String,
}

pub(super) const OPERATIONS: &[Operation] = &[
    Operation::new(
        Verb::Get,
        "/v1/audit",
        "audit.search",
        Role::Viewer,
        "Records of the audit trail, oldest first",
        |call| Box::pin(search(call)),
    )
    .query(&[
        Parameter { name: "key", about: "Only those of this key", kind: Scalar::Text },
        Parameter { name: "account", about: "Only those of this account", kind: Scalar::Text },
        Parameter { name: "kind", about: "Only those of this kind", kind: Scalar::Word(KINDS) },
        Parameter { name: "since", about: "Not before", kind: Scalar::Moment },
        Parameter { name: "until", about: "Not after", kind: Scalar::Moment },
        LIMIT,
        AFTER,
    ])
    .answers(200, shape::<RecordList>),
    Operation::new(
        Verb::Get,
        "/v1/audit/tail",
        "audit.tail",
        Role::Viewer,
        "Records as they come, a line each; the connection ends after some minutes",
        |call| Box::pin(tail(call)),
    )
    .lines(shape::<TrailRecord>),
];

const KINDS: &[&str] = &["request", "intent", "act", "event", "unproven", "checkpoint", "segment"];

async fn search(call: Call) -> Outcome {
    let trail = trail(&call)?;
    let text = |name| call.parameter(name);
    let filters = [text("key"), text("account"), text("kind"), text("since"), text("until")];
    let after = call.after("audit", &filters)?.and_then(|text| text.parse().ok());
    let limit = call.limit()?;
    let owned = |name| text(name).map(ToOwned::to_owned);
    let moment = |name| text(name).map(|text| past(name, text, call.at)).transpose();
    let sought = Sought {
        key: owned("key"),
        account: owned("account"),
        kind: owned("kind"),
        since: moment("since").map_err(bad)?,
        until: moment("until").map_err(bad)?,
        after,
        limit: limit + 1,
    };
    let mut items = tokio::task::spawn_blocking(move || trail.search(&sought))
        .await
        .map_err(|error| unreadable(&error))?
        .map_err(|error| unreadable(&error))?;
    let more = items.len() > limit;
    items.truncate(limit);
    let number = |record: &serde_json::Value| record.get("n").map(ToString::to_string);
    let last = items.last().filter(|_| more).and_then(number);
    let next = last.map(|last| cursor::after("audit", &filters, &last));
    Reply::ok(&RecordList { items, next })
}

async fn tail(call: Call) -> Outcome {
    let trail = trail(&call)?;
    let following = tokio::task::spawn_blocking(move || trail.follow()).await;
    let mut following =
        following.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))?;
    let (lines, answer) = lines();
    tokio::spawn(async move {
        loop {
            let asked = tokio::task::spawn_blocking(move || (following(), following)).await;
            let Ok((Ok(records), again)) = asked else { return };
            following = again;
            for record in records {
                if !lines.write_line(record) {
                    return;
                }
            }
            tokio::select! {
                () = lines.closed() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    });
    Ok(Reply::lines(answer))
}

/// How often the trail is looked at for what is new.
const LOOK_EVERY: Duration = Duration::from_millis(250);

fn trail(call: &Call) -> Result<Arc<dyn TrailReader>, Problem> {
    call.api.desk.trail.clone().ok_or_else(|| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "This gateway keeps no audit trail.")
            .cured("configure `[audit]`")
    })
}

/// A moment in the query is a fault of the request.
fn bad(problem: Problem) -> Problem {
    Problem { status: StatusCode::BAD_REQUEST, ..problem }
}

fn unreadable(error: &dyn std::fmt::Display) -> Problem {
    tracing::error!(%error, "the audit trail could not be read");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "The audit trail cannot be read.")
        .cured("the log says why")
}
