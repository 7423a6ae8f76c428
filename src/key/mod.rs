//! API keys: whose they are, what they may do, and the secret that only the signature check opens.

mod algorithm;
mod der;
pub mod factor;
pub mod id;
#[cfg(feature = "server")]
pub mod lifecycle;
#[cfg(feature = "server")]
pub mod master;
mod permission;
#[cfg(feature = "server")]
pub mod sealing;
mod secret;
mod symbols;
#[cfg(feature = "server")]
pub mod upload;

use std::fmt;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use sha2::{Digest, Sha256};

pub use algorithm::Algorithm;
pub use factor::Factor;
pub use id::KeyId;
pub use permission::{Permission, PermissionNames, Permissions, TooManyPermissions};
pub use secret::{BadSecret, Passphrase, Secret, Signer};
pub(crate) use secret::{Material, SignerMaterial};
pub use symbols::{Symbols, is_symbol};

use crate::cache;
use crate::checks::meter::Meter;
use crate::checks::signature;
use crate::clock::Micros;

/// What a key's life has come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// In use.
    Active,
    /// Set aside; it can be resumed.
    Suspended,
    /// Ended for good.
    Revoked,
    /// Its account is frozen.
    Frozen,
    /// Its application is stopped, or has lost its keys.
    Stopped,
}

/// A named group of routes and hosts that share one replay store. A key belongs to exactly one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Venue(pub Arc<str>);

/// The networks that a key may be used from; anywhere when empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Allowlist(Option<Box<Networks>>);

/// At least one. Apart, since most keys have none: so a list takes 8 bytes of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Networks(Box<[IpNet]>);

impl Allowlist {
    /// A list of networks. IPv4-mapped IPv6 entries count as the IPv4 networks they name.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let networks: Box<[IpNet]> = networks.into_iter().map(unmapped).collect();
        Self((!networks.is_empty()).then(|| Box::new(Networks(networks))))
    }

    /// Whether `address` may use the key. `::ffff:1.2.3.4` is 1.2.3.4.
    pub fn permits(&self, address: IpAddr) -> bool {
        self.0.as_deref().is_none_or(|networks| networks.permit(address.to_canonical()))
    }

    /// Whether the key is bound to networks at all.
    pub fn is_bound(&self) -> bool {
        self.0.is_some()
    }
}

impl Networks {
    fn permit(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address))
    }
}

/// `::ffff:a.b.c.d/96+n` names the IPv4 network `a.b.c.d/n`.
pub(crate) fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(v4), Some(length)) => {
            ipnet::Ipv4Net::new(v4, length).map_or(network, |net| IpNet::V4(net.trunc()))
        }
        _ => network,
    }
}

/// What identifies a key inside: 16 bytes of the SHA-256 of its id. Even for every id, chosen or not.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Tag(pub [u8; 16]);

impl Tag {
    /// The tag of a key id.
    pub fn of(id: &str) -> Self {
        let digest = Sha256::digest(id.as_bytes());
        let mut tag = [0; 16];
        tag.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self(tag)
    }

    /// Half of it, where 64 bits do.
    pub fn short(&self) -> u64 {
        self.0.first_chunk().map_or(0, |half| u64::from_le_bytes(*half))
    }
}

/// The most limits of one key.
pub const MAX_KEY_LIMITS: usize = 5;

/// A key. Built by the registry, shared by the workers.
pub struct Key {
    /// Its public name.
    pub id: KeyId,
    /// [`Tag::of`] the id.
    pub tag: Tag,
    /// Who holds it.
    pub account: Arc<str>,
    /// [`Tag::of`] the account.
    pub account_tag: Tag,
    /// Where it is valid.
    pub venue: Venue,
    /// The one dialect it signs in, by name.
    pub dialect: Arc<str>,
    /// What it signs with.
    pub secret: Secret,
    /// The passphrase, where the dialect has one.
    pub passphrase: Option<Passphrase>,
    /// What it may do.
    pub permissions: Permissions,
    /// Where from.
    pub allowlist: Allowlist,
    /// Whether it is in use.
    pub state: State,
    /// When it ends by itself.
    pub expires: Option<Micros>,
    /// How much it may do, at most [`MAX_KEY_LIMITS`] of them; unlimited when empty.
    pub limits: Arc<[Meter]>,
    /// Raised with every change that takes something from its holder; 0 for keys of the configuration.
    pub epoch: u64,
    /// What binds it further, where anything does.
    pub bindings: Option<Box<Bindings>>,
}

