//! Requests as written: a method, a target and a body that may hold `{n}` and `{id}`.

use std::fmt::Write as _;

use http::Method;

use super::LoadError;
use crate::dialect::{BodyKind, Dialect, Fate, Fields, Inbound, Message};

/// A request to send again and again, unique each time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    pub(super) method: Method,
    path: Text,
    query: Text,
    body: Text,
}

impl Template {
    /// Reads `METHOD /path?query`, and a body.
    ///
    /// `{n}` is the number of the request in this run, from 0; `{id}` is unique among all runs, of at most 36
    /// letters, digits and `-`. Other braces mean themselves.
    pub fn parse(request: &str, body: &str) -> Result<Self, String> {
        let (method, target) = request
            .trim()
            .split_once(' ')
            .ok_or_else(|| format!("`{request}` is no request: write `GET /path?query`"))?;
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| format!("`{method}` is no method"))?;
        let target = target.trim();
        if !target.starts_with('/') || target.contains([' ', '#']) {
            return Err(format!(
                "`{target}` is no target: it begins with `/`, without spaces or `#`"
            ));
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Ok(Self {
            method,
            path: Text::parse(path),
            query: Text::parse(query),
            body: Text::parse(body),
        })
    }

    /// Reads one request a line, `METHOD /path?query BODY` with the body left out where there is none.
    ///
    /// Empty lines and lines that begin with `#` are skipped.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let template = |(place, line): (usize, &str)| {
            let mut words = line.splitn(3, ' ');
            let head = [words.next(), words.next()].map(Option::unwrap_or_default).join(" ");
            Self::parse(&head, words.next().unwrap_or_default())
                .map_err(|error| format!("line {}: {error}", place + 1))
        };
        lines.map(template).collect()
    }

    /// Adds a parameter with `{id}` where no signed part holds `{n}` or `{id}`.
    pub(super) fn make_unique(&mut self, dialect: &Dialect) -> Result<(), String> {
        let (signs_query, signs_body) = match self.message(dialect) {
            Some(message) => (message.query == Fate::Signed, message.entity == Fate::Signed),
            // What has no message signs everything.
            None => (true, true),
        };
        let varies = |text: &Text, signed: bool| signed && text.varies();
        if varies(&self.query, signs_query) || varies(&self.body, signs_body) {
            return Ok(());
        }
        let form = dialect.body == BodyKind::Form && !self.body.is_empty();
        let text = match (form, signs_query) {
            (true, _) => &mut self.body,
            (false, true) => &mut self.query,
            // A nonce of its own tells each apart.
            (false, false) if dialect.nonce_kind().is_some() => return Ok(()),
            (false, false) => {
                return Err(format!(
                    "the dialect signs the body alone of {}: write {{id}} into the body, so that no two requests are the same",
                    self.method
                ));
            }
        };
        text.push_literal(if text.is_empty() { "_=" } else { "&_=" });
        text.0.push(Piece::Id);
        Ok(())
    }

    /// What such a request signs.
    fn message<'d>(&self, dialect: &'d Dialect) -> Option<&'d Message> {
        let mut filled = Filled::default();
        self.fill("", 0, &mut filled);
        let request = Inbound {
            method: &self.method,
            path: &filled.path,
            query: None,
            host: "",
            headers: Fields::default(),
            body: filled.body.as_bytes(),
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        dialect.message_for(&request)
    }

    /// Writes request number `n` of the run called `run`.
    pub(super) fn fill(&self, run: &str, n: u64, into: &mut Filled) {
        self.path.fill(run, n, &mut into.path);
        self.query.fill(run, n, &mut into.query);
        self.body.fill(run, n, &mut into.body);
    }
}

