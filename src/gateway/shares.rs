//! How many of something each holder has open.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;

/// What each holder has open, over all threads.
#[derive(Debug)]
pub(super) struct Shares<H>(Mutex<HashMap<H, usize, RandomState>>);

/// One that a holder has open, given back when dropped.
pub(super) struct Share<H: Copy + Eq + Hash> {
    shares: Arc<Shares<H>>,
    holder: H,
}

impl<H> Default for Shares<H> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<H: Copy + Eq + Hash> Shares<H> {
    /// One more for `holder`; or how many it has open, where they are `most` or more.
    pub(super) fn take(this: &Arc<Self>, holder: H, most: usize) -> Result<Share<H>, usize> {
        let mut shares = this.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = shares.get(&holder).copied().unwrap_or(0);
        if own >= most {
            return Err(own);
        }
        shares.insert(holder, own + 1);
        Ok(Share { shares: Arc::clone(this), holder })
    }
}

impl<H: Copy + Eq + Hash> Drop for Share<H> {
    fn drop(&mut self) {
        let mut shares = self.shares.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = shares.get_mut(&self.holder) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                shares.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_holder_has_a_bound_of_its_own_and_nothing_is_kept_of_who_has_none() {
        let shares = Arc::new(Shares::default());
        let held = [Shares::take(&shares, 'a', 2).ok(), Shares::take(&shares, 'a', 2).ok()];
        assert!(held.iter().all(Option::is_some));
        assert_eq!(Shares::take(&shares, 'a', 2).err(), Some(2));
        let other = Shares::take(&shares, 'b', 2);
        assert!(other.is_ok());
        drop(held);
        assert!(Shares::take(&shares, 'a', 1).is_ok());
        drop(other);
        assert!(shares.0.lock().unwrap().is_empty());
    }
}
