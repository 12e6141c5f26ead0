//! Entity tags in conditional headers (RFC 9110 §8.8.3, §13.1).

use axum::http::header::{HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};

use super::problem::ApiError;
use crate::merchant::Tags;
use crate::model::CartVersion;

/// Entity tags in one header; a client knows a version or two of its cart.
const ENTITY_TAGS_MAX: usize = 64;

/// What the client has already: `If-None-Match`.
pub(super) struct NoneMatch(Vec<HeaderValue>);

impl NoneMatch {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let values: Vec<HeaderValue> = headers.get_all(IF_NONE_MATCH).into_iter().cloned().collect();
        if !values.is_empty() {
            check_count(headers, &IF_NONE_MATCH)?;
        }
        Ok(Self(values))
    }

    /// Whether the client has what is tagged so. A weak tag will do here (RFC 9110 §13.1.2).
    pub(super) fn has(&self, tag: &[u8]) -> bool {
        let opaque = tag.strip_prefix(b"\"").and_then(|tag| tag.strip_suffix(b"\"")).unwrap_or(tag);
        self.0.iter().any(|value| tags(value.as_bytes()).any(|sent| sent.any || sent.opaque == opaque))
    }
}

/// At which versions a write may happen: `If-Match`.
#[derive(Default)]
pub(super) struct Match {
    /// Whether the header is there at all.
    pub(super) given: bool,
    /// `None` for any version.
    pub(super) versions: Option<Vec<CartVersion>>,
}

impl Match {
    /// Of a tag the version counts: a price that moves does not refuse a write. The comparison is strong (RFC 9110
    /// §13.1.1), so a weak tag names no version, and neither does one that is not ours.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        if !headers.contains_key(IF_MATCH) {
            return Ok(Self::default());
        }
        check_count(headers, &IF_MATCH)?;
        let values = || headers.get_all(IF_MATCH).into_iter().flat_map(|value| tags(value.as_bytes()));
        let version =
            |tag: Tag<'_>| Some(CartVersion::parse_tagged(str::from_utf8(tag.opaque).ok()?).ok()?.0);
        let versions = values().filter(|tag| !tag.weak).filter_map(version).collect();
        let any = values().any(|tag| tag.any);
        Ok(Self { given: true, versions: Some(versions).filter(|_| !any) })
    }
}

/// The tags of a header that is about an item; `None` without the header.
pub(super) fn of_item(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Tags>, ApiError> {
    if !headers.contains_key(name) {
        return Ok(None);
    }
    check_count(headers, name)?;
    let mut of_item = Tags::default();
    for tag in headers.get_all(name).into_iter().flat_map(|value| tags(value.as_bytes())) {
        let list = if tag.weak { &mut of_item.weak } else { &mut of_item.strong };
        // A tag of ours is ASCII; another one names no item, however it is written.
        list.push(String::from_utf8_lossy(tag.opaque).into_owned());
        of_item.any |= tag.any;
    }
    Ok(Some(of_item))
}

fn check_count(headers: &HeaderMap, name: &HeaderName) -> Result<(), ApiError> {
    let all = headers.get_all(name).into_iter().flat_map(|value| tags(value.as_bytes()));
    if all.count() > ENTITY_TAGS_MAX {
        let detail = format!("{name} has at most {ENTITY_TAGS_MAX} entity tags");
        return Err(ApiError::refused("too_many_entity_tags", detail));
    }
    Ok(())
}

/// One of the tags in a header.
struct Tag<'a> {
    weak: bool,
    /// `*`, which is every tag.
    any: bool,
    /// What is between the quotes.
    opaque: &'a [u8],
}

/// The tags of a list. A quoted one may have commas in it; one without quotes is taken as well.
fn tags(list: &[u8]) -> impl Iterator<Item = Tag<'_>> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let begin = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
        rest = &rest[begin..];
        let (weak, tag) = rest.strip_prefix(b"W/").map_or((false, rest), |tag| (true, tag));
        if let Some(quoted) = tag.strip_prefix(b"\"") {
            let end = quoted.iter().position(|byte| *byte == b'"').unwrap_or(quoted.len());
            rest = quoted.get(end + 1..).unwrap_or_default();
            return Some(Tag { weak, any: false, opaque: &quoted[..end] });
        }
        let end = tag.iter().position(|byte| *byte == b',').unwrap_or(tag.len());
        rest = &tag[end..];
        let opaque = tag[..end].trim_ascii_end();
        Some(Tag { weak, any: !weak && opaque == b"*", opaque })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, values: &[&str]) -> HeaderMap {
        let value = |value: &&str| (name.clone(), HeaderValue::from_str(value).expect("a header value"));
        values.iter().map(value).collect()
    }

    #[test]
    fn the_client_has_what_one_of_its_tags_names() {
        for (values, has) in [
            (vec!["\"1.2.a\""], true),
            (vec!["W/\"1.2.a\""], true),
            (vec!["1.2.a"], true),
            (vec!["*"], true),
            (vec!["\"x\", \"1.2.a\""], true),
            (vec!["\"x,\" ,W/\"y\",,\"1.2.a\""], true),
            (vec!["\"x\"", "\"1.2.a\""], true),
            (vec!["\"1.2\""], false),
            (vec!["\"1.2.A\""], false),
            (vec!["\"*\""], false),
            (vec!["\"x,1.2.a\""], false),
            (vec![""], false),
            (vec![], false),
        ] {
            let sent = NoneMatch::of(&headers(&IF_NONE_MATCH, &values)).expect("few tags");
            assert_eq!(sent.has(b"\"1.2.a\""), has, "{values:?}");
        }
        let many = "\"1.2\",".repeat(ENTITY_TAGS_MAX + 1);
        assert!(NoneMatch::of(&headers(&IF_NONE_MATCH, &[&many])).is_err());
    }

    #[test]
    fn of_a_tag_the_version_counts() {
        let versions = |values: &[&str]| {
            let sent = Match::of(&headers(&IF_MATCH, values)).expect("few tags");
            let named = sent.versions.map(|versions| versions.iter().map(ToString::to_string).collect());
            (sent.given, named)
        };
        let named =
            |versions: &[&str]| (true, Some(versions.iter().map(ToString::to_string).collect::<Vec<_>>()));
        assert_eq!(versions(&[]), (false, None));
        assert_eq!(versions(&["*"]), (true, None));
        assert_eq!(versions(&["\"1.17\""]), named(&["1.17"]));
        assert_eq!(versions(&["1.17"]), named(&["1.17"]));
        assert_eq!(versions(&["\"1.17.Zm9v-_\", 1.18.x"]), named(&["1.17", "1.18"]));
        assert_eq!(versions(&["W/\"1.17.Zm9v\""]), named(&[]));
        assert_eq!(versions(&["\"\"", "\"else\""]), named(&[]));
    }
}
