//! The second factor of an account: codes that change with time (RFC 6238), computed and compared here and nowhere
//! else.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::clock::Micros;

/// How codes are made of the secret. Authenticator apps know SHA-1 for certain, and the rest now and then.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FactorHash {
    /// HMAC with SHA-1, which suffers nothing from collisions.
    #[default]
    Sha1,
    /// HMAC with SHA-256.
    Sha256,
    /// HMAC with SHA-512.
    Sha512,
}

/// How many digits a code has.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Digits {
    /// Six.
    #[default]
    Six,
    /// Eight.
    Eight,
}

/// Why something is no usable secret of a second factor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadFactor {
    /// Not base32 (RFC 4648).
    NotBase32,
    /// Less than 128 bits.
    TooShort,
}

impl fmt::Display for BadFactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotBase32 => "it is no base32 text (A to Z and 2 to 7)",
            Self::TooShort => "it is shorter than 128 bits",
        })
    }
}

impl std::error::Error for BadFactor {}

/// The second factor of an account. It prints nothing, and what it holds never leaves it but as the answer to one
/// question: of which step is this the code?
pub struct Factor {
    key: Zeroizing<Box<[u8]>>,
    hash: FactorHash,
    digits: Digits,
    /// Steps up to this one are spent, whatever a store says.
    spent: Option<u64>,
}

impl Factor {
    /// Reads the base32 text that the registry holds: SHA-1 and six digits, as every app has it. Small letters, spaces
    /// and padding are forgiven, since people copy such texts.
    pub fn read(base32: &str) -> Result<Self, BadFactor> {
        let plain = base32.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=');
        let plain: Zeroizing<Vec<u8>> =
            Zeroizing::new(plain.map(|byte| byte.to_ascii_uppercase()).collect());
        let key = BASE32_NOPAD.decode(&plain).map_err(|_| BadFactor::NotBase32)?;
        Self::new(FactorHash::default(), Digits::default(), &Zeroizing::new(key))
    }

    /// A factor of any kind, from the bytes of its secret.
    pub fn new(hash: FactorHash, digits: Digits, key: &[u8]) -> Result<Self, BadFactor> {
        if key.len() < SHORTEST {
            return Err(BadFactor::TooShort);
        }
        Ok(Self { key: Zeroizing::new(key.into()), hash, digits, spent: None })
    }

    /// The same, of which the code of this step was used elsewhere: neither it nor an earlier one is good.
    #[must_use]
    pub fn spent_up_to(self, step: Option<u64>) -> Self {
        Self { spent: step, ..self }
    }

    /// The step whose code `offered` is, of the present one and its two neighbours; the last, if it is the code of
    /// several. The same work is done for every code, right or wrong.
    pub fn step_of(&self, offered: &str, now: Micros) -> Option<u64> {
        let offered = self.digits.read(offered)?;
        let present = step_at(now);
        let (mut is_any, mut found) = (Choice::from(0), 0);
        for step in present.saturating_sub(1)..=present.saturating_add(1) {
            let is = self.code(step).ct_eq(&offered);
            found.conditional_assign(&step, is);
            is_any |= is;
        }
        bool::from(is_any)
            .then_some(found)
            .filter(|found| self.spent.is_none_or(|spent| *found > spent))
    }

    /// The code of a step, as a number.
    fn code(&self, step: u64) -> u32 {
        let message = step.to_be_bytes();
        let number = match self.hash {
            FactorHash::Sha1 => truncated(&mac::<Hmac<Sha1>>(&self.key, &message)),
            FactorHash::Sha256 => truncated(&mac::<Hmac<Sha256>>(&self.key, &message)),
            FactorHash::Sha512 => truncated(&mac::<Hmac<Sha512>>(&self.key, &message)),
        };
        // By a constant each: no division, whose time would hang on the number.
        match self.digits {
            Digits::Six => number % 1_000_000,
            Digits::Eight => number % 100_000_000,
        }
    }
}

impl fmt::Debug for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Factor(..)")
    }
}

impl Digits {
    const fn count(self) -> usize {
        match self {
            Self::Six => 6,
            Self::Eight => 8,
        }
    }

    /// Exactly as many digits, and nothing else.
    fn read(self, code: &str) -> Option<u32> {
        let all = code.len() == self.count() && code.bytes().all(|byte| byte.is_ascii_digit());
        if all { code.parse().ok() } else { None }
    }
}

/// A new secret, on its way to its holder: shown once, as text or as what a QR code says.
pub struct FactorSecret(Zeroizing<[u8; 20]>);

