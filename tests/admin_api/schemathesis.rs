//! What the description says against what the server does, as schemathesis finds it from the description alone.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::support::{Rig, SECURITY};

/// Cases of each operation in each phase.
const EXAMPLES: &str = "15";

#[tokio::test]
async fn the_server_does_what_its_description_says() {
    let rig = Rig::start().await;
    rig.key("ann").await;
    rig.post("/v1/apps", json!({"name": "bot", "permissions": ["read"]})).await.is(201);
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(python());
    command
        .current_dir(dir.path())
        .env("NO_COLOR", "1")
        .args(["-m", "schemathesis.cli", "run"])
        .arg(format!("http://{}/v1/openapi.json", rig.address))
        .args(["--header", &format!("Authorization: Bearer {SECURITY}")])
        .args(["--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES, "--seed", "1"])
        // It follows the trail for as long as one listens.
        .args(["--exclude-operation-id", "audit.tail"])
        // What a configuration names, as dialects and permissions, no schema can say.
        .args(["--exclude-checks", "positive_data_acceptance", "--suppress-health-check", "all"])
        .args(["--request-timeout", "20", "--generation-database", "none", "--warnings", "off"]);
    let mut running = tokio::task::spawn_blocking(move || command.output());
    // It sends wrong credentials too, more than a minute bears: minutes go by.
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let ended = loop {
        tokio::select! {
            ended = &mut running => break ended.unwrap().unwrap(),
            _ = ticks.tick() => rig.clock.advance(Duration::from_mins(1)),
        }
    };
    let said = String::from_utf8_lossy(&ended.stdout);
    let complained = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}\n{complained}");
    let calls = rig.heard.calls.lock().unwrap().len();
    assert!(calls > 1_000, "{calls} calls\n{said}");
}

/// The Python that has what tests/e2e/requirements.txt asks for.
fn python() -> PathBuf {
    let named = std::env::var_os("COUNTERSIGN_PYTHON").map(PathBuf::from);
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python");
    let python = named.unwrap_or(ours);
    assert!(
        python.exists(),
        "{} is missing: `tests/run` makes target/python, or let COUNTERSIGN_PYTHON name a Python with \
         tests/e2e/requirements.txt",
        python.display()
    );
    python
}
