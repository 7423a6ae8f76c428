//! Which metrics an expression names, and which exist.

use std::collections::BTreeSet;
use std::convert::Infallible;

use countersign::metrics::Metrics;
use promql_parser::parser::{self, Expr};
use promql_parser::util::{ExprVisitor, walk_expr};

/// The names of all series that `metrics` exposes: for a histogram its buckets, sum and count, and its own
/// name for reports.
pub(crate) fn families(metrics: &Metrics) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in metrics.exposition().unwrap().lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        else {
            continue;
        };
        if kind == "histogram" {
            names.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
        }
        names.insert(name.to_owned());
    }
    names
}

/// The metrics that `expression` names and `known` lacks, or why it cannot be parsed.
pub(crate) fn unknown(
    expression: &str,
    known: &BTreeSet<String>,
) -> Result<BTreeSet<String>, String> {
    Ok(named(expression)?.into_iter().filter(|name| !known.contains(name)).collect())
}

/// The metrics that `expression` names, or why it cannot be parsed.
pub(crate) fn named(expression: &str) -> Result<BTreeSet<String>, String> {
    let mut names = Names(BTreeSet::new());
    let Ok(_) = walk_expr(&mut names, &parser::parse(&substituted(expression))?);
    Ok(names.0)
}

/// The expression as Grafana sends it, with everything selected.
pub(crate) fn substituted(expression: &str) -> String {
    let sent = expression
        .replace("$__rate_interval", "10s")
        .replace("$job", ".+")
        .replace("$instance", ".+")
        .replace("$route", ".+");
    assert!(!sent.contains('$'), "a variable is left in {sent}");
    sent
}

struct Names(BTreeSet<String>);

impl ExprVisitor for Names {
    type Error = Infallible;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, Infallible> {
        let selector = match expression {
            Expr::VectorSelector(selector) => Some(selector),
            Expr::MatrixSelector(matrix) => Some(&matrix.vs),
            Expr::Aggregate(_)
            | Expr::Unary(_)
            | Expr::Binary(_)
            | Expr::Paren(_)
            | Expr::Subquery(_)
            | Expr::NumberLiteral(_)
            | Expr::StringLiteral(_)
            | Expr::Call(_)
            | Expr::Extension(_) => None,
        };
        if let Some(selector) = selector {
            self.0.insert(selector.name.clone().expect("every selector names its metric"));
        }
        Ok(true)
    }
}
