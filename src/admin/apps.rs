//! Applications: the vetted third parties that keys are made for.

use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::call::{Call, Reason, Reply, sound_reason};
use super::caller::Role;
use super::confirm::{self, Gateways};
use super::cursor;
use super::desk::Desk;
use super::key_ask::networks;
use super::key_view::IssuedView;
use super::lines::{Lines, lines};
use super::moment;
use super::operation::{AFTER, LIMIT, Operation, Outcome, Verb, shape};
use super::problem::{Problem, ProblemBody};
use crate::clock::Micros;
use crate::registrar::{
    ApplicationChanges, Kept, Lost, NewApplication, RegistrarError, Sweep, Sweeping, Swept,
};
use crate::registry::records::ApplicationRecord;

const MORE: &str = "a ceiling with `withdraw` takes security";

/// An application.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct AppView {
    /// Its name.
    name: String,
    /// One more with each change; its `ETag`.
    version: u64,
    /// Whom to ask.
    contact: String,
    /// The most that its keys may do.
    permissions: Vec<String>,
    /// Where its keys may be used from; anywhere when empty.
    allowlist: Vec<String>,
    /// Whether none of its keys is good for now.
    stopped: bool,
    /// Keys made no later are lost.
    compromised: Option<String>,
}

/// A page of applications.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct AppList {
    items: Vec<AppView>,
    /// Where to go on; `null` at the end.
    next: Option<String>,
}

/// An application to be made.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateApp {
    /// Its name: up to 256 printable ASCII characters without spaces.
    #[schema(min_length = 1, max_length = 256, pattern = "^[!-~]+$")]
    name: String,
    /// Whom to ask.
    #[serde(default)]
    contact: Option<String>,
    /// The most that its keys may do.
    permissions: Vec<String>,
    /// Where its keys may be used from; anywhere when empty.
    #[serde(default)]
    allowlist: Vec<String>,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

/// What is changed of an application; what is left out stays.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateApp {
    /// Whom to ask.
    #[serde(default)]
    contact: Option<String>,
    /// The most that its keys may do.
    #[serde(default)]
    permissions: Option<Vec<String>>,
    /// Where its keys may be used from; anywhere when empty.
    #[serde(default)]
    allowlist: Option<Vec<String>>,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

/// How an application's keys are dealt with.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct LostApp {
    /// Whether each key gets a replacement, whose secret is in the answer.
    #[serde(default)]
    replace: bool,
    /// Goes on with a recovery that broke off: keys that were made since are not lost.
    #[serde(default)]
    resume: bool,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

/// A line of a recovery: how many there are, a batch that was dealt with, or the end.
#[derive(Serialize, utoipa::ToSchema)]
struct SweepLine {
    /// Whether this is the last line, and all is done.
    done: bool,
    /// How many were revoked so far.
    revoked: u64,
    /// How many are to be revoked: in the first line, from which on none of them is good any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    /// The keys of this batch, and whom to tell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keys: Vec<LostView>,
    /// How many were replaced; at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced: Option<u64>,
    /// How many owners there are to tell; at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    accounts: Option<usize>,
    /// Keys made no later were lost; at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    compromised: Option<String>,
    /// Which gateways have applied all of it; at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateways: Option<Gateways>,
    /// Why it broke off; ask again with `resume`.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<ProblemBody>,
}

/// A key that was lost.
#[derive(Serialize, utoipa::ToSchema)]
struct LostView {
    /// The key.
    key: String,
    /// Whom to tell.
    account: String,
    /// What its holder calls it.
    label: String,
    /// The one in its place, with its secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    replacement: Option<IssuedView>,
}

