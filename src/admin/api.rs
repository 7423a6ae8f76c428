//! The way of a call: who, where to, allowed, read, done, noted.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::response::Response;
use axum::routing::MethodRouter;
use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{HeaderMap, StatusCode};
use tokio::time::timeout;
use tower_service::Service as _;

use super::access::Access;
use super::call::{Call, forbidden};
use super::caller::{Caller, Peer};
use super::desk::Desk;
use super::idempotency::{Begun, Idempotency, Saved, Ticket};
use super::operation::Operation;
use super::problem::Problem;
use super::record::{CallLog, Logged};
use super::response::{again, refusal, respond};
use super::{confirm, operations, request};
use crate::clock::{Clock, Micros};
use crate::gateway::request_id::RequestIds;

/// The largest body, in bytes.
pub const BODY_CAP: usize = 64 << 10;
/// Time for a whole body.
const BODY_TIME: Duration = Duration::from_secs(10);
/// Time for an operation to answer; what streams has more.
const ACT_TIME: Duration = Duration::from_secs(30);

/// What every call shares.
pub(super) struct Api {
    pub(super) desk: Desk,
    access: Access,
    log: Arc<dyn CallLog>,
    idempotency: Idempotency,
    ids: Mutex<RequestIds>,
}

/// The API, ready to answer. Cheap to clone.
#[derive(Clone)]
pub struct AdminApi {
    api: Arc<Api>,
    router: Router,
}

/// A call whose caller is known.
#[derive(Clone)]
struct Arrival {
    at: Micros,
    begun: Instant,
    id: Arc<str>,
    caller: Caller,
}

impl AdminApi {
    /// Answers those that `access` knows from `desk`, and tells `log` of every call.
    pub fn new(
        desk: Desk,
        access: Access,
        log: Arc<dyn CallLog>,
    ) -> Result<Self, getrandom::Error> {
        let ids = Mutex::new(RequestIds::new()?);
        let idempotency = Idempotency::default();
        let api = Arc::new(Api { desk, access, log, idempotency, ids });
        Ok(Self { router: router(&api), api })
    }

    /// Whether anybody could call over TCP.
    pub fn is_reachable(&self) -> bool {
        !self.api.access.is_empty()
    }

    /// Follows what identity providers publish, for ever.
    pub async fn follow_providers(&self) {
        self.api.access.follow(&self.api.desk.clock).await;
    }

    /// Answers a request that came from `peer`.
    pub(super) async fn answer(&self, mut request: Request, peer: &Peer) -> Response {
        let begun = Instant::now();
        let at = self.api.desk.clock.now();
        let id: Arc<str> = self.api.next_id(at);
        if request::is_of_a_page(request.headers()) {
            tracing::warn!(address = ?peer.address, "a browser asked the admin API for a page");
            return refusal(&Problem::of_a_page(), &id);
        }
        self.api.access.learn(peer, request.headers(), at).await;
        let caller = match self.api.access.identify(peer, request.headers(), at) {
            Ok(caller) => caller,
            Err(failure) => {
                let problem = failure.wait.map_or_else(Problem::unproven, |wait| {
                    Problem::throttled(wait.as_secs().saturating_add(1))
                });
                if failure.is_noted() {
                    self.api.log.unproven(at, peer.address, failure.count);
                }
                return refusal(&problem, &id);
            }
        };
        request.extensions_mut().insert(Arrival { at, begun, id, caller });
        match self.router.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

impl fmt::Debug for AdminApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminApi").field("access", &self.api.access).finish_non_exhaustive()
    }
}

fn router(api: &Arc<Api>) -> Router {
    let mut router: Router<Arc<Api>> = Router::new();
    let mut paths: Vec<(&'static str, MethodRouter<Arc<Api>>)> = Vec::new();
    for operation in operations() {
        let act = move |State(api): State<Arc<Api>>, path: Named, request: Request| {
            serve(api, operation, path.ok(), request)
        };
        match paths.iter_mut().find(|(path, _)| *path == operation.path) {
            Some((_, methods)) => *methods = methods.clone().on(operation.verb.filter(), act),
            None => paths.push((operation.path, axum::routing::on(operation.verb.filter(), act))),
        }
    }
    for (path, methods) in paths {
        let allow = allowed(path);
        let other = move |State(api): State<Arc<Api>>, request: Request| async move {
            api.turn_away(request.extensions().get(), &Problem::method(&allow)).await
        };
        router = router.route(path, methods.fallback(other));
    }
    let nowhere = |State(api): State<Arc<Api>>, request: Request| async move {
        let problem = Problem::missing("path").cured("/v1/openapi.json lists what there is");
        api.turn_away(request.extensions().get(), &problem).await
    };
    router.fallback(nowhere).with_state(Arc::clone(api))
}

/// The methods that a path knows.
fn allowed(path: &str) -> HeaderValue {
    let mut names: Vec<_> =
        operations().filter(|known| known.path == path).map(|known| known.verb.name()).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static("GET, HEAD"))
}

