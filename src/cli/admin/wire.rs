//! One request over one connection, within its deadline.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, IF_MATCH, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::refused::ApiError;
use super::target::Target;
use super::token::Token;

/// What is asked.
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// JSON.
    pub(crate) body: Option<Bytes>,
    /// The version that is to be changed, and no other.
    pub(crate) version: Option<String>,
    /// Under which the call is carried out once.
    pub(crate) once: Option<String>,
}

/// Where calls go, and as whom.
pub(crate) struct Line {
    pub(crate) target: Target,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) token: Option<Token>,
    pub(crate) patience: Duration,
}

impl Line {
    /// Sends `call` and waits for the head of its answer.
    pub(crate) async fn ask(&self, call: &Call) -> Result<Response<Incoming>, ApiError> {
        let connecting = timeout(CONNECTING.min(self.patience), self.connect()).await;
        let stream = connecting.unwrap_or_else(|_| {
            let late = io::Error::new(io::ErrorKind::TimedOut, "it takes no connection");
            Err(ApiError::Unreachable(self.target.to_string(), late))
        })?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(&error, None))?;
        // It ends with the answer's body, or with the program.
        tokio::spawn(connection);
        let request = self.request(call)?;
        match timeout(self.patience, sender.send_request(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.broken(&error, call.once.clone())),
            Err(_) => Err(self.silent(call.once.clone())),
        }
    }

    /// All of an answer's body.
    pub(crate) async fn body(
        &self,
        call: &Call,
        answer: Response<Incoming>,
    ) -> Result<Bytes, ApiError> {
        let limited = http_body_util::Limited::new(answer.into_body(), LARGEST);
        match timeout(self.patience, limited.collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => Err(self.broken(error.as_ref(), call.once.clone())),
            Err(_) => Err(self.silent(call.once.clone())),
        }
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, ApiError> {
        let failed = |error| ApiError::Unreachable(self.target.to_string(), error);
        match &self.target {
            Target::Unix(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(failed)?)),
            Target::Tcp { authority, port, .. } => {
                let host = authority.host().trim_start_matches('[').trim_end_matches(']');
                let stream = TcpStream::connect((host, *port)).await.map_err(failed)?;
                let Some(config) = &self.tls else { return Ok(Box::new(stream)) };
                let name = ServerName::try_from(host.to_owned())
                    .map_err(|error| failed(io::Error::other(error)))?;
                let connector = TlsConnector::from(Arc::clone(config));
                Ok(Box::new(connector.connect(name, stream).await.map_err(failed)?))
            }
        }
    }

    fn request(&self, call: &Call) -> Result<Request<Full<Bytes>>, ApiError> {
        let mut request = Request::builder()
            .method(&call.method)
            .uri(&call.path)
            .header(HOST, self.target.host())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("countersign/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token.field());
        }
        if call.body.is_some() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(version) = &call.version {
            request = request.header(IF_MATCH, format!("\"{version}\""));
        }
        if let Some(once) = &call.once {
            request = request.header(&IDEMPOTENCY_KEY, once);
        }
        let made = request.body(Full::new(call.body.clone().unwrap_or_default()));
        made.map_err(|error| ApiError::Foreign(self.target.to_string(), error.to_string()))
    }

    pub(crate) fn broken(
        &self,
        error: &(dyn std::error::Error + 'static),
        repeat: Option<String>,
    ) -> ApiError {
        let parsing = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
        if parsing {
            return ApiError::Foreign(self.target.to_string(), error.to_string());
        }
        ApiError::Broken { target: self.target.to_string(), problem: error.to_string(), repeat }
    }

    fn silent(&self, repeat: Option<String>) -> ApiError {
        ApiError::Silent { target: self.target.to_string(), after: self.patience, repeat }
    }
}

/// What HTTP is spoken over.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Whoever listens takes a connection at once.
const CONNECTING: Duration = Duration::from_secs(10);
/// Far more than a page of anything.
const LARGEST: usize = 64 << 20;
