//! What some requests of a dialect sign: a template, and what becomes of the rest.

use http::Method;

use super::form::BodyIs;
use super::json_rendering::Style;
use super::raw::{RawBodyIs, RawMessage, RawPart};
use super::seam::{self, Seam, Shape};
use super::template::{self, Field, Part};
use super::{BodyKind, Dialect};

/// What is signed, for some requests.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The methods it holds for; all that no earlier message names, when `None`.
    pub(crate) methods: Option<Box<[Method]>>,
    /// The bodies it holds for, in the same way.
    pub(crate) body: Option<BodyIs>,
    /// How the paths begin that it holds for, in the same way.
    pub(crate) under: Option<Box<str>>,
    pub(crate) text: Box<str>,
    pub(crate) parts: Box<[Part]>,
    pub(crate) query: Fate,
    pub(crate) entity: Fate,
    pub(crate) signs_type: bool,
    pub(crate) signs_method: bool,
    /// Whether query and body are one text, so that the boundary between them is not signed.
    pub(crate) joins: bool,
    /// How JSON is signed that is signed by its members.
    pub(crate) params: Option<Style>,
    /// The name under which the signed time joins the query's pairs.
    pub(crate) merged: Option<Box<str>>,
    pub(crate) seams: Box<[Seam]>,
}

/// What becomes of a query or body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// It is signed.
    Signed,
    /// It passes though it is not signed, since clients need it.
    Passed,
    /// It is not signed, so it must not be there.
    Refused,
}

impl Message {
    /// The members of the JSON body that it names.
    pub(super) fn members(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Member(name) => Some(&**name),
            Part::Literal(_)
            | Part::Field(_)
            | Part::Merged(_)
            | Part::Params(_)
            | Part::Digest(..) => None,
        })
    }
}

/// Compiles a message of `dialect`, which lets the parts that `passed` names pass unsigned.
pub(super) fn compile(
    raw: &RawMessage,
    passed: &[RawPart],
    dialect: &Dialect,
) -> Result<Message, String> {
    let parts = template::parse(&raw.text).map_err(|error| format!("message: {error}"))?;
    let method = |name: &String| {
        Method::from_bytes(name.as_bytes()).map_err(|_| format!("message: `{name}` is no method"))
    };
    let methods = raw.methods.as_ref().map(|all| all.iter().map(method).collect()).transpose()?;
    let body = raw.body.map(|body| match body {
        RawBodyIs::Empty => BodyIs::Empty,
        RawBodyIs::Form => BodyIs::A(BodyKind::Form),
        RawBodyIs::Json => BodyIs::A(BodyKind::Json),
    });
    let covers = |field| template::mentions(&parts, field);
    let fate = |signed, part| match (signed, passed.contains(&part) || raw.unsigned.contains(&part))
    {
        (true, false) => Ok(Fate::Signed),
        (false, true) => Ok(Fate::Passed),
        (false, false) => Ok(Fate::Refused),
        (true, true) => Err(format!("message `{}` signs what `unsigned` names", raw.text)),
    };
    let merged = parts.iter().find_map(merged);
    let params = parts.iter().find_map(params);
    let kinds = match body {
        Some(BodyIs::Empty) => [None, None],
        Some(BodyIs::A(kind)) => [Some(kind), None],
        None => [Some(dialect.body), dialect.other_body],
    };
    let shape = Shape {
        unit: dialect.time.as_ref().map(|time| time.unit),
        nonce: dialect.nonce.as_ref(),
        has_forms: kinds.contains(&Some(BodyKind::Form)),
        path_is: dialect.path_is.as_ref(),
    };
    let seams = if dialect.is_guarded() {
        let mut seams = seam::seams(&parts, shape)
            .map_err(|error| format!("message `{}`: {error}", raw.text.escape_debug()))?;
        seams.extend(seam::query_or_body(&parts));
        seams
    } else {
        Vec::new()
    };
    Ok(Message {
        methods,
        body,
        under: raw.under.as_deref().map(Into::into),
        text: raw.text.clone().into(),
        query: fate(covers(Field::Query) || covers(Field::MarkedQuery), RawPart::Query)?,
        entity: fate(
            covers(Field::Body) || covers(Field::Payload) || params.is_some(),
            RawPart::Body,
        )?,
        signs_type: covers(Field::ContentType),
        signs_method: covers(Field::Method),
        joins: matches!(&*parts, [Part::Field(Field::Query), Part::Field(Field::Body)]),
        params,
        merged,
        seams: seams.into(),
        parts,
    })
}

fn merged(part: &Part) -> Option<Box<str>> {
    match part {
        Part::Merged(name) => Some(name.clone()),
        Part::Literal(_)
        | Part::Field(_)
        | Part::Member(_)
        | Part::Params(_)
        | Part::Digest(..) => None,
    }
}

fn params(part: &Part) -> Option<Style> {
    match part {
        Part::Params(style) => Some(*style),
        Part::Literal(_)
        | Part::Field(_)
        | Part::Member(_)
        | Part::Merged(_)
        | Part::Digest(..) => None,
    }
}
