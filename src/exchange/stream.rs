//! WebSockets of the exchange: a greeting that says who is believed to be there, then everything comes back.
//!
//! Only what an echo needs of RFC 6455 is spoken here: whole messages up to a bound, pings, and closing.

use std::io;

use ::http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use ::http::{HeaderMap, HeaderValue, Response, StatusCode};
use data_encoding::BASE64;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The answer to an opening handshake; `None` where it is none.
pub(super) fn accept<B: Default>(headers: &HeaderMap) -> Option<Response<B>> {
    let asks = headers.get(UPGRADE)?.as_bytes().eq_ignore_ascii_case(b"websocket");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| asks)?;
    let digest = Sha1::new().chain_update(key).chain_update(SALT).finalize();
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let fields = response.headers_mut();
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(SEC_WEBSOCKET_ACCEPT, BASE64.encode(&digest).parse().ok()?);
    Some(response)
}

/// Greets, and sends back what comes, until the other end closes or breaks off.
pub(super) async fn echo(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    greeting: &str,
) -> io::Result<()> {
    send(&mut stream, TEXT, greeting.as_bytes()).await?;
    loop {
        let (first, payload) = receive(&mut stream).await?;
        match first & OPCODE {
            CLOSE => {
                send(&mut stream, CLOSE, &payload).await?;
                return stream.shutdown().await;
            }
            PING => send(&mut stream, PONG, &payload).await?,
            PONG => {}
            _ => {
                write(&mut stream, first, &payload).await?;
            }
        }
    }
}

async fn send(to: &mut (impl AsyncWrite + Unpin), opcode: u8, payload: &[u8]) -> io::Result<()> {
    write(to, FINAL | opcode, payload).await
}

async fn write(to: &mut (impl AsyncWrite + Unpin), first: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ ..=125), _) => frame.push(length),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        (_, Err(_)) => {
            frame.push(127);
            frame.extend(u64::try_from(payload.len()).unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    to.write_all(&frame).await
}

/// The first byte of a client's frame, and its payload without the mask.
async fn receive(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let first = from.read_u8().await?;
    let second = from.read_u8().await?;
    let length = match second & 0x7f {
        126 => u64::from(from.read_u16().await?),
        127 => from.read_u64().await?,
        short => u64::from(short),
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= MOST);
    let (Some(length), true) = (length, second & 0x80 != 0) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let mut mask = [0; 4];
    from.read_exact(&mut mask).await?;
    let mut payload = vec![0; length];
    from.read_exact(&mut payload).await?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok((first, payload))
}

/// What RFC 6455 has a server add to a client's key.
const SALT: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const FINAL: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
/// The longest frame that is taken.
const MOST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_answered_and_anything_else_is_none() {
        let mut headers = HeaderMap::new();
        assert!(accept::<()>(&headers).is_none());
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(accept::<()>(&headers).is_none());
        headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
        let response = accept::<()>(&headers).unwrap();
        let proof = response.headers().get(SEC_WEBSOCKET_ACCEPT).unwrap();
        assert_eq!(proof, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_sent_comes_back_and_a_close_is_answered() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (here, mut there) = tokio::io::duplex(64);
            let client = async {
                // Masked with zeroes: a text, a ping, a close.
                there.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
                there.write_all(&[0x89, 0x80, 0, 0, 0, 0]).await.unwrap();
                there.write_all(&[0x88, 0x82, 0, 0, 0, 0, 3, 232]).await.unwrap();
                let mut come = Vec::new();
                there.read_to_end(&mut come).await.unwrap();
                come
            };
            let (ended, come) = tokio::join!(echo(here, "you"), client);
            ended.unwrap();
            assert_eq!(come, b"\x81\x03you\x81\x02hi\x8a\x00\x88\x02\x03\xe8");
        });
    }

    #[test]
    fn what_is_too_long_or_unmasked_ends_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for frame in [&[0x81, 0x01, b'x'][..], &[0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 1]] {
            let refused = runtime.block_on(receive(&mut &*frame)).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        }
    }
}
