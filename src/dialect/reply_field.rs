//! A header field that tells how full limits are: of one limit, or one for each interval as Binance has them.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::HeaderName;

use super::refusal::{Facts, Said, Text};
use crate::store::Counts;

/// A field that replies carry.
#[derive(Clone, Debug)]
pub(super) struct ReplyField {
    name: Box<str>,
    text: Text,
    told_as: Names,
}

#[derive(Clone, Debug)]
enum Names {
    /// Of one limit.
    One(HeaderName),
    /// For each limit of a kind: the usual intervals with their names, ready to be told.
    Each(Counts, Box<[(Duration, HeaderName)]>),
}

/// What stands for an interval, as `1M` or `10S`.
const INTERVAL: &str = "<interval>";

impl ReplyField {
    pub(super) fn compile(name: &str, text: &str) -> Result<Self, String> {
        let named = |name: &str| {
            HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes())
                .map(|name| lasting(&name))
                .map_err(|_| format!("reply_headers: `{name}` is no header name"))
        };
        let text =
            Text::compile(text).map_err(|error| format!("reply_headers: {name}: {error}"))?;
        let counts = if text.tells_orders() { Counts::Orders } else { Counts::Weight };
        let told_as = if name.contains(INTERVAL) {
            let usual = USUAL.iter().map(|seconds| Duration::from_secs(*seconds));
            let of = |period| Ok((period, named(&name.replace(INTERVAL, &interval(period)?))?));
            let each = usual.filter(|period| interval(*period).is_ok()).map(of);
            Names::Each(counts, each.collect::<Result<_, String>>()?)
        } else {
            Names::One(named(name)?)
        };
        Ok(Self { name: name.to_ascii_lowercase().into(), text, told_as })
    }

    /// Its name, with the place of the interval.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn text(&self) -> &Text {
        &self.text
    }

    pub(super) fn is_for_each(&self) -> bool {
        matches!(self.told_as, Names::Each(..))
    }

    /// Tells of `all` limits; of those that share an interval, of the first.
    pub(super) fn tell(
        &self,
        all: &[Facts],
        first: Option<&Facts>,
        mut tell: impl FnMut(HeaderName, Said),
    ) {
        let mut say = |name: Option<HeaderName>, facts: &Facts| {
            if let (Some(name), Some(said)) = (name, self.text.said(facts)) {
                tell(name, said);
            }
        };
        match &self.told_as {
            Names::One(name) => first.into_iter().for_each(|facts| say(Some(name.clone()), facts)),
            Names::Each(counts, usual) => {
                let of_kind = |facts: &&Facts| facts.counts == *counts;
                for (place, facts) in all.iter().filter(of_kind).enumerate() {
                    let mut before = all.iter().filter(of_kind).take(place);
                    if before.all(|other| other.period != facts.period) {
                        say(self.named(usual, facts.period), facts);
                    }
                }
            }
        }
    }

    fn named(&self, usual: &[(Duration, HeaderName)], period: Duration) -> Option<HeaderName> {
        if let Some((_, name)) = usual.iter().find(|(known, _)| *known == period) {
            return Some(name.clone());
        }
        let name = self.name.replace(INTERVAL, &interval(period).ok()?);
        HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).ok()
    }
}

/// The same name, for as long as the process lives: nobody needs to count who has a copy of it, and every reply does.
/// There are as many as recipes name.
fn lasting(name: &HeaderName) -> HeaderName {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let text = known.get(name.as_str()).copied().unwrap_or_else(|| {
        let text: &'static str = Box::leak(name.as_str().into());
        known.insert(text);
        text
    });
    HeaderName::from_static(text)
}

/// `10S`, `1M`, `2H`, `1D`; what is no whole number of seconds has no such name.
fn interval(period: Duration) -> Result<String, String> {
    let seconds = period.as_secs();
    if seconds == 0 || period.subsec_nanos() > 0 {
        return Err("no whole number of seconds".to_owned());
    }
    let unit = UNITS.iter().find(|(length, _)| seconds.is_multiple_of(*length));
    let (length, letter) = unit.unwrap_or(&(1, 'S'));
    Ok(format!("{}{letter}", seconds / length))
}

const UNITS: [(u64, char); 4] = [(86_400, 'D'), (3_600, 'H'), (60, 'M'), (1, 'S')];
/// In seconds.
const USUAL: [u64; 6] = [1, 10, 60, 300, 3_600, 86_400];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn told(field: &ReplyField, all: &[Facts]) -> Vec<String> {
        let mut told = Vec::new();
        field.tell(all, all.first(), |name, said| {
            told.push(format!("{name}: {}", HeaderValue::from(said).to_str().unwrap()));
        });
        told
    }

    #[test]
    fn each_interval_is_told_once_and_orders_apart_from_weight() {
        let of = |seconds, used, counts| Facts {
            used,
            limit: 100,
            period: Duration::from_secs(seconds),
            counts,
            ..Facts::default()
        };
        let all = [
            of(60, 7, Counts::Weight),
            of(10, 3, Counts::Orders),
            of(86_400, 50, Counts::Orders),
            of(60, 9, Counts::Weight),
            of(15, 5, Counts::Weight),
        ];
        let weight = ReplyField::compile("X-Used-<interval>", "<used>").unwrap();
        assert_eq!(told(&weight, &all), ["x-used-1m: 7", "x-used-15s: 5"]);
        let orders = ReplyField::compile("X-Orders-<interval>", "<orders>").unwrap();
        assert_eq!(told(&orders, &all), ["x-orders-10s: 3", "x-orders-1d: 50"]);
        let one = ReplyField::compile("X-Used", "<used>").unwrap();
        assert_eq!(told(&one, &all), ["x-used: 7"]);
        assert_eq!(told(&weight, &all[1..3]), [""; 0]);
    }

    #[test]
    fn a_name_that_lasts_is_kept_once() {
        for text in ["x-used-weight", "date"] {
            let name = HeaderName::from_static(text);
            let (first, second) = (lasting(&name), lasting(&name));
            assert_eq!((&first, &second), (&name, &name));
            assert_eq!(first.as_str().as_ptr(), second.as_str().as_ptr());
        }
    }

    #[test]
    fn an_interval_is_named_by_the_largest_unit_that_divides_it() {
        for (seconds, name) in
            [(1, "1S"), (10, "10S"), (60, "1M"), (90, "90S"), (7_200, "2H"), (86_400, "1D")]
        {
            assert_eq!(interval(Duration::from_secs(seconds)).as_deref(), Ok(name));
        }
        assert!(interval(Duration::from_millis(1_500)).is_err());
    }
}
