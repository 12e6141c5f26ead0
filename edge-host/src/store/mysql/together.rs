//! Writes that share a transaction.
//!
//! Most of what a small transaction costs is not its rows: it is the messages, the threads that wake up for them, the
//! statements that are read, and the commit. Writes that come while all transactions are under way therefore go
//! together in the next one, as a database groups its commits: a free one takes what is waiting, at once, and waits
//! for nothing more. Each write is decided by its own caller, between the lock and the commit, those of one cart one
//! after the other, and all are answered when all are committed. What goes wrong for one of them goes wrong for all,
//! and then each tries again alone. A cart that somebody else has locked, or that takes long to decide, is left out.

use std::collections::{HashMap, HashSet};
use std::sync::Weak;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinSet};
use tokio::time::timeout;

use super::MySqlStore;
use super::changes::Changes;
use super::connections::Share;
use super::script::Rows;
use super::session::{ATTEMPT_DEADLINE, Failure, Session};
use super::write::{Found, Progress, Settled, ToWrite, load, settle};
use crate::model::{CartRecord, Millis};
use crate::store::{CartWrite, Decide, Late, StoreError, WriteOutcome};

/// In one transaction: each waits for the locks and the decisions of all.
const WRITES_MAX: usize = 32;
/// Transactions at a time: while one commits, the next are loaded and decided.
const TRANSACTIONS_MAX: usize = Share::Together.connections();
/// Writes that wait; whoever comes then waits at the door, as long as an attempt may take.
const WAITING_MAX: usize = 1024;

/// A write, and where to say what was found for it.
pub(super) struct Asked {
    write: CartWrite,
    found: oneshot::Sender<Result<(Found, oneshot::Sender<Decided>), Failure>>,
}

/// What a caller wants to be written, if anything, and where to say that the transaction has ended.
struct Decided {
    to_write: Option<ToWrite>,
    ended: oneshot::Sender<Result<(), Failure>>,
}

/// A queue of writes, and its end that is to be seen to.
pub(super) fn queue() -> (mpsc::Sender<Asked>, mpsc::Receiver<Asked>) {
    mpsc::channel(WRITES_MAX)
}

/// Sees to the queue as long as there is a store.
pub(super) async fn see_to(store: Weak<MySqlStore>, mut queue: mpsc::Receiver<Asked>) {
    let mut waiting = Vec::new();
    let mut transactions = JoinSet::new();
    // Carts that a transaction has: who comes for one of them waits for its end here, and keeps nobody else waiting.
    let mut taken = HashMap::<Id, HashSet<String>>::new();
    loop {
        tokio::select! {
            came = queue.recv_many(&mut waiting, WRITES_MAX), if waiting.len() < WAITING_MAX => {
                if came == 0 {
                    return;
                }
            }
            Some(ended) = transactions.join_next_with_id() => {
                taken.remove(&ended.map_or_else(|panic| panic.id(), |(id, ())| id));
            }
        }
        while transactions.len() < TRANSACTIONS_MAX {
            let is_free = |asked: &Asked| !taken.values().any(|carts| carts.contains(asked.cart_id()));
            let next = take(&mut waiting, is_free);
            if next.is_empty() {
                break;
            }
            let Some(store) = store.upgrade() else { return };
            let carts = next.iter().map(|asked| asked.cart_id().to_owned()).collect();
            let started = transactions.spawn(async move { store.write_together(next).await });
            taken.insert(started.id(), carts);
        }
    }
}

/// The first writes of free carts, in the order of their carts, and for each as they came.
fn take(waiting: &mut Vec<Asked>, is_free: impl Fn(&Asked) -> bool) -> Vec<Asked> {
    let mut left = WRITES_MAX;
    let mut next: Vec<Asked> = waiting
        .extract_if(.., |asked| {
            let takes = left > 0 && is_free(asked);
            left -= usize::from(takes);
            takes
        })
        .collect();
    next.sort_by(|a, b| a.cart_id().cmp(b.cart_id()));
    next
}

impl Asked {
    fn cart_id(&self) -> &str {
        &self.write.unused.cart_id
    }
}

impl MySqlStore {
    /// One attempt at a write together with others, as [`Self::attempt`] is one alone.
    pub(super) async fn attempt_together(
        &self,
        write: &CartWrite,
        decide: &mut Decide<'_>,
        progress: &mut Progress,
    ) -> Result<WriteOutcome, Failure> {
        let (found_to, found) = oneshot::channel();
        self.queue.send(Asked { write: write.clone(), found: found_to }).await.map_err(gone)?;
        let (found, decided_to) = match found.await.map_err(gone)? {
            Err(Failure::Otherwise(why)) => {
                progress.locked = true;
                return Err(Failure::Otherwise(why));
            }
            found => found?,
        };
        let (to_write, outcome) = match settle(write, found, decide, progress.commit_tried)? {
            Settled::Over(outcome) => (None, outcome),
            Settled::Commit(to_write, outcome) => (Some(to_write), outcome),
        };
        progress.commit_tried |= to_write.is_some();
        // A "no" too may be about what is not committed yet.
        let (ended_to, ended) = oneshot::channel();
        decided_to.send(Decided { to_write, ended: ended_to }).map_err(gone)?;
        ended.await.map_err(|lost| Failure::Unknown(StoreError::unavailable(lost)))??;
        Ok(outcome)
    }

