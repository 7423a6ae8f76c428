//! One direction of a WebSocket: what was read here and is written there, frame by frame where that is asked.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::Frames;

/// One direction.
pub(super) struct Way {
    /// What was read and could not be written yet.
    held: BytesMut,
    pub(super) frames: Frames,
    pub(super) passed: u64,
    pub(super) moved: bool,
    /// Whether nothing more comes.
    is_over: bool,
    /// Whether that is since the connection broke.
    pub(super) is_broken: bool,
}

/// Why nothing more is passed in one direction.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Over {
    /// Nothing more comes, and all that came is passed on.
    From,
    /// Nothing more is taken.
    To,
    /// A frame has ended, as was asked.
    Between,
}

impl Way {
    pub(super) fn beginning(held: BytesMut) -> Self {
        Self {
            held,
            frames: Frames::default(),
            passed: 0,
            moved: false,
            is_over: false,
            is_broken: false,
        }
    }

    /// Passes on what there is, as far as the end of a frame where that is asked.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        scratch: &mut [u8],
        to_end_of_frame: bool,
    ) -> Poll<Result<Infallible, Over>> {
        for _ in 0..MOST_ROUNDS {
            while !self.held.is_empty() {
                let held = std::mem::take(&mut self.held);
                let written = self.write(cx, to, &held, to_end_of_frame);
                self.held = held;
                let written = ready!(written)?;
                self.held.advance(written);
            }
            // Its memory is given back.
            self.held = BytesMut::new();
            if to_end_of_frame && self.frames.is_between() {
                return Poll::Ready(Err(Over::Between));
            }
            if self.is_over {
                return Poll::Ready(Err(Over::From));
            }
            let mut into = ReadBuf::new(scratch);
            match Pin::new(&mut *from).poll_read(cx, &mut into) {
                Poll::Ready(Ok(())) if !into.filled().is_empty() => {}
                Poll::Ready(ended) => {
                    self.is_over = true;
                    self.is_broken = ended.is_err();
                    continue;
                }
                Poll::Pending => {
                    // Under TLS what was written may not have gone out; if it cannot, we are woken.
                    let _ = Pin::new(to).poll_flush(cx);
                    return Poll::Pending;
                }
            }
            self.moved = true;
            let come = into.filled();
            let written = match self.write(cx, to, come, to_end_of_frame) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            self.held.extend_from_slice(come.get(written..).unwrap_or_default());
        }
        // Others have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut (impl AsyncWrite + Unpin),
        bytes: &[u8],
        to_end_of_frame: bool,
    ) -> Poll<Result<usize, Over>> {
        let length = if to_end_of_frame { self.frames.rest(bytes) } else { bytes.len() };
        let bytes = bytes.get(..length).unwrap_or_default();
        if bytes.is_empty() {
            return Poll::Ready(Err(Over::Between));
        }
        match ready!(Pin::new(to).poll_write(cx, bytes)) {
            Ok(written @ 1..) => {
                self.frames.pass(bytes.get(..written).unwrap_or_default());
                self.passed += u64::try_from(written).unwrap_or_default();
                Poll::Ready(Ok(written))
            }
            Ok(0) | Err(_) => Poll::Ready(Err(Over::To)),
        }
    }
}

/// How often a direction is served before others are.
const MOST_ROUNDS: usize = 16;
