//! From a recipe and a request to the steps that sign it.

use super::script::{Fresh, Piece, Pieces, ReplyCheck, Script, Step, Var, Writing, joined};
use super::{Unwritable, message, token};
use crate::dialect::template::{Field, Inner, Part};
use crate::dialect::{
    Dialect, Draft, Encoding, Inbound, Marks, NonceKind, Place, ReplyRule, Scheme, SecretForm,
    SignedRequest, Style, TimeKind, TimeUnit, json,
};
use crate::key::Algorithm;

/// The script of `draft`, sent to `base`.
pub(super) fn plan(
    dialect: &Dialect,
    algorithm: Algorithm,
    draft: &Draft<'_>,
    base: &str,
) -> Result<Script, Unwritable> {
    let encoding = dialect.encodings.iter().find(|(known, _)| *known == algorithm);
    let (_, encoding) = encoding.ok_or(Unwritable::Algorithm(algorithm))?;
    let marks = Marks { algorithm, ..MARKS };
    let unsigned = dialect.outline(draft, &marks, "").map_err(Unwritable::Draft)?;
    let signed = dialect.outline(draft, &marks, SIGNATURE).map_err(Unwritable::Draft)?;

    let mut script = Script {
        title: dialect.title().to_owned(),
        base: base.to_owned(),
        method: draft.method.to_string(),
        has_passphrase: dialect.has_passphrase(),
        secret_in_base64: dialect.secret_form() == SecretForm::Base64 && algorithm.is_symmetric(),
        algorithm,
        writing: match encoding {
            Encoding::Hex => Writing::Hex,
            Encoding::Base64 => Writing::Base64,
            Encoding::Base64Url => Writing::Base64Url,
        },
        before: vec![Step::Let(Var::Path, vec![Piece::Text(draft.path.to_owned())])],
        message: Vec::new(),
        after: Vec::new(),
        headers: Vec::new(),
        has_query: signed.target.contains('?'),
        has_body: !signed.body.is_empty(),
        reply: dialect.replies.as_ref().map(|rule| reply_check(dialect, rule)),
    };
    if let Scheme::Signatures(_) = &dialect.scheme {
        message::fill(dialect, draft, &mut script)?;
        return Ok(script);
    }
    fill(dialect, draft, [&unsigned, &signed], &mut script)?;
    if dialect.time_kind() == TimeKind::Deadline {
        script.rename(Var::Timestamp, Var::Expires);
    }
    Ok(script)
}

/// Puts the steps for `draft` into `script`, where the request is to be `unsigned` and then `signed`.
fn fill(
    dialect: &Dialect,
    draft: &Draft<'_>,
    [unsigned, signed]: [&SignedRequest; 2],
    script: &mut Script,
) -> Result<(), Unwritable> {
    let text = Texts { dialect, script, signed, draft };
    if let Scheme::Token(tokens) = &dialect.scheme {
        let before = text.before(unsigned);
        let headers = token::headers(text.headers());
        let steps = token::steps(dialect, &tokens.rule, script.algorithm, draft, before);
        script.headers = headers;
        script.before.extend(steps);
        script.message = vec![Piece::Var(Var::Token)];
        return Ok(());
    }
    let message = text.message(draft)?;
    let before = text.before(unsigned);
    let after = text.after(unsigned);
    let headers = text.headers();
    script.before.extend(before);
    script.after.extend(after);
    script.message = message;
    script.headers = headers;
    Ok(())
}

fn reply_check(dialect: &Dialect, rule: &ReplyRule) -> ReplyCheck {
    let piece = |part: &Part| match part {
        Part::Literal(text) => Piece::Text(text.to_string()),
        Part::Field(Field::Nonce) => Piece::Var(Var::Nonce),
        // A recipe has no other field there.
        Part::Field(_) | Part::Merged(_) | Part::Member(_) | Part::Params(_) | Part::Digest(..) => {
            Piece::Var(Var::Timestamp)
        }
    };
    ReplyCheck {
        header: dialect.spelled(&rule.header),
        start: rule.start().iter().map(piece).collect(),
        signs_type: rule.signs_type,
    }
}

struct Texts<'a> {
    dialect: &'a Dialect,
    script: &'a Script,
    signed: &'a SignedRequest,
    draft: &'a Draft<'a>,
}

