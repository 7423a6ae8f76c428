//! One connection: its handshake, its protocol, its deadlines, its end.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use super::cut::Cut;
use super::exit::Outbound;
use super::front::{self, Left};
use super::observe::{End, Observer, Tally};
use super::pulse::{Limits, Pulse};
use super::running::{Phase, reaches};
use super::serve::Line;
use super::stream::{Transport, Watched, detect};
use super::tls;
use super::tunnel;
use super::worker::{Dealt, Here, Worker};
use crate::clock::Clock;
use crate::config::Server;
use crate::registry::Keys;
use crate::store::Store;

/// Serves one connection to its end.
pub(super) async fn serve<K, S, C, O>(
    worker: Rc<Worker<K, S, C, O>>,
    dealt: Dealt<O>,
    mut phase: watch::Receiver<Phase>,
) where
    K: Keys + 'static,
    S: Store + 'static,
    C: Clock + 'static,
    O: Observer,
{
    let Dealt { socket, peer, mut seat } = dealt;
    let limit = worker.config.server.handshake_timeout;
    let acceptor = worker.tls.get(seat.listener).and_then(Option::as_ref);
    let opened = tokio::select! {
        biased;
        opened = timeout(limit, open(acceptor, socket)) => opened,
        () = draining_for_long(&mut phase) => return,
    };
    let Opened { transport, h2, ahead } = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(end)) => {
            seat.end = end;
            return;
        }
        Err(_) => {
            seat.end = acceptor.map_or(End::TimedOut, |_| End::Handshake);
            return;
        }
    };
    let limits = Limits::from(&worker.config.server);
    let endings = worker.gate.keys.endings().map(Arc::clone);
    let pulse = Rc::new(Pulse::new(limits, !h2, !ahead.is_empty(), endings));
    let is_tls = matches!(transport, Transport::Tls(_));
    let stream = Watched::new(transport, ahead, Rc::clone(&pulse));
    let agreed = RefCell::default();
    let line = Rc::new(Line { peer, tls: is_tls, pulse: Rc::clone(&pulse), agreed });
    seat.end = if h2 {
        attend(Box::pin(by_hyper(&worker, &line, stream, h2)).as_mut(), &pulse, &mut phase).await
    } else {
        let _enlisted = match &pulse.endings {
            Some(_) => Some(poll_fn(|cx| Poll::Ready(worker.sleepers.enlist(cx.waker()))).await),
            None => None,
        };
        attend(pin!(by_ourselves(&worker, &line, stream)), &pulse, &mut phase).await
    };
}

/// Speaks HTTP/1 as far as requests are plain, and leaves the rest to hyper.
async fn by_ourselves<K, S, C, O>(
    worker: &Rc<Worker<K, S, C, O>>,
    line: &Rc<Line>,
    stream: Watched,
) -> End
where
    K: Keys + 'static,
    S: Store + 'static,
    C: Clock + 'static,
    O: Observer,
{
    match front::converse(worker, line, stream).await {
        Left::Closed => End::Closed,
        Left::Broken => End::Broken,
        // Boxed: most connections never need the room.
        Left::Odd(stream) => Box::pin(by_hyper(worker, line, stream, false)).await,
    }
}

async fn by_hyper<K, S, C, O>(
    worker: &Rc<Worker<K, S, C, O>>,
    line: &Rc<Line>,
    stream: Watched,
    h2: bool,
) -> End
where
    K: Keys + 'static,
    S: Store + 'static,
    C: Clock + 'static,
    O: Observer,
{
    let served = (Rc::clone(worker), Rc::clone(line));
    let service = service_fn(move |request| {
        let (worker, line) = (Rc::clone(&served.0), Rc::clone(&served.1));
        async move { worker.serve(&line, request).await }
    });
    let io = TokioIo::new(stream);
    if h2 {
        return drive(pin!(worker.http2.serve_connection(io, service)), &line.pulse).await;
    }
    let mut connection = worker.http1.serve_connection(io, service);
    let end = drive(Pin::new(&mut connection), &line.pulse).await;
    let agreed = line.agreed.take().filter(|_| end == End::Closed);
    let Some(agreed) = agreed else { return end };
    // hyper has told the client that the connection is a WebSocket from here on, and leaves it alone.
    let parts = connection.into_parts();
    tunnel::run(worker, line, parts.io.into_inner(), parts.read_buf, *agreed).await
}

/// HTTP/1 as this gateway speaks it.
pub(super) fn http1(server: &Server) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // `Pulse` has the deadline: hyper's would also end the idle time between two requests.
        .header_read_timeout(None)
        // As in `front`: who has ended its side may wait for the answer.
        .half_close(true)
        .max_buf_size(server.head_bytes.max(SMALLEST_BUFFER))
        .max_header_size(server.head_bytes);
    if server.header_fields > HYPER_FIELDS {
        builder.max_headers(server.header_fields);
    }
    builder
}

