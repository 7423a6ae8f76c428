//! Serves the plain requests of an HTTP/1.1 connection itself, each in one task from its first byte to its last.
//!
//! Passing through hyper costs a request about as much as all else that is done for it: so what is [`Plain`] is
//! read here, one request after the other, judged and forwarded by the same code as every other, and answered with
//! one write. At the first request that is not plain the connection goes to hyper for the rest of its life, with all
//! that was read of that request put back in front of it; nothing of it has been acted on then.
//!
//! What is here is kept small, since two rules must hold. No byte belongs to two requests: a body is taken off the
//! buffer, or else the connection ends. And no answer meets another request: the next is not read before the
//! answer to the last has been written.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use http::{Method, StatusCode};
use hyper::body::{Body, Frame};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::answer::{self, Coding, Manner};

use super::body::MOST_DROPPED;
use super::desk::Desk;
use super::io::Io;
use super::observe::Observer;
use super::plain::{self, Beginning, Plain};
use super::pulse::Pulse;
use super::refusal::Refusal;
use super::reply::{Reply, ReplyBody, ReplyFault};
use super::rooms::Held;
use super::serve::Line;
use super::stream::Watched;
use super::worker::Worker;
use crate::clock::Clock;
use crate::denial::Denial;
use crate::registry::Keys;
use crate::store::Store;

/// How a connection leaves here.
pub(super) enum Left {
    /// It has ended by agreement.
    Closed,
    /// It has broken off.
    Broken,
    /// What comes next on it is for hyper.
    Odd(Watched),
}

/// Serves requests as long as they are plain.
pub(super) async fn converse<K: Keys, S: Store, C: Clock, O: Observer>(
    worker: &Worker<K, S, C, O>,
    line: &Line,
    mut stream: Watched,
) -> Left {
    stream.hush();
    let held = Held::new(&worker.desk.rooms);
    let io = RefCell::new(Io { stream, held, has_ended: false });
    let front = Front { io, body: Cell::new(None) };
    loop {
        let (request, rest) = match front.next(worker, &line.pulse).await {
            Next::Request(request, rest) => (request, rest),
            Next::Refused(refusal) => return front.refuse(worker, line, refusal).await,
            Next::End => return front.close().await,
            Next::Broken => return Left::Broken,
            Next::Odd => return front.hand_over(),
        };
        let (length, closes) = (request.length, request.closes);
        let to_head = request.method == Method::HEAD;
        let whole = front.take_body(length, rest);
        let at = worker.gate.clock.both();
        let mut record = worker.open(line, at);
        let served = {
            let within = worker.config.server.body_timeout;
            let read = |cap| front.read_body(whole, length, cap, within);
            front.unless_gone(pin!(worker.serve_plain(line, request, read, &mut record))).await
        };
        let Some(Ok(reply)) = served else { return Left::Broken };

        let closes = closes || line.pulse.is_leaving() || front.has_much_unread();
        let manner = Manner { to_head, closes, date: worker.desk.dates.at(at.0) };
        let is_cut = || record.is_cut();
        if let Err(error) = front.write(&worker.desk, &line.pulse, reply, manner, is_cut).await {
            record.note_break(error.get_ref().and_then(|error| error.downcast_ref()).copied());
            return Left::Broken;
        }
        record.complete();
        drop(record);
        let within = worker.config.server.body_timeout;
        if closes || !front.is_body_over(&line.pulse, within).await {
            return front.close().await;
        }
        line.pulse.set_unread(false);
    }
}

/// One connection.
struct Front {
    io: RefCell<Io>,
    /// The length of a body that has not been taken off the buffer.
    body: Cell<Option<usize>>,
}

/// What comes next on a connection.
enum Next {
    Request(Box<Plain>, Bytes),
    /// What is no request: where the next would begin is not known.
    Refused(Refusal),
    /// The client has closed, or is to.
    End,
    Broken,
    Odd,
}