impl Texts<'_> {
    fn before(&self, unsigned: &SignedRequest) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.signs(Field::Host) {
            steps.push(Step::Let(Var::Host, vec![Piece::Text(self.draft.host.to_owned())]));
        }
        if let Some(rule) = &self.dialect.time {
            let ahead = if rule.kind == TimeKind::Deadline { self.draft.lead_ms } else { 0 };
            steps.push(Step::Clock(Var::Timestamp, rule.unit, ahead));
        }
        if let Some(rule) = &self.dialect.nonce {
            let in_token = matches!(rule.place, Place::TokenHeader(_) | Place::TokenPayload(_));
            steps.push(Step::Nonce(match rule.kind {
                NonceKind::None if in_token => Fresh::Uuid,
                NonceKind::Unique => Fresh::Uuid,
                NonceKind::Growing | NonceKind::None => Fresh::Clock,
            }));
        }
        if self.dialect.passphrase.as_ref().is_some_and(|rule| rule.keyed.is_some()) {
            steps.push(Step::KeyedPassphrase);
        }
        if let Some((_, query)) = unsigned.target.split_once('?') {
            steps.push(Step::Let(Var::Query, self.pieces(query)));
            if self.dialect.sorts() {
                steps.push(Step::Let(Var::Query, vec![Piece::Sorted(Var::Query, None)]));
            }
        }
        if let Some((opening, content, _)) = self.joined(unsigned) {
            steps.push(Step::Let(Var::Opening, self.pieces(opening)));
            steps.push(Step::Let(Var::Content, self.pieces(content)));
            steps.push(Step::Let(
                Var::Body,
                vec![Piece::Var(Var::Opening), Piece::Var(Var::Content)],
            ));
        } else if self.script.has_body {
            steps.push(Step::Let(Var::Body, self.pieces(&unsigned.body)));
        }
        if self.dialect.payload_header().is_some() {
            let body = vec![Piece::Var(Var::Body)];
            steps.push(Step::Let(Var::Payload, vec![Piece::Base64(body)]));
        }
        steps
    }

    /// What the signature is put into, where that is no header field.
    fn after(&self, unsigned: &SignedRequest) -> Vec<Step> {
        let query = |target: &str| target.split_once('?').map(|(_, query)| query.to_owned());
        let mut steps = Vec::new();
        let sides = [
            (Var::Query, query(&unsigned.target), query(&self.signed.target)),
            (Var::Body, Some(unsigned.body.clone()), Some(self.signed.body.clone())),
        ];
        for (var, before, after) in sides {
            let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
            if before == after {
                continue;
            }
            if let (Var::Body, Some((_, _, member))) = (var, self.joined(unsigned)) {
                let mut pieces = vec![Piece::Var(Var::Opening)];
                pieces.extend(self.pieces(member));
                pieces.push(Piece::Var(Var::Content));
                steps.push(Step::Let(Var::Body, pieces));
                continue;
            }
            steps.push(Step::Let(
                var,
                match after.strip_prefix(&*before) {
                    Some(added) if !before.is_empty() => {
                        [vec![Piece::Var(var)], self.pieces(added)].concat()
                    }
                    Some(_) | None => self.pieces(&after),
                },
            ));
        }
        steps
    }

    /// Where the signature joins a JSON body as a member: what stands before and after it, and the member.
    fn joined<'a>(&'a self, unsigned: &'a SignedRequest) -> Option<(&'a str, &'a str, &'a str)> {
        let (before, after) = (&*unsigned.body, &*self.signed.body);
        let place = after.find(SIGNATURE).filter(|_| before.starts_with('{'))?;
        let start = after.get(..place)?.rfind(",\"").map(|comma| comma + 1)?;
        let (opening, rest) = after.split_at_checked(start)?;
        let content = before.strip_prefix(opening)?;
        Some((opening, content, rest.strip_suffix(content)?))
    }

    fn headers(&self) -> Vec<(String, Pieces)> {
        let payload = self.dialect.payload_header();
        let fields = self.signed.headers.iter().map(|(name, value)| {
            let value = if payload == Some(name) {
                vec![Piece::Var(Var::Payload)]
            } else {
                plain(value.to_str().unwrap_or_default())
            };
            (self.dialect.spelled(name), value)
        });
        fields.collect()
    }

    /// Text of a query or body, in which values that need it are percent-encoded.
    fn pieces(&self, text: &str) -> Pieces {
        let iso = |unit| matches!(unit, TimeUnit::Iso | TimeUnit::IsoSeconds);
        let special = |var| {
            var == Var::Timestamp && self.dialect.time.as_ref().is_some_and(|rule| iso(rule.unit))
                || var == Var::Signature && self.script.writing == Writing::Base64
        };
        let escaped = |piece| {
            if let Piece::Var(var) = piece
                && special(var)
            {
                Piece::Escaped(var)
            } else {
                piece
            }
        };
        plain(text).into_iter().map(escaped).collect()
    }

    fn parts(&self) -> Option<&[Part]> {
        let request = Inbound {
            method: &self.draft.method,
            path: self.draft.path,
            query: None,
            host: self.draft.host,
            headers: crate::dialect::Fields::default(),
            body: self.signed.body.as_bytes(),
            peer: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        self.dialect.message_for(&request).map(|message| &*message.parts)
    }

    fn signs(&self, field: Field) -> bool {
        self.parts().is_some_and(|parts| crate::dialect::template::mentions(parts, field))
    }

    fn message(&self, draft: &Draft<'_>) -> Result<Pieces, Unwritable> {
        let method = Unwritable::Draft(crate::dialect::Unsignable::Draft("method"));
        let mut out = Vec::new();
        self.write(self.parts().ok_or(method)?, draft, &mut out)?;
        Ok(joined(out))
    }

    fn write(&self, parts: &[Part], draft: &Draft<'_>, out: &mut Pieces) -> Result<(), Unwritable> {
        for part in parts {
            match part {
                Part::Literal(text) => out.push(Piece::Text(text.to_string())),
                Part::Field(field) => self.write_field(*field, draft, out),
                Part::Merged(name) => {
                    let extra = Some((name.to_string(), Var::Timestamp));
                    out.push(Piece::Sorted(Var::Query, extra));
                }
                Part::Member(name) => out.extend(self.member(name)),
                Part::Params(style) => out.push(match style {
                    Style::CryptoCom | Style::CryptoComPython => {
                        Piece::Rendered("params".to_owned())
                    }
                    Style::Upbit => Piece::Pairs,
                    Style::BingX => return Err(Unwritable::Json),
                }),
                Part::Digest(digest, inner) => {
                    let mut pieces = Vec::new();
                    self.write(inner, draft, &mut pieces)?;
                    out.push(match digest {
                        Inner::Sha256 => Piece::Sha256(pieces),
                        Inner::Sha512Hex => Piece::Sha512Hex(pieces),
                    });
                }
            }
        }
        Ok(())
    }

    /// The value of a member of the body, which the script knows or a variable holds.
    fn member(&self, name: &str) -> Pieces {
        let nodes = &mut Vec::new();
        let object = json::object(self.signed.body.as_bytes(), nodes).ok();
        let value = object.and_then(|object| object.member(name)).map(|member| member.value);
        let text = value.map_or("", |value| value.raw().trim_matches('"'));
        plain(text)
    }

    fn write_field(&self, field: Field, draft: &Draft<'_>, out: &mut Pieces) {
        let Script { has_query, has_body, .. } = *self.script;
        match field {
            Field::Timestamp => out.push(Piece::Var(Var::Timestamp)),
            Field::Key => out.push(Piece::Var(Var::Key)),
            Field::Window => {
                let window = draft.window_ms.map(|ms| ms.to_string());
                out.extend(window.map(Piece::Text));
            }
            Field::Nonce => out.push(Piece::Var(Var::Nonce)),
            Field::Method => out.push(Piece::Var(Var::Method)),
            Field::Host => out.push(Piece::Var(Var::Host)),
            Field::Path => out.push(Piece::Var(Var::Path)),
            Field::Query if has_query => out.push(Piece::Var(Var::Query)),
            Field::MarkedQuery if has_query => {
                out.extend([Piece::Text("?".to_owned()), Piece::Var(Var::Query)]);
            }
            Field::ContentType if has_body => {
                let known = http::header::CONTENT_TYPE;
                let value = self.signed.headers.iter().find(|(name, _)| *name == known);
                let value = value.and_then(|(_, value)| value.to_str().ok());
                out.push(Piece::Text(value.unwrap_or_default().to_owned()));
            }
            Field::Body if has_body => out.push(Piece::Var(Var::Body)),
            Field::Query | Field::MarkedQuery | Field::ContentType | Field::Body => {}
            Field::Payload => out.push(Piece::Var(Var::Payload)),
        }
    }
}

