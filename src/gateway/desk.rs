//! The memory that the connections of one worker take turns with.

use std::cell::RefCell;
use std::rc::Rc;

use super::date::Dates;
use super::io::ROOM;
use super::plain::Plain;
use super::request::Texts;
use super::rooms::Rooms;

/// What the connections of one worker share.
#[derive(Debug)]
pub(super) struct Desk {
    /// Where answers are written before they go out.
    pub(super) texts: Texts,
    /// Clear, and memory to use again. Boxed, so that what is handed on from step to step is small.
    #[expect(clippy::vec_box, reason = "taken out and handed on as they are")]
    plains: RefCell<Vec<Box<Plain>>>,
    /// Where requests are read to.
    pub(super) rooms: Rc<Rooms>,
    pub(super) dates: Dates,
}

impl Default for Desk {
    fn default() -> Self {
        let (texts, plains, dates) = Default::default();
        Self { texts, plains, rooms: Rooms::new(ROOM), dates }
    }
}

impl Desk {
    /// Memory for a request.
    pub(super) fn take(&self) -> Box<Plain> {
        self.plains.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes back the memory of a request.
    pub(super) fn put(&self, mut request: Box<Plain>) {
        request.clear();
        self.plains.borrow_mut().push(request);
    }
}
