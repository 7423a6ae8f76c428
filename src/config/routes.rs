//! `[[route]]`: which requests go where, and what they must show.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::NamedLimit;
use super::audit::Audit;
use super::charges::{Of, charges};
use super::dialects::Dialects;
use super::document::{Table, text};
use super::down::{Asks, is_local};
use super::lead::{lead, refuse_unlike};
use super::load::{one_or_more, refuse_repeats};
use super::problem::{Fault, shown};
use super::replay::{refuse_reopening, repeat};
use super::second_factor::second_factor;
use super::symbol::symbol;
use super::upstreams::Named;
use super::value::{boolean, name, size, span, whole, word};
use crate::admit::{Ask, Challenges, Effect, Route};
use crate::gateway::pattern::{HostPattern, PathPattern};
use crate::gateway::routes::{Entry, Routes, Rule, Target, TimeAnswer};
use crate::key::{Permission, PermissionNames, Permissions, Venue};

/// What routes refer to.
struct Scene<'s, 'a> {
    upstreams: &'s [Named<'a>],
    dialects: &'s mut Dialects,
    limits: &'s [NamedLimit],
    permissions: PermissionNames,
    challenges: Option<&'s Arc<Challenges>>,
    audit: &'s Audit,
}

/// What was read.
pub(super) struct Read {
    pub(super) routes: Routes,
    /// The permissions that routes speak of.
    pub(super) permissions: PermissionNames,
    /// Id and name of those that a gateway judges alone while a shared store cannot be asked.
    pub(super) locals: Vec<(u16, Arc<str>)>,
}

/// Every route that is right.
pub(super) fn routes(
    root: &Table<'_>,
    upstreams: &[Named<'_>],
    dialects: &mut Dialects,
    limits: &[NamedLimit],
    challenges: Option<&Arc<Challenges>>,
    audit: &Audit,
) -> Read {
    let tables = root.tables("route");
    if tables.is_empty() {
        root.spot.error(Fault::cured(
            "there is no route",
            "add `[[route]]`: nothing is let through without one",
        ));
    }
    if tables.len() > usize::from(u16::MAX) {
        root.spot.error(Fault::new("there are more than 65535 routes"));
    }
    let permissions = PermissionNames::default();
    let mut scene = Scene { upstreams, dialects, limits, permissions, challenges, audit };
    let mut names = Vec::new();
    let mut rules: Vec<(Rule, Entry)> = Vec::new();
    let mut locals = Vec::new();
    for (id, table) in tables.into_iter().enumerate() {
        let name = route_name(&table, &mut names);
        let rule = rule(&table);
        let entry = scene.entry(&table, rule.as_ref());
        if let Some(rule) = &rule {
            refuse_shadowed(&table, rule, &rules);
            if let Some((entry, _)) = &entry {
                refuse_unlike(&table, rule, &entry.demand, &rules);
            }
        }
        table.finish();
        if let (Some(name), Some(rule), Some((mut entry, is_local))) = (name, rule, entry) {
            entry.demand.name = Arc::from(name);
            entry.demand.id = u16::try_from(id).unwrap_or(u16::MAX);
            locals.extend(is_local.then(|| (entry.demand.id, Arc::clone(&entry.demand.name))));
            rules.push((rule, entry));
        }
    }
    Read { routes: Routes::new(rules), permissions: scene.permissions, locals }
}

fn route_name<'a>(table: &Table<'a>, names: &mut Vec<&'a str>) -> Option<&'a str> {
    let node = table.need("name", "it labels metrics, as name = \"order-place\"")?;
    node.read(|value| {
        let text = name(value)?;
        refuse_repeats(names, text, "route").map(|()| text)
    })
}

fn rule(table: &Table<'_>) -> Option<Rule> {
    let host = table.find("host").map_or(Some(HostPattern::Any), |node| {
        node.read(|value| {
            HostPattern::parse(text(value)?).map_err(|bad| Fault::new(bad.to_string()))
        })
    });
    let methods = table.need("methods", "as methods = [\"GET\"]");
    let path = table.need("path", "as path = \"/api/v3/order\" or \"/sapi/**\"");
    let methods = methods.and_then(|node| {
        let found = node.texts(method);
        if node.value.as_array().is_some_and(|all| all.is_empty()) {
            node.spot.error(Fault::cured("there is no method", "name at least one"));
        }
        (!found.is_empty()).then_some(found)
    });
    let path = path.and_then(|node| {
        node.read(|value| {
            let text = text(value)?;
            PathPattern::parse(text)
                .map_err(|bad| Fault::new(format!("\"{}\" is no path: {bad}", shown(text))))
        })
    });
    Some(Rule { host: host?, methods: methods?.into(), path: path? })
}

fn method(text: &str) -> Result<Method, Fault> {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::OPTIONS,
    ];
    let found = known.iter().find(|method| method.as_str() == text);
    found.cloned().ok_or_else(|| Fault::unknown("method", text, known.iter().map(Method::as_str)))
}

