//! `[audit]`: the audit trail, and what routes ask of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;

use super::document::{Table, text};
use super::load::section;
use super::problem::Fault;
use super::secrets::secret;
use super::value::{boolean, size, span, whole, word};
use crate::audit::{Demand, ELSEWHERE, Rules, Webhook, webhook_secret};

/// The trail, where one is kept, and what routes ask of it by default.
pub(super) struct Audit {
    pub(super) rules: Option<Rules>,
    required: bool,
}

/// `state_dir` is where the trail lies if it is not said.
pub(super) fn audit(root: &Table<'_>, state_dir: Option<&PathBuf>) -> Audit {
    let head = state_dir.map(|dir| dir.join(ELSEWHERE));
    let by_default = state_dir.map(|dir| Rules { head, ..Rules::of(dir.join("audit")) });
    let Some(table) = section(root, "audit") else {
        return Audit { rules: by_default, required: false };
    };
    let dir = table.find("dir");
    let dir = dir.and_then(|node| Some(node.spot.document.path(node.read(text)?)));
    let enabled = table.or("enabled", true, boolean);
    let default = Rules::of(dir.or_else(|| Some(state_dir?.join("audit"))).unwrap_or_default());
    let day = Duration::from_hours(24);
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let segment = size(64 << 10..=1 << 30);
    let segment = table.or("segment_size", bytes(default.segment_bytes), segment);
    let rules = Rules {
        segment_bytes: u64::try_from(segment).unwrap_or(u64::MAX),
        segment_age: table.or(
            "segment_age",
            default.segment_age,
            span(Duration::from_mins(1)..=366 * day),
        ),
        keep: table.or("keep", default.keep, whole(0..=1_000_000)),
        checkpoint: table.or("checkpoint", default.checkpoint, span(Duration::from_secs(1)..=day)),
        idle: table.or("idle", default.idle, span(Duration::from_hours(1)..=3_660 * day)),
        webhook: table.find("webhook").and_then(|node| webhook(&node.table()?)),
        head: state_dir.map(|dir| dir.join(ELSEWHERE)),
        dir: default.dir,
    };
    let required = table.or("on_error", false, word("answer", &ON_ERROR));
    let nowhere = rules.dir.as_os_str().is_empty();
    table.finish();
    Audit { rules: (enabled && !nowhere).then_some(rules), required }
}

impl Audit {
    /// What a route asks of the trail.
    pub(super) fn demand(&self, table: &Table<'_>) -> Demand {
        let required = table.find("audit");
        let intent = table.find("audit_intent");
        let demand = Demand {
            required: required
                .as_ref()
                .and_then(|node| node.read(word("demand", &DEMANDS)))
                .unwrap_or(self.required && self.rules.is_some()),
            intent: intent.as_ref().and_then(|node| node.read(boolean)).unwrap_or(false),
        };
        if self.rules.is_none() && (demand.required || demand.intent) {
            let cure = "set `state_dir` under `[store]`, or `dir` under `[audit]`";
            let fault = Fault::cured("no audit trail is kept that it could be written to", cure);
            required.or(intent).map_or(table.spot.clone(), |node| node.spot).error(fault);
        }
        demand
    }
}

fn webhook(table: &Table<'_>) -> Option<Webhook> {
    let url = table.need("url", "as url = \"https://alerts.example.com/countersign\"");
    let key = table.need("secret", "write { env = \"NAME\" } or { file = \"path\" }");
    let ca = table.find("ca");
    table.finish();
    let ca = ca.and_then(|node| Some(node.spot.document.path(node.read(text)?)));
    let url = url.and_then(|mut node| {
        // An address that others must not know is one that holds a secret.
        node.spot.secret = true;
        node.read(|value| {
            let parsed = text(value)?.parse::<Uri>().ok();
            let good = |url: &Uri| {
                matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some()
            };
            parsed.filter(good).ok_or_else(|| Fault::new("it is no http or https address"))
        })
    });
    let secret = key.and_then(|node| secret(&node));
    let secret = Arc::new(webhook_secret(&secret?));
    Some(Webhook { url: url?, secret, ca })
}

const ON_ERROR: [(bool, &str); 2] = [(true, "refuse"), (false, "go_on")];
const DEMANDS: [(bool, &str); 2] = [(true, "required"), (false, "best_effort")];
