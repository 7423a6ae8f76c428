//! Where a credential travels, and how to find exactly one of it.

use std::fmt;
use std::ops::Range;

use http::HeaderName;
use http::header::AUTHORIZATION;

use super::Inbound;
use super::pairs::{Side, decodes_to, is_named, parted};
use crate::denial::{Credential, Denial};

/// Where a recipe says that a credential travels.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// In a header field.
    Header(HeaderName),
    /// In a header field, after a word and a space.
    After(HeaderName, Box<str>),
    /// In a parameter of the query or of the form body; in a dialect that also has JSON bodies, in a top-level
    /// member of one.
    Param(Box<str>),
    /// In a top-level member of the JSON body, or of the JSON payload where the dialect has one.
    Field(Box<str>),
    /// In a `name=value` item of the `Authorization` header field.
    Auth(Box<str>),
    /// In a member of the token's header.
    TokenHeader(Box<str>),
    /// In a member of the token's payload.
    TokenPayload(Box<str>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header {name}"),
            Self::After(name, word) => write!(f, "header {name} after \"{word}\""),
            Self::Param(name) => write!(f, "param {name}"),
            Self::Field(name) => write!(f, "field {name}"),
            Self::Auth(name) => write!(f, "auth {name}"),
            Self::TokenHeader(name) => write!(f, "token header {name}"),
            Self::TokenPayload(name) => write!(f, "token payload {name}"),
        }
    }
}

impl Place {
    /// Reads `header NAME`, `header NAME after "WORD"`, `param NAME`, `field NAME`, `auth NAME`, `token header NAME`
    /// or `token payload NAME`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once(' ').unwrap_or((text, ""));
        let plain = |what: &str| {
            let named = || format!("`{name}` is no {what} name of letters, digits, - and _");
            is_plain(name).then(|| name.into()).ok_or_else(named)
        };
        match kind {
            "header" => match name.split_once(" after ") {
                None => header(name).map(Self::Header),
                Some((name, word)) => Ok(Self::After(header(name)?, quoted(word)?.into())),
            },
            "param" => plain("parameter").map(Self::Param),
            "field" => plain("field").map(Self::Field),
            "auth" => plain("item").map(Self::Auth),
            "token" => Self::in_token(name).ok_or_else(|| {
                format!("`{text}` is no place: write `token header NAME` or `token payload NAME`")
            }),
            _ => Err(format!(
                "`{text}` is no place: write `header NAME`, `header NAME after \"WORD\"`, `param NAME`, `field NAME`, `auth NAME` or `token payload NAME`"
            )),
        }
    }

    fn in_token(text: &str) -> Option<Self> {
        let (part, name) = text.split_once(' ').filter(|(_, name)| is_plain(name))?;
        match part {
            "header" => Some(Self::TokenHeader(name.into())),
            "payload" => Some(Self::TokenPayload(name.into())),
            _ => None,
        }
    }

    /// The header field that it stands in, if it stands in one.
    pub fn header(&self) -> Option<&HeaderName> {
        match self {
            Self::Header(name) | Self::After(name, _) => Some(name),
            Self::Auth(_) | Self::TokenHeader(_) | Self::TokenPayload(_) => Some(&AUTHORIZATION),
            Self::Param(_) | Self::Field(_) => None,
        }
    }
}

fn header(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes())
        .map_err(|_| format!("`{name}` is no header name"))
}

fn quoted(word: &str) -> Result<&str, String> {
    let inner = word.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner
        .filter(|word| is_plain(word))
        .ok_or_else(|| format!("`{word}` is no word in quotes, as in `after \"BITSTAMP\"`"))
}

/// What a request offers of each credential, as text; and where the signature's pair stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Offers<'r> {
    texts: [Option<&'r str>; Credential::COUNT],
    /// The pair that holds the signature, which is not signed itself.
    pub(super) cut: Option<(Side, Range<usize>)>,
}

impl<'r> Offers<'r> {
    pub(super) fn of(&self, credential: Credential) -> Option<&'r str> {
        self.texts.get(credential.index()).copied().flatten()
    }

    pub(super) fn put(&mut self, credential: Credential, text: &'r str) -> Result<(), Denial> {
        let Some(slot) = self.texts.get_mut(credential.index()) else { return Ok(()) };
        if slot.replace(text).is_some() { Err(Denial::Twice(credential)) } else { Ok(()) }
    }
}

/// Where each credential of a dialect travels, by kind of place.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    headers: Box<[InHeader]>,
    /// How long their names are.
    lengths: Few,
    pub(super) params: Box<[(Credential, Box<str>)]>,
    /// How their names begin.
    initials: Few,
    pub(super) fields: Box<[(Credential, Box<str>)]>,
    items: Box<[(Credential, Box<str>)]>,
    /// The scheme of the `Authorization` header field that holds the items.
    scheme: Box<str>,
}

/// A credential in a header field: the field's name, and the word before the value.
type InHeader = (Credential, Box<str>, Box<str>);

