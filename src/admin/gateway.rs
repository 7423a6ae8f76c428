//! What the gateway and the API say of themselves.

use serde::Serialize;

use super::call::{Call, Reply};
use super::caller::Role;
use super::operation::{Operation, Outcome, Verb, shape};
use super::{moment, openapi};

/// Who the caller is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct WhoAmI {
    /// The name that audit records and the history keep.
    actor: String,
    /// What it may do.
    role: Role,
    /// How it was shown: `socket`, `token`, `certificate` or `provider`.
    proof: String,
}

/// The gateway that answers.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct GatewayView {
    /// The version of the program.
    version: String,
    /// When it started, RFC 3339.
    started: String,
    /// For how long it has run, in seconds.
    uptime: u64,
    /// The registry's last revision.
    revision: u64,
    /// Permissions that nobody grants alone.
    four_eyes: Vec<String>,
}

/// An `OpenAPI` document.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Description {
    /// The version of `OpenAPI`.
    openapi: String,
}

pub(super) const OPERATIONS: &[Operation] = &[
    Operation::new(
        Verb::Get,
        "/v1/openapi.json",
        "gateway.openapi",
        Role::Viewer,
        "The description of this API",
        |_| Box::pin(std::future::ready(describe())),
    )
    .answers(200, shape::<Description>),
    Operation::new(
        Verb::Get,
        "/v1/whoami",
        "gateway.whoami",
        Role::Viewer,
        "Who the caller is, and their role",
        |call| Box::pin(std::future::ready(whoami(call))),
    )
    .answers(200, shape::<WhoAmI>),
    Operation::new(
        Verb::Get,
        "/v1/gateway",
        "gateway.show",
        Role::Viewer,
        "The gateway that answers",
        |call| Box::pin(show(call)),
    )
    .answers(200, shape::<GatewayView>),
];

fn describe() -> Outcome {
    Reply::ok(openapi::document())
}

fn whoami(call: Call) -> Outcome {
    let caller = call.caller;
    Reply::ok(&WhoAmI {
        actor: caller.actor.as_ref().into(),
        role: caller.role,
        proof: caller.proof.name().into(),
    })
}

async fn show(call: Call) -> Outcome {
    let desk = &call.api.desk;
    let revision = desk.registry().revision().await?;
    Reply::ok(&GatewayView {
        version: env!("CARGO_PKG_VERSION").into(),
        started: moment::written(desk.facts.started),
        uptime: call.at.since(desk.facts.started).as_secs(),
        revision,
        four_eyes: desk.facts.four_eyes.clone(),
    })
}
