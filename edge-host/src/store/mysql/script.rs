//! Several statements in one message to the server.
//!
//! Most of what a small statement costs is the way to it: the server's thread wakes up for it and goes to sleep
//! after it, and so does ours. Statements that do not need each other's answers therefore go together. A prepared
//! statement is always a single one, so these are text, with their values in it: as numbers and as hexadecimal
//! literals, in which nothing that a value holds can be anything but a part of it.

use std::fmt::Write;

use data_encoding::HEXLOWER;
use futures_util::TryStreamExt;
use rust_decimal::Decimal;
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Either, Executor, MySqlConnection};

/// Statements that are run one after the other, up to the first that fails.
#[derive(Default)]
pub(super) struct Script {
    text: String,
    statements: usize,
}

/// Rows of one table, as they stand in a statement.
#[derive(Default)]
pub(super) struct Rows {
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
        Self { text: "START TRANSACTION".to_owned(), statements: 1 }
    }

    /// How many there are.
    pub(super) fn statements(&self) -> usize {
        self.statements
    }

    /// One more statement, with a value for every `?` in it.
    pub(super) fn add(&mut self, statement: &str, values: &[Value<'_>]) {
        self.begin_statement();
        let mut parts = statement.split('?');
        self.text.push_str(parts.next().unwrap_or_default());
        let mut values = values.iter();
        for part in parts {
            values.next().expect("there is a value for every `?`").write(&mut self.text);
            self.text.push_str(part);
        }
        assert!(values.next().is_none(), "there is a `?` for every value");
    }

    /// One more statement, with these rows between `begin` and `end`; none, if there are no rows.
    pub(super) fn add_rows(&mut self, begin: &str, rows: &Rows, end: &str) {
        if !rows.is_empty() {
            self.begin_statement();
            self.text.extend([begin, &rows.text, end]);
        }
    }

    /// Runs the statements; returns the rows of each.
    pub(super) async fn results(
        self,
        connection: &mut MySqlConnection,
    ) -> Result<Vec<Vec<MySqlRow>>, sqlx::Error> {
        let mut results = Vec::new();
        let mut rows = Vec::new();
        // MySQL refuses a message without a statement (error 1065).
        if self.text.is_empty() {
            return Ok(results);
        }
        let mut answers = connection.fetch_many(sqlx::raw_sql(AssertSqlSafe(self.text)));
        while let Some(answer) = answers.try_next().await? {
            match answer {
                Either::Right(row) => rows.push(row),
                // The end of a statement.
                Either::Left(_) => results.push(std::mem::take(&mut rows)),
            }
        }
        Ok(results)
    }

    /// Runs the statements.
    pub(super) async fn run(self, connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(self.text))).await?;
        Ok(())
    }

    fn begin_statement(&mut self) {
        if self.statements > 0 {
            self.text.push_str(";\n");
        }
        self.statements += 1;
    }
}

impl Rows {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// One more row.
    pub(super) fn add(&mut self, values: &[Value<'_>]) {
        self.add_named("", values);
    }

    /// One more row of a single value, for a list of them.
    pub(super) fn add_one(&mut self, value: Value<'_>) {
        self.separate();
        value.write(&mut self.text);
    }

    /// One more row, after a word: a table of values (`VALUES ROW(…)`) has one before each.
    pub(super) fn add_named(&mut self, word: &str, values: &[Value<'_>]) {
        self.separate();
        self.text.push_str(word);
        self.text.push('(');
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                self.text.push_str(", ");
            }
            value.write(&mut self.text);
        }
        self.text.push(')');
    }

    /// Goes on with the rows of another.
    pub(super) fn append(&mut self, other: &Self) {
        if !other.text.is_empty() {
            self.separate();
            self.text.push_str(&other.text);
        }
    }

    fn separate(&mut self) {
        if !self.text.is_empty() {
            self.text.push_str(", ");
        }
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
    fn rows_go_into_one_statement() {
        let (mut rows, mut more) = (Rows::default(), Rows::default());
        rows.add(&["a".into(), 1_u64.into()]);
        more.add(&["b".into(), 2_u64.into()]);
        rows.append(&more);
        let mut script = Script::default();
        script.add_rows("DELETE FROM t WHERE (a, b) IN (", &rows, ")");
        script.add_rows("DELETE FROM u WHERE c IN (", &Rows::default(), ")");
        assert_eq!(script.text, "DELETE FROM t WHERE (a, b) IN ((_utf8mb4 X'61', 1), (_utf8mb4 X'62', 2))");
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