impl Front {
    /// The next request, and what has come behind its head.
    async fn next<K, S, C, O: Observer>(&self, worker: &Worker<K, S, C, O>, pulse: &Pulse) -> Next {
        for _ in 0..MOST_READS {
            if !self.io.borrow().held.is_empty() {
                let bytes = self.io.borrow_mut().held.take();
                let mut request = worker.desk.take();
                let (bytes, is_odd) = match plain::read(bytes, &worker.config.server, &mut request)
                {
                    Beginning::Plain(rest) => return Next::Request(request, rest),
                    Beginning::Partial(bytes) => (bytes, false),
                    Beginning::Other(bytes) => (bytes, true),
                    Beginning::Refused(refusal) => {
                        worker.desk.put(request);
                        return Next::Refused(refusal);
                    }
                };
                // Before the bytes are put back: what was read may share them.
                worker.desk.put(request);
                pulse.received();
                self.io.borrow_mut().held.put_back(bytes);
                if is_odd {
                    return Next::Odd;
                }
            }
            let read = poll_fn(|cx| {
                let io = &mut *self.io.borrow_mut();
                let is_between = io.held.is_empty();
                let more = io.poll_more(cx);
                // What has come already is answered.
                let ends = more.is_pending() && is_between && pulse.is_leaving();
                if ends { Poll::Ready(Ok(0)) } else { more }
            });
            match read.await {
                Ok(1..) => {}
                Ok(0) if self.io.borrow().held.is_empty() => return Next::End,
                Ok(0) | Err(_) => return Next::Broken,
            }
        }
        // A head in drops: hyper knows how to wait for it.
        Next::Odd
    }

    /// The body, where all of it has come: else it is taken off the buffer later, or never.
    fn take_body(&self, length: usize, mut rest: Bytes) -> Option<Bytes> {
        let whole = (rest.len() >= length).then(|| rest.split_to(length));
        self.body.set(whole.is_none().then_some(length));
        if !rest.is_empty() {
            self.io.borrow_mut().held.put_back(rest);
        }
        whole
    }

