//! What a route charges: `limits`, `weight_by`, `orders`, and the rules that it only watches.

use std::sync::Arc;

use super::NamedLimit;
use super::document::{Node, Table, text};
use super::limits;
use super::problem::{Fault, Reported, shown};
use super::value::whole;
use crate::admit::{Ask, Charges, Counts, Effect, Lane, Meter, Orders, Shadow, WeightBy};
use crate::store::{Limit, Scope, Window};

/// What every route has beside what is charged.
pub(super) struct Of<'a> {
    pub(super) ask: Option<&'a Ask>,
    pub(super) effect: Option<Effect>,
    pub(super) weight: u32,
    pub(super) limits: &'a [NamedLimit],
    /// Whether it takes money out of an account.
    pub(super) moves: bool,
}

/// What a route charges.
pub(super) struct Charged {
    /// The bucket of each address, which most routes have.
    pub(super) address_limit: Option<Limit>,
    /// All else, if anything.
    pub(super) charges: Option<Arc<Charges>>,
}

/// What the route charges beside its weight.
pub(super) fn charges(table: &Table<'_>, of: &Of<'_>) -> Result<Charged, Reported> {
    let weight_by = table.find("weight_by").map(|node| weight_by(&node).ok_or(Reported));
    let weight_by = weight_by.transpose()?;
    let orders = table.find("orders").map(|node| orders(&node, of).ok_or(Reported));
    let orders = orders.transpose()?.unwrap_or_default();
    let heaviest = of.weight.max(weight_by.as_ref().map_or(0, WeightBy::heaviest));
    let mut meters = Vec::new();
    if let Some(node) = table.find("limits") {
        let found = node.texts(|name| own_limit(name, of, heaviest, &orders));
        if found.len() > MOST_LIMITS {
            let problem = format!("a route names at most {MOST_LIMITS} limits");
            node.spot.error(Fault::new(problem));
        }
        meters = found;
    }
    let mut address_limit = None;
    if let Some(node) = table.find("address_limit") {
        let meter = node.read(|value| {
            let meter = limits::find(of.limits, text(value)?, &[Scope::Address])?;
            holds(&meter, heaviest, &orders)
        });
        match meter.ok_or(Reported)? {
            Meter {
                limit, window: Window::Bucket, counts: Counts::Weight, shadow: false, ..
            } => {
                address_limit = Some(limit);
            }
            other => meters.push(other),
        }
    }
    let shadow = table.find("shadow").map_or_else(Shadow::default, |node| shadow(&node, of));
    let nothing = meters.is_empty() && weight_by.is_none() && orders == Orders::None;
    let charges = if nothing && shadow == Shadow::default() {
        None
    } else {
        Some(Arc::new(Charges { meters: meters.into(), weight_by, orders, shadow }))
    };
    Ok(Charged { address_limit, charges })
}

fn own_limit(name: &str, of: &Of<'_>, heaviest: u32, orders: &Orders) -> Result<Meter, Fault> {
    let known: &[Scope] = match of.ask {
        // Nobody is known there.
        Some(Ask::Public) => &[Scope::Address, Scope::Global],
        Some(Ask::Key(_) | Ask::Signed(_)) | None => {
            &[Scope::Key, Scope::Account, Scope::Address, Scope::Global]
        }
    };
    let meter = limits::find(of.limits, name, known)?;
    if meter.lane == Lane::Cancel {
        let problem = format!("limit \"{name}\" is a lane for cancels, which keys name");
        return Err(Fault::cured(problem, "name it at the keys, or leave its `lane` out"));
    }
    holds(&meter, heaviest, orders)
}

