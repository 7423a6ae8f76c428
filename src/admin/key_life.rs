//! The life of a key: its history; rotate, suspend, resume, revoke, and recover when it was lost.

use std::time::Duration;

use serde::Serialize;

use super::call::{Call, Reason, Reply, sound_reason};
use super::caller::Role;
use super::cursor;
use super::key_ask::{LostKey, RotateKey, past, span};
use super::key_view::{IssuedView, KeyView, RecoveryView, state};
use super::moment;
use super::operation::{AFTER, LIMIT, Operation, Outcome, Verb, shape};
use super::problem::Problem;
use super::record::Activity;
use crate::clock::Micros;
use crate::registrar::Kept;
use crate::registry::book::Kind;
use crate::registry::records::KeyRecord;

const MORE: &str = "a key that may withdraw takes security: its new secret is in the answer";

pub(super) const OPERATIONS: &[Operation] = &[
    Operation::new(
        Verb::Post,
        "/v1/keys/{id}/rotate",
        "keys.rotate",
        Role::Operator,
        "Give a key another secret; the one before is good for a while still",
        |call| Box::pin(rotate(call)),
    )
    .more(MORE)
    .may_take(shape::<RotateKey>)
    .answers(200, shape::<IssuedView>)
    .secret()
    .versioned(),
    Operation::new(
        Verb::Post,
        "/v1/keys/{id}/suspend",
        "keys.suspend",
        Role::Operator,
        "Set a key aside",
        |call| Box::pin(suspend(call)),
    )
    .may_take(shape::<Reason>)
    .answers(200, shape::<KeyView>)
    .versioned()
    .binds(),
    Operation::new(
        Verb::Post,
        "/v1/keys/{id}/resume",
        "keys.resume",
        Role::Operator,
        "Take a key that was set aside into use again",
        |call| Box::pin(resume(call)),
    )
    .may_take(shape::<Reason>)
    .answers(200, shape::<KeyView>)
    .versioned(),
    Operation::new(
        Verb::Post,
        "/v1/keys/{id}/revoke",
        "keys.revoke",
        Role::Operator,
        "End a key for good",
        |call| Box::pin(revoke(call)),
    )
    .may_take(shape::<Reason>)
    .answers(200, shape::<KeyView>)
    .versioned()
    .binds(),
    Operation::new(
        Verb::Post,
        "/v1/keys/{id}/compromised",
        "keys.compromised",
        Role::Operator,
        "Recover from a loss: revoke, replace, and tell what was done with it",
        |call| Box::pin(compromised(call)),
    )
    .more(MORE)
    .may_take(shape::<LostKey>)
    .answers(200, shape::<RecoveryView>)
    .secret()
    .versioned()
    .binds(),
    Operation::new(
        Verb::Get,
        "/v1/keys/{id}/history",
        "keys.history",
        Role::Viewer,
        "Changes of a key, the newest first",
        |call| Box::pin(history(call)),
    )
    .query(&[LIMIT, AFTER])
    .answers(200, shape::<History>),
];

/// A page of changes.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct History {
    items: Vec<ChangeView>,
    /// Where to go on; `null` at the end.
    next: Option<String>,
}

/// A change that was made.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct ChangeView {
    /// The version that it left.
    version: u64,
    /// The registry's revision that it made.
    revision: u64,
    /// When.
    at: String,
    /// Who.
    actor: String,
    /// What was done, as `keys.revoke`.
    act: String,
    /// Why, in the words of whoever did it.
    reason: Option<String>,
    /// What it left the key as.
    state: Option<String>,
}

/// How long the secret before stays good where the caller does not say.
const OVERLAP: Duration = Duration::from_hours(24);
/// How far back to look at what a lost key did.
const LOST_FOR: Duration = Duration::from_hours(24);

async fn rotate(call: Call) -> Outcome {
    let body: RotateKey = call.read()?;
    let reason = sound_reason(body.reason)?;
    let overlap = body.overlap.map_or(Ok(OVERLAP), |text| span("overlap", &text))?;
    let id = call.name("id");
    demand(&call, id).await?;
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    let registrar = &call.api.desk.registrar;
    let issued = registrar.rotate(&act, id, overlap, body.public_key.as_deref()).await?;
    let reply = Reply::ok(&IssuedView::of(&issued, call.at))?;
    let reply = reply.at_version(issued.key.version).binding(issued.key.revision);
    Ok(if issued.secret.is_some() { reply.with_secret() } else { reply })
}

