//! The symbols that a key may trade, as its backends write them.

/// Whether this can be a symbol: up to 64 letters, digits and `-`, `_`, `.`, `/`, `:`, `@`.
pub fn is_symbol(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

/// A set of symbols. They are told apart byte for byte: `btcusdt` is not `BTCUSDT`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Symbols(Box<[Box<str>]>);

impl Symbols {
    /// Whether a symbol of these bytes is among them.
    pub fn hold(&self, bytes: impl Iterator<Item = u8>) -> bool {
        // No symbol is longer: what is, is none.
        let written: Vec<u8> = bytes.take(65).collect();
        self.0.binary_search_by(|known| known.as_bytes().cmp(&written)).is_ok()
    }
}

impl<T: Into<Box<str>>> FromIterator<T> for Symbols {
    fn from_iter<I: IntoIterator<Item = T>>(symbols: I) -> Self {
        let mut all: Vec<Box<str>> = symbols.into_iter().map(Into::into).collect();
        all.sort_unstable();
        all.dedup();
        Self(all.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_its_symbols_and_nothing_that_is_like_one() {
        let set: Symbols = ["ETHUSDT", "BTCUSDT", "BTC-PERP"].into_iter().collect();
        for (symbol, held) in [
            ("BTCUSDT", true),
            ("ETHUSDT", true),
            ("BTC-PERP", true),
            ("btcusdt", false),
            ("BTCUSD", false),
            ("BTCUSDT ", false),
            ("", false),
        ] {
            assert_eq!(set.hold(symbol.bytes()), held, "{symbol}");
        }
        assert!(!Symbols::default().hold("BTCUSDT".bytes()));
    }

    #[test]
    fn a_symbol_is_what_no_request_can_spell_in_two_ways() {
        for good in ["BTCUSDT", "BTC/USD", "tBTCF0:USTF0", "1000SHIB_USDT", "BTC-31DEC26.X", "a@b"]
        {
            assert!(is_symbol(good), "{good}");
        }
        for bad in ["", "BTC USD", "BTC+USD", "BTC%2FUSD", "BTC,ETH", "É", &"A".repeat(65)] {
            assert!(!is_symbol(bad), "{bad}");
        }
    }
}