/// The names in a path, where they are UTF-8.
type Named = Result<RawPathParams, RawPathParamsRejection>;

async fn serve(
    api: Arc<Api>,
    operation: &'static Operation,
    path: Option<RawPathParams>,
    request: Request,
) -> Response {
    let Some(arrival) = request.extensions().get::<Arrival>().cloned() else {
        return refusal(&Problem::unproven(), "-");
    };
    let Some(path) = path else {
        let problem = Problem::bad("A name in the path is no %-encoded UTF-8.");
        return api.turn_away(Some(&arrival), &problem).await;
    };
    let path = path.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    match api.read(operation, path, request, &arrival).await {
        Ok((call, ticket)) => Api::act(call, ticket, arrival).await,
        Err(Refused { subject, answer }) => {
            api.note(&arrival, operation.name, subject.as_deref(), &answer).await;
            match *answer {
                Ok(saved) => again(saved, &arrival.id),
                Err(problem) => refusal(&problem, &arrival.id),
            }
        }
    }
}

/// A call that ends before it does anything: with a refusal, or with the answer it had before.
struct Refused {
    subject: Option<String>,
    answer: Box<Result<Saved, Problem>>,
}

impl Api {
    /// Reads the whole of a call, and refuses what is not allowed or not plain.
    async fn read(
        self: &Arc<Self>,
        operation: &'static Operation,
        path: Vec<(String, String)>,
        request: Request,
        arrival: &Arrival,
    ) -> Result<(Call, Option<Ticket>), Refused> {
        let subject = path.first().map(|(_, value)| value.chars().take(256).collect());
        let refuse = |problem| Refused { subject: subject.clone(), answer: Box::new(Err(problem)) };
        let (parts, body) = request.into_parts();
        if arrival.caller.role < operation.least {
            let what = operation.name;
            return Err(refuse(forbidden(arrival.caller.role, operation.least, what)));
        }
        if operation.changes() && !self.log.is_writing() {
            let detail = "The audit trail cannot be written, so nothing is changed.";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
            return Err(refuse(problem.cured("the log says why; mend it first")));
        }
        request::names(&path).map_err(refuse)?;
        let query = request::query(operation, parts.uri.query()).map_err(refuse)?;
        let expected = request::expected(operation, &parts.headers).map_err(refuse)?;
        let body = self.body(operation, &parts.headers, body).await.map_err(refuse)?;
        let mut ticket = None;
        if operation.changes()
            && let Some(key) = request::idempotency_key(&parts.headers).map_err(refuse)?
        {
            let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
            let parts = [operation.name.as_bytes(), target.as_bytes(), &body];
            let begun = self.idempotency.begin(&arrival.caller.actor, key, parts, arrival.at);
            ticket = Some(match settled(begun) {
                Ok(ticket) => ticket,
                Err(answer) => return Err(Refused { subject, answer: Box::new(answer) }),
            });
        }
        let caller = arrival.caller.clone();
        let api = Arc::clone(self);
        Ok((Call { api, operation, caller, at: arrival.at, path, query, expected, body }, ticket))
    }

