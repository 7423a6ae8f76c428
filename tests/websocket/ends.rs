//! How else a WebSocket ends: with its peers, for idleness, with the gateway.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::fleet::BOUND;
use crate::site::Site;
use crate::wire::{CLOSE, FIELDS, PING, TEXT, frame, status};

const AWAY: Option<u16> = Some(1_001);

#[tokio::test]
async fn a_gateway_that_stops_says_that_it_goes_away() {
    let site = Site::start().await;
    let mut mine = site.open("mine", "/ws/echo").await;
    mine.echo(b"here").await;
    let Site { service, backend, .. } = site;
    let draining = tokio::spawn(service.drain_unless(std::future::pending()));
    assert_eq!(mine.closed().await, AWAY);
    backend.ends("closed 1001").await;
    tokio::time::timeout(BOUND, draining).await.expect("it ends in time").unwrap();
}

#[tokio::test]
async fn a_gateway_that_stops_finishes_the_frame_that_it_is_in() {
    let site = Site::start().await;
    let mut mine = site.open("mine", "/ws/half").await;
    let mut come = vec![0; 1_000];
    mine.0.read_exact(&mut come).await.unwrap();
    let Site { service, .. } = site;
    let draining = tokio::spawn(service.drain_unless(std::future::pending()));
    // The rest of the frame is sent when this comes.
    mine.send(PING, b"").await;
    come.resize(10 + (1 << 20), 0);
    mine.0.read_exact(&mut come[1_000..]).await.unwrap();
    assert!(come[10..].iter().all(|byte| *byte == b'x'));
    assert_eq!(mine.closed().await, AWAY, "and not the next one");
    tokio::time::timeout(BOUND, draining).await.expect("it ends in time").unwrap();
}

#[tokio::test]
async fn a_gateway_in_a_hurry_waits_for_nobody() {
    let site = Site::start().await;
    let mut mine = site.open("mine", "/ws/half").await;
    let mut come = vec![0; 1_000];
    mine.0.read_exact(&mut come).await.unwrap();
    site.service.drain_unless(std::future::ready(())).await;
    mine.rest().await;
}

#[tokio::test]
async fn one_that_stands_idle_is_closed_and_one_that_pings_is_not() {
    let site = Site::with("[websocket]\nidle_timeout = \"2s\"", "").await;
    let mut idle = site.open("mine", "/ws/echo").await;
    let mut busy = site.open("mine", "/ws/echo").await;
    let mut ended = Box::pin(idle.closed());
    loop {
        busy.send(PING, b"").await;
        assert_eq!(busy.next().await, Some((PING, vec![])));
        if let Ok(code) = tokio::time::timeout(Duration::from_millis(300), ended.as_mut()).await {
            assert_eq!(code, AWAY);
            break;
        }
    }
    busy.echo(b"still here").await;
    site.comes_to("websockets_closed_total{cause=\"idle\",route=\"stream\"}", 1).await;
}

#[tokio::test]
async fn a_client_that_has_no_more_to_say_still_hears_what_the_backend_has() {
    let site = Site::start().await;
    let mut mine = site.open("mine", "/ws/echo").await;
    mine.send(TEXT, b"the last of mine").await;
    mine.0.shutdown().await.unwrap();
    assert_eq!(mine.next().await, Some((TEXT, b"the last of mine".to_vec())));
    assert_eq!(mine.next().await, Some((TEXT, b"last words".to_vec())));
    assert_eq!(mine.next().await, None);
    site.comes_to("websockets_closed_total{cause=\"client_gone\",route=\"stream\"}", 1).await;
}

#[tokio::test]
async fn a_client_that_vanishes_takes_its_backend_connection_along() {
    let site = Site::start().await;
    let mut mine = site.open("mine", "/ws/echo").await;
    mine.echo(b"here").await;
    drop(mine);
    site.backend.ends("ended").await;
    site.comes_to("websockets{route=\"stream\"}", 0).await;
}

#[tokio::test]
async fn a_backend_that_vanishes_ends_it() {
    let site = Site::start().await;
    let mut mine = site.open("mine", "/ws/leave").await;
    assert_eq!(mine.next().await, None);
    site.comes_to("websockets_closed_total{cause=\"backend_gone\",route=\"stream\"}", 1).await;
}

#[tokio::test]
async fn a_closing_that_both_agree_on_passes_both_ways() {
    let site = Site::start().await;
    let mut mine = site.open("mine", "/ws/echo").await;
    mine.send(CLOSE, &[&4_321_u16.to_be_bytes()[..], b"done"].concat()).await;
    let (opcode, payload) = frame(&mut mine.0).await.unwrap();
    assert_eq!((opcode, &payload[2..]), (CLOSE, &b"done"[..]));
    assert_eq!(mine.rest().await, b"");
    site.backend.ends("closed 4321").await;
}

#[tokio::test]
async fn each_account_and_the_gateway_have_their_bound_and_places_come_back() {
    let site = Site::with("[websocket]\nmax_open = 3\nmax_open_each = 2", "").await;
    let first = site.open("mine", "/ws/echo").await;
    let mut second = site.open("mine", "/ws/echo").await;
    let (_, head) = site.send(site.handshake("mine", "/ws/echo", FIELDS)).await;
    assert_eq!(status(&head), 429, "{head}");
    let _third = site.open("other", "/ws/echo").await;
    let (_, head) = site.send(site.handshake("other", "/ws/echo", FIELDS)).await;
    assert_eq!(status(&head), 503, "{head}");
    assert_eq!(site.backend.heads().len(), 3, "what is refused reaches nobody");
    drop(first);
    site.comes_to("websockets{route=\"stream\"}", 2).await;
    site.open("mine", "/ws/echo").await.echo(b"in its place").await;
    second.echo(b"undisturbed").await;
}
