//! The bytes of one connection: plain or TLS, with those already read put back in front.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use arrayvec::ArrayVec;
use bytes::{Buf, Bytes, BytesMut};
use rustix::net::{SendFlags, send};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::observe::End;
use super::pulse::Pulse;

/// The most that is read from a peer after our side is closed.
const MOST_LEFTOVERS: usize = 1 << 20;

/// A connection's transport.
#[derive(Debug)]
pub(super) enum Transport {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

/// How HTTP/2 begins where no TLS handshake has announced it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether the peer speaks HTTP/2, and the bytes that were read to tell.
///
/// It waits for as long as the peer's bytes could still become a preface: the caller has the deadline.
pub(super) async fn detect(socket: &mut TcpStream) -> Result<(bool, Bytes), End> {
    let mut ahead = BytesMut::with_capacity(PREFACE.len());
    while ahead.len() < PREFACE.len() {
        let room = PREFACE.len() - ahead.len();
        match (&mut *socket).take(room as u64).read_buf(&mut ahead).await {
            // So it is looked whether anybody listens.
            Ok(0) if ahead.is_empty() => return Err(End::Closed),
            Ok(0) | Err(_) => return Err(End::Broken),
            Ok(_) => {}
        }
        if !PREFACE.starts_with(&ahead) {
            return Ok((false, ahead.freeze()));
        }
    }
    Ok((true, ahead.freeze()))
}

/// Writes past the C library, where a thread could be cancelled: to allow that and to forbid it again costs two locked
/// instructions.
pub(super) fn write(
    socket: &mut TcpStream,
    cx: &mut Context<'_>,
    from: &[u8],
) -> Poll<io::Result<usize>> {
    match socket.try_io(Interest::WRITABLE, || Ok(send(&*socket, from, SendFlags::NOSIGNAL)?)) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Pin::new(socket).poll_write(cx, from)
        }
        written => Poll::Ready(written),
    }
}

/// Writes short pieces as one: the copy is cheaper than what the system does for a list of them.
fn write_vectored(
    socket: &mut TcpStream,
    cx: &mut Context<'_>,
    from: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut whole = ArrayVec::<u8, SHORT>::new();
    if from.iter().all(|piece| whole.try_extend_from_slice(piece).is_ok()) {
        write(socket, cx, &whole)
    } else {
        Pin::new(socket).poll_write_vectored(cx, from)
    }
}

/// Up to how many bytes pieces are written as one.
const SHORT: usize = 2_048;

/// A transport that tells the connection's [`Pulse`] of what comes in.
#[derive(Debug)]
pub(super) struct Watched {
    transport: Transport,
    ahead: Bytes,
    pulse: Rc<Pulse>,
    /// Whether the pulse hears of what comes in.
    is_told: bool,
    leftovers: usize,
}

impl Watched {
    /// Yields `ahead` first.
    pub(super) fn new(transport: Transport, ahead: Bytes, pulse: Rc<Pulse>) -> Self {
        Self { transport, ahead, pulse, is_told: true, leftovers: 0 }
    }

    /// Tells the pulse nothing: who reads now does.
    pub(super) fn hush(&mut self) {
        self.is_told = false;
    }

    /// Yields `ahead`, which was read already, before anything else; and tells the pulse again.
    pub(super) fn put_back(&mut self, ahead: Bytes) {
        self.ahead = ahead;
        self.is_told = true;
    }

    /// Ready where there may be something to read: who waits needs no memory to read into.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.transport {
            Transport::Plain(socket) if !self.ahead.has_remaining() => socket.poll_read_ready(cx),
            // Of TLS a whole record may have come, or a part of one.
            Transport::Plain(_) | Transport::Tls(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_transport(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_read(cx, into),
            Transport::Tls(session) => Pin::new(session).poll_read(cx, into),
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.has_remaining() {
            let taken = this.ahead.split_to(this.ahead.len().min(into.remaining()));
            into.put_slice(&taken);
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        ready!(this.poll_transport(cx, into))?;
        if this.is_told && into.filled().len() > before {
            this.pulse.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => write(socket, cx, from),
            Transport::Tls(session) => Pin::new(session).poll_write(cx, from),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => write_vectored(socket, cx, from),
            Transport::Tls(session) => Pin::new(session).poll_write_vectored(cx, from),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(socket) => socket.is_write_vectored(),
            Transport::Tls(session) => session.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Transport::Tls(session) => Pin::new(session).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(match &mut this.transport {
            Transport::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Transport::Tls(session) => Pin::new(session).poll_shutdown(cx),
        })?;
        if !this.pulse.close() {
            return Poll::Ready(Ok(()));
        }
        let mut scrap = [0; 4_096];
        while this.leftovers < MOST_LEFTOVERS {
            let mut into = ReadBuf::new(&mut scrap);
            ready!(this.poll_transport(cx, &mut into))?;
            if into.filled().is_empty() {
                break;
            }
            this.leftovers += into.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}
