//! Keys: make, list, show, change, take in, give out.

use super::approvals::{self, ApprovalView};
use super::call::{Call, Reply, sound_reason};
use super::caller::Role;
use super::cursor;
use super::key_ask::{CreateKey, ImportKey, UpdateKey, coming, networks, span};
use super::key_view::{IssuedView, KeyList, KeyView};
use super::operation::{AFTER, LIMIT, Operation, Outcome, Parameter, Scalar, Verb, shape};
use super::problem::Problem;
use super::uses::Uses;
use crate::clock::Micros;
use crate::key::lifecycle::{self, Changes};
use crate::registrar::{Act, Actor, Import, Issued, Kept, KeyFilter, NewKey, RegistrarError};
use crate::registry::book::Kind;
use crate::registry::records::{KeyRecord, Life};
use http::StatusCode;

const MORE: &str = "granting `withdraw`, or widening a key that has it, takes security";

pub(super) const OPERATIONS: &[Operation] = &[
    Operation::new(
        Verb::Get,
        "/v1/keys",
        "keys.list",
        Role::Viewer,
        "Keys in the order of their ids",
        |call| Box::pin(list(call)),
    )
    .query(&[
        Parameter { name: "account", about: "Only those of this account", kind: Scalar::Text },
        Parameter { name: "application", about: "Only those for this one", kind: Scalar::Text },
        Parameter {
            name: "state",
            about: "Only those in this state",
            kind: Scalar::Word(&["active", "suspended", "revoked"]),
        },
        LIMIT,
        AFTER,
    ])
    .answers(200, shape::<KeyList>),
    Operation::new(Verb::Post, "/v1/keys", "keys.create", Role::Operator, "Make a key", |call| {
        Box::pin(create(call))
    })
    .more(MORE)
    .takes(shape::<CreateKey>)
    .answers(201, shape::<IssuedView>)
    .secret(),
    Operation::new(
        Verb::Post,
        "/v1/keys/import",
        "keys.import",
        Role::Operator,
        "Take in a key that was made elsewhere",
        |call| Box::pin(import(call)),
    )
    .more(MORE)
    .takes(shape::<ImportKey>)
    .answers(201, shape::<IssuedView>),
    Operation::new(
        Verb::Get,
        "/v1/keys/{id}",
        "keys.show",
        Role::Viewer,
        "A key, without anything secret",
        |call| Box::pin(show(call)),
    )
    .answers(200, shape::<KeyView>)
    .versioned(),
    Operation::new(
        Verb::Patch,
        "/v1/keys/{id}",
        "keys.update",
        Role::Operator,
        "Change what a key is called or bound to",
        |call| Box::pin(update(call)),
    )
    .more(MORE)
    .takes(shape::<UpdateKey>)
    .answers(200, shape::<KeyView>)
    .awaits(shape::<ApprovalView>)
    .versioned(),
    Operation::new(
        Verb::Get,
        "/v1/keys/{id}/export",
        "keys.export",
        Role::Viewer,
        "A key to be kept elsewhere: as it is shown, for no answer carries a secret, sealed or not",
        |call| Box::pin(show(call)),
    )
    .answers(200, shape::<KeyView>)
    .versioned(),
];

async fn list(call: Call) -> Outcome {
    let text = |name| call.parameter(name);
    let filters = [text("account"), text("application"), text("state")];
    let state = match text("state") {
        Some("active") => Some(Life::Active),
        Some("suspended") => Some(Life::Suspended),
        Some("revoked") => Some(Life::Revoked),
        Some(_) | None => None,
    };
    let filter = KeyFilter {
        account: text("account").map(ToOwned::to_owned),
        application: text("application").map(ToOwned::to_owned),
        state,
        after: call.after("keys", &filters)?,
        limit: call.limit()?,
    };
    let page = call.api.desk.registrar.keys(filter).await?;
    let uses = Uses::of(&**call.api.desk.registry(), &page.items, call.at).await?;
    Reply::ok(&KeyList {
        items: page.items.iter().map(|key| KeyView::of(key, call.at).used(&uses)).collect(),
        next: page.next.map(|last| cursor::after("keys", &filters, &last)),
    })
}