/// What binds a key beside what every key has.
#[derive(Default)]
pub struct Bindings {
    /// The secret that was rotated out, and until when it is still good.
    pub outgoing: Option<(Secret, Micros)>,
    /// The routes it may use, in order; all where it is `None`.
    pub routes: Option<Box<[u16]>>,
    /// The symbols it may trade; all where it is `None`.
    pub symbols: Option<Symbols>,
    /// The application it was made for.
    pub application: Option<Arc<str>>,
    /// Where the application may be used from.
    pub application_allowlist: Allowlist,
    /// When it loses [`Permission::TRADE`], since it is bound to no network.
    pub trade_until: Option<Micros>,
    /// The second factor of its account, once its holder has confirmed it.
    pub factor: Option<Arc<Factor>>,
}

impl Key {
    /// The secret that was rotated out, and until when it is good.
    pub(crate) fn outgoing(&self) -> Option<&(Secret, Micros)> {
        self.bindings.as_ref()?.outgoing.as_ref()
    }

    /// The same secret, if it is of that algorithm and still good.
    pub(crate) fn outgoing_good(&self, algorithm: Algorithm, now: Micros) -> Option<&Secret> {
        let (secret, until) = self.outgoing()?;
        (now < *until && secret.algorithm() == algorithm).then_some(secret)
    }

    /// Reads of each of its cache lines, all at once: what is looked at first then waits for the rest too, but once.
    pub(crate) fn fetch(&self) {
        let id = self.id.as_bytes();
        black_box((id.first().copied(), id.last().copied()));
        black_box((
            self.account.len(),
            self.dialect.len(),
            self.limits.len(),
            self.bindings.is_some(),
        ));
        black_box((self.tag, self.account_tag, self.state));
        signature::fetch(&self.secret);
        // Where there is none something else is, so that no step hangs on which key it is.
        self.passphrase.as_ref().map_or_else(|| cache::fetch(self), Passphrase::fetch);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(networks: &[&str]) -> Allowlist {
        Allowlist::new(networks.iter().map(|n| n.parse().unwrap()))
    }

    #[test]
    fn a_key_that_is_shared_fills_seven_cache_lines_and_no_more() {
        // With the two counts of an `Arc`. Allocators round the next byte up to 512, and soon to 640.
        assert!(size_of::<Key>() + 2 * size_of::<usize>() <= 7 * 64);
    }

    #[test]
    fn an_empty_list_permits_every_address() {
        assert!(list(&[]).permits("203.0.113.9".parse().unwrap()));
    }

    #[test]
    fn a_network_permits_its_edges_and_no_neighbour() {
        let allowed = list(&["10.1.2.0/30", "2001:db8::/126"]);
        for (address, permitted) in [
            ("10.1.1.255", false),
            ("10.1.2.0", true),
            ("10.1.2.3", true),
            ("10.1.2.4", false),
            ("2001:db8::3", true),
            ("2001:db8::4", false),
        ] {
            assert_eq!(allowed.permits(address.parse().unwrap()), permitted, "{address}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_address_it_maps() {
        assert!(list(&["192.0.2.7/32"]).permits("::ffff:192.0.2.7".parse().unwrap()));
        assert!(list(&["::ffff:192.0.2.7/128"]).permits("192.0.2.7".parse().unwrap()));
        assert!(list(&["::ffff:192.0.2.0/120"]).permits("192.0.2.255".parse().unwrap()));
        assert!(!list(&["::ffff:192.0.2.0/120"]).permits("192.0.3.0".parse().unwrap()));
    }
}
