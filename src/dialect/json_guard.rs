//! Refuses a JSON body when a body of another meaning would be signed by the same text.
//!
//! What passes is told apart by its text in all but one respect: the text of a string that is a JSON number is also
//! that number's, as clients send `"1"` and `1` alike. So a number passes only where it fits a double: then the
//! digits that were signed are the amount that is read, of whichever type. [`Style::forward`] settles the type.

use super::json::{Kind, Member, Object, Value};
use super::json_names::{Names, Sets};
use super::json_rendering::{Style, is_signed_by_bingx};
use super::json_text::Text;

/// A double tells all decimal numbers of so many digits apart.
const EXACT_DIGITS: usize = 15;
/// With so many digits in its exponent a number is far from the bounds of a double.
const EXPONENT_DIGITS: usize = 2;
/// How clients write the literals; as the text of a string each could be either.
const LITERALS: [&str; 6] = ["true", "false", "null", "True", "False", "None"];

impl Style {
    /// Writes the text that is signed for `object` into `room`, unless a body of another meaning shares it.
    ///
    /// `names` are the parameters that may occur, for the styles whose text does not separate them.
    pub(crate) fn guard(
        self,
        object: Object<'_>,
        names: &Names,
        sets: &Sets,
        room: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        room.clear();
        self.write(object, room);
        match self {
            Self::BingX => object
                .members()
                .filter(is_signed_by_bingx)
                .try_for_each(|member| bingx_member(&member)),
            Self::Upbit => {
                let first = object.members().next();
                let set = sets
                    .iter()
                    .find(|(name, _)| first.as_ref().is_some_and(|first| first.name == **name));
                object.members().try_for_each(|member| match set {
                    None => upbit_member(&member),
                    Some((_, set)) => closed_member(&member, set),
                })?;
                if is_escaped_target(room) {
                    return Err("a JSON string holds `%` and two digits, as a query could");
                }
                Ok(())
            }
            Self::CryptoCom | Self::CryptoComPython if names.begin(room) => {
                names.guard(object, room)
            }
            Self::CryptoCom | Self::CryptoComPython => {
                let set = sets.iter().find(|(name, _)| room.starts_with(name.as_bytes()));
                set.map_or(names, |(_, set)| set).guard(object, room)
            }
        }
    }
}

