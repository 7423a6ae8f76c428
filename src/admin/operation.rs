//! What the API can do: one declaration of each operation, from which routes, roles and description come.

use std::future::Future;
use std::pin::Pin;

use axum::routing::MethodFilter;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::call::{Call, Reply};
use super::caller::Role;
use super::confirm::WAIT;
use super::problem::Problem;

/// How a call ends.
pub(super) type Outcome = Result<Reply, Problem>;
/// A call under way.
pub(super) type Acting = Pin<Box<dyn Future<Output = Outcome> + Send>>;
/// Writes the schema of a type, and those it refers to.
pub(super) type Shape = fn(&mut Map<String, Value>) -> Value;

/// One thing the API can do.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// How it is asked for.
    pub verb: Verb,
    /// Where, with names in braces.
    pub path: &'static str,
    /// Its name in the description and in audit records.
    pub name: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// The least role that may ask for it.
    pub least: Role,
    /// What more it takes for some of what it can be asked for.
    pub more: Option<&'static str>,
    pub(super) query: &'static [Parameter],
    pub(super) body: Option<Body>,
    pub(super) answer: Answer,
    pub(super) act: fn(Call) -> Acting,
}

/// A method of HTTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Makes something, or does something to it.
    Post,
    /// Changes some members.
    Patch,
    /// Ends something.
    Delete,
}

/// A parameter of the query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) kind: Scalar,
}

/// What a parameter holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar {
    Text,
    Word(&'static [&'static str]),
    /// A whole number from 1 to this.
    Count(usize),
    Moment,
    /// A span of up to ten seconds.
    Wait,
}

/// The body that an operation takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    pub(super) shape: Shape,
    pub(super) required: bool,
}

/// The answer of an operation that succeeds.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each says a thing of its own")]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) shape: Option<Shape>,
    /// One JSON value a line, as they come.
    pub(super) lines: bool,
    /// Whether it shows a secret.
    pub(super) secret: bool,
    /// Whether it may wait for a second person, and answer 202 with the approval.
    pub(super) awaits: Option<Shape>,
    /// Whether it is of one record with a version, so that it has an `ETag` and knows If-Match.
    pub(super) versioned: bool,
    /// Whether it takes something away, so that it answers which gateways have applied that.
    pub(super) binds: bool,
}

impl Operation {
    pub(super) const fn new(
        verb: Verb,
        path: &'static str,
        name: &'static str,
        least: Role,
        summary: &'static str,
        act: fn(Call) -> Acting,
    ) -> Self {
        let answer = Answer {
            status: 200,
            shape: None,
            lines: false,
            secret: false,
            awaits: None,
            versioned: false,
            binds: false,
        };
        Self { verb, path, name, summary, least, more: None, query: &[], body: None, answer, act }
    }

    pub(super) const fn query(self, query: &'static [Parameter]) -> Self {
        Self { query, ..self }
    }

    pub(super) const fn takes(self, shape: Shape) -> Self {
        Self { body: Some(Body { shape, required: true }), ..self }
    }

    pub(super) const fn may_take(self, shape: Shape) -> Self {
        Self { body: Some(Body { shape, required: false }), ..self }
    }

    pub(super) const fn answers(mut self, status: u16, shape: Shape) -> Self {
        self.answer.status = status;
        self.answer.shape = Some(shape);
        self
    }

    pub(super) const fn empty(mut self) -> Self {
        self.answer.status = 204;
        self
    }

    pub(super) const fn lines(mut self, shape: Shape) -> Self {
        self.answer.shape = Some(shape);
        self.answer.lines = true;
        self
    }

    pub(super) const fn secret(mut self) -> Self {
        self.answer.secret = true;
        self
    }

    pub(super) const fn awaits(mut self, shape: Shape) -> Self {
        self.answer.awaits = Some(shape);
        self
    }

    pub(super) const fn versioned(mut self) -> Self {
        self.answer.versioned = true;
        self
    }

    pub(super) const fn binds(mut self) -> Self {
        self.answer.binds = true;
        self.query(&[WAIT])
    }

    pub(super) const fn more(self, more: &'static str) -> Self {
        Self { more: Some(more), ..self }
    }

    /// Whether it changes something.
    pub fn changes(&self) -> bool {
        self.verb != Verb::Get
    }
}

impl Verb {
    /// Its name in HTTP.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    pub(super) fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Patch => MethodFilter::PATCH,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// The shape of `T`, by reference; it and what it refers to go to `schemas`.
pub(super) fn shape<T: ToSchema>(schemas: &mut Map<String, Value>) -> Value {
    let mut found = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut found);
    for (name, schema) in found {
        schemas.entry(name).or_insert_with(|| json!(schema));
    }
    json!({ "$ref": format!("#/components/schemas/{}", T::name()) })
}

/// The parameters of every list.
pub(super) const LIMIT: Parameter = Parameter {
    name: "limit",
    about: "At most so many items; 100 without it",
    kind: Scalar::Count(PAGE_CAP),
};
pub(super) const AFTER: Parameter = Parameter {
    name: "after",
    about: "Where to go on: the `next` of the page before",
    kind: Scalar::Text,
};

/// The most items of a page.
pub(super) const PAGE_CAP: usize = 1_000;
/// The items of a page when the caller does not say.
pub(super) const PAGE: usize = 100;
