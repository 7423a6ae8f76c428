//! A connection of the front and what was read of it ahead.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;

use super::stream::Watched;

/// A stream of a client, with what came beyond the request at hand.
pub(super) struct Io {
    pub(super) stream: Watched,
    /// What was read and belongs to no request yet.
    pub(super) held: BytesMut,
}

impl Io {
    /// Reads more; 0 at the end.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.held.capacity() - self.held.len() < LEAST_ROOM {
            self.held.reserve(ROOM);
        }
        pin!(self.stream.read_buf(&mut self.held)).poll(cx)
    }

    pub(super) fn put_back(&mut self, bytes: Bytes) {
        // What is held came later: mostly nothing, and then the bytes have their memory for themselves.
        let later = std::mem::take(&mut self.held);
        if later.is_empty() {
            drop(later);
            self.held = BytesMut::from(bytes);
        } else {
            self.held = BytesMut::from(bytes);
            self.held.extend_from_slice(&later);
        }
    }
}

/// How much is read at a time.
pub(super) const ROOM: usize = 4_096;
const LEAST_ROOM: usize = 1_024;
