//! What the parts of a configuration become.

use std::path::Path;
use std::time::Duration;

use super::tests::{SECRET, World, changed, good, parsed, world};
use super::*;
use crate::admit::BanBounds;
use crate::gateway::routes::Entry;
use crate::store::{Limit, Repeat};

#[test]
fn the_trail_lies_in_the_state_directory_unless_it_is_said_where_or_that_there_is_none() {
    let trail = |text: &str| {
        let text = changed("[store]\n", text).replace("state_dir = \"state\"\n", "");
        let rules = good(&text).config.audit;
        rules.map(|rules| rules.dir.to_str().unwrap().to_owned())
    };
    assert_eq!(trail("[store]\n"), None);
    assert_eq!(trail("[store]\nstate_dir = \"s\"\n").unwrap(), "etc/s/audit");
    assert_eq!(trail("[audit]\ndir = \"a\"\n[store]\n").unwrap(), "etc/a");
    let both = "[audit]\ndir = \"a\"\n[store]\nstate_dir = \"s\"\n";
    assert_eq!(trail(both).unwrap(), "etc/a");
    assert_eq!(
        trail(&format!("[audit]\nenabled = false\n{both}").replacen(
            "[audit]\ndir = \"a\"\n",
            "",
            1
        )),
        None
    );
}

#[test]
fn an_account_has_half_of_few_records_and_no_more_than_its_own_share_of_many() {
    for (all, share) in [(1_000, 500), (1_999_999, 999_999), (5_000_000, 1_000_000)] {
        let text = changed("max_records = 5000000", &format!("max_records = {all}"));
        let store = good(&text).config.store;
        assert_eq!((store.max_records, store.max_records_per_account), (all, share));
    }
}

#[test]
fn a_route_asks_of_the_trail_what_it_says_or_what_all_do() {
    let demands = |audit: &str, route: &str| {
        let text = changed("[store]\n", &format!("[audit]\ndir = \"a\"\n{audit}\n[store]\n"));
        let text =
            text.replace("permission = \"trade\"", &format!("permission = \"trade\"\n{route}"));
        let config = good(&text).config;
        let demand = |entry: &Arc<Entry>| (entry.audit.required, entry.audit.intent);
        config.routes.all().iter().map(demand).collect::<Vec<_>>()
    };
    let (go_on, refuse) = ("", "on_error = \"refuse\"");
    assert_eq!(demands(go_on, ""), [(false, false), (false, false)]);
    assert_eq!(demands(refuse, ""), [(true, false), (true, false)]);
    assert_eq!(demands(go_on, "audit = \"required\""), [(true, false), (false, false)]);
    assert_eq!(demands(refuse, "audit = \"best_effort\""), [(false, false), (true, false)]);
    assert_eq!(demands(go_on, "audit_intent = true"), [(false, true), (false, false)]);
}

#[test]
fn a_webhook_is_signed_with_a_secret_that_is_never_repeated() {
    let webhook = |rest: &str| {
        let section = format!("[audit]\ndir = \"a\"\n[audit.webhook]\n{rest}\n[store]\n");
        parsed(&changed("[store]\n", &section))
    };
    let secret = "secret = { env = \"A_SECRET\" }";
    let config = webhook(&format!("url = \"https://h.example/x\"\n{secret}")).unwrap().config;
    let hook = config.audit.as_ref().unwrap().webhook.as_ref().unwrap();
    assert_eq!(hook.secret.as_slice(), SECRET.as_bytes());
    assert!(!format!("{config:?}").contains("h.example"));
    for (rest, said) in [
        (format!("url = \"ftp://hunter2\"\n{secret}"), "no http or https address"),
        (secret.to_owned(), "`url` is missing"),
        ("url = \"http://h\"".to_owned(), "`secret` is missing"),
        (
            "url = \"http://h\"\nsecret = \"hunter2\"".to_owned(),
            "does not stand in the configuration",
        ),
    ] {
        let refused = webhook(&rest).unwrap_err().to_string();
        assert!(refused.contains(said) && !refused.contains("hunter2"), "{refused}");
    }
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    for (from, to, said) in [
        (
            "\"127.0.0.1:8080\"",
            "\"0.0.0.0:8080\"",
            "listener[0].address: this address takes requests unencrypted",
        ),
        (
            "\"127.0.0.1:8080\"",
            "\"0.0.0.0:8080\"\ntls = { cert = \"chain.pem\", key = \"key.pem\" }",
            "listener[0].tls.key: every user",
        ),
        ("\"127.0.0.1:9180\"", "\"0.0.0.0:9180\"", "admin.address: metrics and health"),
        (
            "version = 1",
            "version = 1\n[dialect.binance]\nimitate = true",
            "dialect.binance.imitate: strangers can find out which key ids exist",
        ),
        ("{ env = \"A_SECRET\" }", "\"none\"", "upstream[0].identity_key: backends cannot tell"),
        ("state_dir = \"state\"", "", "what the registry records ends with the gateway"),
        (
            "state_dir = \"state\"",
            "[registry]",
            "registry: what the registry records ends with the",
        ),
        (
            "state_dir = \"state\"",
            "[registry]\nkind = \"postgres\"\nurl = { file = \"open-remote\" }",
            "registry.url: what is asked of the registry travels unencrypted",
        ),
        ("file = \"secret\"", "file = \"open\"", "key[0].secret.file: every user"),
        (
            "id = \"key-1\"\naccount = \"acme\"\ndialect = \"binance\"",
            "id = \"key-1\"\naccount = \"acme\"\ndialect = \"bybit\"",
            "key[0].dialect: no route is for this dialect",
        ),
        (
            "permission = \"trade\"",
            "permission = \"trade\"\nweight = 101",
            "key[0].limits: its quota of 100 is less than the weight of route \"order-place\", 101",
        ),
    ] {
        let warnings = good(&changed(from, to)).warnings;
        let warned = warnings.iter().any(|warning| warning.to_string().contains(said));
        assert!(warned && warnings.len() == 1, "`{to}`: {warnings:?}");
    }
}

