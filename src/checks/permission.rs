//! Defeats an over-broad key: each route names the permissions that open it, a key may name its routes, and what is
//! switched off is closed to every key.

use crate::admit::Route;
use crate::checks::switches::Switches;
use crate::clock::Micros;
use crate::denial::Denial;
use crate::key::{Key, Permission, Permissions};

/// Holds when the key carries one of the permissions that open `route`, or none is asked; when it is for that route;
/// and when what it carries is neither over for it nor switched off.
pub(crate) fn check(
    key: &Key,
    route: &Route,
    switches: &Switches,
    now: Micros,
) -> Result<(), Denial> {
    let (mut held, asked) = (key.permissions, route.permissions);
    if !held.open(asked) {
        return Err(Denial::NotPermitted);
    }
    if let Some(bindings) = &key.bindings {
        let routes = bindings.routes.as_ref();
        if routes.is_some_and(|routes| routes.binary_search(&route.id).is_err()) {
            return Err(Denial::RouteRefused);
        }
        if bindings.trade_until.is_some_and(|end| end <= now) {
            held = held.without(Permissions::NONE.with(Permission::TRADE));
        }
        if !held.open(asked) {
            return Err(Denial::TradeEnded);
        }
    }
    if switches.leave(held, asked) { Ok(()) } else { Err(Denial::SwitchedOff) }
}

/// What may not pass though the rule is in shadow: what is switched off, for whoever held all that opens the route.
pub(crate) fn check_in_shadow(
    denial: Denial,
    route: &Route,
    switches: &Switches,
) -> Result<Denial, Denial> {
    let asked = route.permissions;
    if switches.leave(asked, asked) { Ok(denial) } else { Err(Denial::SwitchedOff) }
}
