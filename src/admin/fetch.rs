//! Reads a small document from an `https` address: one connection, no redirection, so many bytes at most.

use std::io;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::key_set::Unread;

/// What is at `url`, of up to `cap` bytes. How long it may take is for the caller to say.
pub(super) async fn get(url: &Uri, tls: &TlsConnector, cap: usize) -> Result<Vec<u8>, Unread> {
    let host = url.host().ok_or(Unread::Foreign)?;
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::get(target)
        .header(header::HOST, url.authority().map_or(host, |authority| authority.as_str()))
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("countersign/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| Unread::Failed(io::Error::other(error)))?;
    let bare = host.trim_matches(['[', ']']);
    let name = ServerName::try_from(bare.to_owned());
    let name = name.map_err(|error| Unread::Failed(io::Error::other(error)))?;
    let stream = TcpStream::connect((bare, url.port_u16().unwrap_or(443))).await;
    let stream = tls.connect(name, stream.map_err(Unread::Failed)?).await;
    let stream = TokioIo::new(stream.map_err(Unread::Failed)?);
    let failed = |error: hyper::Error| Unread::Failed(io::Error::other(error));
    let (mut sender, connection) = http1::handshake(stream).await.map_err(failed)?;
    let asked = async {
        let reply = sender.send_request(request).await.map_err(failed)?;
        if reply.status() != StatusCode::OK {
            return Err(Unread::Status(reply.status()));
        }
        let body = Limited::new(reply.into_body(), cap).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Unread::Large
            } else {
                Unread::Failed(io::Error::other(error))
            }
        })?;
        Ok(body.to_bytes().to_vec())
    };
    tokio::pin!(connection, asked);
    let mut ended = false;
    loop {
        tokio::select! {
            read = &mut asked => return read,
            // What it had read already is still to be taken.
            over = &mut connection, if !ended => {
                over.map_err(failed)?;
                ended = true;
            }
        }
    }
}
