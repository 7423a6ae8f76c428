//! A gateway with its admin API: `countersign demo`, ended with the test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Gateway {
    child: Child,
    _temporary: TempDir,
    pub(crate) admin: String,
    pub(crate) token: String,
}

impl Gateway {
    pub(crate) fn start() -> Self {
        let temporary = TempDir::new().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_countersign"))
            .args(["demo", "--json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .env_clear()
            .env("TMPDIR", temporary.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let facts: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        let text = |name: &str| facts[name].as_str().unwrap_or_else(|| panic!("{line}")).to_owned();
        let (admin, token) = (text("admin"), text("admin_token"));
        Self { admin, token, child, _temporary: temporary }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
