//! Defeats whoever reads the registry's storage: secrets lie there sealed, and open only in the place they were sealed
//! for.
//!
//! Each text has a data key of its own (XChaCha20-Poly1305), and that key lies beside it under a master key. Both bind
//! what the text is for, the record and account it belongs to, and which of the record's secrets it is: a sealed text
//! that was moved, swapped or changed by one bit does not open.

use std::fmt;
use std::sync::Arc;

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use data_encoding::BASE64;
use zeroize::Zeroizing;

use super::master::MasterKey;
use super::{Algorithm, BadSecret, Factor, Passphrase, Secret};
use crate::dialect::Dialect;
use crate::registry::records::Sealed;

/// What a sealed text is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// A shared secret that requests are signed with.
    Secret,
    /// The passphrase of a key.
    Passphrase,
    /// The shared secret of a second factor.
    Factor,
}

/// The place that a sealed text belongs to: it opens nowhere else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bound<'a> {
    /// What it is for.
    pub purpose: Purpose,
    /// The id of the record it stands in.
    pub record: &'a str,
    /// The account it belongs to.
    pub account: &'a str,
    /// Which of the record's: the number of a secret, 0 for a passphrase, the microsecond a factor was made.
    pub number: u64,
}

impl<'a> Bound<'a> {
    /// The place of a key's secret.
    pub fn secret(key: &'a str, account: &'a str, number: u32) -> Self {
        Self { purpose: Purpose::Secret, record: key, account, number: number.into() }
    }

    /// The place of a key's passphrase.
    pub fn passphrase(key: &'a str, account: &'a str) -> Self {
        Self { purpose: Purpose::Passphrase, record: key, account, number: 0 }
    }

    /// The place of an account's second factor, made at `created`.
    pub fn factor(account: &'a str, created: crate::clock::Micros) -> Self {
        Self { purpose: Purpose::Factor, record: account, account, number: created.0 }
    }

    /// Every part with its length before it, so that no two places read alike.
    fn binding(&self, layer: &str, master: &str) -> Vec<u8> {
        let purpose = match self.purpose {
            Purpose::Secret => "secret",
            Purpose::Passphrase => "passphrase",
            Purpose::Factor => "factor",
        };
        let mut bound = Vec::with_capacity(128);
        for part in [FORMAT, layer, master, purpose, self.record, self.account] {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            bound.extend(length.to_le_bytes());
            bound.extend(part.as_bytes());
        }
        bound.extend(self.number.to_le_bytes());
        bound
    }
}

/// Why a text was not sealed or opened. It says nothing of the text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SealError {
    /// The system gives no random bytes.
    Random,
    /// The text is too long.
    TooLong,
    /// It is sealed under a master key that this gateway does not have.
    UnknownMaster(String),
    /// It was changed, moved from another record, or its master key is another one of the same name.
    Refused,
    /// What was sealed is no usable secret.
    Unusable(BadSecret),
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => f.write_str("the system gives no random bytes"),
            Self::TooLong => f.write_str("the text is too long to be sealed"),
            Self::UnknownMaster(name) => write!(
                f,
                "it is sealed under master key \"{name}\", which this gateway does not have: add it under \
                 [sealing.keys]"
            ),
            Self::Refused => f.write_str(
                "the sealed text does not open: it was changed or moved from another record, or its master key is \
                 another one by the same name",
            ),
            Self::Unusable(why) => write!(f, "what was sealed cannot be used: {why}"),
        }
    }
}

impl std::error::Error for SealError {}

/// The master keys of a gateway: one seals, all of them open.
#[derive(Clone, Debug)]
pub struct MasterKeys {
    current: Arc<str>,
    keys: Arc<[(Arc<str>, MasterKey)]>,
}

impl MasterKeys {
    /// These keys by name; `None` where `current` is none of them.
    pub fn new(
        current: &str,
        keys: impl IntoIterator<Item = (Arc<str>, MasterKey)>,
    ) -> Option<Self> {
        let keys: Arc<[_]> = keys.into_iter().collect();
        let (current, _) = keys.iter().find(|(name, _)| **name == *current)?;
        Some(Self { current: Arc::clone(current), keys })
    }

    /// The name of the key that seals.
    pub fn current(&self) -> &str {
        &self.current
    }