/// The texts of one request; the memory is used again for the next.
#[derive(Debug, Default)]
pub(super) struct Filled {
    pub(super) path: String,
    pub(super) query: String,
    pub(super) body: String,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Text(Vec<Piece>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    Literal(String),
    Number,
    Id,
}

impl Text {
    fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            parsed.push_literal(before);
            rest = if let Some(after) = after.strip_prefix("n}") {
                parsed.0.push(Piece::Number);
                after
            } else if let Some(after) = after.strip_prefix("id}") {
                parsed.0.push(Piece::Id);
                after
            } else {
                parsed.push_literal("{");
                after
            };
        }
        parsed.push_literal(rest);
        parsed
    }

    fn push_literal(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Literal(last)) => last.push_str(text),
            Some(Piece::Number | Piece::Id) | None => self.0.push(Piece::Literal(text.into())),
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn varies(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Number | Piece::Id))
    }

    fn fill(&self, run: &str, n: u64, into: &mut String) {
        into.clear();
        for piece in &self.0 {
            match piece {
                Piece::Literal(text) => into.push_str(text),
                // Writing to a String cannot fail.
                Piece::Number => drop(write!(into, "{n}")),
                Piece::Id => drop(write!(into, "{run}-{n}")),
            }
        }
    }
}

/// A name for this run: 8 random hexadecimal digits, so that the ids of two runs differ.
pub(super) fn run_id() -> Result<String, LoadError> {
    let mut random = [0; 4];
    getrandom::fill(&mut random)
        .map_err(|error| LoadError::Start(std::io::Error::other(error.to_string())))?;
    Ok(data_encoding::HEXLOWER.encode(&random))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::dialect::builtin;

    fn filled(template: &Template, n: u64) -> Filled {
        let mut into = Filled::default();
        template.fill("cafe0123", n, &mut into);
        into
    }

    fn unique(request: &str, body: &str, dialect: &str) -> Result<Template, String> {
        let mut template = Template::parse(request, body)?;
        template.make_unique(&builtin(dialect).unwrap().unwrap())?;
        Ok(template)
    }

    #[test]
    fn places_are_filled_and_other_braces_stay() {
        let template =
            Template::parse("POST /order/{n}?a={id}", r#"{"id":"{id}","x":{"n":{n}}}"#).unwrap();
        let texts = filled(&template, 7);
        assert_eq!(texts.path, "/order/7");
        assert_eq!(texts.query, "a=cafe0123-7");
        assert_eq!(texts.body, r#"{"id":"cafe0123-7","x":{"n":7}}"#);
    }

    #[test]
    fn ten_thousand_ids_are_all_different_and_short_enough_for_order_ids() {
        let template = Template::parse("GET /x?id={id}", "").unwrap();
        let ids: HashSet<_> = (0..10_000).map(|n| filled(&template, n).query).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(filled(&template, u64::MAX).query.len() <= "id=".len() + 36);
    }

    #[test]
    fn a_template_that_never_varies_gets_a_parameter_where_it_is_signed() {
        for (request, body, dialect, query, filled_body) in [
            ("GET /a", "", "binance", "_=cafe0123-0", ""),
            ("GET /a?x=1", "", "bybit", "x=1&_=cafe0123-0", ""),
            ("POST /a", "x=1", "binance", "", "x=1&_=cafe0123-0"),
            ("POST /a", "{}", "bitget", "_=cafe0123-0", "{}"),
            ("POST /a", r#"{"a":{n}}"#, "bybit", "", r#"{"a":0}"#),
            ("GET /{n}", "", "binance", "_=cafe0123-0", ""),
            ("GET /a?x={n}", "", "binance", "x=0", ""),
        ] {
            let texts = filled(&unique(request, body, dialect).unwrap(), 0);
            assert_eq!((&*texts.query, &*texts.body), (query, filled_body), "{request} {dialect}");
        }
    }

    #[test]
    fn a_body_that_never_varies_is_refused_where_it_alone_is_signed() {
        assert!(unique("POST /a", "{}", "bybit").unwrap_err().contains("{id}"));
    }

    #[test]
    fn what_has_a_nonce_of_its_own_needs_no_parameter() {
        let token = unique("GET /accounts", "", "coinbase_jwt").unwrap();
        assert_eq!(filled(&token, 0).query, "");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for request in ["", "GET", "GET api", "G@T /", "GET /a b", "GET /a#b"] {
            assert!(Template::parse(request, "").is_err(), "{request}");
        }
    }

    #[test]
    fn a_file_holds_one_request_a_line() {
        let all = Template::parse_all("# a mix\nGET /a?x=1\n\nPOST /b {\"a\": {n}}\n").unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(filled(&all[1], 3).body, "{\"a\": 3}");
        assert!(Template::parse_all("GET /a\nnothing").unwrap_err().starts_with("line 2"));
    }
}
