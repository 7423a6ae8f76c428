//! A WebSocket ends when its key does, and no other does.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use countersign::clock::{Clock as _, SystemClock};
use countersign::registry::book::Kind;
use countersign::registry::records::{ApplicationRecord, Life};
use tokio::io::AsyncReadExt as _;

use crate::site::Site;
use crate::wire::{CLOSE, FIELDS, Socket, status};
use crate::world::json;

const POLICY: Option<u16> = Some(1_008);

/// What somebody does to a key.
type Act = fn(&Site);

#[tokio::test]
async fn when_a_key_is_revoked_its_websocket_is_closed_for_it_and_anothers_goes_on() {
    let site = Site::start().await;
    let mut mine = site.open("mine", "/ws/echo").await;
    let mut again = site.open("mine", "/ws/echo").await;
    let mut other = site.open("other", "/ws/echo").await;
    mine.echo(b"before").await;
    site.change("mine", |key| key.state = Life::Revoked);
    assert_eq!(mine.closed().await, POLICY);
    assert_eq!(again.closed().await, POLICY);
    site.backend.ends("closed 1001").await;
    other.echo(b"after").await;
    site.comes_to("websockets{route=\"stream\"}", 1).await;
    assert_eq!(
        site.metric("websockets_closed_total{cause=\"key_ended\",route=\"stream\"}").await,
        2
    );
}

#[tokio::test]
async fn whatever_takes_from_a_key_what_the_route_asks_closes_it() {
    let acts: [(&str, Act); 8] = [
        ("suspended", |site| site.change("mine", |key| key.state = Life::Suspended)),
        ("frozen", |site| site.book.freeze("mine", true)),
        ("switched off", |site| site.book.throw("trade", true)),
        ("all switched off", |site| site.book.throw("all", true)),
        ("not permitted", |site| site.change("mine", |key| key.permissions = vec!["read".into()])),
        ("expired", |site| {
            site.change("mine", |key| key.expires = Some(SystemClock::start().now()));
        }),
        ("of another venue", |site| site.change("mine", |key| key.venue = "futures".into())),
        ("stopped", |site| {
            let says = ApplicationRecord {
                contact: String::new(),
                permissions: vec![],
                allowlist: vec![],
                stopped: true,
                compromised: None,
                epoch: 0,
            };
            site.book.put(Kind::Application, "bot", ("", Some("bot")), json(&says));
            site.change("mine", |key| key.application = Some("bot".into()));
        }),
    ];
    for (what, act) in acts {
        let site = Site::start().await;
        let mut mine = site.open("mine", "/trades/echo").await;
        let mut reader = site.open("other", "/ws/echo").await;
        act(&site);
        assert_eq!(mine.closed().await, POLICY, "{what}");
        if what == "all switched off" {
            assert_eq!(reader.closed().await, POLICY, "{what}");
        } else {
            reader.echo(what.as_bytes()).await;
        }
    }
}

#[tokio::test]
async fn a_change_that_takes_nothing_closes_nothing_and_the_next_still_counts() {
    let site = Site::start().await;
    let mut mine = site.open("mine", "/ws/echo").await;
    for label in ["a", "b"] {
        site.change("mine", |key| key.label = label.into());
        mine.echo(b"still here").await;
    }
    site.book.throw("withdraw", true);
    mine.echo(b"nobody asked for that here").await;
    site.change("mine", |key| key.state = Life::Revoked);
    assert_eq!(mine.closed().await, POLICY);
}

#[tokio::test]
async fn a_key_that_expires_is_closed_by_the_clock() {
    let site = Site::start().await;
    let end = SystemClock::start().now() + Duration::from_secs(2);
    site.change("mine", |key| key.expires = Some(end));
    let mut other = site.open("other", "/ws/echo").await;
    let mut mine = site.open("mine", "/ws/echo").await;
    mine.echo(b"good for now").await;
    assert_eq!(mine.closed().await, POLICY);
    other.echo(b"good for longer").await;
}

