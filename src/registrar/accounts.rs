//! What is done to accounts: freeze, and let go on.

use super::{Act, Invalid, Kept, Page, Registrar, RegistrarError};
use crate::key::id;
use crate::registry::book::{Kind, Query};
use crate::registry::records::AccountRecord;

impl Registrar {
    /// What is said of an account; `None` where nothing is.
    pub async fn account(&self, name: &str) -> Result<Option<Kept<AccountRecord>>, RegistrarError> {
        self.find(Kind::Account, name).await
    }

    /// Accounts of which something is said, in the order of their names.
    pub async fn accounts(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<AccountRecord>, RegistrarError> {
        let (account, application) = (None, None);
        self.page(Query { kind: Kind::Account, account, application, after, limit }).await
    }

    /// Takes all keys of an account out of use, until it is let go on.
    pub async fn freeze(
        &self,
        act: &Act<'_>,
        name: &str,
    ) -> Result<Kept<AccountRecord>, RegistrarError> {
        let reason = act.reason.map(ToOwned::to_owned);
        self.set_account(act, "accounts.freeze", name, AccountRecord { frozen: true, reason }).await
    }

    /// Lets a frozen account go on.
    pub async fn unfreeze(
        &self,
        act: &Act<'_>,
        name: &str,
    ) -> Result<Kept<AccountRecord>, RegistrarError> {
        let reason = act.reason.map(ToOwned::to_owned);
        let says = AccountRecord { frozen: false, reason };
        self.set_account(act, "accounts.unfreeze", name, says).await
    }

    async fn set_account(
        &self,
        act: &Act<'_>,
        action: &str,
        name: &str,
        says: AccountRecord,
    ) -> Result<Kept<AccountRecord>, RegistrarError> {
        if !id::is_sendable(name) {
            return Err(Invalid::Text("account").into());
        }
        self.change(act, action, Kind::Account, name, |_| Ok(says.clone())).await
    }
}
