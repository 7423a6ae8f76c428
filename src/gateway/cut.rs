//! Defeats a revoked key whose request is still under way: wakes whoever may have such a request, so that they look.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use tokio::sync::watch;

/// Tells every worker of a gateway that keys have ended which requests under way have. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Cutter(Arc<watch::Sender<()>>);

impl Cutter {
    pub(super) fn new() -> (Self, watch::Receiver<()>) {
        let (sender, told) = watch::channel(());
        (Self(Arc::new(sender)), told)
    }

    /// Has every request under way look whether its key has ended. It does not block.
    pub fn cut(&self) {
        self.0.send_replace(());
    }
}

/// Wakes the sleepers each time a cutter says so.
pub(super) async fn keep_waking(sleepers: Rc<Sleepers>, mut told: watch::Receiver<()>) {
    while told.changed().await.is_ok() {
        sleepers.wake();
    }
}

/// The tasks of one worker that serve requests, each enlisted once for as long as it does: a connection of HTTP/1, a
/// stream of HTTP/2.
#[derive(Debug, Default)]
pub(super) struct Sleepers(RefCell<Places>);

#[derive(Debug, Default)]
struct Places {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

/// A task's place among the sleepers, given back when dropped.
pub(super) struct Enlisted {
    sleepers: Rc<Sleepers>,
    place: usize,
}

impl Sleepers {
    pub(super) fn enlist(self: &Rc<Self>, waker: &Waker) -> Enlisted {
        let Places { wakers, free } = &mut *self.0.borrow_mut();
        let place = free.pop().unwrap_or(wakers.len());
        match wakers.get_mut(place) {
            Some(known) => *known = Some(waker.clone()),
            None => wakers.push(Some(waker.clone())),
        }
        Enlisted { sleepers: Rc::clone(self), place }
    }

    fn wake(&self) {
        self.0.borrow().wakers.iter().flatten().for_each(Waker::wake_by_ref);
    }
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        let Places { wakers, free } = &mut *self.sleepers.0.borrow_mut();
        if let Some(waker) = wakers.get_mut(self.place) {
            *waker = None;
            free.push(self.place);
        }
    }
}

impl fmt::Debug for Enlisted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Enlisted({})", self.place)
    }
}

/// The connection must end, and the client is told nothing: its key has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the key of the request has ended")
    }
}

impl std::error::Error for Cut {}
