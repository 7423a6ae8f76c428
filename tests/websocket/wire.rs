//! A WebSocket client that does what it is told, right or wrong.

use data_encoding::BASE64;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::fleet::BOUND;

pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub(crate) const FIELDS: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;

/// What a server answers to a key.
pub(crate) fn accept(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64.encode(&digest.finalize())
}

/// A frame, masked as clients do.
pub(crate) fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [7, 11, 13, 17];
    let mut frame = head(0x80 | opcode, 0x80, payload.len());
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A frame as servers send it.
pub(crate) fn bare(opcode: u8, payload: &[u8]) -> Vec<u8> {
    [head(0x80 | opcode, 0, payload.len()), payload.to_vec()].concat()
}

/// The head of a frame, of which no payload need follow.
pub(crate) fn head(first: u8, mask: u8, length: usize) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..126 => head.push(mask | u8::try_from(length).unwrap()),
        126..0x1_0000 => {
            head.push(mask | 0x7e);
            head.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            head.push(mask | 0x7f);
            head.extend(u64::try_from(length).unwrap().to_be_bytes());
        }
    }
    head
}

/// One frame, unmasked; `None` where the connection has ended before another began.
pub(crate) async fn frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let mut start = [0; 2];
    stream.read_exact(&mut start).await.ok()?;
    let length = match start[1] & 0x7f {
        126 => u64::from(stream.read_u16().await.unwrap()),
        127 => stream.read_u64().await.unwrap(),
        short => u64::from(short),
    };
    let mut mask = [0; 4];
    if start[1] & 0x80 != 0 {
        stream.read_exact(&mut mask).await.unwrap();
    }
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).await.unwrap();
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Some((start[0] & 0xf, payload))
}

/// The head of an answer.
pub(crate) async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => text.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(text).unwrap()
}

pub(crate) fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

/// An open WebSocket.
pub(crate) struct Socket<S>(pub(crate) S);

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub(crate) async fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.raw(&masked(opcode, payload)).await;
    }

    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.flush().await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        timeout(BOUND, frame(&mut self.0)).await.expect("a frame, or the end")
    }

    /// What comes back for what is sent.
    pub(crate) async fn echo(&mut self, payload: &[u8]) {
        self.send(BINARY, payload).await;
        let (opcode, back) = self.next().await.unwrap();
        assert_eq!((opcode, back.len()), (BINARY, payload.len()));
        assert!(back == payload);
    }

    /// The number it is closed with, where it says one; then the connection ends.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        let closed = match self.next().await {
            None => return None,
            Some((CLOSE, payload)) => u16::from_be_bytes([payload[0], payload[1]]),
            Some((opcode, payload)) => panic!("a frame {opcode} of {} bytes", payload.len()),
        };
        assert_eq!(self.rest().await, b"");
        Some(closed)
    }

    /// All bytes until the connection ends, which it must.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = timeout(BOUND, self.0.read_to_end(&mut rest)).await.expect("it ends");
        rest
    }
}
