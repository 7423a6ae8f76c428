//! Edits that leave the signed bytes as they are while the wire changes, or the other way round.

use countersign::offline::Recorded;

use crate::pair_edits::{moved_over, pairs};

/// Numbers that follow no pattern, the same in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Some number below `bound`, which is not zero.
    pub(crate) fn roll(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    pub(crate) fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.roll(all.len())]
    }

    /// A place between two characters of `text`.
    pub(crate) fn place(&mut self, text: &str) -> usize {
        let mut place = self.roll(text.len() + 1);
        while !text.is_char_boundary(place) {
            place -= 1;
        }
        place
    }

    /// One of the places where `what` stands in `text`.
    pub(crate) fn find(&mut self, text: &str, what: &str) -> Option<usize> {
        let all: Vec<_> = text.match_indices(what).map(|(place, _)| place).collect();
        if all.is_empty() { None } else { Some(all[self.roll(all.len())]) }
    }
}

/// One edit of some part of the request.
pub(crate) fn edit(request: &mut Recorded, dice: &mut Dice) {
    if !request.target.starts_with('/') || !request.target.is_ascii() && dice.roll(2) == 0 {
        return;
    }
    let json = request.body.starts_with('{');
    match dice.roll(21) {
        20 => line(request, dice),
        0..=7 if request.target.contains('?') => query(request, dice),
        0..=9 if json => request.body = json_text(&request.body, dice),
        0..=9 if !request.body.is_empty() => request.body = pairs(&request.body, dice),
        0..=9 => query(request, dice),
        10..=13 => boundary(request, dice),
        14 => path(request, dice),
        15 => method(request, dice),
        16 => content_type(request, dice),
        17 => header(request, dice),
        18 => signature(request, dice),
        _ => form(request, dice),
    }
}

fn query(request: &mut Recorded, dice: &mut Dice) {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    request.target = format!("{path}?{}", pairs(query, dice));
}

/// A line break, a byte more, or one less, in the body.
fn line(request: &mut Recorded, dice: &mut Dice) {
    let (before, after) = request.body.split_at(dice.place(&request.body));
    request.body = match dice.roll(5) {
        0 => format!("{before}\n{after}"),
        1 => format!("{before}\r\n{after}"),
        2 => format!("{}\n", request.body),
        3 => format!("{}\0", request.body),
        _ => request.body.trim_end_matches(['}', ']', '\n', '1']).to_owned(),
    };
}

/// What spells JSON another way, or makes other JSON of the same text.
const JSON_WORDS: [(&str, &str); 34] = [
    (":", ": "),
    (",", " ,"),
    ("{", "{ "),
    ("e", "\\u0065"),
    ("e", "\\u0045"),
    ("/", "\\/"),
    ("é", "\\u00e9"),
    ("é", "e\u{301}"),
    ("\":\"", ""),
    ("\",\"", "&"),
    ("\",\"", ""),
    ("\",\"", ","),
    ("\":\"", "="),
    ("&", "\",\""),
    ("=", "\":\""),
    ("\"1", "1"),
    ("1", "1.0"),
    ("1", "1e0"),
    ("1", "01"),
    ("1", "\"1\""),
    ("10", "1e1"),
    ("true", "\"true\""),
    ("true", "True"),
    ("true", "1"),
    ("null", "\"null\""),
    ("null", "\"\""),
    ("[", "\"["),
    ("]", "]\""),
    ("[\"", "\"[\\\""),
    ("\"]", "\\\"]\""),
    ("}", ",\"z\":null}"),
    ("}", ",\"a\":\"1\"}"),
    ("{", "{\"a\":\"1\","),
    ("\"", "'"),
];

fn json_text(text: &str, dice: &mut Dice) -> String {
    let replaced = |place: usize, from: &str, to: &str| {
        format!("{}{to}{}", &text[..place], &text[place + from.len()..])
    };
    match dice.roll(8) {
        0..=3 => {
            let (from, to) = JSON_WORDS[dice.roll(JSON_WORDS.len())];
            dice.find(text, from).map_or_else(|| text.to_owned(), |place| replaced(place, from, to))
        }
        // members in another order, or one of them twice
        4 => {
            let inner = text.get(1..text.len() - 1).unwrap_or_default();
            let members: Vec<_> = inner.split(",\"").collect();
            let (a, b) = (dice.roll(members.len()), dice.roll(members.len()));
            let mut members: Vec<_> = members
                .iter()
                .enumerate()
                .map(|(n, m)| if n == 0 { (*m).to_owned() } else { format!("\"{m}") })
                .collect();
            if dice.roll(3) == 0 {
                members.push(members[a].clone());
            } else {
                members.swap(a, b);
            }
            format!("{{{}}}", members.join(","))
        }
        5 => moved_over(text, "\":\"", dice),
        6 => moved_over(text, "\",\"", dice),
        _ => {
            let at = dice.place(text);
            let (before, after) = text.split_at(at);
            match after.chars().next() {
                Some(c) if c.is_ascii_alphanumeric() => {
                    format!("{before}\\u{:04x}{}", c as u32, &after[1..])
                }
                Some(_) => format!("{before} {after}"),
                None => format!("{text} "),
            }
        }
    }
}

