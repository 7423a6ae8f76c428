//! The parts of a request that an HTTP message signature may cover, and the value that each one signs.

use http::HeaderName;

use super::template::Sink;
use super::{Fields, Inbound};

/// A part of a request (RFC 9421, section 2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Component {
    /// The method, as sent.
    Method,
    /// The host and port that the client addressed.
    Authority,
    /// The path, as sent.
    Path,
    /// The query, as sent, after its `?`.
    Query,
    /// Scheme, authority, path and query.
    TargetUri,
    /// Path and query, as in the request line.
    RequestTarget,
    /// A header field: its place among those that the recipe names.
    Field(u8),
}

/// The components that begin with `@`, each with its name as it stands in a list.
pub(crate) const DERIVED: [(Component, &str); 6] = [
    (Component::Method, "\"@method\""),
    (Component::Authority, "\"@authority\""),
    (Component::Path, "\"@path\""),
    (Component::Query, "\"@query\""),
    (Component::TargetUri, "\"@target-uri\""),
    (Component::RequestTarget, "\"@request-target\""),
];

/// The most header fields that a recipe may name: one bit of [`Covered`] each.
pub(crate) const MOST_FIELDS: usize = 26;

/// A set of components.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Covered(u32);

impl Covered {
    /// This set and `component`.
    #[must_use]
    pub(crate) const fn with(self, component: Component) -> Self {
        Self(self.0 | 1 << component.bit())
    }

    /// Whether `component` is in it.
    pub(crate) const fn has(self, component: Component) -> bool {
        self.0 & 1 << component.bit() != 0
    }

    /// This set with the parts that its members are made of: who signs a whole signs its parts.
    #[must_use]
    pub(crate) const fn with_parts(self) -> Self {
        let mut all = self;
        if all.has(Component::TargetUri) {
            all = all.with(Component::Authority).with(Component::RequestTarget);
        }
        if all.has(Component::RequestTarget) {
            all = all.with(Component::Path).with(Component::Query);
        }
        all
    }
}

impl Component {
    const fn bit(self) -> u32 {
        match self {
            Self::Method => 0,
            Self::Authority => 1,
            Self::Path => 2,
            Self::Query => 3,
            Self::TargetUri => 4,
            Self::RequestTarget => 5,
            // The mask keeps a shift within 32 bits whatever the number is.
            Self::Field(place) => (6 + place as u32) & 31,
        }
    }
}

/// Writes the value of a component that begins with `@`; nothing for a header field.
pub(crate) fn write_derived(
    component: Component,
    request: &Inbound<'_>,
    scheme: &str,
    sink: &mut impl Sink,
) {
    match component {
        Component::Method => sink.put(request.method.as_str().as_bytes()),
        Component::Authority => write_authority(request.host, scheme, sink),
        Component::Path => sink.put(request.path.as_bytes()),
        Component::Query => {
            // Without a query the value is the mark alone.
            sink.put(b"?");
            sink.put(request.query.unwrap_or_default().as_bytes());
        }
        Component::TargetUri => {
            sink.put(scheme.as_bytes());
            sink.put(b"://");
            write_authority(request.host, scheme, sink);
            write_target(request, sink);
        }
        Component::RequestTarget => write_target(request, sink),
        Component::Field(_) => {}
    }
}

fn write_target(request: &Inbound<'_>, sink: &mut impl Sink) {
    sink.put(request.path.as_bytes());
    if let Some(query) = request.query {
        sink.put(b"?");
        sink.put(query.as_bytes());
    }
}

/// In lower case, without the port that the scheme implies (RFC 9421, section 2.2.3).
fn write_authority(host: &str, scheme: &str, sink: &mut impl Sink) {
    let implied = if scheme == "https" { ":443" } else { ":80" };
    let host = host.strip_suffix(implied).unwrap_or(host).as_bytes();
    if host.iter().any(u8::is_ascii_uppercase) {
        for byte in host {
            sink.put(&[byte.to_ascii_lowercase()]);
        }
    } else {
        sink.put(host);
    }
}

/// Writes a header field: its lines, trimmed, with `, ` between them (RFC 9421, section 2.1).
pub(crate) fn write_field(name: &HeaderName, headers: Fields<'_>, sink: &mut impl Sink) {
    for (place, line) in headers.get_all(name).enumerate() {
        if place > 0 {
            sink.put(b", ");
        }
        sink.put(line.as_bytes().trim_ascii());
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;

    fn written(component: Component, host: &str, query: Option<&str>, scheme: &str) -> String {
        let headers = HeaderMap::new();
        let peer = std::net::Ipv4Addr::LOCALHOST.into();
        let (method, path, headers) = (&Method::POST, "/a%20b", &headers);
        let request =
            Inbound { method, path, query, host, headers: headers.into(), body: b"", peer };
        let mut out = Vec::new();
        write_derived(component, &request, scheme, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_derived_component_has_the_value_of_its_rule() {
        for (component, query, value) in [
            (Component::Method, None, "POST"),
            (Component::Path, Some("x=1"), "/a%20b"),
            (Component::Query, Some("x=%2F&y=+"), "?x=%2F&y=+"),
            (Component::Query, Some(""), "?"),
            (Component::Query, None, "?"),
            (Component::RequestTarget, Some("x=1"), "/a%20b?x=1"),
            (Component::RequestTarget, Some(""), "/a%20b?"),
            (Component::RequestTarget, None, "/a%20b"),
            (Component::TargetUri, Some("x=1"), "https://api.example/a%20b?x=1"),
            (Component::TargetUri, None, "https://api.example/a%20b"),
        ] {
            assert_eq!(written(component, "API.Example:443", query, "https"), value);
        }
    }

    #[test]
    fn an_authority_is_in_lower_case_and_without_the_port_that_its_scheme_implies() {
        for (host, scheme, value) in [
            ("WWW.Example.com", "https", "www.example.com"),
            ("example.com:443", "https", "example.com"),
            ("example.com:443", "http", "example.com:443"),
            ("example.com:80", "http", "example.com"),
            ("example.com:80", "https", "example.com:80"),
            ("example.com:8443", "https", "example.com:8443"),
            ("[::1]:443", "https", "[::1]"),
        ] {
            assert_eq!(written(Component::Authority, host, None, scheme), value, "{host} {scheme}");
        }
    }

    #[test]
    fn a_field_of_several_lines_is_trimmed_and_joined() {
        let mut headers = HeaderMap::new();
        for line in ["  max-age=60 ", "\tmust-revalidate\t", ""] {
            headers.append("cache-control", HeaderValue::from_static(line));
        }
        let mut out = Vec::new();
        write_field(&http::header::CACHE_CONTROL, (&headers).into(), &mut out);
        assert_eq!(out, b"max-age=60, must-revalidate, ");
    }

    #[test]
    fn who_signs_a_whole_signs_its_parts() {
        let parts = Covered::default().with(Component::TargetUri).with_parts();
        for component in [Component::Authority, Component::Path, Component::Query] {
            assert!(parts.has(component), "{component:?}");
        }
        assert!(!parts.has(Component::Method));
        let parts = Covered::default().with(Component::RequestTarget).with_parts();
        assert!(parts.has(Component::Query) && !parts.has(Component::Authority));
        assert!(!Covered::default().with(Component::Path).with_parts().has(Component::Query));
    }
}
