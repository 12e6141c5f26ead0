//! Finds the other mistakes of a document after the first: what is wrong is replaced by a blank that fits everywhere,
//! and the document is read again.

use serde::de::DeserializeOwned;

use super::{Json, Kind, Mistake};

/// Mistakes that one answer lists. Each costs one more reading of a document of at most 64 KiB.
const MISTAKES_MAX: usize = 20;

/// Readings of one document: a blank in place of an object takes one more for each field of it.
const READINGS_MAX: usize = 60;

/// All mistakes of a document that cannot be read as a `T`, up to a limit, in the order in which they are found.
pub(in crate::http) fn mistakes<T: DeserializeOwned>(mut json: Json) -> Vec<Mistake> {
    let (mut found, mut blanks) = (Vec::new(), Vec::<String>::new());
    for _ in 0..READINGS_MAX {
        let Err(mistake) = T::deserialize(json.clone()) else { break };
        let pointer = mistake.pointer();
        let within = |blank: &String| pointer.strip_prefix(blank.as_str()).is_some_and(is_end_of_name);
        // What follows from a blank is no mistake of the client.
        let follows = blanks.iter().any(within);
        let mended = place(&mut json, &mistake).is_some_and(|place| mend(place, &mistake));
        match mistake.kind {
            Kind::Unknown => {}
            Kind::Missing(field) => blanks.push(format!("{pointer}/{field}")),
            _ => blanks.push(pointer),
        }
        if !follows {
            found.push(mistake);
        }
        if !mended || found.len() == MISTAKES_MAX {
            break;
        }
    }
    found
}

fn is_end_of_name(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

/// What a mistake is about: the value itself, or the object that has an unknown field.
fn place<'a>(json: &'a mut Json, mistake: &Mistake) -> Option<&'a mut Json> {
    let depth = usize::from(mistake.kind == Kind::Unknown);
    let mut value = json;
    for name in mistake.path.iter().skip(depth).rev() {
        value = match value {
            Json::Object(members) => &mut members.iter_mut().find(|(known, _)| known == name)?.1,
            Json::List(elements) => elements.get_mut(name.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

fn mend(place: &mut Json, mistake: &Mistake) -> bool {
    match (mistake.kind, place) {
        (Kind::Unknown, Json::Object(members)) => {
            let before = members.len();
            members.retain(|(name, _)| Some(name.as_str()) != mistake.field());
            members.len() < before
        }
        (Kind::Missing(field), Json::Object(members)) => {
            members.push((field.to_owned(), Json::Blank));
            true
        }
        (Kind::Missing(field), place @ Json::Blank) => {
            *place = Json::Object(vec![(field.to_owned(), Json::Blank)]);
            true
        }
        (Kind::Unknown | Kind::Missing(_), _) | (_, Json::Blank) => false,
        (_, place) => {
            *place = Json::Blank;
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::http::json::read;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its form is of interest")]
    struct Add {
        item_id: String,
        quantity: u32,
        currency: Option<crate::model::CurrencyCode>,
    }

    fn found<T: DeserializeOwned>(text: &str) -> Vec<(String, String)> {
        let mistakes = mistakes::<T>(read(text.as_bytes()).expect("JSON"));
        mistakes.into_iter().map(|mistake| (mistake.pointer(), mistake.detail)).collect()
    }

    #[test]
    fn every_field_that_is_wrong_is_told() {
        let told = found::<Add>(r#"{"quantity":"2","foo":1,"currency":"XXX","bar":null}"#);
        let pointers: Vec<&str> = told.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["#/quantity", "#/foo", "#/currency", "#/bar", "#"], "{told:?}");
        assert!(told[4].1.contains("item_id is missing"), "{told:?}");
        assert!(found::<Add>(r#"{"item_id":"a","quantity":2}"#).is_empty());
    }

    #[test]
    fn elements_of_a_list_are_told_each() {
        let told = found::<Vec<Add>>(r#"[{"item_id":1,"quantity":1},7,{}]"#);
        let pointers: Vec<&str> = told.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["#/0/item_id", "#/1", "#/2", "#/2"], "{told:?}");
    }

    #[test]
    fn a_body_that_is_no_object_is_one_mistake() {
        assert_eq!(found::<Add>("[1]").len(), 1);
    }
}
