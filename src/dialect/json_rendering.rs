//! The texts that exchanges sign in place of a JSON body, each a plain walk over its members.
//!
//! None of them is injective: two documents of different meaning can have one text, so a recipe that signs one
//! takes only bodies that pass the guard of their style.

use super::json::{Kind, MAX_DEPTH, Member, Object, Value};
use super::json_print;
use super::json_text::Text;
use super::template::Sink;

/// One exchange's way to turn a JSON object into the text that is signed.
///
/// Numbers are written as they stand in the body: any other spelling would be another text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Style {
    /// `BingX`: `name=value` joined by `&` in the order of names, but for `signature`; strings bare,
    /// arrays as `["a","b"]` or `[1,2]` without spaces.
    BingX,
    /// Crypto.com: names in order, each before its value, lists element by element, the objects in them likewise. Any
    /// other object as Python prints it.
    CryptoCom,
    /// Crypto.com as clients in Python sign it: `True` and `False` for the two literals.
    CryptoComPython,
    /// Upbit: `name=value` joined by `&` as written, arrays as `name[]=a&name[]=b`.
    Upbit,
}

impl Style {
    /// Every style, with the name that recipes use.
    pub(crate) const ALL: [(Self, &'static str); 4] = [
        (Self::BingX, "bingx"),
        (Self::CryptoCom, "crypto-com"),
        (Self::CryptoComPython, "crypto-com-python"),
        (Self::Upbit, "upbit"),
    ];

    /// The style of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(style, _)| *style)
    }

    /// Writes the text that is signed for `object`.
    pub(crate) fn write(self, object: Object<'_>, sink: &mut impl Sink) {
        match self {
            Self::BingX => write_bingx(object, sink),
            Self::CryptoCom | Self::CryptoComPython => self.write_bare(object, 0, sink),
            Self::Upbit => write_upbit(object, sink),
        }
    }

    /// Names and values with nothing between them.
    fn write_bare(self, object: Object<'_>, depth: usize, sink: &mut impl Sink) {
        for member in object.sorted().iter() {
            member.name.write(sink);
            match member.value.kind() {
                Kind::Object => json_print::write(member.value, sink),
                Kind::Array
                | Kind::String
                | Kind::Number
                | Kind::True
                | Kind::False
                | Kind::Null => self.write_bare_value(member.value, depth, sink),
            }
        }
    }

    fn write_bare_value(self, value: Value<'_>, depth: usize, sink: &mut impl Sink) {
        // A document that was read whole is no deeper.
        if depth > MAX_DEPTH {
            return;
        }
        if let Some(object) = value.object() {
            return self.write_bare(object, depth + 1, sink);
        }
        if value.kind() != Kind::Array {
            return self.write_scalar(value, sink);
        }
        for element in value.elements() {
            self.write_bare_value(element, depth + 1, sink);
        }
    }

    /// A string unescaped, anything else as it stands.
    fn write_scalar(self, value: Value<'_>, sink: &mut impl Sink) {
        match (self, value.kind()) {
            (_, Kind::String) => value.text().map_or((), |text| text.write(sink)),
            (Self::CryptoComPython, Kind::True) => sink.put(b"True"),
            (Self::CryptoComPython, Kind::False) => sink.put(b"False"),
            (
                Self::BingX | Self::CryptoCom | Self::CryptoComPython | Self::Upbit,
                Kind::Object | Kind::Array | Kind::Number | Kind::True | Kind::False | Kind::Null,
            ) => sink.put(value.raw().as_bytes()),
        }
    }
}

/// The members that `BingX` signs: all but the one that holds the signature.
pub(super) fn is_signed_by_bingx(member: &Member<'_>) -> bool {
    member.name != *"signature"
}

fn write_bingx(object: Object<'_>, sink: &mut impl Sink) {
    let mut pairs = Pairs::default();
    for member in object.sorted().iter().filter(is_signed_by_bingx) {
        pairs.name(member.name, "=", sink);
        if member.value.kind() != Kind::Array {
            Style::BingX.write_scalar(member.value, sink);
            continue;
        }
        sink.put(b"[");
        for (place, element) in member.value.elements().enumerate() {
            let quote: &[u8] = if element.kind() == Kind::String { b"\"" } else { b"" };
            sink.put(if place > 0 { b"," } else { b"" });
            sink.put(quote);
            Style::BingX.write_scalar(element, sink);
            sink.put(quote);
        }
        sink.put(b"]");
    }
}

fn write_upbit(object: Object<'_>, sink: &mut impl Sink) {
    let mut pairs = Pairs::default();
    for member in object.members() {
        if member.value.kind() != Kind::Array {
            pairs.name(member.name, "=", sink);
            Style::Upbit.write_scalar(member.value, sink);
            continue;
        }
        for element in member.value.elements() {
            pairs.name(member.name, "[]=", sink);
            Style::Upbit.write_scalar(element, sink);
        }
    }
}

/// Joins pairs with `&`.
#[derive(Default)]
struct Pairs {
    started: bool,
}

