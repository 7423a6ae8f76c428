//! Second factors of accounts: enrol, confirm by a first code, remove, and recovery codes that are good once.

use subtle::ConstantTimeEq as _;

use super::{Act, Clear, Invalid, Kept, Registrar, RegistrarError};
use crate::key::factor::{FactorSecret, recovery_code, recovery_digest};
use crate::key::id;
use crate::key::sealing::Bound;
use crate::registry::book::Kind;
use crate::registry::records::FactorRecord;

/// A second factor that was just made. What is in it is shown once.
#[derive(Clone, Debug)]
pub struct Enrolment {
    /// What authenticator apps read, as a QR code.
    pub uri: Clear,
    /// The secret in base32, to be typed where a camera is missing.
    pub secret: Clear,
    /// Codes that are good once each, in place of the device.
    pub recovery: Vec<Clear>,
    /// The record.
    pub factor: Kept<FactorRecord>,
}

impl Registrar {
    /// The second factor of an account; `None` where there never was one. One that is not confirmed opens nothing.
    pub async fn factor(
        &self,
        account: &str,
    ) -> Result<Option<Kept<FactorRecord>>, RegistrarError> {
        self.find(Kind::Factor, account).await
    }

    /// Makes a second factor for an account that has none yet. `issuer` is what authenticator apps show.
    pub async fn enrol(
        &self,
        act: &Act<'_>,
        account: &str,
        issuer: &str,
    ) -> Result<Enrolment, RegistrarError> {
        let vacant = |found: Option<&FactorRecord>| {
            if found.is_some_and(|found| found.confirmed) {
                Err(Invalid::FactorExists)
            } else {
                Ok(())
            }
        };
        self.replace_factor(act, "otp.enrol", account, issuer, vacant).await
    }

    /// Makes a second factor in place of one that was lost, which `code`, one of its recovery codes, shows to be its
    /// holder's. The lost one and all its codes are good for nothing from then on, and the new one once it is confirmed.
    pub async fn recover(
        &self,
        act: &Act<'_>,
        account: &str,
        code: &str,
        issuer: &str,
    ) -> Result<Enrolment, RegistrarError> {
        let digest = recovery_digest(account, code);
        let shown = |found: Option<&FactorRecord>| {
            let confirmed = found.filter(|found| found.confirmed).ok_or(Invalid::NoFactor)?;
            let is_one = |left: &String| bool::from(left.as_bytes().ct_eq(digest.as_bytes()));
            // Each is looked at, whichever it is.
            let count = confirmed.recovery.iter().filter(|left| is_one(left)).count();
            if count == 0 { Err(Invalid::WrongCode) } else { Ok(()) }
        };
        self.replace_factor(act, "otp.recover", account, issuer, shown).await
    }

    async fn replace_factor(
        &self,
        act: &Act<'_>,
        action: &str,
        account: &str,
        issuer: &str,
        may: impl Fn(Option<&FactorRecord>) -> Result<(), Invalid>,
    ) -> Result<Enrolment, RegistrarError> {
        if !id::is_sendable(account) {
            return Err(Invalid::Text("account").into());
        }
        let fresh = FactorSecret::generate()?;
        let secret = Clear::from(fresh.base32());
        let codes = (0..RECOVERY_CODES).map(|_| recovery_code()).collect::<Result<Vec<_>, _>>();
        let codes = codes?;
        let next = |found: Option<&Kept<FactorRecord>>| {
            may(found.map(|found| &found.says))?;
            let created = self.clock.now();
            let place = Bound::factor(account, created);
            let sealed = self.masters.seal(&place, secret.reveal().as_bytes())?;
            let recovery = codes.iter().map(|code| recovery_digest(account, code)).collect();
            Ok(FactorRecord {
                secret: sealed,
                confirmed: false,
                recovery,
                confirmed_by: None,
                created,
            })
        };
        let factor = self.change(act, action, Kind::Factor, account, next).await?;
        let uri = Clear::from(fresh.uri(issuer, account));
        let recovery = codes.into_iter().map(Clear::from).collect();
        Ok(Enrolment { uri, secret, recovery, factor })
    }

    /// Takes a second factor into use: `code` shows that its holder has it.
    pub async fn confirm(
        &self,
        act: &Act<'_>,
        account: &str,
        code: &str,
    ) -> Result<Kept<FactorRecord>, RegistrarError> {
        let now = self.clock.now();
        let next = |found: Option<&Kept<FactorRecord>>| {
            let waiting =
                found.filter(|found| !found.says.confirmed && !found.says.recovery.is_empty());
            let says = &waiting.ok_or(Invalid::NoFactor)?.says;
            let place = Bound::factor(account, says.created);
            let right = self.masters.open_factor(&place, &says.secret)?.step_of(code, now);
            let confirmed_by = Some(right.ok_or(Invalid::WrongCode)?);
            Ok(FactorRecord { confirmed: true, confirmed_by, ..says.clone() })
        };
        self.change(act, "otp.confirm", Kind::Factor, account, next).await
    }

    /// Takes a second factor away. Its record stays as one that opens nothing, with a secret that nobody knows.
    pub async fn remove_factor(
        &self,
        act: &Act<'_>,
        account: &str,
    ) -> Result<Kept<FactorRecord>, RegistrarError> {
        let next = |found: Option<&Kept<FactorRecord>>| {
            let missing = || RegistrarError::NotFound(Kind::Factor, account.to_owned());
            let found = found.ok_or_else(missing)?;
            if is_removed(&found.says) {
                return Ok(found.says.clone());
            }
            let created = self.clock.now();
            let unknown = FactorSecret::generate()?.base32();
            let place = Bound::factor(account, created);
            let secret = self.masters.seal(&place, unknown.as_bytes())?;
            Ok(FactorRecord {
                secret,
                confirmed: false,
                recovery: Vec::new(),
                confirmed_by: None,
                created,
            })
        };
        self.change(act, "otp.remove", Kind::Factor, account, next).await
    }
}

/// Whether a factor was taken away.
pub fn is_removed(factor: &FactorRecord) -> bool {
    !factor.confirmed && factor.recovery.is_empty()
}

const RECOVERY_CODES: usize = 10;
