//! The patterns of routes: which paths and hosts a rule is for. Paths are compared byte for byte, never decoded.

use std::borrow::Cow;
use std::fmt;

use crate::checks::syntax;

/// A path as a route writes it: `/api/v3/order`, `/v5/order/{name}`, `/sapi/**`.
///
/// `{name}` is one segment that is not empty; a trailing `/**` is one or more further segments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathPattern {
    text: Box<str>,
    /// What every matching path begins with: all up to the first `{name}` or `**`.
    prefix: Box<str>,
    /// The segments after the prefix.
    tail: Box<[Segment]>,
    /// Whether one or more segments follow.
    open: bool,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Segment {
    Literal(Box<str>),
    Any,
}

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadPattern {
    /// It does not begin with `/`.
    NoSlash,
    /// A `*` that is not a trailing `/**`.
    Star,
    /// A brace that does not enclose a whole segment's name.
    Brace,
    /// An empty segment, `.` or `..`: such requests are refused before they are routed.
    Segment,
    /// An encoded byte with which a request is refused.
    Encoded,
    /// A `{name}` that stands twice: who asks for it by name would get but one.
    Twice,
    /// A byte that no accepted path holds.
    Byte,
    /// A host that is neither a name nor `*.` and a name.
    Host,
}

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSlash => "a path begins with `/`",
            Self::Star => "`*` stands only in a trailing `/**`, for one or more further segments",
            Self::Brace => "a `{name}` takes the place of one whole segment",
            Self::Segment => {
                "an empty or dot segment: such requests are refused before they are routed"
            }
            Self::Encoded => {
                "an encoded byte that stands for itself, separates or controls: such requests are refused before they \
                 are routed"
            }
            Self::Twice => "a `{name}` stands once",
            Self::Byte => {
                "only 0x21 to 0x7e without `?`, `#`, `;` and `\\`: no other path is accepted"
            }
            Self::Host => "a host is a name, or `*.` and a name, without a port",
        })
    }
}

