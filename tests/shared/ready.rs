//! A gateway whose registry is slow to say which keys there are: it is not ready before it knows.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use countersign::clock::{Clock as _, SystemClock};
use countersign::config::{Config, System};
use countersign::key::sealing::MasterKeys;
use countersign::registry::book::Registry;
use countersign::registry::embedded::Embedded;
use countersign::registry::opened::{KeyOpener, Names};
use countersign::service::{Service, Source};

use crate::deaf::Deaf;

fn config() -> Config {
    let text = r#"version = 1
[server]
workers = 1
[[listener]]
name = "public"
address = "127.0.0.1:0"
[admin]
address = "127.0.0.1:0"
[[route]]
name = "time"
methods = ["GET"]
path = "/time"
answer = "time-binance"
"#;
    Config::parse(text, Path::new("gateway.toml"), &System).unwrap().config
}

/// What `/readyz` says.
fn readiness(service: &Service) -> String {
    let mut socket = TcpStream::connect(service.admin).unwrap();
    socket
        .write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).unwrap();
    reply
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_mins(1), "{what}: never");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_gateway_is_ready_only_once_its_registry_has_told_which_keys_there_are() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let registry: Arc<dyn Registry> = Arc::new(Embedded::in_memory().unwrap());
    let names = Arc::new(Names::of(&config()));
    let opener = KeyOpener { masters: MasterKeys::gather(None, None).unwrap(), names };
    let held = Arc::new(Deaf::held(registry));
    let source = Source::of(Arc::<Deaf>::clone(&held), opener);
    let service = Service::start_over(config(), Some(source)).unwrap();

    // Nothing else is in the way any longer.
    until("the fence passes", || {
        service.ready_at().is_some_and(|ready| ready <= SystemClock::start().now())
            && !readiness(&service).contains("fence")
    });
    let said = readiness(&service);
    assert!(said.starts_with("HTTP/1.1 503") && said.contains("registry not reached"), "{said}");
    {
        let _within = runtime.enter();
        let mut ready = pin!(service.ready());
        let polled = ready.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "it is ready, and knows of no key");
    }

    held.answer();
    let ready = async { tokio::time::timeout(Duration::from_mins(1), service.ready()).await };
    runtime.block_on(ready).unwrap();
    let said = readiness(&service);
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    runtime.block_on(service.drain_unless(std::future::ready(())));
}
