//! Answers that come a line at a time.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::mpsc;

/// Writes lines, each a JSON value.
#[derive(Debug)]
pub(super) struct Lines(mpsc::UnboundedSender<Bytes>);

struct Sent(mpsc::UnboundedReceiver<Bytes>);

/// Where to write lines, and the body they become.
pub(super) fn lines() -> (Lines, Body) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Lines(sender), Body::new(Sent(receiver)))
}

impl Lines {
    /// Writes a value as a line. Whether anybody reads on is what it answers.
    pub(super) fn write(&self, value: &impl Serialize) -> bool {
        let Ok(mut line) = serde_json::to_vec(value) else { return false };
        line.push(b'\n');
        self.0.send(line.into()).is_ok()
    }

    /// Writes a line that is JSON already.
    pub(super) fn write_line(&self, mut line: String) -> bool {
        line.push('\n');
        self.0.send(line.into()).is_ok()
    }

    /// Returns once nobody reads on.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
