//! Second factors of accounts: enrol, confirm, look, recover, remove.

use serde::{Deserialize, Serialize};

use super::call::{Call, Reason, Reply};
use super::caller::Role;
use super::moment;
use super::operation::{Operation, Outcome, Verb, shape};
use super::problem::Problem;
use crate::registrar::{Clear, Enrolment, Kept};
use crate::registry::records::FactorRecord;

/// A second factor that was just made: shown once.
#[derive(Serialize, utoipa::ToSchema)]
struct EnrolmentView {
    /// What authenticator apps read, as a QR code.
    uri: String,
    /// The secret, base32, to be typed where a camera is missing.
    secret: String,
    /// Codes that are good once each, in place of the device.
    recovery: Vec<String>,
    /// What is kept of it.
    factor: FactorView,
}

/// A second factor, without its secret.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct FactorView {
    /// Whose it is.
    account: String,
    /// One more with each change; its `ETag`.
    version: u64,
    /// Whether a first code has shown that its holder has it: before that it opens nothing.
    confirmed: bool,
    /// How many recovery codes are left.
    recovery_left: usize,
    /// When it was made.
    created: String,
}

/// A code.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct ConfirmFactor {
    /// What the device shows: six digits.
    #[schema(value_type = String, pattern = "^[0-9]{6}$")]
    code: Clear,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

/// A recovery code.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct RecoverFactor {
    /// One of those that were shown when the lost factor was made. Case and what stands between its letters do not count.
    #[schema(value_type = String, min_length = 16, max_length = 64)]
    code: Clear,
    /// Why.
    #[serde(default)]
    reason: Option<String>,
}

pub(super) const OPERATIONS: &[Operation] = &[
    Operation::new(
        Verb::Get,
        "/v1/accounts/{id}/otp",
        "otp.show",
        Role::Viewer,
        "The second factor of an account, without its secret",
        |call| Box::pin(show(call)),
    )
    .answers(200, shape::<FactorView>)
    .versioned(),
    Operation::new(
        Verb::Post,
        "/v1/accounts/{id}/otp",
        "otp.enrol",
        Role::Operator,
        "Make a second factor for an account that has none; a first code takes it into use",
        |call| Box::pin(enrol(call)),
    )
    .may_take(shape::<Reason>)
    .answers(201, shape::<EnrolmentView>)
    .secret(),
    Operation::new(
        Verb::Delete,
        "/v1/accounts/{id}/otp",
        "otp.remove",
        Role::Security,
        "Take the second factor of an account away",
        |call| Box::pin(remove(call)),
    )
    .may_take(shape::<Reason>)
    .empty()
    .versioned(),
    Operation::new(
        Verb::Post,
        "/v1/accounts/{id}/otp/confirm",
        "otp.confirm",
        Role::Operator,
        "Take a second factor into use by a first code",
        |call| Box::pin(confirm(call)),
    )
    .takes(shape::<ConfirmFactor>)
    .answers(200, shape::<FactorView>)
    .versioned(),
    Operation::new(
        Verb::Post,
        "/v1/accounts/{id}/otp/recover",
        "otp.recover",
        Role::Operator,
        "Make a second factor in place of a lost one, which a recovery code shows to be its holder's",
        |call| Box::pin(recover(call)),
    )
    .takes(shape::<RecoverFactor>)
    .answers(201, shape::<EnrolmentView>)
    .secret(),
];

impl FactorView {
    fn of(factor: &Kept<FactorRecord>) -> Self {
        Self {
            account: factor.id.clone(),
            version: factor.version,
            confirmed: factor.says.confirmed,
            recovery_left: factor.says.recovery.len(),
            created: moment::written(factor.says.created),
        }
    }
}

async fn show(call: Call) -> Outcome {
    let factor = call.api.desk.registrar.factor(call.name("id")).await?;
    // One that was taken away is none.
    let factor = factor.filter(|factor| factor.says.confirmed || !factor.says.recovery.is_empty());
    let factor = factor.ok_or_else(|| Problem::missing("second factor"))?;
    Ok(Reply::ok(&FactorView::of(&factor))?.at_version(factor.version))
}

async fn enrol(call: Call) -> Outcome {
    let reason = call.reason()?;
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    let desk = &call.api.desk;
    let made = desk.registrar.enrol(&act, call.name("id"), &desk.facts.issuer).await?;
    enrolled(&made)
}

async fn recover(call: Call) -> Outcome {
    let body: RecoverFactor = call.read()?;
    let reason = super::call::sound_reason(body.reason)?;
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    let desk = &call.api.desk;
    let (account, code) = (call.name("id"), body.code.reveal());
    enrolled(&desk.registrar.recover(&act, account, code, &desk.facts.issuer).await?)
}

fn enrolled(made: &Enrolment) -> Outcome {
    let view = EnrolmentView {
        uri: made.uri.reveal().to_owned(),
        secret: made.secret.reveal().to_owned(),
        recovery: made.recovery.iter().map(|code| code.reveal().to_owned()).collect(),
        factor: FactorView::of(&made.factor),
    };
    Ok(Reply::json(http::StatusCode::CREATED, &view)?.at_version(made.factor.version).with_secret())
}

async fn confirm(call: Call) -> Outcome {
    let body: ConfirmFactor = call.read()?;
    let reason = super::call::sound_reason(body.reason)?;
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    let registrar = &call.api.desk.registrar;
    let factor = registrar.confirm(&act, call.name("id"), body.code.reveal()).await?;
    Ok(Reply::ok(&FactorView::of(&factor))?.at_version(factor.version))
}

async fn remove(call: Call) -> Outcome {
    let reason = call.reason()?;
    let actor = call.actor();
    let act = call.act(&actor, reason.as_deref());
    call.api.desk.registrar.remove_factor(&act, call.name("id")).await?;
    Ok(Reply::empty(http::StatusCode::NO_CONTENT))
}