#[tokio::test]
async fn where_keys_are_known_for_too_short_a_time_it_is_closed_and_elsewhere_it_goes_on() {
    let site = Site::start().await;
    let mut strict = site.open("mine", "/strict/echo").await;
    let mut lenient = site.open("mine", "/ws/echo").await;
    let (stream, head) =
        site.send(format!("GET /open/echo HTTP/1.1\r\nHost: h\r\n{FIELDS}\r\n")).await;
    assert_eq!(status(&head), 101);
    let mut public = Socket(stream);
    site.book.is_down.store(true, Ordering::SeqCst);
    assert_eq!(strict.closed().await, POLICY);
    site.comes_to("websockets_closed_total{cause=\"key_unknown\",route=\"strict\"}", 1).await;
    lenient.echo(b"five minutes").await;
    public.echo(b"nobody's").await;
}

#[tokio::test]
async fn in_the_middle_of_a_frame_nothing_is_put_in_and_nothing_more_comes() {
    let site = Site::start().await;
    let mut mine = site.open("mine", "/ws/half").await;
    let mut come = vec![0; 1_000];
    mine.0.read_exact(&mut come).await.unwrap();
    site.change("mine", |key| key.state = Life::Revoked);
    come.extend(mine.rest().await);
    assert_eq!(come[..2], [0x82, 127]);
    assert!(come.len() <= 10 + (1 << 19), "{}", come.len());
    assert!(come[10..].iter().all(|byte| *byte == b'x'), "only what the frame holds");
}

#[tokio::test]
async fn who_takes_nothing_more_is_cut_all_the_same() {
    let site = Site::start().await;
    let mine = site.open("mine", "/ws/flood").await;
    let mut other = site.open("other", "/ws/echo").await;
    site.comes_to("websockets{route=\"stream\"}", 2).await;
    site.change("mine", |key| key.state = Life::Revoked);
    site.backend.ends("ended").await;
    site.comes_to("websockets{route=\"stream\"}", 1).await;
    other.echo(b"here").await;
    drop(mine);
}

#[tokio::test]
async fn a_flood_is_cut_between_two_frames_or_inside_one_and_says_so_only_between() {
    let site = Site::start().await;
    let mut mine = site.open("mine", "/ws/flood").await;
    for _ in 0..50 {
        assert_eq!(mine.next().await.unwrap().1.len(), 10_000);
    }
    site.change("mine", |key| key.state = Life::Revoked);
    let rest = mine.rest().await;
    let whole = 4 + 10_000;
    let (frames, tail) = rest.split_at(rest.len() / whole * whole);
    assert!(frames.chunks(whole).all(|frame| frame[..4] == [0x82, 126, 0x27, 0x10]));
    if tail.first() == Some(&(0x80 | CLOSE)) {
        assert_eq!(tail, [0x88, 2, 0x03, 0xf0]);
    } else {
        assert!(tail.is_empty() || tail[0] == 0x82);
    }
}

/// How long after the revocation of their key the last of many WebSockets was closed.
async fn slowest_of_many(site: &Site, count: usize) -> Duration {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(site.open("mine", "/ws/echo").await);
    }
    let mut other = site.open("other", "/ws/echo").await;
    let revoked = Instant::now();
    site.change("mine", |key| key.state = Life::Revoked);
    for socket in &mut all {
        assert_eq!(socket.next().await.unwrap().1, 1_008_u16.to_be_bytes());
    }
    let slowest = revoked.elapsed();
    other.echo(b"undisturbed").await;
    slowest
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "the figure is what it is run for")]
async fn a_hundred_websockets_of_a_revoked_key_are_closed_and_how_soon() {
    let site = Site::start().await;
    let slowest = slowest_of_many(&site, 100).await;
    eprintln!("the last of 100 WebSockets was closed {slowest:?} after the revocation was written");
    site.comes_to("websockets_closed_total{cause=\"key_ended\",route=\"stream\"}", 100).await;
}

#[tokio::test]
async fn while_nobody_hears_of_the_revocation_nothing_is_closed_and_then_it_is() {
    let site = Site::start().await;
    let mut mine = site.open("mine", "/ws/echo").await;
    site.book.is_down.store(true, Ordering::SeqCst);
    site.change("mine", |key| key.state = Life::Revoked);
    let closed = tokio::time::timeout(Duration::from_secs(3), mine.closed()).await;
    assert!(closed.is_err(), "what closes it is hearing of the revocation");
    site.book.is_down.store(false, Ordering::SeqCst);
    assert_eq!(mine.closed().await, POLICY);
}
