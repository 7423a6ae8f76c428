//! Who calls, and what the role of a caller allows.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What a caller may do. Each role may do what the one before it may.
#[derive(
    Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Runs keys, accounts and applications from day to day.
    Operator,
    /// Does what widens access or ends it for many at once.
    Security,
}

impl Role {
    /// Every role with its name.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Viewer, "viewer"), (Self::Operator, "operator"), (Self::Security, "security")];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(role, _)| *role == self).map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a caller showed who they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Proof {
    /// The system says which user is at the other end of the socket.
    Socket,
    /// A token of the configuration.
    Token,
    /// A client certificate.
    Certificate,
    /// A token of the operator's identity provider.
    Provider,
}

impl Proof {
    /// Its name in audit records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::Provider => "provider",
        }
    }
}

/// A caller who has shown who they are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caller {
    /// Who, unique over every kind of proof.
    pub actor: Arc<str>,
    /// What they may do.
    pub role: Role,
    /// How they showed it.
    pub proof: Proof,
    /// Where from; `None` on the unix socket.
    pub address: Option<IpAddr>,
}

/// The other end of a connection, as the transport knows it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Peer {
    /// Its address; `None` on the unix socket.
    pub address: Option<IpAddr>,
    /// The user at the other end of the unix socket, let in by the listener.
    pub user: Option<u32>,
    /// The names in its client certificate, if it showed one that our authority signed.
    pub certificate: Arc<[String]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_may_do_what_the_one_before_it_may() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Security);
        for (role, name) in Role::ALL {
            assert_eq!(role.to_string(), name);
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("\"{name}\""));
        }
    }
}
