//! Label values: from the configuration, or an enum.

/// The label of a request or rejection without a route or dialect.
pub const NONE: &str = "none";

/// All label values that the configuration brings.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'c> {
    /// The routes; a route's id is its place here.
    pub routes: &'c [RouteLabels<'c>],
    /// The upstreams; an upstream's id is its place here.
    pub upstreams: &'c [UpstreamLabels<'c>],
    /// The names of all dialects loaded, whether a route uses them or not.
    pub dialects: &'c [&'c str],
    /// The names of the stores; a store's id is its place here.
    pub stores: &'c [&'c str],
    /// The names of the listeners; a listener's id is its place here.
    pub listeners: &'c [&'c str],
}

/// The label values of one route.
#[derive(Clone, Copy, Debug)]
pub struct RouteLabels<'c> {
    /// Its name.
    pub name: &'c str,
    /// The dialect it asks for; `None` on a public route.
    pub dialect: Option<&'c str>,
}

/// The label values of one upstream.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamLabels<'c> {
    /// Its name.
    pub name: &'c str,
    /// How many backends it has; all count as up at first.
    pub backends: usize,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The backend's answer went to the client, or the gateway's own on routes it answers itself.
    Accepted,
    /// A check turned it away.
    Rejected,
    /// It passed every check, and the backend gave no answer.
    BackendError,
    /// The client left before its answer was complete.
    ClientGone,
    /// Its key ended while it was under way.
    Cut,
}

impl Outcome {
    /// Every outcome, in the order of its index, with its label.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Accepted, "accepted"),
        (Self::Rejected, "rejected"),
        (Self::BackendError, "backend_error"),
        (Self::ClientGone, "client_gone"),
        (Self::Cut, "cut"),
    ];
}

/// How one attempt at a backend ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UpstreamOutcome {
    /// It answered, whatever the status.
    Ok,
    /// Certainly nothing was sent.
    Unsent,
    /// Something may have been sent, and no answer came.
    Unknown,
    /// No answer came in time.
    Timeout,
}

impl UpstreamOutcome {
    /// Every outcome, in the order of its index, with its label.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Ok, "ok"),
        (Self::Unsent, "unsent"),
        (Self::Unknown, "unknown"),
        (Self::Timeout, "timeout"),
    ];
}

/// How many keys there are in each state.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct KeyCounts {
    /// In use.
    pub active: usize,
    /// Set aside.
    pub suspended: usize,
    /// Ended for good.
    pub revoked: usize,
}
