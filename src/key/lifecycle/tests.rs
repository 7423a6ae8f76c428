//! What may become of a key, whatever is done to it in whatever order.

use proptest::prelude::*;

use super::*;

const START: Micros = Micros(1_700_000_000_000_000);
const HOUR: Duration = Duration::from_hours(1);
const UNBOUND: Duration = Duration::from_hours(90 * 24);

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn material(text: &str) -> SecretMaterial {
    SecretMaterial::Public(text.to_owned())
}

fn terms(permissions: &[&str], allowlist: &[&str]) -> Terms {
    Terms {
        account: "acme".into(),
        application: None,
        label: String::new(),
        venue: "main".into(),
        dialect: "binance".into(),
        algorithm: Algorithm::HmacSha256,
        permissions: texts(permissions),
        allowlist: allowlist.iter().map(|network| network.parse().unwrap()).collect(),
        routes: Vec::new(),
        symbols: Vec::new(),
        limits: Vec::new(),
        expires: None,
    }
}

fn at(now: Micros) -> Surroundings<'static> {
    Surroundings { now, application: None, unbound_trade: Some(UNBOUND) }
}

fn key(permissions: &[&str], allowlist: &[&str]) -> KeyRecord {
    issue(terms(permissions, allowlist), material("1"), None, &at(START)).unwrap()
}

fn application(permissions: &[&str]) -> ApplicationRecord {
    ApplicationRecord {
        contact: String::new(),
        permissions: texts(permissions),
        allowlist: Vec::new(),
        stopped: false,
        compromised: None,
        epoch: 0,
    }
}

#[test]
fn a_key_that_may_withdraw_needs_an_allowlist_and_keeps_one() {
    let refused = issue(terms(&["withdraw"], &[]), material("1"), None, &at(START));
    assert_eq!(refused, Err(Refusal::UnboundWithdraw));
    let bound = key(&["read", "withdraw"], &["203.0.113.7/32"]);
    let unbind = Changes { allowlist: Some(Vec::new()), ..Changes::default() };
    assert_eq!(update(&bound, &unbind, &at(START)), Err(Refusal::UnboundWithdraw));
    let both = Changes { permissions: Some(texts(&["read"])), ..unbind };
    assert!(update(&bound, &both, &at(START)).is_ok());
    let more = Changes { permissions: Some(texts(&["withdraw"])), ..Changes::default() };
    assert_eq!(update(&key(&["read"], &[]), &more, &at(START)), Err(Refusal::UnboundWithdraw));
}

#[test]
fn an_unbound_key_loses_trade_after_a_set_time_and_a_bound_one_never() {
    let unbound = key(&["read", "trade"], &[]);
    assert_eq!(unbound.trade_until, Some(START + UNBOUND));
    assert_eq!(key(&["read"], &[]).trade_until, None);
    assert_eq!(key(&["trade"], &["10.0.0.0/8"]).trade_until, None);
    let never = Surroundings { unbound_trade: None, ..at(START) };
    let forever = issue(terms(&["trade"], &[]), material("1"), None, &never).unwrap();
    assert_eq!(forever.trade_until, None);

    let later = at(START + HOUR);
    let rename = Changes { label: Some("bot".into()), ..Changes::default() };
    let renamed = update(&unbound, &rename, &later).unwrap();
    assert_eq!(renamed.trade_until, unbound.trade_until, "nothing starts the time anew");
    let bind =
        Changes { allowlist: Some(vec!["10.0.0.0/8".parse().unwrap()]), ..Changes::default() };
    let bound = update(&unbound, &bind, &later).unwrap();
    assert_eq!(bound.trade_until, None);
    let unbind = Changes { allowlist: Some(Vec::new()), ..Changes::default() };
    let again = update(&bound, &unbind, &later).unwrap();
    assert_eq!(again.trade_until, Some(later.now + UNBOUND));
    assert_eq!(again.epoch, bound.epoch + 1, "its time is shorter than before");
}

