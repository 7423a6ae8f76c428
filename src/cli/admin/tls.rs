//! TLS to the admin API: whom it trusts, and the certificate it shows if the API asks for one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// The certificate to show, and its key.
pub(crate) type Shown<'a> = Option<(&'a Path, &'a Path)>;

/// What a connection under TLS needs. Without `ca`, what the machine trusts is trusted.
pub(crate) fn config(ca: Option<&Path>, shown: Shown<'_>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let file = ca.map(Path::to_owned).or_else(system_roots).ok_or(NO_ROOTS)?;
    for certificate in certificates(&file)? {
        // One bad certificate among the system's many is no reason to trust none.
        let added = roots.add(certificate);
        if ca.is_some() {
            added.map_err(|error| format!("{}: {error}", file.display()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some((chain, key)) = shown else { return Ok(Arc::new(builder.with_no_client_auth())) };
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|_| format!("{}: there is no private key in PEM", key.display()))?;
    let config = builder
        .with_client_auth_cert(certificates(chain)?, private)
        .map_err(|error| format!("{}: {error}", chain.display()))?;
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let at = file.display();
    let text = std::fs::read(file).map_err(|error| format!("{at}: {error}"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(format!("{at}: there is no certificate in PEM")),
    }
}

fn system_roots() -> Option<PathBuf> {
    ROOTS.iter().map(PathBuf::from).find(|path| path.exists())
}

/// Where systems keep what they trust: Debian and Alpine, Fedora, macOS.
const ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
const NO_ROOTS: &str = "this machine has no list of trusted authorities: name one with --ca FILE";
