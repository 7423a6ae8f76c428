//! Real Prometheus: it reads our exposition, checks and runs our rules, and answers every panel's query.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::files::{Dashboard, dashboards, files, folder};
use crate::{gateway, metrics, names};

const PACKAGE: &str =
    "this test needs Prometheus: apt-get install prometheus (it brings promtool too)";

/// How long until every panel must have data.
const DEADLINE: Duration = Duration::from_mins(1);

#[test]
fn promtool_accepts_the_exposition() {
    let exposition = metrics().exposition().unwrap();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect(PACKAGE);
    promtool.stdin.take().unwrap().write_all(exposition.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn promtool_accepts_the_rules_and_their_tests_pass() {
    for (arguments, paths) in [
        (["check", "rules"], files("prometheus/rules", "yml")),
        (["test", "rules"], files("prometheus/rules/tests", "yml")),
        (["check", "config"], vec![folder("prometheus").join("prometheus.yml")]),
    ] {
        let checked = Command::new("promtool").args(arguments).args(paths).output().expect(PACKAGE);
        let said = [checked.stdout, checked.stderr].concat();
        assert!(checked.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    }
}

#[tokio::test]
async fn prometheus_answers_every_panel_with_data() {
    tokio::task::LocalSet::new().run_until(ask_every_panel()).await;
}

async fn ask_every_panel() {
    let gateway = gateway::start().await;
    let directory = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(directory.path(), gateway);
    let deadline = Instant::now() + DEADLINE;
    prometheus.is_ready(deadline).await;
    let queries: Vec<_> = dashboards().iter().flat_map(Dashboard::expressions).collect();
    for (place, expression) in queries {
        let query = names::substituted(&expression);
        // Started once and never again: nothing for the annotation to mark.
        let quiet = expression.contains("changes(process_start_time_seconds");
        loop {
            let answer = prometheus.query(&query).await;
            assert_eq!(answer["status"], "success", "{place}: {query}: {answer}");
            if quiet || has_number(&answer) {
                break;
            }
            assert!(Instant::now() < deadline, "{place} stays empty: {query}: {answer}");
            sleep(Duration::from_millis(200)).await;
        }
        let drawn = prometheus.query_range(&query).await;
        assert_eq!(drawn["status"], "success", "{place}: {query}: {drawn}");
    }
    let misspelt = prometheus.query("countersign_request_total").await;
    assert!(!has_number(&misspelt), "the control has data: {misspelt}");
    prometheus.has_healthy_rules(deadline).await;
}

/// Whether an answer holds a sample that is a number.
fn has_number(answer: &Value) -> bool {
    let samples = answer["data"]["result"].as_array().map_or(&[][..], Vec::as_slice);
    samples.iter().any(|sample| {
        let value = sample["value"][1].as_str().unwrap_or("NaN");
        value.parse::<f64>().is_ok_and(|number| !number.is_nan())
    })
}

/// A query as a target may carry it.
fn encoded(query: &str) -> String {
    query.bytes().fold(String::new(), |mut encoded, byte| {
        write!(encoded, "%{byte:02X}").unwrap();
        encoded
    })
}

/// A Prometheus of our own, ended when dropped.
struct Prometheus {
    process: Child,
    address: SocketAddr,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing else to do about either.
        let _killed = self.process.kill();
        let _reaped = self.process.wait();
    }
}

impl Prometheus {
    /// Starts one that scrapes `gateway` every second and runs our rules.
    fn start(directory: &Path, gateway: SocketAddr) -> Self {
        let rules = folder("prometheus/rules");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}/*.yml']\n\
             scrape_configs: [{{job_name: countersign, static_configs: [{{targets: ['{gateway}']}}]}}]\n",
            rules.display()
        );
        let file = directory.join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let mut process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect(PACKAGE);
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let mut log = String::new();
        let address = loop {
            let mut line = String::new();
            if said.read_line(&mut line).unwrap() == 0 {
                let _reaped = process.wait();
                panic!("prometheus ended: {log}");
            }
            if line.contains("Listening on") {
                break line.rsplit_once("address=").unwrap().1.trim().parse().unwrap();
            }
            log.push_str(&line);
        };
        // Read on, so that its log never fills the pipe.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { process, address }
    }

    /// Asks for the value now.
    async fn query(&self, query: &str) -> Value {
        self.ask(&format!("/api/v1/query?query={}", encoded(query))).await
    }

    /// Asks for values over time, as panels do.
    async fn query_range(&self, query: &str) -> Value {
        let query = encoded(query);
        self.ask(&format!("/api/v1/query_range?start=0&end=60&step=15&query={query}")).await
    }

    async fn ask(&self, target: &str) -> Value {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // 1.0, so that the end of the body is the end of the connection.
        let head = format!("GET {target} HTTP/1.0\r\nhost: {}\r\n\r\n", self.address);
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        // While it starts it answers in plain words.
        serde_json::from_str(body).unwrap_or(Value::Null)
    }

    /// Waits until it answers queries.
    async fn is_ready(&self, deadline: Instant) {
        while self.query("vector(1)").await["status"] != "success" {
            assert!(Instant::now() < deadline, "prometheus does not become ready");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until every rule was evaluated without an error.
    async fn has_healthy_rules(&self, deadline: Instant) {
        loop {
            let answer = self.ask("/api/v1/rules").await;
            let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
            let rules: Vec<_> = groups
                .iter()
                .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default())
                .collect();
            assert!(rules.iter().all(|rule| rule["health"] != "err"), "{answer}");
            if rules.len() == crate::files::rules().len()
                && rules.iter().all(|rule| rule["health"] == "ok")
            {
                return;
            }
            assert!(Instant::now() < deadline, "rules not evaluated: {answer}");
            sleep(Duration::from_millis(200)).await;
        }
    }
}
