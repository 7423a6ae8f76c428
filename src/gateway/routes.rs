//! Which request goes where: host, method and path to a route. The first rule that matches counts.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use http::Method;

use super::pattern::{HostPattern, PathPattern, folded};
use crate::admit::Route;
use crate::audit::Demand;
use crate::store::Limit;

/// What a matching request is for.
#[derive(Clone, Debug)]
pub enum Target {
    /// An upstream, by its place in the configuration.
    Upstream(usize),
    /// An upstream, for requests that open a WebSocket and for no others.
    WebSocket(usize),
    /// The gateway itself: the server's time, in the dialect's form.
    Time(TimeAnswer),
}

/// The forms in which the gateway answers its own time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TimeAnswer {
    /// `{"serverTime":1700000000000}`
    Binance,
    /// `{"retCode":0,…,"time":1700000000000}`
    Bybit,
    /// `{"code":"00000","data":{"serverTime":"1700000000000"},…}`
    Bitget,
    /// An empty object: a ping.
    Empty,
}

impl TimeAnswer {
    /// Every form, with the name that configuration uses.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Binance, "time-binance"),
        (Self::Bybit, "time-bybit"),
        (Self::Bitget, "time-bitget"),
        (Self::Empty, "empty"),
    ];
}

/// A route with where it leads.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it demands.
    pub demand: Route,
    /// Where it leads.
    pub target: Target,
    /// What it asks of the audit trail.
    pub audit: Demand,
}

/// Which requests a route is for.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The hosts.
    pub host: HostPattern,
    /// The methods.
    pub methods: Box<[Method]>,
    /// The paths.
    pub path: PathPattern,
}

impl Rule {
    fn takes(&self, host: &str, method: &Method) -> bool {
        self.methods.contains(method) && self.host.matches(host)
    }

    /// Whether this rule takes every request of this method that `other` would.
    pub fn covers(&self, other: &Self, method: &Method) -> bool {
        self.methods.contains(method)
            && self.host.covers(&other.host)
            && self.path.covers(&other.path)
    }
}

/// All routes. Built by the configuration.
#[derive(Debug, Default)]
pub struct Routes {
    entries: Vec<Arc<Entry>>,
    rules: Vec<Rule>,
    /// For each path that a rule names in full, every rule that takes it, in order: patterns too.
    exact: HashMap<Box<str>, Box<[usize]>, RandomState>,
    /// The rules that take many paths, in order.
    patterns: Box<[usize]>,
    /// For each rule that takes many paths, the earlier ones that a careless backend could take its paths for.
    guards: Box<[Guards]>,
}

/// Rules by their places, with their folded patterns.
type Guards = Box<[(usize, PathPattern)]>;

impl Routes {
    /// Routes by rules in the order they are tried. The ids in the entries are their places here.
    pub fn new(rules: impl IntoIterator<Item = (Rule, Entry)>) -> Self {
        let (rules, entries): (Vec<_>, Vec<_>) =
            rules.into_iter().map(|(rule, entry)| (rule, Arc::new(entry))).unzip();
        let takers = |path: &str| -> Box<[usize]> {
            let takes = |(_, rule): &(usize, &Rule)| rule.path.matches(path);
            rules.iter().enumerate().filter(takes).map(|(place, _)| place).collect()
        };
        let named = rules.iter().filter_map(|rule| rule.path.exact());
        let exact = named.map(|path| (path.into(), takers(path))).collect();
        let many = rules.iter().enumerate().filter(|(_, rule)| rule.path.exact().is_none());
        let patterns = many.map(|(place, _)| place).collect();
        let guards = (0..rules.len()).map(|place| guards(&rules, place)).collect();
        Self { entries, rules, exact, patterns, guards }
    }

    /// The route of a request, by the first rule that matches; `None` is a 404.
    ///
    /// `path` is the raw path, compared byte for byte; `host` may carry a port. Many backends take `/Order/` for
    /// `/order`: a path that is a rule's but for case and a trailing slash never falls through to a later pattern,
    /// which may ask for less.
    pub fn find(&self, host: &str, method: &Method, path: &str) -> Option<&Arc<Entry>> {
        let place = if let Some(takers) = self.exact.get(path) {
            takers.iter().find(|place| self.takes(**place, host, method))
        } else {
            self.patterns.iter().find(|place| {
                self.rules.get(**place).is_some_and(|rule| rule.path.matches(path))
                    && self.takes(**place, host, method)
            })
        };
        let place = *place?;
        if self.is_guarded(place, host, method, path) { None } else { self.entries.get(place) }
    }

