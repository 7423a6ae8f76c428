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
}

impl Io {
    /// Reads more; 0 at the end.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.stream.poll_readable(cx))?;
        let more = pin!(self.stream.read_buf(self.held.room())).poll(cx);
        self.held.release();
        more
    }
}

/// How much is read at a time.
pub(super) const ROOM: usize = 4_096;