/// Refuses a route when, for each of its methods, an earlier one takes all its requests.
fn refuse_shadowed(table: &Table<'_>, rule: &Rule, earlier: &[(Rule, Entry)]) {
    let taker = |method| earlier.iter().find(|(other, _)| other.covers(rule, method));
    let takers: Option<Vec<_>> = rule.methods.iter().map(taker).collect();
    let Some((_, first)) = takers.as_ref().and_then(|takers| takers.first()) else { return };
    table.spot.error(Fault::cured(
        format!(
            "no request can reach this route: \"{}\" comes first and takes them all",
            first.demand.name
        ),
        "put the narrower route first, or remove this one",
    ));
}

impl Scene<'_, '_> {
    fn entry(&mut self, table: &Table<'_>, rule: Option<&Rule>) -> Option<(Entry, bool)> {
        let target = self.target(table, rule);
        let answered = matches!(target, Some(Target::Time(_)));
        let ask = self.ask(table, answered);
        let effect = effect(table, rule);
        let is_public = matches!(ask, Some(Ask::Public));
        let permissions = self.asked_permissions(table, is_public, effect);
        let venue = table.find("venue").map_or(Some("main"), |node| node.read(name));
        let weight = table.or("weight", 1, whole(0..=1_000_000));
        let body_cap = table.or("body_cap", 64 << 10, size(0..=16 << 20));
        let class = permissions.unwrap_or(Permissions::NONE);
        refuse_unsigned_body(table, ask.as_ref(), class);
        let (hour, age) = (Duration::from_hours(1), default_age(class, effect));
        let key_max_age = table.or("key_max_age", age, |value| {
            let found = span(Duration::ZERO..=24 * hour)(value)?;
            if found >= LEAST_AGE {
                return Ok(found);
            }
            let problem = "a gateway looks for changes of keys every half second, so it would refuse in between";
            Err(Fault::cured(problem, "allow \"1s\" or more: a revocation is heard of at once all the same"))
        });
        let lead = lead(table, ask.as_ref());
        let repeat = repeat(table, ask.as_ref(), effect);
        refuse_reopening(table, target.as_ref(), repeat);
        let moves = class.holds_any(moves());
        let of = Of { ask: ask.as_ref(), effect, weight, limits: self.limits, moves };
        let charged = charges(table, &of);
        let factor = second_factor(table, ask.as_ref(), repeat, self.challenges);
        let symbol = symbol(table, ask.as_ref(), rule);
        let audit = self.audit.demand(table);
        let asked = Asks {
            ask: ask.as_ref(),
            effect,
            target: target.as_ref(),
            has_factor: matches!(factor, Ok(Some(_))),
        };
        let is_local = is_local(table, &asked);
        let charged = charged.ok()?;
        let demand = Route {
            name: Arc::from(""),
            id: 0,
            ask: ask?,
            venue: Venue(Arc::from(venue?)),
            permissions: permissions?,
            effect: effect?,
            weight,
            body_cap,
            key_max_age,
            lead,
            repeat: repeat?,
            symbol: symbol.ok()?,
            address_limit: charged.address_limit,
            charges: charged.charges,
            second_factor: factor.ok()?,
        };
        Some((Entry { demand, target: target?, audit }, is_local?))
    }

    /// Where it leads; for WebSockets, where that is asked for.
    fn target(&self, table: &Table<'_>, rule: Option<&Rule>) -> Option<Target> {
        let target = self.plain_target(table);
        let Some(node) = table.find("websocket") else { return target };
        if !node.read(boolean)? {
            return target;
        }
        if rule.is_some_and(|rule| *rule.methods != [Method::GET]) {
            let problem = "WebSockets are opened with GET alone";
            node.spot.error(Fault::cured(problem, "write methods = [\"GET\"]"));
            return None;
        }
        match target? {
            Target::Upstream(upstream) | Target::WebSocket(upstream) => {
                Some(Target::WebSocket(upstream))
            }
            Target::Time(_) => {
                node.spot.error(Fault::cured("the gateway answers here itself", "keep one"));
                None
            }
        }
    }

    fn plain_target(&self, table: &Table<'_>) -> Option<Target> {
        match (table.find("upstream"), table.find("answer")) {
            (Some(upstream), None) => upstream.read(|value| {
                let name = text(value)?;
                let place = self.upstreams.iter().position(|known| known.name == name);
                let known = self.upstreams.iter().map(|known| known.name);
                place.map(Target::Upstream).ok_or_else(|| Fault::unknown("upstream", name, known))
            }),
            (None, Some(answer)) => answer.read(word("answer", &TimeAnswer::ALL)).map(Target::Time),
            (Some(_), Some(answer)) => {
                answer
                    .spot
                    .error(Fault::cured("both `upstream` and `answer` are given", "keep one"));
                None
            }
            (None, None) => {
                let cure =
                    "name the upstream, or let the gateway answer, as answer = \"time-binance\"";
                table.spot.error(Fault::cured("neither `upstream` nor `answer` is given", cure));
                None
            }
        }
    }