impl PathPattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        if !text.bytes().all(|byte| matches!(byte, 0x21..=0x7e) && !b"?#;\\".contains(&byte)) {
            return Err(BadPattern::Byte);
        }
        let inner = text.strip_prefix('/').ok_or(BadPattern::NoSlash)?;
        let (inner, open) = match inner.strip_suffix("**") {
            Some("") => (None, true),
            Some(before) => (Some(before.strip_suffix('/').ok_or(BadPattern::Star)?), true),
            None => (Some(inner), false),
        };
        let mut segments = Vec::new();
        let mut names = Vec::new();
        let mut rest = inner;
        while let Some(text) = rest {
            let (segment, after) = split(text);
            if segment.starts_with('{') {
                if names.contains(&segment) {
                    return Err(BadPattern::Twice);
                }
                names.push(segment);
            }
            segments.push(Segment::parse(segment, after.is_none() && !open)?);
            rest = after;
        }
        if text.contains('%') && syntax::target(text, "").is_err() {
            return Err(BadPattern::Encoded);
        }
        Ok(Self::of(text, segments, open))
    }

    fn of(text: &str, segments: Vec<Segment>, open: bool) -> Self {
        let literal = segments.iter().take_while(|segment| **segment != Segment::Any).count();
        let whole = literal == segments.len() && !open;
        let mut prefix = String::new();
        for segment in segments.iter().take(literal) {
            prefix.push('/');
            prefix.push_str(segment.text());
        }
        if !whole {
            prefix.push('/');
        }
        let tail = segments.into_iter().skip(literal).collect();
        Self { text: text.into(), prefix: prefix.into(), tail, open }
    }

    /// The only path that matches, if there is only one.
    pub fn exact(&self) -> Option<&str> {
        (self.tail.is_empty() && !self.open).then_some(&*self.prefix)
    }

    /// Whether a path matches.
    pub fn matches(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix(&*self.prefix) else { return false };
        if self.tail.is_empty() && !self.open {
            return rest.is_empty();
        }
        let mut rest = Some(rest);
        for segment in &self.tail {
            let Some(text) = rest else { return false };
            let (found, after) = split(text);
            if !segment.matches(found) {
                return false;
            }
            rest = after;
        }
        match rest {
            Some(more) => self.open && !more.is_empty() && !more.starts_with('/'),
            None => !self.open,
        }
    }

    /// The pattern of the [`folded`] paths.
    pub(super) fn folded(&self) -> Self {
        Self::parse(&folded(&self.text)).unwrap_or_else(|_| self.clone())
    }

    /// Whether some path could begin as both do.
    pub(super) fn may_meet(&self, other: &Self) -> bool {
        self.prefix.starts_with(&*other.prefix) || other.prefix.starts_with(&*self.prefix)
    }

    /// Whether every path that `other` matches, this one matches too.
    pub fn covers(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.segments(), other.segments());
        if theirs.len() < ours.len() {
            return false;
        }
        let (same, further) = theirs.split_at(ours.len());
        if !ours.iter().zip(same).all(|(our, their)| our.covers(their)) {
            return false;
        }
        match further.first() {
            None => self.open == other.open,
            Some(next) => self.open && *next != Segment::Literal("".into()),
        }
    }

    fn segments(&self) -> Vec<Segment> {
        let fixed =
            self.exact().unwrap_or_else(|| self.prefix.strip_suffix('/').unwrap_or_default());
        let literal = fixed.split('/').skip(1).map(|text| Segment::Literal(text.into()));
        literal.chain(self.tail.iter().cloned()).collect()
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Segment {
    fn parse(text: &str, last: bool) -> Result<Self, BadPattern> {
        let name = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        if let Some(name) = name {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
            let named = !name.is_empty() && name.bytes().all(plain);
            return if named { Ok(Self::Any) } else { Err(BadPattern::Brace) };
        }
        match text {
            _ if text.contains(['{', '}']) => Err(BadPattern::Brace),
            _ if text.contains('*') => Err(BadPattern::Star),
            "." | ".." => Err(BadPattern::Segment),
            "" if !last => Err(BadPattern::Segment),
            _ => Ok(Self::Literal(text.into())),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Literal(text) => text,
            Self::Any => "",
        }
    }

    fn matches(&self, found: &str) -> bool {
        match self {
            Self::Literal(text) => **text == *found,
            Self::Any => !found.is_empty(),
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, Self::Any) => true,
            (Self::Any | Self::Literal(_), Self::Literal(text)) => self.matches(text),
            (Self::Literal(_), Self::Any) => false,
        }
    }
}

/// A path as careless backends compare it: in lower case, without a trailing slash.
pub(super) fn folded(path: &str) -> Cow<'_, str> {
    let bare = path.strip_suffix('/').filter(|bare| !bare.is_empty()).unwrap_or(path);
    if bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(bare.to_ascii_lowercase())
    } else {
        Cow::Borrowed(bare)
    }
}

fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once('/').map_or((text, None), |(segment, after)| (segment, Some(after)))
}

/// The hosts that a route is for: compared without regard to case, ports ignored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// This name.
    Name(Box<str>),
    /// Every name below this one, at any depth, but not the name itself: `*.example.com`.
    Below(Box<str>),
}

impl HostPattern {
    /// Reads `api.example.com` or `*.example.com`.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let (name, below) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
        let literal = name.starts_with('[') && name.ends_with(']') && !below;
        if name.is_empty()
            || !name.bytes().all(allowed)
            || (!literal && name.contains(['[', ']', ':']))
        {
            return Err(BadPattern::Host);
        }
        let name = name.to_ascii_lowercase().into();
        Ok(if below { Self::Below(name) } else { Self::Name(name) })
    }

    /// Whether a host, perhaps with a port, matches.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Name(name) => without_port(host).eq_ignore_ascii_case(name),
            Self::Below(name) => {
                let host = without_port(host);
                let Some(cut) = host.len().checked_sub(name.len()) else { return false };
                let Some((below, end)) = host.split_at_checked(cut) else { return false };
                end.eq_ignore_ascii_case(name) && below.len() > 1 && below.ends_with('.')
            }
        }
    }

    /// Whether every host that `other` matches, this one matches too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (Self::Name(ours), Self::Name(theirs)) => ours == theirs,
            (Self::Below(ours), Self::Below(theirs)) => ours == theirs || self.matches(theirs),
            (Self::Below(_), Self::Name(theirs)) => self.matches(theirs),
            (Self::Name(_) | Self::Below(_), Self::Any) | (Self::Name(_), Self::Below(_)) => false,
        }
    }
}

