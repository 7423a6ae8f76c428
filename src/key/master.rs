//! Master keys: where they come from, and which are refused because others may know them.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use zeroize::Zeroizing;

use super::sealing::MasterKeys;

/// 256 bits that seal. It prints nothing, and leaves memory when dropped.
#[derive(Clone)]
pub struct MasterKey(Arc<Zeroizing<[u8; 32]>>);

/// Why something is no master key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadMaster {
    /// Neither 64 hexadecimal digits nor the base64 of 32 bytes.
    Form,
    /// It stands in documentation, where everybody can read it.
    Sample,
    /// Nothing random gives such bytes: they repeat, count, or are plain text.
    Weak,
}

impl fmt::Display for BadMaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => {
                "it is no master key: 32 random bytes as 64 hexadecimal digits or in base64 are, as \
                 `openssl rand -hex 32` prints"
            }
            Self::Sample => {
                "it is a sample key, which everybody knows: make one with `openssl rand -hex 32`"
            }
            Self::Weak => {
                "it is not random (its bytes repeat, count, or are plain text): make one with \
                 `openssl rand -hex 32`"
            }
        })
    }
}

impl std::error::Error for BadMaster {}

impl MasterKey {
    /// Reads 32 bytes as hex or base64, and refuses what is not random.
    pub fn read(text: &[u8]) -> Result<Self, BadMaster> {
        let text = text.trim_ascii();
        let mut bytes = Zeroizing::new([0; 32]);
        let decoded = match text.len() {
            64 => HEXLOWER_PERMISSIVE.decode(text).map(Zeroizing::new),
            44 => BASE64.decode(text).map(Zeroizing::new),
            _ => return Err(BadMaster::Form),
        };
        let decoded = decoded.map_err(|_| BadMaster::Form)?;
        let decoded = decoded.first_chunk::<32>().filter(|_| decoded.len() == 32);
        bytes.copy_from_slice(decoded.ok_or(BadMaster::Form)?);
        let written = Zeroizing::new(HEXLOWER.encode(&*bytes));
        if SAMPLES.contains(&written.as_str()) {
            return Err(BadMaster::Sample);
        }
        if is_weak(&bytes) { Err(BadMaster::Weak) } else { Ok(Self::of(bytes)) }
    }

    /// 32 bytes of the system's randomness.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *bytes)?;
        Ok(Self::of(bytes))
    }

    pub(super) fn of(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(Arc::new(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// Whether these bytes have what no random ones have: chance gives each of these less often than once in 2^40.
fn is_weak(bytes: &[u8; 32]) -> bool {
    let mut seen = [false; 256];
    for byte in bytes {
        if let Some(place) = seen.get_mut(usize::from(*byte)) {
            *place = true;
        }
    }
    let distinct = seen.iter().filter(|seen| **seen).count();
    let steps = || bytes.iter().zip(bytes.iter().skip(1)).map(|(a, b)| b.wrapping_sub(*a));
    let counts = steps().next().is_some_and(|first| steps().all(|step| step == first));
    let plain = bytes.iter().all(|byte| matches!(byte, 0x20..=0x7e));
    distinct < 16 || counts || plain
}

/// Keys that stand in documentation, which people paste.
const SAMPLES: [&str; 5] = [
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    // NIST SP 800-38A, for AES-256.
    "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
    // RFC 8439, appendix A.5.
    "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0",
];

/// Where one master key comes from.
#[derive(Clone, Debug)]
pub enum MasterSource {
    /// It was given, by an environment variable or a file.
    Given(MasterKey),
    /// A program prints it: the seam to a key management service, a hardware module or an enclave.
    Command(Vec<String>),
}

/// The `[sealing]` section of a configuration.
#[derive(Clone, Debug)]
pub struct Sealing {
    /// The name of the key that seals.
    pub current: Arc<str>,
    /// All of them by name: what was sealed under an earlier one still opens.
    pub keys: Vec<(Arc<str>, MasterSource)>,
}

/// Why there are no master keys. The text says the cure.
#[derive(Debug)]
pub enum MasterError {
    /// The system gives no random bytes.
    Random,
    /// The key of this name is no master key.
    Bad(String, BadMaster),
    /// The command of this key cannot be run, fails, or prints nothing in time.
    Command(String, String),
    /// The file in the state directory cannot be read or made.
    File(PathBuf, io::Error),
    /// The file in the state directory holds no master key.
    BadFile(PathBuf, BadMaster),
    /// `current` names no key.
    NoCurrent(String),
}

impl fmt::Display for MasterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Random => f.write_str("the system gives no random bytes"),
            Self::Bad(name, why) => write!(f, "master key \"{name}\": {why}"),
            Self::Command(name, why) => {
                write!(f, "the command of master key \"{name}\" {why}")
            }
            Self::File(path, error) => write!(f, "master key {}: {error}", path.display()),
            Self::BadFile(path, why) => write!(f, "master key {}: {why}", path.display()),
            Self::NoCurrent(name) => {
                write!(f, "[sealing] current = \"{name}\" names no key of [sealing.keys]")
            }
        }
    }
}

