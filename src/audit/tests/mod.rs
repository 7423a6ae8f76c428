//! Trails of a test's own, written and read again.

mod altered;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value;

use super::*;
use crate::clock::{ManualClock, Micros};
use crate::denial::Denial;
use crate::gateway::observe::Outcome;
use crate::key::{Algorithm, Allowlist, Key, Permissions, Secret, State, Tag, Venue};
use crate::metrics::{AuditMeter, Labels, Metrics};

const NOW: Micros = Micros(1_700_000_000_000_000);

/// One that nobody reads.
pub(super) fn meter() -> AuditMeter {
    let labels = Labels { routes: &[], upstreams: &[], dialects: &[], stores: &[], listeners: &[] };
    Metrics::new(&labels).unwrap().audit().clone()
}

fn key(id: &str) -> Key {
    Key {
        id: id.into(),
        tag: Tag::of(id),
        account: "acme \"quoted\"".into(),
        account_tag: Tag::of("acme"),
        venue: Venue("main".into()),
        dialect: "binance".into(),
        secret: Secret::read(Algorithm::HmacSha256, &[7; 32]).unwrap(),
        passphrase: None,
        permissions: Permissions::NONE,
        allowlist: Allowlist::default(),
        state: State::Active,
        expires: None,
        limits: Arc::from([]),
        epoch: 3,
        bindings: None,
    }
}

fn small(dir: &Path) -> Rules {
    Rules { segment_bytes: 64 << 10, ..Rules::of(dir.to_owned()) }
}

fn start(rules: Rules) -> Trail {
    let clock = Arc::new(ManualClock::at(NOW));
    Trail::start(rules, Arc::from([Arc::from("order")]), clock, meter()).unwrap()
}

fn request(key: &Key, n: u64) -> Request<'_> {
    Request {
        at: NOW + Duration::from_secs(n),
        id: "018bcfe5-687b-7000-8000-000000000000",
        key,
        peer: Ipv4Addr::new(192, 0, 2, 7).into(),
        route: 0,
        method: &Method::POST,
        path: "/api/v3/order",
        signed: true,
    }
}

fn ended(denial: Option<Denial>) -> Ending {
    Ending {
        outcome: if denial.is_some() { Outcome::Denied } else { Outcome::Forwarded },
        unheard: None,
        denial: denial.map(|denial| denial.index()),
        shadowed: crate::denial::Shadowed::default(),
        is_local: false,
        status: Some(StatusCode::OK),
        took: 812,
    }
}

/// Records `count` requests of one key, and ends.
fn write(rules: Rules, id: &str, count: u64) {
    let trail = start(rules);
    let key = key(id);
    let recorder = trail.recorder();
    for n in 0..count {
        recorder.ended(&request(&key, n), ended(None));
        recorder.settle();
        if n.is_multiple_of(1_000) {
            trail.settle();
        }
    }
    drop(recorder);
    trail.close();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    segments(dir).unwrap().into_iter().map(|(_, file)| file).collect()
}

fn records(dir: &Path) -> Vec<Value> {
    search(dir, &Filter::default()).unwrap()
}

fn whole(dir: &Path) -> Verified {
    verify(dir, &[public_key(dir).unwrap()]).unwrap()
}

