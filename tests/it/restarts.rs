//! Every process of which there are two can be restarted under load without a failed request.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::{Caller, Door, Fleet, FleetOptions, eventually, unique};
use tokio::task::JoinSet;

/// Clients that shop all the time.
const CLIENTS: usize = 6;
/// Between two requests of one client: together they make some 300 a second, where the machine can.
const PAUSE: Duration = Duration::from_millis(20);
/// A load balancer asks this often.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Requests that have to be answered between two restarts.
const CALM: usize = 30;

/// What a load balancer before two front doors knows: where each is, and whether it says that it is ready.
#[derive(Default)]
struct Balancer {
    doors: Mutex<Vec<(String, String, bool)>>,
}

impl Balancer {
    fn pick(&self, n: usize) -> String {
        let doors = self.doors.lock().expect("nobody panics with the lock held");
        let ready: Vec<_> = doors.iter().filter(|(_, _, ready)| *ready).collect();
        let (url, ..) = ready.get(n % ready.len().max(1)).expect("one front door is ready");
        url.clone()
    }

    async fn look(&self) {
        let asked: Vec<String> = self
            .doors
            .lock()
            .expect("nobody panics")
            .iter()
            .map(|(_, internal, _)| internal.clone())
            .collect();
        for (at, internal) in asked.into_iter().enumerate() {
            let answer = Caller::new(internal).get("/readyz").send().await;
            let ready = answer.is_ok_and(|answer| answer.status == 200);
            self.doors.lock().expect("nobody panics")[at].2 = ready;
        }
    }
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    answered: AtomicUsize,
    failed: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl Seen {
    async fn calm(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        eventually("the clients go on", async || self.answered.load(Ordering::Relaxed) >= before + CALM)
            .await;
    }
}

async fn shop(guest: Caller, mug: String, balancer: Arc<Balancer>, seen: Arc<Seen>) {
    let mut at = 0;
    while !seen.ended.load(Ordering::Relaxed) {
        at += 1;
        let there = guest.at(balancer.pick(at));
        let ask = match at % 4 {
            0 => there.add(&mug, 1),
            1 => there.get("/v1/cart"),
            2 => there.get("/v1/cart/count"),
            _ => there.get("/v1/orders"),
        };
        let failure = match ask.send().await {
            Ok(answer) if answer.status == 200 => None,
            Ok(answer) => Some(answer.to_string()),
            Err(error) => Some(format!("{error:?}")),
        };
        seen.failed.lock().expect("nobody panics").extend(failure);
        seen.answered.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Until every edge is known to everybody who sends it requests.
async fn all_are_back(fleet: &Fleet, doors: &[Option<Door>]) {
    for door in doors.iter().flatten() {
        let door = Caller::new(door.url());
        eventually("the front door sees all edges", async || {
            let page = door.get("/.well-known/troli/front-door").await.ok();
            let regions = page["regions"].as_array().expect("regions");
            regions.iter().all(|region| region["health"] == "up" && region["edges_serving"] == 2)
        })
        .await;
    }
    for internal in fleet.internal_urls("jkt") {
        let edge = Caller::new(internal);
        eventually("the edge is connected to both edges of home", async || {
            let metrics = String::from_utf8(edge.get("/metrics").await.body).expect("text");
            metrics.lines().any(|line| line.starts_with("troli_home_edges_serving") && line.ends_with(" 2"))
        })
        .await;
    }
}

fn restarts() -> usize {
    std::env::var("TROLI_RESTARTS").ok().and_then(|restarts| restarts.parse().ok()).unwrap_or(1)
}

#[tokio::test]
async fn a_restart_of_any_process_fails_no_request() {
    let options =
        FleetOptions { regions: vec!["sin", "jkt"], twins: vec!["sin", "jkt"], ..FleetOptions::default() };
    let fleet = Fleet::start(options).await;
    let mut doors = vec![Some(fleet.start_door(None).await), Some(fleet.start_door(None).await)];
    let known = doors.iter().flatten().map(|door| (door.url(), door.internal_url(), true)).collect();
    let balancer = Arc::new(Balancer { doors: Mutex::new(known) });
    all_are_back(&fleet, &doors).await;

    let mug = unique("mug");
    fleet.admin().sell(&mug, "1.00").await;
    let seen = Arc::new(Seen::default());
    let mut tasks = JoinSet::new();
    for n in 0..CLIENTS {
        // Half of them near home, half near the other region.
        let address = if n % 2 == 0 { "36.64.1.1" } else { "103.10.64.1" };
        let guest = Caller::new(balancer.pick(n)).guest("SGD").await.from_address(address).following();
        tasks.spawn(shop(guest, mug.clone(), Arc::clone(&balancer), Arc::clone(&seen)));
    }
    let (watching, watched) = (Arc::clone(&balancer), Arc::clone(&seen));
    tasks.spawn(async move {
        while !watched.ended.load(Ordering::Relaxed) {
            watching.look().await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });

    for _ in 0..restarts() {
        for region in ["sin", "jkt"] {
            fleet.stop_region(region).await;
            fleet.start_region(region).await;
            all_are_back(&fleet, &doors).await;
            seen.calm().await;
            fleet.stop_twin(region).await;
            fleet.start_twin(region).await;
            all_are_back(&fleet, &doors).await;
            seen.calm().await;
        }
        for at in 0..doors.len() {
            let stopped = fleet.stop_door(doors[at].take().expect("it runs")).await;
            doors[at] = Some(fleet.start_door(Some(stopped)).await);
            all_are_back(&fleet, &doors).await;
            balancer.look().await;
            seen.calm().await;
        }
    }
    seen.ended.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("a client does not panic");
    }
    let failed = seen.failed.lock().expect("nobody panics");
    let answered = seen.answered.load(Ordering::Relaxed);
    assert!(failed.is_empty(), "{} of {answered} requests failed, the first: {}", failed.len(), failed[0]);
}

#[tokio::test]
async fn a_region_that_cannot_reach_home_reads_and_its_writes_go_elsewhere() {
    let options = FleetOptions { regions: vec!["sin", "jkt"], front_door: true, ..FleetOptions::default() };
    let fleet = Fleet::start(options).await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "1.00").await;
    let guest = fleet.front_door().guest("SGD").await.from_address("36.64.1.1").following();
    let region =
        |answer: &harness::Answer| answer.header("troli-region-choice").split(';').next().map(str::to_owned);
    let written = guest.add(&mug, 1).await;
    written.ok();
    assert_eq!(region(&written).as_deref(), Some("jkt"));

    fleet.link("jkt").cut().await;
    let ready = fleet.internal("jkt");
    eventually("the region says that it only reads", async || {
        let answer = ready.get("/readyz").await;
        answer.status == 200 && answer.json()["writes"] == false
    })
    .await;
    let said = ready.get("/readyz").await.ok();
    assert!(said["reasons"][0].as_str().is_some_and(|why| why.contains("home")), "{said:#}");
    eventually("the front door has heard it", async || {
        let page = fleet.front_door().get("/.well-known/troli/front-door").await.ok();
        let mut regions = page["regions"].as_array().into_iter().flatten();
        regions.any(|region| region["id"] == "jkt" && region["takes_writes"] == false)
    })
    .await;
    let written = guest.add(&mug, 1).await;
    assert_eq!((written.status, region(&written).as_deref()), (200, Some("sin")), "{written}");
    let items = guest.get("/v1/items").await;
    assert_eq!((items.status, region(&items).as_deref()), (200, Some("jkt")), "{items}");

    fleet.link("jkt").restore().await.expect("the link can listen again");
    eventually("writes are done near again", async || {
        region(&guest.add(&mug, 1).await).as_deref() == Some("jkt")
    })
    .await;
}
