//! What every store must do, whoever stands behind it: one suite of behaviours, run against each adapter.
//!
//! An adapter joins with one line: `primary_store!` or `cart_cache!`, its name, and how to open an empty one.

pub(crate) mod cache;
mod housekeeping;
mod merchant;
mod primary;
pub(crate) mod support;
mod upgrade;

/// Runs every behaviour of a primary against one adapter. `open` gives an empty store, and whatever must live
/// as long as it does.
macro_rules! primary_store {
    ($adapter:ident, $open:path) => {
        mod $adapter {
            primary_store!(@ $open, primary: [
                a_cart_that_was_never_written_is_not_there,
                a_write_is_read_back_whole,
                every_write_makes_the_next_version,
                a_write_that_changes_nothing_keeps_its_version_and_its_answer,
                a_refused_write_leaves_nothing,
                a_write_at_another_version_is_not_even_decided,
                the_same_request_is_answered_from_its_key,
                another_request_under_a_key_is_told_apart,
                a_key_is_free_again_when_its_request_failed,
                a_key_is_free_again_when_its_request_was_given_up,
                of_concurrent_writes_none_is_lost,
                of_one_request_many_times_at_once_one_is_done,
                a_merge_ends_the_guests_cart,
                what_is_loaded_is_what_carts_and_request_mention,
            ]);
            primary_store!(@ $open, housekeeping: [
                an_order_takes_stock_and_empties_the_cart,
                stock_never_falls_below_nothing,
                a_cancelled_order_gives_back_once,
                a_paid_order_is_never_cancelled,
                orders_come_newest_first_and_belong_to_their_owner,
                an_unpaid_order_is_cancelled_when_its_time_is_over,
                an_expired_cart_ends_empty_at_the_next_version,
                old_answers_are_forgotten_and_young_ones_kept,
                the_feed_tells_every_change_in_order,
                a_follower_that_was_away_too_long_is_told_so,
                the_catalogue_stands_for_its_place_in_the_feed,
                rules_are_kept_and_told,
            ]);
            primary_store!(@ $open, merchant: [
                an_item_is_decided_from_what_it_is,
                an_item_that_stays_as_it_is_is_not_told,
                a_change_is_done_once_under_its_key,
                a_refused_change_keeps_nothing,
                of_many_who_make_one_item_one_makes_it,
                changes_of_an_item_come_one_after_the_other,
                an_order_of_nothing_is_decided_about,
                an_order_is_settled_once_under_its_key,
                old_keys_are_forgotten_and_young_ones_kept,
                a_guests_orders_become_the_users,
            ]);
        }
    };
    (@ $open:path, $module:ident: [$($behaviour:ident,)*]) => {
        $(
            #[tokio::test]
            async fn $behaviour() {
                let (store, _kept) = $open().await;
                crate::store_contract::$module::$behaviour(store).await;
            }
        )*
    };
}

/// Runs every behaviour of a regional cache against one adapter.
macro_rules! cart_cache {
    ($adapter:ident, $open:path) => {
        cart_cache!(@ $adapter, $open, [
            what_was_put_in_comes_out,
            a_cart_that_was_never_put_in_is_not_there,
            a_cart_that_was_never_written_is_known_as_such,
            no_entry_is_replaced_by_an_older_one,
            a_newer_cart_leaves_nothing_of_the_older,
            a_floor_keeps_older_carts_out,
            a_floor_does_not_end_a_ticket,
            many_floors_are_put_in_at_once,
            of_one_version_the_whole_cart_stays,
            a_newer_epoch_is_newer_whatever_its_version,
            a_count_is_that_of_the_whole_cart,
            a_document_is_kept_beside_its_version,
            a_document_comes_in_with_its_cart,
            a_document_of_another_version_is_not_kept,
            a_document_goes_with_its_version,
            concurrent_puts_never_go_back,
            starting_anew_forgets_all,
            a_ticket_ends_when_its_entry_is_forgotten,
            a_ticket_is_good_for_its_own_cart,
            the_place_in_the_feed_is_kept,
            of_two_that_tell_it_the_faster_counts,
            who_came_back_from_the_past_is_told_so,
        ]);
    };
    (@ $adapter:ident, $open:path, [$($behaviour:ident,)*]) => {
        mod $adapter {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $behaviour() {
                    let (cache, _kept) = $open().await;
                    crate::store_contract::cache::$behaviour(cache).await;
                }
            )*
        }
    };
}

primary_store!(mysql, crate::store_contract::support::mysql);
primary_store!(sqlite, crate::store_contract::support::sqlite);
cart_cache!(memory, crate::store_contract::support::memory);
cart_cache!(redis, crate::store_contract::support::redis);
