//! `[registry]`: where records of keys and all that belongs to them are kept.

use std::path::Path;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::document::{Node, Spot, Table, text};
use super::load::section;
use super::problem::Fault;
use super::secrets::secret;
use super::value::{span, whole, word};
use crate::registry::Location;
use crate::registry::postgres::Options;

#[derive(Clone, Copy, Eq, PartialEq)]
enum Kind {
    Embedded,
    Postgres,
}

const KINDS: [(Kind, &str); 2] = [(Kind::Embedded, "embedded"), (Kind::Postgres, "postgres")];

/// `None` only where something was reported.
pub(super) fn registry(root: &Table<'_>, state_dir: Option<&Path>) -> Option<Location> {
    let by_default = state_dir.map(|directory| Location::File(directory.join("registry.redb")));
    let in_memory = |spot: &Spot<'_>| {
        spot.warn("what the registry records ends with the gateway: give `path` in [registry], or `state_dir` in [store]");
        Location::Memory
    };
    let Some(table) = section(root, "registry") else {
        return Some(by_default.unwrap_or_else(|| in_memory(&root.spot)));
    };
    let kind = table.or("kind", Kind::Embedded, word("registry", &KINDS));
    let path = table.find("path");
    let postgres = Postgres::read(&table);
    table.finish();
    match kind {
        Kind::Embedded => {
            postgres.refuse();
            if let Some(node) = path {
                return Some(Location::File(node.spot.document.path(node.read(text)?)));
            }
            Some(by_default.unwrap_or_else(|| in_memory(&table.spot)))
        }
        Kind::Postgres => {
            if let Some(node) = path {
                node.spot.error(misplaced("postgres"));
            }
            postgres.location(&table)
        }
    }
}

/// What only a registry in PostgreSQL has.
struct Postgres<'a> {
    url: Option<Node<'a>>,
    ca: Option<Node<'a>>,
    connections: Option<Node<'a>>,
    connect_timeout: Option<Node<'a>>,
    timeout: Option<Node<'a>>,
}

impl<'a> Postgres<'a> {
    fn read(table: &Table<'a>) -> Self {
        Self {
            url: table.find("url"),
            ca: table.find("ca"),
            connections: table.find("connections"),
            connect_timeout: table.find("connect_timeout"),
            timeout: table.find("timeout"),
        }
    }

    /// Reports each that is given.
    fn refuse(&self) {
        let all = [&self.url, &self.ca, &self.connections, &self.connect_timeout, &self.timeout];
        for node in all.into_iter().flatten() {
            node.spot.error(misplaced("embedded"));
        }
    }

    fn location(&self, table: &Table<'_>) -> Option<Location> {
        let range = Duration::from_millis(10)..=Duration::from_mins(1);
        let roots = self.ca.as_ref().map(authorities);
        let connect_timeout =
            self.connect_timeout.as_ref().map(|node| node.read(span(range.clone())));
        let timeout = self.timeout.as_ref().map(|node| node.read(span(range)));
        let connections = self.connections.as_ref().map(|node| node.read(whole(1..=16)));
        let Some(url) = &self.url else {
            table.spot.error(Fault::cured(
                "`url` is missing",
                "write { env = \"NAME\" } or { file = \"path\" }",
            ));
            return None;
        };
        let bytes = secret(url)?;
        let roots = roots.map_or(Some(None), |roots| roots.map(Some))?;
        let options = str::from_utf8(&bytes).ok().map(|text| Options::new(text, roots));
        let Some(Ok(mut options)) = options else {
            let (problem, cure) = options
                .and_then(Result::err)
                .unwrap_or(crate::registry::postgres::BadUrl::Unreadable)
                .told();
            url.spot.error(Fault::cured(problem, cure));
            return None;
        };
        if options.is_remote() && !options.is_encrypted() {
            url.spot.warn("what is asked of the registry travels unencrypted: give `ca`");
        }
        if let Some(span) = connect_timeout {
            options.connect_within(span?);
        }
        if let Some(span) = timeout {
            options.timeout = span?;
        }
        if let Some(connections) = connections {
            options.connections = connections?;
        }
        Some(Location::Postgres(Box::new(options)))
    }
}

/// Who may vouch for the server.
fn authorities(node: &Node<'_>) -> Option<RootCertStore> {
    let path = node.spot.document.path(node.read(text)?);
    node.read(|_| {
        let contents = node.spot.document.lookup.file(&path).map_err(|error| {
            Fault::cured(
                format!("{} cannot be read: {error}", path.display()),
                "paths are relative to the configuration's directory",
            )
        })?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&contents.bytes) {
            let added = certificate.map(|certificate| roots.add(certificate).is_ok());
            if !matches!(added, Ok(true)) {
                let problem = format!("{} holds a certificate that cannot be read", path.display());
                return Err(Fault::cured(problem, "export it again, as PEM"));
            }
        }
        if roots.is_empty() {
            return Err(Fault::new(format!("{} holds no PEM certificate", path.display())));
        }
        Ok(roots)
    })
}

fn misplaced(kind: &str) -> Fault {
    Fault::cured(
        format!("it has no meaning for a registry of kind \"{kind}\""),
        "leave it out, or change `kind`",
    )
}
