//! Open files: a client's connection must not take the one that its request needs to a backend.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::{Config, Upstream};

/// Raises the limit of open files of this process as far as the system permits. The usual one is low for the sake of
/// programs that could not count further.
pub fn raise_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // Where it stays as it was, fewer connections are let in, and that is told.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// How many connections are let in at a time: as many as are configured, or as the limit of open files leaves room for
/// beside what their requests need.
pub(super) fn most_connections(config: &Config, workers: usize) -> usize {
    let wanted = config.server.max_connections;
    let Some(limit) = getrlimit(Resource::Nofile).current else { return wanted };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let of_upstream =
        |upstream: &Upstream| upstream.backends.len().saturating_mul(upstream.max_connections);
    let to_backends = config.upstreams.iter().map(of_upstream).fold(0, usize::saturating_add);
    let room = Room { wanted, to_backends, own: OWN + OF_A_WORKER * workers };
    let most = room.within(limit);
    if most < wanted {
        tracing::warn!(
            limit,
            most,
            "fewer connections are let in than `server.max_connections` says: the limit of open files is too low; \
             raise it to {} (`ulimit -n`, or `LimitNOFILE` of systemd)",
            room.enough(),
        );
    }
    most
}

/// What open files are needed for.
#[derive(Clone, Copy, Debug)]
struct Room {
    wanted: usize,
    to_backends: usize,
    own: usize,
}

impl Room {
    /// How many connections are let in, where so many files may be open.
    fn within(self, limit: usize) -> usize {
        let left = limit.saturating_sub(self.own);
        // Each request under way needs one at either end.
        let to_backends = self.to_backends.min(left / 2);
        (left - to_backends).clamp(1, self.wanted.max(1))
    }

    /// The lowest limit that lets all in.
    fn enough(self) -> usize {
        self.own.saturating_add(self.to_backends).saturating_add(self.wanted)
    }
}

/// Whether it is this machine that has no more to give, and not the other end's fault.
pub(super) fn is_exhausted(error: &io::Error) -> bool {
    let lacking = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(error).is_some_and(|errno| lacking.contains(&errno))
}

/// What the process itself has open: listeners, logs, the state directory, the admin address and its connections,
/// servers that are shared.
const OWN: usize = 128;
/// Event queues of a worker.
const OF_A_WORKER: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_that_is_let_in_leaves_one_to_a_backend() {
        let room = Room { wanted: 1_000, to_backends: 200, own: 100 };
        for (limit, most) in
            [(usize::MAX, 1_000), (1_300, 1_000), (1_299, 999), (501, 201), (500, 200), (300, 100)]
        {
            assert_eq!(room.within(limit), most, "{limit}");
            let to_backends = limit - room.own - most;
            assert!(to_backends >= 200.min(most), "{limit}");
        }
        assert_eq!(room.enough(), 1_300);
        for limit in [0, 1, 100, 101] {
            assert_eq!(room.within(limit), 1, "one is always let in");
        }
    }

    #[test]
    fn what_this_machine_lacks_is_told_from_what_a_backend_refuses() {
        for (errno, is_ours) in
            [(Errno::MFILE, true), (Errno::ADDRNOTAVAIL, true), (Errno::CONNREFUSED, false)]
        {
            assert_eq!(is_exhausted(&errno.into()), is_ours);
        }
        assert!(!is_exhausted(&io::ErrorKind::TimedOut.into()));
    }
}