fn broken(dir: &Path) -> Broken {
    match verify(dir, &[public_key(dir).unwrap()]) {
        Err(VerifyError::Broken(broken)) => broken,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_request_is_recorded_with_who_where_what_and_what_became_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let trail = start(Rules::of(dir.path().to_owned()));
    let (recorder, key) = (trail.recorder(), key("k"));
    recorder.ended(&request(&key, 0), ended(None));
    recorder.ended(&request(&key, 1), ended(Some(Denial::Replayed)));
    drop(recorder);
    trail.close();
    let filter = Filter { kind: Some("request".into()), ..Filter::default() };
    let found = search(dir.path(), &filter).unwrap();
    let told = |name: &str| found.iter().map(|record| record[name].to_string()).collect::<Vec<_>>();
    assert_eq!(told("time")[0], "\"2023-11-14T22:13:20.000000Z\"");
    assert_eq!(told("verdict"), ["\"forwarded\"", "\"refused\""]);
    assert_eq!(told("reason"), ["null", "\"replayed\""]);
    for (name, value) in [
        ("v", "1"),
        ("request", "\"018bcfe5-687b-7000-8000-000000000000\""),
        ("key", "\"k\""),
        ("account", r#""acme \"quoted\"""#),
        ("address", "\"192.0.2.7\""),
        ("route", "\"order\""),
        ("method", "\"POST\""),
        ("path", "\"/api/v3/order\""),
        ("status", "200"),
        ("took_us", "812"),
        ("epoch", "3"),
    ] {
        assert_eq!(told(name), [value, value], "{name}");
    }
    assert_eq!(whole(dir.path()).unsealed, 0);
}

#[test]
fn segments_follow_one_another_and_old_ones_are_dropped_when_told_so() {
    let dir = tempfile::tempdir().unwrap();
    write(small(dir.path()), "k", 2_000);
    let all = files(dir.path()).len();
    assert!(all > 5, "{all}");
    let verified = whole(dir.path());
    assert_eq!((verified.first, verified.unsealed), (1, 0));
    assert!(verified.checkpoints >= u64::try_from(all).unwrap());

    write(Rules { keep: 3, ..small(dir.path()) }, "k", 1_000);
    assert_eq!(files(dir.path()).len(), 3);
    assert!(whole(dir.path()).first > 2_000);
}

#[test]
fn a_line_that_was_cut_is_taken_off_noted_and_the_trail_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    write(Rules::of(dir.path().to_owned()), "k", 50);
    let [file] = files(dir.path()).try_into().unwrap();
    let bytes = fs::read(&file).unwrap();
    let end = bytes.len();
    for cut in [end - 1, end - 100, end - 700, 10, 0] {
        fs::write(&file, &bytes[..cut]).unwrap();
        // Who is stopped within a line has not said yet that it is there.
        fs::remove_file(dir.path().join("head.json")).unwrap();
        let kept = memchr::memchr_iter(b'\n', &bytes[..cut]).count();
        write(Rules::of(dir.path().to_owned()), "k", 10);
        let verified = whole(dir.path());
        assert_eq!(verified.torn, 0);
        let noted = records(dir.path());
        let torn: Vec<_> =
            noted.iter().filter(|record| record["event"] == "torn_line_cut").collect();
        let bytes_noted = torn.last().map_or(0, |record| record["bytes"].as_u64().unwrap());
        let last = bytes[..cut].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        assert_eq!(bytes_noted, u64::try_from(cut - last).unwrap(), "{cut}");
        assert!(noted.len() >= kept + 10);
    }
}

#[test]
fn a_trail_that_was_altered_is_written_on_and_the_alteration_still_named() {
    let dir = tempfile::tempdir().unwrap();
    write(Rules::of(dir.path().to_owned()), "k", 50);
    let [file] = files(dir.path()).try_into().unwrap();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("192.0.2.7", "192.0.2.8", 1)).unwrap();
    let before = broken(dir.path());
    write(Rules::of(dir.path().to_owned()), "k", 50);
    assert_eq!(broken(dir.path()), before);
    let noted = records(dir.path());
    let found = noted.iter().find(|record| record["event"] == "chain_broken").unwrap();
    assert_eq!(found["line"].as_u64().unwrap(), before.line);
}

#[test]
fn a_second_writer_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let _first = start(Rules::of(dir.path().to_owned()));
    let clock = Arc::new(ManualClock::at(NOW));
    let rules = Rules::of(dir.path().to_owned());
    let second = Trail::start(rules, Arc::from([]), clock, meter());
    assert!(matches!(second, Err(OpenError::Locked(_))), "{second:?}");
}

#[test]
fn a_flood_of_unproven_refusals_leaves_a_bounded_trail_and_none_is_uncounted() {
    const FLOOD: u32 = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let trail = start(Rules::of(dir.path().to_owned()));
    let recorder = trail.recorder();
    for n in 0..FLOOD {
        let address = IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + n));
        recorder.refused(address, Denial::BadSignature.index());
        recorder.settle();
    }
    drop(recorder);
    trail.close();
    let filter = Filter { kind: Some("unproven".into()), ..Filter::default() };
    let told = search(dir.path(), &filter).unwrap();
    assert!(told.len() <= 600, "{}", told.len());
    let sum: u64 = told.iter().map(|record| record["count"].as_u64().unwrap()).sum();
    assert_eq!(sum, u64::from(FLOOD));
    assert!(fs::metadata(&files(dir.path())[0]).unwrap().len() < 200_000);
}

