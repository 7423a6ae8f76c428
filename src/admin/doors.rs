//! Where calls come in: TCP, TLS that may show a client certificate, and the unix socket of the machine's own users.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use super::caller::Peer;
use crate::config::AdminTls;
use crate::gateway::tls::{self, TlsError};

/// A listener with what it knows of those who come.
pub enum Door {
    /// Plain TCP.
    Tcp(TcpListener),
    /// TLS.
    Tls(TcpListener, TlsAcceptor),
    /// The unix socket.
    Socket(Socket),
}

/// A unix socket that its owner and root alone can use. Its file goes with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Tcp",
            Self::Tls(..) => "Tls",
            Self::Socket(_) => "Socket",
        })
    }
}

impl Socket {
    /// Listens at `path`, in place of a socket there that nobody serves.
    ///
    /// The file gets its permissions before it gets its name, so that nobody else can connect in between.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if StdUnixStream::connect(path).is_ok() {
            let cause = "another process serves this socket: stop it, or set another `socket`";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, cause));
        }
        if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket_file()) {
            let cause = "there is a file of this name that is no socket: set another `socket`";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, cause));
        }
        let mut unnamed = path.as_os_str().to_owned();
        unnamed.push(format!(".{}", std::process::id()));
        let unnamed = PathBuf::from(unnamed);
        let _absent = fs::remove_file(&unnamed);
        let listener = StdUnixListener::bind(&unnamed)?;
        fs::set_permissions(&unnamed, fs::Permissions::from_mode(0o600))?;
        let owner = fs::symlink_metadata(&unnamed)?.uid();
        fs::rename(&unnamed, path)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        Ok(Self { listener, path: path.to_owned(), owner })
    }

    /// The next connection of somebody who may use the socket; others are closed.
    pub(super) async fn accept(&self) -> io::Result<(UnixStream, Peer)> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let user = stream.peer_cred()?.uid();
            if user == self.owner || user == 0 {
                return Ok((stream, Peer { user: Some(user), ..Peer::default() }));
            }
            tracing::warn!(user, "a user who may not use the admin socket was turned away");
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Where it cannot be removed, the next start replaces it.
        let _ = fs::remove_file(&self.path);
    }
}

trait IsSocket {
    fn is_socket_file(&self) -> bool;
}

impl IsSocket for fs::FileType {
    fn is_socket_file(&self) -> bool {
        std::os::unix::fs::FileTypeExt::is_socket(self)
    }
}

/// TLS for the admin address. Client certificates are asked for where an authority is named, and never demanded:
/// tokens and scrapers come without.
pub fn acceptor(files: &AdminTls) -> Result<TlsAcceptor, TlsError> {
    let (chain, key) = tls::identity(&files.files)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let refused =
        |error| TlsError::Refused(files.files.cert.clone(), files.files.key.clone(), error);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(refused)?;
    let builder = if let Some(authority) = &files.client_ca {
        let mut roots = RootCertStore::empty();
        for certificate in tls::certificates(authority)? {
            roots.add(certificate).map_err(refused)?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .allow_unauthenticated()
            .build()
            .map_err(|error| refused(rustls::Error::General(error.to_string())))?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(chain, key).map_err(refused)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
