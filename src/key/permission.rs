//! What a key may do: five well-known permissions, and the operator's own.

use std::fmt;

/// One permission, as its place in [`PermissionNames`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Permission(u8);

impl Permission {
    /// Look at the account.
    pub const READ: Self = Self(0);
    /// Place and change orders.
    pub const TRADE: Self = Self(1);
    /// Cancel orders.
    pub const CANCEL: Self = Self(2);
    /// Move money between the account's own wallets.
    pub const TRANSFER: Self = Self(3);
    /// Move money out.
    pub const WITHDRAW: Self = Self(4);
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Permissions(u64);

impl Permissions {
    /// The set that holds nothing.
    pub const NONE: Self = Self(0);
    /// The set that holds every permission there can be.
    pub const ALL: Self = Self(u64::MAX);

    /// This set and `permission`.
    #[must_use]
    pub const fn with(self, permission: Permission) -> Self {
        Self(self.0 | 1 << permission.0)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// This set but for what is in `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether `permission` is in the set.
    pub const fn holds(self, permission: Permission) -> bool {
        self.0 >> permission.0 & 1 == 1
    }

    /// Whether any of `others` is in the set.
    pub const fn holds_any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether this set opens what asks for one of `asked`: nothing is needed where none is asked.
    pub const fn open(self, asked: Self) -> bool {
        asked.is_empty() || self.holds_any(asked)
    }

    /// Whether nothing is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(permissions: I) -> Self {
        permissions.into_iter().fold(Self::NONE, Self::with)
    }
}

/// More than 64 names of permissions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooManyPermissions;

impl fmt::Display for TooManyPermissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("more than 64 different permissions")
    }
}

/// The names of permissions: `read`, `trade`, `cancel`, `transfer`, `withdraw`, then the operator's own.
#[derive(Clone, Debug)]
pub struct PermissionNames(Vec<Box<str>>);

impl Default for PermissionNames {
    fn default() -> Self {
        Self(["read", "trade", "cancel", "transfer", "withdraw"].map(Into::into).to_vec())
    }
}

impl PermissionNames {
    /// The permission called `name`, if it was ever declared.
    pub fn find(&self, name: &str) -> Option<Permission> {
        let place = self.0.iter().position(|known| **known == *name)?;
        u8::try_from(place).ok().map(Permission)
    }

    /// The permission called `name`, declared now if it was not before.
    pub fn declare(&mut self, name: &str) -> Result<Permission, TooManyPermissions> {
        if let Some(known) = self.find(name) {
            return Ok(known);
        }
        let place = u8::try_from(self.0.len()).ok().filter(|place| *place < 64);
        let place = place.ok_or(TooManyPermissions)?;
        self.0.push(name.into());
        Ok(Permission(place))
    }

    /// The names of the permissions in `set`, in order.
    pub fn names(&self, set: Permissions) -> impl Iterator<Item = &str> {
        let held =
            move |place: usize| u8::try_from(place).is_ok_and(|place| set.holds(Permission(place)));
        self.0.iter().enumerate().filter(move |(place, _)| held(*place)).map(|(_, name)| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_name_is_found_again_and_an_unknown_one_is_not() {
        let mut names = PermissionNames::default();
        let own = names.declare("margin").unwrap();
        assert_eq!(names.find("margin"), Some(own));
        assert_eq!(names.find("marginn"), None);
        assert_eq!(names.find("trade"), Some(Permission::TRADE));
    }

    #[test]
    fn the_sixty_fifth_name_is_refused() {
        let mut names = PermissionNames::default();
        for n in 5..64 {
            assert!(names.declare(&n.to_string()).is_ok());
        }
        assert_eq!(names.declare("one more"), Err(TooManyPermissions));
    }

    #[test]
    fn a_set_holds_what_was_put_in_and_nothing_else() {
        let set: Permissions = [Permission::READ, Permission::CANCEL].into_iter().collect();
        assert!(set.holds(Permission::READ) && set.holds(Permission::CANCEL));
        assert!(!set.holds(Permission::TRADE) && !set.holds(Permission::WITHDRAW));
        assert_eq!(PermissionNames::default().names(set).collect::<Vec<_>>(), ["read", "cancel"]);
    }
}
