//! Memory that is read into, lent for as long as something is held in it: a connection that waits has none.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

/// Memory of one worker. What was given back last is lent first: it is still in the caches.
#[derive(Debug)]
pub(super) struct Rooms {
    size: usize,
    free: RefCell<Vec<BytesMut>>,
}

impl Rooms {
    /// Rooms of so many bytes, none of them made yet.
    pub(super) fn new(size: usize) -> Rc<Self> {
        Rc::new(Self { size, free: RefCell::default() })
    }

    /// A room, from its start unless somebody still reads what was in it.
    fn lend(&self) -> BytesMut {
        let mut room = self.free.borrow_mut().pop().unwrap_or_default();
        room.reserve(self.size);
        room
    }

    fn take_back(&self, room: BytesMut) {
        let mut free = self.free.borrow_mut();
        if free.len() < MOST_FREE {
            free.push(room);
        }
    }
}

/// What was read of a connection and not yet taken.
pub(super) struct Held {
    text: BytesMut,
    /// Whether it is in a room: else in memory of its own, since it was more, or read by others.
    is_lent: bool,
    rooms: Rc<Rooms>,
}

impl Held {
    /// Nothing; more of it is read into `rooms`.
    pub(super) fn new(rooms: &Rc<Rooms>) -> Self {
        Self { text: BytesMut::new(), is_lent: false, rooms: Rc::clone(rooms) }
    }

    /// Where more is read to.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        let size = self.rooms.size;
        if self.text.is_empty() {
            self.release();
            self.text = self.rooms.lend();
            self.is_lent = true;
        } else if self.text.capacity() - self.text.len() < size / 4 {
            self.text.reserve(size);
            self.is_lent = false;
        }
        &mut self.text
    }

    /// Gives the memory back if nothing is held.
    pub(super) fn release(&mut self) {
        if !self.text.is_empty() || !self.is_lent && self.text.capacity() == 0 {
            return;
        }
        let room = std::mem::take(&mut self.text);
        if std::mem::take(&mut self.is_lent) {
            self.rooms.take_back(room);
        }
    }

    /// Takes all that is held.
    pub(super) fn take(&mut self) -> Bytes {
        let text = self.text.split().freeze();
        self.release();
        text
    }

    /// Holds `text` once more, in front of what has come since.
    pub(super) fn put_back(&mut self, text: Bytes) {
        let later = self.take();
        // Mostly nothing has, and then it is nobody else's.
        (self.text, self.is_lent) = (BytesMut::from(text), false);
        self.text.extend_from_slice(&later);
    }

    /// What is held, in memory that is not lent.
    pub(super) fn into_text(mut self) -> BytesMut {
        self.is_lent = false;
        std::mem::take(&mut self.text)
    }
}

impl Deref for Held {
    type Target = BytesMut;

    fn deref(&self) -> &BytesMut {
        &self.text
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut BytesMut {
        &mut self.text
    }
}

/// How much alone: it may hold credentials.
impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held({})", self.text.len())
    }
}

/// The most rooms that lie idle.
const MOST_FREE: usize = 256;

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    fn read(held: &mut Held, text: &str) {
        held.room().put_slice(text.as_bytes());
    }

    fn free(rooms: &Rooms) -> usize {
        rooms.free.borrow().len()
    }

    #[test]
    fn what_waits_holds_no_memory_and_the_next_reads_into_the_same() {
        let rooms = Rooms::new(64);
        let mut all: Vec<_> = (0..100).map(|_| Held::new(&rooms)).collect();
        let mut places = std::collections::BTreeSet::new();
        for held in &mut all {
            read(held, "GET / HTTP/1.1");
            let text = held.take();
            places.insert(text.as_ptr());
            assert_eq!((&*text, held.capacity()), (&b"GET / HTTP/1.1"[..], 0));
        }
        assert_eq!((places.len(), free(&rooms)), (1, 1));
        let _ = all[0].room();
        assert_eq!(free(&rooms), 0);
        all[0].release();
        assert_eq!((free(&rooms), all[0].capacity()), (1, 0));
    }

    #[test]
    fn a_room_that_was_filled_to_its_end_is_given_back() {
        let rooms = Rooms::new(16);
        let mut held = Held::new(&rooms);
        for _ in 0..3 {
            read(&mut held, "0123456789abcdef");
            assert_eq!((held.take(), free(&rooms)), (Bytes::from("0123456789abcdef"), 1));
        }
    }

    #[test]
    fn what_somebody_still_reads_is_never_written_over() {
        let rooms = Rooms::new(64);
        let (mut one, mut other) = (Held::new(&rooms), Held::new(&rooms));
        let mut kept = Vec::new();
        for count in 0..50 {
            let text = format!("request {count}");
            let held = if count % 3 == 0 { &mut other } else { &mut one };
            read(held, &text);
            let taken = held.take();
            kept.push((text, taken));
            if count % 7 == 0 {
                kept.drain(..kept.len() / 2);
            }
            assert!(kept.iter().all(|(text, taken)| *taken == *text.as_bytes()));
        }
    }

    #[test]
    fn what_is_put_back_comes_before_what_came_later() {
        let rooms = Rooms::new(16);
        let mut held = Held::new(&rooms);
        read(&mut held, "abcdef");
        let mut taken = held.take();
        read(&mut held, "xyz");
        held.put_back(taken.split_off(2));
        assert_eq!(&**held, b"cdefxyz");
        assert_eq!(held.into_text(), "cdefxyz");
    }

    #[test]
    fn more_than_a_room_is_held_whole_and_its_memory_not_kept() {
        let rooms = Rooms::new(16);
        let mut held = Held::new(&rooms);
        let long = "0123456789".repeat(100);
        for piece in long.as_bytes().chunks(7) {
            held.room().put_slice(piece);
        }
        assert_eq!(held.take(), long);
        assert_eq!((free(&rooms), held.capacity()), (0, 0));
    }
}
