//! Defeats a request that asks for much and pays for little: what it weighs and how many orders it places is read from
//! the one value that the backend reads too.

use super::meter::Meter;
use crate::admit::Route;
use crate::denial::Denial;
use crate::dialect::{Inbound, array_length, percent_decoded, sole_member, sole_parameter};
use crate::lanes;

/// What a request takes of limits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Load {
    /// In units of weight.
    pub(crate) weight: u32,
    /// In orders.
    pub(crate) orders: u32,
}

/// What a route charges beside its weight.
#[derive(Clone, Debug, Default)]
pub struct Charges {
    /// The limits that the route itself names: routes that name the same one are a class.
    pub meters: Box<[Meter]>,
    /// What its weight depends on.
    pub weight_by: Option<WeightBy>,
    /// How many orders a request places.
    pub orders: Orders,
    /// The rules that are counted and not enforced.
    pub shadow: Shadow,
}

/// A parameter that says how much a request asks for.
#[derive(Clone, Debug)]
pub struct WeightBy {
    /// Its name: in the query, in a form, or at the top of a JSON object.
    pub parameter: Box<str>,
    /// Values with the weight of all up to them, ascending. What lies above the last, or is no number, weighs as much
    /// as the heaviest.
    pub steps: Box<[(u64, u32)]>,
    /// The weight without the parameter, where it is another than the route's.
    pub absent: Option<u32>,
}

/// How many orders a request places.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Orders {
    /// None.
    #[default]
    None,
    /// So many.
    Each(u32),
    /// As many as this array has elements: a parameter, or a member at the top of a JSON object.
    In(Box<str>),
    /// As many as the array has elements that the body is.
    Body,
}

/// The rules that a route only watches: what they would refuse passes, and is counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Shadow {
    /// Where a key may be used from.
    pub address: bool,
    /// What a key may do.
    pub permission: bool,
    /// The second factor.
    pub second_factor: bool,
}

impl WeightBy {
    /// The heaviest weight there is, beside the route's own.
    pub fn heaviest(&self) -> u32 {
        let steps = self.steps.iter().map(|(_, weight)| *weight).max().unwrap_or(0);
        steps.max(self.absent.unwrap_or(0))
    }

    fn weight(&self, value: &str, otherwise: u32) -> u32 {
        let Some((_, last)) = self.steps.last() else { return otherwise };
        let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        let number = value.parse::<u64>().ok().filter(|_| is_number);
        let step = number.and_then(|number| self.steps.iter().find(|(most, _)| number <= *most));
        step.map_or_else(|| self.heaviest().max(*last), |(_, weight)| *weight)
    }
}

/// What this request takes.
pub(crate) fn of(route: &Route, request: &Inbound<'_>) -> Result<Load, Denial> {
    let Some(charges) = &route.charges else { return Ok(Load { weight: route.weight, orders: 0 }) };
    let weight = match &charges.weight_by {
        None => route.weight,
        Some(by) => match value(request, &by.parameter, &WEIGHT)? {
            Some(value) => by.weight(value, route.weight),
            None => by.absent.unwrap_or(route.weight),
        },
    };
    let orders = match &charges.orders {
        Orders::None => 0,
        Orders::Each(orders) => *orders,
        Orders::In(name) => match value(request, name, &BATCH)? {
            Some(batch) => count(batch)?,
            None => 1,
        },
        Orders::Body => length(request.body)?,
    };
    Ok(Load { weight, orders })
}

/// The one value of a parameter, in the query, in a form or in a JSON object; refused where there are two.
fn value<'r>(
    request: &Inbound<'r>,
    name: &str,
    problem: &Problem,
) -> Result<Option<&'r str>, Denial> {
    let is_json = is_json(request.body);
    let form = if is_json { Some("") } else { form(request.body) };
    let form = form.ok_or(Denial::Malformed(problem.unreadable))?;
    let query = request.query.unwrap_or_default();
    let in_text =
        sole_parameter(query, form, name).map_err(|_| Denial::Malformed(problem.twice))?;
    if !is_json {
        return Ok(in_text);
    }
    let member = sole_member(request.body, name).map_err(|_| Denial::Malformed(problem.twice))?;
    match (in_text, member) {
        (Some(_), Some(_)) => Err(Denial::Malformed(problem.twice)),
        (found, None) | (None, found) => Ok(found),
    }
}

/// Whether some reader takes it for a JSON object or array: all pass over white space, and some over a byte order mark.
fn is_json(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// A body as parameters; `None` where it holds what no form does, as multipart and UTF-16 do.
fn form(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    (!lanes::any(body, |byte| byte.is_ascii_control())).then_some(text)
}

/// The orders of a batch, which may be written as a parameter.
fn count(text: &str) -> Result<u32, Denial> {
    if text.starts_with('[') {
        return length(text.as_bytes());
    }
    // Between JSON's own signs a space means nothing, and within a string it adds no element.
    let spaced = text.replace('+', " ");
    length(&percent_decoded(spaced.as_bytes()).collect::<Vec<u8>>())
}

/// An empty batch is a request nonetheless.
fn length(array: &[u8]) -> Result<u32, Denial> {
    let length = array_length(array).ok_or(Denial::Malformed(BATCH.unreadable))?;
    Ok(u32::try_from(length).unwrap_or(u32::MAX).max(1))
}

struct Problem {
    twice: &'static str,
    unreadable: &'static str,
}

const WEIGHT: Problem = Problem {
    twice: "the parameter that says what it weighs stands twice, or in another spelling",
    unreadable: "what it weighs is to stand in a body that is neither a form nor JSON",
};
const BATCH: Problem = Problem {
    twice: "the batch of orders stands twice, or in another spelling",
    unreadable: "a batch of orders that is no JSON array",
};

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;

    fn batch(body: &[u8]) -> Result<Option<String>, Denial> {
        let (headers, peer) = (HeaderMap::new(), [192, 0, 2, 1].into());
        let (method, path, host) = (&Method::POST, "/a", "a");
        let request =
            Inbound { method, path, query: None, host, headers: (&headers).into(), body, peer };
        Ok(value(&request, "batch", &BATCH)?.map(str::to_owned))
    }

    #[test]
    fn json_is_read_as_json_whatever_white_space_stands_before_it() {
        for before in ["", " ", "\r\n", "\t \n"] {
            for batched in ["[1,2]", "7"] {
                let body = format!("{before}{{\"batch\":{batched}}}");
                assert_eq!(batch(body.as_bytes()), Ok(Some(batched.to_owned())), "{body:?}");
            }
        }
        assert_eq!(batch(b"a=1&batch=[1]"), Ok(Some("[1]".to_owned())));
        assert_eq!(batch("a=\u{e9} {".as_bytes()), Ok(None));
    }

    #[test]
    fn a_body_that_only_some_can_read_is_refused() {
        let bodies: [&[u8]; 6] = [
            b"\xef\xbb\xbf{\"batch\":[1,2]}",
            b"\x0c{\"batch\":[1,2]}",
            b"\0{\0\"\0b\0\"",
            b"\xfe\xff\0{",
            b"--x\r\ncontent-disposition: form-data; name=\"batch\"\r\n\r\n[1,2]\r\n--x--",
            b" {\"batch\":[1,2]",
        ];
        for body in bodies {
            assert!(matches!(batch(body), Err(Denial::Malformed(_))), "{body:?}");
        }
    }
}
