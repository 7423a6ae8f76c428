//! Where the frames of a WebSocket begin and end in a stream of bytes that is passed on unread.
//!
//! A frame of the gateway's own may stand only between two of the peers'. So heads of frames are followed, payloads
//! are skipped without a look, and what a frame means is its receiver's affair.

/// Follows the frames of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Frames {
    /// What has come of a head.
    head: [u8; MOST_HEAD],
    come: usize,
    /// What is still to come of a payload.
    payload: u64,
    /// Whether a frame that closes has begun.
    closed: bool,
}

impl Frames {
    /// Whether a new frame would begin here.
    pub(super) fn is_between(&self) -> bool {
        self.come == 0 && self.payload == 0
    }

    /// Whether a frame that closes has come: no other follows it.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// These bytes have come.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = rest.get(self.step(rest)..).unwrap_or_default();
        }
    }

    /// How many of these bytes come before the next frame begins: all, where none does. 0 where it begins here.
    pub(super) fn rest(mut self, bytes: &[u8]) -> usize {
        let mut past = 0;
        while !self.is_between() && past < bytes.len() {
            past += self.step(bytes.get(past..).unwrap_or_default());
        }
        past
    }

    /// Takes bytes off the front and says how many: at least one, unless there is none.
    fn step(&mut self, bytes: &[u8]) -> usize {
        if self.payload > 0 {
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(self.payload);
            self.payload -= length;
            return usize::try_from(length).unwrap_or(bytes.len());
        }
        let Some((byte, place)) = bytes.first().zip(self.head.get_mut(self.come)) else {
            return bytes.len();
        };
        *place = *byte;
        self.come += 1;
        if let Some(payload) = payload(self.head.get(..self.come).unwrap_or_default()) {
            self.closed |= self.head.first().is_some_and(|first| first & 0xf == CLOSE);
            self.come = 0;
            self.payload = payload;
        }
        1
    }
}

/// The length of the payload that follows a head; `None` while the head is not whole.
fn payload(head: &[u8]) -> Option<u64> {
    let [_, second, rest @ ..] = head else { return None };
    let (length, rest) = match second & 0x7f {
        127 => (u64::from_be_bytes(*rest.first_chunk()?), rest.get(8..)?),
        126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), rest.get(2..)?),
        short => (u64::from(short), rest),
    };
    let is_masked = second & 0x80 != 0;
    (!is_masked || rest.len() >= 4).then_some(length)
}

/// Why the gateway closes a WebSocket, in the numbers of RFC 6455, 7.4.1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Code {
    /// Whoever closes goes away.
    Away = 1_001,
    /// What it was opened for is not allowed any more.
    Policy = 1_008,
}

impl Code {
    /// The frame that a server closes with.
    pub(super) fn frame(self) -> [u8; 4] {
        let [high, low] = (self as u16).to_be_bytes();
        [0x80 | CLOSE, 2, high, low]
    }

    /// The frame that a client closes with.
    pub(super) fn masked(self, mask: [u8; 4]) -> [u8; 8] {
        let [high, low] = (self as u16).to_be_bytes();
        let [a, b, c, d] = mask;
        [0x80 | CLOSE, 0x80 | 2, a, b, c, d, high ^ a, low ^ b]
    }
}

/// The opcode of a frame that closes.
const CLOSE: u8 = 8;
/// Two bytes, a length of eight, a mask.
const MOST_HEAD: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, masked: bool, length: usize) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match length {
            0..126 => frame.push(mask | u8::try_from(length).unwrap()),
            126..0x1_0000 => {
                frame.push(mask | 0x7e);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 0x7f);
                frame.extend(u64::try_from(length).unwrap().to_be_bytes());
            }
        }
        if masked {
            frame.extend([0x88; 4]);
        }
        // Payloads that look like heads.
        frame.resize(frame.len() + length, 0x88);
        frame
    }

    const LENGTHS: [usize; 10] = [0, 1, 2, 125, 126, 127, 300, 65_535, 65_536, 70_000];

    #[test]
    fn the_end_of_a_frame_is_found_however_its_bytes_come() {
        for masked in [false, true] {
            for length in LENGTHS {
                let bytes = frame(2, masked, length);
                for piece in [1, 2, 3, 7, 1_000, bytes.len()] {
                    let mut frames = Frames::default();
                    let mut come = 0;
                    for piece in bytes.chunks(piece) {
                        frames.pass(piece);
                        come += piece.len();
                        let whole = come == bytes.len();
                        assert_eq!(frames.is_between(), whole, "{masked} {length} at {come}");
                    }
                    assert!(!frames.is_closed(), "what is in a payload is no head");
                }
            }
        }
    }

    #[test]
    fn the_rest_of_a_frame_ends_where_the_next_begins() {
        let (first, second) = (frame(1, false, 300), frame(2, false, 5));
        let both = [first.clone(), second].concat();
        for cut in 1..first.len() {
            let mut frames = Frames::default();
            frames.pass(&both[..cut]);
            assert_eq!(frames.rest(&both[cut..]), first.len() - cut, "{cut}");
            assert_eq!(frames.rest(&both[cut..first.len() - 1]), first.len() - 1 - cut, "{cut}");
        }
        assert_eq!(Frames::default().rest(&both), 0);
    }

    #[test]
    fn a_frame_that_closes_is_noticed_and_ours_are_such() {
        for bytes in [Code::Policy.frame().to_vec(), Code::Away.masked([1, 2, 3, 4]).to_vec()] {
            let mut frames = Frames::default();
            frames.pass(&frame(1, false, 10));
            assert!(!frames.is_closed());
            frames.pass(&bytes);
            assert!(frames.is_closed() && frames.is_between());
        }
        assert_eq!(Code::Policy.frame()[2..], 1_008_u16.to_be_bytes());
        let masked = Code::Away.masked([1, 2, 3, 4]);
        assert_eq!([masked[6] ^ 1, masked[7] ^ 2], 1_001_u16.to_be_bytes());
    }

    #[test]
    fn a_length_beyond_all_that_can_come_overflows_nothing() {
        let mut frames = Frames::default();
        frames.pass(&[0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255]);
        frames.pass(&[0; 1_000]);
        assert!(!frames.is_between());
    }
}
