//! The parameters that a recipe knows, where the signed text runs names and values together.
//!
//! `{"ab":"c"}` and `{"a":"bc"}` are both signed as `abc`. The text alone says which is meant only to a reader who
//! knows the names: from the left, each place where a known name begins starts a member, the longest name first, and
//! all up to the next is its value. A body passes if that reader finds exactly its members, so no two bodies of
//! different meaning pass with one text. The price: a value that holds a known name is refused.

use std::cmp::Reverse;

use super::json::{Elements, Kind, Member, Object, Value};
use super::json_guard::scalar;
use super::json_print;
use super::json_text::Text;

/// What a parameter holds.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Holds {
    Scalar,
    /// A list of at most one scalar: the text does not say where an element ends.
    List,
    /// A list of these words.
    Words(Box<[Box<str>]>),
    /// A list of objects that hold scalars and lists.
    Objects,
    /// An object, as Python prints it.
    Printed,
}

/// Closed sets: a text that begins with a set's name holds its parameters alone.
pub(crate) type Sets = Box<[(Box<str>, Names)]>;

/// A set of known parameters.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// By first byte; longer names before shorter.
    known: Box<[Box<[Name]>]>,
}

#[derive(Clone, Debug)]
struct Name {
    text: Box<str>,
    holds: Holds,
}

impl Names {
    /// Reads names: `price`; `list[]` holds a list of at most one, `list[A|B]` a list of those words, `list[{}]` a
    /// list of objects, and `name{}` an object as Python prints it.
    pub(crate) fn new(names: &[impl AsRef<str>]) -> Result<Self, String> {
        let mut known = vec![Vec::<Name>::new(); 256];
        for written in names.iter().map(AsRef::as_ref) {
            let (name, holds) = holds(written)?;
            let first = name.bytes().next().and_then(|first| known.get_mut(usize::from(first)));
            let alike = first.ok_or_else(|| format!("`{written}` is no name"))?;
            if alike.iter().any(|known| *known.text == *name) {
                return Err(format!("`{name}` stands twice among the names"));
            }
            alike.push(Name { text: name.into(), holds });
            alike.sort_by_key(|name| Reverse(name.text.len()));
        }
        Ok(Self { known: known.into_iter().map(Vec::into_boxed_slice).collect() })
    }

    /// Takes `params`, whose signed text is `text`, if a reader who knows these names finds its members there.
    pub(super) fn guard(&self, params: Object<'_>, text: &[u8]) -> Result<(), &'static str> {
        let mut reader = Reader { names: self, text };
        let mut ended = false;
        for member in params.sorted().iter() {
            if ended {
                return Err("a JSON member is signed like one of the objects before it");
            }
            if *reader.member(&member)? == Holds::Objects {
                reader.objects(member.value)?;
                ended = true;
            }
        }
        Ok(())
    }

    /// Each of them, in order.
    pub(super) fn all(&self) -> Vec<&str> {
        let names = self.known.iter().flatten().map(|name| &*name.text);
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names
    }

    /// Whether `name` is one of them.
    pub(super) fn hold(&self, name: &[u8]) -> bool {
        self.longest(name).is_some_and(|known| known.text.len() == name.len())
    }

    /// Whether `text` begins with one of them.
    pub(super) fn begin(&self, text: &[u8]) -> bool {
        self.longest(text).is_some()
    }

    /// The longest name that `text` begins with.
    fn longest(&self, text: &[u8]) -> Option<&Name> {
        let alike = self.known.get(usize::from(*text.first()?))?;
        alike.iter().find(|name| text.starts_with(name.text.as_bytes()))
    }
}

fn holds(written: &str) -> Result<(&str, Holds), String> {
    if let Some(name) = written.strip_suffix("{}") {
        return Ok((name, Holds::Printed));
    }
    let Some((name, inside)) = written.split_once('[') else {
        return Ok((written, Holds::Scalar));
    };
    let inside = inside.strip_suffix(']').ok_or_else(|| format!("`{written}` is not closed"))?;
    let holds = match inside {
        "" => Holds::List,
        "{}" => Holds::Objects,
        words => {
            let mut words: Vec<Box<str>> = words.split('|').map(Box::from).collect();
            if words.iter().any(|word| word.is_empty()) {
                return Err(format!("`{written}` holds an empty word"));
            }
            words.sort_by_key(|word| Reverse(word.len()));
            Holds::Words(words.into())
        }
    };
    Ok((name, holds))
}

/// Reads the signed text from the left, beside the body that it was written from.
struct Reader<'n> {
    names: &'n Names,
    text: &'n [u8],
}

