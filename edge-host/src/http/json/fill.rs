//! Fills in the fields of a type from a JSON tree. Messages are in the words of a shop: they name no type of ours.

use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess,
    Unexpected, Visitor,
};
use serde::{Deserialize, Serialize, forward_to_deserialize_any};

use super::{Json, Kind, Mistake, shown};
use cart_core::limits;

/// The name by which [`Canonical`] asks for what it is.
const CANONICAL: &str = "$troli::canonical";

/// Reads a value of a type.
pub(in crate::http) fn fill<T: DeserializeOwned>(json: Json) -> Result<T, Mistake> {
    T::deserialize(json)
}

/// Reads a field that may be left out, but not be null: one way to say nothing is enough.
pub(in crate::http) fn not_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Any JSON object as canonical text, digit by digit. Only this reader can fill it in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::http) struct Canonical(pub(in crate::http) String);

impl<'de> Deserialize<'de> for Canonical {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Canonical;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Canonical, E> {
                Ok(Canonical(text.to_owned()))
            }
        }
        deserializer.deserialize_newtype_struct(CANONICAL, Text)
    }
}

impl serde::de::Error for Mistake {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::wrong(message.to_string())
    }

    fn invalid_type(given: Unexpected<'_>, _: &dyn Expected) -> Self {
        Self::wrong(format!("{given} does not fit here"))
    }

    fn invalid_value(given: Unexpected<'_>, _: &dyn Expected) -> Self {
        Self::wrong(format!("{given} does not fit here"))
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self::new(Kind::Unknown, format!("there is no {} here; {}", shown(field), one_of(known)))
    }

    fn unknown_variant(word: &str, known: &'static [&'static str]) -> Self {
        Self::wrong(format!("{} is not known; {}", shown(word), one_of(known)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Kind::Missing(field), format!("{field} is missing"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::wrong(format!("{field} is given twice"))
    }
}

fn one_of(known: &[&str]) -> String {
    match known {
        [] => "nothing is expected".to_owned(),
        [only] => format!("only {only} is"),
        [first @ .., last] => format!("{} and {last} are", first.join(", ")),
    }
}

impl Json {
    fn mismatch<T>(&self, wanted: &str) -> Result<T, Mistake> {
        let given = match self {
            Self::Text(text) | Self::Word(text) => format!("the text {}", shown(text)),
            Self::Number(digits) => shown(digits).replace('"', ""),
            other => other.kind().to_owned(),
        };
        Err(Mistake::wrong(format!("{wanted} is expected, not {given}")))
    }

    /// The digits of a whole number. `2.0` is one too, as JSON Schema has it.
    fn whole(&self) -> Result<&str, Mistake> {
        let digits = match self {
            Self::Number(text) if text.contains('.') => text.trim_end_matches('0').strip_suffix('.'),
            Self::Number(text) | Self::Word(text) => Some(text.as_str()),
            _ => None,
        };
        digits.filter(|digits| is_whole(digits)).map_or_else(|| self.mismatch("a whole number"), Ok)
    }
}

fn is_whole(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

macro_rules! whole_numbers {
    ($($method:ident $visit:ident $type:ty,)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
            if self == Self::Blank {
                return visitor.$visit(0);
            }
            let digits = self.whole()?;
            let out_of_range = |_| Mistake::wrong(format!("{} is out of range", shown(digits).replace('"', "")));
            visitor.$visit(digits.parse::<$type>().map_err(out_of_range)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for Json {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self {
            Self::Null | Self::Blank => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Number(text) => match (text.parse(), text.parse(), text.parse()) {
                (Ok(whole), ..) => visitor.visit_u64(whole),
                (_, Ok(whole), _) => visitor.visit_i64(whole),
                (.., Ok(near)) => visitor.visit_f64(near),
                _ => Err(Mistake::wrong("a number is expected")),
            },
            Self::Text(text) | Self::Word(text) => visitor.visit_string(text),
            Self::List(elements) => visit_list(elements, visitor),
            Self::Object(members) => visit_object(members, visitor),
        }
    }

    whole_numbers! {
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self {
            Self::Blank => visitor.visit_bool(false),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Word(word) if word == "true" => visitor.visit_bool(true),
            Self::Word(word) if word == "false" => visitor.visit_bool(false),
            other => other.mismatch("true or false"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self {
            Self::Blank => visitor.visit_string(String::new()),
            Self::Text(text) | Self::Word(text) => visitor.visit_string(text),
            other => other.mismatch("a text"),
        }
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self {
            Self::Null | Self::Blank => visitor.visit_none(),
            value => visitor.visit_some(value),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self {
            Self::Null | Self::Blank => visitor.visit_unit(),
            other => other.mismatch("null"),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match self {
            value if name != CANONICAL => visitor.visit_newtype_struct(value),
            Self::Blank => visitor.visit_str("{}"),
            Self::Object(_) if self.depth() > limits::VARIANT_DEPTH_MAX => {
                let max = limits::VARIANT_DEPTH_MAX;
                let detail = format!("at most {max} lists and objects are inside each other here");
                Err(Mistake::new(Kind::VariantTooDeep, detail))
            }
            Self::Object(_) => visitor.visit_string(self.canonical()),
            other => other.mismatch("an object"),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self {
            Self::Blank => visit_list(Vec::new(), visitor),
            Self::List(elements) => visit_list(elements, visitor),
            other => other.mismatch("a list"),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self {
            Self::Blank => visit_object(Vec::new(), visitor),
            Self::Object(members) => visit_object(members, visitor),
            other => other.mismatch("an object"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        match self {
            Self::Blank => visitor.visit_enum(words.first().copied().unwrap_or_default().into_deserializer()),
            Self::Text(word) | Self::Word(word) => visitor.visit_enum(word.into_deserializer()),
            other => other.mismatch("a text"),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 f32 f64 char bytes byte_buf }
}

fn visit_list<'de, V: Visitor<'de>>(elements: Vec<Json>, visitor: V) -> Result<V::Value, Mistake> {
    visitor.visit_seq(Elements { elements: elements.into_iter(), at: 0 })
}

fn visit_object<'de, V: Visitor<'de>>(members: Vec<(String, Json)>, visitor: V) -> Result<V::Value, Mistake> {
    visitor.visit_map(Fields { members: members.into_iter(), current: None })
}

struct Elements {
    elements: std::vec::IntoIter<Json>,
    at: usize,
}

impl<'de> SeqAccess<'de> for Elements {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        let Some(element) = self.elements.next() else { return Ok(None) };
        let at = self.at;
        self.at += 1;
        seed.deserialize(element).map(Some).map_err(|mistake| mistake.within(at.to_string()))
    }
}

struct Fields {
    members: std::vec::IntoIter<(String, Json)>,
    current: Option<(String, Json)>,
}

impl<'de> MapAccess<'de> for Fields {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mistake> {
        self.current = self.members.next();
        let Some((name, _)) = &self.current else { return Ok(None) };
        let key: StringDeserializer<Mistake> = name.clone().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|mistake| mistake.within(name))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Mistake> {
        let (name, value) = self.current.take().ok_or_else(|| Mistake::wrong("a value is missing"))?;
        seed.deserialize(value).map_err(|mistake| mistake.within(name))
    }
}
