//! What a request claims, read by its dialect: who signed what and when. All of it unproved.

use std::ops::Range;
use std::time::Duration;

use http::Method;

use super::place::{Found, Side};
use super::reading::percent_decoded;
use super::template::{self, Sink, Values};
use super::{
    BodyKind, Dialect, Encoding, Inbound, Message, Place, Reading, Time, TimeUnit, hex_digit, place,
};
use crate::clock::Micros;
use crate::denial::{Credential, Denial};

/// What a request claims.
#[derive(Clone, Debug)]
pub struct Claim<'r> {
    /// Who says so.
    pub key_id: &'r str,
    /// When.
    pub time: Time<'r>,
    /// For how long it wants to be good.
    pub window: Duration,
    pub(crate) window_text: &'r str,
    pub(crate) signature: &'r str,
    pub(crate) passphrase: Option<&'r str>,
    /// The pair that holds the signature, which is not signed itself.
    pub(crate) cut: Option<(Side, Range<usize>)>,
    pub(crate) message: &'r Message,
}

impl Dialect {
    /// Reads who signed what, without believing it, and refuses what the signature would not cover.
    pub fn claim<'r>(&'r self, request: &Inbound<'r>) -> Result<Claim<'r>, Denial> {
        let query = request.query.unwrap_or_default();
        let message = self.message(request.method).ok_or(Denial::Malformed("method"))?;
        refuse_leftovers(message, request, query)?;
        let form = self.form(request)?;
        if !query.is_empty() && !form.is_empty() && !self.split_parameters {
            return Err(Denial::Unsigned("parameters are split over query and body"));
        }
        let [time, window, signature] = self.params(query, form)?;

        let places = [
            Some(&self.key),
            Some(&self.signature),
            Some(&self.time.place),
            self.window.place.as_ref(),
            self.passphrase.as_ref(),
        ];
        let [key_id, offered, time_text, window_text, passphrase] = place::headers(places, request);
        let value = |found: &Option<Found<'r>>| found.as_ref().map(|found| found.value);
        let key_id = key_id.single(Credential::Key)?.filter(|id| !id.is_empty());
        let key_id = key_id.ok_or(Denial::Missing(Credential::Key))?;
        let offered = match &self.signature {
            Place::Header(_) => offered.single(Credential::Signature)?,
            Place::Param(_) => value(&signature),
        };
        let offered = offered.filter(|text| !text.is_empty());
        let time_text = match &self.time.place {
            Place::Header(_) => time_text.single(Credential::Time)?,
            Place::Param(_) => value(&time),
        };
        let time_text = time_text.ok_or(Denial::Missing(Credential::Time))?;
        let window_text = match &self.window.place {
            Some(Place::Header(_)) => window_text.single(Credential::Window)?,
            Some(Place::Param(_)) => value(&window),
            None => None,
        };
        let passphrase = match &self.passphrase {
            Some(_) => {
                let text = passphrase.single(Credential::Passphrase)?;
                Some(text.ok_or(Denial::Missing(Credential::Passphrase))?)
            }
            None => None,
        };
        let claim = Claim {
            key_id,
            time: Time { text: time_text, at: self.time.unit.read(time_text)? },
            window: self.window(window_text)?,
            window_text: window_text.unwrap_or_default(),
            signature: offered.ok_or(Denial::Missing(Credential::Signature))?,
            passphrase,
            cut: signature.map(|found| (found.side, found.pair)),
            message,
        };
        self.refuse_seams(&claim, request, query)?;
        Ok(claim)
    }