pub(super) const OPERATIONS: &[Operation] = &[
    Operation::new(
        Verb::Get,
        "/v1/apps",
        "apps.list",
        Role::Viewer,
        "Applications in the order of their names",
        |call| Box::pin(list(call)),
    )
    .query(&[LIMIT, AFTER])
    .answers(200, shape::<AppList>),
    Operation::new(
        Verb::Post,
        "/v1/apps",
        "apps.create",
        Role::Operator,
        "Make an application",
        |call| Box::pin(create(call)),
    )
    .more(MORE)
    .takes(shape::<CreateApp>)
    .answers(201, shape::<AppView>),
    Operation::new(
        Verb::Get,
        "/v1/apps/{name}",
        "apps.show",
        Role::Viewer,
        "An application",
        |call| Box::pin(show(call)),
    )
    .answers(200, shape::<AppView>)
    .versioned(),
    Operation::new(
        Verb::Patch,
        "/v1/apps/{name}",
        "apps.update",
        Role::Operator,
        "Change an application; its keys are bound by it at once",
        |call| Box::pin(update(call)),
    )
    .more(MORE)
    .takes(shape::<UpdateApp>)
    .answers(200, shape::<AppView>)
    .versioned(),
    Operation::new(
        Verb::Post,
        "/v1/apps/{name}/stop",
        "apps.stop",
        Role::Operator,
        "Let none of an application's keys be good",
        |call| Box::pin(stop(call)),
    )
    .may_take(shape::<Reason>)
    .answers(200, shape::<AppView>)
    .versioned()
    .binds(),
    Operation::new(
        Verb::Post,
        "/v1/apps/{name}/start",
        "apps.start",
        Role::Operator,
        "Let them be good again, but for those that were lost",
        |call| Box::pin(start(call)),
    )
    .may_take(shape::<Reason>)
    .answers(200, shape::<AppView>)
    .versioned(),
    Operation::new(
        Verb::Post,
        "/v1/apps/{name}/compromised",
        "apps.compromised",
        Role::Security,
        "Recover from a vendor's loss: none of its keys is good at once, then each is revoked; tells whom to tell",
        |call| Box::pin(compromised(call)),
    )
    .may_take(shape::<LostApp>)
    .lines(shape::<SweepLine>)
    .secret()
    .versioned()
    .binds(),
];

impl AppView {
    fn of(app: Kept<ApplicationRecord>) -> Self {
        Self {
            name: app.id,
            version: app.version,
            contact: app.says.contact,
            permissions: app.says.permissions,
            allowlist: app.says.allowlist.iter().map(ToString::to_string).collect(),
            stopped: app.says.stopped,
            compromised: app.says.compromised.map(moment::written),
        }
    }
}

async fn list(call: Call) -> Outcome {
    let after = call.after("apps", &[])?;
    let page = call.api.desk.registrar.applications(after, call.limit()?).await?;
    Reply::ok(&AppList {
        items: page.items.into_iter().map(AppView::of).collect(),
        next: page.next.map(|last| cursor::after("apps", &[], &last)),
    })
}

async fn show(call: Call) -> Outcome {
    shown(call.api.desk.registrar.application(call.name("name")).await?)
}

async fn create(call: Call) -> Outcome {
    let body: CreateApp = call.read()?;
    let reason = sound_reason(body.reason)?;
    ceiling(&call, &body.permissions)?;
    let new = NewApplication {
        name: body.name,
        contact: body.contact.unwrap_or_default(),
        permissions: body.permissions,
        allowlist: networks(&body.allowlist)?,
    };
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    let app = call.api.desk.registrar.create_application(&act, new).await?;
    let (version, name) = (app.version, app.id.clone());
    let reply = Reply::json(StatusCode::CREATED, &AppView::of(app))?;
    Ok(reply.at_version(version).of(name))
}

async fn update(call: Call) -> Outcome {
    let body: UpdateApp = call.read()?;
    let reason = sound_reason(body.reason)?;
    ceiling(&call, body.permissions.as_deref().unwrap_or_default())?;
    let changes = ApplicationChanges {
        contact: body.contact,
        permissions: body.permissions,
        allowlist: body.allowlist.as_deref().map(networks).transpose()?,
    };
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    let registrar = &call.api.desk.registrar;
    shown(registrar.update_application(&act, call.name("name"), &changes).await?)
}

