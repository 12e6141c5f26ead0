//! Lists of values in a statement, in a few lengths only: every length is a statement of its own to prepare.

use sqlx::AssertSqlSafe;

/// The values, with the last repeated up to the next power of two.
pub(super) fn padded<T: Copy>(values: &[T]) -> Vec<T> {
    let mut padded = values.to_vec();
    if let Some(last) = values.last() {
        padded.resize(values.len().next_power_of_two(), *last);
    }
    padded
}

/// A statement with so many parameters between `begin` and `end`.
pub(super) fn in_list(begin: &str, parameters: usize, end: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("{begin}{}{end}", vec!["?"; parameters].join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_one_of_a_few_lengths() {
        assert!(padded::<u8>(&[]).is_empty());
        assert_eq!(padded(&[1]), [1]);
        assert_eq!(padded(&[1, 2, 3]), [1, 2, 3, 3]);
        assert_eq!(in_list("a IN (", 2, ")").0, "a IN (?, ?)");
    }
}
