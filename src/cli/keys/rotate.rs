//! `countersign keys rotate`: a new secret under the same id.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::super::desk::{Desk, Done, Failure, Reason, Sure};
use super::super::once::{self, Keep};
use super::super::text::clean;
use super::super::when;
use super::at;
use super::create::public_key;

/// Give a key a new secret; the old one stays good for a while, so that nothing stops
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The key
    id: String,
    /// How long the old secret stays good; 0s ends it at once
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = when::span)]
    overlap: Duration,
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
        if self.overlap.is_zero() {
            let what = format!("This ends the secret that {id} signs with at once.");
            desk.confirm(self.sure, &what, &id)?;
        }
        let mut body = json!({"overlap": when::written(self.overlap)});
        pair(&mut body, self.public_key.as_deref())?;
        let kept = self.keep.prepare(desk.common, self.public_key.is_some())?;
        let made = desk.api.post(&format!("{}/rotate", at(&self.id)), &self.reason.beside(body));
        let made = made.map_err(Failure::from);
        let Some((answer, kept)) = kept.unless_refused(desk, made)? else { return Ok(()) };
        let until = desk.eye.time(answer.get("cut_off"));
        once::issued(desk, answer, kept, &[("old secret ends", until)])
    }
}

/// The public half of a new pair, beside what a body says anyway.
pub(super) fn pair(body: &mut Value, file: Option<&Path>) -> Done {
    if let (Some(file), Some(fields)) = (file, body.as_object_mut()) {
        fields.insert("public_key".into(), json!(public_key(file)?));
    }
    Ok(())
}

const EXAMPLES: &str = "\
Example: countersign keys rotate csk_… --overlap 24h

  # the old secret leaked: end it now
  countersign keys rotate csk_… --overlap 0s --yes --secret-file new.secret";
