//! Defeats a chain made anew: checkpoints are signed with a key that the trail's readers know.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use zeroize::Zeroizing;

use super::chain::{Link, hex};

/// What signs checkpoints.
pub(super) struct Sealer {
    key: SigningKey,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer({})", self.public().name())
    }
}

/// The public half of what signs checkpoints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PublicKey(VerifyingKey);

impl Sealer {
    /// The key in `dir`; a new one if there is none. Its public half is written beside it.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(PRIVATE);
        let seed = match fs::read(&path) {
            Ok(bytes) => read_seed(&Zeroizing::new(bytes)).ok_or_else(|| {
                let problem = format!("{} holds no key: put the right one back", path.display());
                io::Error::new(io::ErrorKind::InvalidData, problem)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_seed(&path)?,
            Err(error) => return Err(error),
        };
        let sealer = Self { key: SigningKey::from_bytes(&seed) };
        let public = dir.join(PUBLIC);
        let pem = sealer.public().to_pem();
        if fs::read_to_string(&public).ok().as_ref() != Some(&pem) {
            fs::write(public, pem)?;
        }
        Ok(sealer)
    }

    pub(super) fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key())
    }

    /// The signature, in hex, of a trail's having come to `link`.
    pub(super) fn sign_head(&self, link: &Link) -> String {
        HEXLOWER.encode(&self.key.sign(&head_message(link)).to_bytes())
    }

    /// The members of a checkpoint that vouches for everything up to `link`.
    pub(super) fn seal(&self, segment: u64, link: &Link) -> String {
        let signature = self.key.sign(&message(segment, link));
        format!(
            r#","segment":{segment},"records":{},"of":"{}","key":"{}","signature":"{}""#,
            link.count,
            hex(&link.hash),
            self.public().name(),
            HEXLOWER.encode(&signature.to_bytes()),
        )
    }
}

impl PublicKey {
    /// The first 16 hex digits of the key itself.
    pub fn name(&self) -> String {
        HEXLOWER.encode(self.0.as_bytes().first_chunk::<8>().unwrap_or(&[0; 8]))
    }

    /// As PEM, which `openssl pkey -pubin` reads.
    pub fn to_pem(&self) -> String {
        let bytes = [SPKI, self.0.as_bytes()].concat();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(&bytes))
    }

    /// Reads what [`PublicKey::to_pem`] writes.
    pub fn from_pem(text: &str) -> Option<Self> {
        let text: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        let bytes = BASE64.decode(text.trim().as_bytes()).ok()?;
        let key: &[u8; 32] = bytes.strip_prefix(SPKI)?.try_into().ok()?;
        VerifyingKey::from_bytes(key).ok().map(Self)
    }

    /// Whether `signature`, in hex, vouches for everything up to `link`.
    pub(super) fn vouches(&self, segment: u64, link: &Link, signature: &str) -> bool {
        self.signed(&message(segment, link), signature)
    }

    /// Whether `signature`, in hex, is of a trail's having come to `link`.
    pub(super) fn vouches_head(&self, link: &Link, signature: &str) -> bool {
        self.signed(&head_message(link), signature)
    }

    fn signed(&self, message: &[u8], signature: &str) -> bool {
        let bytes = HEXLOWER_PERMISSIVE.decode(signature.as_bytes()).unwrap_or_default();
        let Ok(signature) = Signature::from_slice(&bytes) else { return false };
        self.0.verify_strict(message, &signature).is_ok()
    }
}

fn message(segment: u64, link: &Link) -> Vec<u8> {
    format!("countersign audit checkpoint 1\n{segment}\n{}\n{}\n", link.count, hex(&link.hash))
        .into_bytes()
}

fn head_message(link: &Link) -> Vec<u8> {
    format!("countersign audit head 1\n{}\n{}\n", link.count, hex(&link.hash)).into_bytes()
}

fn read_seed(bytes: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let digits = bytes.trim_ascii();
    let mut seed = Zeroizing::new([0; 32]);
    if digits.len() != 64 {
        return None;
    }
    HEXLOWER_PERMISSIVE.decode_mut(digits, &mut *seed).ok()?;
    Some(seed)
}

fn make_seed(path: &Path) -> io::Result<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(|error| io::Error::other(error.to_string()))?;
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // There is the whole key or none, whenever it is stopped.
    let new = path.with_extension("new");
    let mut file = options.open(&new)?;
    let digits = Zeroizing::new(HEXLOWER.encode(&*seed));
    file.write_all(digits.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(new, path)?;
    Ok(seed)
}

/// What stands before the 32 bytes of an Ed25519 key in its DER form (RFC 8410).
const SPKI: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The file of the private key, and of the public one.
const PRIVATE: &str = "checkpoint.key";
pub(super) const PUBLIC: &str = "checkpoint.pub";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_kept_private_and_its_public_half_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = Sealer::open(dir.path()).unwrap().public();
        assert_eq!(Sealer::open(dir.path()).unwrap().public(), first);
        let pem = fs::read_to_string(dir.path().join(PUBLIC)).unwrap();
        assert_eq!(PublicKey::from_pem(&pem), Some(first));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(dir.path().join(PRIVATE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_signature_vouches_for_one_place_in_one_chain() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(dir.path()).unwrap();
        let link = Link { count: 7, hash: [9; 32] };
        let members = sealer.seal(3, &link);
        let signature = members.rsplit('"').nth(1).unwrap();
        let public = sealer.public();
        assert!(public.vouches(3, &link, signature));
        assert!(!public.vouches(4, &link, signature));
        assert!(!public.vouches(3, &Link { count: 8, ..link }, signature));
        assert!(!public.vouches(3, &Link { hash: [8; 32], ..link }, signature));
        assert!(!public.vouches(3, &link, "00"));
    }
}
