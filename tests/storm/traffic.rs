//! Honest clients, greedy ones, and an attacker who repeats everything that they send.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::clock::{Clock, Micros, SystemClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::backend::field;
use crate::clients::{Class, Client, bytes};
use crate::dice::Dice;
use crate::disguise::disguised;

/// One signed request.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) number: u64,
    pub(crate) at: Micros,
    pub(crate) good_until: Micros,
    /// When it was answered, and what; empty as long as it was not.
    pub(crate) answered: Option<(Micros, Answer)>,
    pub(crate) class: Class,
    pub(crate) key: Arc<str>,
    /// Whom it was sent to first, where anyone was open.
    pub(crate) gateway: Option<usize>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// By the backend.
    Served,
    /// By the backend, and judged by the gateway alone.
    ServedAlone,
    /// By the gateway, with this status.
    Refused(u16),
    /// The connection was lost, or nothing came in time.
    Lost,
}

/// Where requests go, and what became of them.
#[derive(Debug)]
pub(crate) struct Traffic {
    gateways: Vec<Door>,
    clock: Arc<SystemClock>,
    numbers: AtomicU64,
    attempts: AtomicU64,
    pub(crate) honest: AtomicBool,
    pub(crate) stopped: AtomicBool,
    /// Whether connections are used again.
    pub(crate) keeps: AtomicBool,
    sent: Mutex<HashMap<u64, Sent>>,
    /// Of requests that may be judged alone: which gateways said that they served them, and whether alone.
    judged: Mutex<HashMap<(u64, usize), bool>>,
    dice: Mutex<Dice>,
}

/// A gateway, as clients see it.
#[derive(Debug)]
struct Door {
    address: SocketAddr,
    /// Whether a balancer would send anyone there.
    open: AtomicBool,
    idle: Mutex<Vec<TcpStream>>,
}

/// How many requests a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) honest: u32,
    pub(crate) greedy: u32,
    /// Of those who may be judged alone.
    pub(crate) alone: u32,
    pub(crate) most_replays: usize,
}

