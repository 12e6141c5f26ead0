//! Instants as merchants write them (RFC 3339), over the whole range of that format.

use jiff::civil::{self, DateTime};
use jiff::fmt::temporal::{Pieces, PiecesOffset};
use serde::{Deserialize, Deserializer, Serialize};

use crate::model::Millis;

/// The form of RFC 3339 §5.6: digits where `0` is, and what is in between as it is.
const FORM: &[u8] = b"0000-00-00T00:00:00";

/// An instant. The years are 0000 to 9999, as the format has them; the last is 9999-12-31T23:59:59.999Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Instant(pub(super) Millis);

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| {
            serde::de::Error::custom("a time such as 2026-11-28T18:00:00+08:00 (RFC 3339) is expected")
        })
    }
}

fn parse(text: &str) -> Option<Instant> {
    let (head, tail) = text.as_bytes().split_at_checked(FORM.len())?;
    let fits = |(given, wanted): (&u8, &u8)| match wanted {
        b'0' => given.is_ascii_digit(),
        wanted => given.eq_ignore_ascii_case(wanted),
    };
    let plain = |byte: &u8| byte.is_ascii_digit() || b".:+-zZ".contains(byte);
    if !head.iter().zip(FORM).all(fits) || !tail.iter().all(plain) {
        return None;
    }
    let pieces = Pieces::parse(text).ok()?;
    let offset_s = match pieces.offset()? {
        PiecesOffset::Zulu => 0,
        PiecesOffset::Numeric(numeric) => i64::from(numeric.offset().seconds()),
        _ => return None,
    };
    let local = pieces.date().to_datetime(pieces.time()?);
    let at_ms = millis(local)?.checked_sub(offset_s * 1000)?;
    let bounds = millis(civil::date(0, 1, 1).at(0, 0, 0, 0))?..=millis(DateTime::MAX)?;
    bounds.contains(&at_ms).then_some(Instant(at_ms))
}

/// Unix milliseconds of a date and time in UTC.
fn millis(utc: DateTime) -> Option<Millis> {
    let since = utc.duration_since(civil::date(1970, 1, 1).at(0, 0, 0, 0));
    Millis::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::rfc3339;

    #[test]
    fn the_whole_range_of_the_format_is_taken_and_shown_again() {
        for (text, shown) in [
            ("2026-11-28T18:00:00+08:00", "2026-11-28T10:00:00Z"),
            ("2026-11-28t10:00:00.25z", "2026-11-28T10:00:00.25Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z"),
        ] {
            assert_eq!(parse(text).map(|Instant(at_ms)| rfc3339(at_ms)).as_deref(), Some(shown), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_taken() {
        for wrong in [
            "",
            "soon",
            "2026-11-28",
            "2026-11-28T18:00:00",
            "2026-11-28 18:00:00Z",
            "2026-02-30T00:00:00Z",
            "+002026-11-28T18:00:00Z",
            "2026-11-28T18:00:00+08:00[Asia/Singapore]",
            "9999-12-31T23:59:59-01:00",
            "0000-01-01T00:00:00+01:00",
            "2026-11-28T24:00:00Z",
            "2026-11-28T18:00Z",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