impl<'n> Reader<'n> {
    /// Passes a member, but for the objects of a list.
    fn member(&mut self, member: &Member<'_>) -> Result<&'n Holds, &'static str> {
        let known = self.names.longest(self.text).filter(|known| member.name == *known.text);
        let Some(Name { text, holds }) = known else {
            return Err("a JSON member is none of the recipe's names, or is signed like one");
        };
        self.text = self.text.get(text.len()..).unwrap_or_default();
        match holds {
            Holds::Scalar => self.scalar(member.value)?,
            Holds::List => self.list(member.value)?,
            Holds::Words(words) => self.words(words, member.value)?,
            Holds::Printed => {
                let length = printed_length(member.value)?;
                self.text = self.text.get(length..).unwrap_or_default();
            }
            Holds::Objects => {}
        }
        Ok(holds)
    }

    fn scalar(&mut self, value: Value<'_>) -> Result<(), &'static str> {
        scalar(value)?;
        self.value(length(value))
    }

    fn list(&mut self, list: Value<'_>) -> Result<(), &'static str> {
        let mut elements = elements(list)?;
        let Some(element) = elements.next() else { return Ok(()) };
        if elements.next().is_some() {
            return Err("the signed text does not separate the elements of a JSON list");
        }
        if length(element) == 0 {
            return Err("an empty string in a JSON list is signed like an empty list");
        }
        self.scalar(element)
    }

    /// Passes a list of words, each of them the longest that the list's text goes on with.
    fn words(&mut self, words: &[Box<str>], list: Value<'_>) -> Result<(), &'static str> {
        let whole = elements(list)?.map(length).sum();
        let mut rest = self.text.get(..whole).unwrap_or_default();
        for element in elements(list)? {
            let longest = words.iter().find(|word| rest.starts_with(word.as_bytes()));
            match (longest, element.text()) {
                (Some(longest), Some(word)) if word == **longest => {
                    rest = rest.get(longest.len()..).unwrap_or_default();
                }
                (Some(_) | None, _) => {
                    return Err("a JSON list holds another value than the recipe's words");
                }
            }
        }
        self.value(whole)
    }

    /// Passes a list of objects: a name not behind the last one in order begins the next object.
    fn objects(&mut self, list: Value<'_>) -> Result<(), &'static str> {
        let mut before: Option<Text<'_>> = None;
        for element in elements(list)? {
            let object = element.object().ok_or("a JSON list holds another value than objects")?;
            let members = object.sorted();
            let first =
                members.iter().next().ok_or("an empty JSON object is not in the signed text")?;
            if before.is_some_and(|before| before < first.name) {
                return Err("two JSON objects are signed like one");
            }
            for member in members.iter() {
                if *self.member(&member)? == Holds::Objects {
                    return Err("a JSON list of objects stands inside another");
                }
            }
            before = members.iter().next_back().map(|member| member.name);
        }
        Ok(())
    }

    /// Passes the text of a value, in which no known name may begin.
    fn value(&mut self, length: usize) -> Result<(), &'static str> {
        for _ in 0..length {
            if self.names.longest(self.text).is_some() {
                return Err("a JSON value is signed like a name");
            }
            self.text = self.text.get(1..).unwrap_or_default();
        }
        Ok(())
    }
}

/// How long an object is as Python prints it, where what is printed says all of it: its end and every type.
fn printed_length(value: Value<'_>) -> Result<usize, &'static str> {
    if value.kind() != Kind::Object {
        return Err("the parameter of a printed JSON object holds none");
    }
    let mut printed = Vec::new();
    json_print::write(value, &mut printed);
    json_print::guard(value)?;
    Ok(printed.len())
}

fn elements(list: Value<'_>) -> Result<Elements<'_>, &'static str> {
    match list.kind() {
        Kind::Array => Ok(list.elements()),
        Kind::Object | Kind::String | Kind::Number | Kind::True | Kind::False | Kind::Null => {
            Err("the parameter of a JSON list holds none")
        }
    }
}

/// How long the text of a scalar is; the literals are as long in Python.
fn length(value: Value<'_>) -> usize {
    match value.text() {
        Some(text) => match text.plain() {
            Some(plain) => plain.len(),
            None => text.chars().map(char::len_utf8).sum(),
        },
        None => value.raw().len(),
    }
}
