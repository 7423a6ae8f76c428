//! Switches that stop a permission for everybody, or all of them.

use super::{Act, Invalid, Kept, LONGEST_PAGE, Page, Registrar, RegistrarError};
use crate::registry::book::{Kind, Query};
use crate::registry::records::SwitchRecord;

/// The switch that stops everything that is signed.
pub const ALL: &str = "all";

impl Registrar {
    /// The switches that were ever thrown.
    pub async fn switches(&self) -> Result<Page<SwitchRecord>, RegistrarError> {
        let (account, application, after) = (None, None, None);
        let limit = LONGEST_PAGE;
        self.page(Query { kind: Kind::Switch, account, application, after, limit }).await
    }

    /// Stops a permission, or [`ALL`].
    pub async fn throw(
        &self,
        act: &Act<'_>,
        permission: &str,
    ) -> Result<Kept<SwitchRecord>, RegistrarError> {
        self.set_switch(act, "switches.throw", permission, true).await
    }

    /// Lets it go on.
    pub async fn release(
        &self,
        act: &Act<'_>,
        permission: &str,
    ) -> Result<Kept<SwitchRecord>, RegistrarError> {
        self.set_switch(act, "switches.release", permission, false).await
    }

    async fn set_switch(
        &self,
        act: &Act<'_>,
        action: &str,
        permission: &str,
        thrown: bool,
    ) -> Result<Kept<SwitchRecord>, RegistrarError> {
        if permission != ALL && self.names.permissions.find(permission).is_none() {
            let all = self.names.permissions.names(crate::key::Permissions::ALL);
            let known = all.chain([ALL]).map(ToOwned::to_owned).collect();
            let name = permission.to_owned();
            return Err(Invalid::Unknown { field: "permission", name, known }.into());
        }
        let says = SwitchRecord { thrown, reason: act.reason.map(ToOwned::to_owned) };
        self.change(act, action, Kind::Switch, permission, |_| Ok(says.clone())).await
    }
}