#[tokio::test]
async fn an_act_and_an_intent_are_in_the_file_when_they_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let trail = start(Rules::of(dir.path().to_owned()));
    let act = Act {
        actor: "alice",
        role: "security",
        action: "key.revoke",
        target: "key/k",
        verdict: "done",
        reason: Some("it leaked\n"),
        address: None,
    };
    trail.act(&act).await.unwrap();
    let key = key("k");
    trail.recorder().intend(&request(&key, 0)).await.unwrap();
    let found = records(dir.path());
    let kinds: Vec<_> = found.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["segment", "event", "act", "intent"]);
    assert_eq!(found[2]["reason"], "it leaked\n");
    assert_eq!(found[3]["key"], "k");
}

#[tokio::test]
async fn where_the_disk_takes_nothing_acts_and_intents_fail_and_what_came_is_written_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let trail = start(Rules::of(dir.path().join("trail")));
    let (recorder, key) = (trail.recorder(), key("k"));
    // Whoever takes the files away takes the disk away: there is no place for new ones.
    fs::rename(dir.path().join("trail"), dir.path().join("away")).unwrap();
    let act = Act {
        actor: "a",
        role: "r",
        action: "x",
        target: "t",
        verdict: "done",
        reason: None,
        address: None,
    };
    assert_eq!(trail.act(&act).await, Err(Unrecorded));
    assert_eq!(recorder.intend(&request(&key, 0)).await, Err(Unrecorded));
    assert!(!recorder.is_recording());
    recorder.ended(&request(&key, 1), ended(None));
    recorder.flush();
    trail.settle();
    fs::rename(dir.path().join("away"), dir.path().join("trail")).unwrap();
    while !recorder.is_recording() {
        trail.settle();
    }
    trail.act(&act).await.unwrap();
    drop(recorder);
    trail.close();
    let verified = whole(&dir.path().join("trail"));
    assert_eq!(verified.unsealed, 0);
    let kept = Filter { kind: Some("request".into()), ..Filter::default() };
    assert_eq!(search(&dir.path().join("trail"), &kept).unwrap().len(), 1);
}

#[test]
fn search_finds_by_key_account_address_and_time_in_every_segment() {
    let dir = tempfile::tempdir().unwrap();
    write(small(dir.path()), "one", 400);
    write(small(dir.path()), "two", 400);
    let count = |filter: Filter| search(dir.path(), &filter).unwrap().len();
    let of = |id: &str| Filter {
        key: Some(id.into()),
        kind: Some("request".into()),
        ..Filter::default()
    };
    assert_eq!(count(of("one")), 400);
    assert_eq!(count(Filter { limit: Some(7), ..of("two") }), 7);
    assert_eq!(count(of("three")), 0);
    let account = Some("acme \"quoted\"".to_owned());
    assert_eq!(count(Filter { account, kind: Some("request".into()), ..Filter::default() }), 800);
    let address = Some("192.0.2.7".to_owned());
    assert_eq!(count(Filter { address, ..of("one") }), 400);
    let (since, until) = (Some(NOW + Duration::from_secs(10)), Some(NOW + Duration::from_secs(19)));
    assert_eq!(count(Filter { since, until, ..of("one") }), 10);

    let rows = activity(dir.path(), "two", NOW + Duration::from_secs(100)).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].count, rows[0].refused, &*rows[0].route), (300, 0, "order"));
    assert!(rows[0].first < rows[0].last);
}

#[test]
fn a_tail_tells_the_last_and_then_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    write(small(dir.path()), "k", 500);
    let total = records(dir.path()).len();
    for lines in [0, 1, 10, 400, total, total + 5] {
        let mut tail = Tail::last(dir.path(), lines).unwrap();
        assert_eq!(tail.more().unwrap().len(), lines.min(total));
        assert_eq!(tail.more().unwrap(), Vec::<String>::new());
    }
    let mut tail = Tail::last(dir.path(), 1).unwrap();
    tail.more().unwrap();
    write(small(dir.path()), "k", 500);
    assert_eq!(tail.more().unwrap().len(), records(dir.path()).len() - total);
}