#[test]
fn the_registry_is_kept_where_the_configuration_says() {
    let place = "state_dir = \"state\"";
    for (written, said) in [
        (place, "in etc/state/registry.redb"),
        ("", "in memory"),
        ("[registry]\npath = \"keys.redb\"", "in etc/keys.redb"),
        (
            "[registry]\nkind = \"postgres\"\nurl = { file = \"url\" }",
            "in PostgreSQL at localhost/keys",
        ),
    ] {
        let registry = good(&changed(place, written)).config.registry;
        assert_eq!(registry.to_string(), said);
        assert!(!format!("{registry:?}").contains("hunter2"), "{registry:?}");
    }
    let timed = "[registry]\nkind = \"postgres\"\nurl = { file = \"url\" }\nconnections = 3\ntimeout = \"750ms\"";
    let Location::Postgres(options) = good(&changed(place, timed)).config.registry else {
        panic!("it is in PostgreSQL")
    };
    let (waits, default) = ((options.timeout, options.connect_timeout), Duration::from_secs(2));
    assert_eq!((options.connections, waits), (3, (Duration::from_millis(750), default)));
}

#[test]
fn a_repeated_read_is_allowed_where_time_counts_seconds() {
    let own = "version = 1\n[dialect.seconds]\nrecipe = \"seconds.toml\"";
    let text = changed("version = 1", own).replace(
        "path = \"/api/**\"\nupstream = \"exchange\"\ndialect = \"binance\"",
        "path = \"/api/**\"\nupstream = \"exchange\"\ndialect = \"seconds\"\nreplay = \"repeat-same-route\"",
    );
    let config = good(&text).config;
    assert_eq!(config.routes.all()[1].demand.repeat, Repeat::SameRoute);
    let names: Vec<_> = config.dialects.iter().map(|dialect| &**dialect.name()).collect();
    assert_eq!(names, ["binance", "seconds"]);
}

#[test]
fn a_header_that_carries_a_credential_reaches_no_backend() {
    let forwards =
        "backends = [\"127.0.0.1:8000\", \"10.0.0.2:8000\"]\nforward_headers = [\"X-BAPI-SIGN\"]";
    let text = changed("backends = [\"127.0.0.1:8000\", \"10.0.0.2:8000\"]", forwards)
        .replace("dialect = \"binance\"", "dialect = \"bybit\"");
    let refused = parsed(&text).unwrap_err().to_string();
    assert!(refused.contains("`x-bapi-sign` carries a credential in dialect bybit"), "{refused}");
}

