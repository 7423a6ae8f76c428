//! Defeats one server that is given under two names: it would have two votes in a quorum.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Which process each name that is used leads to.
#[derive(Debug, Default)]
pub(super) struct Twins {
    /// The run id of its process, by the place of the server.
    runs: Mutex<HashMap<usize, String>>,
}

impl Twins {
    /// Notes that the server at `place` is the process `run_id`, unless another place has it: that place.
    ///
    /// Those that tell no run id are not told apart.
    pub(super) fn claim(&self, place: usize, run_id: &str) -> Result<(), usize> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.remove(&place);
        if let Some((other, _)) = runs.iter().find(|(_, known)| *known == run_id) {
            return Err(*other);
        }
        runs.insert(place, run_id.to_owned());
        Ok(())
    }

    /// The server at `place` is not used any longer: another may be the same process from now on.
    pub(super) fn release(&self, place: usize) {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_whoever_s_came_first_until_that_is_let_go_or_is_another() {
        let twins = Twins::default();
        assert_eq!(twins.claim(1, "a"), Ok(()));
        assert_eq!(twins.claim(1, "a"), Ok(()), "its own");
        assert_eq!(twins.claim(2, "a"), Err(1));
        assert_eq!(twins.claim(3, "b"), Ok(()));
        assert_eq!(twins.claim(3, "a"), Err(1), "it leads to another now");
        assert_eq!(twins.claim(2, "b"), Ok(()), "which nobody has any longer");
        twins.release(1);
        assert_eq!(twins.claim(3, "a"), Ok(()));
    }
}
