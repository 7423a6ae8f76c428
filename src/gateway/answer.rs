//! Writes the head of an answer as HTTP/1.1, as hyper writes it on the other front.

use bytes::BufMut;
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderName, HeaderValue, StatusCode};
use hyper::body::Body;

use super::reply::{Head, Reply, Value};
use super::reply_head::Passed;
use crate::dialect::Said;

/// To what a reply answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// The request was for a head alone.
    pub(super) to_head: bool,
    /// The connection ends after it.
    pub(super) closes: bool,
    /// The date.
    pub(super) date: [u8; 29],
}

/// How the body goes out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Coding {
    /// There is none.
    Empty,
    /// As it is: its length is told.
    Plain,
    /// In chunks.
    Chunked,
}

/// Writes the head of `reply`.
pub(super) fn write(reply: &Reply, manner: Manner, to: &mut Vec<u8>) -> Coding {
    let status = reply.status();
    let told = match &reply.head {
        Head::Passed(head, ours) => {
            status_line(status, head.reason(), to);
            let mut told = Told::default();
            // Mostly no two names are as long, and none need be compared.
            let bit = |length: usize| 1_u64 << (length % 64);
            let lengths = ours.iter().fold(0, |bits, (own, _)| bits | bit(own.as_str().len()));
            for Passed { name, value, line } in head.fields() {
                if lengths & bit(name.len()) != 0 && ours.iter().any(|(own, _)| same(own, name)) {
                    continue;
                }
                // The length of what is not sent is told to HEAD alone.
                if is_bodiless(status) && same(&CONTENT_LENGTH, name) {
                    continue;
                }
                told.note(name);
                if let Some(line) = line {
                    to.put_slice(line);
                } else {
                    line_of(name, value, to);
                }
            }
            for (name, value) in ours {
                set(name, value, to);
            }
            told
        }
        Head::Own(_, fields) => {
            status_line(status, None, to);
            for (name, value) in fields.iter() {
                field(name, value, to);
            }
            Told { length: fields.contains_key(CONTENT_LENGTH), date: fields.contains_key(DATE) }
        }
    };
    if manner.closes {
        to.put_slice(b"connection: close\r\n");
    }
    let coding = coding(reply, status, manner.to_head, told.length, to);
    if !told.date {
        to.put_slice(b"date: ");
        to.put_slice(&manner.date);
        to.put_slice(b"\r\n");
    }
    to.put_slice(b"\r\n");
    coding
}

/// Says how the end of the body is found, where that is not said yet.
fn coding(
    reply: &Reply,
    status: StatusCode,
    to_head: bool,
    told: bool,
    to: &mut Vec<u8>,
) -> Coding {
    let may_have_body = !is_bodiless(status);
    let Some(length) = reply.body.size_hint().exact() else {
        if to_head || !may_have_body {
            return Coding::Empty;
        }
        to.put_slice(b"transfer-encoding: chunked\r\n");
        return Coding::Chunked;
    };
    // A backend's answer to HEAD has no body, so that its length is unknown.
    let is_known = !to_head || matches!(reply.head, Head::Own(..));
    if !told && may_have_body && is_known {
        to.put_slice(b"content-length: ");
        to.put_slice(itoa::Buffer::new().format(length).as_bytes());
        to.put_slice(b"\r\n");
    }
    if to_head || !may_have_body || length == 0 { Coding::Empty } else { Coding::Plain }
}

fn is_bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// What the fields tell already.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    length: bool,
    date: bool,
}

impl Told {
    fn note(&mut self, name: &[u8]) {
        match name.len() {
            4 => self.date |= same(&DATE, name),
            14 => self.length |= same(&CONTENT_LENGTH, name),
            _ => {}
        }
    }
}

/// Whether it is the name of a field that a backend wrote, which is in lower case.
fn same(own: &HeaderName, name: &[u8]) -> bool {
    *own.as_str().as_bytes() == *name
}

fn status_line(status: StatusCode, reason: Option<&[u8]>, to: &mut Vec<u8>) {
    if status == StatusCode::OK && reason.is_none() {
        return to.put_slice(b"HTTP/1.1 200 OK\r\n");
    }
    to.put_slice(b"HTTP/1.1 ");
    to.put_slice(status.as_str().as_bytes());
    to.put_slice(b" ");
    let usual = || status.canonical_reason().unwrap_or("<none>").as_bytes();
    to.put_slice(reason.unwrap_or_else(usual));
    to.put_slice(b"\r\n");
}

fn set(name: &HeaderName, value: &Value, to: &mut Vec<u8>) {
    match value {
        Value::Said(Said::Text(text)) => field(name, text, to),
        Value::Said(Said::Number(number)) => {
            let mut digits = itoa::Buffer::new();
            line_of(name.as_str().as_bytes(), digits.format(*number).as_bytes(), to);
        }
        Value::Id(id) => line_of(name.as_str().as_bytes(), id.as_bytes(), to),
    }
}

fn field(name: &HeaderName, value: &HeaderValue, to: &mut Vec<u8>) {
    line_of(name.as_str().as_bytes(), value.as_bytes(), to);
}

fn line_of(name: &[u8], value: &[u8], to: &mut Vec<u8>) {
    to.put_slice(name);
    to.put_slice(b": ");
    to.put_slice(value);
    to.put_slice(b"\r\n");
}

/// Writes a chunk, and the end where it is the last. An empty one is only that.
pub(super) fn chunk(data: &[u8], is_last: bool, to: &mut Vec<u8>) {
    if !data.is_empty() {
        let digits = format!("{:X}\r\n", data.len());
        to.put_slice(digits.as_bytes());
        to.put_slice(data);
        to.put_slice(b"\r\n");
    }
    if is_last {
        to.put_slice(b"0\r\n\r\n");
    }
}