/// Bytes that go from one part of the request to the next.
fn boundary(request: &mut Recorded, dice: &mut Dice) {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let at = dice.place(&query);
    match dice.roll(10) {
        0 => {
            request.body = format!("{}{}", &query[at..], request.body);
            request.target = format!("{path}?{}", &query[..at]);
        }
        1 => {
            request.body = format!("{query}{}", request.body);
            request.target = path;
        }
        2 => {
            request.target = format!("{path}?{query}{}", request.body);
            request.body.clear();
        }
        3 => {
            let at = dice.place(&request.body);
            request.target = format!("{path}?{query}{}", &request.body[..at]);
            request.body = request.body[at..].to_owned();
        }
        4 => {
            let (path, last) = path.split_at(path.len() - 1);
            request.target = format!("{path}?{last}{query}");
        }
        5 => {
            let first = query.chars().next().map_or(0, char::len_utf8);
            request.target = format!("{path}{}?{}", &query[..first], &query[first..]);
        }
        6 => request.target = format!("{path}{query}"),
        7 => {
            let at = dice.roll(path.len()).max(1);
            request.target = format!("{}?{}{query}", &path[..at], &path[at..]);
        }
        8 => at_another_time(request, dice),
        _ => between_headers(request, dice),
    }
    request.target = request.target.trim_end_matches('?').to_owned();
}

/// Takes digits of the body for the signed time, and what stands before them for the end of the query.
fn at_another_time(request: &mut Recorded, dice: &mut Dice) {
    let is_time =
        |value: &str| value.starts_with("1700000") && value.bytes().all(|b| b.is_ascii_digit());
    let time = request
        .headers
        .iter()
        .find(|(name, value)| is_time(value) && !name.to_ascii_lowercase().contains("nonce"));
    let Some((name, value)) = time.map(|(name, value)| (name.clone(), value.clone())) else {
        return;
    };
    let Some(place) = dice.find(&request.body, "1700000") else { return };
    let Some(other) = request.body.get(place..place + value.len()) else { return };
    if is_time(other) {
        let mark = if request.target.contains('?') { "" } else { "?" };
        request.target = format!("{}{mark}{value}{}", request.target, &request.body[..place]);
        request.headers.insert(name, other.to_owned());
        request.body = request.body[place + value.len()..].to_owned();
    }
}

/// A byte of a header field's value to its neighbour among the signed parts, whichever that is, or the other way round.
fn between_headers(request: &mut Recorded, dice: &mut Dice) {
    let names: Vec<_> = request.headers.keys().cloned().collect();
    let from = names[dice.roll(names.len())].clone();
    let value = request.headers[&from].clone();
    if !value.is_ascii() || value.is_empty() {
        return;
    }
    let taken = dice.roll(value.len().min(3)) + 1;
    let (kept, byte) = value.split_at(value.len() - taken.min(value.len()));
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    match dice.roll(7) {
        0 => {
            let to = names[dice.roll(names.len())].clone();
            let other = format!("{byte}{}", request.headers[&to]);
            request.headers.insert(to, other);
            request.headers.insert(from, kept.to_owned());
        }
        1 => {
            request.target = format!("{path}?{byte}{query}");
            request.headers.insert(from, kept.to_owned());
        }
        2 => {
            request.body = format!("{byte}{}", request.body);
            request.headers.insert(from, kept.to_owned());
        }
        3 => {
            let (first, rest) = value.split_at(1);
            request.target = format!("{}{first}", request.target);
            request.headers.insert(from, rest.to_owned());
        }
        4 if !query.is_empty() && query.is_char_boundary(1) => {
            request.headers.insert(from, format!("{value}{}", &query[..1]));
            request.target = format!("{path}?{}", &query[1..]);
        }
        5 if !request.body.is_empty() && request.body.is_char_boundary(1) => {
            request.headers.insert(from, format!("{value}{}", &request.body[..1]));
            request.body = request.body[1..].to_owned();
        }
        _ if request.target.len() > 1 && request.target.is_ascii() => {
            let (rest, last) = request.target.split_at(request.target.len() - 1);
            request.headers.insert(from, format!("{last}{value}"));
            request.target = rest.to_owned();
        }
        _ => {}
    }
}