impl std::error::Error for MasterError {}

impl MasterKeys {
    /// The master keys that the configuration names; without any, one in a file of the state directory, made at first
    /// need; without one, one that dies with the process. What production wants instead is said in the log.
    ///
    /// It may wait for a command for [`COMMAND_TIMEOUT`]: never call it where requests are served.
    pub fn gather(
        sealing: Option<&Sealing>,
        state_dir: Option<&Path>,
    ) -> Result<Self, MasterError> {
        match (sealing, state_dir) {
            (Some(sealing), _) => configured(sealing),
            (None, Some(dir)) => in_directory(dir),
            (None, None) => {
                let key = MasterKey::random().map_err(|_| MasterError::Random)?;
                only("memory", key)
            }
        }
    }
}

fn only(name: &str, key: MasterKey) -> Result<MasterKeys, MasterError> {
    let keys = MasterKeys::new(name, [(Arc::from(name), key)]);
    keys.ok_or_else(|| MasterError::NoCurrent(name.to_owned()))
}

fn configured(sealing: &Sealing) -> Result<MasterKeys, MasterError> {
    let mut keys = Vec::with_capacity(sealing.keys.len());
    for (name, source) in &sealing.keys {
        let key = match source {
            MasterSource::Given(key) => key.clone(),
            MasterSource::Command(command) => {
                let printed = output_of(command, COMMAND_TIMEOUT)
                    .map_err(|why| MasterError::Command(name.to_string(), why))?;
                MasterKey::read(&printed).map_err(|why| MasterError::Bad(name.to_string(), why))?
            }
        };
        keys.push((Arc::clone(name), key));
    }
    MasterKeys::new(&sealing.current, keys)
        .ok_or_else(|| MasterError::NoCurrent(sealing.current.to_string()))
}

/// What the command prints, run without a shell and without input. Nothing of its output is ever in an error.
fn output_of(command: &[String], timeout: Duration) -> Result<Zeroizing<Vec<u8>>, String> {
    let (program, arguments) = command.split_first().ok_or("is empty")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().map_err(|error| format!("cannot be run: {error}"))?;
    let stdout = child.stdout.take().ok_or("has no output")?;
    let (send, printed) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut bytes = Zeroizing::new(Vec::with_capacity(OUTPUT_MOST));
        let most = u64::try_from(OUTPUT_MOST).unwrap_or(u64::MAX);
        let read = stdout.take(most).read_to_end(&mut bytes);
        // Nobody listens once it is too late.
        let _ = send.send(read.map(|_| bytes));
    });
    let printed = printed.recv_timeout(timeout);
    if printed.is_err() {
        // An error means that it has ended by itself.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| format!("cannot be waited for: {error}"))?;
    let printed = printed.map_err(|_| format!("printed nothing within {} s", timeout.as_secs()))?;
    let printed = printed.map_err(|error| format!("cannot be read from: {error}"))?;
    if status.success() { Ok(printed) } else { Err(format!("failed: {status}")) }
}

/// The key in the file of a state directory, which is made where there is none.
fn in_directory(dir: &Path) -> Result<MasterKeys, MasterError> {
    let path = dir.join(FILE);
    let failed = |error| MasterError::File(path.clone(), error);
    let key = match std::fs::read(&path).map(Zeroizing::new) {
        Ok(text) => {
            MasterKey::read(&text).map_err(|why| MasterError::BadFile(path.clone(), why))?
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(dir).map_err(failed)?;
            let key = MasterKey::random().map_err(|_| MasterError::Random)?;
            write_new(dir, &path, &key).map_err(failed)?;
            key
        }
        Err(error) => return Err(failed(error)),
    };
    tracing::warn!(
        file = %path.display(),
        "secrets are sealed under a master key beside them: whoever copies the state directory has both. For \
         production name one under [sealing.keys], from a command, a file elsewhere or the environment"
    );
    only("local", key)
}

/// Writes it whole or not at all, readable by the owner alone.
fn write_new(dir: &Path, path: &Path, key: &MasterKey) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&part)?;
    let mut text = Zeroizing::new(HEXLOWER.encode(key.bytes()));
    text.push('\n');
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&part, path)?;
    std::fs::File::open(dir)?.sync_all()
}

