//! Where the PostgreSQL registry is, and how long anything may take.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// Where the registry is, and how it is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// Hosts, user, password and database.
    pub(super) server: Config,
    /// Who may vouch for the server; no TLS where it is `None`.
    pub(super) roots: Option<Arc<RootCertStore>>,
    /// Connections that read; many requests share each at a time. One more writes, and one listens.
    pub connections: usize,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Time for an answer, from when it was asked for.
    pub timeout: Duration,
}

/// What is wrong with the URL of a registry. It repeats nothing of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadUrl {
    /// It is no URL of PostgreSQL.
    Unreadable,
    /// It names no host.
    NoHost,
    /// It asks for TLS, or the server is on another machine, but nobody is named who may vouch for the server.
    NoAuthority,
    /// It asks for no TLS, but somebody is named who may vouch for the server.
    Disabled,
}

impl BadUrl {
    /// What is wrong, and the cure.
    pub fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::Unreadable => (
                "this is no URL of PostgreSQL",
                "as postgres://user:password@host:5432/database, with special characters percent-encoded",
            ),
            Self::NoHost => (
                "the URL names no host",
                "as postgres://user:password@host/database, or with %2Frun%2Fpostgresql for the host",
            ),
            Self::NoAuthority => (
                "the registry would be reached without TLS, or through one that proves nothing",
                "give `ca`, the PEM file of who signed the server's certificate; or write sslmode=disable in the URL, \
                 if nobody can listen on the way",
            ),
            Self::Disabled => (
                "the URL says sslmode=disable, but `ca` is given",
                "leave out the one that is not meant",
            ),
        }
    }
}

impl Options {
    /// Understands a URL, with who may vouch for the server.
    ///
    /// With `roots`, TLS is required, and the server must prove the name that the URL has for it. Without, the server
    /// must be on this machine, or the URL must say `sslmode=disable`.
    pub fn new(url: &str, roots: Option<RootCertStore>) -> Result<Self, BadUrl> {
        let mut server: Config = url.parse().map_err(|_| BadUrl::Unreadable)?;
        if server.get_hosts().is_empty() && server.get_hostaddrs().is_empty() {
            return Err(BadUrl::NoHost);
        }
        let here = server.get_hosts().iter().all(is_here)
            && server.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback);
        match (&roots, server.get_ssl_mode()) {
            (Some(_), SslMode::Disable) => return Err(BadUrl::Disabled),
            (Some(_), _) => drop(server.ssl_mode(SslMode::Require)),
            (None, SslMode::Require) => return Err(BadUrl::NoAuthority),
            (None, SslMode::Disable) => {}
            (None, _) if here => {}
            (None, _) => return Err(BadUrl::NoAuthority),
        }
        if server.get_application_name().is_none() {
            server.application_name("countersign");
        }
        // A copy that takes no writes may be behind.
        if server.get_target_session_attrs() != TargetSessionAttrs::ReadWrite {
            server.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let mut options = Self {
            server,
            roots: roots.map(Arc::new),
            connections: 2,
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
        };
        options.connect_within(Duration::from_secs(2));
        Ok(options)
    }

    /// Whether it is reached with TLS.
    pub fn is_encrypted(&self) -> bool {
        self.roots.is_some()
    }

    /// Whether it is on another machine.
    pub fn is_remote(&self) -> bool {
        !self.server.get_hosts().iter().all(is_here)
    }

    /// Gives connecting so long.
    pub fn connect_within(&mut self, timeout: Duration) {
        self.connect_timeout = timeout;
        self.server.connect_timeout(timeout);
    }

    /// Hosts and database, to tell people which registry is meant.
    pub fn place(&self) -> String {
        let host = |host: &Host| match host {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        };
        let hosts: Vec<_> = self.server.get_hosts().iter().map(host).collect();
        let database = self.server.get_dbname().or(self.server.get_user()).unwrap_or_default();
        format!("{}/{database}", hosts.join(","))
    }
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost"
                || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_another_machine_must_prove_itself_or_be_meant_without() {
        let roots = || Some(RootCertStore::empty());
        for (url, with, without) in [
            ("postgres://u:p@db.example/c", None, Some(BadUrl::NoAuthority)),
            ("postgres://u:p@db.example/c?sslmode=prefer", None, Some(BadUrl::NoAuthority)),
            ("postgres://u:p@db.example/c?sslmode=require", None, Some(BadUrl::NoAuthority)),
            ("postgres://u:p@db.example/c?sslmode=disable", Some(BadUrl::Disabled), None),
            ("postgres://u@127.0.0.1,db.example/c", None, Some(BadUrl::NoAuthority)),
            ("postgres://u@localhost/c?hostaddr=203.0.113.1", None, Some(BadUrl::NoAuthority)),
            ("postgres://u@localhost/c", None, None),
            ("postgres://u@[::1]:5433/c", None, None),
            ("postgres://u@%2Frun%2Fpostgresql/c", None, None),
            ("postgres:///c", Some(BadUrl::NoHost), Some(BadUrl::NoHost)),
            ("mysql://u@localhost/c", Some(BadUrl::Unreadable), Some(BadUrl::Unreadable)),
            ("", Some(BadUrl::NoHost), Some(BadUrl::NoHost)),
        ] {
            assert_eq!(Options::new(url, roots()).err(), with, "{url} with an authority");
            assert_eq!(Options::new(url, None).err(), without, "{url} without");
        }
    }

    #[test]
    fn with_an_authority_tls_is_never_left_out() {
        for mode in ["", "?sslmode=prefer", "?sslmode=require"] {
            let url = format!("postgres://u@db.example/c{mode}");
            let options = Options::new(&url, Some(RootCertStore::empty())).unwrap();
            assert_eq!(options.server.get_ssl_mode(), SslMode::Require, "{mode}");
        }
    }

    #[test]
    fn no_password_is_ever_shown() {
        let options = Options::new("postgres://u:hunter2@localhost/c", None).unwrap();
        assert!(!format!("{options:?} {}", options.place()).contains("hunter2"));
        assert_eq!(options.place(), "localhost/c");
    }
}
