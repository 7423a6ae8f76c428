//! What can be wrong with a route, and what is said of it.

/// What is changed, to what, and what is then said, from line and column on.
pub(super) const ROUTES: &[(&str, &str, &str)] = &[
    (
        "methods = [\"POST\"]",
        "methods = [\"PSOT\"]",
        "34:12: route[0].methods[0]: no method is called \"PSOT\" (did you mean \"POST\"?)",
    ),
    (
        "methods = [\"POST\"]",
        "methods = [\"POST\", \"GET\"]",
        "32:1: route[0]: some of its methods read and some write",
    ),
    (
        "path = \"/api/v3/order\"",
        "path = \"/api/*/order\"",
        "35:8: route[0].path: \"/api/*/order\" is no path: `*` stands only in a trailing `/**`",
    ),
    (
        "path = \"/api/**\"",
        "path = \"/api/**\"\nhost = \"a:80\"",
        "45:8: route[1].host: a host is a name",
    ),
    (
        "path = \"/api/**\"\nupstream = \"exchange\"",
        "path = \"/api/**\"\nupstream = \"exchang\"",
        "45:12: route[1].upstream: no upstream is called \"exchang\" (did you mean \"exchange\"?)",
    ),
    (
        "path = \"/api/**\"\nupstream = \"exchange\"",
        "path = \"/api/**\"",
        "41:1: route[1]: neither `upstream` nor `answer` is given",
    ),
    (
        "path = \"/api/**\"\nupstream = \"exchange\"\ndialect = \"binance\"",
        "path = \"/api/**\"\nupstream = \"exchange\"\ndialect = \"binanse\"",
        "46:11: route[1].dialect: no dialect is called \"binanse\" (did you mean \"binance\"?)",
    ),
    (
        "path = \"/api/**\"\nupstream = \"exchange\"\ndialect = \"binance\"",
        "path = \"/api/**\"\nupstream = \"exchange\"",
        "41:1: route[1]: `dialect` is missing",
    ),
    (
        "path = \"/api/**\"\n",
        "path = \"/api/**\"\nask = \"public\"\n",
        "47:11: route[1].dialect: a public route checks no signature",
    ),
    (
        "path = \"/api/**\"\n",
        "path = \"/api/**\"\nreplay = \"repeat-same-route\"\n",
        "45:10: route[1].replay: dialect binance signs a time finer than seconds",
    ),
    (
        "permission = \"trade\"",
        "permission = \"trade\"\nreplay = \"repeat-same-route\"",
        "39:10: route[0].replay: identical bytes may come again only where nothing is changed",
    ),
    ("permission = \"trade\"", "", "32:1: route[0]: `permission` is missing"),
    (
        "dialect = \"binance\"\npermission = \"trade\"",
        "dialect = \"htx\"\npermission = \"withdraw\"",
        "32:1: route[0]: dialect htx does not sign the body",
    ),
    (
        "permission = \"trade\"",
        "permission = \"Trade!\"",
        "38:14: route[0].permission: \"Trade!\" is no permission",
    ),
    (
        "permission = \"trade\"",
        "permission = \"trade\"\nlead = \"2h\"",
        "39:8: route[0].lead: \"2h\" is not from 1ms to 1h",
    ),
    (
        "address_limit = \"per-address\"",
        "address_limit = \"orders\"",
        "39:17: route[0].address_limit: limit \"orders\" is counted for each key",
    ),
    (
        "address_limit = \"per-address\"",
        "address_limit = \"per-address\"\nweight = 1201",
        "39:17: route[0].address_limit: its quota of 1200 is less than the weight",
    ),
    (
        "name = \"rest\"",
        "name = \"order-place\"",
        "42:8: route[1].name: another route is called \"order-place\" already",
    ),
    (
        "methods = [\"GET\"]\npath = \"/api/**\"",
        "methods = [\"POST\"]\npath = \"/api/v3/order\"\npermission = \"trade\"",
        "41:1: route[1]: no request can reach this route: \"order-place\" comes first",
    ),
];