    async fn write_together(&self, mut asked: Vec<Asked>) {
        // Nobody waits for those any more.
        asked.retain(|asked| !asked.found.is_closed());
        if asked.is_empty() {
            return;
        }
        let loaded = match Session::acquire_of(&self.connections, Share::Together).await {
            Ok(tx) => load_together(tx, &asked).await,
            Err(failure) => Err(failure),
        };
        let (tx, found) = match loaded {
            Ok(loaded) => loaded,
            Err(failure) => {
                for asked in asked {
                    let _ = asked.found.send(Err(failure.shared()));
                }
                return;
            }
        };
        let mut writes = self.those_that_stay(asked, found).into_iter().peekable();
        let mut carts = Vec::new();
        while let Some(first) = writes.next() {
            let mut of_one = vec![first];
            while let Some(next) = writes.next_if(|(next, _)| next.cart_id() == of_one[0].0.cart_id()) {
                of_one.push(next);
            }
            carts.push(decide_in_turn(of_one));
        }
        let decided = join_all(carts).await;
        let outcome = self.commit_together(tx, &decided).await;
        for ended in decided.into_iter().flat_map(|cart| cart.waiting) {
            let _ = ended.send(outcome.as_ref().copied().map_err(Failure::shared));
        }
    }

    /// Sends those away that the others would have to wait for.
    fn those_that_stay(&self, asked: Vec<Asked>, found: Vec<Found>) -> Vec<(Asked, Found)> {
        let mut stay = Vec::with_capacity(asked.len());
        for (asked, found) in asked.into_iter().zip(found) {
            self.note_size(&asked.write, &found);
            let otherwise = match &found {
                Found::Held(_) => Some("the cart"),
                Found::Loaded(loaded) if asked.write.is_heavy(loaded.lines()) => Some("a large cart"),
                _ => None,
            };
            match otherwise {
                Some(why) => drop(asked.found.send(Err(Failure::Otherwise(why)))),
                None => stay.push((asked, found)),
            }
        }
        stay
    }

    async fn commit_together(&self, tx: Session, decided: &[OneCart]) -> Result<(), Failure> {
        let mut changes = Changes::default();
        for cart in decided {
            changes.answers(&cart.answers);
            if let Some((before, after)) = &cart.change {
                changes.cart(before, after, cart.now_ms)?;
            }
        }
        if decided.iter().all(|cart| cart.answers.is_empty()) {
            return tx.roll_back().await;
        }
        let has_news = changes.has_news();
        self.commit_after(changes.into_script(), tx, has_news).await
    }
}

async fn load_together(mut tx: Session, asked: &[Asked]) -> Result<(Session, Vec<Found>), Failure> {
    let writes: Vec<&CartWrite> = asked.iter().map(|asked| &asked.write).collect();
    match timeout(ATTEMPT_DEADLINE, load(&mut tx, &writes, &|_| true)).await {
        Ok(Ok(found)) => Ok((tx, found)),
        // Whatever it is, it need not be so for each of them.
        Ok(Err(failure)) => Err(Failure::Undone(failure.into_error())),
        Err(_) => Err(Failure::Undone(StoreError::overloaded(Late("the carts of a transaction")))),
    }
}

/// What several writes make of one cart.
#[derive(Default)]
struct OneCart {
    /// The cart as it was, and as it is after the last of them.
    change: Option<(CartRecord, CartRecord)>,
    now_ms: Millis,
    answers: Rows,
    waiting: Vec<oneshot::Sender<Result<(), Failure>>>,
}

/// Lets each decide about what the one before has made of the cart. Who says nothing went away.
async fn decide_in_turn(writes: Vec<(Asked, Found)>) -> OneCart {
    let mut cart = OneCart::default();
    for (asked, mut found) in writes {
        if let (Found::Loaded(loaded), Some((_, after))) = (&mut found, &cart.change) {
            loaded.cart = after.clone();
        }
        let (decided_to, decided) = oneshot::channel();
        let now_ms = asked.write.now_ms;
        let _ = asked.found.send(Ok((found, decided_to)));
        let Ok(Decided { to_write, ended }) = decided.await else { continue };
        cart.waiting.push(ended);
        let Some(to_write) = to_write else { continue };
        cart.answers.append(&to_write.answers);
        for (before, after) in to_write.carts {
            cart.change = Some((cart.change.map_or(before, |(first, _)| first), after));
            cart.now_ms = now_ms;
        }
    }
    cart
}

/// Whoever saw to it has ended without a word.
fn gone<T>(_: T) -> Failure {
    Failure::Undone(StoreError::unavailable("the transaction has ended early"))
}
