//! The licences of everything that is linked in are among those that `.deny.toml` allows.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

fn allowed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(".deny.toml").unwrap();
    let rules: toml::Table = text.parse().unwrap();
    let names = rules["licenses"]["allow"].as_array().unwrap();
    names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// Whether an SPDX expression can be met: `AND` binds closer than `OR`, and one pair of parentheses may stand around
/// an alternative.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    if let Some((inner, rest)) = expression.strip_prefix('(').and_then(|rest| rest.split_once(')'))
    {
        return is_met(inner, allowed)
            && rest.strip_prefix(" AND ").is_none_or(|rest| is_met(rest, allowed));
    }
    let spaced = expression.replace('/', " OR ");
    spaced
        .split(" OR ")
        .any(|choice| choice.split(" AND ").all(|name| allowed.contains(name.trim())))
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let told = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version=1"])
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let metadata: Value = serde_json::from_slice(&told.stdout).unwrap();
    let allowed = allowed();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 50);
    for package in packages {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(is_met(licence, &allowed), "{}: {licence}", package["name"]);
    }
}

#[test]
fn an_expression_is_met_by_one_alternative_with_all_its_parts() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "ISC".to_owned()]);
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/MIT", true),
        ("MIT AND ISC", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND ISC", true),
        ("(GPL-3.0 OR MIT) AND GPL-3.0", false),
        ("", false),
    ] {
        assert_eq!(is_met(expression, &allowed), met, "{expression}");
    }
}
