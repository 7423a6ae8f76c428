//! What nobody does alone: asked for by one, approved by another.
//!
//! What waits is a change of a key as it stood when it was asked for: if the key changes meanwhile, it must be asked
//! for again, so that nobody approves what they did not see.

use std::time::Duration;

use data_encoding::HEXLOWER;
use http::StatusCode;
use serde::Serialize;

use super::call::{Call, Reason, Reply, outdated};
use super::caller::Role;
use super::cursor;
use super::key_ask::UpdateKey;
use super::keys;
use super::ledger::{self, Entry};
use super::moment;
use super::operation::{AFTER, LIMIT, Operation, Outcome, Parameter, Scalar, Verb, shape};
use super::problem::Problem;
use crate::clock::Micros;
use crate::registrar::Kept;
use crate::registry::book::{Kind, Query};
use crate::registry::records::{ApprovalRecord, Decision, KeyRecord};

/// What waits for a second person, or waited.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ApprovalView {
    /// Its name.
    id: String,
    /// One more with each change; its `ETag`.
    version: u64,
    /// What was asked for, as `keys.update`.
    operation: String,
    /// The key that it is about.
    key: String,
    /// What is to be changed of it.
    changes: UpdateKey,
    /// Who asked.
    actor: String,
    /// Why.
    reason: Option<String>,
    /// When.
    requested: String,
    /// Until when it can be approved.
    expires: String,
    /// `waiting`, `approved`, `rejected`, `failed` or `expired`.
    state: String,
    /// Who decided.
    decided_by: Option<String>,
}

/// A page of approvals.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ApprovalList {
    items: Vec<ApprovalView>,
    /// Where to go on; `null` at the end.
    next: Option<String>,
}

pub(super) const OPERATIONS: &[Operation] = &[
    Operation::new(
        Verb::Get,
        "/v1/approvals",
        "approvals.list",
        Role::Viewer,
        "What waits for a second person; or all there ever was",
        |call| Box::pin(list(call)),
    )
    .query(&[
        Parameter {
            name: "state",
            about: "`waiting` without it",
            kind: Scalar::Word(&["waiting", "all"]),
        },
        LIMIT,
        AFTER,
    ])
    .answers(200, shape::<ApprovalList>),
    Operation::new(
        Verb::Post,
        "/v1/approvals/{id}/approve",
        "approvals.approve",
        Role::Security,
        "Let it happen; nobody approves what they asked for",
        |call| Box::pin(approve(call)),
    )
    .may_take(shape::<Reason>)
    .answers(200, shape::<ApprovalView>)
    .versioned(),
    Operation::new(
        Verb::Post,
        "/v1/approvals/{id}/reject",
        "approvals.reject",
        Role::Security,
        "Let it not happen",
        |call| Box::pin(reject(call)),
    )
    .may_take(shape::<Reason>)
    .answers(200, shape::<ApprovalView>)
    .versioned(),
];

/// How long an approval waits.
const LIFE: Duration = Duration::from_hours(24);

impl ApprovalView {
    fn of(approval: &Entry<ApprovalRecord>, now: Micros) -> Self {
        let says = &approval.says;
        Self {
            id: approval.id.clone(),
            version: approval.version,
            operation: "keys.update".into(),
            key: says.key.clone(),
            changes: serde_json::from_value(says.changes.clone()).unwrap_or_default(),
            actor: says.actor.clone(),
            reason: says.reason.clone(),
            requested: moment::written(says.requested),
            expires: moment::written(says.expires),
            state: state(says, now).into(),
            decided_by: says.decided_by.clone(),
        }
    }
}

fn state(says: &ApprovalRecord, now: Micros) -> &'static str {
    match says.decision {
        None if says.expires <= now => "expired",
        None => "waiting",
        Some(Decision::Approved) => "approved",
        Some(Decision::Rejected) => "rejected",
        Some(Decision::Failed) => "failed",
    }
}

/// Asks a second person for a change of `key` as it stands.
pub(super) async fn ask(
    call: &Call,
    key: &Kept<KeyRecord>,
    wanted: &UpdateKey,
    reason: Option<String>,
) -> Result<ApprovalView, Problem> {
    let changes = serde_json::to_value(UpdateKey { reason: None, ..wanted.clone() })
        .map_err(|_| Problem::unprocessable("The change cannot be kept."))?;
    let says = ApprovalRecord {
        key: key.id.clone(),
        version: key.version,
        changes,
        actor: call.caller.actor.as_ref().into(),
        reason: reason.clone(),
        requested: call.at,
        expires: call.at + LIFE,
        decision: None,
        decided_by: None,
    };
    let id = fresh(call.at)?;
    let note = ("approvals.ask", reason);
    let approval = ledger::write(call, Kind::Approval, &id, None, says, note).await?;
    Ok(ApprovalView::of(&approval, call.at))
}

