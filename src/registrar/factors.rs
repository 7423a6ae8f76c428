//! Second factors of accounts: enrol, confirm by a first code, remove, and recovery codes that are good once.

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Act, Clear, Invalid, Kept, Registrar, RegistrarError};
use crate::clock::Micros;
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
        if !id::is_sendable(account) {
            return Err(Invalid::Text("account").into());
        }
        let secret = random_base32::<20>()?;
        let codes =
            (0..RECOVERY_CODES).map(|_| random_base32::<10>()).collect::<Result<Vec<_>, _>>();
        let codes = codes?;
        let next = |found: Option<&Kept<FactorRecord>>| {
            if found.is_some_and(|found| found.says.confirmed) {
                return Err(Invalid::FactorExists.into());
            }
            let created = self.clock.now();
            let place = Bound::factor(account, created);
            let sealed = self.masters.seal(&place, secret.reveal().as_bytes())?;
            let recovery =
                codes.iter().map(|code| recovery_digest(account, code.reveal())).collect();
            Ok(FactorRecord { secret: sealed, confirmed: false, recovery, created })
        };
        let factor = self.change(act, "otp.enrol", Kind::Factor, account, next).await?;
        let uri = uri(issuer, account, secret.reveal());
        let recovery = codes.iter().map(|code| in_fours(code.reveal())).collect();
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
            let right = self.masters.open(&place, &says.secret, |text| is_code(text, code, now))?;
            if !right {
                return Err(Invalid::WrongCode.into());
            }
            Ok(FactorRecord { confirmed: true, ..says.clone() })
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
            let unknown = random_base32::<20>()?;
            let place = Bound::factor(account, created);
            let secret = self.masters.seal(&place, unknown.reveal().as_bytes())?;
            Ok(FactorRecord { secret, confirmed: false, recovery: Vec::new(), created })
        };
        self.change(act, "otp.remove", Kind::Factor, account, next).await
    }

    /// Spends a recovery code, and answers how many are left.
    pub async fn spend_recovery(
        &self,
        act: &Act<'_>,
        account: &str,
        code: &str,
    ) -> Result<usize, RegistrarError> {
        let digest = recovery_digest(account, code);
        let next = |found: Option<&Kept<FactorRecord>>| {
            let confirmed = found.filter(|found| found.says.confirmed);
            let mut says = confirmed.ok_or(Invalid::NoFactor)?.says.clone();
            let before = says.recovery.len();
            says.recovery.retain(|left| !bool::from(left.as_bytes().ct_eq(digest.as_bytes())));
            if says.recovery.len() == before { Err(Invalid::WrongCode.into()) } else { Ok(says) }
        };
        let left = self.change(act, "otp.recover", Kind::Factor, account, next).await?;
        Ok(left.says.recovery.len())
    }
}

/// Whether a factor was taken away.
pub fn is_removed(factor: &FactorRecord) -> bool {
    !factor.confirmed && factor.recovery.is_empty()
}

/// What a record keeps of a recovery code: SHA-256 of the account's name, a zero and the code, without dashes and in
/// capitals.
pub fn recovery_digest(account: &str, code: &str) -> String {
    let code: Zeroizing<String> = Zeroizing::new(
        code.chars()
            .filter(|c| c.is_ascii_alphanumeric())
            .map(|c| c.to_ascii_uppercase())
            .collect(),
    );
    let digest = Sha256::new()
        .chain_update(account.as_bytes())
        .chain_update([0])
        .chain_update(code.as_bytes());
    HEXLOWER.encode(&digest.finalize())
}

/// Whether `code` is the one of this step of 30 s, the one before or the one after (RFC 6238).
fn is_code(base32: &[u8], code: &str, now: Micros) -> bool {
    let Ok(secret) = BASE32_NOPAD.decode(base32).map(Zeroizing::new) else { return false };
    let step = now.as_millis() / 30_000;
    let steps = [step.saturating_sub(1), step, step + 1];
    let is = |step: u64| {
        totp(&secret, step).is_some_and(|right| right.as_bytes().ct_eq(code.as_bytes()).into())
    };
    steps.map(is).contains(&true)
}

/// Six digits of RFC 4226 for a counter.
fn totp(secret: &[u8], step: u64) -> Option<String> {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret).ok()?;
    mac.update(&step.to_be_bytes());
    let digest = mac.finalize().into_bytes();
    let offset = usize::from(digest.last()? & 0x0f);
    let four = digest.get(offset..offset + 4)?.first_chunk()?;
    Some(format!("{:06}", (u32::from_be_bytes(*four) & 0x7fff_ffff) % 1_000_000))
}

fn random_base32<const BYTES: usize>() -> Result<Clear, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    getrandom::fill(&mut *bytes)?;
    Ok(Clear::from(BASE32_NOPAD.encode(&*bytes)))
}

fn uri(issuer: &str, account: &str, secret: &str) -> Clear {
    let (issuer, account) = (percent_encoded(issuer), percent_encoded(account));
    Clear::from(format!(
        "otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}&algorithm=SHA1&digits=6&period=30"
    ))
}

fn percent_encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn in_fours(code: &str) -> Clear {
    let mut text = String::with_capacity(code.len() + code.len() / 4);
    for (place, letter) in code.chars().enumerate() {
        if place > 0 && place % 4 == 0 {
            text.push('-');
        }
        text.push(letter);
    }
    Clear::from(text)
}

const RECOVERY_CODES: usize = 10;