    /// The names of all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(name, _)| &**name)
    }

    /// Seals a text for one place.
    pub fn seal(&self, place: &Bound<'_>, text: &[u8]) -> Result<Sealed, SealError> {
        let data_key = MasterKey::random().map_err(|_| SealError::Random)?;
        let sealed = encrypt(&data_key, &place.binding("text", ""), text)?;
        self.wrap(place, &data_key, sealed)
    }

    /// Opens a key's shared secret, as its dialect reads it.
    pub fn open_secret(
        &self,
        place: &Bound<'_>,
        sealed: &Sealed,
        dialect: &Dialect,
        algorithm: Algorithm,
    ) -> Result<Secret, SealError> {
        self.open(place, sealed, |text| dialect.read_secret(algorithm, text))?
            .map_err(SealError::Unusable)
    }

    /// Opens a key's passphrase, which may also come keyed by its secret, or by the one on its way out.
    pub fn open_passphrase(
        &self,
        place: &Bound<'_>,
        sealed: &Sealed,
        dialect: &Dialect,
        secret: &Secret,
        outgoing: Option<&Secret>,
    ) -> Result<Passphrase, SealError> {
        let read = |text: &[u8]| {
            let clear = std::str::from_utf8(text).map_err(|_| BadSecret::Unreadable)?;
            let passphrase = dialect.read_passphrase(clear, secret);
            Ok(match outgoing {
                Some(outgoing) => passphrase.also_keyed(clear, outgoing),
                None => passphrase,
            })
        };
        self.open(place, sealed, read)?.map_err(SealError::Unusable)
    }

    /// Opens the secret of an account's second factor.
    pub fn open_factor(&self, place: &Bound<'_>, sealed: &Sealed) -> Result<Factor, SealError> {
        let read = |text: &[u8]| Factor::read(std::str::from_utf8(text).unwrap_or_default());
        self.open(place, sealed, read)?.map_err(|_| SealError::Unusable(BadSecret::Unreadable))
    }

    /// Opens a sealed text for as long as `read` looks at it: what it makes of it must print nothing.
    pub(crate) fn open<T>(
        &self,
        place: &Bound<'_>,
        sealed: &Sealed,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, SealError> {
        let data_key = self.unwrap_key(place, sealed)?;
        let text = decrypt(&data_key, &place.binding("text", ""), &sealed.text)?;
        Ok(read(&text))
    }

    /// The same text under the current master key; `None` where it is already.
    pub fn rewrap(&self, place: &Bound<'_>, sealed: &Sealed) -> Result<Option<Sealed>, SealError> {
        if *sealed.master == *self.current {
            return Ok(None);
        }
        let data_key = self.unwrap_key(place, sealed)?;
        self.wrap(place, &data_key, sealed.text.clone()).map(Some)
    }

    fn wrap(
        &self,
        place: &Bound<'_>,
        data_key: &MasterKey,
        text: String,
    ) -> Result<Sealed, SealError> {
        let master = self.find(&self.current)?;
        let bound = place.binding("data key", &self.current);
        let wrapped = encrypt(master, &bound, data_key.bytes())?;
        Ok(Sealed { master: self.current.to_string(), wrapped, text })
    }

    fn unwrap_key(&self, place: &Bound<'_>, sealed: &Sealed) -> Result<MasterKey, SealError> {
        let master = self.find(&sealed.master)?;
        let bound = place.binding("data key", &sealed.master);
        let data_key = decrypt(master, &bound, &sealed.wrapped)?;
        let data_key = <[u8; 32]>::try_from(&**data_key).map_err(|_| SealError::Refused)?;
        Ok(MasterKey::of(Zeroizing::new(data_key)))
    }

    fn find(&self, name: &str) -> Result<&MasterKey, SealError> {
        let found = self.keys.iter().find(|(known, _)| **known == *name);
        found.map(|(_, key)| key).ok_or_else(|| SealError::UnknownMaster(name.to_owned()))
    }
}

/// Nonce, ciphertext and tag, in base64.
fn encrypt(key: &MasterKey, bound: &[u8], text: &[u8]) -> Result<String, SealError> {
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce).map_err(|_| SealError::Random)?;
    let cipher = XChaCha20Poly1305::new(key.bytes().into());
    let sealed = cipher.encrypt(&XNonce::from(nonce), Payload { msg: text, aad: bound });
    let mut whole = nonce.to_vec();
    whole.extend(sealed.map_err(|_| SealError::TooLong)?);
    Ok(BASE64.encode(&whole))
}

