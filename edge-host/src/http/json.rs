//! JSON as clients send it, read by one strict reader.
//!
//! A body becomes a tree first. In the tree a number keeps its digits, no name stands twice in an object, and the
//! depth is bounded. Only then are the fields filled in ([`fill`]), where an object is an object: a list in its place
//! is refused, though a derived reader would take its elements by position.

use std::collections::HashSet;
use std::fmt;

use cart_core::limits;
use serde_json::value::RawValue;

use crate::raw_json::Members;

mod fill;
mod mend;

pub(super) use fill::{Canonical, fill, not_null};
pub(super) use mend::mistakes;

/// Objects and lists inside each other in a body: a variant as deep as it may be, and the body around it. It stays
/// far below what the strictest common readers of JSON take (64), also where a document stands inside others.
const DEPTH_MAX: usize = limits::VARIANT_DEPTH_MAX + 8;
/// Characters of a client's own words that a message repeats.
const SHOWN_CHARS_MAX: usize = 64;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    /// Its digits, as they were sent. A machine number would change some of them.
    Number(String),
    Text(String),
    /// A value of a query string, where a number and a text look the same.
    Word(String),
    List(Vec<Json>),
    /// In the order in which it was sent.
    Object(Vec<(String, Json)>),
    /// Stands for a value that was wrong, so that the rest can be read.
    Blank,
}

/// What is wrong with a document, and where.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) kind: Kind,
    pub(super) detail: String,
    /// From the inside out.
    path: Vec<String>,
}

/// Which kind of mistake it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Not JSON at all.
    NotJson,
    /// Deeper than any document of ours.
    TooDeep,
    /// A variant that is deeper than it may be.
    VariantTooDeep,
    /// A field that is not known.
    Unknown,
    /// A field that is not there.
    Missing(&'static str),
    /// Anything else.
    Wrong,
}

impl Mistake {
    fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), path: Vec::new() }
    }

    fn wrong(detail: impl Into<String>) -> Self {
        Self::new(Kind::Wrong, detail)
    }

    fn within(mut self, name: impl Into<String>) -> Self {
        self.path.push(name.into());
        self
    }

    /// The place as a JSON Pointer (RFC 6901), as a URI fragment.
    pub(super) fn pointer(&self) -> String {
        let mut pointer = "#".to_owned();
        for name in self.path.iter().rev() {
            pointer.push('/');
            pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        }
        pointer
    }

    /// The name of the innermost field.
    pub(super) fn field(&self) -> Option<&str> {
        self.path.first().map(String::as_str)
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Mistake {}

/// Reads a document.
pub(super) fn read(bytes: &[u8]) -> Result<Json, Mistake> {
    let raw: &RawValue = serde_json::from_slice(bytes).map_err(|error| {
        let place = format!("the mistake is in line {}, column {}", error.line(), error.column());
        Mistake::new(Kind::NotJson, format!("the body is not JSON: {place}"))
    })?;
    value(raw.get(), DEPTH_MAX)
}

/// Reads a value. Its form was checked with the whole document, except for what is inside a text.
fn value(text: &str, depth_left: usize) -> Result<Json, Mistake> {
    let inside = |open: u8| {
        let too_deep = || {
            Mistake::new(
                Kind::TooDeep,
                format!("at most {DEPTH_MAX} lists and objects are inside each other"),
            )
        };
        if matches!(open, b'{' | b'[') {
            depth_left.checked_sub(1).ok_or_else(too_deep)
        } else {
            Ok(depth_left)
        }
    };
    let first = text.as_bytes().first().copied().unwrap_or_default();
    let depth_left = inside(first)?;
    match first {
        b'{' => object(text, depth_left).map(Json::Object),
        b'[' => list(text, depth_left).map(Json::List),
        b'"' => serde_json::from_str(text).map(Json::Text).map_err(|_| broken_text()),
        b't' => Ok(Json::Bool(true)),
        b'f' => Ok(Json::Bool(false)),
        b'n' => Ok(Json::Null),
        _ => number(text).map(Json::Number),
    }
}

fn object(text: &str, depth_left: usize) -> Result<Vec<(String, Json)>, Mistake> {
    let Members(members) = Members::read(text).map_err(|_| broken_text())?;
    let mut names = HashSet::with_capacity(members.len());
    for (name, _) in &members {
        if !names.insert(name.as_str()) {
            return Err(Mistake::wrong(format!("{} is given twice", shown(name))).within(name));
        }
    }
    let member = |(name, raw): (String, &RawValue)| match value(raw.get(), depth_left) {
        Ok(value) => Ok((name, value)),
        Err(mistake) => Err(mistake.within(name)),
    };
    members.into_iter().map(member).collect()
}

fn list(text: &str, depth_left: usize) -> Result<Vec<Json>, Mistake> {
    let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| broken_text())?;
    let element = |(at, raw): (usize, &RawValue)| {
        value(raw.get(), depth_left).map_err(|mistake| mistake.within(at.to_string()))
    };
    elements.into_iter().enumerate().map(element).collect()
}