    /// The key id alone, for routes that ask for no more.
    pub fn key_id<'r>(&self, request: &Inbound<'r>) -> Result<&'r str, Denial> {
        let id = self.key.in_headers(request, Credential::Key)?.filter(|id| !id.is_empty());
        id.ok_or(Denial::Missing(Credential::Key))
    }

    /// The form body as text, where the dialect has forms; empty otherwise.
    fn form<'r>(&self, request: &Inbound<'r>) -> Result<&'r str, Denial> {
        if request.body.is_empty() {
            return Ok("");
        }
        self.check_content_type(request)?;
        match self.body {
            BodyKind::Form => {
                // Unlike a target, a body may hold raw spaces and UTF-8: ccxt sends withdrawals so.
                let text = std::str::from_utf8(request.body).ok();
                text.filter(|text| !text.bytes().any(|byte| byte.is_ascii_control())).ok_or(
                    Denial::Malformed("a form body that is no UTF-8, or holds control bytes"),
                )
            }
            BodyKind::Json if matches!(request.body.first(), Some(b'{' | b'[')) => Ok(""),
            BodyKind::Json => Err(Denial::Malformed("a body that is no JSON object or array")),
        }
    }

    /// The content type is unsigned, so only the one that the dialect means may come.
    fn check_content_type(&self, request: &Inbound<'_>) -> Result<(), Denial> {
        let mut sent = request.headers.get_all(http::header::CONTENT_TYPE).iter();
        let Some(value) = sent.next() else { return Ok(()) };
        let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
        let meant = self.body.media_type().as_bytes();
        if sent.next().is_none() && essence.trim_ascii().eq_ignore_ascii_case(meant) {
            return Ok(());
        }
        Err(Denial::Unsigned("the content type is not the dialect's, and no signature covers it"))
    }

    /// Time, window and signature, where they are parameters.
    fn params<'r>(&self, query: &'r str, form: &'r str) -> Result<[Option<Found<'r>>; 3], Denial> {
        let names = [
            param(Some(&self.time.place), Credential::Time),
            param(self.window.place.as_ref(), Credential::Window),
            param(Some(&self.signature), Credential::Signature),
        ];
        if names.iter().all(Option::is_none) {
            return Ok([const { None }; 3]);
        }
        place::find(names, query, form)
    }

    fn window(&self, text: Option<&str>) -> Result<Duration, Denial> {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(self.window.default);
        };
        let window = Duration::from_micros(decimal_millis(text)?);
        if window > self.window.max { Err(Denial::WindowTooLarge) } else { Ok(window) }
    }

    /// Where the message has no separator, refuses what could be read as another request.
    fn refuse_seams(
        &self,
        claim: &Claim<'_>,
        request: &Inbound<'_>,
        query: &str,
    ) -> Result<(), Denial> {
        let seams = claim.message.seams;
        // Decoded, since some reading may sign it so.
        let decoded = || percent_decoded(query.as_bytes());
        let lengthens = |byte: u8| byte.is_ascii_digit() || byte == b'.';
        if seams.number_then_query && decoded().next().is_some_and(lengthens)
            || seams.number_then_body && request.body.first().copied().is_some_and(lengthens)
        {
            return Err(Denial::Ambiguous("digits follow a signed number without a separator"));
        }
        // A body begins with a brace or bracket, so a path and query without them cannot hold one.
        let opens = |byte: u8| matches!(byte, b'{' | b'[');
        if seams.text_then_body
            && self.body == BodyKind::Json
            && *request.method != Method::GET
            && (decoded().any(opens) || request.path.bytes().any(opens))
        {
            return Err(Denial::Ambiguous("a brace in the path or query could begin a body"));
        }
        Ok(())
    }

    /// The bytes that this request would have to sign, under each reading; none when it makes no claim.
    ///
    /// For people who look for a fault: the path of a request writes them straight into the MAC.
    pub fn signed_bytes(&self, request: &Inbound<'_>) -> Vec<(Reading, Vec<u8>)> {
        let Ok(claim) = self.claim(request) else { return Vec::new() };
        let written = |reading: &Reading| {
            let mut message = Vec::new();
            self.write_message(&claim, request, *reading, &mut message);
            (*reading, message)
        };
        let query = request.query.unwrap_or_default();
        let differs = |reading: &&Reading| **reading == Reading::Raw || reading.differs(query);
        self.readings.iter().filter(differs).map(written).collect()
    }

    /// The template of what requests of this method sign, as the recipe has it.
    pub fn template(&self, method: &Method) -> Option<&str> {
        self.message(method).map(|message| &*message.text)
    }

    /// Writes the exact bytes that the client signed, if it read its query this way.
    #[expect(clippy::unused_self, reason = "the claim borrows its message from this dialect")]
    pub(crate) fn write_message(
        &self,
        claim: &Claim<'_>,
        request: &Inbound<'_>,
        reading: Reading,
        sink: &mut impl Sink,
    ) {
        let query = request.query.unwrap_or_default();
        let values = Values {
            timestamp: claim.time.text,
            key: claim.key_id,
            window: claim.window_text,
            method: request.method.as_str(),
            host: request.host,
            path: request.path,
            query: without(query, claim.cut_in(Side::Query)),
            body: without_bytes(request.body, claim.cut_in(Side::Body)),
        };
        template::write(&claim.message.parts, &values, reading, sink);
    }
}

