//! JSON that is passed on as it is. Documents hold what merchants and shoppers have written; to read them as values
//! would change digits, give some names a meaning that they have to a library only, and fail where they are deep.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// A JSON value as text. Two are equal when they are so byte for byte.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawJson(Box<RawValue>);

impl RawJson {
    /// A value of this text.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn new(text: String) -> serde_json::Result<Self> {
        RawValue::from_string(text).map(Self)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The value with one member replaced, or added at the end. What is not an object stays as it is.
    pub fn with_member(self, name: &str, value: &impl Serialize) -> serde_json::Result<Self> {
        let Ok(mut members) = Members::read(self.as_str()) else { return Ok(self) };
        let value = serde_json::value::to_raw_value(value)?;
        members.set(name, &value);
        Self::new(members.write()?)
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RawJson {}

/// The members of a JSON object in their order, each value as it stands there.
#[derive(Debug)]
pub struct Members<'a>(pub Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads an object. However deep it is, this takes no deep stack.
    pub fn read(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// Gives a name this value, in its place or at the end.
    pub fn set(&mut self, name: &str, value: &'a RawValue) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, place)) => *place = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// The object's text.
    pub fn write(&self) -> serde_json::Result<String> {
        let mut text = String::from("{");
        for (at, (name, value)) in self.0.iter().enumerate() {
            text.push_str(if at == 0 { "" } else { "," });
            text.push_str(&serde_json::to_string(name)?);
            text.push(':');
            text.push_str(value.get());
        }
        text.push('}');
        Ok(text)
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_stays_to_the_byte() {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        let rest = format!(r#""v": {{"$serde_json::private::RawValue":"[1]","n":1.10e0}},"d":{deep}"#);
        let document = RawJson::new(format!(r#"{{"state":"old",{rest}}}"#)).expect("JSON");
        let document = document.with_member("state", &"new").expect("JSON");
        let rest = rest.replace(": {", ":{");
        assert_eq!(document.as_str(), format!(r#"{{"state":"new",{rest}}}"#));
    }
}
