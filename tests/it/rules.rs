//! The rules are swapped while the shop is open, and bad rules hurt nobody but their own carts.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::{Fleet, FleetOptions, components, eventually, unique};
use serde_json::{Value, json};

use crate::support::{assert_json, sgd};

/// Waits until the home region has refused a component with this code, and returns what it says.
async fn refusal(fleet: &Fleet, code: &str) -> Value {
    let admin = fleet.admin();
    eventually(&format!("a component is refused as {code}"), async || {
        admin.get("/admin/rules").await.ok()["last_refused"]["code"] == code
    })
    .await;
    admin.get("/admin/rules").await.ok()["last_refused"].clone()
}

#[tokio::test]
async fn new_rules_are_swapped_in_everywhere_without_one_failed_request() {
    let fleet = Fleet::start(FleetOptions::default()).await;
    let mug = unique("mug");
    let seed = json!({ "title": "Mug", "prices": { "SGD": "100.00" }, "stock": 1_000_000, "tags": ["mega"] });
    fleet.admin().put_item(&mug, seed).await;
    let standard = fleet.admin().get("/admin/rules").await.ok()["active"].clone();
    assert_json(&standard["name"], json!("standard"));

    // 100.00, or 100.00 − 20 % − 11 % of the rest: nothing between, whatever rules decide while they change.
    let (old, new) = (sgd("100.00"), sgd("71.20"));
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let shop = async |n: usize| {
        let ids = fleet.ids();
        let guest = fleet.at(ids[n % ids.len()]).guest("SGD").await;
        guest.add(&mug, 1).await.ok();
        while !stop.load(Ordering::Relaxed) {
            let cart = guest.cart().await;
            let expected = if cart["rules"]["name"] == "standard" { &old } else { &new };
            assert_eq!(cart["totals"]["total"], *expected, "{cart:#}");
            let cart = guest.add(&mug, 1).await.ok();
            let back = format!("/v1/cart/items/{}", cart["lines"][0]["line_id"].as_str().expect("a line"));
            guest.patch(back, json!({ "quantity": 1 })).await.ok();
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    let swap = async {
        let after = async |count: usize| {
            let begin = done.load(Ordering::Relaxed);
            eventually("shopping goes on", async || done.load(Ordering::Relaxed) >= begin + count).await;
        };
        after(10).await;
        for (component, name) in [
            (&components().mega_sale, "mega-sale"),
            (&components().standard, "standard"),
            (&components().mega_sale, "mega-sale"),
        ] {
            fleet.save_rules(component);
            for region in fleet.ids() {
                fleet.runs_rules(region, name).await;
            }
            after(10).await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(swap, futures_util::future::join_all((0..6).map(shop)));

    let guest = fleet.at("jkt").guest("SGD").await.following();
    let written = guest.add(&mug, 1).await.ok();
    assert_json(&written["discounts"][0]["code"], json!("mega-20"));
    assert_json(&written["discounts"][0]["amount"], sgd("20.00"));
    assert_json(&written["discounts"][1]["code"], json!("11.11"));
    assert_json(&written["discounts"][1]["amount"], sgd("8.80"));
    for region in fleet.ids() {
        assert_json(&guest.at(fleet.url(region)).cart().await["totals"]["total"], new.clone());
        let status = fleet.admin_at(region).get("/admin/rules").await.ok();
        assert_json(&status["active"]["revision"], written["rules"]["revision"].clone());
        assert_json(&status["previous"]["revision"], standard["revision"].clone());
    }
    let order = guest.checkout().await.is(201);
    assert_json(&order["totals"]["total"], new);
    assert_json(&order["rules"], written["rules"].clone());
}

#[tokio::test]
async fn a_component_that_fails_a_check_changes_nothing_and_the_reason_is_told() {
    let fleet = Fleet::start(FleetOptions::default()).await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("bkk").guest("SGD").await;
    guest.add(&mug, 1).await.ok();
    let before = fleet.admin().get("/admin/rules").await.ok()["active"].clone();
    let half = &components().standard[..components().standard.len() / 2];
    let wasi = r#"(component (import "wasi:cli/environment@0.2.0" (instance)))"#;
    let socket = r#"(component (import "connect" (func (param "to" string))))"#;
    let core_module = "(module (func (export \"apply\")))";
    let compiled = |text: &str| wat::parse_str(text).expect("the text is WebAssembly");
    for (component, code) in [
        (Vec::new(), "not_a_component"),
        (b"<html>not found</html>".to_vec(), "not_a_component"),
        (compiled(core_module), "not_a_component"),
        (half.to_vec(), "component_not_compiled"),
        (compiled("(component)"), "wrong_world"),
        (compiled(wasi), "forbidden_import"),
        (compiled(socket), "forbidden_import"),
        (vec![0; 300 * 1024], "component_too_large"),
    ] {
        fleet.save_rules(&component);
        let refused = refusal(&fleet, code).await;
        let reason = refused["reason"].as_str().unwrap_or_default();
        assert!(!reason.is_empty(), "{refused:#}");
        if code == "forbidden_import" {
            assert!(reason.contains("wasi:cli/environment") || reason.contains("connect"), "{reason}");
        }
        for region in fleet.ids() {
            let status = fleet.admin_at(region).get("/admin/rules").await.ok();
            assert_json(&status["active"], before.clone());
        }
        guest.add(&mug, 1).await.ok();
    }
    // A right one is taken after all the wrong ones.
    fleet.save_rules(&components().mega_sale);
    for region in fleet.ids() {
        fleet.runs_rules(region, "mega-sale").await;
    }
}

#[tokio::test]
async fn rules_that_misbehave_fail_their_own_carts_and_no_others() {
    let rules = components().misbehaving.clone();
    let fleet = Fleet::start(FleetOptions { rules, ..FleetOptions::default() }).await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let good = fleet.at("jkt").guest("SGD").await;
    good.add(&mug, 1).await.ok();

    for (evil, code) in [
        ("EVIL-LOOP", "rules_out_of_fuel"),
        ("EVIL-TRAP", "rules_trapped"),
        ("EVIL-MEMORY", "rules_out_of_memory"),
        ("EVIL-NONSENSE", "rules_invalid_output"),
        ("EVIL-FOREIGN", "rules_invalid_output"),
        ("EVIL-PRICE", "rules_invalid_output"),
        ("EVIL-CHARGE", "rules_invalid_output"),
    ] {
        let item = unique(evil);
        fleet.admin().sell(&item, "10.00").await;
        for region in fleet.ids() {
            let bad = fleet.at(region).guest("SGD").await;
            bad.add(&mug, 1).await.ok();
            let version = bad.get("/v1/cart").await.version();
            let evils = (0..4).map(|_| bad.add(&item, 1).into_future());
            let goods = (0..20).map(|_| good.get("/v1/cart").into_future());
            let writes = (0..3).map(|_| good.at(fleet.url("bkk")).put("/v1/cart/coupons/NONE").into_future());
            let (evils, goods, writes) = tokio::join!(
                futures_util::future::join_all(evils),
                futures_util::future::join_all(goods),
                futures_util::future::join_all(writes),
            );
            for answer in &evils {
                let problem = answer.problem(503, code);
                let detail = problem["detail"].as_str().unwrap_or_default();
                assert!(!detail.contains("panicked") && !detail.contains("wasm"), "no insides: {detail}");
                answer.header("retry-after");
            }
            goods.iter().for_each(|answer| drop(answer.ok()));
            writes.iter().for_each(|answer| drop(answer.problem(422, "coupon_unknown")));
            let cart = bad.get("/v1/cart").await;
            assert_json(&cart.ok()["totals"]["total"], sgd("10.00"));
            assert_eq!(cart.version(), version, "nothing was changed");
        }
    }
}

#[tokio::test]
async fn a_cart_that_new_rules_fail_on_is_served_again_by_the_next_rules() {
    let fleet = Fleet::start(FleetOptions::default()).await;
    let item = unique("EVIL-TRAP");
    fleet.admin().sell(&item, "10.00").await;
    let guest = fleet.at("bkk").guest("SGD").await;
    let cart = guest.add(&item, 2).await.ok();
    fleet.save_rules(&components().misbehaving);
    for region in fleet.ids() {
        fleet.runs_rules(region, "misbehaving").await;
    }
    guest.get("/v1/cart").await.problem(503, "rules_trapped");
    // What needs no rules is answered all the same.
    assert_json(&guest.get("/v1/cart/count").await.ok(), json!({ "lines": 1, "quantity": 2 }));
    fleet.save_rules(&components().standard);
    for region in fleet.ids() {
        fleet.runs_rules(region, "standard").await;
    }
    assert_json(&guest.cart().await, cart);
}

#[tokio::test]
async fn active_rules_survive_a_restart_of_every_region() {
    let fleet = Fleet::start(FleetOptions::default()).await;
    fleet.save_rules(&components().mega_sale);
    for region in fleet.ids() {
        fleet.runs_rules(region, "mega-sale").await;
    }
    for region in fleet.ids() {
        fleet.stop_region(region).await;
    }
    // Home first: the others have nobody else to ask.
    for region in ["sin", "bkk", "jkt"] {
        fleet.start_region(region).await;
        fleet.runs_rules(region, "mega-sale").await;
    }
}

#[tokio::test]
async fn a_component_of_the_same_size_and_time_is_noticed() {
    let fleet = Fleet::start(FleetOptions::default()).await;
    let standard = &components().standard;
    // The same rules in another file: a custom section more, and one byte in it that differs.
    let padded = |byte: u8| [standard.as_slice(), &[0, 4, 1, b'x', byte, byte]].concat();
    let digest = |component: &[u8]| edge_host::rules::Revision::of(component).to_string();
    let active = async || fleet.admin().get("/admin/rules").await.ok()["active"]["revision"].clone();
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    for byte in [1, 2, 3] {
        let component = padded(byte);
        fleet.save_rules_of_time(&component, time);
        eventually("it is active", async || active().await == digest(&component)).await;
    }
}

#[tokio::test]
async fn a_home_edge_that_starts_with_an_older_file_takes_nobody_back() {
    let fleet = Fleet::start(FleetOptions { regions: vec!["sin", "jkt"], ..FleetOptions::default() }).await;
    fleet.save_rules(&components().mega_sale);
    for region in fleet.ids() {
        fleet.runs_rules(region, "mega-sale").await;
    }
    fleet.stop_region("sin").await;
    fleet.save_rules(&components().standard);
    fleet.start_region("sin").await;
    // It has read its file by the time it takes another over.
    for region in fleet.ids() {
        fleet.runs_rules(region, "mega-sale").await;
    }
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let cart = fleet.at("sin").guest("SGD").await.add(&mug, 1).await.ok();
    assert_json(&cart["rules"]["name"], json!("mega-sale"));
    // A change while it runs counts, also to what was there before; and so does the way back.
    fleet.save_rules(&components().misbehaving);
    fleet.runs_rules("jkt", "misbehaving").await;
    fleet.save_rules(&components().standard);
    fleet.runs_rules("jkt", "standard").await;
}

#[tokio::test]
async fn a_file_that_is_far_too_large_is_refused_without_being_read() {
    let options = FleetOptions { regions: vec!["sin"], ..FleetOptions::default() };
    let fleet = Fleet::start(options).await;
    fleet.save_large_rules(1 << 40);
    refusal(&fleet, "component_too_large").await;
    fleet.at("sin").guest("SGD").await.cart().await;
}
