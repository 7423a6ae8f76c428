//! `[sealing]`: the master keys that secrets of the registry lie under; `[issue]`: what holds for keys made here.

use std::sync::Arc;
use std::time::Duration;

use super::document::{Node, Table, text};
use super::load::section;
use super::problem::Fault;
use super::secrets::secret;
use super::value::span;
use crate::key::master::{MasterKey, MasterSource, Sealing};

/// The master keys, or `None` where the section is absent or wrong.
pub(super) fn sealing(root: &Table<'_>) -> Option<Sealing> {
    let table = section(root, "sealing")?;
    let current = table.need("current", "the name of the key under [sealing.keys] that seals");
    let keys = table.need("keys", "write [sealing.keys.2026] with `env`, `file` or `command`");
    table.finish();
    let keys = keys?.table()?;
    let mut all = Vec::new();
    for (called, node) in keys.all() {
        let called = node.spot.noted(plain(called));
        all.push(called.zip(source(&node)).map(|(name, source)| (Arc::from(name), source)));
    }
    let all: Vec<(Arc<str>, MasterSource)> = all.into_iter().collect::<Option<_>>()?;
    let current = current?.read(|value| {
        let current = plain(text(value)?)?;
        let known = all.iter().map(|(name, _)| &**name);
        if known.clone().any(|known| known == current) {
            Ok(current)
        } else {
            Err(Fault::unknown("master key", current, known))
        }
    })?;
    Some(Sealing { current: Arc::from(current), keys: all })
}

/// After how long a key that is bound to no network loses `trade`.
pub(super) fn unbound_trade(root: &Table<'_>) -> Option<Duration> {
    let default = Some(super::UNBOUND_TRADE);
    let Some(table) = section(root, "issue") else { return default };
    let range = Duration::ZERO..=Duration::from_hours(10 * 366 * 24);
    let found = table.or("unbound_trade", super::UNBOUND_TRADE, span(range));
    table.finish();
    Some(found).filter(|span| !span.is_zero())
}

fn plain(text: &str) -> Result<&str, Fault> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if text.len() <= 64 && text.bytes().all(is_plain) {
        return Ok(text);
    }
    Err(Fault::new("use up to 64 letters, digits, `-` and `_` for the name of a master key"))
}

fn source(node: &Node<'_>) -> Option<MasterSource> {
    let command = node.value.as_table().and_then(|_| node.table()?.find("command"));
    let Some(command) = command else {
        let bytes = secret(node)?;
        let key = MasterKey::read(&bytes).map_err(|why| Fault::new(why.to_string()));
        return node.spot.noted(key).map(MasterSource::Given);
    };
    let table = node.table()?;
    table.find("command");
    let (env, file) = (table.find("env"), table.find("file"));
    if let Some(other) = env.or(file) {
        other.spot.error(Fault::cured("`command` is given as well", "leave one of them out"));
        return None;
    }
    table.finish();
    let words = command.items()?;
    let words: Option<Vec<String>> =
        words.iter().map(|word| word.read(text).map(ToOwned::to_owned)).collect();
    let words = words?;
    if words.is_empty() {
        command.spot.error(Fault::cured("it is empty", "write the program and its arguments"));
        return None;
    }
    Some(MasterSource::Command(words))
}