impl Claim<'_> {
    pub(crate) fn cut_in(&self, side: Side) -> Option<&Range<usize>> {
        self.cut.as_ref().filter(|(found, _)| *found == side).map(|(_, range)| range)
    }
}

impl BodyKind {
    /// The content type of such bodies.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Form => "application/x-www-form-urlencoded",
            Self::Json => "application/json",
        }
    }
}

impl TimeUnit {
    /// The moment that `text` names: digits only, no sign, nothing that wraps.
    fn read(self, text: &str) -> Result<Micros, Denial> {
        let garbled = Denial::Garbled(Credential::Time);
        if text.len() > 20 {
            return Err(garbled);
        }
        let number = whole_number(text).ok_or(garbled)?;
        Ok(match self {
            Self::Seconds => Micros(number.saturating_mul(1_000_000)),
            // Milliseconds reach 10^14 in the year 5138; Binance tells the units apart by size too.
            Self::MillisOrMicros if number > 100_000_000_000_000 => Micros(number),
            Self::Millis | Self::MillisOrMicros => Micros::from_millis(number),
        })
    }

    /// How `now` is written.
    pub(super) fn write(self, now: Micros) -> String {
        match self {
            Self::Seconds => (now.as_millis() / 1_000).to_string(),
            Self::Millis | Self::MillisOrMicros => now.as_millis().to_string(),
        }
    }
}

/// Milliseconds with up to three decimals, in microseconds.
fn decimal_millis(text: &str) -> Result<u64, Denial> {
    let garbled = Denial::Garbled(Credential::Window);
    let point = text.bytes().position(|byte| byte == b'.').unwrap_or(text.len());
    let (whole, decimals) = text.split_at_checked(point).ok_or(garbled)?;
    let decimals = decimals.strip_prefix('.').unwrap_or("0");
    if whole.len() > 15 || decimals.len() > 3 {
        return Err(garbled);
    }
    let scale = [1_000_u64, 100, 10, 1].get(decimals.len()).copied().unwrap_or_default();
    let (whole, decimals) = whole_number(whole).zip(whole_number(decimals)).ok_or(garbled)?;
    Ok(whole.saturating_mul(1_000).saturating_add(decimals.saturating_mul(scale)))
}

/// The number that `text` writes in digits alone; `None` when it holds anything else, nothing, or more than 64 bits.
fn whole_number(text: &str) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.bytes().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        let number = number.checked_mul(10)?.checked_add(u64::from(digit))?;
        (digit < 10).then_some(number)
    })
}

/// Whatever the message does not cover must not be there.
fn refuse_leftovers(message: &Message, request: &Inbound<'_>, query: &str) -> Result<(), Denial> {
    if !query.is_empty() && !message.signs_query {
        return Err(Denial::Unsigned("a query, which this method does not sign"));
    }
    if request.body.is_empty() {
        return Ok(());
    }
    if matches!(*request.method, Method::GET | Method::HEAD) {
        return Err(Denial::Unsigned("a body on a GET"));
    }
    if message.signs_body {
        Ok(())
    } else {
        Err(Denial::Unsigned("a body, which this method does not sign"))
    }
}

fn param(place: Option<&Place>, credential: Credential) -> Option<(&str, Credential)> {
    match place {
        Some(Place::Param(name)) => Some((name, credential)),
        Some(Place::Header(_)) | None => None,
    }
}

/// `text` without the pair at `cut`, nor the `&` that joined it, in two pieces.
pub(super) fn without<'r>(text: &'r str, cut: Option<&Range<usize>>) -> [&'r str; 2] {
    let Some(cut) = cut else { return [text, ""] };
    let before = text.get(..cut.start).unwrap_or_default();
    let after = text.get(cut.end..).unwrap_or_default();
    match before.strip_suffix('&') {
        // The `&` after the pair, if any, goes on joining what stays.
        Some(before) => [before, after],
        None => [before, after.strip_prefix('&').unwrap_or(after)],
    }
}

fn without_bytes<'r>(bytes: &'r [u8], cut: Option<&Range<usize>>) -> [&'r [u8]; 2] {
    let Some(cut) = cut else { return [bytes, b""] };
    let before = bytes.get(..cut.start).unwrap_or_default();
    let after = bytes.get(cut.end..).unwrap_or_default();
    match before.strip_suffix(b"&") {
        Some(before) => [before, after],
        None => [before, after.strip_prefix(b"&").unwrap_or(after)],
    }
}