    /// Signed, where the operator does not say otherwise: a route is never open by omission.
    fn ask(&mut self, table: &Table<'_>, answered: bool) -> Option<Ask> {
        let node = table.find("ask");
        let default = if answered { Asked::Public } else { Asked::Signed };
        let asked = node.as_ref().map_or(Some(default), |node| node.read(word("ask", &ASKED)))?;
        if answered && asked != Asked::Public {
            let problem = "what the gateway answers itself is public";
            node?.spot.error(Fault::cured(problem, "leave `ask` out"));
            return None;
        }
        if asked == Asked::Public {
            let Some(dialect) = table.find("dialect") else { return Some(Ask::Public) };
            let problem = "a public route checks no signature, so it has no dialect";
            dialect
                .spot
                .error(Fault::cured(problem, "leave `dialect` out, or write ask = \"signed\""));
            return None;
        }
        let node =
            table.need("dialect", "how its requests are signed, as dialect = \"binance\"")?;
        let dialect = node.read(|value| self.dialects.find(text(value)?))??;
        Some(if asked == Asked::Key { Ask::Key(dialect) } else { Ask::Signed(dialect) })
    }

    fn asked_permissions(
        &mut self,
        table: &Table<'_>,
        is_public: bool,
        effect: Option<Effect>,
    ) -> Option<Permissions> {
        let node = table.find("permission");
        if is_public {
            let Some(node) = node else { return Some(Permissions::NONE) };
            let problem = "a public route knows no key, so no permission either";
            node.spot.error(Fault::cured(problem, "leave `permission` out"));
            return None;
        }
        let Some(node) = node else {
            return match effect? {
                Effect::Read => Some(Permissions::NONE.with(Permission::READ)),
                Effect::Cancel => {
                    Some(Permissions::NONE.with(Permission::CANCEL).with(Permission::TRADE))
                }
                Effect::Write => {
                    let cure = "say what a key must be permitted, as permission = \"trade\"";
                    table.spot.error(Fault::cured("`permission` is missing", cure));
                    None
                }
            };
        };
        let names = &mut self.permissions;
        let found = one_or_more(&node, |text| declared(names, text));
        if node.value.as_array().is_some_and(|all| all.is_empty()) {
            node.spot.error(Fault::cured("there is no permission", "name at least one"));
        }
        (!found.is_empty()).then(|| found.into_iter().collect())
    }
}

fn declared(names: &mut PermissionNames, text: &str) -> Result<Permission, Fault> {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
        let problem = format!("\"{}\" is no permission", shown(text));
        return Err(Fault::cured(problem, "use lower-case letters, digits, `-` and `_`"));
    }
    names.declare(text).map_err(|error| Fault::new(error.to_string()))
}

/// As stated; else by the methods, where they agree.
fn effect(table: &Table<'_>, rule: Option<&Rule>) -> Option<Effect> {
    if let Some(node) = table.find("effect") {
        return node.read(word("effect", &EFFECTS));
    }
    let reads = |method: &Method| matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let methods = &rule?.methods;
    let count = methods.iter().filter(|method| reads(method)).count();
    if count == methods.len() {
        return Some(Effect::Read);
    }
    if count > 0 {
        let cure = "state the `effect`, or make a route of each";
        table.spot.error(Fault::cured("some of its methods read and some write", cure));
        return None;
    }
    Some(Effect::Write)
}

/// A dialect that leaves the body unsigned moves no money.
fn refuse_unsigned_body(table: &Table<'_>, ask: Option<&Ask>, permissions: Permissions) {
    let Some(Ask::Signed(dialect)) = ask else { return };
    if dialect.passes_unsigned_body() && permissions.holds_any(moves()) {
        table.spot.error(Fault::cured(
            format!(
                "dialect {} does not sign the body, so whoever alters it in flight would move other money",
                dialect.name()
            ),
            "serve this route in another dialect",
        ));
    }
}

/// What takes money out of an account.
const fn moves() -> Permissions {
    Permissions::NONE.with(Permission::WITHDRAW).with(Permission::TRANSFER)
}

/// What is known of keys is confirmed twice as often.
const LEAST_AGE: Duration = Duration::from_secs(1);

/// How long a revoked key may go on, by what it could do meanwhile.
fn default_age(permissions: Permissions, effect: Option<Effect>) -> Duration {
    match effect {
        _ if permissions.holds_any(moves()) => Duration::from_secs(2),
        Some(Effect::Write) | None => Duration::from_secs(30),
        Some(Effect::Read | Effect::Cancel) => Duration::from_mins(5),
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Asked {
    Signed,
    Key,
    Public,
}

const ASKED: [(Asked, &str); 3] =
    [(Asked::Signed, "signed"), (Asked::Key, "key"), (Asked::Public, "public")];
const EFFECTS: [(Effect, &str); 3] =
    [(Effect::Read, "read"), (Effect::Cancel, "cancel"), (Effect::Write, "write")];
