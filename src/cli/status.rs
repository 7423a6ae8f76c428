//! `countersign status`: whether the gateway answers, and who it takes one for.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::desk::{Common, at_desk};

/// Show which gateway answers, and what it lets you do.
///
/// Example: countersign status
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    at_desk("status", &args.common, out, err, |desk| {
        let who = desk.api.get("/v1/whoami")?;
        let mut status = desk.api.get("/v1/gateway")?;
        if let Some(fields) = status.as_object_mut() {
            fields.insert("admin".into(), json!(desk.api.at()));
            if !desk.common.json {
                // When it started is told already.
                fields.remove("uptime");
            }
            for name in ["actor", "role", "proof"] {
                fields.insert(name.into(), who.get(name).cloned().unwrap_or(Value::Null));
            }
        }
        let role = who.get("role").and_then(Value::as_str).unwrap_or_default().to_owned();
        desk.thing(status, &role, &["admin", "version", "actor", "role", "proof", "started"])
    })
}

const EXAMPLES: &str = "\
Example: countersign status

  # against the demo, which prints its admin address and token with --json
  COUNTERSIGN_ADMIN=http://127.0.0.1:9180 COUNTERSIGN_ADMIN_TOKEN=csa_… countersign status";