/// The limit, if a request can ever fit into it.
fn holds(meter: &Meter, heaviest: u32, orders: &Orders) -> Result<Meter, Fault> {
    let (quota, taken) = match (meter.counts, orders) {
        (Counts::Weight, _) => (meter.limit.quota, heaviest),
        (Counts::Orders, Orders::Each(orders)) => (meter.limit.quota, *orders),
        (Counts::Orders, Orders::None | Orders::In(_) | Orders::Body) => (meter.limit.quota, 0),
    };
    if quota < taken {
        return Err(Fault::new(format!(
            "its quota of {quota} is less than the weight of one request, {taken}: none would pass"
        )));
    }
    Ok(*meter)
}

fn weight_by(node: &Node<'_>) -> Option<WeightBy> {
    let table = node.table()?;
    let parameter =
        table.need("parameter", "whose value says the weight, as parameter = \"limit\"");
    let parameter = parameter.and_then(|node| node.read(|value| plain_name(text(value)?)));
    let steps = table.find("steps").map_or(Some(Vec::new()), |node| steps(&node));
    let absent = table.find("absent").map(|node| node.read(whole(0..=1_000_000)));
    table.finish();
    let absent = absent.map_or(Some(None), |weight| weight.map(Some));
    Some(WeightBy { parameter: parameter?, steps: steps?.into(), absent: absent? })
}

fn steps(node: &Node<'_>) -> Option<Vec<(u64, u32)>> {
    let mut steps: Vec<(u64, u32)> = Vec::new();
    for step in node.items()? {
        let pair = step.items()?;
        let [most, weight] = &pair[..] else {
            let problem = "a step is a value and the weight of all up to it";
            step.spot.error(Fault::cured(problem, "write it as [100, 5]"));
            return None;
        };
        let most = most.read(whole(0..=u64::from(u32::MAX)))?;
        let weight = weight.read(whole(0..=1_000_000))?;
        if steps.last().is_some_and(|(before, _)| *before >= most) {
            step.spot.error(Fault::new("the values of steps ascend"));
            return None;
        }
        steps.push((most, weight));
    }
    Some(steps)
}

/// A number, or where they stand.
fn orders(node: &Node<'_>, of: &Of<'_>) -> Option<Orders> {
    if of.effect.is_some_and(|effect| effect != Effect::Write) {
        let problem = "only a route with effect = \"write\" places orders";
        node.spot.error(Fault::cured(problem, "leave `orders` out, or state the `effect`"));
        return None;
    }
    if node.value.as_integer().is_some() {
        return node.read(whole(0..=1_000)).map(Orders::Each);
    }
    if node.value.as_str().is_some() {
        return node.read(|value| match text(value)? {
            "body" => Ok(Orders::Body),
            other => Err(Fault::cured(
                format!("\"{}\" is no place of orders", shown(other)),
                "write a number, \"body\" for a body that is their array, or { array = \"batchOrders\" }",
            )),
        });
    }
    let table = node.table()?;
    let array = table.need("array", "the parameter or JSON member that holds them");
    let array = array.and_then(|node| node.read(|value| plain_name(text(value)?)));
    table.finish();
    array.map(Orders::In)
}

fn plain_name(name: &str) -> Result<Box<str>, Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(name.into());
    }
    let problem = format!("\"{}\" is no name of a parameter", shown(name));
    Err(Fault::cured(problem, "use up to 64 letters, digits, `-`, `_` and `.`"))
}

fn shadow(node: &Node<'_>, of: &Of<'_>) -> Shadow {
    let mut shadow = Shadow::default();
    if of.moves {
        let problem =
            "this route takes money out of accounts: what would be refused must be refused";
        node.spot.error(Fault::cured(problem, "leave `shadow` out"));
    }
    node.texts(|rule| {
        match rule {
            "address" => shadow.address = true,
            "permission" => shadow.permission = true,
            "second-factor" => shadow.second_factor = true,
            _ => return Err(Fault::unknown("rule that can be in shadow", rule, RULES)),
        }
        Ok(())
    });
    shadow
}

const RULES: [&str; 3] = ["address", "permission", "second-factor"];
/// The most limits that a route names, that of addresses apart.
const MOST_LIMITS: usize = 2;
