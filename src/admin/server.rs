//! Serves connections: so many at a time, each within its bounds, until told to stop.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::caller::Peer;
use super::doors::Door;
use super::{AdminState, answer, certificate, request};

/// The largest head, in bytes.
const HEAD_CAP: usize = 16 * 1024;

/// The most header fields.
const HEADER_CAP: usize = 64;

/// How long to wait after the system refused a connection, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves plain TCP until `shutdown` is done, then lets answers under way end.
pub async fn serve(listener: TcpListener, state: AdminState, shutdown: impl Future<Output = ()>) {
    serve_at(Door::Tcp(listener), state, shutdown).await;
}

/// Serves at any door until `shutdown` is done, then lets answers under way end.
pub async fn serve_at(door: Door, state: AdminState, shutdown: impl Future<Output = ()>) {
    let mut shutdown = pin!(shutdown);
    let places = Arc::new(Semaphore::new(state.bounds.connections));
    let (drain, draining) = watch::channel(());
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = open.join_next() => continue,
            accepted = accept(&door) => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    let (state, draining) = (state.clone(), draining.clone());
                    open.spawn(async move {
                        arrived(stream, peer, state, draining).await;
                        drop(place);
                    });
                }
                Err(_) => {
                    tracing::warn!(limit = state.bounds.connections, "admin connection refused");
                }
            },
            Err(error) => pause(&error).await,
        }
    }
    drop(door);
    drop(draining);
    drain.send_replace(());
    let ended =
        timeout(state.bounds.drain, async { while open.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        open.shutdown().await;
    }
}

/// A connection that was accepted.
enum Stream {
    Tcp(TcpStream),
    Tls(TcpStream, TlsAcceptor),
    Socket(UnixStream),
}

async fn accept(door: &Door) -> io::Result<(Stream, Peer)> {
    let of = |address: std::net::SocketAddr| Peer {
        address: Some(address.ip().to_canonical()),
        ..Peer::default()
    };
    match door {
        Door::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            Ok((Stream::Tcp(stream), of(address)))
        }
        Door::Tls(listener, acceptor) => {
            let (stream, address) = listener.accept().await?;
            Ok((Stream::Tls(stream, acceptor.clone()), of(address)))
        }
        Door::Socket(socket) => {
            let (stream, peer) = socket.accept().await?;
            Ok((Stream::Socket(stream), peer))
        }
    }
}

async fn arrived(stream: Stream, mut peer: Peer, state: AdminState, draining: watch::Receiver<()>) {
    match stream {
        Stream::Tcp(stream) => connection(stream, peer, state, draining).await,
        Stream::Socket(stream) => connection(stream, peer, state, draining).await,
        Stream::Tls(stream, acceptor) => {
            let Ok(Ok(stream)) = timeout(state.bounds.head, acceptor.accept(stream)).await else {
                tracing::debug!("admin TLS handshake failed");
                return;
            };
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            peer.certificate =
                shown.map(|leaf| certificate::names(leaf)).unwrap_or_default().into();
            connection(stream, peer, state, draining).await;
        }
    }
}

/// Serves one connection to its end. What a client does wrong is its own trouble, hence no result.
async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    state: AdminState,
    mut draining: watch::Receiver<()>,
) {
    let bounds = state.bounds;
    let (state, peer) = (Arc::new(state), Arc::new(peer));
    let service = service_fn(move |request: Request<Incoming>| {
        let (state, peer) = (Arc::clone(&state), Arc::clone(&peer));
        async move { Ok::<_, std::convert::Infallible>(answered(&state, &peer, request).await) }
    });
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.head)
            .max_buf_size(HEAD_CAP)
            .max_headers(HEADER_CAP)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        ended = &mut served => {
            if let Err(error) = ended {
                tracing::debug!(%error, "admin connection broke");
            }
            return;
        }
        _ = draining.changed() => {}
        () = sleep(bounds.connection) => {}
    }
    served.as_mut().graceful_shutdown();
    // An error or a client that will not read: either way the connection ends here.
    let _ended = timeout(bounds.drain, served).await;
}

async fn answered(state: &AdminState, peer: &Peer, request: Request<Incoming>) -> Response {
    let path = request.uri().path();
    let asked = path == "/v1" || path.starts_with("/v1/");
    match state.api.as_ref().filter(|api| asked && (peer.user.is_some() || api.is_reachable())) {
        Some(api) => api.answer(request.map(Body::new), peer).await,
        None if path == "/metrics" && is_foreign(peer, request.headers()) => {
            tracing::warn!(address = ?peer.address, "a page asked for metrics");
            answer::rebound().map(Body::new)
        }
        None => answer::answer(state, request.method(), path).map(Body::new),
    }
}

/// Whether a page asks, or a browser on this machine for a name that is not its own.
fn is_foreign(peer: &Peer, fields: &HeaderMap) -> bool {
    request::is_of_a_page(fields) || request::is_rebound(fields, peer.address)
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "admin listener could not accept");
    sleep(ACCEPT_PAUSE).await;
}
