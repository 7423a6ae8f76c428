//! `symbol` of a route: where its requests name the symbol that they are for.

use super::document::{Node, Table, text};
use super::problem::{Fault, Reported, shown};
use crate::admit::{Ask, SymbolPlace};
use crate::gateway::routes::Rule;

/// The place that a route names, `None` where it names none.
pub(super) fn symbol(
    route: &Table<'_>,
    ask: Option<&Ask>,
    rule: Option<&Rule>,
) -> Result<Option<SymbolPlace>, Reported> {
    let Some(node) = route.find("symbol") else { return Ok(None) };
    let table = node.table().ok_or(Reported)?;
    let places = [table.find("parameter"), table.find("member"), table.find("segment")];
    table.finish();
    if matches!(ask, Some(Ask::Public)) {
        let problem = "a public route knows no key, so none that is bound to symbols";
        node.spot.error(Fault::cured(problem, "leave `symbol` out"));
        return Err(Reported);
    }
    let place = match places {
        [Some(parameter), None, None] => {
            one_name(&parameter).map(|name| SymbolPlace::Parameter(name.into()))
        }
        [None, Some(member), None] => member.read(|value| {
            let names = text(value)?.split('.').map(|name| plain(name).map(Box::from));
            names.collect::<Result<_, Fault>>().map(SymbolPlace::Member)
        }),
        [None, None, Some(segment)] => one_name(&segment).and_then(|name| {
            let path = rule.map(|rule| rule.path.to_string())?;
            let wanted = format!("{{{name}}}");
            let place = path.split('/').skip(1).position(|segment| segment == wanted);
            if place.is_none() {
                let problem = format!("there is no segment \"{wanted}\" in the `path`");
                segment.spot.error(Fault::cured(problem, "name one that stands there in braces"));
            }
            place.map(SymbolPlace::Segment)
        }),
        _ => {
            let problem = "it takes one of `parameter`, `member` and `segment`";
            let cure = "say where the symbol is, as symbol = { parameter = \"symbol\" }";
            node.spot.error(Fault::cured(problem, cure));
            None
        }
    };
    place.map(Some).ok_or(Reported)
}

fn one_name<'a>(node: &Node<'a>) -> Option<&'a str> {
    node.read(|value| plain(text(value)?))
}

fn plain(name: &str) -> Result<&str, Fault> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(good) {
        return Ok(name);
    }
    let problem = format!("\"{}\" is no name", shown(name));
    Err(Fault::cured(problem, "use up to 64 letters, digits, `-` and `_`"))
}