impl Pairs {
    fn name(&mut self, name: Text<'_>, equals: &str, sink: &mut impl Sink) {
        if self.started {
            sink.put(b"&");
        }
        self.started = true;
        name.write(sink);
        sink.put(equals.as_bytes());
    }
}

#[cfg(test)]
#[cfg(feature = "server")] // serde_json is the reference
mod tests {
    use std::collections::BTreeMap;

    use hmac::{Hmac, KeyInit, Mac};
    use proptest::prelude::*;
    use serde_json::Value as Line;
    use sha2::{Digest, Sha256, Sha512};

    use super::*;
    use crate::dialect::json::kept_object as object;

    fn rendered(style: Style, body: &str) -> String {
        let mut out = Vec::new();
        style.write(object(body.as_bytes()).unwrap(), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn recorded(name: &str) -> Vec<Line> {
        let text = std::fs::read_to_string(format!("tests/vectors/{name}.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn bingx_sorts_members_and_leaves_the_signature_out() {
        let body =
            r#"{"b":"x y","a":1.50,"signature":"s","B":true,"l":["a","b"],"n":[1, 2],"e":[]}"#;
        assert_eq!(rendered(Style::BingX, body), r#"B=true&a=1.50&b=x y&e=[]&l=["a","b"]&n=[1,2]"#);
        assert_eq!(rendered(Style::BingX, "{}"), "");
    }

    #[test]
    fn crypto_com_runs_names_and_values_together() {
        let body = r#"{"b":[{"y":1,"x":"z"},"q",[2]],"a":null,"c":{"d":{"e":[true]}},"d":true}"#;
        let printed = "anullbxzy1q2c{'d': {'e': [True]}}d";
        assert_eq!(rendered(Style::CryptoCom, body), format!("{printed}true"));
        assert_eq!(rendered(Style::CryptoComPython, body), format!("{printed}True"));
    }

    #[test]
    fn upbit_keeps_the_order_and_repeats_the_names_of_arrays() {
        let body = r#"{"market":"KRW-BTC","states":["wait","watch"],"limit":1e-7,"f":false}"#;
        assert_eq!(
            rendered(Style::Upbit, body),
            "market=KRW-BTC&states[]=wait&states[]=watch&limit=1e-7&f=false"
        );
    }

    #[test]
    fn styles_are_found_by_the_names_that_recipes_use() {
        for (style, name) in Style::ALL {
            assert_eq!(Style::named(name), Some(style));
        }
        assert_eq!(Style::named("binance"), None);
    }

    #[test]
    fn names_are_sorted_and_written_by_what_they_decode_to() {
        assert_eq!(rendered(Style::BingX, r#"{"\u0062":"\u00e9","a":"\n"}"#), "a=\n&b=é");
    }

    #[test]
    fn every_recorded_crypto_com_request_verifies() {
        let lines = recorded("cryptocom");
        assert_eq!(lines.len(), 20);
        for line in &lines {
            let body = object(line["body"].as_str().unwrap().as_bytes()).unwrap();
            let member = |name| body.member(name).unwrap().value;
            let verifies = [Style::CryptoCom, Style::CryptoComPython].iter().any(|style| {
                let secret = line["secret"].as_str().unwrap();
                let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
                for name in ["method", "id", "api_key"] {
                    style.write_scalar(member(name), &mut mac);
                }
                style.write(member("params").object().unwrap(), &mut mac);
                style.write_scalar(member("nonce"), &mut mac);
                let signature = member("sig").text().unwrap().plain().unwrap();
                let signature = data_encoding::HEXLOWER.decode(signature.as_bytes()).unwrap();
                mac.verify_slice(&signature).is_ok()
            });
            assert!(verifies, "{line}");
        }
    }

    #[test]
    fn every_recorded_upbit_body_has_the_hash_its_token_names() {
        let lines = recorded("upbit");
        let mut bodies = 0;
        for line in lines.iter().filter(|line| line["body"] != "") {
            let token = line["headers"]["Authorization"].as_str().unwrap();
            let claims = token.split('.').nth(1).unwrap();
            let claims = data_encoding::BASE64URL_NOPAD.decode(claims.as_bytes()).unwrap();
            let claims: Line = serde_json::from_slice(&claims).unwrap();
            let mut digest = Sha512::new();
            Style::Upbit
                .write(object(line["body"].as_str().unwrap().as_bytes()).unwrap(), &mut digest);
            let hash = data_encoding::HEXLOWER.encode(&digest.finalize());
            assert_eq!(claims["query_hash"], hash, "{line}");
            bodies += 1;
        }
        assert_eq!(bodies, 6);
    }

    /// A body that knows its own text, spelled with needless escapes and space where `odd`.
    #[derive(Clone, Debug)]
    enum Tree {
        Number(String),
        Word(&'static str),
        Text(String, bool),
        List(Vec<Self>),
        Members(BTreeMap<String, Self>, bool),
    }

    impl Tree {
        fn spelled(text: &str, odd: bool) -> String {
            let escaped = |char: char| format!("\\u{:04x}", u32::from(char));
            let plain = |char: char| if odd { escaped(char) } else { char.to_string() };
            format!("\"{}\"", text.chars().map(plain).collect::<String>())
        }

        fn json(&self) -> String {
            match self {
                Self::Number(lexeme) => lexeme.clone(),
                Self::Word(word) => (*word).to_owned(),
                Self::Text(text, odd) => Self::spelled(text, *odd),
                Self::List(all) => {
                    format!("[{}]", all.iter().map(Self::json).collect::<Vec<_>>().join(" , "))
                }
                Self::Members(all, odd) => {
                    let space = if *odd { "\n" } else { "" };
                    let all = all.iter().rev().map(|(name, value)| {
                        format!(
                            "{space}{}{space}:{space}{}",
                            Self::spelled(name, *odd),
                            value.json()
                        )
                    });
                    format!("{{{}{space}}}", all.collect::<Vec<_>>().join(","))
                }
            }
        }

        fn bare(&self) -> String {
            match self {
                Self::Number(text) | Self::Text(text, _) => text.clone(),
                Self::Word(word) => (*word).to_owned(),
                Self::List(all) => all.iter().map(Self::bare).collect(),
                Self::Members(all, _) => {
                    let value = |value: &Self| match value {
                        Self::Members(..) => value.printed(),
                        Self::Number(_) | Self::Word(_) | Self::Text(..) | Self::List(_) => {
                            value.bare()
                        }
                    };
                    all.iter().flat_map(|(name, it)| [name.clone(), value(it)]).collect()
                }
            }
        }

        /// As Python prints it; the body is spelled with its members from last to first.
        fn printed(&self) -> String {
            match self {
                Self::Number(text) => text.clone(),
                Self::Text(text, _) => format!("'{text}'"),
                Self::Word("true") => "True".to_owned(),
                Self::Word("false") => "False".to_owned(),
                Self::Word(_) => "None".to_owned(),
                Self::List(all) => {
                    format!("[{}]", all.iter().map(Self::printed).collect::<Vec<_>>().join(", "))
                }
                Self::Members(all, _) => {
                    let one = |(name, it): (&String, &Self)| format!("'{name}': {}", it.printed());
                    let all: Vec<_> = all.iter().rev().map(one).collect();
                    format!("{{{}}}", all.join(", "))
                }
            }
        }

        fn quoted(&self) -> String {
            match self {
                Self::Text(text, _) => format!("\"{text}\""),
                Self::Number(_) | Self::Word(_) | Self::List(_) | Self::Members(..) => self.bare(),
            }
        }
    }

    fn leaf() -> impl Strategy<Value = Tree> {
        prop_oneof![
            "-?[1-9][0-9]{0,3}(\\.[0-9]{1,3})?(e-?[0-9])?".prop_map(Tree::Number),
            prop::sample::select(vec!["true", "false", "null"]).prop_map(Tree::Word),
            ("[a-z&=é漢]{0,5}", any::<bool>()).prop_map(|(text, odd)| Tree::Text(text, odd)),
        ]
    }

    fn members(value: BoxedStrategy<Tree>) -> impl Strategy<Value = BTreeMap<String, Tree>> {
        prop::collection::btree_map("[a-cA-C_é]{0,2}", value, 0..6)
    }

    proptest! {
        #[test]
        fn flat_bodies_are_written_as_a_straight_reference_writes_them(
            all in members(prop_oneof![leaf(), prop::collection::vec(leaf(), 0..4).prop_map(Tree::List)].boxed()),
            odd in any::<bool>(),
        ) {
            let mut bingx = Vec::new();
            let mut upbit = Vec::new();
            for (name, value) in &all {
                match value {
                    Tree::List(all) => {
                        let quoted: Vec<_> = all.iter().map(Tree::quoted).collect();
                        bingx.push(format!("{name}=[{}]", quoted.join(",")));
                        // The body is spelled with its members from last to first.
                        upbit.extend(all.iter().rev().map(|it| format!("{name}[]={}", it.bare())));
                    }
                    Tree::Number(_) | Tree::Word(_) | Tree::Text(..) | Tree::Members(..) => {
                        bingx.push(format!("{name}={}", value.bare()));
                        upbit.push(format!("{name}={}", value.bare()));
                    }
                }
            }
            upbit.reverse();
            let body = Tree::Members(all, odd).json();
            prop_assert_eq!(rendered(Style::BingX, &body), bingx.join("&"));
            prop_assert_eq!(rendered(Style::Upbit, &body), upbit.join("&"));
        }

        #[test]
        fn nested_bodies_are_run_together_as_a_straight_reference_does(
            all in members(leaf().prop_recursive(3, 16, 4, |inner| prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Tree::List),
                (members(inner), any::<bool>()).prop_map(|(all, odd)| Tree::Members(all, odd)),
            ]).boxed()),
            odd in any::<bool>(),
        ) {
            let tree = Tree::Members(all, odd);
            prop_assert_eq!(rendered(Style::CryptoCom, &tree.json()), tree.bare());
        }
    }
}