/// With one `=` after each name and none in any name, a text splits at each `&` whose piece holds a `=`.
fn bingx_member(member: &Member<'_>) -> Result<(), &'static str> {
    name_of_a_pair(member.name)?;
    match member.value.kind() {
        Kind::Array => member.value.elements().try_for_each(quoted_element),
        Kind::String
            if member.value.text().is_some_and(|text| text.chars().next() == Some('[')) =>
        {
            Err("a JSON string is signed like an array")
        }
        Kind::String | Kind::Number | Kind::True | Kind::False | Kind::Null | Kind::Object => {
            value_of_a_pair(member.value)
        }
    }
}

/// Strings of an array stand in quotes, so they keep their type and may hold what separates pairs.
fn quoted_element(value: Value<'_>) -> Result<(), &'static str> {
    match value.kind() {
        Kind::Object | Kind::Array => Err("a JSON array holds another or an object"),
        Kind::String if value.text().is_some_and(|text| text.chars().any(|char| char == '"')) => {
            Err("a string of a JSON array holds a quote")
        }
        Kind::String | Kind::Number | Kind::True | Kind::False | Kind::Null => Ok(()),
    }
}

fn upbit_member(member: &Member<'_>) -> Result<(), &'static str> {
    name_of_a_pair(member.name)?;
    if ends_in_brackets(member.name) {
        return Err("the name of a JSON member is signed like an array's");
    }
    if member.value.kind() != Kind::Array {
        return value_of_a_pair(member.value);
    }
    if member.value.elements().next().is_none() {
        return Err("an empty JSON array is not in the signed text");
    }
    member.value.elements().try_for_each(value_of_a_pair)
}

/// Whether a text could stand in a target as it is, with escapes that mean something else there.
fn is_escaped_target(text: &[u8]) -> bool {
    let is_whole = |place: usize| {
        let digits = text.get(place + 1..place + 3).unwrap_or_default();
        digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit)
    };
    let mut escapes = memchr::memchr_iter(b'%', text).peekable();
    escapes.peek().is_some()
        && text.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#')
        && escapes.all(is_whole)
}

/// In a closed set a reader finds a member only where one of its names stands, so that a string may hold others.
fn closed_member(member: &Member<'_>, set: &Names) -> Result<(), &'static str> {
    let mut buffer = Vec::new();
    member.name.write(&mut buffer);
    if !set.hold(&buffer) {
        return Err("a JSON member stands beside others than the recipe says");
    }
    scalar(member.value)?;
    let Some(text) = member.value.text() else { return Ok(()) };
    buffer.clear();
    text.write(&mut buffer);
    let mut pieces = buffer.split(|byte| *byte == b'&').skip(1);
    let names =
        |piece: &[u8]| piece.split(|byte| *byte == b'=').next().is_some_and(|name| set.hold(name));
    if pieces.any(|piece| piece.contains(&b'=') && names(piece)) {
        return Err("a JSON string is signed like two members");
    }
    Ok(())
}

fn ends_in_brackets(name: Text<'_>) -> bool {
    let mut ends = ['\0'; 2];
    name.chars().for_each(|char| ends = [ends[1], char]);
    ends == ['[', ']']
}

fn name_of_a_pair(name: Text<'_>) -> Result<(), &'static str> {
    if name.chars().any(|char| matches!(char, '&' | '=')) {
        return Err("the name of a JSON member holds `&` or `=`");
    }
    Ok(())
}

fn value_of_a_pair(value: Value<'_>) -> Result<(), &'static str> {
    scalar(value)?;
    let Some(text) = value.text() else { return Ok(()) };
    // An escape could stand for one.
    if text.plain().is_some_and(|plain| memchr::memchr(b'&', plain.as_bytes()).is_none()) {
        return Ok(());
    }
    let mut split = false;
    for char in text.chars() {
        match char {
            '&' => split = true,
            '=' if split => return Err("a JSON string is signed like two members"),
            _ => {}
        }
    }
    Ok(())
}

/// Takes a value that is told apart by its bare text, but for a number and the string of its digits.
pub(super) fn scalar(value: Value<'_>) -> Result<(), &'static str> {
    match value.kind() {
        Kind::Object | Kind::Array => Err("a JSON array or object stands where none can be signed"),
        Kind::Number if !is_exact(value.raw()) => {
            Err("a JSON number has more digits than all readers keep: send it as a string")
        }
        Kind::String
            if value.text().is_some_and(|text| LITERALS.iter().any(|word| text == **word)) =>
        {
            Err("a JSON string is signed like a literal")
        }
        Kind::String | Kind::Number | Kind::True | Kind::False | Kind::Null => Ok(()),
    }
}

/// Whether reading a number's lexeme as a double keeps all its digits.
fn is_exact(lexeme: &str) -> bool {
    let (mantissa, exponent) = lexeme.split_once(['e', 'E']).unwrap_or((lexeme, ""));
    let digits = mantissa.bytes().filter(u8::is_ascii_digit);
    let exponent = exponent.bytes().filter(u8::is_ascii_digit);
    digits.skip_while(|digit| *digit == b'0').count() <= EXACT_DIGITS
        && exponent.count() <= EXPONENT_DIGITS
}

#[cfg(test)]
#[cfg(feature = "server")] // serde_json is the reference
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::dialect::json::{kept as parse, kept_object as object};

    fn guarded(style: Style, names: &[&str], body: &str) -> Result<String, &'static str> {
        let mut room = b"of the request before".to_vec();
        let names = Names::new(names).unwrap();
        style.guard(object(body.as_bytes()).unwrap(), &names, &Sets::default(), &mut room)?;
        Ok(String::from_utf8(room).unwrap())
    }

    #[test]
    fn pairs_that_another_body_could_share_are_refused() {
        for body in [
            r#"{"a&b":1}"#,
            r#"{"a=b":1}"#,
            r#"{"a":"1&b=2"}"#,
            r#"{"a":"1\u0026b\u003d2"}"#,
            r#"{"a":"1&b&c=2"}"#,
            r#"{"a":"true"}"#,
            r#"{"a":"null"}"#,
            r#"{"a":{}}"#,
            r#"{"a":[[1]]}"#,
            r#"{"a":[{}]}"#,
            r#"{"a":1234567890123456}"#,
            r#"{"a":1e100}"#,
        ] {
            assert!(guarded(Style::BingX, &[], body).is_err(), "{body}");
            assert!(guarded(Style::Upbit, &[], body).is_err(), "{body}");
        }
        for body in [r#"{"a":"[1]"}"#, r#"{"a":["x\",\"y"]}"#] {
            assert!(guarded(Style::BingX, &[], body).is_err(), "{body}");
        }
        for body in [r#"{"a[]":"x"}"#, r#"{"a":[]}"#, r#"{"a":["x&a[]=y"]}"#, r#"{"a":["true"]}"#] {
            assert!(guarded(Style::Upbit, &[], body).is_err(), "{body}");
        }
    }

    #[test]
    fn what_only_one_body_can_be_signed_like_passes() {
        for body in [
            "{}",
            r#"{"a":"1&2","b":"x=y=z","c":true,"d":"é漢","e":"","n":null}"#,
            r#"{"a":123456789012345,"b":0.000000012345,"c":"1234567890123456789","d":1e-7}"#,
        ] {
            for style in [Style::BingX, Style::Upbit] {
                assert!(guarded(style, &[], body).is_ok(), "{style:?} {body}");
            }
        }
        let lists = r#"{"a":["true","x,y","1"],"b":[1,12345678901234567],"c":[]}"#;
        assert_eq!(
            guarded(Style::BingX, &[], lists).unwrap(),
            r#"a=["true","x,y","1"]&b=[1,12345678901234567]&c=[]"#
        );
        assert_eq!(guarded(Style::Upbit, &[], r#"{"a":["x","y&z"]}"#).unwrap(), "a[]=x&a[]=y&z");
    }

    #[test]
    fn run_together_names_and_values_that_another_body_could_share_are_refused() {
        let names = ["a", "ab", "bc", "bcd", "list[]", "words[X|XY|Y]", "xb", "z[{}]"];
        for body in [
            r#"{"other":1}"#,
            r#"{"a":"bc"}"#,
            r#"{"a":"xbc"}"#,
            r#"{"a":"xlist"}"#,
            r#"{"a":"b"}"#,
            r#"{"a":"x","bcd":1}"#,
            r#"{"a":"True"}"#,
            r#"{"a":"false"}"#,
            r#"{"a":[1]}"#,
            r#"{"a":{"bc":1}}"#,
            r#"{"a":1234567890123456}"#,
            r#"{"list":"x"}"#,
            r#"{"list":[1,2]}"#,
            r#"{"list":[""]}"#,
            r#"{"words":["X","Y"]}"#,
            r#"{"words":["Z"]}"#,
            r#"{"words":[1]}"#,
            r#"{"z":[{}]}"#,
            r#"{"z":["x"]}"#,
            r#"{"z":[{"a":1},{"bc":1}]}"#,
            r#"{"z":[{"z":[{"a":1}]}]}"#,
        ] {
            assert!(guarded(Style::CryptoCom, &names, body).is_err(), "{body}");
            assert!(guarded(Style::CryptoComPython, &names, body).is_err(), "{body}");
        }
        for (body, text) in [
            ("{}", ""),
            (r#"{"a":"y","bc":1}"#, "aybc1"),
            (r#"{"ab":"","bc":""}"#, "abbc"),
            (r#"{"list":[],"words":["Y","X"]}"#, "listwordsYX"),
            (r#"{"list":["é x"],"words":["XY"]}"#, "listé xwordsXY"),
            (r#"{"z":[{"a":1,"bc":2},{"a":3,"bc":4}]}"#, "za1bc2a3bc4"),
            (r#"{"z":[{"a":1},{"a":3}]}"#, "za1a3"),
            (r#"{"a":true,"bc":null}"#, "atruebcnull"),
        ] {
            assert_eq!(guarded(Style::CryptoCom, &names, body).as_deref(), Ok(text), "{body}");
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        for names in [&["a", "a"][..], &["a", "a[]"], &[""], &["[]"], &["a[x"], &["a[x|]"]] {
            assert!(Names::new(names).is_err(), "{names:?}");
        }
    }

    #[test]
    fn recorded_bodies_pass() {
        for (name, style) in [("cryptocom", Style::CryptoCom), ("upbit", Style::Upbit)] {
            let text = std::fs::read_to_string(format!("tests/vectors/{name}.jsonl")).unwrap();
            let dialect = crate::dialect::builtin(name).unwrap().unwrap();
            for line in text.lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                let Some(body) = line["body"].as_str().filter(|body| !body.is_empty()) else {
                    continue;
                };
                let body = object(body.as_bytes()).unwrap();
                let params = body.member("params").map_or(body, |it| it.value.object().unwrap());
                let path = line["target"].as_str().unwrap();
                let names = dialect.names_of(path.trim_start_matches("/exchange/v1/"));
                let verdict = style.guard(params, names, &dialect.sets, &mut Vec::new());
                assert_eq!(verdict, Ok(()), "{line}");
            }
        }
    }

    /// What a body means, whatever its order, its spelling, and whether a number is a string.
    fn meaning(value: Value<'_>) -> serde_json::Value {
        match value.kind() {
            Kind::Object => {
                let members =
                    value.object().unwrap().members().map(|member| {
                        (member.name.chars().collect::<String>(), meaning(member.value))
                    });
                serde_json::Value::Object(members.collect())
            }
            Kind::Array => value.elements().map(meaning).collect(),
            Kind::Number => value.raw().into(),
            Kind::String | Kind::True | Kind::False | Kind::Null => {
                serde_json::from_str(value.raw()).unwrap()
            }
        }
    }

    /// All bodies of one or two members with these names and values, beside the strings of `bytes` up to a length.
    fn bodies(names: &[&str], bytes: &str, longest: usize, others: &[&str]) -> Vec<String> {
        let mut values: Vec<String> = others.iter().map(|&value| value.to_owned()).collect();
        let mut grown = vec![String::new()];
        for _ in 0..=longest {
            values.extend(grown.iter().map(|text| format!("\"{text}\"")));
            grown = grown
                .iter()
                .flat_map(|text| bytes.chars().map(move |char| format!("{text}{char}")))
                .collect();
        }
        let members = |name| values.iter().map(move |value| format!("\"{name}\":{value}"));
        let mut all = vec!["{}".to_owned()];
        for (place, name) in names.iter().enumerate() {
            for one in members(name) {
                all.push(format!("{{{one}}}"));
                for other in names.iter().skip(place + 1) {
                    all.extend(members(other).map(|two| format!("{{{one},{two}}}")));
                }
            }
        }
        all
    }

    /// Bodies that pass with one text have one meaning and are forwarded as one. Returns how many passed.
    fn no_text_is_shared(style: Style, names: &[&str], bodies: &[String]) -> usize {
        no_text_is_shared_beside(style, names, &Sets::default(), bodies)
    }

    fn no_text_is_shared_beside(
        style: Style,
        names: &[&str],
        sets: &Sets,
        bodies: &[String],
    ) -> usize {
        let names = Names::new(names).unwrap();
        let mut seen = HashMap::new();
        let mut count = 0;
        for body in bodies {
            let parsed = object(body.as_bytes()).unwrap();
            let mut text = Vec::new();
            if style.guard(parsed, &names, sets, &mut text).is_err() {
                continue;
            }
            let mut forwarded = Vec::new();
            style.forward(parsed, &mut forwarded);
            let meant = meaning(parsed.value());
            assert_eq!(meaning(parse(&forwarded).unwrap()), meant, "{body}");
            let (first, one, meaning) =
                seen.entry(text).or_insert((body, forwarded.clone(), meant.clone()));
            assert_eq!((&*meaning, &*one), (&meant, &forwarded), "{first} {body}");
            count += 1;
        }
        count
    }

    const SCALARS: [&str; 8] =
        ["1", "\"1\"", "true", "\"true\"", "\"True\"", "null", "\"null\"", "{\"a\":1}"];

    #[test]
    fn no_bingx_text_is_shared() {
        let lists = [
            "[]",
            "\"[]\"",
            "[1]",
            "[\"1\"]",
            "\"[1]\"",
            r#""[\"1\"]""#,
            r#"["1","1"]"#,
            r#"["1\",\"1"]"#,
            "[1,1]",
            "\"[1,1]\"",
            r#"["1,1"]"#,
            r#"["1&b=1"]"#,
            r#""[\"1""#,
            r#""1\"]""#,
            "[[1]]",
            "[{}]",
        ];
        let names = ["a", "b", "a&b", "a=", ""];
        let bodies = bodies(&names, "ab=&", 3, &[&SCALARS[..], &lists].concat());
        assert!(no_text_is_shared(Style::BingX, &[], &bodies) > 10_000);
    }

    #[test]
    fn no_upbit_text_is_shared() {
        let lists = [
            "[]",
            "[1]",
            "[\"1\"]",
            r#"["1","1"]"#,
            r#"["1&a[]=1"]"#,
            r#"["1&b=1"]"#,
            r#""1&a[]=1""#,
            r#""1&b=1""#,
            "[\"true\"]",
            "[true]",
            "[[1]]",
            "[{}]",
            "[\"\"]",
        ];
        let names = ["a", "b", "", "a&b", "a=", "a[]", "a[][]"];
        let bodies = bodies(&names, "ab=&", 3, &[&SCALARS[..], &lists].concat());
        assert!(no_text_is_shared(Style::Upbit, &[], &bodies) > 10_000);
    }

    #[test]
    fn no_crypto_com_text_is_shared() {
        let lists = [
            "[]",
            "[1]",
            "[\"\"]",
            "[\"X\"]",
            "[\"XX\"]",
            "[\"XX\",\"X\"]",
            "[\"X\",\"XX\"]",
            "[\"X\",\"X\"]",
            "[\"Xl\"]",
            "[\"X\",\"l\"]",
            "[{}]",
            "[{},{}]",
            "[[]]",
            r#"[{"a":"","b":""}]"#,
            r#"[{"a":""},{"b":""}]"#,
            r#"[{"b":""},{"a":""}]"#,
            r#"[{"a":""},{"a":""}]"#,
            r#"[{"a":""}]"#,
            r#"[{"a":"","w":[]}]"#,
            r#"[{"a":"X","b":1}]"#,
            r#"[{"o":[{"a":""}]}]"#,
            r#"[{"o":[{"a":""}]},{"a":""}]"#,
            r#"[{"o":[{"a":""},{"a":""}]}]"#,
        ];
        let names = ["a", "ab", "b", "l", "o", "w", "wX"];
        let bodies = bodies(&names, "abXl", 2, &[&SCALARS[..], &lists].concat());
        let names = ["a", "ab", "b", "ba", "l[]", "o[{}]", "w[X|XX|l]"];
        for style in [Style::CryptoCom, Style::CryptoComPython] {
            assert!(no_text_is_shared(style, &names, &bodies) > 300);
        }
    }

    fn sets(all: &[(&str, &[&str])]) -> Sets {
        all.iter().map(|(name, names)| ((*name).into(), Names::new(names).unwrap())).collect()
    }

    #[test]
    fn no_text_is_shared_with_a_closed_set() {
        let values = [
            "[]",
            "[1]",
            r#""1&a=1""#,
            r#""1&b=1""#,
            r#""1&c=1""#,
            r#""b&b""#,
            r#""{'a': 1}""#,
            r#"{"a":"1"}"#,
            r#"{"a":[1,"1"]}"#,
            r#"{"b":{"a":null}}"#,
            r#"{"a":"'"}"#,
            "{}",
        ];
        let names = ["a", "b", "c", "ab", "a[]"];
        let all = bodies(&names, "abc=&", 3, &[&SCALARS[..], &values].concat());
        let closed = sets(&[("a", &["a", "b"])]);
        assert!(no_text_is_shared_beside(Style::Upbit, &[], &closed, &all) > 5_000);
        let closed = sets(&[("a", &["a{}", "b"]), ("c", &["c", "b"])]);
        for style in [Style::CryptoCom, Style::CryptoComPython] {
            let count = no_text_is_shared_beside(style, &["ab", "bc"], &closed, &all);
            assert!(count > 100, "{count}");
        }
    }

    #[test]
    fn without_a_closed_set_another_body_could_be_signed_like_it() {
        let one = r#"{"a":"1&x=2"}"#;
        let other = r#"{"a":"1","x":"2"}"#;
        let text = |body: &str| {
            let mut out = Vec::new();
            Style::Upbit.write(object(body.as_bytes()).unwrap(), &mut out);
            out
        };
        assert_eq!(text(one), text(other));
        let verdicts = |sets: &Sets| {
            let names = Names::new(&[""; 0]).unwrap();
            let judge = |body: &str| {
                let body = object(body.as_bytes()).unwrap();
                Style::Upbit.guard(body, &names, sets, &mut Vec::new()).is_ok()
            };
            (judge(one), judge(other))
        };
        assert_eq!(verdicts(&Sets::default()), (false, true));
        assert_eq!(verdicts(&sets(&[("a", &["a"])])), (true, false));
    }
}
