//! The client libraries that bots use, through the gateway: what they send comes back, and they hear why it ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use countersign::registry::records::Life;
use tokio::time::timeout;

use crate::fleet::BOUND;
use crate::site::Site;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// What a library does with an echo, and the number with which its socket is closed once the key is revoked.
async fn closes(mut program: Command, script: &str) -> String {
    let site = Site::start().await;
    let dir = tempfile::tempdir().unwrap();
    let told = dir.path().join("told");
    let (target, headers) = site.signatory.sign("mine", "/ws/echo");
    let headers: serde_json::Map<_, _> =
        headers.into_iter().map(|(name, value)| (name, value.into())).collect();
    let child = program
        .arg(Path::new(HERE).join("tests/e2e").join(script))
        .arg(format!("ws://{}{target}", site.service.listeners[0]))
        .arg(serde_json::Value::from(headers).to_string())
        .arg(&told)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let echoed = async {
        while !told.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    // It ends with its connection, which ends with the test.
    let mut output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
    tokio::select! {
        echoed = timeout(BOUND, echoed) => echoed.expect("all comes back"),
        output = &mut output => panic!("it ended early: {output:?}"),
    }
    site.change("mine", |key| key.state = Life::Revoked);
    let output = timeout(BOUND, output).await.expect("it ends").unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn the_library_of_python_bots_is_told_that_its_key_has_ended() {
    let named = std::env::var_os("COUNTERSIGN_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| Path::new(HERE).join("target/python/bin/python"));
    assert!(
        python.exists(),
        "{} is missing: `tests/run` makes target/python, or let COUNTERSIGN_PYTHON name a Python with \
         tests/e2e/requirements.txt",
        python.display()
    );
    assert_eq!(closes(Command::new(python), "websocket_echo.py").await, "1008");
}

#[tokio::test]
async fn the_library_of_javascript_bots_is_told_that_its_key_has_ended() {
    let named = std::env::var_os("COUNTERSIGN_NODE_MODULES").map(PathBuf::from);
    let modules = named.unwrap_or_else(|| Path::new(HERE).join("target/node/node_modules"));
    if !modules.join("ws").exists() {
        let node = Command::new("node").arg("--version").output();
        assert!(node.is_err(), "{} is missing: `tests/run` makes it", modules.display());
        return;
    }
    let mut node = Command::new("node");
    node.env("COUNTERSIGN_NODE_MODULES", modules);
    assert_eq!(closes(node, "websocket.mjs").await, "1008");
}
