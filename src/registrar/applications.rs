//! What is done to applications: make, change, stop and start. What their keys may do follows at once, for an
//! application's bounds are looked at with each of its keys.

use ipnet::IpNet;

use super::material::{bounded, label};
use super::{Act, Invalid, Kept, Page, Registrar, RegistrarError};
use crate::key::id;
use crate::registry::book::{Kind, Query};
use crate::registry::records::ApplicationRecord;

/// What an application is to be.
#[derive(Clone, Debug, Default)]
pub struct NewApplication {
    /// Its name.
    pub name: String,
    /// Whom to ask.
    pub contact: String,
    /// The most that its keys may do.
    pub permissions: Vec<String>,
    /// Where its keys may be used from; anywhere when empty.
    pub allowlist: Vec<IpNet>,
}

/// What is changed of an application; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct ApplicationChanges {
    /// Whom to ask.
    pub contact: Option<String>,
    /// The most that its keys may do.
    pub permissions: Option<Vec<String>>,
    /// Where its keys may be used from; anywhere when empty.
    pub allowlist: Option<Vec<IpNet>>,
}

impl Registrar {
    /// An application as it stands.
    pub async fn application(&self, name: &str) -> Result<Kept<ApplicationRecord>, RegistrarError> {
        let found = self.find(Kind::Application, name).await?;
        found.ok_or_else(|| RegistrarError::NotFound(Kind::Application, name.to_owned()))
    }

    /// Applications in the order of their names.
    pub async fn applications(
        &self,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page<ApplicationRecord>, RegistrarError> {
        let (account, application) = (None, None);
        self.page(Query { kind: Kind::Application, account, application, after, limit }).await
    }

    /// Makes an application.
    pub async fn create_application(
        &self,
        act: &Act<'_>,
        new: NewApplication,
    ) -> Result<Kept<ApplicationRecord>, RegistrarError> {
        if !id::is_sendable(&new.name) {
            return Err(Invalid::Text("name").into());
        }
        label(&new.contact)?;
        self.known_permissions(&new.permissions)?;
        bounded(&new.allowlist)?;
        let says = ApplicationRecord {
            contact: new.contact,
            permissions: new.permissions,
            allowlist: new.allowlist,
            stopped: false,
            compromised: None,
            epoch: 0,
        };
        let made =
            self.replace(act, "apps.create", Kind::Application, &new.name, None, says).await?;
        made.ok_or(RegistrarError::Exists(Kind::Application, new.name))
    }

    /// Changes an application; its keys are bound by it at once.
    pub async fn update_application(
        &self,
        act: &Act<'_>,
        name: &str,
        changes: &ApplicationChanges,
    ) -> Result<Kept<ApplicationRecord>, RegistrarError> {
        label(changes.contact.as_deref().unwrap_or_default())?;
        self.known_permissions(changes.permissions.as_deref().unwrap_or_default())?;
        bounded(changes.allowlist.as_deref().unwrap_or_default())?;
        let next = |application: &mut ApplicationRecord| {
            if let Some(contact) = &changes.contact {
                application.contact.clone_from(contact);
            }
            if let Some(permissions) = &changes.permissions {
                application.permissions.clone_from(permissions);
            }
            if let Some(allowlist) = &changes.allowlist {
                application.allowlist.clone_from(allowlist);
            }
        };
        self.change_application(act, "apps.update", name, next).await
    }

    /// Takes all keys of an application out of use, until it is started.
    pub async fn stop(
        &self,
        act: &Act<'_>,
        name: &str,
    ) -> Result<Kept<ApplicationRecord>, RegistrarError> {
        self.change_application(act, "apps.stop", name, |says| says.stopped = true).await
    }

    /// Takes them into use again, but for those that were lost.
    pub async fn start(
        &self,
        act: &Act<'_>,
        name: &str,
    ) -> Result<Kept<ApplicationRecord>, RegistrarError> {
        self.change_application(act, "apps.start", name, |says| says.stopped = false).await
    }

    pub(super) async fn change_application(
        &self,
        act: &Act<'_>,
        action: &str,
        name: &str,
        change: impl Fn(&mut ApplicationRecord),
    ) -> Result<Kept<ApplicationRecord>, RegistrarError> {
        let next = |found: Option<&Kept<ApplicationRecord>>| {
            let missing = || RegistrarError::NotFound(Kind::Application, name.to_owned());
            let before = &found.ok_or_else(missing)?.says;
            let mut says = before.clone();
            change(&mut says);
            says.epoch += u64::from(narrows(before, &says));
            Ok(says)
        };
        self.change(act, action, Kind::Application, name, next).await
    }
}

/// Whether keys of `next` can do less than those of `before`. Where that is hard to say it is taken so.
fn narrows(before: &ApplicationRecord, next: &ApplicationRecord) -> bool {
    let covered = |old: &IpNet| next.allowlist.iter().any(|new| new.contains(old));
    let allowlist = !next.allowlist.is_empty()
        && (before.allowlist.is_empty() || !before.allowlist.iter().all(covered));
    allowlist
        || before.permissions.iter().any(|name| !next.permissions.contains(name))
        || (next.stopped && !before.stopped)
        || next.compromised > before.compromised
}