#[test]
fn the_guard_can_be_moved_and_taken_away() {
    let guard = |section: &str| {
        let text = changed("[admin]", &format!("[guard]\n{section}\n\n[admin]"));
        parsed(&text).unwrap_or_else(|refused| panic!("{refused}")).config.guard
    };
    assert_eq!(guard(""), Bounds::default());
    let minute = Duration::from_mins(1);
    let moved =
        guard("failures = 1000\nfailures_per = \"1s\"\npassphrases = 3\nproven_for = \"1m\"");
    assert_eq!(moved.failures, Some(Limit { quota: 1_000, period: Duration::from_secs(1) }));
    assert_eq!(moved.passphrases, Some(Limit { quota: 3, period: 10 * minute }));
    assert_eq!(moved.proven_for, minute);
    let none = guard("failures = 0\npassphrases = 0\nban_after = 0\ncodes = 0");
    assert_eq!((none.failures, none.passphrases), (None, None));
    assert_eq!((none.bans, none.codes), (None, None));
    let strict = guard(
        "ban_after = 3\nban_after_per = \"1m\"\nban_first = \"10m\"\nban_longest = \"1h\"\nban_forget = \"2h\"\n\
         max_bans = 7\nexempt = [\"10.0.0.0/8\", \"::1\"]\ncodes_per_account = 9\ncodes_known_for = \"24h\"",
    );
    let after = Limit { quota: 3, period: minute };
    let (first, longest, forget) = (10 * minute, 60 * minute, 120 * minute);
    assert_eq!(
        strict.bans,
        Some(BanBounds { after, first, longest, forget, most: 7, share: true })
    );
    assert_eq!(strict.exempt.len(), 2);
    assert_eq!(strict.codes_per_account.unwrap().quota, 9);
    assert_eq!(strict.codes_known_for, 24 * 60 * minute);
    let text = changed("[admin]", "[guard]\nban_first = \"2h\"\nban_longest = \"1h\"\n\n[admin]");
    let refused = parsed(&text).unwrap_err().to_string();
    assert!(refused.contains("guard.ban_longest: it is shorter than the first ban"), "{refused}");
    let text = changed("[admin]", "[guard]\nfailures = 1001\n\n[admin]");
    let refused = parsed(&text).unwrap_err().to_string();
    assert!(refused.contains("guard.failures: 1001 is not from 0 to 1000"), "{refused}");
}

#[test]
fn master_keys_come_from_where_the_configuration_says() {
    let key = "5c3d0f6b1a928e47d6f10b7e4c29a8533e6f71c0d2b4958a6710fe2c3b4d5a69";
    let own = || World::with(&[("MASTER", key)], &[("etc/master", key, false)]);
    let parsed = |section: &str| {
        let text = changed("[admin]", &format!("{section}\n[admin]"));
        let world = World {
            variables: [("A_SECRET", SECRET.to_owned())]
                .into_iter()
                .chain(own().variables)
                .collect(),
            files: world().files.into_iter().chain(own().files).collect(),
        };
        Config::parse(&text, Path::new("etc/gateway.toml"), &world)
    };
    let good = |section: &str| parsed(section).unwrap_or_else(|refused| panic!("{refused}")).config;
    assert!(good("").sealing.is_none());
    assert_eq!(good("").unbound_trade, Some(UNBOUND_TRADE));
    assert_eq!(good("[issue]\nunbound_trade = \"0s\"").unbound_trade, None);
    let month = good("[issue]\nunbound_trade = \"30d\"").unbound_trade;
    assert_eq!(month, Some(Duration::from_hours(30 * 24)));
    let section = "[sealing]\ncurrent = \"c\"\n[sealing.keys]\na = { env = \"MASTER\" }\n\
                   b = { file = \"master\" }\nc = { command = [\"unseal\", \"c\"] }";
    let config = good(section);
    let sealing = config.sealing.as_ref().unwrap();
    let names: Vec<_> = sealing.keys.iter().map(|(name, _)| &**name).collect();
    assert_eq!((&*sealing.current, names), ("c", vec!["a", "b", "c"]));
    assert!(!format!("{config:?}").contains(key));

    for (section, said) in [
        ("current = \"b\"\n[sealing.keys]\na = { env = \"MASTER\" }", "did you mean"),
        ("current = \"a\"", "`keys` is missing"),
        ("current = \"a\"\n[sealing.keys]\na = \"5c3d0f6b\"", "a secret does not stand"),
        ("current = \"a\"\n[sealing.keys]\na = { env = \"5c3d0f6b\" }", "is not set"),
        ("current = \"a\"\n[sealing.keys]\na = { env = \"A_SECRET\" }", "no master key"),
        ("current = \"a\"\n[sealing.keys]\na = { command = [] }", "it is empty"),
        (
            "current = \"a\"\n[sealing.keys]\na = { command = [\"x\"], env = \"MASTER\" }",
            "`command` is given as well",
        ),
        ("current = \"a\"\n[sealing.keys]\na = { comand = [\"x\"] }", "there is no such key"),
    ] {
        let refused = parsed(&format!("[sealing]\n{section}")).unwrap_err();
        let printed = format!("{refused} {refused:?}");
        assert!(printed.contains(said), "`{section}`: {printed}");
        assert!(!printed.contains("5c3d0f6b") && !printed.contains("hunter2"), "{printed}");
    }
}
