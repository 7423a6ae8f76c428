//! Lists and facts: tables on a terminal, plain aligned columns where a program reads them.

use std::io::{self, Write};

use comfy_table::presets::{NOTHING, UTF8_FULL_CONDENSED};
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;

use super::text::cell;
use super::when;
use crate::clock::Micros;

/// Who reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Eye {
    /// Whether a person does, on a terminal.
    pub(super) human: bool,
    /// The moment, for times that are told from it.
    pub(super) now: Micros,
}

impl Eye {
    /// A moment for this reader; `-` where there is none.
    pub(super) fn time(&self, value: Option<&Value>) -> String {
        match value.and_then(when::moment_in) {
            None => cell(value),
            Some(then) if self.human => when::relative(self.now, then),
            Some(then) => when::rfc3339(then),
        }
    }

    /// A moment with how far it is, where there is room for both.
    fn whole_time(&self, value: &Value) -> String {
        match when::moment_in(value) {
            Some(then) if self.human => {
                format!("{} ({})", when::rfc3339(then), when::relative(self.now, then))
            }
            _ => self.time(Some(value)),
        }
    }
}

/// A column: its head, and where its cells come from.
#[derive(Clone, Copy)]
pub(super) struct Column {
    head: &'static str,
    from: From,
}

/// Where a cell comes from.
#[derive(Clone, Copy)]
enum From {
    Field(&'static str),
    Time(&'static str),
}

impl Column {
    /// What stands at `name`.
    pub(super) const fn of(head: &'static str, name: &'static str) -> Self {
        Self { head, from: From::Field(name) }
    }

    /// The moment that stands at `name`.
    pub(super) const fn time(head: &'static str, name: &'static str) -> Self {
        Self { head, from: From::Time(name) }
    }

    fn cell(&self, item: &Value, eye: Eye) -> String {
        match self.from {
            From::Field(name) => cell(item.get(name)),
            From::Time(name) => eye.time(item.get(name)),
        }
    }
}

/// Writes items in columns.
pub(super) fn list(
    out: &mut dyn Write,
    items: &[Value],
    columns: &[Column],
    eye: Eye,
) -> io::Result<()> {
    let heads = columns.iter().map(|column| column.head.to_owned()).collect();
    let row = |item: &Value| columns.iter().map(|column| column.cell(item, eye)).collect();
    rows(out, Some(heads), items.iter().map(row), eye.human)
}

/// Writes what is known of one thing, a name and a value a line: `first` in their order, then the rest.
pub(super) fn facts(out: &mut dyn Write, item: &Value, first: &[&str], eye: Eye) -> io::Result<()> {
    let Some(fields) = item.as_object() else { return writeln!(out, "{}", cell(Some(item))) };
    let rest = fields.keys().map(String::as_str).filter(|name| !first.contains(name));
    let names = first.iter().copied().filter(|name| fields.contains_key(*name)).chain(rest);
    let lines = names.flat_map(|name| {
        let value = item.get(name).unwrap_or(&Value::Null);
        lines_of(name, value, eye)
    });
    rows(out, None, lines, false)
}

/// A thing in a list has a line of its own.
fn lines_of(name: &str, value: &Value, eye: Eye) -> Vec<Vec<String>> {
    let label = name.replace('_', " ");
    match value {
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let number =
                |(at, item): (usize, &Value)| lines_of(&format!("{name} {}", at + 1), item, eye);
            items.iter().enumerate().flat_map(number).collect()
        }
        Value::Object(fields) => {
            let told: Vec<_> = fields
                .iter()
                .map(|(inner, value)| {
                    format!("{}: {}", inner.replace('_', " "), shown(inner, value, eye))
                })
                .collect();
            vec![vec![label, told.join(", ")]]
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            vec![vec![label, shown(name, value, eye)]]
        }
    }
}

fn shown(name: &str, value: &Value, eye: Eye) -> String {
    if TIMES.contains(&name) { eye.whole_time(value) } else { cell(Some(value)) }
}

fn rows(
    out: &mut dyn Write,
    heads: Option<Vec<String>>,
    rows: impl Iterator<Item = Vec<String>>,
    framed: bool,
) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(if framed { UTF8_FULL_CONDENSED } else { NOTHING });
    table.set_content_arrangement(ContentArrangement::Disabled);
    if let Some(heads) = heads {
        table.set_header(heads);
    }
    for row in rows {
        table.add_row(row);
    }
    if !framed {
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Fields that hold moments.
pub(super) const TIMES: [&str; 20] = [
    "at",
    "blocked_until",
    "compromised",
    "created",
    "cut_off",
    "ended",
    "expires",
    "first",
    "last",
    "last_seen",
    "last_used",
    "requested",
    "since",
    "started",
    "thrown_at",
    "trade_until",
    "until",
    "used",
    "uses_known_until",
    "when",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: [Column; 3] = [
        Column::of("ID", "id"),
        Column::of("MAY", "permissions"),
        Column::time("EXPIRES", "expires"),
    ];
    const NOW: Micros = Micros::from_millis(1_700_000_000_000);

    fn written(human: bool) -> String {
        let items = [
            json!({"id": "csk_1", "permissions": ["read", "trade"], "expires": "2023-11-16T22:13:20Z"}),
            json!({"id": "csk_22", "permissions": [], "expires": null}),
        ];
        let mut out = Vec::new();
        list(&mut out, &items, &COLUMNS, Eye { human, now: NOW }).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_program_reads_plain_columns_with_whole_times() {
        let expected = "ID      MAY         EXPIRES\ncsk_1   read,trade  2023-11-16T22:13:20Z\ncsk_22  -           -\n";
        assert_eq!(written(false), expected);
    }

    #[test]
    fn a_person_reads_a_table_with_times_from_now() {
        let table = written(true);
        assert!(table.contains("│ csk_1  ┆ read,trade ┆ in 2 days │"), "{table}");
    }

    #[test]
    fn facts_come_in_their_order_and_none_is_left_out() {
        let item = json!({"new_thing": 7, "created": 1_700_000_000_000_000_u64, "id": "csk_1",
            "secrets": [{"number": 1, "created": "2023-11-14T22:13:20Z"}]});
        let mut out = Vec::new();
        facts(&mut out, &item, &["id", "label"], Eye { human: true, now: NOW }).unwrap();
        let expected = "id         csk_1\ncreated    2023-11-14T22:13:20Z (now)\nnew thing  7\n\
            secrets 1  created: 2023-11-14T22:13:20Z (now), number: 1\n";
        let text = String::from_utf8(out).unwrap();
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines[1..].sort();
            lines
        };
        assert_eq!(sorted(&text), sorted(expected));
    }
}
