//! Ports that nobody else takes between the asking and the use.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// A port of the loopback that is free, and no other's of this process. It lies below those that the system gives to
/// connections that go out, any of which could take it before whoever asked listens.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run side by side begin apart.
    let begin = u16::try_from(std::process::id() % 199).unwrap() * 97;
    for _ in 0..COUNT {
        let port = FIRST + (begin + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port of the loopback is free");
}

const FIRST: u16 = 11_000;
const COUNT: u16 = 20_000;
