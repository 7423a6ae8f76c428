//! The registry as a whole: its secrets brought under the current master key while the gateways serve.

use serde::Serialize;

use super::call::{Call, Reason, Reply};
use super::caller::Role;
use super::lines::lines;
use super::operation::{Operation, Outcome, Verb, shape};
use super::problem::{Problem, ProblemBody};
use crate::registrar::{RegistrarError, Rewrapped};

/// A line of a rewrapping: how many records there are, how far it has come, or the end.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct RewrapLine {
    /// Whether this is the last line, and all was looked at.
    done: bool,
    /// The master key that everything comes under.
    master: String,
    /// How many records were looked at so far.
    seen: u64,
    /// How many of them were under another master key.
    rewrapped: u64,
    /// How many records there are; in the first line.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    /// Records of this batch that do not open.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<UnopenedView>,
    /// Why it broke off; ask again.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<ProblemBody>,
}

/// A record whose secret does not open.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct UnopenedView {
    /// The record: a key, or an account whose second factor it is.
    record: String,
    /// Why.
    why: String,
}

pub(super) const OPERATIONS: &[Operation] = &[Operation::new(
    Verb::Post,
    "/v1/registry/rewrap",
    "registry.rewrap",
    Role::Security,
    "Bring every secret under the current master key; then earlier ones can be taken away",
    |call| Box::pin(std::future::ready(rewrap(call))),
)
.may_take(shape::<Reason>)
.lines(shape::<RewrapLine>)];

fn rewrap(call: Call) -> Outcome {
    let reason = call.reason()?;
    let (lines, answer) = lines();
    // It goes on to its end, whether or not anybody reads the answer.
    tokio::spawn(async move {
        let actor = call.actor();
        let act = call.act(&actor, reason.as_deref());
        let registrar = &call.api.desk.registrar;
        let master = registrar.masters().current();
        let mut last = Rewrapped::default();
        let outcome = async {
            let total = Some(registrar.count_sealed().await?);
            lines.write(&RewrapLine { total, ..RewrapLine::at(master, &last, 0) });
            let progress = |now: &Rewrapped| {
                lines.write(&RewrapLine::at(master, now, last.failed.len()));
                last.clone_from(now);
            };
            registrar.rewrap(&act, progress).await
        };
        let line = match outcome.await {
            Ok(done) => {
                let told = done.failed.len();
                RewrapLine { done: true, ..RewrapLine::at(master, &done, told) }
            }
            Err(error) => broken_off(master, &last, error),
        };
        lines.write(&line);
    });
    Ok(Reply::lines(answer))
}

fn broken_off(master: &str, last: &Rewrapped, error: RegistrarError) -> RewrapLine {
    let problem = Problem::from(error).cured("ask again: what is done stays done");
    let line = RewrapLine::at(master, last, last.failed.len());
    RewrapLine { problem: Some(problem.body("-")), ..line }
}

impl RewrapLine {
    /// How far it has come, with what failed behind those that were `told`.
    fn at(master: &str, now: &Rewrapped, told: usize) -> Self {
        let unopened = now.failed.iter().skip(told);
        let unopened = unopened
            .map(|(record, why)| UnopenedView { record: record.clone(), why: why.to_string() });
        Self {
            done: false,
            master: master.to_owned(),
            seen: now.seen,
            rewrapped: now.rewrapped,
            total: None,
            failed: unopened.collect(),
            problem: None,
        }
    }
}
