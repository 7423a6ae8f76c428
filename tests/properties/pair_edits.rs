//! Edits of queries and forms.

use crate::edits::Dice;

/// What spells one pair another way, or makes other pairs of the same bytes.
const PAIR_WORDS: [(&str, &str); 26] = [
    ("%20", "+"),
    ("+", "%20"),
    ("+", "%2B"),
    ("%2B", "+"),
    ("%3D", "="),
    ("=", "%3D"),
    ("%26", "&"),
    ("&", "%26"),
    ("%", "%25"),
    ("%25", "%"),
    ("%20", " "),
    (" ", "%20"),
    (" ", "+"),
    ("&", ";"),
    ("&", "&&"),
    ("=", "=="),
    ("=", ""),
    ("&", ""),
    ("é", "%C3%A9"),
    ("%C3%A9", "é"),
    ("%C3%A9", "e%CC%81"),
    ("%C3%A9", "%E9"),
    ("%27", "'"),
    ("'", "%27"),
    ("%2C", ","),
    (",", "%2C"),
];

pub(crate) fn pairs(text: &str, dice: &mut Dice) -> String {
    let at = dice.place(text);
    let (before, after) = text.split_at(at);
    match dice.roll(17) {
        0..=3 => {
            let (from, to) = PAIR_WORDS[dice.roll(PAIR_WORDS.len())];
            match dice.find(text, from) {
                Some(place) => {
                    format!("{}{to}{}", &text[..place], &text[place + from.len()..])
                }
                None => text.to_owned(),
            }
        }
        4 | 5 => escaped(text, dice),
        6 => unescaped(text, dice),
        7 | 8 => reordered(text, dice),
        9 => {
            let all: Vec<_> = text.split('&').collect();
            let pair = dice.pick(&all);
            let name = pair.split('=').next().unwrap_or_default();
            let again = match dice.roll(4) {
                0 => pair.to_owned(),
                1 => format!("{name}=1"),
                2 => name.to_owned(),
                _ => format!("{}=1", name.to_uppercase()),
            };
            if dice.roll(2) == 0 { format!("{text}&{again}") } else { format!("{again}&{text}") }
        }
        10 => {
            let extra = dice.pick(&[
                "&", "=", "&=", "&a", "&a=", "a&", "%00", "%26", "#", "?", ";", "%0A", "%0D%0A",
                "/",
            ]);
            format!("{before}{extra}{after}")
        }
        11..=13 => encoded(text, dice),
        // a byte over the boundary of name and value
        14 => moved_over(text, "=", dice),
        15 => moved_over(text, "&", dice),
        _ => {
            let range = before.len()..(before.len() + after.len().min(1));
            let other = text.get(range.clone()).unwrap_or_default();
            let other = if other.chars().all(char::is_lowercase) {
                other.to_uppercase()
            } else {
                other.to_lowercase()
            };
            match text.get(range.clone()) {
                Some(_) => format!("{}{other}{}", &text[..range.start], &text[range.end..]),
                None => text.to_owned(),
            }
        }
    }
}

/// The text as an HTTP library writes it on the wire, its pairs as they are, or what one library leaves and another does
/// not.
fn encoded(text: &str, dice: &mut Dice) -> String {
    let left = dice.pick(&["", "+", "%", "+%", ",:/'", "+%,:/';"]);
    let space = dice.pick(&["+", "%20"]);
    let part = |part: &str| {
        let spelled = |byte: u8| match byte {
            b' ' => space.to_owned(),
            _ if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => {
                (byte as char).to_string()
            }
            _ if left.as_bytes().contains(&byte) => (byte as char).to_string(),
            _ => format!("%{byte:02X}"),
        };
        part.bytes().map(spelled).collect::<String>()
    };
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, value)) => format!("{}={}", part(name), part(value)),
        None => part(pair),
    };
    text.split('&').map(pair).collect::<Vec<_>>().join("&")
}

fn reordered(text: &str, dice: &mut Dice) -> String {
    let mut all: Vec<_> = text.split('&').collect();
    match dice.roll(3) {
        0 => all.sort_unstable(),
        1 => all.reverse(),
        _ => {
            let (a, b) = (dice.roll(all.len()), dice.roll(all.len()));
            all.swap(a, b);
        }
    }
    all.join("&")
}

/// `mark`, somewhere in `text`, one character further left or right.
pub(crate) fn moved_over(text: &str, mark: &str, dice: &mut Dice) -> String {
    let Some(place) = dice.find(text, mark) else { return text.to_owned() };
    let (before, after) = (&text[..place], &text[place + mark.len()..]);
    let to = if dice.roll(2) == 0 {
        before.char_indices().next_back().map(|(to, _)| to)
    } else {
        after.chars().next().map(|c| place + c.len_utf8())
    };
    let joined = format!("{before}{after}");
    match to {
        Some(to) => format!("{}{mark}{}", &joined[..to], &joined[to..]),
        None => text.to_owned(),
    }
}

fn escaped(text: &str, dice: &mut Dice) -> String {
    let (before, after) = text.split_at(dice.place(text));
    match after.chars().next() {
        Some(c) if c.is_ascii() && dice.roll(2) == 0 => {
            format!("{before}%{:02X}{}", c as u8, &after[1..])
        }
        Some(c) if c.is_ascii() => format!("{before}%{:02x}{}", c as u8, &after[1..]),
        Some(_) | None => text.to_owned(),
    }
}

fn unescaped(text: &str, dice: &mut Dice) -> String {
    match dice.find(text, "%") {
        Some(place) => {
            let digits = text.get(place + 1..place + 3).unwrap_or_default();
            match (u8::from_str_radix(digits, 16), dice.roll(2)) {
                (Ok(byte), 0) if byte.is_ascii() => {
                    format!("{}{}{}", &text[..place], byte as char, &text[place + 3..])
                }
                (Ok(_), _) => text.replace(digits, &digits.to_lowercase()),
                (Err(_), _) => text.to_owned(),
            }
        }
        None => text.to_owned(),
    }
}