    fn is_guarded(&self, place: usize, host: &str, method: &Method, path: &str) -> bool {
        let Some(guards) = self.guards.get(place).filter(|guards| !guards.is_empty()) else {
            return false;
        };
        let path = folded(path);
        guards
            .iter()
            .any(|(other, pattern)| pattern.matches(&path) && self.takes(*other, host, method))
    }

    /// Gives every route that limits addresses this limit instead.
    pub fn limit_addresses(&mut self, limit: Limit) {
        for entry in &mut self.entries {
            let demand = &mut Arc::make_mut(entry).demand;
            demand.address_limit = demand.address_limit.map(|_| limit);
        }
    }

    /// Every route, in order of its id.
    pub fn all(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// Every rule, in the order of [`Routes::all`].
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    fn takes(&self, place: usize, host: &str, method: &Method) -> bool {
        self.rules.get(place).is_some_and(|rule| rule.takes(host, method))
    }
}

/// What guards the rule at `place`, where that takes many paths.
fn guards(rules: &[Rule], place: usize) -> Guards {
    let Some(rule) = rules.get(place).filter(|rule| rule.path.exact().is_none()) else {
        return Guards::default();
    };
    let own = rule.path.folded();
    let earlier = rules.iter().enumerate().take(place);
    earlier
        .filter(|(_, other)| other.methods.iter().any(|method| rule.methods.contains(method)))
        .map(|(other, rule)| (other, rule.path.folded()))
        .filter(|(_, pattern)| own.may_meet(pattern))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::admit::{Ask, Effect};
    use crate::key::{Permissions, Venue};
    use crate::store::Repeat;

    fn entry(place: usize) -> Entry {
        let demand = Route {
            name: place.to_string().into(),
            id: u16::try_from(place).unwrap(),
            ask: Ask::Public,
            venue: Venue("main".into()),
            permissions: Permissions::NONE,
            effect: Effect::Read,
            weight: 1,
            body_cap: 0,
            key_max_age: Duration::ZERO,
            lead: Duration::ZERO,
            repeat: Repeat::Never,
            address_limit: None,
            symbol: None,
            charges: None,
            second_factor: None,
        };
        Entry { demand, target: Target::Upstream(0), audit: Demand::default() }
    }

    fn rule(host: &str, method: &Method, path: &str) -> Rule {
        let host =
            if host.is_empty() { HostPattern::Any } else { HostPattern::parse(host).unwrap() };
        let methods = [method.clone()].into();
        Rule { host, methods, path: PathPattern::parse(path).unwrap() }
    }

    fn routes(rules: &[(&str, Method, &str)]) -> Routes {
        let rules = rules.iter().enumerate();
        Routes::new(rules.map(|(at, (host, method, path))| (rule(host, method, path), entry(at))))
    }

    fn found(routes: &Routes, host: &str, method: &Method, path: &str) -> Option<u16> {
        routes.find(host, method, path).map(|entry| entry.demand.id)
    }

    #[test]
    fn the_first_rule_in_the_file_wins_whether_exact_or_pattern() {
        let get = Method::GET;
        let routes = routes(&[
            ("", Method::GET, "/a/exact"),
            ("", Method::GET, "/a/**"),
            ("", Method::GET, "/a/late"),
            ("", Method::POST, "/a/late"),
        ]);
        assert_eq!(found(&routes, "h", &get, "/a/exact"), Some(0));
        assert_eq!(found(&routes, "h", &get, "/a/late"), Some(1));
        assert_eq!(found(&routes, "h", &Method::POST, "/a/late"), Some(3));
        assert_eq!(found(&routes, "h", &get, "/a/other"), Some(1));
    }

    #[test]
    fn a_method_path_or_host_without_a_rule_has_no_route() {
        let routes = routes(&[("api.example.com", Method::GET, "/a")]);
        assert_eq!(found(&routes, "API.example.com:443", &Method::GET, "/a"), Some(0));
        assert_eq!(found(&routes, "other.example.com", &Method::GET, "/a"), None);
        assert_eq!(found(&routes, "api.example.com", &Method::HEAD, "/a"), None);
        for path in ["/a/", "/A", "/%61", "//a", "/a?", "", "a"] {
            assert_eq!(found(&routes, "api.example.com", &Method::GET, path), None, "{path}");
        }
        assert_eq!(found(&Routes::default(), "h", &Method::GET, "/"), None);
    }

    /// Segment by segment, with none of the shortcuts.
    fn naively_matches(pattern: &str, path: &str) -> bool {
        let (pattern, open) =
            pattern.strip_suffix("/**").map_or((pattern, false), |before| (before, true));
        let wanted: Vec<_> = pattern.split('/').collect();
        let found: Vec<_> = path.split('/').collect();
        let same = |(want, found): (&&str, &&str)| {
            if want.starts_with('{') { !found.is_empty() } else { want == found }
        };
        let enough = if open {
            found.get(wanted.len()).is_some_and(|next| !next.is_empty())
        } else {
            found.len() == wanted.len()
        };
        enough && wanted.iter().zip(&found).all(same)
    }

    fn pattern_text() -> impl Strategy<Value = String> {
        let segment = prop_oneof!["[ab]", Just("{x}".to_owned())];
        let end = prop_oneof![Just(""), Just("/**"), Just("/")];
        (prop::collection::vec(segment, 1..4), end).prop_map(|(segments, end)| {
            // No name stands twice.
            let named = |(at, text): (usize, &String)| text.replace('x', &format!("x{at}"));
            let segments: Vec<_> = segments.iter().enumerate().map(named).collect();
            format!("/{}{end}", segments.join("/"))
        })
    }

    fn method() -> impl Strategy<Value = Method> {
        prop_oneof![Just(Method::GET), Just(Method::POST)]
    }

    fn host() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just(""), Just("x.io"), Just("*.io")]
    }

    #[test]
    fn another_spelling_of_a_named_path_falls_through_to_no_pattern() {
        let post = Method::POST;
        let routes = routes(&[
            ("", Method::POST, "/v1/Withdraw/apply"),
            ("", Method::POST, "/v1/transfer/**"),
            ("", Method::GET, "/v1/deposit"),
            ("", Method::POST, "/v1/**"),
        ]);
        assert_eq!(found(&routes, "h", &post, "/v1/Withdraw/apply"), Some(0));
        for path in
            ["/v1/withdraw/apply", "/v1/Withdraw/apply/", "/v1/WITHDRAW/apply", "/v1/Transfer/all"]
        {
            assert_eq!(found(&routes, "h", &post, path), None, "{path}");
        }
        for path in ["/v1/withdraw", "/v1/Other/", "/v1/deposit/", "/v1/withdraw/apply/now"] {
            assert_eq!(found(&routes, "h", &post, path), Some(3), "{path}");
        }
    }

    proptest! {
        #[test]
        fn the_route_found_is_the_one_a_naive_search_finds(
            rules in prop::collection::vec((host(), method(), pattern_text()), 0..12),
            requests in prop::collection::vec(
                (prop_oneof!["x.io", "y.x.io:80", "z"], method(), "(/[ab]?){1,5}"), 1..20,
            ),
        ) {
            let borrowed: Vec<_> =
                rules.iter().map(|(h, m, p)| (*h, m.clone(), p.as_str())).collect();
            let routes = routes(&borrowed);
            for (host, method, path) in &requests {
                let takes = |(h, m, _): &(&str, Method, &str)| {
                    (h.is_empty() || HostPattern::parse(h).unwrap().matches(host)) && m == method
                };
                let naive = borrowed.iter().position(|rule| takes(rule) && naively_matches(rule.2, path));
                let bare = |text: &str| match text.strip_suffix('/') {
                    None | Some("") => text.to_owned(),
                    Some(bare) => bare.to_owned(),
                };
                let naive = naive.filter(|place| {
                    let pattern = borrowed[*place].2;
                    !pattern.contains(['{', '*']) || !borrowed[..*place].iter().any(|rule| {
                        takes(rule) && naively_matches(&bare(rule.2), &bare(path))
                    })
                });
                let quick = found(&routes, host, method, path).map(usize::from);
                prop_assert_eq!(quick, naive, "{} {} {}", host, method, path);
            }
        }

        #[test]
        fn whatever_a_covered_pattern_takes_the_covering_one_takes(
            ours in pattern_text(), theirs in pattern_text(), path in "(/[ab]?){1,5}",
        ) {
            let [ours, theirs] = [ours, theirs].map(|text| PathPattern::parse(&text).unwrap());
            if ours.covers(&theirs) && theirs.matches(&path) {
                prop_assert!(ours.matches(&path), "{} {} {}", ours, theirs, path);
            }
        }
    }
}