    async fn body(
        &self,
        operation: &Operation,
        fields: &HeaderMap,
        body: Body,
    ) -> Result<bytes::Bytes, Problem> {
        let large = || {
            let detail = format!("The body is larger than {BODY_CAP} bytes.");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        };
        let announced = fields.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        if announced.and_then(|length| length.parse().ok()).is_some_and(|n: usize| n > BODY_CAP) {
            return Err(large());
        }
        let slow = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "The body did not come in time.");
        let read = timeout(BODY_TIME, to_bytes(body, BODY_CAP)).await.map_err(slow)?;
        let bytes = read.map_err(|_| large())?;
        request::body(operation, fields, &bytes)?;
        Ok(bytes)
    }

    /// Does it, on a task of its own: a client that goes away stops nothing half way.
    async fn act(call: Call, ticket: Option<Ticket>, arrival: Arrival) -> Response {
        let (api, operation) = (Arc::clone(&call.api), call.operation);
        let subject = call.path.first().map(|(_, value)| value.clone());
        let id = Arc::clone(&arrival.id);
        let task = tokio::spawn(async move {
            let wait = confirm::patience(&call);
            let outcome = match wait {
                Ok(wait) => {
                    let done = (operation.act)(call).await;
                    match done {
                        Ok(reply) if operation.answer.binds => {
                            Ok(confirm::told(reply, &api.desk, wait).await)
                        }
                        Ok(reply) => {
                            confirm::here(reply.binds, &api.desk, wait).await;
                            Ok(reply)
                        }
                        Err(problem) => Err(problem),
                    }
                }
                Err(problem) => Err(problem),
            };
            let done = outcome.as_ref().ok().and_then(|reply| reply.subject.clone());
            let subject = done.or(subject);
            let answer =
                outcome.map(|reply| respond(reply, subject.as_deref(), ticket, &arrival.id));
            let (status, refused) = match &answer {
                Ok(response) => (response.status(), None),
                Err(problem) => (problem.status, Some(problem.detail.as_str())),
            };
            api.log_call(&arrival, operation.name, subject.as_deref(), status, refused).await;
            answer
        });
        let broken = |detail| Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail));
        let answer = match timeout(ACT_TIME, task).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::error!(%error, operation = operation.name, "an operation broke off");
                broken("The operation broke off; the log says more.")
            }
            Err(_) => {
                let late = "There was no answer in time. What was asked for may still be done.";
                let problem = Problem::new(StatusCode::GATEWAY_TIMEOUT, late);
                Err(problem.cured("look whether it was done before you try again"))
            }
        };
        answer.unwrap_or_else(|problem| refusal(&problem, &id))
    }

    /// Answers a call that leads nowhere.
    async fn turn_away(&self, arrival: Option<&Arrival>, problem: &Problem) -> Response {
        let Some(arrival) = arrival else {
            return refusal(&Problem::unproven(), "-");
        };
        self.log_call(arrival, "-", None, problem.status, Some(&problem.detail)).await;
        refusal(problem, &arrival.id)
    }

    async fn note(
        &self,
        arrival: &Arrival,
        operation: &'static str,
        subject: Option<&str>,
        answer: &Result<Saved, Problem>,
    ) {
        match answer {
            Ok(saved) => {
                self.log_call(arrival, operation, subject, saved.status, Some("again")).await;
            }
            Err(problem) => {
                let detail = Some(problem.detail.as_str());
                self.log_call(arrival, operation, subject, problem.status, detail).await;
            }
        }
    }

    async fn log_call(
        &self,
        arrival: &Arrival,
        operation: &'static str,
        subject: Option<&str>,
        status: StatusCode,
        detail: Option<&str>,
    ) {
        let call = Logged {
            at: arrival.at,
            request: &arrival.id,
            caller: &arrival.caller,
            operation,
            subject,
            status: status.as_u16(),
            detail,
            took: arrival.begun.elapsed(),
        };
        self.log.called(&call).await;
    }

    fn next_id(&self, at: Micros) -> Arc<str> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).next(at).as_str().into()
    }
}

/// What a request under an idempotency key comes to, where it is not the first.
fn settled(begun: Begun) -> Result<Ticket, Result<Saved, Problem>> {
    match begun {
        Begun::First(ticket) => Ok(ticket),
        Begun::Again(saved) => Err(Ok(saved)),
        Begun::Shown(subject) => Err(Err(Problem::conflict(format!(
            "This was done already, to {subject}, and the secret was shown then: it is not kept."
        ))
        .cured("if the answer was lost, rotate the secret, or make another one"))),
        Begun::UnderWay => {
            Err(Err(Problem::conflict("The first request with this key is under way.")
                .cured("wait for its answer, or ask again in a moment")))
        }
        Begun::Other => {
            Err(Err(Problem::unprocessable("This Idempotency-Key was used for another request.")
                .cured("send a new key with each new request")))
        }
    }
}