async fn show(call: Call) -> Outcome {
    let key = call.api.desk.registrar.key(call.name("id")).await?;
    let registry = call.api.desk.registry();
    let uses = Uses::of(&**registry, std::slice::from_ref(&key), call.at).await?;
    Ok(Reply::ok(&KeyView::of(&key, call.at).used(&uses))?.at_version(key.version))
}

async fn create(call: Call) -> Outcome {
    let body: CreateKey = call.read()?;
    let reason = sound_reason(body.reason.clone())?;
    let mut new = new_key(body, call.at)?;
    let withheld = withheld(&call, &mut new)?;
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    let issued = call.api.desk.registrar.issue(&act, new).await.map_err(unknown_application)?;
    let mut view = IssuedView::of(&issued, call.at);
    if let Some(permissions) = withheld {
        let wanted = UpdateKey { permissions: Some(permissions), ..UpdateKey::default() };
        view.approval = Some(approvals::ask(&call, &issued.key, &wanted, reason).await?);
    }
    made(&issued, &view)
}

async fn import(call: Call) -> Outcome {
    let import: ImportKey = call.read()?;
    let body = CreateKey {
        account: import.account,
        venue: import.venue,
        dialect: import.dialect,
        algorithm: import.algorithm,
        application: import.application,
        label: import.label,
        permissions: import.permissions,
        allowlist: import.allowlist,
        routes: import.routes,
        symbols: import.symbols,
        limits: import.limits,
        expires: import.expires,
        public_key: import.public_key,
        trade_unbound_for: import.trade_unbound_for,
        reason: import.reason,
    };
    let reason = sound_reason(body.reason.clone())?;
    let mut terms = new_key(body, call.at)?;
    let withheld = withheld(&call, &mut terms)?;
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    let import =
        Import { id: import.id, terms, secret: import.secret, passphrase: import.passphrase };
    let issued = call.api.desk.registrar.import(&act, import).await.map_err(unknown_application)?;
    // What was sent is not told back.
    let issued = Issued { secret: None, passphrase: None, ..issued };
    let mut view = IssuedView::of(&issued, call.at);
    if let Some(permissions) = withheld {
        let wanted = UpdateKey { permissions: Some(permissions), ..UpdateKey::default() };
        view.approval = Some(approvals::ask(&call, &issued.key, &wanted, reason).await?);
    }
    let reply = made(&issued, &view)?;
    Ok(Reply { secret: false, ..reply })
}

async fn update(call: Call) -> Outcome {
    let body: UpdateKey = call.read()?;
    let reason = sound_reason(body.reason.clone())?;
    let changes = changes(&body, call.at)?;
    let registrar = &call.api.desk.registrar;
    let actor = call.actor();
    let mut act = call.act(&actor, reason.as_deref());
    if changes != (Changes { label: changes.label.clone(), ..Changes::default() }) {
        let key = registrar.key(call.name("id")).await?;
        if widens_withdraw(&key.says, &changes) {
            call.demand(Role::Security, "granting `withdraw`, or widening a key that has it")?;
            if call.api.desk.takes_two("withdraw") {
                if call.expected.is_some_and(|expected| expected != key.version) {
                    return Err(super::call::outdated(Some(key.version)));
                }
                let approval = approvals::ask(&call, &key, &body, reason).await?;
                return Reply::json(StatusCode::ACCEPTED, &approval);
            }
        }
        // What was judged is what is changed.
        act = act.at(Some(call.expected.unwrap_or(key.version)));
    }
    let key = registrar.update(&act, call.name("id"), &changes).await;
    let key = key.map_err(|error| raced(&call, error))?;
    Ok(Reply::ok(&KeyView::of(&key, call.at))?.at_version(key.version))
}

/// Makes the change that a second person approved.
pub(super) async fn approved(
    call: &Call,
    id: &str,
    version: u64,
    wanted: &UpdateKey,
    reason: &str,
) -> Result<Kept<KeyRecord>, Problem> {
    let changes = changes(wanted, call.at)?;
    let actor = Actor { name: call.caller.actor.as_ref().into() };
    let act = Act::by(&actor).because(Some(reason)).at(Some(version));
    Ok(call.api.desk.registrar.update(&act, id, &changes).await?)
}

