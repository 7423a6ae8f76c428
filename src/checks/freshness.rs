//! Defeats late delivery: a request is good for one window after its own timestamp, or until its own deadline.

use std::time::Duration;

use crate::clock::Micros;
use crate::denial::Denial;
use crate::store::{Charge, SignedTime};

/// Holds when `stamp` lies less than `future` ahead of `now` and at most `window` behind.
///
/// The two sides differ as Binance has them: `timestamp < now + 1000 && now - timestamp <= recvWindow`.
pub(crate) fn stamp(
    stamp: Micros,
    now: Micros,
    window: Duration,
    future: Duration,
) -> Result<(), Denial> {
    if stamp >= now + future {
        return Err(Denial::Ahead(stamp.since(now)));
    }
    let age = now.since(stamp);
    if age > window { Err(Denial::Stale(age.saturating_sub(window))) } else { Ok(()) }
}

/// Holds when `deadline` is not past and lies at most `lead` ahead.
pub(crate) fn deadline(deadline: Micros, now: Micros, lead: Duration) -> Result<(), Denial> {
    if deadline < now {
        return Err(Denial::Stale(now.since(deadline)));
    }
    let ahead = deadline.since(now);
    if ahead > lead { Err(Denial::Ahead(ahead)) } else { Ok(()) }
}

/// Holds when what is good from `moment` on is so at `now`, by a clock that may be `future` behind the client's.
pub(crate) fn begun(moment: Micros, now: Micros, future: Duration) -> Result<(), Denial> {
    if moment >= now + future { Err(Denial::Ahead(moment.since(now))) } else { Ok(()) }
}

/// Holds while the clock can be relied on, for what could not have been accepted before it could: what lies up to
/// `since` and however far ahead is accepted waits to be signed again. What has no time has its own order.
pub(crate) fn after_doubt(
    since: Option<Micros>,
    charge: &Charge,
    future: Duration,
) -> Result<(), Denial> {
    let since = since.ok_or(Denial::Unavailable)?;
    if since == Micros(0) {
        return Ok(());
    }
    let (at, floor) = match charge.time {
        SignedTime::Stamp(at) => (at, since + future),
        SignedTime::Deadline { at, lead } => (at, since + lead),
        SignedTime::Growing { key: _, nonce: _, window: _ }
        | SignedTime::Unique { key: _, nonce: _ } => return Ok(()),
    };
    if at > floor {
        return Ok(());
    }
    // Who signs a stamp signs the present; who signs a deadline signs one that is later by as long as it waits.
    let from = if matches!(charge.time, SignedTime::Stamp(_)) { charge.now } else { at };
    Err(Denial::Fenced((floor + Duration::from_micros(1)).since(from)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Identity, Repeat};

    const NOW: Micros = Micros(1_700_000_000_000_000);
    const WINDOW: Duration = Duration::from_secs(5);
    const FUTURE: Duration = Duration::from_secs(1);

    #[test]
    fn what_was_signed_before_the_clock_was_sure_again_waits_to_be_signed_again() {
        let micro = Duration::from_micros(1);
        let of = |time| Charge {
            now: NOW + micro * 7,
            identity: Identity([0; 16]),
            nonce: None,
            account: 0,
            key: [0; 16],
            epoch: 0,
            step: None,
            time,
            keep_until: NOW,
            route: 0,
            repeat: Repeat::Never,
            costs: [].into_iter().collect(),
        };
        let check = |since, time| after_doubt(since, &of(time), FUTURE);
        let stamp = SignedTime::Stamp;
        let deadline = |at| SignedTime::Deadline { at, lead: WINDOW };
        let growing = SignedTime::Growing { key: [0; 16], nonce: 1, window: 0 };
        let unique = SignedTime::Unique { key: [0; 16], nonce: [0; 16] };
        for time in [stamp(NOW), deadline(NOW), growing, unique] {
            assert_eq!(check(None, time), Err(Denial::Unavailable), "it is not sure");
            assert_eq!(check(Some(Micros(0)), time), Ok(()), "it always was");
        }
        let since = Some(NOW);
        let wait = Duration::from_micros(999_994);
        assert_eq!(check(since, stamp(NOW + FUTURE)), Err(Denial::Fenced(wait)));
        assert_eq!(check(since, stamp(NOW + FUTURE + micro)), Ok(()));
        assert_eq!(check(since, deadline(NOW + WINDOW)), Err(Denial::Fenced(micro)));
        assert_eq!(check(since, deadline(NOW + WINDOW + micro)), Ok(()));
        assert_eq!((check(since, growing), check(since, unique)), (Ok(()), Ok(())));
    }

    #[test]
    fn a_stamp_is_good_for_its_window_and_less_than_a_second_ahead() {
        for (micros_from_now, fresh) in [
            (-5_000_001_i64, false),
            (-5_000_000, true),
            (0, true),
            (999_999, true),
            (1_000_000, false),
            (1_001_000, false),
        ] {
            let at = Micros(NOW.0.saturating_add_signed(micros_from_now));
            assert_eq!(stamp(at, NOW, WINDOW, FUTURE).is_ok(), fresh, "{micros_from_now}");
        }
    }

    #[test]
    fn stamps_at_the_ends_of_time_neither_wrap_nor_pass() {
        assert!(matches!(stamp(Micros(0), NOW, WINDOW, FUTURE), Err(Denial::Stale(_))));
        assert!(matches!(stamp(Micros(u64::MAX), NOW, WINDOW, FUTURE), Err(Denial::Ahead(_))));
        assert!(matches!(
            stamp(Micros(u64::MAX), NOW, Duration::MAX, FUTURE),
            Err(Denial::Ahead(_))
        ));
        assert!(stamp(Micros(0), Micros(0), WINDOW, FUTURE).is_ok());
    }

    #[test]
    fn what_is_not_good_yet_is_refused_but_for_a_clock_that_is_a_little_ahead() {
        for (micros_from_now, good) in
            [(i64::MIN, true), (0, true), (999_999, true), (1_000_000, false), (i64::MAX, false)]
        {
            let at = Micros(NOW.0.saturating_add_signed(micros_from_now));
            assert_eq!(begun(at, NOW, FUTURE).is_ok(), good, "{micros_from_now}");
        }
    }

    #[test]
    fn a_deadline_is_good_until_it_passes_and_no_further_ahead_than_the_lead() {
        let lead = Duration::from_mins(1);
        for (seconds_from_now, fresh) in [(-1_i64, false), (0, true), (60, true), (61, false)] {
            let at = Micros(NOW.0.saturating_add_signed(seconds_from_now * 1_000_000));
            assert_eq!(deadline(at, NOW, lead).is_ok(), fresh, "{seconds_from_now}");
        }
        assert!(deadline(Micros(u64::MAX), NOW, lead).is_err());
    }
}
