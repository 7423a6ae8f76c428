//! What gateways judged alone, which is counted apart: a copy may pass once at each of the others meanwhile, and each may
//! spend its share of every limit.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use countersign::clock::Micros;

use crate::backend::Arrival;
use crate::checker::{exceeded, moves};
use crate::clients::Class;
use crate::nemesis::{Fault, Kind};
use crate::settings::{ALONE_QUOTA, SHARE};
use crate::traffic::Sent;

/// Of requests that may be judged alone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Alone {
    sent: usize,
    passed: usize,
    /// By a gateway that said that no store was asked.
    pub(crate) unasked: usize,
    /// At one gateway after another: what such routes put up with.
    at_others: usize,
    /// At one gateway, or by the word of the store at two: nobody puts up with that.
    twice: usize,
    /// Beyond what the store allows, or a gateway's share.
    over: usize,
}

impl Alone {
    /// `judged` says of a request and a gateway that served it whether that judged it alone.
    pub(crate) fn check(
        arrivals: &[Arrival],
        sent: &[Sent],
        judged: &HashMap<(u64, usize), bool>,
        faults: &[Fault],
    ) -> Self {
        let of_class = sent.iter().filter(|sent| sent.class == Class::Alone);
        let mut came: HashMap<u64, Vec<usize>> =
            of_class.map(|sent| (sent.number, Vec::new())).collect();
        let mut found = Self { sent: came.len(), ..Self::default() };
        let mut charged: BTreeMap<(&str, Option<usize>), Vec<Micros>> = BTreeMap::new();
        for arrival in arrivals {
            let Some(by) = came.get_mut(&arrival.number) else { continue };
            let is_alone = |gateway| judged.get(&(arrival.number, gateway)).copied();
            let how = is_alone(arrival.by);
            found.passed += 1;
            found.unasked += usize::from(how == Some(true));
            let settled = |gateway: &usize| is_alone(*gateway) == Some(false);
            if by.contains(&arrival.by) || (settled(&arrival.by) && by.iter().any(settled)) {
                found.twice += 1;
            } else if !by.is_empty() {
                found.at_others += 1;
            }
            by.push(arrival.by);
            // Of what was answered to nobody it is not known.
            if let Some(is_alone) = how {
                let place = is_alone.then_some(arrival.by);
                charged.entry((&arrival.account, place)).or_default().push(arrival.at);
            }
        }
        for ((_, place), moments) in &charged {
            let (quota, moves) = match place {
                None => (ALONE_QUOTA, moves(faults)),
                Some(_) => (SHARE, restarts(faults)),
            };
            found.over += exceeded(moments, quota, &moves).map_or(0, |(over, _, _)| over);
        }
        found
    }

    pub(crate) fn holds(&self) -> bool {
        self.twice == 0 && self.over == 0
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.passed += other.passed;
        self.unasked += other.unasked;
        self.at_others += other.at_others;
        self.twice += other.twice;
        self.over += other.over;
    }
}

impl fmt::Display for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, passed, unasked, at_others, twice, over } = self;
        write!(
            f,
            "sent={sent} passed={passed} judged_alone={unasked} at_another_gateway_too={at_others} accepted_twice={twice} \
             over_limit={over}"
        )
    }
}

/// When a gateway began anew with its share, or let through late what it had counted before.
fn restarts(faults: &[Fault]) -> Vec<Micros> {
    let of_gateways = |fault: &&Fault| matches!(fault.kind, Kind::KillGateway | Kind::StopGateway);
    faults.iter().filter(of_gateways).flat_map(|fault| [fault.began, fault.undone]).collect()
}
