//! Requests over one server or a quorum: each is asked, and most of them decide.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use redis::{Cmd, cmd};
use tokio::time::Instant;

use super::RedisStore;
use super::counters::Counters;
use super::keys::{Keys, signed_at};
use super::packed::{self, Margins, Said, Spend, Token, Vote};
use super::probe::apart;
use super::server::{Fault, Server};
use super::tally::Tally;
use super::trouble::Trouble;
use crate::clock::{Clock, Micros};
use crate::key::factor::start_of;
use crate::store::{Charge, Cost, SignedTime, Verdict};

impl<C: Clock> RedisStore<C> {
    /// What the servers say of a request, and of the limits of its account.
    pub(super) async fn judge(&self, charge: &Charge, costs: &[Cost], token: Token) -> Verdict {
        let reserved = self.reserve(charge).await;
        if let Err(refused) = reserved {
            return refused;
        }
        if let Some(cluster) = &self.cluster {
            return self.judge_in(cluster, charge, costs, token).await;
        }
        let Some(fence) = self.fence(charge, self.margins) else { return Verdict::Unavailable };
        let spend = Spend::new(charge, token, fence);
        let Some(counters) = self.counters_of(charge, fence) else { return Verdict::Unavailable };
        let tally = self.poll(charge, costs, &counters, &spend).await;
        let verdict = tally.verdict(self.majority, charge, self.margins);
        self.take_back(&verdict, charge, costs, &spend, &tally.new).await;
        if !tally.unmarked.is_empty() {
            let server = |(place, told): &(usize, Token)| {
                self.servers.get(*place).map(|server| (*place, Arc::clone(server), *told))
            };
            self.mark_later(charge, tally.unmarked.iter().filter_map(server).collect());
        } else if matches!(verdict, Verdict::New(_)) {
            self.ask_later(charge, &tally.low_counters);
        }
        verdict
    }

    /// The moment that a server must have been born before.
    pub(super) fn fence(&self, charge: &Charge, margins: Margins) -> Option<Micros> {
        // A server that lost its marks asks for them: it may be as young as it likes.
        let fence = match charge.time {
            SignedTime::Growing { key: _, nonce: _, window: _ } => Micros(u64::MAX),
            SignedTime::Stamp(_) | SignedTime::Deadline { .. } | SignedTime::Unique { .. } => {
                packed::fence(charge.time, margins)?
            }
        };
        // A code is accepted one step before its own: one that may have been spent before the birth counts as spent.
        let code = charge.step.map(|step| start_of(step.saturating_sub(1)));
        let fence = code.map_or(fence, |taken| fence.min(taken - margins.after_birth()));
        // A key of the configuration never changes; its epoch is 0.
        if charge.epoch == 0 {
            return Some(fence);
        }
        let informed = Micros(self.informed.load(Ordering::Relaxed));
        Some(fence.min(informed - margins.after_birth()))
    }

    pub(super) fn token(&self) -> Token {
        let mut token = [0; 6];
        let call = self.calls.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        let bytes = self.gateway.to_le_bytes().into_iter().chain(call);
        token.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
        Token(token)
    }

    /// Asks every server, and returns as soon as it is decided.
    pub(super) async fn poll(
        &self,
        charge: &Charge,
        costs: &[Cost],
        counters: &Counters,
        spend: &Spend,
    ) -> Tally {
        let keys = Keys::of(charge.account, signed_at(charge));
        let sent = self.clock.now();
        let deadline = Instant::now() + self.deadline;
        let with_costs = command(&keys, charge, spend, costs);
        let without =
            (self.servers.len() > counters.len()).then(|| command(&keys, charge, spend, &[]));
        let mut calls: Vec<(usize, Asked<'_>)> = Vec::new();
        for (place, server) in self.servers.iter().enumerate() {
            let counts = counters.contains(&place);
            let command = without.as_ref().filter(|_| !counts).unwrap_or(&with_costs);
            calls.push((place, Box::pin(server.call(command, deadline))));
        }
        let mut tally = Tally::default();
        poll_fn(|context| {
            calls.retain_mut(|(place, call)| {
                let Poll::Ready(answer) = call.as_mut().poll(context) else { return true };
                let counts = counters.contains(place);
                let asked = if counts { costs } else { &[] };
                let believe = |bytes: Vec<u8>| {
                    let vote = self.believe(self.servers.get(*place)?, &bytes, asked, sent)?;
                    Some((vote, bytes))
                };
                tally.count(*place, counts, answer.ok().and_then(believe), charge.now);
                false
            });
            if calls.is_empty() || tally.is_decided(self.majority, counters.len()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        tally
    }

    /// A vote, if it can be read and its server's clock agrees with ours.
    pub(super) fn believe(
        &self,
        server: &Server,
        bytes: &[u8],
        costs: &[Cost],
        sent: Micros,
    ) -> Option<Vote> {
        let Ok(vote) = packed::read(bytes, costs) else {
            server.lapse(&Trouble::Refuses("an answer that cannot be read".into()));
            return None;
        };
        let apart = apart(vote.at, sent, self.clock.now());
        if apart > self.margins.bound && !server.weakened.any_clock {
            server.note(&Trouble::Clock(apart));
            server.judge(Some(&Trouble::Clock(apart)));
            return None;
        }
        server.thrive();
        match vote.said {
            Said::Fenced(born) => server.set_born(born),
            Said::Unborn => server.alarm.notify_one(),
            Said::New(_)
            | Said::Seen
            | Said::Over(_)
            | Said::Full
            | Said::Outdated
            | Said::StepSpent
            | Said::Low
            | Said::Unmarked(_)
            | Said::Marked(_) => {}
        }
        Some(vote)
    }
}

/// A server that was asked.
type Asked<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, Fault>> + 'a>>;

/// The call that asks about a request, which `spend` was made of.
pub(super) fn command(keys: &Keys, charge: &Charge, spend: &Spend, costs: &[Cost]) -> Cmd {
    let mut command = cmd("FCALL");
    if spend.growing.is_some() {
        command.arg("countersign_2_grow").arg(2).arg(&keys.generation).arg(&keys.account);
    } else {
        let nonce = charge.nonce.map(|nonce| keys.nonce(nonce));
        command.arg("countersign_2_spend").arg(3 + usize::from(nonce.is_some()));
        command.arg(&keys.generation).arg(&keys.records).arg(&keys.account).arg(nonce);
    }
    command.arg(spend.packed(costs));
    command
}
