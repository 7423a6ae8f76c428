//! Defeats bodies that are too large or too slow: both have a bound before the first byte is kept.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::refusal::Refusal;
use crate::denial::Denial;

/// The whole body, if there is one. One that announces more than `cap` bytes is refused unread.
pub(super) async fn read(
    body: Option<Incoming>,
    cap: usize,
    within: Duration,
) -> Result<Bytes, Refusal> {
    let Some(body) = body.filter(|body| !body.is_end_stream()) else { return Ok(Bytes::new()) };
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > cap {
        return Err(Denial::TooLarge.into());
    }
    let slow = Refusal::Broken(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
    tokio::time::timeout(within, collect(body, announced, cap)).await.map_err(|_| slow)?
}

/// Whether a body that nobody reads has come to its end: what has come of it is dropped.
pub(super) async fn is_over(body: Option<Incoming>) -> bool {
    let Some(mut body) = body else { return false };
    let mut dropped = 0;
    poll_fn(|cx| {
        while let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(cx) {
            match frame {
                None => return Poll::Ready(true),
                Some(Ok(frame)) => dropped += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) => break,
            }
            if dropped > MOST_DROPPED {
                break;
            }
        }
        Poll::Ready(false)
    })
    .await
}

/// Up to this length a body that nobody wants is read to its end; before the end of a longer one its connection ends.
pub(super) const MOST_DROPPED: usize = 65_536;

async fn collect(mut body: Incoming, announced: usize, cap: usize) -> Result<Bytes, Refusal> {
    let Some(first) = chunk(&mut body).await? else { return Ok(Bytes::new()) };
    if first.len() > cap {
        return Err(Denial::TooLarge.into());
    }
    // Most bodies come in one piece, which is then passed on as it is.
    if body.is_end_stream() {
        return Ok(first);
    }
    let Some(second) = chunk(&mut body).await? else { return Ok(first) };
    let mut whole = BytesMut::with_capacity(announced.max(first.len() + second.len()).min(cap));
    whole.extend_from_slice(&first);
    let mut next = Some(second);
    while let Some(data) = next {
        if whole.len() + data.len() > cap {
            return Err(Denial::TooLarge.into());
        }
        whole.extend_from_slice(&data);
        next = chunk(&mut body).await?;
    }
    Ok(whole.freeze())
}

/// The next piece of data. Trailers are dropped: nobody signs them.
async fn chunk(body: &mut Incoming) -> Result<Option<Bytes>, Refusal> {
    const CUT: Refusal = Refusal::Broken(StatusCode::BAD_REQUEST, "the body is cut or malformed");
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| CUT)?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}