impl Places {
    pub(super) fn new<'p>(
        all: impl Iterator<Item = (Credential, &'p Place)>,
        scheme: Option<&str>,
    ) -> Self {
        let (mut headers, mut params) = (Vec::new(), Vec::new());
        let (mut fields, mut items) = (Vec::new(), Vec::new());
        for (credential, place) in all {
            match place.clone() {
                Place::Header(name) => headers.push((credential, name.as_str().into(), "".into())),
                Place::After(name, word) => {
                    headers.push((credential, name.as_str().into(), word));
                }
                Place::Param(name) => params.push((credential, name)),
                Place::Field(name) => fields.push((credential, name)),
                Place::Auth(name) => items.push((credential, name)),
                // Read with the token, which stands where the signature does.
                Place::TokenHeader(_) | Place::TokenPayload(_) => {}
            }
        }
        let length = |(_, name, _): &InHeader| name.len();
        let initial = |(_, name): &(Credential, Box<str>)| {
            name.as_bytes().first().copied().map_or(0, usize::from)
        };
        Self {
            lengths: headers.iter().map(length).collect(),
            headers: headers.into(),
            initials: params.iter().map(initial).collect(),
            params: params.into(),
            fields: fields.into(),
            items: items.into(),
            scheme: scheme.unwrap_or_default().into(),
        }
    }

    /// Reads what stands in the headers, in one pass: a look-up by hash costs more for each than all of this.
    pub(super) fn in_headers<'r>(
        &self,
        request: &Inbound<'r>,
        offers: &mut Offers<'r>,
    ) -> Result<(), Denial> {
        let mut is_authorized = false;
        for (name, value) in request.headers.iter() {
            let text = name.as_str();
            // Most have the name of none, which their length tells.
            if self.lengths.may_hold(text.len()) {
                let wanted = self.headers.iter().filter(|(_, wanted, _)| **wanted == *text);
                for (credential, _, word) in wanted {
                    let value = value.to_str().ok_or(Denial::Garbled(*credential))?;
                    let value = after_word(value, word).ok_or(Denial::Garbled(*credential))?;
                    offers.put(*credential, value)?;
                }
            }
            if !self.items.is_empty() && *name == AUTHORIZATION {
                // Whoever reads the other would take it for what was proved, be it of another scheme.
                if std::mem::replace(&mut is_authorized, true) {
                    return Err(Denial::Twice(Credential::Signature));
                }
                let value = value.to_str().ok_or(Denial::Garbled(Credential::Signature))?;
                self.in_items(value, offers)?;
            }
        }
        Ok(())
    }

    /// Reads `name=value` items, separated by commas. A header field of another scheme offers nothing.
    fn in_items<'r>(&self, value: &'r str, offers: &mut Offers<'r>) -> Result<(), Denial> {
        let Some(items) = after_word(value, &self.scheme) else { return Ok(()) };
        for item in items.split(',') {
            let (name, value) = item.trim().split_once('=').unwrap_or((item.trim(), ""));
            let wanted = self.items.iter().find(|(_, wanted)| **wanted == *name);
            let (credential, _) =
                wanted.ok_or(Denial::Malformed("an unknown item in the authorization header"))?;
            offers.put(*credential, value)?;
        }
        Ok(())
    }

    /// Finds the named parameters in one pass over query and form body; each may occur once in all.
    ///
    /// A name spelled with `%XX` counts as the name it decodes to, since a backend would read it so.
    pub(super) fn in_params<'r>(
        &self,
        query: &'r str,
        form: &'r str,
        offers: &mut Offers<'r>,
    ) -> Result<(), Denial> {
        if self.params.is_empty() {
            return Ok(());
        }
        for (side, text) in [(Side::Query, query), (Side::Body, form)] {
            if text.is_empty() {
                continue;
            }
            let escaped = memchr::memchr(b'%', text.as_bytes()).is_some();
            let mut start = 0;
            for end in memchr::memchr_iter(b'&', text.as_bytes()).chain([text.len()]) {
                let first = text.as_bytes().get(start).copied().unwrap_or_default();
                // Most pairs are none of these, which their first byte tells.
                if escaped || self.initials.may_hold(usize::from(first)) {
                    self.in_pair((text, start..end), side, escaped, offers)?;
                }
                start = end + 1;
            }
        }
        Ok(())
    }

    /// Takes a pair of a query or form, if it is wanted.
    fn in_pair<'r>(
        &self,
        (text, range): (&'r str, Range<usize>),
        side: Side,
        escaped: bool,
        offers: &mut Offers<'r>,
    ) -> Result<(), Denial> {
        let pair = text.get(range.clone()).unwrap_or_default();
        let named = |wanted: &str| {
            // No such name holds a `=`.
            is_named(pair, wanted).then(|| pair.get(wanted.len() + 1..).unwrap_or_default())
        };
        let spelled = |wanted: &str| {
            let (name, value) = escaped.then(|| parted(pair))?;
            decodes_to(name, wanted).then_some(value)
        };
        let found = self.params.iter().find_map(|(credential, wanted)| {
            Some((*credential, named(wanted).or_else(|| spelled(wanted))?))
        });
        let Some((credential, value)) = found else { return Ok(()) };
        offers.put(credential, value)?;
        if credential == Credential::Signature {
            offers.cut = Some((side, range));
        }
        Ok(())
    }
}