/// Text with the values that its marks stand for.
pub(super) fn plain(text: &str) -> Pieces {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((place, mark, var)) = first_mark(rest) {
        let (before, after) = rest.split_at_checked(place).unwrap_or((rest, ""));
        if !before.is_empty() {
            out.push(Piece::Text(before.to_owned()));
        }
        out.push(Piece::Var(var));
        rest = after.strip_prefix(mark).unwrap_or_default();
    }
    if !rest.is_empty() {
        out.push(Piece::Text(rest.to_owned()));
    }
    out
}

fn first_mark(text: &str) -> Option<(usize, &'static str, Var)> {
    let marks = [
        (MARKS.key_id, Var::Key),
        (MARKS.time, Var::Timestamp),
        (MARKS.nonce, Var::Nonce),
        (METHOD, Var::Method),
        (HOST, Var::Host),
        (PATH, Var::Path),
        (ISSUED, Var::Issued),
        (EXPIRES, Var::Expires),
        (DIGEST, Var::Digest),
        (PASSPHRASE, Var::Passphrase),
        (SIGNATURE, Var::Signature),
    ];
    let found = marks.into_iter().filter_map(|(mark, var)| Some((text.find(mark)?, mark, var)));
    found.min_by_key(|(place, ..)| *place)
}

// Words that no request holds by itself, of letters that are written alike everywhere.
pub(super) const MARKS: Marks<'static> = Marks {
    key_id: "zKEYqvxz",
    time: "zTIMEqvxz",
    nonce: "zNONCEqvxz",
    passphrase: Some(PASSPHRASE),
    algorithm: Algorithm::HmacSha256,
};
pub(super) const METHOD: &str = "zMETHODqvxz";
pub(super) const HOST: &str = "zHOSTqvxz";
pub(super) const PATH: &str = "zPATHqvxz";
pub(super) const EXPIRES: &str = "zEXPIRESqvxz";
pub(super) const ISSUED: &str = "zISSUEDqvxz";
pub(super) const DIGEST: &str = "zDIGESTqvxz";
const PASSPHRASE: &str = "zPASSqvxz";
const SIGNATURE: &str = "zSIGNqvxz";
