//! What is done to accounts: freeze, and let go on.

use std::collections::BTreeMap;

use super::{Act, Invalid, Kept, LONGEST_PAGE, Page, Registrar, RegistrarError};
use crate::key::id;
use crate::registry::book::{Kind, Query};
use crate::registry::records::AccountRecord;

/// An account of which nothing is said.
fn unsaid(id: String) -> Kept<AccountRecord> {
    Kept { id, version: 0, revision: 0, says: AccountRecord::default() }
}

impl Registrar {
    /// What is said of an account; `None` where nothing is.
    pub async fn account(&self, name: &str) -> Result<Option<Kept<AccountRecord>>, RegistrarError> {
        self.find(Kind::Account, name).await
    }

    /// Accounts that have keys or of which something is said, in the order of their names. Those of which nothing is
    /// said are at version 0.
    pub async fn accounts(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<AccountRecord>, RegistrarError> {
        let limit = limit.clamp(1, LONGEST_PAGE);
        let holders = self.registry.holders(after.clone(), limit + 1).await?;
        let (account, application) = (None, None);
        let query = Query { kind: Kind::Account, account, application, after, limit };
        let said = self.page::<AccountRecord>(query).await?;
        let more = said.next.is_some();
        let mut all: BTreeMap<String, Kept<AccountRecord>> =
            holders.into_iter().map(|name| (name.clone(), unsaid(name))).collect();
        let last = said.items.last().map(|last| last.id.clone()).filter(|_| more);
        all.extend(said.items.into_iter().map(|account| (account.id.clone(), account)));
        if let Some(last) = &last {
            // What is said of those behind it is not known yet.
            all.retain(|name, _| name <= last);
        }
        let more = more || all.len() > limit;
        let items: Vec<_> = all.into_values().take(limit).collect();
        let next = items.last().filter(|_| more).map(|last| last.id.clone());
        Ok(Page { items, next })
    }

    /// Takes all keys of an account out of use, until it is let go on.
    pub async fn freeze(
        &self,
        act: &Act<'_>,
        name: &str,
    ) -> Result<Kept<AccountRecord>, RegistrarError> {
        let reason = act.reason.map(ToOwned::to_owned);
        let next = |before: AccountRecord| AccountRecord {
            frozen: true,
            reason: reason.clone(),
            epoch: before.epoch + u64::from(!before.frozen),
        };
        self.set_account(act, "accounts.freeze", name, next).await
    }

    /// Lets a frozen account go on.
    pub async fn unfreeze(
        &self,
        act: &Act<'_>,
        name: &str,
    ) -> Result<Kept<AccountRecord>, RegistrarError> {
        let reason = act.reason.map(ToOwned::to_owned);
        let next = |before| AccountRecord { frozen: false, reason: reason.clone(), ..before };
        self.set_account(act, "accounts.unfreeze", name, next).await
    }

    async fn set_account(
        &self,
        act: &Act<'_>,
        action: &str,
        name: &str,
        next: impl Fn(AccountRecord) -> AccountRecord,
    ) -> Result<Kept<AccountRecord>, RegistrarError> {
        if !id::is_sendable(name) {
            return Err(Invalid::Text("account").into());
        }
        let next = |found: Option<&Kept<AccountRecord>>| {
            Ok(next(found.map(|found| found.says.clone()).unwrap_or_default()))
        };
        self.change(act, action, Kind::Account, name, next).await
    }
}
