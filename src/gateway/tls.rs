//! Reads certificates and keys. What is wrong with them says which file, and what to do.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsFiles;

/// Why a listener has no TLS.
#[derive(Debug)]
pub enum TlsError {
    /// The file cannot be read.
    Unreadable(PathBuf, std::io::Error),
    /// The file holds no such PEM section.
    Empty(PathBuf, &'static str),
    /// The file is no PEM.
    NotPem(PathBuf, String),
    /// Certificate and key do not go together, or are of a kind that is not supported.
    Refused(PathBuf, PathBuf, rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(file, cause) => write!(
                f,
                "{}: {cause}; check the path and that this user may read it",
                file.display()
            ),
            Self::Empty(file, section) => write!(
                f,
                "{}: holds no {section}; it must be PEM, with a line `-----BEGIN …-----`",
                file.display()
            ),
            Self::NotPem(file, cause) => {
                write!(f, "{}: is not valid PEM ({cause}); export it again", file.display())
            }
            Self::Refused(cert, key, cause) => write!(
                f,
                "{} with {}: {cause}; the first certificate must be the one made for this key",
                cert.display(),
                key.display()
            ),
        }
    }
}

impl std::error::Error for TlsError {}

/// TLS 1.2 and 1.3, offering HTTP/2 before HTTP/1.1.
pub(super) fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let (chain, key) = identity(files)?;
    let refused = |error| TlsError::Refused(files.cert.clone(), files.key.clone(), error);
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(refused)?;
    config.alpn_protocols = vec![H2.to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A certificate chain and its key.
pub(crate) fn identity(
    files: &TlsFiles,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| unread(&files.key, "private key", error));
    Ok((certificates(&files.cert)?, key?))
}

/// Every certificate in a file; at least one.
pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unread(file, "certificate", error))?;
    if all.is_empty() {
        return Err(TlsError::Empty(file.to_owned(), "certificate"));
    }
    Ok(all)
}

/// The name of HTTP/2 in a TLS handshake.
pub(super) const H2: &[u8] = b"h2";

fn unread(file: &Path, section: &'static str, error: pem::Error) -> TlsError {
    if let pem::Error::Io(cause) = error {
        TlsError::Unreadable(file.to_owned(), cause)
    } else if matches!(error, pem::Error::NoItemsFound) {
        TlsError::Empty(file.to_owned(), section)
    } else {
        TlsError::NotPem(file.to_owned(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(cert: &str, key: &str) -> (tempfile::TempDir, TlsFiles) {
        let dir = tempfile::tempdir().unwrap();
        let files = TlsFiles { cert: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
        std::fs::write(&files.cert, cert).unwrap();
        std::fs::write(&files.key, key).unwrap();
        (dir, files)
    }

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_with_its_key_is_accepted() {
        let (cert, key) = pair();
        let (_dir, files) = files(&cert, &key);
        assert!(server_config(&files).is_ok());
    }

    #[test]
    fn every_error_names_the_file() {
        let (cert, key) = pair();
        let (_, other) = pair();
        for (cert, key, named) in [
            ("", &*key, "cert.pem: holds no certificate"),
            (&*cert, "", "key.pem: holds no private key"),
            (&*cert, &*cert, "key.pem: holds no private key"),
            (&*cert, &*other, "key.pem: "),
        ] {
            let (_dir, files) = files(cert, key);
            let error = server_config(&files).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let (dir, mut files) = files(&cert, &key);
        files.cert = dir.path().join("absent.pem");
        assert!(server_config(&files).unwrap_err().to_string().contains("absent.pem"));
    }
}