impl FactorSecret {
    /// 160 random bits, as RFC 4226 recommends.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; 20]);
        getrandom::fill(&mut *bytes)?;
        Ok(Self(bytes))
    }

    /// The text that people type, and the registry seals.
    pub fn base32(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE32_NOPAD.encode(&*self.0))
    }

    /// What authenticator apps read: `otpauth://totp/ISSUER:ACCOUNT?secret=…`.
    pub fn uri(&self, issuer: &str, account: &str) -> Zeroizing<String> {
        let (issuer, account, secret) = (escaped(issuer), escaped(account), self.base32());
        Zeroizing::new(format!(
            "otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}&algorithm=SHA1&digits=6&period={SECONDS}",
            *secret
        ))
    }
}

impl fmt::Debug for FactorSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FactorSecret(..)")
    }
}

/// A code that stands in for a lost factor, once: 80 random bits in four groups of letters and digits.
pub fn recovery_code() -> Result<Zeroizing<String>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; 10]);
    getrandom::fill(&mut *bytes)?;
    let text = Zeroizing::new(BASE32_NOPAD.encode(&*bytes));
    let groups: Vec<_> = text.as_bytes().chunks(4).map(String::from_utf8_lossy).collect();
    Ok(Zeroizing::new(groups.join("-")))
}

/// What is kept of a recovery code: SHA-256 of the account's name, a zero and the code, in hex. Case and what people
/// put between its letters do not count.
pub fn recovery_digest(account: &str, code: &str) -> String {
    let mut digest = Sha256::new().chain_update(account).chain_update([0]);
    for byte in code.bytes().filter(u8::is_ascii_alphanumeric) {
        Digest::update(&mut digest, [byte.to_ascii_uppercase()]);
    }
    data_encoding::HEXLOWER.encode(&digest.finalize())
}

/// The step of a moment: RFC 6238 counts them from the epoch.
pub(crate) const fn step_at(now: Micros) -> u64 {
    now.0 / 1_000_000 / SECONDS
}

/// When a step begins.
pub(crate) const fn start_of(step: u64) -> Micros {
    Micros(step.saturating_mul(SECONDS * 1_000_000))
}

/// How long a step lasts.
const SECONDS: u64 = 30;
/// RFC 4226, R6: at least 128 bits.
const SHORTEST: usize = 16;

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    // Any length of key is one for HMAC.
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else { return Vec::new() };
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// Four bytes of the MAC without their highest bit, from where its last digit says (RFC 4226, 5.3).
fn truncated(mac: &[u8]) -> u32 {
    let offset = usize::from(mac.last().copied().unwrap_or_default() & 0xf);
    let four = mac.get(offset..).and_then(|rest| rest.first_chunk::<4>());
    four.map_or(0, |four| u32::from_be_bytes(*four) & 0x7fff_ffff)
}

