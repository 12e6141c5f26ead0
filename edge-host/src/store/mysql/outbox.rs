//! The outbox: what changed, written in the transaction that changes it, and followed by the regions.
//!
//! A place is given out when a row is written, with the rows that it tells of locked: of two changes of one thing
//! the later one has the later place. But transactions of different things commit in any order, so a place may be
//! seen after one that comes later; a position in the feed remembers what was missing before it.

use std::collections::BTreeSet;

use sqlx::{FromRow, MySqlConnection};

use super::connections::Share;
use super::lists::{in_list, padded};
use super::script::{Rows, Script};
use super::session::{Failure, Session};
use super::{MySqlStore, catalogue};
use crate::model::{CartRecord, Change, FeedEvent, FeedGap, FeedPage, FeedPosition, Millis};
use crate::store::StoreError;
use crate::store::sql::{from_json, to_json};

/// A place that stays missing so long, by the primary's heartbeat, belongs to a transaction that was undone. Longer than
/// the server keeps an idle connection with an open transaction ([`super::connections::IDLE_SESSION_S`]), so that none can
/// commit later.
const GAP_TTL_MS: Millis = 60 * 1000;
/// And the heart has to have beaten so often meanwhile: a primary that stood still for a minute commits what was under
/// way in the moments after. With several edges that beat, these are some seconds at least.
const GAP_TTL_BEATS: u64 = 100;
/// Places that may be missing at once: each connection is in one transaction, most write one or two events, and a few
/// of each edge one for every cart that shares them.
const GAPS_MAX: usize = 2000;
/// The first place is 1.
const NO_PLACE: u64 = 0;
/// How far back a new follower looks for transactions that are under way.
const LOOK_BACK: i64 = 1000;

impl MySqlStore {
    pub(super) async fn try_feed(
        &self,
        after: Option<&FeedPosition>,
        limit: u32,
    ) -> Result<FeedPage, Failure> {
        let mut session = Session::acquire_of(&self.connections, Share::Feed).await?;
        let page = match after {
            Some(after) => page(&mut session, after, limit).await?,
            None => here(&mut session).await?,
        };
        session.release();
        Ok(page)
    }
}

/// Tells of these items and coupons as they are now, in one message.
pub(super) async fn publish_facts(
    tx: &mut MySqlConnection,
    item_ids: &[&str],
    codes: &[&str],
    now_ms: Millis,
) -> Result<(), Failure> {
    let items = catalogue::items(tx, item_ids, false).await?.into_iter().map(Change::Item);
    let coupons = catalogue::coupons(tx, codes, false).await?.into_iter().map(Change::Coupon);
    let mut events = Rows::default();
    for change in items.chain(coupons) {
        events.add(&[now_ms.into(), (&to_json(&change)?).into()]);
    }
    let mut script = Script::default();
    publish_all(&mut script, &events);
    if script.statements() > 0 {
        script.run(tx).await?;
    }
    Ok(())
}

/// One more change of a cart to be told.
pub(super) fn add_cart(events: &mut Rows, record: &CartRecord, now_ms: Millis) -> Result<(), StoreError> {
    let change = Change::Cart { cart_id: record.cart_id.clone(), version: record.version };
    events.add(&[now_ms.into(), (&to_json(&change)?).into()]);
    Ok(())
}

/// Tells of them.
pub(super) fn publish_all(script: &mut Script, events: &Rows) {
    script.add_rows("INSERT INTO outbox (at, payload) VALUES ", events, "");
}

/// Tells of one change; returns its place.
pub(super) async fn publish(
    tx: &mut MySqlConnection,
    change: &Change,
    now_ms: Millis,
) -> Result<u64, Failure> {
    let inserted = sqlx::query("INSERT INTO outbox (at, payload) VALUES (?, ?)")
        .bind(now_ms)
        .bind(to_json(change)?)
        .execute(tx)
        .await?;
    Ok(inserted.last_insert_id())
}

/// Where the feed is now: everything that is committed is before this position, and what is under way is not.
pub(super) async fn position(tx: &mut MySqlConnection) -> Result<FeedPosition, Failure> {
    let seen: Vec<u64> = sqlx::query_scalar("SELECT seq FROM outbox ORDER BY seq DESC LIMIT ?")
        .bind(LOOK_BACK)
        .fetch_all(&mut *tx)
        .await?;
    let cluster = cluster(tx).await?;
    let swept = cluster.swept;
    let Some(last) = seen.first().copied() else { return Ok(FeedPosition::at(swept)) };
    let reaches_back = i64::try_from(seen.len()).is_ok_and(|rows| rows < LOOK_BACK);
    let first = if reaches_back { swept + 1 } else { seen.last().copied().unwrap_or(last) };
    let seen: BTreeSet<u64> = seen.into_iter().collect();
    let mut gaps: Vec<FeedGap> = missing(first, last, &seen, cluster.moment());
    gaps.drain(..gaps.len().saturating_sub(GAPS_MAX));
    Ok(FeedPosition { seq: last, gaps })
}

