//! Accounts: show, freeze, let go on; and the switches that stop a permission for everybody.

use http::StatusCode;
use serde::Serialize;

use super::call::{Call, Reason, Reply};
use super::caller::Role;
use super::cursor;
use super::operation::{AFTER, LIMIT, Operation, Outcome, PAGE_CAP, Verb, shape};
use super::problem::Problem;
use crate::registrar::{Kept, KeyFilter};
use crate::registry::records::{AccountRecord, SwitchRecord};

/// A holder of keys.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct AccountView {
    /// Its name.
    id: String,
    /// One more with each change; 0 where nothing was ever said of it.
    version: u64,
    /// Whether none of its keys is good for now.
    frozen: bool,
    /// Why.
    reason: Option<String>,
    /// How many keys it has, counted up to 1,000; not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<usize>,
}

/// A page of accounts.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct AccountList {
    items: Vec<AccountView>,
    /// Where to go on; `null` at the end.
    next: Option<String>,
}

/// A switch that stops a permission, or all of them.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct SwitchView {
    /// The permission it stops, or `all`.
    id: String,
    /// One more with each change.
    version: u64,
    /// Whether it stops.
    thrown: bool,
    /// Why.
    reason: Option<String>,
}

/// The switches.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct SwitchList {
    items: Vec<SwitchView>,
    /// Always `null`: there is one page.
    next: Option<String>,
}

pub(super) const OPERATIONS: &[Operation] = &[
    Operation::new(
        Verb::Get,
        "/v1/accounts",
        "accounts.list",
        Role::Viewer,
        "Accounts that have keys, or of which something was said, as that they are frozen",
        |call| Box::pin(list(call)),
    )
    .query(&[LIMIT, AFTER])
    .answers(200, shape::<AccountList>),
    Operation::new(
        Verb::Get,
        "/v1/accounts/{id}",
        "accounts.show",
        Role::Viewer,
        "An account",
        |call| Box::pin(show(call)),
    )
    .answers(200, shape::<AccountView>)
    .versioned(),
    Operation::new(
        Verb::Post,
        "/v1/accounts/{id}/freeze",
        "accounts.freeze",
        Role::Operator,
        "Let none of an account's keys be good",
        |call| Box::pin(freeze(call)),
    )
    .may_take(shape::<Reason>)
    .answers(200, shape::<AccountView>)
    .versioned()
    .binds(),
    Operation::new(
        Verb::Post,
        "/v1/accounts/{id}/unfreeze",
        "accounts.unfreeze",
        Role::Operator,
        "Let a frozen account go on",
        |call| Box::pin(unfreeze(call)),
    )
    .may_take(shape::<Reason>)
    .answers(200, shape::<AccountView>)
    .versioned(),
    Operation::new(
        Verb::Get,
        "/v1/switches",
        "switches.list",
        Role::Viewer,
        "The switches that were ever thrown",
        |call| Box::pin(switches(call)),
    )
    .answers(200, shape::<SwitchList>),
    Operation::new(
        Verb::Post,
        "/v1/switches/{permission}/throw",
        "switches.throw",
        Role::Operator,
        "Stop a permission for everybody, or `all`",
        |call| Box::pin(throw(call)),
    )
    .may_take(shape::<Reason>)
    .answers(200, shape::<SwitchView>)
    .versioned()
    .binds(),
    Operation::new(
        Verb::Post,
        "/v1/switches/{permission}/release",
        "switches.release",
        Role::Security,
        "Let it go on",
        |call| Box::pin(release(call)),
    )
    .may_take(shape::<Reason>)
    .answers(200, shape::<SwitchView>)
    .versioned(),
];

impl AccountView {
    fn of(account: Kept<AccountRecord>) -> Self {
        let (frozen, reason) = (account.says.frozen, account.says.reason);
        Self { id: account.id, version: account.version, frozen, reason, keys: None }
    }
}

impl SwitchView {
    fn of(switch: Kept<SwitchRecord>) -> Self {
        let (thrown, reason) = (switch.says.thrown, switch.says.reason);
        Self { id: switch.id, version: switch.version, thrown, reason }
    }
}

async fn list(call: Call) -> Outcome {
    let after = call.after("accounts", &[])?;
    let page = call.api.desk.registrar.accounts(after, call.limit()?).await?;
    Reply::ok(&AccountList {
        items: page.items.into_iter().map(AccountView::of).collect(),
        next: page.next.map(|last| cursor::after("accounts", &[], &last)),
    })
}

async fn show(call: Call) -> Outcome {
    let id = call.name("id");
    let registrar = &call.api.desk.registrar;
    let account = registrar.account(id).await?;
    let filter =
        KeyFilter { account: Some(id.to_owned()), limit: PAGE_CAP, ..KeyFilter::default() };
    let keys = registrar.keys(filter).await?.items.len();
    if account.is_none() && keys == 0 {
        return Err(Problem::missing("account"));
    }
    let unsaid =
        || Kept { id: id.to_owned(), version: 0, revision: 0, says: AccountRecord::default() };
    let view = AccountView::of(account.unwrap_or_else(unsaid));
    let version = view.version;
    Ok(Reply::ok(&AccountView { keys: Some(keys), ..view })?.at_version(version))
}

async fn freeze(call: Call) -> Outcome {
    let reason = call.reason()?;
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    let frozen = call.api.desk.registrar.freeze(&act, call.name("id")).await?;
    let revision = frozen.revision;
    Ok(account(frozen)?.binding(revision))
}

async fn unfreeze(call: Call) -> Outcome {
    let reason = call.reason()?;
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    account(call.api.desk.registrar.unfreeze(&act, call.name("id")).await?)
}

async fn switches(call: Call) -> Outcome {
    let page = call.api.desk.registrar.switches().await?;
    let items = page.items.into_iter().map(SwitchView::of).collect();
    Reply::json(StatusCode::OK, &SwitchList { items, next: None })
}

async fn throw(call: Call) -> Outcome {
    let reason = call.reason()?;
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    let thrown = call.api.desk.registrar.throw(&act, call.name("permission")).await?;
    let revision = thrown.revision;
    Ok(switch(thrown)?.binding(revision))
}

async fn release(call: Call) -> Outcome {
    let reason = call.reason()?;
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    switch(call.api.desk.registrar.release(&act, call.name("permission")).await?)
}

fn account(account: Kept<AccountRecord>) -> Outcome {
    let version = account.version;
    Ok(Reply::ok(&AccountView::of(account))?.at_version(version))
}

fn switch(switch: Kept<SwitchRecord>) -> Outcome {
    let version = switch.version;
    Ok(Reply::ok(&SwitchView::of(switch))?.at_version(version))
}