/// Names in the order of their time.
fn fresh(at: Micros) -> Result<String, Problem> {
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the system gives no random bytes");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "The system gives no random bytes.")
    })?;
    Ok(format!("{}{}", first_at(at), HEXLOWER.encode(&bytes)))
}

/// No approval of this moment or later has a name before this one.
fn first_at(at: Micros) -> String {
    format!("apv_{:014x}", at.0)
}

async fn list(call: Call) -> Outcome {
    let filter = call.parameter("state");
    let all = filter == Some("all");
    let (limit, mut after) = (call.limit()?, call.after("approvals", &[filter])?);
    if !all && after.is_none() {
        // What was asked for earlier does not wait any more.
        after = Some(first_at(call.at - LIFE));
    }
    let mut items = Vec::new();
    let mut more = true;
    for _ in 0..ledger::PAGES {
        let (kind, account, application) = (Kind::Approval, None, None);
        let query = Query { kind, account, application, after: after.clone(), limit: 100 };
        let page = call.api.desk.registry().list(query).await?;
        more = page.len() == 100;
        for (place, record) in page.iter().enumerate() {
            after = Some(record.id.clone());
            let approval = ledger::entry(record)?;
            if all || state(&approval.says, call.at) == "waiting" {
                items.push(ApprovalView::of(&approval, call.at));
            }
            if items.len() == limit {
                more |= place + 1 < page.len();
                break;
            }
        }
        if !more || items.len() == limit {
            break;
        }
    }
    let next = after.filter(|_| more).map(|last| cursor::after("approvals", &[filter], &last));
    Reply::ok(&ApprovalList { items, next })
}

async fn approve(call: Call) -> Outcome {
    let reason = call.reason()?;
    let approval = waiting(&call).await?;
    if approval.says.actor == *call.caller.actor {
        return Err(Problem::new(StatusCode::FORBIDDEN, "Nobody approves what they asked for.")
            .cured("ask another person of the role security"));
    }
    let wanted: UpdateKey = serde_json::from_value(approval.says.changes.clone())
        .map_err(|_| Problem::conflict("What was asked for cannot be read any more."))?;
    // Decided first: what breaks off after it is not done, rather than done without a decision.
    let decided = decide(&call, approval, Decision::Approved, "approvals.approve", reason).await?;
    let (says, id) = (&decided.says, &decided.id);
    let why = format!("{id}, asked for by {}", says.actor);
    match keys::approved(&call, &says.key, says.version, &wanted, &why).await {
        Ok(_) => shown(&call, &decided),
        Err(problem) => {
            let says = ApprovalRecord { decision: Some(Decision::Failed), ..says.clone() };
            let note = ("approvals.fail", Some(problem.detail.clone()));
            let replaces = Some(decided.version);
            ledger::write(&call, Kind::Approval, id, replaces, says, note).await?;
            if problem.status == StatusCode::PRECONDITION_FAILED {
                let detail = "The key was changed since this was asked for.";
                return Err(Problem::conflict(detail).cured("look at the key, and ask again"));
            }
            Err(problem)
        }
    }
}

async fn reject(call: Call) -> Outcome {
    let reason = call.reason()?;
    let approval = waiting(&call).await?;
    let decided = decide(&call, approval, Decision::Rejected, "approvals.reject", reason).await?;
    shown(&call, &decided)
}

/// The approval of the call, if it waits still.
async fn waiting(call: &Call) -> Result<Entry<ApprovalRecord>, Problem> {
    let found = ledger::find::<ApprovalRecord>(call, Kind::Approval, call.name("id")).await?;
    let approval = found.ok_or_else(|| Problem::missing("approval"))?;
    if call.expected.is_some_and(|expected| expected != approval.version) {
        return Err(outdated(Some(approval.version)));
    }
    match state(&approval.says, call.at) {
        "waiting" => Ok(approval),
        other => Err(Problem::conflict(format!("It does not wait any more: it is {other}."))),
    }
}

async fn decide(
    call: &Call,
    approval: Entry<ApprovalRecord>,
    decision: Decision,
    action: &str,
    reason: Option<String>,
) -> Result<Entry<ApprovalRecord>, Problem> {
    let says = ApprovalRecord {
        decision: Some(decision),
        decided_by: Some(call.caller.actor.as_ref().into()),
        ..approval.says
    };
    let replaces = Some(approval.version);
    let note = (action, reason);
    ledger::write(call, Kind::Approval, &approval.id, replaces, says, note).await
}

fn shown(call: &Call, approval: &Entry<ApprovalRecord>) -> Outcome {
    Ok(Reply::ok(&ApprovalView::of(approval, call.at))?.at_version(approval.version))
}
