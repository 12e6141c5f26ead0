//! What a transaction writes of carts, gathered before it is written: rows of one table go in one statement,
//! whichever carts they are of.

use super::script::{Rows, Script};
use super::{answers, carts, outbox};
use crate::model::{CartRecord, Millis};
use crate::store::StoreError;

/// Changes of any number of carts.
#[derive(Default)]
pub(super) struct Changes {
    headers: Script,
    lines_gone: Rows,
    lines: Rows,
    answers: Rows,
    events: Rows,
}

impl Changes {
    /// Keeps these answers.
    pub(super) fn answers(&mut self, answers: &Rows) {
        self.answers.append(answers);
    }

    /// Writes a cart that was there and locked, and tells those who follow the feed: its header, and of its lines
    /// those that differ.
    pub(super) fn cart(
        &mut self,
        before: &CartRecord,
        after: &CartRecord,
        now_ms: Millis,
    ) -> Result<(), StoreError> {
        carts::add_header(&mut self.headers, after)?;
        carts::add_lines(&mut self.lines_gone, &mut self.lines, before, after);
        outbox::add_cart(&mut self.events, after, now_ms)
    }

    /// Whether there is anything to tell to those who follow the feed.
    pub(super) fn has_news(&self) -> bool {
        !self.events.is_empty()
    }

    /// All of it.
    pub(super) fn into_script(self) -> Script {
        let mut script = self.headers;
        carts::delete_lines(&mut script, &self.lines_gone);
        carts::save_lines(&mut script, &self.lines);
        answers::insert_answers(&mut script, &self.answers);
        outbox::publish_all(&mut script, &self.events);
        script
    }
}
