//! Cursors: where the next page begins, opaque to clients.

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};

use super::problem::ApiError;

/// Bytes of the check sum. It finds a cursor that was cut or mistyped; it is no secret.
const CHECK_BYTES: usize = 4;
/// Characters of the longest cursor: an item id of 64, and the check sum.
const CURSOR_CHARS_MAX: usize = 128;

/// What is paged through. A cursor of one list means nothing in another.
#[derive(Clone, Copy)]
pub(super) enum List {
    Orders,
    Items,
}

impl List {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Items => "items",
        }
    }

    /// The cursor of the page after this element.
    pub(super) fn cursor_after(self, id: &str) -> String {
        let mut bytes = self.check(id).to_vec();
        bytes.extend_from_slice(id.as_bytes());
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// The element that the page of a cursor comes after; `None` for the first page.
    pub(super) fn after(self, cursor: Option<&str>) -> Result<Option<String>, ApiError> {
        let Some(cursor) = cursor.filter(|cursor| !cursor.is_empty()) else { return Ok(None) };
        let read = || {
            let bytes =
                BASE64URL_NOPAD.decode(cursor.get(..cursor.len().min(CURSOR_CHARS_MAX))?.as_bytes()).ok()?;
            let (check, id) = bytes.split_at_checked(CHECK_BYTES)?;
            let id = std::str::from_utf8(id).ok()?;
            (check == self.check(id)).then(|| id.to_owned())
        };
        let malformed = || {
            let detail = "this cursor is not one that next_cursor of this list has given";
            ApiError::refused("cursor_malformed", detail)
        };
        read().map(Some).ok_or_else(malformed)
    }

    fn check(self, id: &str) -> [u8; CHECK_BYTES] {
        let digest = Sha256::new().chain_update(self.as_str()).chain_update([0]).chain_update(id).finalize();
        let mut check = [0; CHECK_BYTES];
        check.copy_from_slice(&digest[..CHECK_BYTES]);
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_leads_back_and_a_spoilt_one_nowhere() {
        let cursor = List::Items.cursor_after("KAYA-400G");
        assert_eq!(List::Items.after(Some(&cursor)).expect("it is whole").as_deref(), Some("KAYA-400G"));
        assert!(List::Orders.after(Some(&cursor)).is_err());
        for spoilt in ["zzz", &cursor[1..], &cursor[..cursor.len() - 1], "KAYA-400G", &"a".repeat(9000), "é"]
        {
            assert!(List::Items.after(Some(spoilt)).is_err(), "{spoilt}");
        }
        for first in [None, Some("")] {
            assert_eq!(List::Items.after(first).expect("the first page"), None);
        }
    }
}
