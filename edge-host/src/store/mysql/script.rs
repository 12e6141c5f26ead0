//! Several statements in one message to the server.
//!
//! Most of what a small statement costs is the way to it: the server's thread wakes up for it and goes to sleep
//! after it, and so does ours. Statements that do not need each other's answers therefore go together. A prepared
//! statement is always a single one, so these are text, with their values in it: as numbers and as hexadecimal
//! literals, in which nothing that a value holds can be anything but a part of it.

use std::fmt::Write;

use data_encoding::HEXLOWER;
use rust_decimal::Decimal;
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Executor, MySqlConnection};

/// Statements that are run one after the other, up to the first that fails.
#[derive(Default)]
pub(super) struct Script {
    text: String,
}

/// A value in a statement.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Null,
    Signed(i64),
    Unsigned(u64),
    Decimal(Decimal),
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl Script {
    /// Statements of a new transaction.
    pub(super) fn transaction() -> Self {
        Self { text: "START TRANSACTION".to_owned() }
    }

    /// One more statement, with a value for every `?` in it.
    pub(super) fn add(&mut self, statement: &str, values: &[Value<'_>]) {
        if !self.text.is_empty() {
            self.text.push_str(";\n");
        }
        let mut parts = statement.split('?');
        self.text.push_str(parts.next().unwrap_or_default());
        let mut values = values.iter();
        for part in parts {
            values.next().expect("there is a value for every `?`").write(&mut self.text);
            self.text.push_str(part);
        }
        assert!(values.next().is_none(), "there is a `?` for every value");
    }

    /// Runs the statements; all of them together return these rows.
    pub(super) async fn rows(self, connection: &mut MySqlConnection) -> Result<Vec<MySqlRow>, sqlx::Error> {
        connection.fetch_all(sqlx::raw_sql(AssertSqlSafe(self.text))).await
    }

    /// Runs the statements.
    pub(super) async fn run(self, connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(self.text))).await?;
        Ok(())
    }
}

impl Value<'_> {
    fn write(&self, text: &mut String) {
        let written = match self {
            Self::Null => write!(text, "NULL"),
            Self::Signed(number) => write!(text, "{number}"),
            Self::Unsigned(number) => write!(text, "{number}"),
            Self::Decimal(number) => write!(text, "{number}"),
            Self::Text(value) => {
                text.push_str("_utf8mb4 ");
                write_hex(value.as_bytes(), text);
                Ok(())
            }
            Self::Bytes(value) => {
                write_hex(value, text);
                Ok(())
            }
        };
        written.expect("a string takes what is written into it");
    }
}

fn write_hex(bytes: &[u8], text: &mut String) {
    text.push_str("X'");
    HEXLOWER.encode_append(bytes, text);
    text.push('\'');
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::Text(value)
    }
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Bytes(value)
    }
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Signed(value)
    }
}

impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Self::Unsigned(value.into())
    }
}

impl From<u64> for Value<'_> {
    fn from(value: u64) -> Self {
        Self::Unsigned(value)
    }
}

impl From<Decimal> for Value<'_> {
    fn from(value: Decimal) -> Self {
        Self::Decimal(value)
    }
}

impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_go_together_with_their_values_in_them() {
        let mut script = Script::transaction();
        script.add("UPDATE t SET a = ?, b = ? WHERE c = ?", &[7_u64.into(), None::<&str>.into(), "é".into()]);
        script.add("DELETE FROM t WHERE d = ?", &[Decimal::new(-1990, 2).into()]);
        assert_eq!(
            script.text,
            "START TRANSACTION;\nUPDATE t SET a = 7, b = NULL WHERE c = _utf8mb4 X'c3a9';\n\
             DELETE FROM t WHERE d = -19.90"
        );
    }

    #[test]
    fn no_value_ends_its_literal() {
        for value in ["", "'", "\\", "\\'; DROP TABLE carts; --", "?", "\0\n\u{1a}\u{1f6d2}"] {
            let mut script = Script::default();
            script.add("SELECT ?", &[value.into()]);
            let literal =
                script.text.strip_prefix("SELECT _utf8mb4 X'").and_then(|text| text.strip_suffix('\''));
            let literal = literal.expect("one literal, to the end");
            assert!(literal.bytes().all(|byte| byte.is_ascii_hexdigit()), "{literal}");
            assert_eq!(literal.len(), 2 * value.len());
        }
    }
}
