//! What a key record's texts become in a dialect: the bytes of a MAC key, and the forms of a passphrase.

use zeroize::Zeroizing;

use super::{Dialect, Inbound, PassphraseRule, Proof, SecretForm};
use crate::denial::{Credential, Denial};
use crate::key::{Algorithm, BadSecret, Passphrase, Secret, Signer};

impl Dialect {
    /// How shared secrets are written.
    pub fn secret_form(&self) -> SecretForm {
        self.secret
    }

    /// Reads a key's secret or public key, as the configuration holds it.
    pub fn read_secret(&self, algorithm: Algorithm, text: &[u8]) -> Result<Secret, BadSecret> {
        let bytes = self.secret_bytes(algorithm, text)?;
        if self.proof == Proof::MacOrSuffix {
            return Secret::read_suffix(algorithm, &bytes);
        }
        Secret::read(algorithm, &bytes)
    }

    /// Reads the half of a key that signs.
    pub fn read_signer(&self, algorithm: Algorithm, text: &[u8]) -> Result<Signer, BadSecret> {
        Signer::read(algorithm, &self.secret_bytes(algorithm, text)?)
    }

    /// Takes a key's passphrase in clear, with its secret, under which some dialects send it.
    pub fn read_passphrase(&self, clear: &str, secret: &Secret) -> Passphrase {
        let keyed = self.passphrase.as_ref().is_some_and(|rule| rule.keyed.is_some());
        if keyed { Passphrase::keyed(clear, secret) } else { Passphrase::new(clear) }
    }

    fn secret_bytes(
        &self,
        algorithm: Algorithm,
        text: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, BadSecret> {
        if self.secret == SecretForm::Text || !algorithm.is_symmetric() {
            return Ok(Zeroizing::new(text.to_vec()));
        }
        let bytes = data_encoding::BASE64.decode(text.trim_ascii());
        bytes.map(Zeroizing::new).map_err(|_| BadSecret::NotBase64)
    }
}

impl PassphraseRule {
    /// Whether the client sends the passphrase keyed, by the version that it says its key has.
    pub(super) fn is_keyed(&self, request: &Inbound<'_>) -> Result<bool, Denial> {
        let Some(rule) = &self.keyed else { return Ok(false) };
        let Some(name) = rule.version.header() else { return Ok(false) };
        let mut sent = request.headers.get_all(name);
        let Some(version) = sent.next() else { return Ok(false) };
        let is = |known: &str| known.as_bytes() == version.as_bytes();
        let among = |all: &[Box<str>]| all.iter().any(|known| is(known));
        match (sent.next(), among(&rule.keyed), among(&rule.clear)) {
            (None, true, _) => Ok(true),
            (None, false, true) => Ok(false),
            (None, false, false) | (Some(_), ..) => Err(Denial::Garbled(Credential::Passphrase)),
        }
    }
}
