//! Defeats a stolen secret on the routes that matter: they ask for a code of the account's second factor, which is good
//! once, on every gateway.
//!
//! The order is what makes guessing useless. A code is looked at only once the signature holds and the key may come this
//! way, and only while tries are left. A wrong one burns the request, so that each guess takes a new signature; and a
//! right one is spent by the same call that records the request, so that nothing is spent where replay or a limit
//! refuses.

use std::cell::Cell;
use std::sync::Arc;

use http::HeaderName;

use super::challenge::{CHALLENGE, Challenges, Topic};
use super::guard::Watch;
use super::signature::Signed;
use crate::admit::{Ask, Route};
use crate::denial::{Challenge, Denial, Shadowed};
use crate::dialect::json::{self, Object, Value};
use crate::dialect::json_text::Text;
use crate::dialect::{Claim, CodeCut, Dialect, Inbound, Side, parameter};
use crate::key::Key;
use crate::store::{Charge, Repeat};

/// What a route asks of the second factor.
#[derive(Clone, Debug)]
pub struct SecondFactor {
    /// Where the code travels.
    pub place: CodePlace,
    /// Whether it counts only together with a challenge, and whose.
    pub challenges: Option<Arc<Challenges>>,
}

/// Where a code travels. Neither reaches a backend.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CodePlace {
    /// In a header field, which is not signed.
    Header(HeaderName),
    /// In a parameter of the query or of a form, which is.
    Parameter(Box<str>),
    /// In a member of the JSON object that is signed.
    Member(Box<str>),
}

/// A code that was looked at: right or wrong, it is settled with the store.
pub(crate) struct Code<'w> {
    /// The step it is the code of; `None` for a wrong one.
    step: Option<u64>,
    cut: Option<CodeCut>,
    attempt: Attempt<'w>,
}

/// One of the tries that are left for the code of an account. It is given back unless it is used up: also where the
/// client goes away while the store is asked.
struct Attempt<'w> {
    watch: &'w Watch<'w>,
    key: &'w Key,
    is_used_up: Cell<bool>,
}

impl<'w> Attempt<'w> {
    fn take(watch: &'w Watch<'w>, key: &'w Key) -> Result<Self, Denial> {
        watch.take_try(key)?;
        Ok(Self { watch, key, is_used_up: Cell::new(false) })
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.is_used_up.get() {
            self.watch.give_try_back(self.key);
        }
    }
}

/// The code of this request, where its route asks for one; where that rule is in shadow, what it would say is noted, and
/// only the pair that no backend sees is told.
pub(crate) fn ask<'w>(
    route: &Route,
    request: &Inbound<'_>,
    claim: &Claim<'_>,
    signed: &'w Signed,
    watch: &'w Watch<'w>,
    shadowed: &mut Shadowed,
) -> Result<(Option<Code<'w>>, Option<CodeCut>), Denial> {
    let (Some(asked), Ask::Signed(dialect)) = (&route.second_factor, &route.ask) else {
        return Ok((None, None));
    };
    if !route.shadow().second_factor {
        return Ok((Some(check(asked, dialect, request, claim, signed, watch)?), None));
    }
    let (_, cut) = asked.find(request, claim)?;
    match check(asked, dialect, request, claim, signed, watch) {
        // No step is spent, and no try.
        Ok(code) => {
            if code.step.is_none() {
                shadowed.note(Denial::BadCode)?;
            }
        }
        Err(denial) => shadowed.note(denial)?,
    }
    Ok((None, cut))
}

/// The code of this request: right or wrong, but taken from the tries that are left.
fn check<'w>(
    asked: &SecondFactor,
    dialect: &Dialect,
    request: &Inbound<'_>,
    claim: &Claim<'_>,
    signed: &'w Signed,
    watch: &'w Watch<'w>,
) -> Result<Code<'w>, Denial> {
    let key = signed.key();
    let bindings = key.bindings.as_ref();
    let factor = bindings.and_then(|bindings| bindings.factor.as_ref()).ok_or(Denial::NoFactor)?;
    let (code, cut) = asked.find(request, claim)?;
    let in_body = matches!(cut, Some(CodeCut::Pair(Side::Body, _) | CodeCut::Member(_)));
    if dialect.passes_unsigned_body() && in_body {
        return Err(Denial::Unsigned("a one-time code in the body"));
    }
    if let Some(challenges) = &asked.challenges {
        let topic = Topic::of(key, dialect, request, claim, asked.parameter());
        let known = code
            .and(sent(request)?)
            .is_some_and(|challenge| challenges.knows(&challenge, &topic, watch.now()));
        if !known {
            return Err(Denial::Challenged(challenges.issue(&topic, watch.now())?));
        }
    }
    let code = code.ok_or(Denial::MissingCode)?;
    let attempt = Attempt::take(watch, key)?;
    Ok(Code { step: factor.step_of(code, watch.now()), cut, attempt })
}

