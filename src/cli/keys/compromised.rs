//! `countersign keys compromised`: the recovery of a key that others may have, in one command.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::desk::{Desk, Done, Failure, Reason, Sure, confirmed_by};
use super::super::once::{self, Keep};
use super::super::table::{self, Column};
use super::super::text::{clean, text};
use super::super::when::When;
use super::at;
use super::rotate::pair;

/// Revoke a key that others may have, replace it, and show what was done with it
///
/// The key is refused everywhere within a second and its open requests are cut. Its holder gets a new key with the same
/// permissions, networks and limits, whose secret is told once. Then comes what the old one did: from where, on which
/// routes, how often.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The key
    id: String,
    /// Since when others may have had it: 24h, or 2030-01-31T00:00:00Z
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = When::read)]
    since: When,
    /// File with the holder's new public key in PEM, for a key that has a pair
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    #[command(flatten)]
    keep: Keep,
    #[command(flatten)]
    reason: Reason,
    #[command(flatten)]
    sure: Sure,
}

impl Args {
    pub(super) fn run(&self, desk: &mut Desk<'_>) -> Done {
        let id = clean(&self.id);
        let mut body = json!({"since": self.since.written()});
        pair(&mut body, self.public_key.as_deref())?;
        let kept = self.keep.prepare(desk.common, self.public_key.is_some())?;
        let what = format!("This ends {id} for good and makes its holder a new key.");
        if let Err(called_off) = desk.confirm(self.sure, &what, &id) {
            kept.discard();
            return Err(called_off);
        }
        let path = format!("{}/compromised", at(&self.id));
        let made = desk.api.post(&path, &self.reason.beside(body)).map_err(Failure::from);
        let Some((mut answer, kept)) = kept.unless_refused(desk, made)? else { return Ok(()) };
        if desk.common.json {
            return whole(desk, answer, kept);
        }
        let by = confirmed_by(&answer);
        let gateways = json!({"gateways": answer.get_mut("gateways").map(Value::take)});
        let activity = answer.get_mut("activity").map(Value::take);
        let replacement = answer.get_mut("replacement").map(Value::take);
        if let Some(replacement) = replacement.filter(|replacement| !replacement.is_null()) {
            if !desk.common.quiet {
                writeln!(desk.out, "{id} is revoked{by}. Its replacement:\n")?;
            }
            once::issued(desk, replacement, kept, &[])?;
        } else {
            kept.discard();
            if !desk.common.quiet {
                writeln!(desk.out, "{id} is revoked{by}.")?;
            }
            desk.note(NO_REPLACEMENT)?;
        }
        desk.waiting(&gateways)?;
        self.activity(desk, activity.as_ref().and_then(Value::as_array))
    }

    fn activity(&self, desk: &mut Desk<'_>, activity: Option<&Vec<Value>>) -> Done {
        if desk.common.quiet {
            return Ok(());
        }
        let since = self.since.written();
        let since = match self.since {
            When::At(_) => format!("since {since}"),
            When::Off(_) => format!("in the last {since}"),
        };
        let Some(activity) = activity else {
            return desk.note("What the old one did is not known: there is no audit trail to ask.");
        };
        if activity.is_empty() {
            writeln!(desk.out, "\nThe old one did nothing {since}.")?;
            return Ok(());
        }
        writeln!(desk.out, "\nWhat the old one did {since}:\n")?;
        table::list(desk.out, activity, &ACTIVITY, desk.eye)?;
        Ok(())
    }
}

/// The answer as one document, its secret in the file if there is one.
fn whole(desk: &mut Desk<'_>, mut answer: Value, kept: once::Kept) -> Done {
    let replacement = answer.get_mut("replacement").filter(|replacement| !replacement.is_null());
    let Some(replacement) = replacement else {
        kept.discard();
        return desk.document(answer);
    };
    let id = clean(text(replacement, "id"));
    let file = kept.write(replacement)?;
    let printed = replacement.get("secret").is_some();
    desk.document(answer)?;
    if let (Err(error), true) = (desk.out.flush(), printed) {
        return Err(once::lost(&id, &error));
    }
    once::warn(desk, file.as_deref(), printed)
}

const NO_REPLACEMENT: &str = "There is no replacement: its holder must send a new public key, for `countersign keys create --public-key`.";
const ACTIVITY: [Column; 5] = [
    Column::of("ADDRESS", "address"),
    Column::of("ROUTE", "route"),
    Column::of("COUNT", "count"),
    Column::time("FIRST", "first"),
    Column::time("LAST", "last"),
];
const EXAMPLES: &str = "\
Example: countersign keys compromised csk_… --since 24h

  # in a script, with the new secret in a file that only you can read
  countersign keys compromised csk_… --since 24h --yes --secret-file new.secret";
