//! What servers recorded and charged of a request that did not pass after all, and what is given back of one that did.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use redis::{Cmd, cmd};
use tokio::time::Instant;

use super::RedisStore;
use super::keys::{self, Keys, signed_at};
use super::numbers;
use super::packed::{self, Payer, Spend};
use super::tally::New;
use crate::clock::{Clock, Micros};
use crate::store::{Charge, Cost, Receipt, SignedTime, Verdict};

impl<C: Clock> RedisStore<C> {
    /// Takes back what the servers that said that it is new did with a request that does not pass: what may come again
    /// is forgotten there, and a copy stays recorded and costs nothing.
    pub(super) async fn take_back(
        &self,
        verdict: &Verdict,
        charge: &Charge,
        costs: &[Cost],
        spend: &Spend,
        new: &[New],
    ) {
        let keeps_record = match verdict {
            Verdict::Over { cost: _, retry_after: _, level: _, beside: _ }
            | Verdict::StepSpent
            | Verdict::Full => false,
            Verdict::Seen | Verdict::Low => true,
            // What passes, and what is told that it may have been charged.
            Verdict::New(_)
            | Verdict::Fenced { retry_after: _ }
            | Verdict::Outdated
            | Verdict::Unavailable => return,
        };
        let deadline = Instant::now() + self.deadline;
        let mut calls: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
        for New { place, counts, answer } in new.iter().filter(|new| new.counts || !keeps_record) {
            let Some(server) = self.servers.get(*place) else { continue };
            let charged = if *counts { (&**answer, costs) } else { (&[][..], &[][..]) };
            let command = forget(charge, spend, keeps_record, charged);
            calls.push(Box::pin(async move {
                // Where it fails, the client's repetition is told for a duplicate, and it was charged.
                let _ = server.call(&command, deadline).await;
            }));
        }
        poll_fn(|context| {
            calls.retain_mut(|call| call.as_mut().poll(context).is_pending());
            if calls.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Gives back what a request that passed was charged, wherever it was.
    pub(super) fn refund(&self, receipt: &Receipt) {
        let fence = match receipt.time {
            SignedTime::Growing { key: _, nonce: _, window: _ } => Some(Micros(u64::MAX)),
            SignedTime::Stamp(_) | SignedTime::Deadline { .. } | SignedTime::Unique { .. } => {
                packed::fence(receipt.time, self.margins)
            }
        };
        let Some(fence) = fence else { return };
        let deadline = Instant::now() + self.deadline;
        let counted = receipt.counted.iter();
        let servers: Vec<_> = if receipt.counted.is_empty() {
            let keepers = self.keepers(receipt.account, fence).into_iter();
            keepers.map(|server| (server, receipt.at)).collect()
        } else {
            counted
                .filter_map(|(place, at)| Some((self.servers.get(*place)?.clone(), *at)))
                .collect()
        };
        for (server, at) in servers {
            let command = numbers::refund(receipt, at).unwrap_or_else(|| refund(receipt, at));
            tokio::spawn(async move {
                // Where it fails, it costs.
                let _ = server.call(&command, deadline).await;
            });
        }
    }
}

/// The call that takes back what a server did with a request, which of its answer to so many costs tells.
fn forget(
    charge: &Charge,
    spend: &Spend,
    keeps_record: bool,
    (answer, costs): (&[u8], &[Cost]),
) -> Cmd {
    let keys = Keys::of(charge.account, signed_at(charge));
    let payer = Payer::of(charge.account, charge.key);
    let mut command = cmd("FCALL");
    if let Some(growing) = &spend.growing {
        growing.forget(&mut command, &keys, spend);
    } else {
        let nonce = charge.nonce.map(|nonce| keys.nonce(nonce));
        command.arg("countersign_2_forget").arg(2 + usize::from(nonce.is_some()));
        command.arg(&keys.generation).arg(&keys.records).arg(nonce);
        command.arg(&spend.identity).arg(&spend.record);
    }
    command.arg(if keeps_record { "1" } else { "" });
    command.arg(answer).arg(packed::costs(costs, Some(payer)));
    command
}

/// The call that gives back what a server charged a request at that moment.
fn refund(receipt: &Receipt, at: Micros) -> Cmd {
    let keys = Keys::of(receipt.account, keys::signed_time(receipt.time));
    let payer = Payer::of(receipt.account, receipt.key);
    let mut command = cmd("FCALL");
    command.arg("countersign_2_refund").arg(2).arg(&keys.generation).arg(&keys.records);
    command.arg(&packed::field(receipt.identity.0)).arg(&receipt.route.to_le_bytes());
    command.arg(&at.0.to_le_bytes()).arg(packed::costs(&receipt.costs, Some(payer)));
    command
}
