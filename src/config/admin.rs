//! `[admin]`: where metrics, health and the admin API are served, and who may call it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::document::{Node, Table, text};
use super::load::{refuse_repeats, section};
use super::problem::Fault;
use super::provider::providers;
use super::secrets::secret;
use super::server::{is_taken, pem, tls_files};
use super::value::{address, name, word};
use super::{Admin, AdminTls, Listener};
use crate::admin::{Named, Role, Token};

pub(super) fn admin(
    root: &Table<'_>,
    listeners: &[Option<Listener>],
    state_dir: Option<&Path>,
) -> Option<Admin> {
    let mut admin = Admin::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 9_180)));
    admin.socket = state_dir.map(|dir| dir.join("admin.sock"));
    let Some(table) = section(root, "admin") else { return Some(admin) };
    let found = table.find("address");
    if let Some(node) = &found {
        admin.address = node.read(|value| free(address(value)?, listeners))?;
    }
    if let Some(node) = table.find("socket") {
        admin.socket = socket(&node)?;
    }
    if let Some(node) = table.find("tls") {
        admin.tls = Some(tls(&node)?);
    }
    admin.tokens = tokens(&table)?;
    admin.certificates = certificates(&table, admin.tls.as_ref())?;
    admin.providers = providers(&table)?;
    if let Some(node) = table.find("four_eyes") {
        admin.four_eyes = node.texts(|text| match text {
            "withdraw" => Ok(text.to_owned()),
            _ => Err(Fault::unknown("permission for four eyes", text, ["withdraw"])),
        });
    }
    table.finish();
    guarded(&admin, found.as_ref())?;
    Some(admin)
}

/// Refuses what would send tokens in clear over a network.
fn guarded(admin: &Admin, node: Option<&Node<'_>>) -> Option<()> {
    let bearer = !admin.tokens.is_empty() || !admin.providers.is_empty();
    let open = !admin.address.ip().is_loopback();
    let Some(node) = node.filter(|_| open) else { return Some(()) };
    if bearer && admin.tls.is_none() {
        node.spot.error(Fault::cured(
            "tokens would cross the network in clear",
            "give `[admin]` a `tls`, or take a loopback address as \"127.0.0.1:9180\"",
        ));
        return None;
    }
    node.spot.warn(
        "metrics and health are served without credentials: let no stranger reach this address",
    );
    Some(())
}

fn free(found: SocketAddr, listeners: &[Option<Listener>]) -> Result<SocketAddr, Fault> {
    let mut all = listeners.iter().flatten();
    if let Some(taken) = all.find(|listener| is_taken(found, listener.address)) {
        return Err(Fault::new(format!("a listener has {} already", taken.address)));
    }
    Ok(found)
}

/// The longest path that the system takes for a socket, with room for the name it is made under.
const SOCKET_CAP: usize = 96;

#[expect(clippy::option_option, reason = "wrong, off, and a path are three things")]
fn socket(node: &Node<'_>) -> Option<Option<PathBuf>> {
    let path = node.read(text)?;
    if path == "off" {
        return Some(None);
    }
    let path = node.spot.document.path(path);
    node.read(|_| {
        if path.as_os_str().len() <= SOCKET_CAP {
            return Ok(());
        }
        let problem = format!("the path of a socket has at most {SOCKET_CAP} bytes");
        Err(Fault::cured(problem, "put it where the path is shorter, as /run/countersign.sock"))
    })?;
    Some(Some(path))
}

fn tls(node: &Node<'_>) -> Option<AdminTls> {
    let table = node.table()?;
    let files = tls_files(&table);
    let authority = table.find("client_ca");
    let authority = authority.map(|node| pem(&node, "CERTIFICATE-----", false));
    table.finish();
    let client_ca = authority.map_or(Some(None), |found| found.map(Some))?;
    Some(AdminTls { files: files?, client_ca })
}

pub(super) const ROLES: [(Role, &str); 3] = Role::ALL;

fn role(table: &Table<'_>) -> Option<Role> {
    table
        .need("role", "as role = \"viewer\", \"operator\" or \"security\"")?
        .read(word("role", &ROLES))
}

/// The fewest bytes of a token: fewer can be guessed.
const TOKEN: usize = 32;

fn tokens(admin: &Table<'_>) -> Option<Vec<Token>> {
    let (mut names, mut all) = (Vec::new(), Vec::new());
    for table in admin.tables("token") {
        let called = table.need("name", "whose it is: the name in audit records");
        let called = called.and_then(|node| {
            node.read(|value| {
                let text = name(value)?;
                refuse_repeats(&mut names, text, "token").map(|()| text)
            })
        });
        let role = role(&table);
        let node = table.need("token", "as token = { env = \"COUNTERSIGN_ADMIN_TOKEN\" }");
        let token = node.and_then(|node| {
            let bytes = secret(&node)?;
            let plain = bytes.len() >= TOKEN && bytes.iter().all(u8::is_ascii_graphic);
            if !plain {
                node.spot.error(Fault::cured(
                    format!(
                        "this token is shorter than {TOKEN} characters, or not printable ASCII"
                    ),
                    "make one with `openssl rand -hex 32`",
                ));
            }
            plain.then_some(bytes)
        });
        table.finish();
        all.push(match (called, role, token) {
            (Some(name), Some(role), Some(token)) => Some(Token::new(name, role, &token)),
            _ => None,
        });
    }
    all.into_iter().collect()
}

fn certificates(admin: &Table<'_>, tls: Option<&AdminTls>) -> Option<Vec<Named>> {
    let mut all = Vec::new();
    for table in admin.tables("certificate") {
        let cure =
            "a DNS name, an e-mail address or a URI among the certificate's alternative names";
        let name = table.need("name", cure).and_then(|node| node.read(text));
        let role = role(&table);
        if tls.is_none_or(|tls| tls.client_ca.is_none()) {
            table.spot.error(Fault::cured(
                "no authority is named that signs client certificates",
                "write `tls = { cert = …, key = …, client_ca = \"clients.pem\" }` under `[admin]`",
            ));
            return None;
        }
        table.finish();
        all.push(name.zip(role).map(|(name, role)| Named { name: name.to_owned(), role }));
    }
    all.into_iter().collect()
}