/// An empty page, at the position where the feed is now.
async fn here(tx: &mut MySqlConnection) -> Result<FeedPage, Failure> {
    let position = position(tx).await?;
    let Cluster { epoch, beat, .. } = cluster(tx).await?;
    Ok(FeedPage { events: Vec::new(), position, more: false, epoch, beat, lost: false })
}

/// What is new after a position.
async fn page(tx: &mut MySqlConnection, after: &FeedPosition, limit: u32) -> Result<FeedPage, Failure> {
    // In one statement, so that all of it is of one moment: a beat that is not seen here comes after all these events,
    // what has been swept away is known to be missed, and when a change is among the next, an earlier one of the same
    // thing that was missing is here by now. The time is the heartbeat's.
    let begin = "SELECT e.epoch, h.seq AS beat, h.at AS beat_at, e.outbox_swept AS swept,
                (SELECT MAX(seq) FROM outbox) AS last, o.seq, o.at, o.payload
         FROM cluster e JOIN heartbeat h
              LEFT JOIN ((SELECT seq, at, payload FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?)
                         UNION ALL (SELECT seq, at, payload FROM outbox WHERE seq IN (";
    let mut places = padded(&after.gaps.iter().map(|gap| gap.seq).collect::<Vec<_>>());
    if places.is_empty() {
        places.push(NO_PLACE);
    }
    let mut query = sqlx::query_as(in_list(begin, places.len(), "))) o ON TRUE ORDER BY o.seq"));
    query = query.bind(after.seq).bind(limit);
    for place in places {
        query = query.bind(place);
    }
    let rows: Vec<PageRow> = query.fetch_all(tx).await?;
    let Some(&PageRow { cluster: cluster @ Cluster { epoch, beat, swept, last, .. }, .. }) = rows.first()
    else {
        return Err(StoreError::Corrupt("the database does not say what it is".to_owned()).into());
    };
    let events: Vec<EventRow> = rows.into_iter().filter_map(PageRow::event).collect();
    let next = events.iter().filter(|(seq, ..)| *seq > after.seq).count();
    let more = next >= usize::try_from(limit).unwrap_or(usize::MAX);
    let of_another_database = after.seq > last.unwrap_or(0).max(swept);
    let lost = after.seq < swept || of_another_database;
    let position = advance(after, &events, cluster.moment());
    let events = events.into_iter().map(event).collect::<Result<_, _>>()?;
    Ok(FeedPage { events, position, more, epoch, beat, lost })
}

/// An event beside what the database is; without one where there is none.
#[derive(FromRow)]
struct PageRow {
    #[sqlx(flatten)]
    cluster: Cluster,
    seq: Option<u64>,
    at: Option<Millis>,
    payload: Option<String>,
}

impl PageRow {
    fn event(self) -> Option<EventRow> {
        Some((self.seq?, self.at?, self.payload?))
    }
}

/// Of the outbox: the place, the time, the change.
type EventRow = (u64, Millis, String);

fn event((seq, at_ms, payload): EventRow) -> Result<FeedEvent, StoreError> {
    Ok(FeedEvent { seq, at_ms, change: from_json(&payload)? })
}

/// The position after these events. New gaps are noticed, old ones given up.
fn advance(after: &FeedPosition, events: &[EventRow], now: Moment) -> FeedPosition {
    let seen: BTreeSet<u64> = events.iter().map(|(seq, ..)| *seq).collect();
    let last = seen.last().copied().unwrap_or(0).max(after.seq);
    let waited_for = |gap: &&FeedGap| !seen.contains(&gap.seq) && !now.ends(gap);
    let mut gaps: Vec<FeedGap> = after.gaps.iter().filter(waited_for).copied().collect();
    gaps.extend(missing(after.seq + 1, last, &seen, now));
    gaps.drain(..gaps.len().saturating_sub(GAPS_MAX));
    FeedPosition { seq: last, gaps }
}

/// The last places that were not seen from the first to the last. A long row of them is no row of transactions:
/// a server that starts anew may skip places.
fn missing(first: u64, last: u64, seen: &BTreeSet<u64>, now: Moment) -> Vec<FeedGap> {
    let span = u64::try_from(GAPS_MAX + seen.len()).unwrap_or(u64::MAX);
    let places = first.max(last.saturating_sub(span))..=last;
    places
        .filter(|seq| !seen.contains(seq))
        .map(|seq| FeedGap { seq, since_ms: now.at_ms, since_beat: now.beat })
        .collect()
}

/// Where the heart of the primary is.
#[derive(Clone, Copy)]
struct Moment {
    beat: u64,
    at_ms: Millis,
}

impl Moment {
    /// Whether a place that was missed before does not come any more.
    fn ends(self, gap: &FeedGap) -> bool {
        self.at_ms - gap.since_ms >= GAP_TTL_MS && self.beat.saturating_sub(gap.since_beat) >= GAP_TTL_BEATS
    }
}

#[derive(Clone, Copy, FromRow)]
struct Cluster {
    epoch: u32,
    /// The last beat of the heart, and when it was.
    beat: u64,
    beat_at: Millis,
    /// The last place that was swept away.
    swept: u64,
    /// The last place that is there.
    last: Option<u64>,
}

impl Cluster {
    fn moment(self) -> Moment {
        Moment { beat: self.beat, at_ms: self.beat_at }
    }
}

async fn cluster(tx: &mut MySqlConnection) -> Result<Cluster, Failure> {
    let query = "SELECT e.epoch, h.seq AS beat, h.at AS beat_at, e.outbox_swept AS swept,
                        (SELECT MAX(seq) FROM outbox) AS last
                 FROM cluster e JOIN heartbeat h";
    Ok(sqlx::query_as(query).fetch_one(tx).await?)
}

/// Sweeps away old events, a batch; returns how many. Only from the front, and no further than the first that is
/// to stay.
pub(super) async fn sweep(tx: &mut MySqlConnection, before_ms: Millis, limit: i64) -> Result<u64, Failure> {
    let front: Vec<(u64, Millis)> = sqlx::query_as("SELECT seq, at FROM outbox ORDER BY seq LIMIT ?")
        .bind(limit)
        .fetch_all(&mut *tx)
        .await?;
    let Some((last, _)) = front.iter().take_while(|(_, at_ms)| *at_ms <= before_ms).last() else {
        return Ok(0);
    };
    sqlx::query("UPDATE cluster SET outbox_swept = GREATEST(outbox_swept, ?)")
        .bind(last)
        .execute(&mut *tx)
        .await?;
    let deleted = sqlx::query("DELETE FROM outbox WHERE seq <= ?").bind(last).execute(tx).await?;
    Ok(deleted.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: Millis = 1_000_000;
    const NOW: Moment = Moment { beat: 1000, at_ms: NOW_MS };

    fn later(beats: u64, by_ms: Millis) -> Moment {
        Moment { beat: NOW.beat + beats, at_ms: NOW_MS + by_ms }
    }

    fn events(places: &[u64]) -> Vec<EventRow> {
        places.iter().map(|seq| (*seq, NOW_MS, String::new())).collect()
    }

    fn gaps(position: &FeedPosition) -> Vec<u64> {
        position.gaps.iter().map(|gap| gap.seq).collect()
    }

    #[test]
    fn what_is_passed_over_is_waited_for_until_it_comes_or_cannot_come_any_more() {
        let at = advance(&FeedPosition::at(10), &events(&[11, 13, 16]), NOW);
        assert_eq!((at.seq, gaps(&at)), (16, vec![12, 14, 15]));
        assert!(at.covers(13) && !at.covers(14) && !at.covers(17));
        let at = advance(&at, &events(&[14, 17]), later(GAP_TTL_BEATS, GAP_TTL_MS - 1));
        assert_eq!((at.seq, gaps(&at)), (17, vec![12, 15]));
        let at = advance(&at, &events(&[19]), later(GAP_TTL_BEATS, GAP_TTL_MS));
        assert_eq!((at.seq, gaps(&at)), (19, vec![18]));
    }

    #[test]
    fn while_the_primary_stands_still_nothing_is_given_up() {
        let at = advance(&FeedPosition::at(10), &events(&[12]), NOW);
        // It goes on after an hour: its clock has leapt, and the transaction that was under way may commit now.
        let at = advance(&at, &events(&[13]), later(1, 3600 * 1000));
        assert_eq!(gaps(&at), vec![11]);
        assert!(gaps(&advance(&at, &events(&[11]), later(2, 3600 * 1000))).is_empty());
    }

    #[test]
    fn a_leap_of_the_counter_is_not_waited_for_place_by_place() {
        let at = advance(&FeedPosition::at(1), &events(&[u64::MAX / 2]), NOW);
        assert_eq!(at.seq, u64::MAX / 2);
        assert!(at.gaps.len() <= GAPS_MAX);
    }
}
