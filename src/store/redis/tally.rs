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
    pub(super) new: Vec<New>,
    seen: usize,
    low: usize,
    /// Who does not know which numbers of the key were accepted, each with what it told.
    pub(super) unmarked: Vec<(usize, Token)>,
    fenced: Option<Micros>,
    outdated: bool,
    /// How many of those that count limits say that they hold, and how full they are where they are fullest.
    hold: usize,
    levels: Option<Levels>,
    /// Which of them say that a number is too low.
    pub(super) low_counters: Vec<usize>,
    /// The refusal of one that counts limits, or anyone's that a second factor's step is spent.
    refusal: Option<Verdict>,
}

/// A server that says that a request is new.
#[derive(Debug)]
pub(super) struct New {
    pub(super) place: usize,
    /// Whether it counts the account's limits, and so has charged them.
    pub(super) counts: bool,
    /// Its answer, which tells what it charged.
    pub(super) answer: Vec<u8>,
}

impl Tally {
    /// The vote of the server at `place`, with the bytes of its answer, if it is believed; whether that counts limits.
    pub(super) fn count(
        &mut self,
        place: usize,
        counts: bool,
        vote: Option<(Vote, Vec<u8>)>,
        now: Micros,
    ) {
        let Some((vote, answer)) = vote else { return };
        match vote.said {
            // For a mark nobody asked.
            Said::Marked(_) => {}
            Said::New(levels) => {
                self.new.push(New { place, counts, answer });
                if counts {
                    self.hold += 1;
                    self.fill(place, levels);
                }
            }
            Said::Seen => self.seen += 1,
            Said::Low => {
                self.low += 1;
                self.low_counters.extend(counts.then_some(place));
            }
            Said::Unmarked(told) => self.unmarked.push((place, told)),
            Said::Over(over) => self.refuse(over),
            // Whose limits it does not count may have room elsewhere.
            Said::Full if !counts => {}
            Said::Full => self.refuse(Verdict::Full),
            Said::StepSpent => self.refuse(Verdict::StepSpent),
            Said::Fenced(born) => self.fenced = self.fenced.max(Some(born)),
            // It will be born as soon as somebody tells it.
            Said::Unborn => self.fenced = self.fenced.max(Some(now)),
            Said::Outdated => self.outdated = true,
        }
    }

    /// Each limit is as full as the fullest has it; and when that was, the first of them says.
    fn fill(&mut self, place: usize, mut levels: Levels) {
        let counted = (place, levels.at);
        if let Some(before) = self.levels.take() {
            levels
                .iter_mut()
                .zip(before.iter())
                .for_each(|(level, other)| *level = (*level).max(*other));
            levels.counted = before.counted;
        }
        levels.counted.push(counted);
        levels.at = levels.counted.iter().min().map_or(levels.at, |(_, at)| *at);
        self.levels = Some(levels);
    }

    /// Of two limits that do not hold the one that does so for longer; else what was said first.
    fn refuse(&mut self, refusal: Verdict) {
        let is_longer = match (&self.refusal, &refusal) {
            (
                Some(Verdict::Over { cost: _, retry_after: before, level: _, beside: _ }),
                Verdict::Over { cost: _, retry_after, level: _, beside: _ },
            ) => retry_after > before,
            (before, _) => before.is_none(),
        };
        if is_longer {
            self.refusal = Some(refusal);
        }
    }

    /// Whether no answer that is still to come, of `counters` that count limits, changes anything.
    pub(super) fn is_decided(&self, majority: usize, counters: usize) -> bool {
        self.outdated || (self.hold == counters && self.new.len() >= majority)
    }

    /// New where most say so, and none of those that count limits refuses. Any two majorities have a server in common, so
    /// one at least of those that say so has counted it.
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
pub(super) const MARKED: Duration = Duration::from_millis(50);

/// How long until what is signed then is judged by a server born at `born`.
fn wait(born: Micros, charge: &Charge, margins: Margins) -> Duration {
    let mut judged = born + margins.of_stamps();
    if charge.step.is_some() {
        judged = judged.max(start_of(step_at(born + margins.after_birth()).saturating_add(2)));
    }
    judged.since(charge.now).max(Duration::from_millis(1))
}
