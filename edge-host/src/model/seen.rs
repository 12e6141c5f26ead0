//! The version of a cart as clients echo it: `epoch.version.tag`, where the tag says which cart it is a version of.

use std::fmt;
use std::str::FromStr;

use super::{CartVersion, MalformedVersion};

/// Bytes of a tag. Two carts that share one are told apart as any invented version is: home does not confirm it.
const TAG_BYTES: usize = 8;
/// A tag of another release may be longer than ours.
const FOREIGN_TAG_BYTES_MAX: usize = 32;

/// Tells the versions of one cart from those of another in `Cart-Version`. Opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CartTag([u8; TAG_BYTES]);

impl CartTag {
    /// No cart has this one.
    const FOREIGN: Self = Self([0; TAG_BYTES]);

    /// The tag of a cart: a part of its id, which is the hash of its owner.
    pub fn of(cart_id: &str) -> Self {
        let digits = cart_id.as_bytes().iter().skip("c_".len());
        let mut tag = [b'0'; TAG_BYTES];
        tag.iter_mut().zip(digits).for_each(|(byte, digit)| *byte = *digit);
        Self(tag)
    }
}

impl CartTag {
    /// The tag as it is sent.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for CartTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A version of a cart that a client has seen, with the cart's tag where the client sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenVersion {
    /// The version.
    pub version: CartVersion,
    /// `None` for the bare form, which may be of any cart.
    pub tag: Option<CartTag>,
}

impl FromStr for SeenVersion {
    type Err = MalformedVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (version, tag) = CartVersion::parse_tagged(text)?;
        let Some(tag) = tag else { return Ok(Self { version, tag: None }) };
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if tag.is_empty() || tag.len() > FOREIGN_TAG_BYTES_MAX || !tag.bytes().all(is_known) {
            return Err(MalformedVersion);
        }
        let tag = tag.as_bytes().try_into().map_or(CartTag::FOREIGN, CartTag);
        Ok(Self { version, tag: Some(tag) })
    }
}

/// What a client has seen, by the header and by the cookie.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Of `Cart-Version`.
    pub header: Option<SeenVersion>,
    /// Of the cookie, which browsers send by themselves.
    pub cookie: Option<SeenVersion>,
}

impl Seen {
    /// The newest version of this cart among them; versions of other carts are ignored.
    pub fn of(&self, cart_id: &str) -> Option<CartVersion> {
        let own = CartTag::of(cart_id);
        let of_cart = |seen: &SeenVersion| seen.tag.is_none_or(|tag| tag == own);
        [self.header, self.cookie].into_iter().flatten().filter(of_cart).map(|seen| seen.version).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CART: &str = "c_0123456789abcdef01234567";

    fn seen(header: &str, cookie: &str) -> Option<String> {
        let read = |text: &str| text.parse().ok();
        Seen { header: read(header), cookie: read(cookie) }.of(CART).map(|version| version.to_string())
    }

    #[test]
    fn the_newest_version_of_the_cart_counts_and_those_of_others_do_not() {
        assert_eq!(CartTag::of(CART).to_string(), "01234567");
        for (header, cookie, expected) in [
            ("1.7.01234567", "", Some("1.7")),
            ("1.7", "", Some("1.7")),
            ("1.7", "1.9.01234567", Some("1.9")),
            ("1.9", "1.10.01234567", Some("1.10")),
            ("1.7.01234567", "1.9.89abcdef", Some("1.7")),
            ("1.7.89abcdef", "", None),
            ("1.7.a_later_one", "1.2", Some("1.2")),
            ("", "", None),
        ] {
            assert_eq!(seen(header, cookie).as_deref(), expected, "{header} {cookie}");
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for wrong in [
            "",
            "1",
            "1.",
            "1.2.",
            "1.2.a.b",
            "1.2.a b",
            "1.2.a-tag-that-is-longer-than-any-release-has",
            "1.2.\"a\"",
            "a.b.c",
        ] {
            assert!(wrong.parse::<SeenVersion>().is_err(), "{wrong}");
        }
    }
}
