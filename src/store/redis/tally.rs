//! What the servers say of one request, and what follows from it.

use std::time::Duration;

use super::packed::{Margins, Said, Token, Vote};
use crate::clock::Micros;
use crate::key::factor::{start_of, step_at};
use crate::store::{Charge, Levels, Verdict};

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Who says that it is new.
    pub(super) new: Vec<usize>,
    seen: usize,
    low: usize,
    /// Who does not know which numbers of the key were accepted, each with what it told.
    pub(super) unmarked: Vec<(usize, Token)>,
    fenced: Option<Micros>,
    outdated: bool,
    /// What the owner says of limits, once it has.
    levels: Option<Levels>,
    /// The owner's refusal, or anyone's that a second factor's step is spent.
    refusal: Option<Verdict>,
}

impl Tally {
    pub(super) fn count(&mut self, place: usize, owns: bool, vote: Option<Vote>, now: Micros) {
        match vote.map(|vote| vote.said) {
            // For a mark nobody asked.
            None | Some(Said::Marked(_)) => {}
            Some(Said::New(levels)) => {
                self.new.push(place);
                if owns {
                    self.levels = Some(levels);
                }
            }
            Some(Said::Seen) => self.seen += 1,
            Some(Said::Low) => self.low += 1,
            Some(Said::Unmarked(told)) => self.unmarked.push((place, told)),
            Some(Said::Over(verdict)) => self.refusal = Some(verdict),
            // Whose limits it does not keep may have room elsewhere.
            Some(Said::Full) if !owns => {}
            Some(Said::Full) => self.refusal = Some(Verdict::Full),
            Some(Said::StepSpent) => self.refusal = Some(Verdict::StepSpent),
            Some(Said::Fenced(born)) => self.fenced = self.fenced.max(Some(born)),
            // It will be born as soon as somebody tells it.
            Some(Said::Unborn) => self.fenced = self.fenced.max(Some(now)),
            Some(Said::Outdated) => self.outdated = true,
        }
    }

    pub(super) fn is_decided(&self, majority: usize) -> bool {
        self.outdated || (self.levels.is_some() && self.new.len() >= majority)
    }

    /// Whether most say that it is new, and the owner has not.
    pub(super) fn lacks_owner(&self, majority: usize) -> bool {
        self.levels.is_none() && self.refusal.is_none() && self.new.len() >= majority
    }

    /// New where most say so, the owner of the limits among them.
    pub(super) fn verdict(&self, majority: usize, charge: &Charge, margins: Margins) -> Verdict {
        if self.outdated {
            return Verdict::Outdated;
        }
        if let Some(refusal) = &self.refusal {
            return refusal.clone();
        }
        match &self.levels {
            Some(levels) if self.new.len() >= majority => Verdict::New(levels.clone()),
            Some(_) | None if self.seen > 0 => Verdict::Seen,
            Some(_) | None if self.low > 0 => Verdict::Low,
            Some(_) | None => match self.fenced {
                Some(born) => Verdict::Fenced { retry_after: wait(born, charge, margins) },
                None if !self.unmarked.is_empty() => Verdict::Fenced { retry_after: MARKED },
                None => Verdict::Unavailable,
            },
        }
    }
}

/// In about so long a mark that was lost is known again.
const MARKED: Duration = Duration::from_millis(50);

/// How long until what is signed then is judged by a server born at `born`.
fn wait(born: Micros, charge: &Charge, margins: Margins) -> Duration {
    let mut judged = born + margins.of_stamps();
    if charge.step.is_some() {
        judged = judged.max(start_of(step_at(born + margins.after_birth()).saturating_add(2)));
    }
    judged.since(charge.now).max(Duration::from_millis(1))
}
