//! From the text of a configuration to a [`Config`], or to everything that is wrong with it.

use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use super::dialects::Dialects;
use super::document::{Document, Lookup, Table, mistyped};
use super::problem::{ConfigError, Fault, Refused};
use super::value::whole;
use super::{
    Config, admin, audit, down, guard, keys, limits, registry, routes, sealing, second_factor,
    server, shared, upstreams, websocket,
};

/// A configuration that is good, with what should be looked at.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is probably not meant.
    pub warnings: Vec<ConfigError>,
}

impl Config {
    /// Reads the configuration in `file`; paths in it are relative to its directory.
    pub fn load(file: &Path, lookup: &dyn Lookup) -> Result<Loaded, Refused> {
        let refused = |problem: String| Refused {
            errors: vec![ConfigError::of_file(file, problem)],
            warnings: Vec::new(),
        };
        let contents = lookup
            .file(file)
            .map_err(|error| refused(format!("the file cannot be read: {error}")))?;
        let text = std::str::from_utf8(&contents.bytes).map_err(|error| {
            let before = contents.bytes.get(..error.valid_up_to()).unwrap_or_default();
            let last = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
            let mut problem = ConfigError::of_file(file, "the file is no UTF-8 text".to_owned());
            problem.line = memchr::memchr_iter(b'\n', before).count() + 1;
            problem.column = String::from_utf8_lossy(last).chars().count() + 1;
            problem.cure = Some("save it as UTF-8".to_owned());
            Refused { errors: vec![problem], warnings: Vec::new() }
        })?;
        Self::parse(text, file, lookup)
    }

    /// Reads a configuration that stands in `text`, as if it stood in `file`.
    pub fn parse(text: &str, file: &Path, lookup: &dyn Lookup) -> Result<Loaded, Refused> {
        let document = Document::new(file, text, lookup);
        let (root, errors) = DeTable::parse_recoverable(text);
        let config = if errors.is_empty() {
            build(&Table::root(&document, root.get_ref()))
        } else {
            for error in &errors {
                document.syntax(error);
            }
            None
        };
        match (config, document.into_problems()) {
            (Some(config), (errors, warnings)) if errors.is_empty() => {
                Ok(Loaded { config, warnings })
            }
            (_, (errors, warnings)) => Err(Refused { errors, warnings }),
        }
    }
}

/// Reads every section, whatever is wrong with the others; `None` only where something was reported.
fn build(root: &Table<'_>) -> Option<Config> {
    let version = root.need("version", "write `version = 1` at the top");
    version.and_then(|version| version.read(whole(1..=1)));
    let server = server::server(root);
    let websocket = websocket::websocket(root, server.max_connections);
    let listeners = server::listeners(root);
    let (store, mut shared) = server::store(root);
    let admin = admin::admin(root, &listeners, store.state_dir.as_deref());
    let audit = audit::audit(root, store.state_dir.as_ref());
    let registry = registry::registry(root, store.state_dir.as_deref());
    let guard = guard::guard(root);
    let limits = limits::limits(root);
    let upstreams = upstreams::upstreams(root);
    let mut dialects = Dialects::read(root);
    let challenges = second_factor::challenges(root);
    let routes::Read { routes, permissions, locals } =
        routes::routes(root, &upstreams, &mut dialects, &limits, challenges.as_ref(), &audit);
    let sealing = sealing::sealing(root);
    let unbound_trade = sealing::unbound_trade(root);
    let keys = keys::keys(root, &mut dialects, &limits, &routes, &permissions);
    for upstream in &upstreams {
        upstream.refuse_credentials(dialects.used());
    }
    if let Ok(shared) = &mut shared {
        down::settle(root, shared.as_mut(), &locals);
    }
    if let Ok(Some(_)) = &shared {
        shared::refuse_timeless(root, dialects.used(), registry.as_ref());
    }
    root.finish();
    Some(Config {
        listeners: listeners.into_iter().collect::<Option<_>>()?,
        admin: admin?,
        server,
        websocket,
        store,
        audit: audit.rules,
        shared: shared.ok()?,
        registry: registry?,
        guard,
        upstreams: upstreams.into_iter().map(|named| named.upstream).collect::<Option<_>>()?,
        routes: Arc::new(routes),
        dialects: dialects.into_used(),
        keys: keys?,
        sealing,
        unbound_trade,
        limits,
        permissions: permissions.into(),
    })
}

/// The tables of an optional section that holds one table.
pub(super) fn section<'a>(root: &Table<'a>, name: &'static str) -> Option<Table<'a>> {
    root.find(name)?.table()
}

/// Reports each name that was there before.
pub(super) fn refuse_repeats<'n>(
    seen: &mut Vec<&'n str>,
    name: &'n str,
    kind: &str,
) -> Result<(), Fault> {
    if seen.contains(&name) {
        return Err(Fault::cured(
            format!("another {kind} is called \"{name}\" already"),
            "give each its own name",
        ));
    }
    seen.push(name);
    Ok(())
}

/// Text or a list of texts, each understood by `read`.
pub(super) fn one_or_more<'a, T>(
    node: &super::document::Node<'a>,
    mut read: impl FnMut(&'a str) -> Result<T, Fault>,
) -> Vec<T> {
    if let Some(text) = node.value.as_str() {
        return node.spot.noted(read(text)).into_iter().collect();
    }
    if node.value.as_array().is_none() {
        node.spot.error(mistyped("a string or an array of strings", node.value));
        return Vec::new();
    }
    node.texts(read)
}
