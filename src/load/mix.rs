//! Which kinds of request are sent, in exact proportion.

use std::fmt;
use std::str::FromStr;

/// What is sent, and so what must be answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Signed well: must be accepted.
    Valid,
    /// The signature is altered: must be refused.
    BadSignature,
    /// Signed before the longest window began: must be refused.
    Stale,
    /// The bytes of an accepted request once more: must be refused. Leave replays out where the target's routes
    /// let reads repeat.
    Replay,
}

impl Kind {
    /// Every kind, with the name that `--mix` and reports use.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Valid, "valid"),
        (Self::BadSignature, "bad-sig"),
        (Self::Stale, "stale"),
        (Self::Replay, "replay"),
    ];

    /// Its place in [`Kind::ALL`].
    pub(super) const fn place(self) -> usize {
        match self {
            Self::Valid => 0,
            Self::BadSignature => 1,
            Self::Stale => 2,
            Self::Replay => 3,
        }
    }
}

/// The most that the shares of a mix may add up to.
const LONGEST: u32 = 10_000;

/// A repeating order of kinds in which each has its exact share, spread out evenly.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mix(Box<[Kind]>);

impl Mix {
    /// Nothing but valid requests.
    pub fn valid() -> Self {
        Self(Box::new([Kind::Valid]))
    }

    /// Of what kind request number `n` is.
    pub fn kind(&self, n: u64) -> Kind {
        let length = u64::try_from(self.0.len()).unwrap_or(1).max(1);
        let place = usize::try_from(n % length).unwrap_or_default();
        self.0.get(place).copied().unwrap_or(Kind::Valid)
    }

    /// Whether any request of it is of this kind.
    pub fn holds(&self, kind: Kind) -> bool {
        self.0.contains(&kind)
    }

    /// Spreads the kinds by smooth weighted turns: whoever waited for the largest share goes next.
    fn spread(shares: [u32; 4]) -> Self {
        let total: u32 = shares.iter().sum();
        let mut credit = [0_i64; 4];
        let turn = |_| {
            for (credit, share) in credit.iter_mut().zip(shares) {
                *credit += i64::from(share);
            }
            let most = credit.iter().copied().max().unwrap_or_default();
            let mut taken = Kind::Valid;
            for ((kind, _), credit) in Kind::ALL.iter().zip(&mut credit) {
                if *credit == most {
                    *credit -= i64::from(total);
                    taken = *kind;
                    break;
                }
            }
            taken
        };
        Self((0..total).map(turn).collect())
    }
}

impl FromStr for Mix {
    type Err = String;

    /// Reads `valid=95,bad-sig=2,stale=1,replay=2`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut shares = [0_u32; 4];
        for part in text.split(',') {
            let (name, share) = part
                .split_once('=')
                .ok_or_else(|| format!("`{part}` is no share: write `valid=95,bad-sig=5`"))?;
            let place = Kind::ALL.iter().position(|(_, known)| *known == name.trim());
            let slot = place.and_then(|place| shares.get_mut(place));
            let slot = slot.ok_or_else(|| {
                format!("`{name}` is no kind: {}", Kind::ALL.map(|(_, name)| name).join(", "))
            })?;
            let share = share.trim().parse().ok().filter(|share| *share <= LONGEST);
            *slot = share.ok_or_else(|| format!("`{part}`: a share is 0 to {LONGEST}"))?;
        }
        let total: u32 = shares.iter().sum();
        if total == 0 || total > LONGEST {
            return Err(format!("the shares must add up to 1 to {LONGEST}"));
        }
        let [valid, _, _, replay] = shares;
        if replay > 0 && valid == 0 {
            return Err("a replay repeats a valid request, so the mix must hold some".into());
        }
        Ok(Self::spread(shares))
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (kind, name) in Kind::ALL {
            let share = self.0.iter().filter(|known| **known == kind).count();
            if share > 0 {
                write!(f, "{separator}{name}={share}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(mix: &Mix, requests: u64) -> [u64; 4] {
        let mut counts = [0; 4];
        (0..requests).for_each(|n| counts[mix.kind(n).place()] += 1);
        counts
    }

    #[test]
    fn shares_are_exact_over_ten_thousand_requests() {
        let mix: Mix = "valid=95,bad-sig=2,stale=1,replay=2".parse().unwrap();
        assert_eq!(counts(&mix, 10_000), [9_500, 200, 100, 200]);
        assert_eq!(mix.to_string(), "valid=95,bad-sig=2,stale=1,replay=2");
        assert_eq!(counts(&Mix::valid(), 10_000), [10_000, 0, 0, 0]);
    }

    #[test]
    fn kinds_are_spread_out_and_a_valid_request_comes_before_its_replay() {
        let mix: Mix = "valid=3,replay=1".parse().unwrap();
        assert_eq!(mix.kind(0), Kind::Valid);
        assert_eq!(counts(&mix, 4), [3, 0, 0, 1]);
        let halves: Mix = "valid=50,bad-sig=50".parse().unwrap();
        assert!((0..100).all(|n| halves.kind(n) != halves.kind(n + 1)));
    }

    #[test]
    fn what_is_no_mix_is_refused() {
        for text in
            ["", "valid", "valid=x", "good=1", "valid=0", "valid=10001", "replay=1", "valid=-1"]
        {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
        assert!("valid=10000".parse::<Mix>().is_ok());
    }
}