async fn stop(call: Call) -> Outcome {
    let reason = call.reason()?;
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    shown(call.api.desk.registrar.stop(&act, call.name("name")).await?)
}

async fn start(call: Call) -> Outcome {
    let reason = call.reason()?;
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    shown(call.api.desk.registrar.start(&act, call.name("name")).await?)
}

async fn compromised(call: Call) -> Outcome {
    let body: LostApp = call.read()?;
    let reason = sound_reason(body.reason)?;
    let name = call.name("name").to_owned();
    // What is plainly wrong is refused before the answer begins.
    let app = call.api.desk.registrar.application(&name).await?;
    if call.expected.is_some_and(|expected| expected != app.version) {
        return Err(super::call::outdated(Some(app.version)));
    }
    let wait = confirm::patience(&call)?;
    let (lines, answer) = lines();
    let sweep = Sweep { replace: body.replace, resume: body.resume };
    // It goes on to its end, whether or not anybody reads the answer.
    tokio::spawn(async move {
        let actor = call.actor();
        let act = call.act(&actor, reason.as_deref());
        let mut revoked = 0;
        let progress = |sweeping| match sweeping {
            Sweeping::Begun(total) => {
                lines.write(&SweepLine { total: Some(total), ..SweepLine::at(0) });
            }
            Sweeping::Revoked(lost) => {
                revoked += u64::try_from(lost.len()).unwrap_or(u64::MAX);
                batch(&lines, lost, revoked, call.at);
            }
        };
        let registrar = &call.api.desk.registrar;
        let swept = registrar.application_compromised(&act, &name, sweep, progress).await;
        end(&lines, swept, revoked, (&call.api.desk, wait)).await;
    });
    Ok(Reply::lines(answer))
}

fn batch(lines: &Lines, lost: Vec<Lost>, revoked: u64, now: Micros) {
    let keys = lost.into_iter().map(|lost| LostView {
        key: lost.id,
        account: lost.account,
        label: lost.label,
        replacement: lost.replacement.as_ref().map(|issued| IssuedView::of(issued, now)),
    });
    lines.write(&SweepLine { keys: keys.collect(), ..SweepLine::at(revoked) });
}

async fn end(
    lines: &Lines,
    swept: Result<Swept, RegistrarError>,
    revoked: u64,
    (desk, wait): (&Desk, Duration),
) {
    let line = match swept {
        Ok(swept) => SweepLine {
            done: true,
            replaced: Some(swept.replaced),
            accounts: Some(swept.accounts.len()),
            compromised: Some(moment::written(swept.compromised)),
            gateways: Some(confirm::gateways(desk, swept.revision, wait).await),
            ..SweepLine::at(swept.revoked)
        },
        Err(error) => {
            let problem = Problem::from(error).cured("ask again with `resume`: true");
            SweepLine { problem: Some(problem.body("-")), ..SweepLine::at(revoked) }
        }
    };
    lines.write(&line);
}

impl SweepLine {
    fn at(revoked: u64) -> Self {
        Self {
            done: false,
            revoked,
            total: None,
            keys: Vec::new(),
            replaced: None,
            accounts: None,
            compromised: None,
            gateways: None,
            problem: None,
        }
    }
}

/// What an application may do at most, its keys may be given.
fn ceiling(call: &Call, permissions: &[String]) -> Result<(), Problem> {
    if permissions.iter().any(|name| name == "withdraw") {
        return call.demand(Role::Security, "a ceiling with `withdraw`");
    }
    Ok(())
}

fn shown(app: Kept<ApplicationRecord>) -> Outcome {
    let (version, revision) = (app.version, app.revision);
    Ok(Reply::ok(&AppView::of(app))?.at_version(version).binding(revision))
}