/// Every byte but letters, digits, `-`, `.`, `_` and `~` as `%XX`.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&data_encoding::HEXUPPER.encode(&[byte]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, Appendix B: seconds, code, hash. The secret is as long as the hash.
    const VECTORS: [(u64, &str, FactorHash); 18] = [
        (59, "94287082", FactorHash::Sha1),
        (59, "46119246", FactorHash::Sha256),
        (59, "90693936", FactorHash::Sha512),
        (1_111_111_109, "07081804", FactorHash::Sha1),
        (1_111_111_109, "68084774", FactorHash::Sha256),
        (1_111_111_109, "25091201", FactorHash::Sha512),
        (1_111_111_111, "14050471", FactorHash::Sha1),
        (1_111_111_111, "67062674", FactorHash::Sha256),
        (1_111_111_111, "99943326", FactorHash::Sha512),
        (1_234_567_890, "89005924", FactorHash::Sha1),
        (1_234_567_890, "91819424", FactorHash::Sha256),
        (1_234_567_890, "93441116", FactorHash::Sha512),
        (2_000_000_000, "69279037", FactorHash::Sha1),
        (2_000_000_000, "90698825", FactorHash::Sha256),
        (2_000_000_000, "38618901", FactorHash::Sha512),
        (20_000_000_000, "65353130", FactorHash::Sha1),
        (20_000_000_000, "77737706", FactorHash::Sha256),
        (20_000_000_000, "47863826", FactorHash::Sha512),
    ];

    fn at(seconds: u64) -> Micros {
        Micros(seconds * 1_000_000)
    }

    fn of_rfc(hash: FactorHash, digits: Digits) -> Factor {
        let length = match hash {
            FactorHash::Sha1 => 20,
            FactorHash::Sha256 => 32,
            FactorHash::Sha512 => 64,
        };
        let key: Vec<u8> = b"1234567890".iter().copied().cycle().take(length).collect();
        Factor::new(hash, digits, &key).unwrap()
    }

    #[test]
    fn every_vector_of_rfc_6238_holds_with_eight_digits_and_with_six() {
        for (seconds, code, hash) in VECTORS {
            let step = Some(seconds / 30);
            let eight = of_rfc(hash, Digits::Eight);
            assert_eq!(eight.step_of(code, at(seconds)), step, "{seconds} {hash:?}");
            let six = of_rfc(hash, Digits::Six);
            assert_eq!(six.step_of(code.split_at(2).1, at(seconds)), step, "{seconds} {hash:?}");
        }
    }

    #[test]
    fn a_code_is_good_for_one_step_before_its_own_and_one_after() {
        let factor = of_rfc(FactorHash::Sha1, Digits::Eight);
        // The code of the step from 1111111080 to 1111111110.
        let good = at(1_111_111_050)..at(1_111_111_140);
        for (now, is_good) in [
            (good.start, true),
            (Micros(good.start.0 - 1), false),
            (Micros(good.end.0 - 1), true),
            (good.end, false),
        ] {
            let step = factor.step_of("07081804", now);
            assert_eq!(step, is_good.then_some(37_037_036), "{now}");
        }
        assert_eq!(factor.step_of("94287082", at(0)), Some(1), "the first step has no one before");
    }

    #[test]
    fn what_is_no_code_is_the_code_of_nothing() {
        let factor = of_rfc(FactorHash::Sha1, Digits::Six);
        assert_eq!(factor.step_of("287082", at(59)), Some(1));
        for code in
            ["", "28708", "2870820", " 287082", "287082 ", "+87082", "-87082", "２８", "28708a"]
        {
            assert_eq!(factor.step_of(code, at(59)), None, "{code}");
        }
    }

    #[test]
    fn a_secret_is_read_as_people_copy_it_and_not_when_it_is_weak() {
        let text = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        for text in [text, "gezd gnbv gy3t qojq gezd gnbv gy3t qojq", &format!("{text}======")] {
            let factor = Factor::read(text).unwrap();
            assert_eq!(factor.step_of("287082", at(59)), Some(1), "{text}");
        }
        assert_eq!(Factor::read("GEZDGNBVGY3TQOJQ").unwrap_err(), BadFactor::TooShort);
        assert_eq!(Factor::read("").unwrap_err(), BadFactor::TooShort);
        assert_eq!(Factor::read("GEZDGNBVGY3TQOJ1").unwrap_err(), BadFactor::NotBase32);
    }

    #[test]
    fn an_enrolment_is_what_apps_read_and_names_are_escaped_in_it() {
        let secret = FactorSecret(Zeroizing::new(*b"12345678901234567890"));
        assert_eq!(
            *secret.uri("Example & Co: é", "acme/trading?x=1"),
            "otpauth://totp/Example%20%26%20Co%3A%20%C3%A9:acme%2Ftrading%3Fx%3D1\
             ?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Example%20%26%20Co%3A%20%C3%A9\
             &algorithm=SHA1&digits=6&period=30"
        );
        let factor = Factor::read(&secret.base32()).unwrap();
        assert_eq!(factor.step_of("287082", at(59)), Some(1));
        let (one, other) = (FactorSecret::generate().unwrap(), FactorSecret::generate().unwrap());
        assert_ne!(*one.base32(), *other.base32());
    }

    #[test]
    fn a_recovery_code_is_known_however_it_is_typed_and_only_in_its_account() {
        let code = recovery_code().unwrap();
        assert_eq!(code.len(), 19, "{}", *code);
        let kept = recovery_digest("acme", &code);
        let typed = code.to_lowercase().replace('-', " ");
        assert_eq!(recovery_digest("acme", &typed), kept);
        assert_ne!(recovery_digest("acm", &format!("e{}", *code)), kept);
        assert_ne!(recovery_digest("other", &code), kept);
    }

    #[test]
    fn nothing_of_a_secret_is_printed() {
        let secret = FactorSecret(Zeroizing::new(*b"12345678901234567890"));
        let factor = Factor::read(&secret.base32()).unwrap();
        assert_eq!(format!("{secret:?} {factor:?}"), "FactorSecret(..) Factor(..)");
    }
}
