//! `[dialect.NAME]`, and which dialects there are: the built-in ones and the operator's own.

use std::sync::Arc;

use super::document::{Node, Table, text};
use super::problem::{ConfigError, Fault, place};
use super::value::boolean;
use crate::denial::Condition;
use crate::dialect::{BUILTIN, Dialect, builtin};

/// The dialects that routes and keys may name.
pub(super) struct Dialects {
    /// The operator's: his own recipes, and built-in ones with his changes. `None` where one is wrong.
    own: Vec<(String, Option<Arc<Dialect>>)>,
    used: Vec<Arc<Dialect>>,
}

impl Dialects {
    pub(super) fn read(root: &Table<'_>) -> Self {
        let section = root.find("dialect").and_then(|node| node.table());
        let own = section.iter().flat_map(Table::all).map(|(name, node)| {
            let dialect = node.table().and_then(|table| {
                let dialect = dialect(name, &node, &table);
                table.finish();
                dialect
            });
            (name.to_owned(), dialect.map(Arc::new))
        });
        Self { own: own.collect(), used: Vec::new() }
    }

    /// The dialect called `name`; `Ok(None)` where it is known but wrong, and reported already.
    pub(super) fn find(&mut self, name: &str) -> Result<Option<Arc<Dialect>>, Fault> {
        if let Some(used) = self.used.iter().find(|dialect| **dialect.name() == *name) {
            return Ok(Some(Arc::clone(used)));
        }
        if let Some((_, own)) = self.own.iter().find(|(known, _)| known == name) {
            self.used.extend(own.clone());
            return Ok(own.clone());
        }
        let Some(found) = builtin(name) else {
            let known = BUILTIN.iter().map(|(name, _)| *name);
            let known = known.chain(self.own.iter().map(|(name, _)| name.as_str()));
            return Err(Fault::unknown("dialect", name, known));
        };
        let found = Arc::new(found.map_err(|error| Fault::new(error.message))?);
        self.used.push(Arc::clone(&found));
        Ok(Some(found))
    }

    /// Those that were found, in order of first use.
    pub(super) fn used(&self) -> &[Arc<Dialect>] {
        &self.used
    }

    pub(super) fn into_used(self) -> Vec<Arc<Dialect>> {
        self.used
    }
}

fn dialect(name: &str, node: &Node<'_>, table: &Table<'_>) -> Option<Dialect> {
    let recipe = table.find("recipe");
    let split = table.find("split_parameters");
    let lenient = table.find("lenient");
    let imitate = table.find("imitate");
    let dialect = match &recipe {
        Some(recipe) => own_recipe(name, recipe)?,
        None => node.read(|_| {
            let known = BUILTIN.iter().map(|(name, _)| *name);
            let missing = || {
                let fault = Fault::unknown("built-in dialect", name, known);
                let cure = fault.cure.unwrap_or_default();
                Fault::cured(fault.problem, format!("{cure}; for one of your own give `recipe`"))
            };
            builtin(name).ok_or_else(missing)?.map_err(|error| Fault::new(error.message))
        })?,
    };
    let split = split.map_or(Some(false), |node| node.read(boolean))?;
    let dialect = match &lenient {
        Some(node) if node.read(boolean)? => leniently(dialect, split, node)?,
        Some(_) | None => dialect,
    };
    let dialect = if split { dialect.with_split_parameters() } else { dialect };
    match imitate {
        Some(node) if node.read(boolean)? => imitating(dialect, &node),
        Some(_) | None => Some(dialect),
    }
}

fn leniently(dialect: Dialect, split: bool, node: &Node<'_>) -> Option<Dialect> {
    if split {
        node.spot.error(Fault::cured(
            "parameters split over query and body could not be told apart under lenient readings",
            "leave out `split_parameters` or this",
        ));
        return None;
    }
    let name = Arc::clone(dialect.name());
    let lenient = dialect.with_leniency();
    if lenient.is_none() {
        node.spot.error(Fault::cured(
            format!("the recipe of \"{name}\" has no lenient readings to switch on"),
            "leave this out, or give it a recipe of your own with `lenient`",
        ));
    }
    lenient
}

fn imitating(dialect: Dialect, node: &Node<'_>) -> Option<Dialect> {
    if dialect.worded().all(|(condition, ..)| condition != Condition::UnknownKey) {
        node.spot.error(Fault::cured(
            "the recipe has no words for an unknown key, so there is nothing to imitate",
            "give it `unknown_key` under [refusals], or leave this out",
        ));
        return None;
    }
    node.spot
        .warn("strangers can find out which key ids exist: leave it out unless a client needs it");
    Some(dialect.with_imitation())
}

fn own_recipe(name: &str, node: &Node<'_>) -> Option<Dialect> {
    let document = node.spot.document;
    let path = document.path(node.read(text)?);
    let contents = node.read(|_| {
        document
            .lookup
            .file(&path)
            .map_err(|error| Fault::new(format!("{} cannot be read: {error}", path.display())))
    })?;
    let recipe = node.read(|_| {
        std::str::from_utf8(&contents.bytes)
            .map_err(|_| Fault::new(format!("{} is no UTF-8 text", path.display())))
    })?;
    let dialect = Dialect::compile(recipe).map_err(|error| {
        let (line, column) = error.span.map_or((0, 0), |span| place(recipe, span.start));
        let problem = error.message.replace('\n', ", ");
        document.error(ConfigError { line, column, ..ConfigError::of_file(&path, problem) });
    });
    let dialect = dialect.ok()?;
    if **dialect.name() != *name {
        node.spot.error(Fault::cured(
            format!("this recipe is called \"{}\"", dialect.name()),
            format!("write [dialect.{}], or name the recipe \"{name}\"", dialect.name()),
        ));
        return None;
    }
    Some(dialect)
}
