use super::*;
use crate::store_contract::support::{become_cart, version};

/// More transactions than a store has under way at once for writes that come together: whoever comes after so many
/// has company.
const BUSY: usize = 8;

/// Every event since then.
async fn told(store: &MySqlStore, since: &FeedPosition) -> Vec<Change> {
    let page = store.feed(Some(since), 500).await.expect("an answer");
    assert!(!page.more && !page.lost);
    page.events.into_iter().map(|event| event.change).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_of_one_cart_are_done_one_after_the_other() {
    let store = open(&migrated().await);
    let begin = store.feed(None, 1).await.expect("an answer").position;
    let owner = guest("busy");
    let writes: Vec<_> = (0..50).map(|_| write_of(&owner)).collect();
    let outcomes = join_all(writes.iter().map(async |write| store.write(write, &mut one_more).await)).await;
    let versions: BTreeSet<u64> =
        outcomes.into_iter().map(|outcome| done(outcome.expect("an answer")).version.version).collect();
    assert_eq!(versions, (1..=50).collect());
    let cart = store.cart(&owner.cart_id()).await.expect("an answer").expect("a cart");
    assert_eq!((cart.cart.quantity(), cart.version.version), (50, 50));
    // A transaction tells of the cart once, so there were fewer of them.
    let told = told(&store, &begin).await;
    assert!(told.len() < 50, "{} transactions", told.len());
    assert!(matches!(told.last(), Some(Change::Cart { version, .. }) if version.version == 50), "{told:?}");
    // Each has its own answer under its key.
    for write in &writes {
        let again = store.write(write, &mut one_more).await.expect("an answer");
        assert!(matches!(&again, WriteOutcome::Replayed { answer, .. } if answer.version.version <= 50));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_of_many_carts_that_come_together_share_transactions() {
    // One of its own: the server counts everybody's commits.
    let server = MySqlServer::start().await;
    let url = server.url();
    mysql::migrate(&target(&url)).await.expect("an empty database takes the schema");
    let store = open(&url);
    let mut counts = connect(&server.admin_url()).await;
    let before = commits(&mut counts).await;
    let writes: Vec<_> = (0..60).map(|n| write_of(&guest(&format!("many-{n}")))).collect();
    let outcomes = join_all(writes.iter().map(async |write| store.write(write, &mut one_more).await)).await;
    for outcome in outcomes {
        assert_eq!(done(outcome.expect("an answer")).version, version(1));
    }
    let transactions = commits(&mut counts).await - before;
    assert!(transactions < 30, "{transactions} transactions for 60 writes");
}

async fn commits(server: &mut MySqlConnection) -> u64 {
    let (_, count): (String, String) =
        sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Com_commit'").fetch_one(server).await.expect("an answer");
    count.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_hears_of_what_is_not_committed() {
    let store = open(&migrated().await);
    let owner = guest("hasty");
    let writes = (0..40).map(async |n| {
        let mut write = write_of(&owner);
        // Every other one is for a version that the ones before it have left.
        write.if_match = (n % 2 == 1).then(|| vec![version(0)]);
        let outcome = store.write(&write, &mut one_more).await.expect("an answer");
        let heard = match outcome {
            WriteOutcome::VersionMismatch(current) => current,
            done_or_not => done(done_or_not).version,
        };
        let there = store.cart(&owner.cart_id()).await.expect("an answer").map(|cart| cart.version);
        assert!(there >= Some(heard), "heard of {heard}, and there is {there:?}");
    });
    join_all(writes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_put_in_and_taken_out_again_in_one_transaction_is_out() {
    let store = open(&migrated().await);
    let owner = guest("wavering");
    let carts = [&[1][..], &[1, 2], &[2], &[], &[3, 1, 2], &[4, 1]];
    let writes = carts.map(|quantities| async {
        let write = write_of(&owner);
        done(store.write(&write, &mut become_cart(cart_of(quantities))).await.expect("an answer"))
    });
    let last = join_all(writes).await.pop().expect("there were some");
    let cart = store.cart(&owner.cart_id()).await.expect("an answer").expect("a cart");
    assert_eq!((cart.version, &cart.cart), (version(6), &last.cart));
    assert_eq!(cart.cart, cart_of(&[4, 1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_has_an_outcome_of_its_own() {
    let store = open(&migrated().await);
    let busy: Vec<_> = (0..BUSY).map(|n| write_of(&guest(&format!("busy-{n}")))).collect();
    let answered = write_of(&guest("answered"));
    done(store.write(&answered, &mut one_more).await.expect("an answer"));
    let mut reused = answered.clone();
    reused.request = Some("another".to_owned());
    let mut late = write_of(&guest("answered"));
    late.if_match = Some(vec![version(7)]);
    let (refused, new) = (write_of(&guest("refused")), write_of(&guest("new")));
    let busy = join_all(busy.iter().map(async |write| store.write(write, &mut one_more).await));
    let (_, replayed, late, refused, new) = tokio::join!(
        busy,
        async { store.write(&answered, &mut one_more).await },
        async { store.write(&late, &mut one_more).await },
        async { store.write(&refused, &mut |_| None).await },
        async { store.write(&new, &mut one_more).await },
    );
    assert!(matches!(replayed, Ok(WriteOutcome::Replayed { .. })), "{replayed:?}");
    assert!(matches!(late, Ok(WriteOutcome::VersionMismatch(at)) if at == version(1)), "{late:?}");
    assert!(matches!(refused, Ok(WriteOutcome::Refused)), "{refused:?}");
    assert_eq!(done(new.expect("an answer")).version, version(1));
    let reused = store.write(&reused, &mut one_more).await;
    assert!(matches!(reused, Ok(WriteOutcome::KeyReused(_))), "{reused:?}");
    assert!(store.cart(&guest("refused").cart_id()).await.expect("an answer").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_database_refuses_takes_nobody_along() {
    let store = open(&migrated().await);
    let owners: Vec<_> = (0..3 * BUSY).map(|n| guest(&format!("good-{n}"))).collect();
    let good: Vec<_> = owners.iter().map(write_of).collect();
    let bad = write_of(&guest("bad"));
    let (first, second) = good.split_at(2 * BUSY);
    let write_all = |writes: &[edge_host::store::CartWrite]| {
        let writes = writes.to_vec();
        let store = Arc::clone(&store);
        async move { join_all(writes.iter().map(async |write| store.write(write, &mut one_more).await)).await }
    };
    let (before, refused, after) = tokio::join!(
        write_all(first),
        // No line may be so many.
        async { store.write(&bad, &mut become_cart(cart_of(&[60_000]))).await },
        write_all(second),
    );
    assert!(matches!(refused, Err(StoreError::Corrupt(_) | StoreError::Unavailable(_))), "{refused:?}");
    for outcome in before.into_iter().chain(after) {
        assert_eq!(done(outcome.expect("an answer")).version, version(1));
    }
    for owner in &owners {
        let cart = store.cart(&owner.cart_id()).await.expect("an answer").expect("a cart");
        assert_eq!((cart.cart.quantity(), cart.version), (1, version(1)));
    }
}
