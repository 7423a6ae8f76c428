//! The description of the API (`OpenAPI` 3.1), from the operations and the types they speak in.

use std::sync::OnceLock;

use serde_json::{Map, Value, json};

use super::confirm::{Gateways, PATTERN};
use super::operation::{Answer, Operation, Parameter, Scalar, shape};
use super::operations;
use super::problem::ProblemBody;
use super::request::PARAMETER_CAP;

/// The description as JSON, made once.
pub fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(written)
}

fn written() -> Value {
    let mut schemas = Map::new();
    shape::<ProblemBody>(&mut schemas);
    let mut paths = Map::new();
    for operation in operations() {
        let place = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(place) = place.as_object_mut() {
            let verb = operation.verb.name().to_ascii_lowercase();
            place.insert(verb, described(operation, &mut schemas));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "countersign admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The life of API keys: issue, bind, rotate, expire, revoke, recover. Each operation \
                names the least role that may ask for it in `x-role`; `x-role-more` says what takes more.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "certificate": {"type": "mutualTLS"},
            },
        },
        "security": [{"token": []}, {"certificate": []}],
    })
}

fn described(operation: &Operation, schemas: &mut Map<String, Value>) -> Value {
    let mut text = json!({
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.name.split('.').next().unwrap_or_default()],
        "x-role": operation.least.name(),
        "parameters": parameters(operation),
        "responses": responses(operation, schemas),
    });
    let Some(members) = text.as_object_mut() else { return text };
    if let Some(more) = operation.more {
        members.insert("x-role-more".into(), more.into());
    }
    if let Some(body) = operation.body {
        let schema = (body.shape)(schemas);
        let content = json!({"application/json": {"schema": schema}});
        let body = json!({"required": body.required, "content": content});
        members.insert("requestBody".into(), body);
    }
    text
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let named = operation.path.split('/').filter_map(|part| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        Some(json!({
            "name": name, "in": "path", "required": true,
            "schema": {"type": "string", "minLength": 1, "maxLength": 256},
        }))
    });
    let asked = operation.query.iter().map(asked);
    let mut all: Vec<Value> = named.chain(asked).collect();
    if operation.answer.versioned && operation.changes() {
        all.push(json!({
            "name": "If-Match", "in": "header", "required": false,
            "description": "The ETag of the record as it was read; 412 where it was changed since",
            "schema": {"type": "string", "pattern": "^\"[0-9]{1,18}\"$"},
        }));
    }
    if operation.changes() {
        all.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "A text of the caller's own for this request: a retry with it does nothing twice and \
                gets the first answer, for 24 hours at most; where that showed a secret, 409",
            "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
        }));
    }
    all
}

fn asked(parameter: &Parameter) -> Value {
    let schema = match parameter.kind {
        Scalar::Text => json!({"type": "string", "minLength": 1, "maxLength": PARAMETER_CAP}),
        Scalar::Word(words) => json!({"type": "string", "enum": words}),
        Scalar::Count(most) => json!({"type": "integer", "minimum": 1, "maximum": most}),
        Scalar::Wait => json!({"type": "string", "pattern": PATTERN}),
        Scalar::Moment => json!({
            "type": "string",
            "description": "RFC 3339, or a span before now as \"24h\"",
            "examples": ["2027-01-31T12:00:00Z", "24h"],
        }),
    };
    json!({
        "name": parameter.name, "in": "query", "required": false,
        "description": parameter.about, "schema": schema,
    })
}

fn responses(operation: &Operation, schemas: &mut Map<String, Value>) -> Value {
    let mut all = Map::new();
    let Answer { status, shape, lines, awaits, versioned, binds, .. } = operation.answer;
    let content = shape.map(|of| {
        let kind = if lines { "application/x-ndjson" } else { "application/json" };
        let mut schema = of(schemas);
        if binds && !lines {
            let gateways = json!({"type": "object", "required": ["gateways"],
                "properties": {"gateways": self::shape::<Gateways>(schemas)}});
            schema = json!({"allOf": [schema, gateways]});
        }
        json!({kind: if lines { json!({"itemSchema": schema}) } else { json!({"schema": schema}) }})
    });
    let mut success = json!({"description": "Done"});
    if let (Some(success), Some(content)) = (success.as_object_mut(), content) {
        success.insert("content".into(), content);
        if versioned {
            let tag = json!({"ETag": {"schema": {"type": "string"}}});
            success.insert("headers".into(), tag);
        }
    }
    all.insert(status.to_string(), success);
    if let Some(shape) = awaits {
        let content = json!({"application/json": {"schema": shape(schemas)}});
        let waits = json!({"description": "It waits for a second person", "content": content});
        all.insert("202".into(), waits);
    }
    for (status, about) in refusals(operation) {
        let schema = json!({"$ref": "#/components/schemas/ProblemBody"});
        let content = json!({"application/problem+json": {"schema": schema}});
        all.insert(status.to_owned(), json!({"description": about, "content": content}));
    }
    Value::Object(all)
}

/// How an operation may be refused.
fn refusals(operation: &Operation) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![
        ("400", "The request is not plain"),
        ("401", "The caller is not known"),
        ("403", "The caller's role does not reach"),
        ("429", "Too many wrong credentials came from this address"),
        ("503", "The registry does not answer"),
        ("504", "There was no answer in time"),
    ];
    if operation.path.contains('{') {
        all.push(("404", "There is no such record"));
    }
    if operation.changes() {
        all.push(("409", "What stands there does not allow it"));
        all.push(("422", "What is asked for cannot be"));
    }
    if operation.changes() && operation.answer.versioned {
        all.push(("412", "The record is at another version"));
    }
    if operation.body.is_some() {
        all.push(("408", "The body did not come in time"));
        all.push(("413", "The body is too large"));
        all.push(("415", "The body does not say that it is JSON"));
    }
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::super::operation::Verb;
    use super::*;

    #[test]
    fn every_operation_is_described_once_under_its_own_name() {
        let mut names: Vec<_> = operations().map(|operation| operation.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        let paths = document()["paths"].as_object().unwrap();
        let described: usize = paths.values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(described, count);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let text = document().to_string();
        let schemas = document()["components"]["schemas"].as_object().unwrap();
        let mut found = 0;
        for part in text.split("#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
            found += 1;
        }
        assert!(found > 50);
    }

    #[test]
    fn every_body_refuses_members_that_nobody_knows() {
        for operation in operations() {
            let Some(body) = operation.body else { continue };
            let mut schemas = Map::new();
            let reference = (body.shape)(&mut schemas);
            let name = reference["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
            assert_eq!(schemas[name]["additionalProperties"], json!(false), "{name}");
        }
        assert!(operations().any(|operation| operation.verb == Verb::Patch));
    }
}
