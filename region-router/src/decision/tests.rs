use std::time::Instant;

use proptest::prelude::*;

use super::{Candidate, ClientHint, Reason, decide, parse_round_trips};
use crate::health::{FAILURES_TO_DOWN, Health, Probe};
use crate::proximity::Country;
use crate::topology::{RegionId, Topology};

fn shipped() -> Topology {
    Topology::parse(include_str!("../../../deploy/topology.toml")).expect("the shipped topology")
}

fn health(topology: &Topology, up: impl Fn(RegionId) -> bool) -> Health {
    let now = Instant::now();
    let mut health = Health::unknown(topology.regions().iter().map(|region| region.id), now);
    for region in topology.regions() {
        if up(region.id) {
            health.record(region.id, Probe::Ready, now);
        } else {
            for _ in 0..FAILURES_TO_DOWN {
                health.record(region.id, Probe::Failed, now);
            }
        }
    }
    health
}

fn hint(region: Option<&'static str>, country: Option<&str>) -> ClientHint<'static> {
    ClientHint { region, round_trips: &[], country: country.map(|code| code.parse().expect("a country")) }
}

/// The whole decision in one line, the regions that are not up in brackets.
fn decided(down: &[&str], hint: ClientHint<'_>) -> String {
    let topology = shipped();
    let health = health(&topology, |id| !down.contains(&id.as_str()));
    let written = |candidate: &Candidate| {
        let text = format!("{}={}", candidate.region, candidate.reason);
        if candidate.up { text } else { format!("[{text}]") }
    };
    match decide(&topology, &health, &hint) {
        Ok(candidates) => candidates.iter().map(written).collect::<Vec<_>>().join(" "),
        Err(unknown) => unknown.to_string(),
    }
}

#[test]
fn a_country_of_ours_gets_its_own_region_first() {
    for (country, region) in
        [("SG", "sin"), ("MY", "kul"), ("ID", "jkt"), ("TH", "bkk"), ("VN", "sgn"), ("PH", "mnl")]
    {
        let line = decided(&[], hint(None, Some(country)));
        assert!(line.starts_with(&format!("{region}=address ")), "{country}: {line}");
    }
}

#[test]
fn any_other_caller_gets_home_first() {
    let order = "sin=default kul=failover jkt=failover sgn=failover bkk=failover mnl=failover";
    assert_eq!(decided(&[], hint(None, None)), order);
    assert_eq!(decided(&[], hint(None, Some("AU"))), order);
}

#[test]
fn an_explicit_region_wins_over_the_address() {
    assert_eq!(
        decided(&[], hint(Some("bkk"), Some("SG"))),
        "bkk=explicit sgn=failover kul=failover sin=failover mnl=failover jkt=failover"
    );
}

#[test]
fn an_explicit_region_that_is_down_falls_to_the_nearest_to_it() {
    assert_eq!(
        decided(&["bkk", "kul"], hint(Some("bkk"), Some("SG"))),
        "sgn=failover sin=failover mnl=failover jkt=failover [bkk=explicit] [kul=failover]"
    );
}

#[test]
fn measured_round_trips_outweigh_the_address_but_not_the_choice() {
    let measured = |text: &str, down: &[&str], named: Option<&'static str>| {
        let round_trips = parse_round_trips(text).expect("round trips");
        decided(down, ClientHint { round_trips: &round_trips, ..hint(named, Some("PH")) })
    };
    // What was not measured is reached through what was: kul by way of sin in 10 + 5.
    assert_eq!(
        measured("sin=10,jkt=4,nrt=1", &[], None),
        "jkt=round_trip sin=failover kul=failover sgn=failover bkk=failover mnl=failover"
    );
    assert!(measured("sin=10,jkt=4", &["jkt"], None).starts_with("sin=failover kul=failover"));
    assert!(measured("sin=10,jkt=10", &[], None).starts_with("sin=round_trip jkt=failover"));
    assert!(measured("sin=10,jkt=4", &[], Some("bkk")).starts_with("bkk=explicit sgn=failover"));
    assert!(measured("nrt=1", &[], None).starts_with("mnl=address"), "of a region that is not here");
}

