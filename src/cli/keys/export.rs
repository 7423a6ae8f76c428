//! `countersign keys export`: keys as lines of JSON, never with a secret.

use std::path::PathBuf;

use serde_json::Value;

use super::super::admin::with_query;
use super::super::desk::{Desk, Done, Failure};
use super::super::once::private;
use super::super::text::{clean, counted, text};
use super::at;
use super::look::Which;

/// Write keys as lines of JSON: all that is known of them, but no secret
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: countersign keys export --account alice --to alice.jsonl")]
pub(super) struct Args {
    /// The keys; those of --account, --application and --state, or all, when absent
    #[arg(value_name = "ID", conflicts_with_all = ["account", "application", "state"])]
    ids: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// A new file, which only you can read; standard output when absent
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(&self, desk: &mut Desk<'_>) -> Done {
        let mut file = self.to.as_deref().map(private).transpose()?;
        let mut count = 0_usize;
        let mut write = |desk: &mut Desk<'_>, key: &Value| -> Done {
            count += 1;
            match &mut file {
                _ if desk.common.quiet => writeln!(desk.out, "{}", clean(text(key, "id")))?,
                Some(file) => std::io::Write::write_all(file, format!("{key}\n").as_bytes())?,
                None => writeln!(desk.out, "{key}")?,
            }
            Ok(())
        };
        for id in &self.ids {
            let key = desk.api.get(&format!("{}/export", at(id)))?;
            write(desk, &key)?;
        }
        if self.ids.is_empty() {
            self.pages(desk, &mut write)?;
        }
        if let (Some(file), Some(path)) = (&file, &self.to) {
            file.sync_all()?;
            let told = format!("{} written to {}", counted(count, "key"), path.display());
            desk.note(&told)?;
        }
        Ok(())
    }

    fn pages(
        &self,
        desk: &mut Desk<'_>,
        write: &mut impl FnMut(&mut Desk<'_>, &Value) -> Done,
    ) -> Done {
        let mut after: Option<String> = None;
        loop {
            let mut query = self.which.query();
            query.extend([("limit", Some("1000")), ("after", after.as_deref())]);
            let page = desk.api.get(&with_query("/v1/keys", &query))?;
            for key in page.get("items").and_then(Value::as_array).into_iter().flatten() {
                write(desk, key)?;
            }
            let next = page.get("next").and_then(Value::as_str).map(str::to_owned);
            if next.is_none() {
                return Ok(());
            }
            if next == after {
                return Err(Failure::Failed(
                    "the list does not go on: some keys are missing".to_owned(),
                ));
            }
            after = next;
        }
    }
}
