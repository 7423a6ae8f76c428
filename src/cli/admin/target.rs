//! Where the admin API is: read from a URL, or found where gateways put it.

use std::fmt;
use std::path::{Path, PathBuf};

use http::Uri;
use http::uri::Authority;

/// The other end of the admin API.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// A Unix socket: whoever may open it is trusted.
    Unix(PathBuf),
    /// TCP, in clear or under TLS.
    Tcp {
        /// Host and port.
        authority: Authority,
        /// The port, where the URL leaves it out too.
        port: u16,
        /// Whether TLS is spoken.
        tls: bool,
    },
}

impl Target {
    /// Reads `http://HOST:PORT`, `https://HOST:PORT` or `unix:///PATH`.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix://") {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err("a socket is written with its whole path, as unix:///run/countersign/admin.sock"
                    .to_owned())
            };
        }
        let url: Uri = text.parse().map_err(|_| FORMS.to_owned())?;
        let (Some(scheme), Some(authority)) = (url.scheme_str(), url.authority()) else {
            return Err(FORMS.to_owned());
        };
        if authority.as_str().contains('@') {
            return Err("a token does not stand in the URL: use COUNTERSIGN_ADMIN_TOKEN".to_owned());
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() {
            return Err("leave out what follows the port: the paths are known".to_owned());
        }
        let (tls, usual) = match scheme {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err(FORMS.to_owned()),
        };
        let port = authority.port_u16().unwrap_or(usual);
        Ok(Self::Tcp { authority: authority.clone(), port, tls })
    }

    /// The socket of a gateway on this machine, or else the port where a gateway serves it by default.
    pub(crate) fn found() -> Self {
        let socket = SOCKETS.iter().map(Path::new).find(|path| path.exists());
        let tcp = || Self::Tcp {
            authority: Authority::from_static(DEFAULT),
            port: DEFAULT_PORT,
            tls: false,
        };
        socket.map_or_else(tcp, |path| Self::Unix(path.to_owned()))
    }

    /// What a request names as its host.
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Unix(_) => "localhost",
            Self::Tcp { authority, .. } => authority.as_str(),
        }
    }

    /// Whether a token may be shown to it: others could read it on the way otherwise.
    pub(crate) fn is_private(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Tcp { tls: true, .. } => true,
            Self::Tcp { authority, tls: false, .. } => {
                let host = authority.host().trim_start_matches('[').trim_end_matches(']');
                let loopback = |ip: std::net::IpAddr| ip.to_canonical().is_loopback();
                host == "localhost" || host.parse().is_ok_and(loopback)
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { authority, tls, .. } => {
                write!(f, "http{}://{authority}", if *tls { "s" } else { "" })
            }
        }
    }
}

const FORMS: &str = "write http://127.0.0.1:9180, https://gateway.example:9180 or unix:///run/countersign/admin.sock";
/// Where the packaged service and the example configuration put the socket.
const SOCKETS: [&str; 2] = ["/run/countersign/admin.sock", "/var/lib/countersign/admin.sock"];
const DEFAULT: &str = "127.0.0.1:9180";
const DEFAULT_PORT: u16 = 9180;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read_and_written_alike() {
        for text in ["http://127.0.0.1:9180", "https://gateway.example", "unix:///run/a.sock"] {
            assert_eq!(Target::read(text).unwrap().to_string(), text);
        }
        let Target::Tcp { port, tls, .. } = Target::read("https://gateway.example/").unwrap()
        else {
            panic!("no TCP")
        };
        assert_eq!((port, tls), (443, true));
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_forms_that_are() {
        for (text, cure) in [
            ("", "http://127.0.0.1:9180"),
            ("127.0.0.1:9180", "http://"),
            ("ftp://host", "https://"),
            ("unix://admin.sock", "whole path"),
            ("http://csa_token@host", "COUNTERSIGN_ADMIN_TOKEN"),
            ("http://host/v1/keys", "leave out"),
        ] {
            let refused = Target::read(text).unwrap_err();
            assert!(refused.contains(cure), "{text}: {refused}");
            assert!(!refused.contains("csa_"), "{refused}");
        }
    }

    #[test]
    fn a_token_stays_on_the_machine_or_under_tls() {
        for (text, private) in [
            ("http://127.0.0.1:9180", true),
            ("http://127.8.0.1:9180", true),
            ("http://[::1]:9180", true),
            ("http://[::ffff:127.0.0.1]:9180", true),
            ("http://localhost:9180", true),
            ("http://localhost.example:9180", false),
            ("http://10.0.0.1:9180", false),
            ("https://10.0.0.1:9180", true),
            ("unix:///run/a.sock", true),
        ] {
            assert_eq!(Target::read(text).unwrap().is_private(), private, "{text}");
        }
    }
}