fn decrypt(key: &MasterKey, bound: &[u8], sealed: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let whole = BASE64.decode(sealed.as_bytes()).map_err(|_| SealError::Refused)?;
    let (nonce, sealed) = whole.split_first_chunk::<NONCE>().ok_or(SealError::Refused)?;
    let cipher = XChaCha20Poly1305::new(key.bytes().into());
    let text = cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: bound });
    text.map(Zeroizing::new).map_err(|_| SealError::Refused)
}

const FORMAT: &str = "countersign sealed 1";
const NONCE: usize = 24;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"a secret of 32 bytes, or nearly so";

    fn masters(current: &str, names: &[&str]) -> MasterKeys {
        let keys = names.iter().map(|name| (Arc::from(*name), MasterKey::random().unwrap()));
        MasterKeys::new(current, keys).unwrap()
    }

    fn place() -> Bound<'static> {
        Bound::secret("csk_one", "acme", 1)
    }

    fn opens(
        masters: &MasterKeys,
        place: &Bound<'_>,
        sealed: &Sealed,
    ) -> Result<Vec<u8>, SealError> {
        masters.open(place, sealed, <[u8]>::to_vec)
    }

    #[test]
    fn what_was_sealed_opens_in_its_place_and_is_never_sealed_alike_twice() {
        let masters = masters("a", &["a"]);
        let (one, two) =
            (masters.seal(&place(), TEXT).unwrap(), masters.seal(&place(), TEXT).unwrap());
        assert_eq!(opens(&masters, &place(), &one).unwrap(), TEXT);
        assert_eq!(opens(&masters, &place(), &two).unwrap(), TEXT);
        assert!(one.wrapped != two.wrapped && one.text != two.text);
        assert!(
            opens(&masters, &place(), &masters.seal(&place(), b"").unwrap()).unwrap().is_empty()
        );
    }

    #[test]
    fn every_bit_of_a_sealed_text_counts() {
        let masters = masters("a", &["a"]);
        let sealed = masters.seal(&place(), TEXT).unwrap();
        let flipped = |text: &str, bit: usize| {
            let mut bytes = BASE64.decode(text.as_bytes()).unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            BASE64.encode(&bytes)
        };
        let bits = |text: &str| BASE64.decode(text.as_bytes()).unwrap().len() * 8;
        for bit in 0..bits(&sealed.wrapped) {
            let wrapped = flipped(&sealed.wrapped, bit);
            let changed = Sealed { wrapped, ..sealed.clone() };
            assert_eq!(opens(&masters, &place(), &changed), Err(SealError::Refused), "{bit}");
        }
        for bit in 0..bits(&sealed.text) {
            let changed = Sealed { text: flipped(&sealed.text, bit), ..sealed.clone() };
            assert_eq!(opens(&masters, &place(), &changed), Err(SealError::Refused), "{bit}");
        }
    }

    #[test]
    fn every_bit_of_what_stands_in_a_record_counts() {
        let masters = masters("a", &["a"]);
        let sealed = masters.seal(&place(), TEXT).unwrap();
        let json = serde_json::to_vec(&sealed).unwrap();
        for bit in 0..json.len() * 8 {
            let mut changed = json.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let read = serde_json::from_slice::<Sealed>(&changed);
            let opened = read.ok().and_then(|sealed| opens(&masters, &place(), &sealed).ok());
            assert_eq!(opened, None, "{}", String::from_utf8_lossy(&changed));
        }
    }

    #[test]
    fn a_sealed_text_opens_nowhere_else() {
        let masters = masters("a", &["a"]);
        let sealed = masters.seal(&place(), TEXT).unwrap();
        for elsewhere in [
            Bound::secret("csk_two", "acme", 1),
            Bound::secret("csk_one", "acm", 1),
            Bound::secret("csk_one", "acme", 2),
            Bound::secret("csk_onea", "cme", 1),
            Bound::passphrase("csk_one", "acme"),
            Bound { purpose: Purpose::Passphrase, ..place() },
            Bound { purpose: Purpose::Factor, ..place() },
        ] {
            assert_eq!(
                opens(&masters, &elsewhere, &sealed),
                Err(SealError::Refused),
                "{elsewhere:?}"
            );
        }
    }

    #[test]
    fn two_records_that_were_swapped_are_refused_whole_and_in_parts() {
        let masters = masters("a", &["a"]);
        let other = Bound::secret("csk_two", "acme", 1);
        let (one, two) =
            (masters.seal(&place(), TEXT).unwrap(), masters.seal(&other, TEXT).unwrap());
        for (place, sealed) in [
            (place(), two.clone()),
            (other, one.clone()),
            (place(), Sealed { text: two.text.clone(), ..one.clone() }),
            (place(), Sealed { wrapped: two.wrapped.clone(), ..one.clone() }),
            (other, Sealed { text: one.text.clone(), ..two.clone() }),
            (
                place(),
                Sealed { wrapped: one.text.clone(), text: one.wrapped.clone(), ..one.clone() },
            ),
        ] {
            assert_eq!(opens(&masters, &place, &sealed), Err(SealError::Refused));
        }
    }

    #[test]
    fn another_master_key_opens_nothing_by_whatever_name() {
        let ours = masters("a", &["a", "b"]);
        let sealed = ours.seal(&place(), TEXT).unwrap();
        assert_eq!(opens(&masters("a", &["a"]), &place(), &sealed), Err(SealError::Refused));
        let unknown = Err(SealError::UnknownMaster("a".into()));
        assert_eq!(opens(&masters("b", &["b"]), &place(), &sealed), unknown);
        let renamed = Sealed { master: "b".into(), ..sealed };
        assert_eq!(opens(&ours, &place(), &renamed), Err(SealError::Refused));
        assert!(MasterKeys::new("c", []).is_none());
    }

    #[test]
    fn a_name_that_was_given_to_the_same_key_opens_nothing_either() {
        let key = MasterKey::random().unwrap();
        let both = [(Arc::from("a"), key.clone()), (Arc::from("b"), key)];
        let masters = MasterKeys::new("a", both).unwrap();
        let sealed = masters.seal(&place(), TEXT).unwrap();
        let renamed = Sealed { master: "b".into(), ..sealed };
        assert_eq!(opens(&masters, &place(), &renamed), Err(SealError::Refused));
    }

    #[test]
    fn rewrapping_changes_the_wrapping_alone_and_nothing_the_second_time() {
        let before = masters("a", &["a", "b"]);
        let sealed = before.seal(&place(), TEXT).unwrap();
        let after = MasterKeys { current: Arc::from("b"), ..before.clone() };
        let again = after.rewrap(&place(), &sealed).unwrap().unwrap();
        assert_eq!((&*again.master, &again.text), ("b", &sealed.text));
        assert_ne!(again.wrapped, sealed.wrapped);
        assert_eq!(opens(&after, &place(), &again).unwrap(), TEXT);
        assert_eq!(after.rewrap(&place(), &again), Ok(None));
        let moved = Bound::secret("csk_two", "acme", 1);
        assert_eq!(after.rewrap(&moved, &sealed), Err(SealError::Refused), "it cures no swap");
    }

    #[test]
    fn neither_keys_nor_what_fails_prints_a_secret() {
        let key =
            MasterKey::read(b"6d61726b65640f1e2d3c4b5a69788796a5b4c3d2e1f00112233445566778899a")
                .unwrap();
        let masters = MasterKeys::new("a", [(Arc::from("a"), key)]).unwrap();
        let sealed = masters.seal(&place(), b"hunter2hunter2").unwrap();
        let moved = Bound::passphrase("csk_one", "acme");
        let error = opens(&masters, &moved, &sealed).unwrap_err();
        let printed = format!("{masters:?} {sealed:?} {error:?} {error}").to_lowercase();
        let marked = |text: &[u8]| {
            [data_encoding::HEXLOWER.encode(text), BASE64.encode(text).to_lowercase()]
        };
        for text in marked(b"hunter2hunter2").iter().chain(&marked(b"marked")) {
            assert!(!printed.contains(text.as_str()), "{printed}");
        }
        assert!(!printed.contains("hunter2") && printed.contains("masterkey(..)"), "{printed}");
    }

    proptest! {
        #[test]
        fn places_that_differ_never_bind_alike(
            a in ("[a-c]{0,3}", "[a-c]{0,3}", 0_u64..3), b in ("[a-c]{0,3}", "[a-c]{0,3}", 0_u64..3),
        ) {
            let place = |(record, account, number): &(String, String, u64)| {
                let (purpose, number) = (Purpose::Secret, *number);
                Bound { purpose, record, account, number }.binding("text", "")
            };
            prop_assert_eq!(a == b, place(&a) == place(&b));
        }

        #[test]
        fn any_text_comes_back_as_it_was(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let masters = masters("a", &["a"]);
            let sealed = masters.seal(&place(), &text).unwrap();
            prop_assert_eq!(opens(&masters, &place(), &sealed).unwrap(), text);
        }
    }
}