    /// Reads the body, of which `whole` is all if it has come.
    async fn read_body(
        &self,
        whole: Option<Bytes>,
        length: usize,
        cap: usize,
        within: Duration,
    ) -> Result<Bytes, Refusal> {
        const CUT: Refusal =
            Refusal::Broken(StatusCode::BAD_REQUEST, "the body is cut or malformed");
        const SLOW: Refusal =
            Refusal::Broken(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
        if length > cap {
            return Err(Denial::TooLarge.into());
        }
        if let Some(whole) = whole {
            return Ok(whole);
        }
        let coming = poll_fn(|cx| {
            let io = &mut *self.io.borrow_mut();
            while io.held.len() < length {
                match ready!(io.poll_more(cx)) {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Poll::Ready(Err(CUT)),
                }
            }
            self.body.set(None);
            let body = io.held.split_to(length).freeze();
            io.held.release();
            Poll::Ready(Ok(body))
        });
        Box::pin(tokio::time::timeout(within, coming)).await.unwrap_or(Err(SLOW))
    }

    /// What `serving` comes to, unless the client goes away first.
    async fn unless_gone<F: Future>(&self, mut serving: Pin<&mut F>) -> Option<F::Output> {
        poll_fn(|cx| {
            if let Poll::Ready(served) = serving.as_mut().poll(cx) {
                return Poll::Ready(Some(served));
            }
            if self.is_gone(cx) { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    /// Whether the client has broken off. While a body is to come, whoever reads that will see.
    fn is_gone(&self, cx: &mut Context<'_>) -> bool {
        self.body.get().is_none() && self.io.borrow_mut().is_broken(cx)
    }

    /// Whether more of the request's body is still to come than is waited for.
    fn has_much_unread(&self) -> bool {
        self.body.get().is_some_and(|length| length > MOST_DROPPED)
    }

    /// Whether the body of the last request, which nobody wanted, has come to its end: it is dropped as it comes.
    ///
    /// Nobody was told that the connection closes, so its client may have the next request under way.
    async fn is_body_over(&self, pulse: &Pulse, within: Duration) -> bool {
        let Some(mut left) = self.body.take() else { return true };
        let rest = poll_fn(|cx| {
            let io = &mut *self.io.borrow_mut();
            loop {
                let come = io.held.len().min(left);
                drop(io.held.split_to(come));
                io.held.release();
                left -= come;
                if left == 0 {
                    return Poll::Ready(true);
                }
                match io.poll_more(cx) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(false),
                    Poll::Pending if pulse.is_leaving() => return Poll::Ready(false),
                    Poll::Pending => return Poll::Pending,
                }
            }
        });
        Box::pin(tokio::time::timeout(within, rest)).await.unwrap_or(false)
    }

    /// Writes an answer to its end, unless it is cut.
    async fn write(
        &self,
        desk: &Desk,
        pulse: &Pulse,
        reply: Reply,
        manner: Manner,
        is_cut: impl Fn() -> bool,
    ) -> io::Result<()> {
        let mut text = desk.texts.take();
        let coding = answer::write(&reply, manner, &mut text);
        let whole = reply.body.whole().filter(|whole| whole.len() <= SHORT);
        let is_whole = whole.is_some() || coding == Coding::Empty;
        if let Some(whole) = whole.filter(|_| coding != Coding::Empty) {
            text.put_slice(whole);
        }
        let written = if is_whole {
            self.send(pulse, &text).await
        } else {
            Box::pin(self.stream(pulse, &mut text, reply.body, coding, is_cut)).await
        };
        desk.texts.put(text);
        written
    }

    /// Passes a body on as it comes, after what is in `text`.
    async fn stream(
        &self,
        pulse: &Pulse,
        text: &mut Vec<u8>,
        mut body: ReplyBody,
        coding: Coding,
        is_cut: impl Fn() -> bool,
    ) -> io::Result<()> {
        loop {
            let next = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
                _ if is_cut() => Poll::Ready(Piece::Gone),
                Poll::Ready(next) => Poll::Ready(Piece::Came(next)),
                // The head need not wait for the body.
                Poll::Pending if !text.is_empty() => Poll::Ready(Piece::Late),
                Poll::Pending if self.is_gone(cx) => Poll::Ready(Piece::Gone),
                Poll::Pending => Poll::Pending,
            });
            let data = match next.await {
                Piece::Came(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Piece::Came(Some(Err(fault))) => return Err(io::Error::other(fault)),
                Piece::Came(None) => Bytes::new(),
                Piece::Gone => return Err(io::ErrorKind::ConnectionAborted.into()),
                Piece::Late => {
                    self.send(pulse, text).await?;
                    text.clear();
                    continue;
                }
            };
            let is_last = data.is_empty() || body.is_end_stream();
            if coding == Coding::Chunked {
                answer::chunk(&data, is_last, text);
            } else {
                text.put_slice(&data);
            }
            self.send(pulse, text).await?;
            pulse.moved();
            text.clear();
            if is_last {
                return Ok(());
            }
        }
    }

    /// Writes all of `text`.
    async fn send(&self, pulse: &Pulse, text: &[u8]) -> io::Result<()> {
        let mut rest = text;
        poll_fn(|cx| {
            let stream = &mut self.io.borrow_mut().stream;
            while !rest.is_empty() {
                let written = ready!(Pin::new(&mut *stream).poll_write(cx, rest))?;
                rest = rest.get(written..).unwrap_or_default();
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                // The deadline for the first piece runs since the answer began.
                if !rest.is_empty() {
                    pulse.moved();
                }
            }
            Pin::new(stream).poll_flush(cx)
        })
        .await
    }

    /// Says what is wrong with what is no request, and ends the connection.
    async fn refuse<K: Keys, S: Store, C: Clock, O: Observer>(
        self,
        worker: &Worker<K, S, C, O>,
        line: &Line,
        refusal: Refusal,
    ) -> Left {
        let at = worker.gate.clock.both();
        let mut record = worker.open(line, at);
        line.pulse.set_unread(true);
        let reply = worker.refuse(&refusal, &mut record);
        let manner = Manner { to_head: false, closes: true, date: worker.desk.dates.at(at.0) };
        if self.write(&worker.desk, &line.pulse, reply, manner, || false).await.is_err() {
            return Left::Broken;
        }
        record.complete();
        drop(record);
        self.close().await
    }

    /// Ends the connection, once the client has had the time to read the last answer.
    async fn close(self) -> Left {
        match self.io.into_inner().stream.shutdown().await {
            Ok(()) => Left::Closed,
            Err(_) => Left::Broken,
        }
    }

    fn hand_over(self) -> Left {
        let Io { mut stream, held, .. } = self.io.into_inner();
        stream.put_back(held.into_text().freeze());
        Left::Odd(stream)
    }
}

/// What comes of a body.
enum Piece {
    Came(Option<Result<Frame<Bytes>, ReplyFault>>),
    Late,
    Gone,
}

/// How often a head may come in part before hyper waits for the rest.
const MOST_READS: usize = 8;
/// Up to this length a body goes out with its head.
const SHORT: usize = 16_384;
