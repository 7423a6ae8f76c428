//! The calls about growing numbers, as the library in `function/` takes them.

use redis::{Cmd, cmd};

use super::keys::{Keys, generation_of};
use super::marks::Name;
use super::packed::{self, Payer, Spend, Token};
use crate::clock::Micros;
use crate::store::{Charge, Identity, Receipt, SignedTime};

/// The number of a request, as servers are asked about it.
pub(super) struct Growing {
    mark: [u8; 16],
    /// It and the window, so that their bytes stand in the order of the numbers.
    number: [u8; 16],
}

impl Growing {
    /// That of a request which signs one.
    pub(super) fn of(charge: &Charge) -> Option<Self> {
        let SignedTime::Growing { key, nonce, window } = charge.time else { return None };
        let number = (u128::from(nonce) << 64 | u128::from(window)).to_be_bytes();
        Some(Self { mark: Name::of(charge.account, key).own, number })
    }

    /// As a part of an argument.
    pub(super) fn packed(&self) -> impl Iterator<Item = u8> {
        self.mark.into_iter().chain(self.number)
    }

    pub(super) fn forget(&self, command: &mut Cmd, keys: &Keys, spend: &Spend) {
        let parts = self.number.iter().take(8).chain(spend.identity.iter().take(8));
        let entry: Vec<u8> = parts.chain(&spend.record).copied().collect();
        command.arg("countersign_2_forget_number").arg(1);
        command.arg(&keys.generation).arg(&self.mark).arg(entry);
    }
}

/// Asks whether a mark is known, after it was told, where it was, up to which number all may have been accepted.
pub(super) fn ask_mark(account: u64, name: Name, token: Token, told: Option<(Token, u64)>) -> Cmd {
    let mut command = cmd("FCALL");
    command
        .arg("countersign_2_mark")
        .arg(1)
        .arg(generation_of(account))
        .arg(&name.own)
        .arg(&token.0);
    match told {
        Some((told, floor)) => command.arg(&told.0).arg(&floor.to_be_bytes()),
        None => command.arg("").arg(""),
    };
    command
}

/// Gives back what a request with a growing number was charged at that moment.
pub(super) fn refund(receipt: &Receipt, at: Micros) -> Option<Cmd> {
    let SignedTime::Growing { key, nonce, window: _ } = receipt.time else { return None };
    let payer = Payer::of(receipt.account, receipt.key);
    let Identity(identity) = receipt.identity;
    let entry: Vec<u8> = nonce.to_be_bytes().into_iter().chain(identity).take(16).collect();
    let mut command = cmd("FCALL");
    command.arg("countersign_2_refund_number").arg(1).arg(generation_of(receipt.account));
    let name = Name::of(receipt.account, key);
    command.arg(&name.own).arg(entry).arg(&receipt.route.to_le_bytes());
    command.arg(&at.0.to_le_bytes()).arg(packed::costs(&receipt.costs, Some(payer)));
    Some(command)
}