/// HTTP/2 as this gateway speaks it.
pub(super) fn http2(server: &Server) -> http2::Builder<Here> {
    let mut builder = http2::Builder::new(Here);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(server.h2_streams)
        .max_header_list_size(16 << 10)
        .initial_stream_window_size(64 << 10)
        .initial_connection_window_size(1 << 20)
        .max_send_buf_size(64 << 10)
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(100)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// hyper takes no smaller one.
const SMALLEST_BUFFER: usize = 8_192;

/// As many header fields hyper reads without being told; up to here we count ourselves, and can name the request.
pub(super) const HYPER_FIELDS: usize = 100;

/// A connection whose protocol is known.
struct Opened {
    transport: Transport,
    h2: bool,
    ahead: Bytes,
}

async fn open(acceptor: Option<&TlsAcceptor>, socket: std::net::TcpStream) -> Result<Opened, End> {
    let mut socket = TcpStream::from_std(socket).map_err(|_| End::Broken)?;
    let Some(acceptor) = acceptor else {
        let (h2, ahead) = detect(&mut socket).await?;
        return Ok(Opened { transport: Transport::Plain(socket), h2, ahead });
    };
    let session = acceptor.accept(socket).await.map_err(|_| End::Handshake)?;
    let h2 = session.get_ref().1.alpn_protocol() == Some(tls::H2);
    Ok(Opened { transport: Transport::Tls(Box::new(session)), h2, ahead: Bytes::new() })
}

/// Drives a connection until it ends, a deadline passes, or the gateway has stopped.
async fn attend(
    mut conversation: Pin<&mut impl Future<Output = End>>,
    pulse: &Pulse,
    phase: &mut watch::Receiver<Phase>,
) -> End {
    let mut alarm = pin!(sleep_until(pulse.due()));
    // One future for the connection's life: made anew at each poll it would join and leave a queue each time.
    let news = phase.clone();
    let mut draining = pin!(async {
        reaches(phase, Phase::Draining).await;
        if pulse.is_unused() {
            sleep(FIRST_REQUEST).await;
        }
    });
    let mut is_heard = false;
    let mut is_set = false;
    let mut leaving = false;
    loop {
        let progress = poll_fn(|cx| {
            if let Poll::Ready(ended) = conversation.as_mut().poll(cx) {
                return Poll::Ready(Progress::Ended(ended));
            }
            // The alarm is only ever set earlier here; when it rings too early it is set anew. So a busy
            // connection moves no timers. Nor is it asked more than whether it rang, once it knows the task.
            let due = pulse.due();
            if due < alarm.deadline() {
                alarm.as_mut().reset(due);
                is_set = false;
            }
            while (!is_set || alarm.is_elapsed()) && alarm.as_mut().poll(cx).is_ready() {
                if pulse.due() <= Instant::now() {
                    return Poll::Ready(Progress::Due);
                }
                alarm.as_mut().reset(pulse.due());
                is_set = false;
            }
            is_set = true;
            // It too knows the task once it was asked.
            if leaving || is_heard && matches!(news.has_changed(), Ok(false)) {
                return Poll::Pending;
            }
            is_heard = true;
            draining.as_mut().poll(cx).map(|()| Progress::Draining)
        });
        match progress.await {
            Progress::Ended(end) => return end,
            Progress::Due if leaving || Instant::now() < pulse.age() => return pulse.overdue(),
            Progress::Due if pulse.is_unused() => return End::Idle,
            Progress::Draining if pulse.is_unused() => return End::Stopped,
            Progress::Due | Progress::Draining => {}
        }
        leaving = true;
        // The conversation sees it when it is polled next, which is now.
        pulse.leave();
    }
}

/// Returns once the gateway has been draining for so long that a connection it had let in has shown its request.
async fn draining_for_long(phase: &mut watch::Receiver<Phase>) {
    reaches(phase, Phase::Draining).await;
    sleep(FIRST_REQUEST).await;
}

/// How long a connection that was let in just before the gateway drains has for its first request: it was opened for
/// one, and whoever opened it knows of nothing.
const FIRST_REQUEST: Duration = Duration::from_millis(250);

/// Why a connection's handler looks up.
enum Progress {
    Ended(End),
    Due,
    Draining,
}

/// Drives a connection of hyper's to its end, and tells it when it is to leave.
async fn drive(mut conversation: Pin<&mut impl Conversation>, pulse: &Pulse) -> End {
    let mut was_told = false;
    let ended = poll_fn(|cx| {
        if pulse.is_leaving() && !std::mem::replace(&mut was_told, true) {
            conversation.as_mut().leave();
        }
        conversation.as_mut().poll(cx)
    });
    match ended.await {
        Ok(()) => End::Closed,
        Err(_) => End::Broken,
    }
}

/// What hyper's connections of both protocols can do.
trait Conversation: Future<Output = hyper::Result<()>> {
    /// Finishes the requests under way and takes no more.
    fn leave(self: Pin<&mut Self>);
}

impl<H, T> Conversation for http1::Connection<TokioIo<Watched>, H>
where
    H: HttpService<Incoming, ResBody = Outbound<T>, Error = Cut>,
    T: Tally,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<H, T> Conversation for http2::Connection<TokioIo<Watched>, H, Here>
where
    H: HttpService<Incoming, ResBody = Outbound<T>, Error = Cut>,
    H::Future: 'static,
    T: Tally,
{
    fn leave(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