impl Traffic {
    pub(crate) fn new(ports: &[u16], clock: Arc<SystemClock>, seed: u64) -> Arc<Self> {
        let door = |port: &u16| Door {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, *port)),
            open: AtomicBool::new(true),
            idle: Mutex::default(),
        };
        Arc::new(Self {
            gateways: ports.iter().map(door).collect(),
            clock,
            numbers: AtomicU64::new(1),
            attempts: AtomicU64::new(0),
            honest: AtomicBool::new(true),
            stopped: AtomicBool::new(false),
            keeps: AtomicBool::new(true),
            sent: Mutex::default(),
            judged: Mutex::default(),
            dice: Mutex::new(Dice(seed)),
        })
    }

    /// Whether a balancer sends anyone to this gateway.
    pub(crate) fn set_open(&self, gateway: usize, open: bool) {
        self.gateways[gateway].open.store(open, Ordering::SeqCst);
    }

    /// How many requests were sent so far, copies too.
    pub(crate) fn count(&self) -> usize {
        usize::try_from(self.attempts.load(Ordering::SeqCst)).unwrap()
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        let mut all: Vec<_> = self.sent.lock().unwrap().values().cloned().collect();
        all.sort_by_key(|sent| sent.at);
        all
    }

    /// Of requests that may be judged alone: which gateways said that they served them, and whether alone.
    pub(crate) fn judged(&self) -> HashMap<(u64, usize), bool> {
        self.judged.lock().unwrap().clone()
    }

    /// Sends from `clients`, so many a second in all, until it is stopped.
    pub(crate) async fn run(self: Arc<Self>, clients: Vec<Client>, rate: u32, replays: usize) {
        let clients: Vec<_> = clients.into_iter().map(Arc::new).collect();
        let turn = AtomicUsize::new(0);
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.stopped.load(Ordering::SeqCst) {
            ticks.tick().await;
            if !self.honest.load(Ordering::SeqCst) {
                continue;
            }
            let client = &clients[turn.fetch_add(1, Ordering::Relaxed) % clients.len()];
            let once = Arc::clone(&self).once(Arc::clone(client), replays);
            tokio::spawn(once);
        }
    }

    /// Sends one, and lets the attacker have it.
    async fn once(self: Arc<Self>, client: Arc<Client>, most_replays: usize) {
        let number = self.numbers.fetch_add(1, Ordering::SeqCst);
        let now = self.clock.now();
        let (request, good_until) = client.sign(number, now);
        let (class, key, gateway) = (client.class, Arc::clone(&client.key), self.choose());
        let sent = Sent { number, at: now, good_until, answered: None, class, key, gateway };
        self.sent.lock().unwrap().insert(number, sent);
        let whole = bytes(&request);
        let Some(gateway) = gateway else { return };
        if most_replays > 0 {
            let replays = 1 + self.roll(most_replays);
            let window = good_until.since(now).min(LONGEST) + Duration::from_millis(500);
            for _ in 0..replays {
                let (delay, stolen, gateway) = {
                    let mut dice = self.dice.lock().unwrap();
                    let most = u64::try_from(window.as_millis()).unwrap();
                    // Half of them soon: that is when the store is most likely to be of two minds.
                    let most = if dice.below(2) == 0 { 400 } else { most };
                    let delay = dice.ms(0..most);
                    let stolen = disguised(&request, &client.style, &mut dice);
                    (delay, stolen, dice.below(self.gateways.len()))
                };
                let traffic = Arc::clone(&self);
                tokio::spawn(async move {
                    sleep(delay).await;
                    if !traffic.stopped.load(Ordering::SeqCst) {
                        let _ = timeout(PATIENCE, traffic.exchange(gateway, number, &stolen)).await;
                    }
                });
            }
        }
        let answer = match timeout(PATIENCE, self.deliver(gateway, number, &whole)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Answer::Lost,
        };
        if let Some(sent) = self.sent.lock().unwrap().get_mut(&number) {
            sent.answered = Some((self.clock.now(), answer));
        }
    }

    /// To this gateway, or to the next one where it takes no connection, twice round: what a balancer does.
    async fn deliver(&self, first: usize, number: u64, request: &[u8]) -> io::Result<Answer> {
        let mut last = io::ErrorKind::ConnectionRefused.into();
        for next in 0..2 * self.gateways.len() {
            match self.exchange((first + next) % self.gateways.len(), number, request).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => last = error,
                other => return other,
            }
        }
        Err(last)
    }

    fn roll(&self, bound: usize) -> usize {
        self.dice.lock().unwrap().below(bound)
    }

    /// A gateway that is open, if there is one.
    fn choose(&self) -> Option<usize> {
        let open = |at: &usize| self.gateways[*at].open.load(Ordering::SeqCst);
        let open: Vec<usize> = (0..self.gateways.len()).filter(open).collect();
        (!open.is_empty()).then(|| open[self.roll(open.len())])
    }

    async fn exchange(&self, gateway: usize, number: u64, request: &[u8]) -> io::Result<Answer> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        let door = &self.gateways[gateway];
        let keeps = self.keeps.load(Ordering::SeqCst);
        let mut socket = if keeps { door.connection().await? } else { door.connect().await? };
        socket.write_all(request).await?;
        let mut held = Vec::with_capacity(1_024);
        loop {
            if let Some((answer, keep)) = read(&held) {
                if keep && keeps {
                    door.idle.lock().unwrap().push(socket);
                }
                self.note(gateway, number, answer);
                return Ok(answer);
            }
            if socket.read_buf(&mut held).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

impl Traffic {
    /// Which gateway served a request that it may judge alone, and whether it did.
    fn note(&self, gateway: usize, number: u64, answer: Answer) {
        let alone = match answer {
            Answer::Served => false,
            Answer::ServedAlone => true,
            Answer::Refused(_) | Answer::Lost => return,
        };
        let is_noted = self.sent.lock().unwrap()[&number].class == Class::Alone;
        if is_noted {
            self.judged.lock().unwrap().insert((number, gateway), alone);
        }
    }
}

/// The latest that the attacker repeats a request.
const LONGEST: Duration = Duration::from_secs(10);
/// How long a balancer waits to be let in before it goes to another gateway: nothing was sent yet. What asks again for
/// itself does so after a second, when a gateway that is restarted as soon as it is ready may drain once more.
const CONNECT: Duration = Duration::from_millis(100);
/// How long clients wait.
const PATIENCE: Duration = Duration::from_secs(2);

impl Door {
    async fn connection(&self) -> io::Result<TcpStream> {
        loop {
            let Some(idle) = self.idle.lock().unwrap().pop() else { break };
            // One that has ended meanwhile is readable.
            if idle.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            {
                return Ok(idle);
            }
        }
        self.connect().await
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        // A gateway that drains lets nobody in, and says so only once it no longer listens.
        let Ok(connected) = timeout(CONNECT, TcpStream::connect(self.address)).await else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        let socket = connected?;
        socket.set_nodelay(true)?;
        Ok(socket)
    }
}

/// The answer, once it is whole, and whether the connection goes on.
fn read(held: &[u8]) -> Option<(Answer, bool)> {
    let begun = held.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&held[..begun]).ok()?;
    let length: usize = field(text, "content-length").map_or(0, |length| length.parse().unwrap());
    let body = held.get(begun..begun + length)?;
    let keep = !field(text, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let status: u16 = text.split(' ').nth(1)?.parse().ok()?;
    let answer = match field(text, "x-countersign-judged") {
        _ if !body.starts_with(b"served ") => Answer::Refused(status),
        Some(_) => Answer::ServedAlone,
        None => Answer::Served,
    };
    Some((answer, keep))
}

/// When a phase began, for those who measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phase {
    pub(crate) from: Micros,
    pub(crate) to: Micros,
}

impl Phase {
    pub(crate) fn holds(&self, at: Micros) -> bool {
        self.from <= at && at < self.to
    }
}
