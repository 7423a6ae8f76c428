//! Which of a cluster's 16,384 hash slots a tag lies in.

/// How many slots there are, whatever the cluster.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a text between braces: CRC-16/XMODEM, as every node counts it.
pub(super) fn slot(tag: &[u8]) -> u16 {
    let mut sum: u16 = 0;
    for byte in tag {
        sum ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            sum = if sum & 0x8000 == 0 { sum << 1 } else { (sum << 1) ^ 0x1021 };
        }
    }
    sum % SLOTS
}

/// The slot of a whole key: of what stands between its first braces, if anything does, else of all of it.
#[cfg(test)]
pub(super) fn slot_of_key(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let tag = tag.map(|(tag, _)| tag).filter(|tag| !tag.is_empty());
    slot(tag.unwrap_or(key).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_that_redis_counts() {
        // The first is the check value of the algorithm's definition; the others are what CLUSTER KEYSLOT says.
        for (text, wanted) in [
            ("123456789", 0x31C3),
            ("foo", 12_182),
            ("bar", 5_061),
            ("0", 13_907),
            ("1023", 14_911),
        ] {
            assert_eq!(slot(text.as_bytes()), wanted, "{text}");
        }
        assert_eq!(slot_of_key("c2:{foo}:g"), 12_182);
    }
}