impl Encoding {
    /// Decodes a signature into `buffer`; its length in bytes, or `None` when the text is of another alphabet.
    pub(crate) fn decode(self, text: &[u8], buffer: &mut [u8]) -> Option<usize> {
        match self {
            Self::Hex => decode_hex(text, buffer),
            Self::Base64 => {
                let length = data_encoding::BASE64.decode_len(text.len()).ok()?;
                let buffer = buffer.get_mut(..length)?;
                data_encoding::BASE64.decode_mut(text, buffer).ok()
            }
        }
    }

    /// The most bytes that `length` bytes of text can hold; padding leaves up to two fewer.
    pub(crate) const fn longest(self, length: usize) -> usize {
        match self {
            Self::Hex => length / 2,
            Self::Base64 => length / 4 * 3,
        }
    }

    /// Writes a signature as text.
    pub(crate) fn encode(self, signature: &[u8]) -> String {
        match self {
            Self::Hex => data_encoding::HEXLOWER.encode(signature),
            Self::Base64 => data_encoding::BASE64.encode(signature),
        }
    }
}

/// Pairs of digits in one pass, without a branch for each: the general decoder takes a tenth of a whole check.
#[expect(clippy::indexing_slicing, reason = "a byte never lies beyond a table of 256")]
fn decode_hex(text: &[u8], buffer: &mut [u8]) -> Option<usize> {
    let (pairs, []) = text.as_chunks() else { return None };
    let buffer = buffer.get_mut(..pairs.len())?;
    let mut all = 0;
    for (byte, [high, low]) in buffer.iter_mut().zip(pairs) {
        let (high, low) = (DIGITS[usize::from(*high)], DIGITS[usize::from(*low)]);
        all |= high | low;
        *byte = high << 4 | low;
    }
    (all != NO_DIGIT).then_some(pairs.len())
}

/// Set in no digit's value, and all of them in what is no digit.
const NO_DIGIT: u8 = u8::MAX;

/// The value of each byte as a hexadecimal digit.
#[expect(
    clippy::indexing_slicing,
    reason = "worked out by the compiler, which would not compile it"
)]
const DIGITS: [u8; 256] = {
    let mut digits = [NO_DIGIT; 256];
    let mut byte = 0_u8;
    while byte < u8::MAX {
        if let Some(digit) = hex_digit(byte) {
            digits[byte as usize] = digit;
        }
        byte += 1;
    }
    digits
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_read_as_pairs_of_digits_in_either_case_and_nothing_else() {
        for high in 0..=u8::MAX {
            for low in [b'0', b'9', b'a', b'F', b'g', b'/', b'@', 0xff] {
                let text = [b'0', b'1', high, low];
                let mut buffer = [0; 4];
                let read = decode_hex(&text, &mut buffer).map(|length| buffer[..length].to_vec());
                let expected = data_encoding::HEXLOWER_PERMISSIVE.decode(&text).ok();
                assert_eq!(read, expected, "{text:?}");
            }
        }
        assert_eq!(decode_hex(b"012", &mut [0; 4]), None);
        assert_eq!(decode_hex(b"0123", &mut [0; 1]), None);
        assert_eq!(decode_hex(b"", &mut []), Some(0));
    }

    #[test]
    fn numbers_are_digits_alone_and_fit_64_bits() {
        assert_eq!(whole_number("18446744073709551615"), Some(u64::MAX));
        assert_eq!(whole_number("007"), Some(7));
        for text in ["", "18446744073709551616", "+1", "-1", "1 ", "1.0", "\u{661}", ":", "/"] {
            assert_eq!(whole_number(text), None, "{text}");
        }
    }

    #[test]
    fn a_window_has_up_to_three_decimals() {
        for (text, micros) in [("5000", 5_000_000), ("0.5", 500), ("1.25", 1_250), ("1.001", 1_001)]
        {
            assert_eq!(decimal_millis(text), Ok(micros), "{text}");
        }
        for text in
            ["", ".", "1.", ".5", "1.0001", "1.2.3", "-1", "1e3", "\u{e9}", "1234567890123456"]
        {
            assert!(decimal_millis(text).is_err(), "{text}");
        }
    }
}
