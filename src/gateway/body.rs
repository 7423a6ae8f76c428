//! Defeats bodies that are too large or too slow: both have a bound before the first byte is kept.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::refusal::Refusal;
use crate::denial::Denial;

/// The whole body. One that announces more than `cap` bytes is refused unread.
pub(super) async fn read(body: Incoming, cap: usize, within: Duration) -> Result<Bytes, Refusal> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > cap {
        return Err(Denial::TooLarge.into());
    }
    let slow = Refusal::Broken(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
    tokio::time::timeout(within, collect(body, announced, cap)).await.map_err(|_| slow)?
}

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