fn without_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.split_inclusive(']').next().unwrap_or(host);
    }
    host.split(':').next().unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> PathPattern {
        PathPattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_pattern_matches_what_it_says_and_its_neighbours_not() {
        for (text, path, matches) in [
            ("/api/v3/order", "/api/v3/order", true),
            ("/api/v3/order", "/api/v3/order/", false),
            ("/api/v3/order", "/api/v3/Order", false),
            ("/api/v3/order", "/api/v3/orde%72", false),
            ("/api/v3/order", "/api/v3/order/test", false),
            ("/api/v3/order/", "/api/v3/order/", true),
            ("/", "/", true),
            ("/", "/a", false),
            ("/a/{x}", "/a/b", true),
            ("/a/{x}", "/a/", false),
            ("/a/{x}", "/a/b/", false),
            ("/a/{x}", "/a/b/c", false),
            ("/a/{x}/c", "/a/b/c", true),
            ("/a/{x}/c", "/a//c", false),
            ("/a/**", "/a/b", true),
            ("/a/**", "/a/b/c/", true),
            ("/a/**", "/a", false),
            ("/a/**", "/a/", false),
            ("/a/**", "/a//b", false),
            ("/a/**", "/ab/c", false),
            ("/a/{x}/**", "/a/b", false),
            ("/a/{x}/**", "/a/b/c", true),
            ("/**", "/x", true),
            ("/**", "/", false),
        ] {
            assert_eq!(pattern(text).matches(path), matches, "{text} {path}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", BadPattern::NoSlash),
            ("api", BadPattern::NoSlash),
            ("/a b", BadPattern::Byte),
            ("/{a}/b/{a}", BadPattern::Twice),
            ("/{a}/b/{a}/**", BadPattern::Twice),
            ("/a/%2e%2e/b", BadPattern::Encoded),
            ("/%61", BadPattern::Encoded),
            ("/a%2fb", BadPattern::Encoded),
            ("/%ff", BadPattern::Encoded),
            ("/a?b", BadPattern::Byte),
            ("/a;b", BadPattern::Byte),
            ("/a//b", BadPattern::Segment),
            ("//", BadPattern::Segment),
            ("/a/../b", BadPattern::Segment),
            ("/a/*", BadPattern::Star),
            ("/a**", BadPattern::Star),
            ("/**/a", BadPattern::Star),
            ("/a/x{b}", BadPattern::Brace),
            ("/a/{}", BadPattern::Brace),
        ] {
            assert_eq!(PathPattern::parse(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn a_host_is_compared_without_case_and_port() {
        for (text, host, matches) in [
            ("api.example.com", "API.example.com:8443", true),
            ("api.example.com", "api.example.com.", false),
            ("api.example.com", "xapi.example.com", false),
            ("*.example.com", "a.b.EXAMPLE.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "aexample.com", false),
            ("[::1]", "[::1]:8080", true),
        ] {
            assert_eq!(HostPattern::parse(text).unwrap().matches(host), matches, "{text} {host}");
        }
        for text in ["", "*.", "*", "a.*.b", "a:80", "a b", "é"] {
            assert_eq!(HostPattern::parse(text), Err(BadPattern::Host), "{text}");
        }
    }

    #[test]
    fn one_pattern_covers_another_only_if_it_takes_all_its_paths() {
        for (ours, theirs, covers) in [
            ("/a", "/a", true),
            ("/a", "/a/", false),
            ("/a/{x}", "/a/b", true),
            ("/a/{x}", "/a/{y}", true),
            ("/a/{x}", "/a/", false),
            ("/a/b", "/a/{x}", false),
            ("/a/**", "/a/b/{x}", true),
            ("/a/**", "/a/b/**", true),
            ("/a/**", "/a/**", true),
            ("/a/**", "/a/", false),
            ("/a/{x}/**", "/a/**", false),
            ("/a/{x}", "/a/**", false),
            ("/**", "/", false),
            ("/**", "/a", true),
        ] {
            assert_eq!(pattern(ours).covers(&pattern(theirs)), covers, "{ours} {theirs}");
        }
    }
}
