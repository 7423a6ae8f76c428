//! A connection to a backend: one request at a time, each sent once and with its deadline.
//!
//! It writes a request, reads the head of the reply, and leaves the rest to whoever passes the reply on. It is used
//! again only where the reply was framed and has been read to its end, with nothing behind it.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::backends::Slot;
use super::forward::ForwardFault;
use super::reply_head::ReplyHead;
use super::request::Outgoing;
use super::rooms::{Held, Rooms};
use super::stream;

/// A connection to a backend, open as long as it lives.
pub(super) struct Connection {
    socket: TcpStream,
    /// What was read and not yet taken.
    held: Held,
    /// It is only ever set earlier, or anew when it rings too early: so a busy connection moves no timers.
    alarm: Pin<Box<Sleep>>,
    /// Whether it has carried no request before.
    pub(super) is_fresh: bool,
    keeps_alive: bool,
    _slot: Slot,
}

/// What became of a request.
pub(super) enum Sent {
    /// The head of the reply has come.
    Replied(Box<ReplyHead>),
    /// The connection is closed; nothing was written.
    Unsent,
    /// There will be no reply.
    Lost(ForwardFault),
}

impl Connection {
    /// `within` is how long replies may usually take.
    pub(super) fn new(socket: TcpStream, slot: Slot, within: Duration, rooms: &Rc<Rooms>) -> Self {
        Self {
            socket,
            held: Held::new(rooms),
            alarm: Box::pin(sleep(within)),
            is_fresh: true,
            keeps_alive: true,
            _slot: slot,
        }
    }

    /// Whether it has closed, or holds what nobody asked for: as far as is known without asking the system.
    pub(super) fn is_stale(&self) -> bool {
        let nothing = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        !self.held.is_empty() || !self.socket.try_read(&mut [0]).is_err_and(|error| nothing(&error))
    }

    /// Wakes whom `cx` says when it becomes stale; ready when it is.
    pub(super) fn poll_stale(&self, cx: &mut Context<'_>) -> Poll<()> {
        while self.socket.poll_read_ready(cx).is_ready() {
            // It may only have been so: asking the system sets it right.
            if self.is_stale() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Whether it may carry another request, once the reply of the last has been read to its end.
    pub(super) fn is_reusable(&self) -> bool {
        self.keeps_alive && self.held.is_empty()
    }

    /// Sends a request and reads the head of its reply, which must have begun when it is `due`.
    pub(super) async fn send(&mut self, request: &mut Outgoing, due: Instant) -> Sent {
        let mut written = 0;
        poll_fn(|cx| {
            if let Poll::Ready(sent) = self.poll_exchange(cx, request, &mut written) {
                return Poll::Ready(sent);
            }
            if due < self.alarm.deadline() {
                self.alarm.as_mut().reset(due);
            }
            while self.alarm.as_mut().poll(cx).is_ready() {
                if due <= Instant::now() {
                    return Poll::Ready(Sent::Lost(ForwardFault::TimedOut));
                }
                self.alarm.as_mut().reset(due);
            }
            Poll::Pending
        })
        .await
    }

    fn poll_exchange(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Outgoing,
        written: &mut usize,
    ) -> Poll<Sent> {
        let broken = |written| {
            // The system takes nothing of what it refuses: until it took something, nothing was sent.
            Poll::Ready(if written == 0 { Sent::Unsent } else { Sent::Lost(ForwardFault::Unknown) })
        };
        while !request.is_spent() {
            let (head, body) = request.from(*written);
            if head.is_empty() && body.is_empty() {
                request.spend();
                break;
            }
            let taken = if body.is_empty() {
                stream::write(&mut self.socket, cx, head)
            } else {
                let pieces = [IoSlice::new(head), IoSlice::new(body)];
                Pin::new(&mut self.socket).poll_write_vectored(cx, &pieces)
            };
            match taken {
                Poll::Ready(Ok(count @ 1..)) => *written += count,
                Poll::Ready(Ok(0) | Err(_)) if *written == 0 => return broken(0),
                // It reads no more; what it has answered is here all the same.
                Poll::Ready(Ok(0) | Err(_)) | Poll::Pending => break,
            }
        }
        // A backend may answer before it has read all: then this connection is not used again.
        loop {
            match ready!(self.poll_more(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return broken(*written),
            }
            match ReplyHead::take(&mut self.held, request.asked()) {
                Ok(None) => {}
                Ok(Some(head)) => {
                    self.is_fresh = false;
                    self.keeps_alive = head.keeps_alive && request.is_spent() && !request.is_last();
                    return Poll::Ready(Sent::Replied(head));
                }
                Err(_) => return Poll::Ready(Sent::Lost(ForwardFault::BadReply)),
            }
        }
    }

    /// Reads more; 0 when the backend has closed.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Who waits needs no memory to read into.
        ready!(self.socket.poll_read_ready(cx))?;
        let more = pin!(self.socket.read_buf(self.held.room())).poll(cx);
        if more.is_pending() {
            self.held.release();
        }
        more
    }

    /// It lies idle from here on, and holds no memory.
    pub(super) fn rest(&mut self) {
        self.held.release();
    }

    /// What it is made of, for the one who uses it otherwise from here on: it counts as a connection no more.
    pub(super) fn into_parts(self) -> (TcpStream, BytesMut) {
        (self.socket, self.held.into_text())
    }

    /// What was read and not yet taken, for the one who passes the reply on.
    pub(super) fn held(&mut self) -> &mut BytesMut {
        &mut self.held
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

/// How much is read at a time.
pub(super) const ROOM: usize = 8_192;