async fn suspend(call: Call) -> Outcome {
    let reason = call.reason()?;
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    let key = call.api.desk.registrar.suspend(&act, call.name("id")).await?;
    Ok(shown(&call, &key)?.binding(key.revision))
}

async fn resume(call: Call) -> Outcome {
    let reason = call.reason()?;
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    shown(&call, &call.api.desk.registrar.resume(&act, call.name("id")).await?)
}

async fn revoke(call: Call) -> Outcome {
    let reason = call.reason()?;
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    let key = call.api.desk.registrar.revoke(&act, call.name("id")).await?;
    Ok(shown(&call, &key)?.binding(key.revision))
}

async fn compromised(call: Call) -> Outcome {
    let body: LostKey = call.read()?;
    let reason = sound_reason(body.reason)?;
    let since = body.since.map_or(Ok(call.at - LOST_FOR), |text| past("since", &text, call.at))?;
    let id = call.name("id");
    demand(&call, id).await?;
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    let registrar = &call.api.desk.registrar;
    let recovery = registrar.compromised(&act, id, body.public_key.as_deref()).await?;
    let activity = activity(&call, id, since).await;
    let view = RecoveryView {
        revoked: KeyView::of(&recovery.revoked, call.at),
        replacement: recovery.replacement.as_ref().map(|issued| IssuedView::of(issued, call.at)),
        activity,
    };
    let reply = Reply::ok(&view)?.at_version(recovery.revoked.version);
    let reply = reply.binding(recovery.revoked.revision);
    Ok(if recovery.replacement.is_some() { reply.with_secret() } else { reply })
}

async fn history(call: Call) -> Outcome {
    let id = call.name("id");
    let limit = call.limit()?;
    let before = call.after("history", &[Some(id)])?.and_then(|text| text.parse().ok());
    let registrar = &call.api.desk.registrar;
    let mut changes = registrar.history(Kind::Key, id, before, limit + 1).await?;
    if changes.is_empty() && before.is_none() {
        return Err(Problem::missing("key"));
    }
    let more = changes.len() > limit;
    changes.truncate(limit);
    let next = changes.last().filter(|_| more).map(|last| last.record.revision.to_string());
    let items = changes.into_iter().map(|change| {
        let says: Option<KeyRecord> = serde_json::from_slice(&change.record.body).ok();
        ChangeView {
            version: change.record.version,
            revision: change.record.revision,
            at: moment::written(change.note.at),
            actor: change.note.actor,
            act: change.note.action,
            reason: change.note.reason,
            state: says.map(|says| state(&says, change.note.at).to_owned()),
        }
    });
    Reply::ok(&History {
        items: items.collect(),
        next: next.map(|last| cursor::after("history", &[Some(id)], &last)),
    })
}

/// What the key did since then; `None` where nobody can tell.
async fn activity(call: &Call, id: &str, since: Micros) -> Option<Vec<Activity>> {
    let trail = call.api.desk.trail.clone()?;
    let id = id.to_owned();
    let read = tokio::task::spawn_blocking(move || trail.activity(&id, since)).await;
    match read {
        Ok(Ok(activity)) => Some(activity),
        Ok(Err(error)) => {
            tracing::error!(%error, "the audit trail could not be read");
            None
        }
        Err(error) => {
            tracing::error!(%error, "the audit trail could not be read");
            None
        }
    }
}

/// Whoever gets the secret of a key that may withdraw could withdraw.
async fn demand(call: &Call, id: &str) -> Result<(), Problem> {
    if call.caller.role >= Role::Security {
        return Ok(());
    }
    let key = call.api.desk.registrar.key(id).await?;
    if key.says.permissions.iter().any(|name| name == "withdraw") {
        let what = "the new secret of a key that may withdraw";
        return call.demand(Role::Security, what).map_err(|problem| {
            problem.cured(
                "suspend or revoke the key if it is urgent, and ask somebody of the role security",
            )
        });
    }
    Ok(())
}

fn shown(call: &Call, key: &Kept<KeyRecord>) -> Outcome {
    Ok(Reply::ok(&KeyView::of(key, call.at))?.at_version(key.version))
}