fn path(request: &mut Recorded, dice: &mut Dice) {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let at = dice.roll(path.len()).max(1);
    let (before, after) = path.split_at(at.min(path.len()));
    let other = match dice.roll(10) {
        0 => format!("{path}/"),
        1 => format!("{before}/{after}"),
        2 => format!("/.{path}"),
        3 => format!("/x/..{path}"),
        4 => format!("{path};a=1"),
        5 => path.to_uppercase(),
        6 => match after.bytes().next() {
            Some(byte) => format!("{before}%{byte:02X}{}", &after[1..]),
            None => path.to_owned(),
        },
        7 => format!("{before}{}", after.get(1..).unwrap_or_default()),
        8 => path.replacen('/', "%2F", 2).replacen("%2F", "/", 1),
        _ => format!("{path}s"),
    };
    let mark = if request.target.contains('?') { "?" } else { "" };
    request.target = format!("{other}{mark}{query}");
}

fn method(request: &mut Recorded, dice: &mut Dice) {
    let all = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "post", "get"];
    dice.pick(&all).clone_into(&mut request.method);
}

fn content_type(request: &mut Recorded, dice: &mut Dice) {
    request.headers.retain(|name, _| !name.eq_ignore_ascii_case("content-type"));
    let types = [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=iso-8859-1",
        "multipart/form-data; boundary=a",
        "text/plain",
        "application/json\napplication/x-www-form-urlencoded",
        "",
    ];
    let chosen = dice.pick(&types);
    if !chosen.is_empty() {
        request.headers.insert("content-type".into(), chosen.to_owned());
    }
}

/// A header field twice, joined, padded, in another case, or one more.
fn header(request: &mut Recorded, dice: &mut Dice) {
    let names: Vec<_> = request.headers.keys().cloned().collect();
    let name = names[dice.roll(names.len())].clone();
    let value = request.headers[&name].clone();
    let other = match dice.roll(11) {
        0 => format!("{value}\n{value}"),
        1 => format!("{value}\n1"),
        2 => format!("1\n{value}"),
        3 => format!("{value}, {value}"),
        4 => format!(" {value}"),
        5 => format!("{value} "),
        6 => value.to_uppercase(),
        7 => format!("0{value}"),
        8 => format!("{value}:8443"),
        9 => value.replacen(' ', "  ", 1),
        _ => {
            let names = [
                "x-http-method-override",
                "x-original-url",
                "content-encoding",
                "transfer-encoding",
                "x-forwarded-host",
                "content-digest",
                "digest",
            ];
            request.headers.insert(dice.pick(&names).to_owned(), "DELETE".to_owned());
            return;
        }
    };
    request.headers.insert(name, other);
}

/// The spelling of whatever looks like a signature or token: long words in header fields and parameters.
fn signature(request: &mut Recorded, dice: &mut Dice) {
    let kind = dice.roll(8);
    let respelled = |word: &str| match kind {
        0 => word.to_uppercase(),
        1 => word.to_lowercase(),
        2 => word.trim_end_matches('=').to_owned(),
        3 => format!("{word}="),
        4 => word.replace('+', "-").replace('/', "_"),
        5 => word.replace("%2B", "+").replace("%2F", "/").replace("%3D", "="),
        6 => format!("{}%{:02X}", &word[..word.len() - 1], word.as_bytes()[word.len() - 1]),
        // spare bits of base64
        _ => match word.as_bytes() {
            [.., last, b'='] if last.is_ascii_alphabetic() => {
                let next = (last + 1) as char;
                format!("{}{next}=", &word[..word.len() - 2])
            }
            _ => word.to_owned(),
        },
    };
    let long = |word: &str| word.is_ascii() && word.len() > 30;
    let names: Vec<_> = request.headers.keys().cloned().collect();
    let name = &names[dice.roll(names.len())];
    let value = request.headers[name].clone();
    let words = value.split(' ').map(|word| if long(word) { respelled(word) } else { word.into() });
    let value = words.collect::<Vec<String>>().join(" ");
    request.headers.insert(name.clone(), value);
    if let Some((rest, last)) = request.target.rsplit_once('=')
        && long(last)
    {
        request.target = format!("{rest}={}", respelled(last));
    }
}

/// A form as a query or JSON, and JSON as either.
fn form(request: &mut Recorded, dice: &mut Dice) {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let path = path.to_owned();
    let object: Option<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_str(&request.body).ok();
    if let Some(object) = object {
        let text = |value: &serde_json::Value| {
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        };
        let pairs: Vec<_> =
            object.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
        let pairs = pairs.join("&");
        if dice.roll(2) == 0 {
            request.target = format!("{path}?{pairs}");
            request.body.clear();
        } else {
            request.body = pairs;
        }
        return;
    }
    let pairs = if query.is_empty() { request.body.clone() } else { query.to_owned() };
    let members = pairs.split('&').filter_map(|pair| pair.split_once('='));
    let members: Vec<_> = members
        .map(|(name, value)| format!("{}:{}", serde_json::json!(name), serde_json::json!(value)))
        .collect();
    request.body = format!("{{{}}}", members.join(","));
    request.target = path;
    request.headers.insert("content-type".into(), "application/json".into());
}
