//! Why the limits refuse a charge.

use std::time::Duration;

use crate::store::Verdict;

/// Why a charge does not fit.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Refusal {
    /// Over the limit of the cost at this index; how full the others are.
    Over { cost: usize, retry_after: Duration, level: u32, beside: Box<[(usize, u32)]> },
    /// No room for another subject.
    Full,
}

impl From<Refusal> for Verdict {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Over { cost, retry_after, level, beside } => {
                Self::Over { cost, retry_after, level, beside }
            }
            Refusal::Full => Self::Full,
        }
    }
}
