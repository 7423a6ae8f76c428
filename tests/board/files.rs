//! The files under `grafana/`, read.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The folder of a kind of files.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana").join(name)
}

/// Every file in a folder with this extension; at least one.
pub(crate) fn files(name: &str, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == extension))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no {extension} file in {name}");
    found
}

/// A dashboard.
pub(crate) struct Dashboard {
    pub(crate) file: String,
    pub(crate) text: String,
    pub(crate) json: Value,
}

/// A panel, without rows.
pub(crate) struct Panel {
    pub(crate) id: u64,
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) unit: String,
    pub(crate) expressions: Vec<String>,
}

/// Every dashboard.
pub(crate) fn dashboards() -> Vec<Dashboard> {
    files("dashboards", "json")
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let json = serde_json::from_str(&text).unwrap();
            Dashboard { file: path.display().to_string(), text, json }
        })
        .collect()
}

impl Dashboard {
    /// Every panel, also those in collapsed rows.
    pub(crate) fn panels(&self) -> Vec<Panel> {
        let mut found = Vec::new();
        for panel in list(&self.json["panels"]) {
            if panel["type"] == "row" {
                found.extend(list(&panel["panels"]).iter().map(Panel::read));
            } else {
                found.push(Panel::read(panel));
            }
        }
        found
    }

    /// Every expression with its place: panels, annotations, and the metrics that variables ask for.
    pub(crate) fn expressions(&self) -> Vec<(String, String)> {
        let panels = self.panels().into_iter().flat_map(|panel| {
            panel.expressions.into_iter().map(move |expression| (panel.title.clone(), expression))
        });
        let annotations = list(&self.json["annotations"]["list"])
            .iter()
            .filter(|annotation| annotation["builtIn"] != 1)
            .map(|annotation| (text(&annotation["name"]), text(&annotation["expr"])));
        let variables = list(&self.json["templating"]["list"])
            .iter()
            .filter(|variable| variable["type"] == "query")
            .map(|variable| (text(&variable["name"]), asked(&text(&variable["query"]["query"]))));
        panels.chain(annotations).chain(variables).collect()
    }

    /// The data source of every panel, target, annotation and variable.
    pub(crate) fn data_sources(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect_sources(&self.json, &mut found);
        assert!(found.len() > self.panels().len(), "{}: panels without a data source", self.file);
        found
    }
}

/// The series selector in `label_values(selector, label)`.
fn asked(definition: &str) -> String {
    let inner = definition.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
    inner.and_then(|inner| inner.rsplit_once(',')).unwrap().0.to_owned()
}

fn collect_sources(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if name == "datasource" && member["type"] == "prometheus" {
                    found.push(text(&member["uid"]));
                }
                collect_sources(member, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_sources(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

impl Panel {
    fn read(panel: &Value) -> Self {
        Self {
            id: panel["id"].as_u64().unwrap(),
            title: text(&panel["title"]),
            description: text(&panel["description"]),
            unit: text(&panel["fieldConfig"]["defaults"]["unit"]),
            expressions: list(&panel["targets"])
                .iter()
                .map(|target| text(&target["expr"]))
                .collect(),
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// An alert.
pub(crate) struct Rule {
    pub(crate) alert: String,
    pub(crate) expression: String,
    pub(crate) text: String,
}

/// Every alert. Our rule files keep each expression on one line, so that no YAML reader is needed.
pub(crate) fn rules() -> Vec<Rule> {
    let mut found = Vec::new();
    for path in files("prometheus/rules", "yml") {
        let file = fs::read_to_string(&path).unwrap();
        for text in file.split("- alert: ").skip(1) {
            let expression = text.lines().find_map(|line| line.trim().strip_prefix("expr: "));
            found.push(Rule {
                alert: text.lines().next().unwrap().to_owned(),
                expression: expression.unwrap().to_owned(),
                text: text.to_owned(),
            });
        }
    }
    found
}

/// The tests of all rules, as text.
pub(crate) fn rule_tests() -> String {
    files("prometheus/rules/tests", "yml")
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}
