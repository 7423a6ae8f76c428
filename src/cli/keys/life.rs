//! `countersign keys suspend`, `resume` and `revoke`: what ends a key's use, for a while or for good.

use serde_json::json;

use super::super::desk::{Desk, Done, Failure, Reason, Sure};
use super::super::text::{clean, counted};
use super::at;

/// Set keys aside: requests with them are refused until they are resumed
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: countersign keys suspend csk_… --reason 'the owner asked'")]
pub(super) struct SuspendArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    reason: Reason,
}

/// Take suspended keys into use again
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: countersign keys resume csk_…")]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    reason: Reason,
}

/// End keys for good, on every gateway within a second
#[derive(clap::Args, Debug)]
#[command(after_help = REVOKE)]
pub(super) struct RevokeArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    reason: Reason,
    #[command(flatten)]
    sure: Sure,
}

/// Keys by id.
#[derive(clap::Args, Debug)]
struct Which {
    /// The keys
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

impl SuspendArgs {
    pub(super) fn run(&self, desk: &mut Desk<'_>) -> Done {
        self.which.each(desk, "suspend", "suspended", &self.reason)
    }
}

impl ResumeArgs {
    pub(super) fn run(&self, desk: &mut Desk<'_>) -> Done {
        self.which.each(desk, "resume", "resumed", &self.reason)
    }
}

impl RevokeArgs {
    pub(super) fn run(&self, desk: &mut Desk<'_>) -> Done {
        let ids = &self.which.ids;
        let (what, word) = match &**ids {
            [id] => (clean(id), clean(id)),
            _ => (counted(ids.len(), "key"), format!("revoke {}", ids.len())),
        };
        desk.confirm(self.sure, &format!("This ends {what} for good."), &word)?;
        self.which.each(desk, "revoke", "revoked", &self.reason)
    }
}

impl Which {
    /// Does it to each; one that cannot be does not spare the others.
    fn each(&self, desk: &mut Desk<'_>, act: &str, told: &str, reason: &Reason) -> Done {
        let body = reason.beside(json!({}));
        let mut failed = 0_usize;
        for id in &self.ids {
            let done = desk.api.post(&format!("{}/{act}", at(id)), &body);
            let done = done.map_err(Failure::from);
            let told = format!("{} {told}", clean(id));
            match done.and_then(|outcome| desk.done(outcome, id, &told)) {
                Err(Failure::Api(error)) if self.ids.len() > 1 => {
                    failed += 1;
                    desk.note(&format!("{}: {error}", clean(id)))?;
                }
                other => other?,
            }
        }
        if failed == 0 {
            return Ok(());
        }
        Err(Failure::Failed(format!("{failed} of {} not {told}", counted(self.ids.len(), "key"))))
    }
}

const REVOKE: &str = "\
Example: countersign keys revoke csk_…

  # in a script
  countersign keys revoke --yes --reason 'offboarding' csk_… csk_…

  # a key that others may have: revoke it, replace it, and see what was done with it
  countersign keys compromised csk_…";
