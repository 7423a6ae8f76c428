//! What rules in shadow would have refused.

use super::Denial;

/// Reasons for which a request that passed would have been turned away, were all rules enforced.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Shadowed(u64);

impl Shadowed {
    /// Every reason that can be in shadow, by its place in [`Denial::REASONS`]: never a signature's, a time's or a
    /// replay's, nor what is switched off.
    pub const PLACES: [usize; 14] = [21, 22, 23, 24, 25, 26, 28, 29, 30, 31, 32, 36, 37, 38];

    /// Adds a reason, where that can be in shadow; else it stands.
    pub fn note(&mut self, denial: Denial) -> Result<(), Denial> {
        if !Self::PLACES.contains(&denial.index()) {
            return Err(denial);
        }
        self.0 |= 1 << denial.index();
        Ok(())
    }

    /// Whether nothing would have refused it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The places of the reasons in [`Denial::REASONS`], in check order.
    pub fn places(self) -> impl Iterator<Item = usize> {
        Self::PLACES.into_iter().filter(move |place| self.0 >> place & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_not_prove_who_and_when_can_be_in_shadow() {
        let names: Vec<&str> = Shadowed::PLACES.map(|place| Denial::REASONS[place]).to_vec();
        assert_eq!(
            names,
            [
                "address_refused",
                "application_address_refused",
                "not_permitted",
                "route_refused",
                "symbol_refused",
                "trade_ended",
                "no_factor",
                "missing_code",
                "challenged",
                "too_many_codes",
                "bad_code",
                "limited",
                "orders_limited",
                "address_limited",
            ]
        );
        for never in [
            Denial::BadSignature,
            Denial::Replayed,
            Denial::CodeSpent,
            Denial::Stale(std::time::Duration::ZERO),
            Denial::SwitchedOff,
            Denial::KeyInactive,
            Denial::Unavailable,
        ] {
            assert_eq!(Shadowed::default().note(never), Err(never));
        }
    }
}