/// Spends the step of a right code with the charge; makes one of a wrong code that records and costs nothing.
pub(crate) fn bind(code: Option<&Code<'_>>, charge: &mut Charge) {
    let Some(code) = code else { return };
    charge.step = code.step;
    // Never: or a capture of a read could be sent again, each time with another guess.
    charge.repeat = Repeat::Never;
    if code.step.is_none() {
        charge.costs.clear();
    }
}

/// What the store's answer makes of a code, if one was asked for. A try is used up by a wrong code under new signed
/// bytes, and by nothing else: whoever repeats a capture uses up no tries of its owner's.
pub(crate) fn settle<T>(code: Option<&Code<'_>>, spent: Result<T, Denial>) -> Result<T, Denial> {
    let Some(Code { step, attempt, cut: _ }) = code else { return spent };
    match (spent, step) {
        (Ok(_), None) => {
            attempt.is_used_up.set(true);
            Err(Denial::BadCode)
        }
        (Ok(spent), Some(_)) => {
            attempt.watch.knows_factor(attempt.key);
            Ok(spent)
        }
        // Perhaps it was recorded.
        (Err(Denial::Unavailable), None) => {
            attempt.is_used_up.set(true);
            Err(Denial::Unavailable)
        }
        (Err(denial), _) => Err(denial),
    }
}

impl Code<'_> {
    /// Where it stands, if that is signed.
    pub(crate) fn into_cut(self) -> Option<CodeCut> {
        self.cut
    }
}

impl SecondFactor {
    /// The header fields that no backend sees.
    pub fn is_credential(&self, name: &HeaderName) -> bool {
        *name == CHALLENGE || matches!(&self.place, CodePlace::Header(place) if place == name)
    }

    fn parameter(&self) -> Option<&str> {
        match &self.place {
            CodePlace::Header(_) | CodePlace::Member(_) => None,
            CodePlace::Parameter(name) => Some(name),
        }
    }

    /// The code as sent, and where it stands.
    fn find<'r>(
        &self,
        request: &Inbound<'r>,
        claim: &Claim<'r>,
    ) -> Result<(Option<&'r str>, Option<CodeCut>), Denial> {
        let (code, cut) = match &self.place {
            CodePlace::Header(name) => (once(request, name)?, None),
            CodePlace::Parameter(name) => {
                match parameter(request.query.unwrap_or_default(), claim.form, name)? {
                    Some((side, range, code)) => (Some(code), Some(CodeCut::Pair(side, range))),
                    None => (None, None),
                }
            }
            CodePlace::Member(name) => {
                let code = match claim.object {
                    Some(object) => member(object, name)?.and_then(|code| code.text()?.plain()),
                    None => in_body(request.body, name)?,
                };
                (code, code.map(|_| CodeCut::Member(name.clone())))
            }
        };
        Ok((code.filter(|code| !code.is_empty()), cut))
    }
}

/// The same where the body is read for nothing else.
fn in_body<'r>(body: &'r [u8], name: &str) -> Result<Option<&'r str>, Denial> {
    let nodes = &mut Vec::new();
    let Ok(object) = json::object(body, nodes) else { return Ok(None) };
    let range = member(object, name)?.map(Value::range);
    let inside = range.and_then(|range| body.get(range.start + 1..range.end - 1));
    Ok(inside.and_then(|text| std::str::from_utf8(text).ok()))
}

/// The code in a member of this name, which stands there in one spelling, as a text.
fn member<'r>(object: Object<'r>, name: &str) -> Result<Option<Value<'r>>, Denial> {
    let mut found = None;
    for member in object.members() {
        let written: String = member.name.chars().collect();
        if written == name {
            let code = member.value.text().and_then(Text::plain);
            let value = code.map(|_| member.value);
            found = Some(value.ok_or(Denial::Malformed("a one-time code is no text"))?);
        } else if written.trim().eq_ignore_ascii_case(name) {
            return Err(Denial::Malformed("a one-time code's name is spelled otherwise"));
        }
    }
    Ok(found)
}

/// The challenge that came with the request, if it is one at all.
fn sent(request: &Inbound<'_>) -> Result<Option<Challenge>, Denial> {
    Ok(once(request, &CHALLENGE)?.and_then(Challenge::parse))
}

/// The value of a header field that may stand once.
fn once<'r>(request: &Inbound<'r>, name: &HeaderName) -> Result<Option<&'r str>, Denial> {
    let mut all = request.headers.get_all(name);
    let (first, second) = (all.next(), all.next());
    if second.is_some() {
        return Err(Denial::Malformed("a one-time code or its challenge stands twice"));
    }
    let no_text = Denial::Malformed("a one-time code or its challenge is no text");
    first.map(|value| value.to_str().ok_or(no_text)).transpose()
}
