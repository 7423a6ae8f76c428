//! Serves the exchange over HTTP/1.1, with bounds on connections, bodies and time.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Exchange, Reply, stream};

/// Serves `exchange` until `shutdown` is done; requests under way then get a few seconds to end.
///
/// Runs on every kind of tokio runtime with I/O and time enabled.
pub async fn serve(
    listener: TcpListener,
    exchange: Exchange,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let exchange = Arc::new(exchange);
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&exchange), stopping.clone()));
                }
                // Out of descriptors, or a client that left again: neither is a reason to end.
                Err(_) => sleep(AFTER_ACCEPT_ERROR).await,
            },
        }
    }
    drop(listener);
    stop.send_replace(true);
    let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    connections.shutdown().await;
    Ok(())
}

async fn connection(
    stream: TcpStream,
    exchange: Arc<Exchange>,
    mut stopping: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true); // only slower without
    let closing = stopping.clone();
    let service =
        service_fn(move |request| answer(Arc::clone(&exchange), request, closing.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    // How a connection ends is the client's affair: nothing is left to do here.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = async { drop(stopping.wait_for(|&stop| stop).await) } => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

async fn answer(
    exchange: Arc<Exchange>,
    mut request: Request<Incoming>,
    stopping: watch::Receiver<bool>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    if let Some(switching) = stream::accept(&parts.headers) {
        let greeting = exchange.greet(&parts, exchange.now());
        tokio::spawn(websocket(upgrade, greeting, stopping));
        return Ok(switching);
    }
    let reply = match read(body).await {
        Ok(body) => exchange.handle(&parts, &body, exchange.now()),
        Err(refusal) => refusal,
    };
    let mut response = Response::new(Full::from(reply.body.to_string()));
    *response.status_mut() = reply.status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json;charset=UTF-8"));
    Ok(response)
}

/// Serves a WebSocket until either end has enough of it.
async fn websocket(upgrade: OnUpgrade, greeting: String, mut stopping: watch::Receiver<bool>) {
    let Ok(upgraded) = upgrade.await else { return };
    // How it ends is the client's affair.
    tokio::select! {
        _ = stream::echo(TokioIo::new(upgraded), &greeting) => {}
        () = async { drop(stopping.wait_for(|&stop| stop).await) } => {}
    }
}

/// The whole body, within the bounds of size and time. One that announces too much is not waited for.
async fn read(body: Incoming) -> Result<Bytes, Reply> {
    let too_large = || refusal(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large.");
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(too_large());
    }
    match timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(refusal(StatusCode::BAD_REQUEST, "The body is broken.")),
        Err(_) => Err(refusal(StatusCode::REQUEST_TIMEOUT, "The body took too long.")),
    }
}

fn refusal(status: StatusCode, message: &str) -> Reply {
    Reply { status, body: json!({ "code": -1000, "msg": message }) }
}

const MAX_CONNECTIONS: usize = 4_096;
const MAX_BODY: usize = 1 << 20;
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const DRAIN: Duration = Duration::from_secs(5);
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    /// Starts an exchange on one thread, hands its client a connection, and waits for both to end.
    fn with_connection<C: Future<Output = ()>>(
        client: impl FnOnce(TcpStream, oneshot::Sender<()>) -> C,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (stop, stopped) = oneshot::channel();
            let serving = serve(listener, Exchange::new(None), async { drop(stopped.await) });
            let (ended, ()) = tokio::join!(serving, client(stream, stop));
            ended.unwrap();
        });
    }

    /// One answer: its head, and as much of a body as the head states.
    async fn answer(stream: &mut TcpStream) -> (String, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let (_, length) = head.split_once("content-length: ").unwrap();
        let mut body = vec![0; length.split("\r\n").next().unwrap().parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    #[test]
    fn a_connection_carries_many_requests_until_shutdown() {
        with_connection(|mut stream, stop| async move {
            for _ in 0..3 {
                stream.write_all(b"GET /api/v3/ping HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
                let (head, body) = answer(&mut stream).await;
                assert!(
                    head.starts_with("http/1.1 200 ok\r\n") && head.contains("application/json"),
                    "{head}"
                );
                assert_eq!(body, "{}");
            }
            stop.send(()).unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "an idle connection is closed");
        });
    }

    #[test]
    fn a_form_in_chunks_places_an_order() {
        with_connection(|mut stream, stop| async move {
            let form = "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=1";
            let request = format!(
                "POST /api/v3/order HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{form}\r\n0\r\n\r\n",
                form.len()
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let (_, body) = answer(&mut stream).await;
            assert!(body.contains("\"status\":\"FILLED\""), "{body}");
            drop(stop);
        });
    }

    #[test]
    fn a_body_beyond_the_bound_is_refused_unread() {
        for (length, status) in [(MAX_BODY, "200"), (MAX_BODY + 1, "413")] {
            with_connection(|mut stream, stop| async move {
                let head =
                    format!("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                if status == "200" {
                    stream.write_all(&vec![b'a'; length]).await.unwrap();
                }
                let (head, _) = answer(&mut stream).await;
                assert!(head.starts_with(&format!("http/1.1 {status} ")), "{head}");
                drop(stop);
            });
        }
    }
}