#[test]
fn a_key_for_an_application_can_do_no_more_than_that_may() {
    let bots = application(&["read", "trade"]);
    let around = Surroundings { application: Some(&bots), ..at(START) };
    let refused = issue(terms(&["read", "transfer"], &[]), material("1"), None, &around);
    assert_eq!(refused, Err(Refusal::BeyondApplication(texts(&["transfer"]))));
    let made = issue(terms(&["trade"], &[]), material("1"), None, &around).unwrap();
    let more = Changes { permissions: Some(texts(&["trade", "cancel"])), ..Changes::default() };
    let refused = update(&made, &more, &around);
    assert_eq!(refused, Err(Refusal::BeyondApplication(texts(&["cancel"]))));

    let less = application(&["read"]);
    let around = Surroundings { application: Some(&less), ..at(START) };
    let rename = Changes { label: Some("bot".into()), ..Changes::default() };
    assert!(update(&made, &rename, &around).is_ok(), "what it had is its application's to take");
    let stopped = ApplicationRecord { stopped: true, ..bots };
    let around = Surroundings { application: Some(&stopped), ..at(START) };
    let refused = issue(terms(&["read"], &[]), material("1"), None, &around);
    assert_eq!(refused, Err(Refusal::ApplicationStopped));
}

#[test]
fn keys_of_the_time_before_an_application_lost_them_stay_dead_and_later_ones_are_new() {
    let lost = ApplicationRecord { compromised: Some(START), ..application(&["read"]) };
    let around = Surroundings { application: Some(&lost), ..at(START) };
    let old = KeyRecord { state: Life::Suspended, ..key(&["read"], &[]) };
    assert_eq!(resume(&old, &around), Err(Refusal::ApplicationCompromised));
    assert_eq!(rotate(&old, material("2"), HOUR, &around), Err(Refusal::ApplicationCompromised));
    let new = issue(terms(&["read"], &[]), material("1"), None, &around).unwrap();
    assert!(new.created > START, "made in the same microsecond");
    assert!(rotate(&new, material("2"), HOUR, &around).is_ok());
}

#[test]
fn both_secrets_are_good_until_the_cut_off_and_no_longer_than_the_key() {
    let first = key(&["read"], &[]);
    let both = rotate(&first, material("2"), HOUR, &at(START)).unwrap();
    let kept: Vec<_> = both.secrets.iter().map(|secret| (secret.number, secret.until)).collect();
    assert_eq!(kept, [(2, None), (1, Some(START + HOUR))]);
    assert_eq!(both.epoch, first.epoch, "nothing was taken yet");

    let ends = Changes { expires: Some(Some(START + HOUR / 2)), ..Changes::default() };
    let shorter = update(&both, &ends, &at(START)).unwrap();
    assert_eq!(shorter.secrets[1].until, Some(START + HOUR / 2));
    let ending = KeyRecord { expires: Some(START + HOUR), ..first };
    let both = rotate(&ending, material("2"), 2 * HOUR, &at(START)).unwrap();
    assert_eq!(both.secrets[1].until, Some(START + HOUR));
    assert_eq!(both.expires, ending.expires);
}

#[test]
fn at_most_one_secret_is_on_its_way_out() {
    let both = rotate(&key(&["read"], &[]), material("2"), HOUR, &at(START)).unwrap();
    let end = START + HOUR;
    let refused = rotate(&both, material("3"), HOUR, &at(Micros(end.0 - 1)));
    assert_eq!(refused, Err(Refusal::Rotating(end)));
    let third = rotate(&both, material("3"), HOUR, &at(end)).unwrap();
    let numbers: Vec<_> = third.secrets.iter().map(|secret| secret.number).collect();
    assert_eq!(numbers, [3, 2]);
    let at_once = rotate(&both, material("3"), Duration::ZERO, &at(START)).unwrap();
    assert_eq!((at_once.secrets.len(), at_once.secrets[0].number), (1, 3));
    assert_eq!(at_once.epoch, both.epoch + 1, "two secrets were taken");
    let long = rotate(&both, material("3"), LONGEST_OVERLAP + HOUR, &at(end));
    assert_eq!(long, Err(Refusal::LongOverlap));
}