/// A number that readers with machine numbers can read, though with fewer digits.
fn number(text: &str) -> Result<String, Mistake> {
    match text.parse::<f64>() {
        Ok(near) if near.is_finite() => Ok(text.to_owned()),
        _ => Err(Mistake::wrong(format!("{} is out of the range of numbers", shown(text)))),
    }
}

fn broken_text() -> Mistake {
    Mistake::new(Kind::NotJson, "the body is not JSON: a text in it has half a character (a lone surrogate)")
}

impl Json {
    /// The values of a query string.
    pub(super) fn query(pairs: Vec<(String, String)>) -> Result<Self, Mistake> {
        let mut names = HashSet::with_capacity(pairs.len());
        if let Some((name, _)) = pairs.iter().find(|(name, _)| !names.insert(name.as_str())) {
            return Err(Mistake::wrong(format!("{} is given twice", shown(name))).within(name));
        }
        Ok(Self::Object(pairs.into_iter().map(|(name, value)| (name, Self::Word(value))).collect()))
    }

    /// The one text of all documents that are the same but for spaces, escapes and the order of names.
    fn canonical(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) {
        match self {
            Self::Null | Self::Blank => text.push_str("null"),
            Self::Bool(true) => text.push_str("true"),
            Self::Bool(false) => text.push_str("false"),
            Self::Number(digits) => text.push_str(digits),
            Self::Text(value) | Self::Word(value) => write_text(value, text),
            Self::List(elements) => {
                text.push('[');
                for (at, element) in elements.iter().enumerate() {
                    text.push_str(if at == 0 { "" } else { "," });
                    element.write(text);
                }
                text.push(']');
            }
            Self::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by(|a, b| a.0.cmp(&b.0));
                text.push('{');
                for (at, (name, value)) in members.into_iter().enumerate() {
                    text.push_str(if at == 0 { "" } else { "," });
                    write_text(name, text);
                    text.push(':');
                    value.write(text);
                }
                text.push('}');
            }
        }
    }

    /// How many lists and objects are inside each other.
    fn depth(&self) -> usize {
        match self {
            Self::List(elements) => 1 + elements.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(members) => 1 + members.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// What it is, in words.
    fn kind(&self) -> &'static str {
        match self {
            Self::Null | Self::Blank => "null",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) | Self::Word(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }
}

fn write_text(value: &str, text: &mut String) {
    // Writing to memory does not fail.
    text.push_str(&serde_json::to_string(value).unwrap_or_default());
}

/// A client's own words, as far as a message repeats them.
fn shown(text: &str) -> String {
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return format!("{text:?}");
    }
    let begin: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    format!("{begin:?}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        read(text.as_bytes()).expect("JSON").canonical()
    }

    #[test]
    fn the_order_of_names_spaces_and_escapes_do_not_matter() {
        let same = r#"{"a":"M","b":{"x":[2],"y":1}}"#;
        assert_eq!(canonical(r#"{"b": {"y": 1, "x": [2]}, "a": "\u004d"}"#), same);
        assert_eq!(canonical(same), same);
    }

    #[test]
    fn a_number_keeps_its_digits() {
        for number in
            ["123456789012345678901234", "1.0", "-0", "1E+2", "0.1000000000000000055511151231257827"]
        {
            assert_eq!(canonical(number), number);
        }
        for number in ["1e999", "-1e999"] {
            assert_eq!(read(number.as_bytes()).expect_err("too large").kind, Kind::Wrong);
        }
    }

    #[test]
    fn names_that_mean_something_to_a_library_are_only_names() {
        for name in ["$serde_json::private::RawValue", "$serde_json::private::Number"] {
            let text = format!(r#"{{"{name}":"[1]"}}"#);
            assert_eq!(canonical(&text), text);
        }
    }

    #[test]
    fn a_name_stands_once() {
        let mistake = read(br#"{"a":[{"b":1,"\u0062":2}]}"#).expect_err("twice");
        assert_eq!((mistake.pointer().as_str(), mistake.kind), ("#/a/0/b", Kind::Wrong));
    }

    #[test]
    fn depth_is_bounded_whatever_the_length() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(read(deep(DEPTH_MAX).as_bytes()).expect("deep").depth(), DEPTH_MAX);
        for depth in [DEPTH_MAX + 1, 30_000] {
            assert_eq!(read(deep(depth).as_bytes()).expect_err("too deep").kind, Kind::TooDeep);
        }
    }
}