/// Numbers of which few are in it: it tells most others at once.
#[derive(Clone, Copy, Debug, Default)]
struct Few(u64);

impl Few {
    /// Whether it may hold `number`; if it does not say so, it does not.
    const fn may_hold(self, number: usize) -> bool {
        self.0 >> (number % 64) & 1 != 0
    }
}

impl FromIterator<usize> for Few {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        Self(numbers.into_iter().fold(0, |all, number| all | 1 << (number % 64)))
    }
}

/// What follows `word` and a space; all of `value` where there is no word.
fn after_word<'r>(value: &'r str, word: &str) -> Option<&'r str> {
    if word.is_empty() {
        return Some(value);
    }
    value.strip_prefix(word)?.strip_prefix(' ').map(str::trim_start)
}

pub(super) fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !name.is_empty() && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;

    fn find<'r>(query: &'r str, body: &'r str) -> Result<Offers<'r>, Denial> {
        let place = Place::parse("param signature").unwrap();
        let places = Places::new([(Credential::Signature, &place)].into_iter(), None);
        let mut offers = Offers::default();
        places.in_params(query, body, &mut offers).map(|()| offers)
    }

    #[test]
    fn a_parameter_is_found_wherever_it_stands() {
        for (query, pair) in [
            ("signature=ab&b=2", 0..12),
            ("a=1&signature=ab", 4..16),
            ("a=1&signature=ab&b=2", 4..16),
        ] {
            let found = find(query, "").unwrap();
            assert_eq!(found.of(Credential::Signature), Some("ab"), "{query}");
            assert_eq!(found.cut, Some((Side::Query, pair)), "{query}");
        }
        assert_eq!(find("", "a=1&signature=ab").unwrap().cut, Some((Side::Body, 4..16)));
    }

    #[test]
    fn a_parameter_given_twice_is_refused_however_it_is_spelled() {
        for (query, body) in [
            ("signature=a&signature=a", ""),
            ("signature=a", "signature=a"),
            ("signature=a&%73ignature=b", ""),
            ("signature=a&signatur%65", ""),
        ] {
            let twice = Denial::Twice(Credential::Signature);
            assert_eq!(find(query, body).unwrap_err(), twice, "{query} {body}");
        }
        let other = find("Signature=a&xsignature=b", "").unwrap();
        assert_eq!(other.of(Credential::Signature), None);
    }

    #[test]
    fn places_are_written_as_they_are_read() {
        for text in
            ["header x-a", "header x-auth after \"BITSTAMP\"", "param a_b", "field sig", "auth ts"]
        {
            assert_eq!(Place::parse(text).unwrap().to_string(), text);
        }
        for text in
            ["", "header", "header a b", "header x after BITSTAMP", "param a b", "cookie a", "auth"]
        {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn items_of_the_authorization_header_are_read_in_any_order_and_once() {
        let (id, ts) = (Place::parse("auth id").unwrap(), Place::parse("auth ts").unwrap());
        let all = [(Credential::Key, &id), (Credential::Time, &ts)];
        let places = Places::new(all.into_iter(), Some("deri"));
        let read = |value| {
            let mut offers = Offers::default();
            places.in_items(value, &mut offers).map(|()| offers)
        };
        for value in ["deri id=a,ts=1", "deri ts=1, id=a"] {
            let offers = read(value).unwrap();
            assert_eq!(
                offers.of(Credential::Key).zip(offers.of(Credential::Time)),
                Some(("a", "1"))
            );
        }
        assert_eq!(read("Basic aWQ6").unwrap().of(Credential::Key), None);
        for value in ["deri id=a,id=b", "deri id=a,x=b", "deri id=a,"] {
            assert!(read(value).is_err(), "{value}");
        }
    }

    #[test]
    fn a_second_authorization_is_refused_whatever_its_scheme() {
        let id = Place::parse("auth id").unwrap();
        let places = Places::new([(Credential::Key, &id)].into_iter(), Some("deri"));
        let refused = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            let (method, headers, body) = (&Method::GET, (&headers).into(), &b""[..]);
            let peer = std::net::Ipv4Addr::LOCALHOST.into();
            let request =
                Inbound { method, path: "/", query: None, host: "a", headers, body, peer };
            places.in_headers(&request, &mut Offers::default()).err()
        };
        assert_eq!(refused(&["deri id=a"]), None);
        for other in ["deri id=b", "Basic aWQ6", "x"] {
            for values in [["deri id=a", other], [other, "deri id=a"]] {
                let twice = Some(Denial::Twice(Credential::Signature));
                assert_eq!(refused(&values), twice, "{values:?}");
            }
        }
    }
}
