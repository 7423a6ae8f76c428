//! Which requests the exchange knows, and who may ask them.

use super::private::Private;
use super::public::Public;

/// A request the exchange knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Route {
    /// Market data, the same for everybody.
    Public(Public),
    /// An account's data: only for whom the gateway vouches for.
    Private(Private),
}

impl Route {
    pub(super) fn find(method: &str, path: &str) -> Option<Self> {
        Public::find(method, path)
            .map(Self::Public)
            .or_else(|| Private::find(method, path).map(Self::Private))
    }
}