fn made(issued: &Issued, view: &IssuedView) -> Outcome {
    let reply = Reply::json(StatusCode::CREATED, view)?;
    let reply = if issued.secret.is_some() || issued.passphrase.is_some() {
        reply.with_secret()
    } else {
        reply
    };
    let id = &issued.key.id;
    let reply = reply.at_version(issued.key.version).located(location(id)).of(id.as_str());
    Ok(reply.binding(issued.key.revision))
}

/// Where a key is found, as a URI may say it.
fn location(id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encoded = id.bytes().map(|byte| {
        if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    });
    format!("/v1/keys/{}", encoded.collect::<String>())
}

/// Takes `withdraw` out of a key to be made where it waits for a second person, and answers what was asked for then.
fn withheld(call: &Call, new: &mut NewKey) -> Result<Option<Vec<String>>, Problem> {
    if !new.permissions.iter().any(|name| name == WITHDRAW) {
        return Ok(None);
    }
    call.demand(Role::Security, "granting `withdraw`")?;
    if !call.api.desk.takes_two(WITHDRAW) {
        return Ok(None);
    }
    if new.allowlist.is_empty() {
        return Err(Problem::unprocessable("A key that may withdraw needs an allowlist."));
    }
    let all = new.permissions.clone();
    new.permissions.retain(|name| name != WITHDRAW);
    if new.permissions.is_empty() {
        let detail = "`withdraw` waits for a second person, and nothing else is left for the key.";
        return Err(Problem::unprocessable(detail).cured("name another permission beside it"));
    }
    Ok(Some(all))
}

/// Whether a change lets a key withdraw that could not; or gives one that can anything it had not: an address, a route,
/// a symbol, a permission, more of what is limited, or time.
fn widens_withdraw(key: &KeyRecord, changes: &Changes) -> bool {
    let next = lifecycle::applied(key, changes);
    let withdraws = |key: &KeyRecord| key.permissions.iter().any(|name| name == WITHDRAW);
    withdraws(&next) && (!withdraws(key) || lifecycle::narrows(&next, key))
}

const WITHDRAW: &str = "withdraw";

/// An application that does not exist is a fault of the body here.
fn unknown_application(error: RegistrarError) -> Problem {
    let RegistrarError::NotFound(Kind::Application, name) = error else { return error.into() };
    let name: String = name.chars().take(60).collect();
    Problem::unprocessable(format!("There is no application \"{name}\"."))
        .cured("make it first, or leave it out")
}

/// The key changed between being judged and being changed: only a caller who named a version is to be told of one.
fn raced(call: &Call, error: RegistrarError) -> Problem {
    let problem = Problem::from(error);
    if problem.status == StatusCode::PRECONDITION_FAILED && call.expected.is_none() {
        return Problem::conflict("Somebody else changed the key at the same time.")
            .cured("try again");
    }
    problem
}

fn new_key(body: CreateKey, now: Micros) -> Result<NewKey, Problem> {
    Ok(NewKey {
        account: body.account,
        application: body.application,
        label: body.label.unwrap_or_default(),
        venue: body.venue,
        dialect: body.dialect,
        algorithm: body.algorithm,
        permissions: body.permissions,
        allowlist: networks(&body.allowlist)?,
        routes: body.routes,
        symbols: body.symbols,
        limits: body.limits,
        expires: body.expires.map(|text| coming("expires", &text, now)).transpose()?,
        public_key: body.public_key,
        trade_unbound_for: body
            .trade_unbound_for
            .map(|text| span("trade_unbound_for", &text))
            .transpose()?,
    })
}

fn changes(body: &UpdateKey, now: Micros) -> Result<Changes, Problem> {
    let expires = match &body.expires {
        None => None,
        Some(None) => Some(None),
        Some(Some(text)) => Some(Some(coming("expires", text, now)?)),
    };
    Ok(Changes {
        label: body.label.clone(),
        permissions: body.permissions.clone(),
        allowlist: body.allowlist.as_deref().map(networks).transpose()?,
        routes: body.routes.clone(),
        symbols: body.symbols.clone(),
        limits: body.limits.clone(),
        expires,
    })
}
