//! Prices and quantities: exact, in units of 1e-8, never in floating point.

use std::fmt;

/// A price or a quantity of an asset, in units of 1e-8. Never negative.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Amount(u128);

impl Amount {
    /// Nothing.
    pub(super) const ZERO: Self = Self(0);

    /// `units` times 1e-8.
    pub(super) const fn units(units: u64) -> Self {
        Self(units as u128)
    }

    /// `whole` times 1.
    pub(super) const fn whole(whole: u32) -> Self {
        Self(whole as u128 * ONE)
    }

    /// Reads plain decimals, such as `0.001`: at most 8 places, at most 10 digits before the point.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty()
            || whole.len() > 10
            || fraction.len() > PLACES
            || !digits(whole)
            || !digits(fraction)
        {
            return None;
        }
        let whole: u128 = whole.parse().ok()?;
        let fraction: u128 = format!("{fraction:0<PLACES$}").parse().ok()?;
        Some(Self(whole * ONE + fraction))
    }

    /// The sum, unless it is too large.
    pub(super) const fn plus(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference, unless it is negative.
    pub(super) const fn minus(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// This much at `price` each, unless the product is too large or has more than 8 places.
    pub(super) const fn at(self, price: Self) -> Option<Self> {
        match self.0.checked_mul(price.0) {
            Some(product) if product.is_multiple_of(ONE) => Some(Self(product / ONE)),
            Some(_) | None => None,
        }
    }

    /// How much this buys at `price` each, rounded down to a multiple of `step`.
    pub(super) fn buys(self, price: Self, step: Self) -> Option<Self> {
        let quantity = self.0.checked_mul(ONE)?.checked_div(price.0)?;
        Some(Self(quantity - quantity.checked_rem(step.0)?))
    }

    /// Whether this is a whole number of `step`s.
    pub(super) const fn is_multiple_of(self, step: Self) -> bool {
        self.0.is_multiple_of(step.0)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:0PLACES$}", self.0 / ONE, self.0 % ONE)
    }
}

impl serde::Serialize for Amount {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const PLACES: usize = 8;
const ONE: u128 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn only_plain_decimals_of_eight_places_are_read() {
        let units = |text| Amount::parse(text).map(|amount| amount.0);
        assert_eq!(units("0.00000001"), Some(1));
        assert_eq!(units("9999999999.99999999"), Some(999_999_999_999_999_999));
        assert_eq!(units("1."), Some(ONE));
        for text in [
            "",
            ".",
            ".5",
            "-1",
            "+1",
            "1e3",
            "0.000000001",
            "10000000000",
            "1.2.3",
            " 1",
            "１",
            "NaN",
        ] {
            assert_eq!(units(text), None, "{text}");
        }
    }

    #[test]
    fn products_are_exact_or_nothing() {
        let (price, step) = (Amount::units(1), Amount::units(1));
        assert_eq!(step.at(price), None);
        assert_eq!(Amount::whole(2).at(Amount::whole(3)), Some(Amount::whole(6)));
        assert_eq!(Amount(u128::MAX).at(Amount::whole(1)), None);
        assert_eq!(
            Amount::whole(10).buys(Amount::whole(3), Amount::whole(1)),
            Some(Amount::whole(3))
        );
        assert_eq!(Amount::whole(10).buys(Amount::ZERO, Amount::whole(1)), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(units in 0..1_000_000_000_000_000_000_u64) {
            prop_assert_eq!(Amount::parse(&Amount::units(units).to_string()), Some(Amount::units(units)));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            let _ = Amount::parse(&text);
        }
    }
}