#[test]
fn an_expired_key_cannot_be_prolonged() {
    let ending = KeyRecord { expires: Some(START + HOUR), ..key(&["read"], &[]) };
    let longer = Changes { expires: Some(None), ..Changes::default() };
    assert!(update(&ending, &longer, &at(Micros((START + HOUR).0 - 1))).is_ok());
    assert_eq!(update(&ending, &longer, &at(START + HOUR)), Err(Refusal::Expired));
    assert_eq!(rotate(&ending, material("2"), HOUR, &at(START + HOUR)), Err(Refusal::Expired));
    let past = Changes { expires: Some(Some(START)), ..Changes::default() };
    assert_eq!(update(&ending, &past, &at(START)), Err(Refusal::EndsInThePast));
    let ended = expire(&ending, &at(START)).unwrap();
    assert_eq!((ended.expires, ended.epoch), (Some(START), ending.epoch + 1));
    assert_eq!(
        resume(&KeyRecord { state: Life::Suspended, ..ended }, &at(START)),
        Err(Refusal::Expired)
    );
}

#[test]
fn a_replacement_has_the_bindings_of_what_was_lost_and_none_of_its_secrets() {
    let lost = KeyRecord {
        expires: Some(START + HOUR),
        limits: texts(&["orders"]),
        routes: texts(&["order-place"]),
        ..key(&["read", "trade"], &[])
    };
    let lost = rotate(&lost, material("2"), HOUR / 2, &at(START)).unwrap();
    let now = START + HOUR / 4;
    let new = replacement(&lost, material("3"), None, &at(now)).unwrap();
    let SecretRecord { number, created, until, .. } = &new.secrets[0];
    assert_eq!((new.secrets.len(), *number, *created, *until), (1, 1, now, None));
    let bare =
        |key: &KeyRecord| KeyRecord { secrets: Vec::new(), created: now, epoch: 0, ..key.clone() };
    assert_eq!(bare(&new), bare(&lost));
    assert_eq!(replacement(&lost, material("3"), None, &at(START + HOUR)), Err(Refusal::Expired));
    let revoked = revoke(&lost).unwrap();
    assert_eq!(replacement(&revoked, material("3"), None, &at(now)), Err(Refusal::Revoked));
}

#[test]
fn each_refusal_says_what_to_do_instead() {
    for refusal in [
        Refusal::Revoked,
        Refusal::Expired,
        Refusal::NotSuspended,
        Refusal::Suspended,
        Refusal::Rotating(START),
        Refusal::UnboundWithdraw,
        Refusal::BeyondApplication(texts(&["trade"])),
        Refusal::ApplicationStopped,
        Refusal::ApplicationCompromised,
        Refusal::EndsInThePast,
        Refusal::LongOverlap,
        Refusal::NoPermission,
    ] {
        assert!(!refusal.cure().is_empty() && !refusal.to_string().is_empty());
    }
}

/// Something done to a key.
#[derive(Clone, Debug)]
enum Deed {
    Rotate(Duration),
    Suspend,
    Resume,
    Revoke,
    Expire,
    Update(Changes),
}

fn some_of(all: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    prop::sample::subsequence(all, 0..=all.len()).prop_map(|names| texts(&names))
}

fn changes() -> impl Strategy<Value = Changes> {
    let networks: &[&str] = &["10.0.0.0/8", "10.1.0.0/16", "203.0.113.7/32"];
    let allowlist = prop::sample::subsequence(networks, 0..=3)
        .prop_map(|all| all.iter().map(|network| network.parse().unwrap()).collect::<Vec<IpNet>>());
    let expires = prop::option::of(
        (0_u64..200).prop_map(|hours| START + HOUR * u32::try_from(hours).unwrap()),
    );
    (
        prop::option::of(some_of(&["read", "trade", "cancel", "withdraw"])),
        prop::option::of(allowlist),
        prop::option::of(some_of(&["order-place", "account"])),
        prop::option::of(some_of(&["orders", "weight"])),
        prop::option::of(expires),
    )
        .prop_map(|(permissions, allowlist, routes, limits, expires)| Changes {
            label: None,
            permissions,
            allowlist,
            routes,
            symbols: None,
            limits,
            expires,
        })
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0_u32..48).prop_map(|hours| Deed::Rotate(HOUR * hours)),
        2 => Just(Deed::Suspend),
        2 => Just(Deed::Resume),
        1 => Just(Deed::Revoke),
        1 => Just(Deed::Expire),
        8 => changes().prop_map(Deed::Update),
    ]
}

