//! A backend for benchmarks: answers every request with 200 and the same 120 bytes, as cheaply as hyper can.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// What it answers.
pub const BODY: &[u8; 120] = br#"{"symbol":"BTCUSDT","orderId":28,"clientOrderId":"6gCrw2kRUAFAHqR2","transactTime":1507725176595,"status":"NEW","pad":1}"#;

/// Serves HTTP/1.1 with keep-alive until `shutdown`; connections under way are then dropped.
pub async fn serve(listener: TcpListener, shutdown: impl Future<Output = ()>) {
    let mut connections = tokio::task::JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut shutdown => return,
        };
        let Ok((socket, _)) = accepted else {
            // Out of descriptors, most likely: connections that end will free some.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        // Without it answers only come later.
        let _ = socket.set_nodelay(true);
        let connection = http1::Builder::new()
            .pipeline_flush(true)
            .serve_connection(TokioIo::new(socket), service_fn(answer));
        connections.spawn(async { drop(connection.await) });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut body = request.into_body();
    if !body.is_end_stream() {
        while let Some(Ok(_)) = body.frame().await {}
    }
    let mut response = Response::new(Full::new(Bytes::from_static(BODY)));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_json() {
        let value: serde_json::Value = serde_json::from_slice(BODY).unwrap();
        assert_eq!(value["status"], "NEW");
    }
}