/// How long a command may take to print a master key.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
const OUTPUT_MOST: usize = 4_096;
const FILE: &str = "master.key";

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: &str = "5c3d0f6b1a928e47d6f10b7e4c29a8533e6f71c0d2b4958a6710fe2c3b4d5a69";

    #[test]
    fn a_master_key_is_read_from_hex_and_base64_and_from_nothing_else() {
        let bytes = HEXLOWER.decode(RANDOM.as_bytes()).unwrap();
        for good in [
            RANDOM.to_owned(),
            RANDOM.to_uppercase(),
            BASE64.encode(&bytes),
            format!(" {RANDOM}\n"),
        ] {
            assert_eq!(MasterKey::read(good.as_bytes()).unwrap().bytes(), &*bytes, "{good}");
        }
        for bad in [
            "",
            "hunter2",
            RANDOM.strip_prefix('5').unwrap(),
            &format!("{RANDOM}0"),
            &RANDOM.replace('5', "g"),
        ] {
            assert_eq!(MasterKey::read(bad.as_bytes()).unwrap_err(), BadMaster::Form, "{bad}");
        }
    }

    #[test]
    fn what_others_know_or_could_guess_is_no_master_key() {
        for sample in SAMPLES {
            assert_eq!(MasterKey::read(sample.as_bytes()).unwrap_err(), BadMaster::Sample);
            assert_eq!(
                MasterKey::read(sample.to_uppercase().as_bytes()).unwrap_err(),
                BadMaster::Sample
            );
        }
        let counting: Vec<u8> = (100..132).collect();
        let odd: Vec<u8> = (0..32).map(|n: u8| n.wrapping_mul(7)).collect();
        for weak in [
            &[0; 32][..],
            &[0xff; 32],
            b"correct horse battery staple 123",
            &b"\x00\x9fz\x11".repeat(8),
            &counting,
            &odd,
        ] {
            let hex = HEXLOWER.encode(weak);
            assert_eq!(MasterKey::read(hex.as_bytes()).unwrap_err(), BadMaster::Weak, "{hex}");
        }
        for _ in 0..200 {
            let random = HEXLOWER.encode(MasterKey::random().unwrap().bytes());
            assert!(MasterKey::read(random.as_bytes()).is_ok());
        }
    }

    fn command(words: &[&str]) -> Sealing {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Sealing {
            current: Arc::from("kms"),
            keys: vec![(Arc::from("kms"), MasterSource::Command(words))],
        }
    }

    #[test]
    fn a_command_may_print_the_key() {
        let found = MasterKeys::gather(Some(&command(&["/bin/echo", RANDOM])), None).unwrap();
        assert_eq!(found.current(), "kms");
    }

    #[test]
    fn a_command_that_fails_is_named_and_what_it_printed_is_not() {
        for (words, said) in [
            (&["/no/such/program"][..], "cannot be run"),
            (&["/bin/sh", "-c", "echo hunter2; exit 3"], "failed"),
            (&["/bin/sh", "-c", "echo hunter2"], "it is no master key"),
            (&["/bin/cat"], "it is no master key"),
        ] {
            let error = MasterKeys::gather(Some(&command(words)), None).unwrap_err();
            let printed = format!("{error} {error:?}");
            assert!(printed.contains(said) && printed.contains("kms"), "{printed}");
            assert!(!printed.contains("hunter2"), "{printed}");
        }
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let words = ["/bin/sh", "-c", "exec sleep 600"].map(ToOwned::to_owned);
        let why = output_of(&words, Duration::from_millis(50)).unwrap_err();
        assert!(why.starts_with("printed nothing within"), "{why}");
    }

    #[test]
    fn the_state_directory_gets_a_key_that_its_owner_alone_can_read_and_keeps_it() {
        use super::super::sealing::Bound;
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let place = Bound::secret("a", "b", 1);
        let first = MasterKeys::gather(None, Some(&state)).unwrap();
        let sealed = first.seal(&place, b"text").unwrap();
        let again = MasterKeys::gather(None, Some(&state)).unwrap();
        assert_eq!(again.open(&place, &sealed, <[u8]>::to_vec).unwrap(), b"text");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(state.join(FILE)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::write(state.join(FILE), "hunter2").unwrap();
        let error = MasterKeys::gather(None, Some(&state)).unwrap_err();
        assert!(matches!(error, MasterError::BadFile(_, BadMaster::Form)), "it makes no other one");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn without_a_directory_each_process_has_its_own() {
        use super::super::sealing::Bound;
        let place = Bound::secret("a", "b", 1);
        let (one, two) =
            (MasterKeys::gather(None, None).unwrap(), MasterKeys::gather(None, None).unwrap());
        let sealed = one.seal(&place, b"text").unwrap();
        assert!(two.open(&place, &sealed, |_| ()).is_err());
    }
}