#[test]
fn round_trips_are_regions_with_milliseconds() {
    let count = |text: &str| parse_round_trips(text).map(|round_trips| round_trips.len()).ok();
    assert_eq!(count("sin=0, jkt=60000"), Some(2));
    let many = |count: usize| (0..count).map(|n| format!("a{n}=1")).collect::<Vec<_>>().join(",");
    assert_eq!(count(&many(32)), Some(32));
    for bad in
        ["", "sin", "sin=", "sin=-1", "sin=+1", "sin=1.5", "SIN=1", "sin=60001", "sin=1,sin=2", "sin=1,"]
    {
        assert_eq!(count(bad), None, "{bad:?}");
    }
    assert_eq!(count(&many(33)), None);
}

#[test]
fn with_all_down_the_order_is_that_of_all_up() {
    assert_eq!(
        decided(&["sin", "kul", "jkt", "bkk", "sgn", "mnl"], hint(None, Some("PH"))),
        "[mnl=address] [sgn=failover] [bkk=failover] [sin=failover] [kul=failover] [jkt=failover]"
    );
}

#[test]
fn an_unknown_explicit_region_is_a_mistake() {
    for named in ["nrt", "", "SIN", "singapore is fine"] {
        let line = decided(&[], hint(Some(named), Some("SG")));
        assert_eq!(line, format!("there is no region `{named}`"));
    }
}

#[test]
fn a_country_whose_region_is_not_deployed_gets_home_first() {
    let topology = shipped();
    let topology = topology
        .restricted_to(&["sin", "jkt"].map(|id| id.parse().expect("a region id")))
        .expect("home is among them");
    let health = health(&topology, |_| true);
    let candidates = decide(&topology, &health, &hint(None, Some("TH"))).expect("a decision");
    assert_eq!(candidates[0].region.as_str(), "sin");
    assert_eq!(candidates[0].reason, Reason::Default);
    assert_eq!(candidates.len(), 2);
}

proptest! {
    #[test]
    fn whatever_is_read_as_round_trips_is_bounded(text in "[a-z0-9=, .-]{0,80}") {
        if let Ok(round_trips) = parse_round_trips(&text) {
            prop_assert!(round_trips.iter().all(|measured| measured.ms <= 60_000));
        }
    }

    #[test]
    fn each_region_once_up_before_down_and_the_preferred_one_first_when_up(
        up in prop::collection::vec(any::<bool>(), 6),
        named in prop::option::of(0_usize..6),
        country in prop::option::of("[A-Z]{2}"),
    ) {
        let topology = shipped();
        let ids: Vec<RegionId> = topology.regions().iter().map(|region| region.id).collect();
        let is_up = |id: RegionId| up[ids.iter().position(|other| *other == id).expect("one of them")];
        let health = health(&topology, is_up);
        let named = named.map(|n| ids[n]);
        let country: Option<Country> = country.map(|code| code.parse().expect("a country"));
        let hint = ClientHint { region: named.as_ref().map(RegionId::as_str), round_trips: &[], country };

        let candidates = decide(&topology, &health, &hint).expect("a known region");

        let mut seen: Vec<RegionId> = candidates.iter().map(|candidate| candidate.region).collect();
        prop_assert!(candidates.iter().is_sorted_by_key(|candidate| !candidate.up));
        prop_assert!(candidates.iter().all(|candidate| candidate.up == is_up(candidate.region)));
        if let Some(named) = named.filter(|named| is_up(*named)) {
            prop_assert_eq!((candidates[0].region, candidates[0].reason), (named, Reason::Explicit));
        }
        let preferred = candidates.iter().filter(|candidate| candidate.reason != Reason::Failover).count();
        prop_assert_eq!(preferred, 1);
        prop_assert_eq!(decide(&topology, &health, &hint).expect("the same"), candidates);
        seen.sort();
        let mut all = ids.clone();
        all.sort();
        prop_assert_eq!(seen, all);
    }
}
