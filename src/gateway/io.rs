//! A connection of the front and what was read of it ahead.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncReadExt as _;

use super::rooms::Held;
use super::stream::Watched;

/// A stream of a client, with what came beyond the request at hand.
pub(super) struct Io {
    pub(super) stream: Watched,
    /// What was read and belongs to no request yet.
    pub(super) held: Held,
    /// Whether the client has ended its side, seen while it waited for an answer.
    pub(super) has_ended: bool,
}

impl Io {
    /// Reads more; 0 at the end.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.stream.poll_readable(cx))?;
        let more = pin!(self.stream.read_buf(self.held.room())).poll(cx);
        self.held.release();
        more
    }

    /// Whether the client has broken off. What it sends early is kept, and no more is read then.
    ///
    /// To end one's side is to send nothing more (RFC 9293, section 3.6) and no word about answers: of an order that
    /// has gone out there will be one. Who has left altogether is told apart once it is written.
    pub(super) fn is_broken(&mut self, cx: &mut Context<'_>) -> bool {
        if self.has_ended || !self.held.is_empty() {
            return false;
        }
        match self.poll_more(cx) {
            Poll::Ready(Ok(read)) => self.has_ended = read == 0,
            Poll::Ready(Err(_)) => return true,
            Poll::Pending => {}
        }
        false
    }
}

/// How much is read at a time.
pub(super) const ROOM: usize = 4_096;