fn done(record: &KeyRecord, deed: &Deed, around: &Surroundings<'_>) -> Result<KeyRecord, Refusal> {
    match deed {
        Deed::Rotate(overlap) => rotate(record, material("n"), *overlap, around),
        Deed::Suspend => suspend(record),
        Deed::Resume => resume(record, around),
        Deed::Revoke => revoke(record),
        Deed::Expire => expire(record, around),
        Deed::Update(changes) => update(record, changes, around),
    }
}

/// What the holder of any of the key's secrets may do at `now`, from three addresses.
fn powers(record: &KeyRecord, now: Micros) -> Vec<(u32, String, usize)> {
    if record.state != Life::Active || record.expires.is_some_and(|end| end <= now) {
        return Vec::new();
    }
    let mut all = Vec::new();
    let addresses = ["10.1.0.1", "10.2.0.1", "203.0.113.7", "198.51.100.1"];
    for secret in record.secrets.iter().filter(|secret| secret.until.is_none_or(|end| end > now)) {
        for permission in &record.permissions {
            let decayed = permission == TRADE && record.trade_until.is_some_and(|end| end <= now);
            for (place, address) in addresses.iter().enumerate().filter(|_| !decayed) {
                let address: std::net::IpAddr = address.parse().unwrap();
                let bound = record.allowlist.iter().any(|network| network.contains(&address));
                if bound || record.allowlist.is_empty() {
                    all.push((secret.number, permission.clone(), place));
                }
            }
        }
    }
    all
}

proptest! {
    #[test]
    fn whatever_is_done_in_whatever_order(
        deeds in prop::collection::vec((deed(), 0_u32..40), 1..40),
        permissions in some_of(&["read", "trade", "cancel"]),
    ) {
        let permissions: Vec<&str> = permissions.iter().map(String::as_str).chain(["read"]).collect();
        let mut record = key(&permissions, &[]);
        let mut now = START;
        for (deed, hours) in deeds {
            now = now + HOUR * hours;
            let Ok(next) = done(&record, &deed, &at(now)) else { continue };
            prop_assert!(record.state != Life::Revoked, "a revoked key came back by {:?}", deed);
            prop_assert!(next.epoch >= record.epoch);
            let lost = |moment| {
                let after = powers(&next, moment);
                powers(&record, moment).iter().any(|power| !after.contains(power))
            };
            let rotated = matches!(deed, Deed::Rotate(overlap) if !overlap.is_zero());
            if lost(now) || (!rotated && (0..200).any(|hours| lost(now + HOUR * hours))) {
                prop_assert_eq!(next.epoch, record.epoch + 1, "by {:?}", deed);
            }
            prop_assert!(next.secrets.len() <= 2 && next.secrets[0].until.is_none());
            for outgoing in next.secrets.iter().skip(1) {
                let until = outgoing.until.unwrap();
                prop_assert!(next.expires.is_none_or(|end| until <= end));
            }
            let mut numbers: Vec<_> = next.secrets.iter().map(|secret| secret.number).collect();
            prop_assert!(numbers.windows(2).all(|pair| pair[0] > pair[1]));
            numbers.extend(record.secrets.iter().map(|secret| secret.number));
            prop_assert_eq!((&next.account, next.created), (&record.account, record.created));
            let withdraws = next.permissions.iter().any(|name| name == WITHDRAW);
            prop_assert!(!withdraws || !next.allowlist.is_empty());
            record = next;
        }
    }
}
