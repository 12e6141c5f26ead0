use std::net::SocketAddr;

use super::{Endpoint, RegionId, Targets, Topology};

const SHIPPED: &str = include_str!("../../../deploy/topology.toml");

fn id(text: &str) -> RegionId {
    text.parse().expect("a region id")
}

#[test]
fn shipped_topology_has_six_regions_and_the_assumed_round_trips() {
    let topology = Topology::parse(SHIPPED).expect("the shipped topology");

    assert_eq!(topology.home().id, id("sin"));
    assert_eq!(topology.currency_default().as_str(), "SGD");
    let ids: Vec<String> = topology.regions().iter().map(|region| region.id.to_string()).collect();
    assert_eq!(ids, ["sin", "kul", "jkt", "bkk", "sgn", "mnl"]);
    assert_eq!(topology.rtt_ms(id("sin"), id("kul")), Some(5));
    assert_eq!(topology.rtt_ms(id("mnl"), id("jkt")), Some(41));
    assert_eq!(topology.rtt_ms(id("bkk"), id("bkk")), Some(0));
    assert_eq!(topology.rtt_ms(id("bkk"), id("nrt")), None);
}

#[test]
fn shipped_ports_are_a_thousand_apart() {
    let topology = Topology::parse(SHIPPED).expect("the shipped topology");
    let port = |targets: &Targets| {
        let first = targets.first().expect("an address").as_str();
        first.parse::<SocketAddr>().expect("an address").port()
    };
    for region in topology.regions() {
        let public = port(&region.public);
        assert_eq!(port(&region.internal), public + 1000, "{}", region.id);
        assert_eq!(port(&region.peers), public + 2000, "{}", region.id);
        assert_eq!(region.url, Some(format!("http://127.0.0.1:{public}")));
    }
}

#[test]
fn a_region_may_be_a_service_and_have_a_url_of_its_own() {
    let change = |to: &str| SHIPPED.replacen("public = [\"127.0.0.1:8101\"]", to, 1);
    let of_sin = |to: &str| Topology::parse(&change(to)).expect("a topology").home().clone();

    let named = of_sin("public = [\"srv:_http._tcp.sin.cart.example\"]\nurl = \"https://sin.cart.example/\"");
    assert_eq!(named.public.to_string(), "srv:_http._tcp.sin.cart.example");
    assert_eq!(named.url.as_deref(), Some("https://sin.cart.example"));
    assert_eq!(of_sin("public = [\"srv:_http._tcp.sin.cart.example\"]").url, None);

    for bad in
        ["sin.cart.example", "ftp://sin", "https://sin/a", "https://sin?a", "https://a@sin", "http:///"]
    {
        let text = change(&format!("public = [\"a:1\"]\nurl = \"{bad}\""));
        let wrong = Topology::parse(&text).expect_err(bad).to_string();
        let expected = "is not a URL without a path, for example https://sin.cart.example";
        assert_eq!(wrong, format!("region sin: `{bad}` {expected}"));
    }
}

#[test]
fn restricted_topology_keeps_order_home_and_round_trips() {
    let topology = Topology::parse(SHIPPED).expect("the shipped topology");
    let restricted = topology.restricted_to(&[id("bkk"), id("sin"), id("jkt")]).expect("home is among them");

    let ids: Vec<&str> = restricted.regions().iter().map(|region| region.id.as_str()).collect();
    assert_eq!(ids, ["sin", "jkt", "bkk"]);
    assert_eq!(restricted.home().id, id("sin"));
    assert_eq!(restricted.rtt_ms(id("bkk"), id("jkt")), Some(34));
    assert_eq!(restricted.rtt_ms(id("bkk"), id("kul")), None);
}

#[test]
fn restriction_reports_every_mistake() {
    let topology = Topology::parse(SHIPPED).expect("the shipped topology");
    let refused = topology.restricted_to(&[id("jkt"), id("jkt"), id("nrt")]).expect_err("three mistakes");
    assert_eq!(
        refused.to_string(),
        "region jkt is given twice\n\
         region nrt is unknown\n\
         region sin is home and has to be among the chosen regions"
    );
}

#[test]
fn every_mistake_of_a_file_is_reported_at_once() {
    let text = r#"
        home = "SIN"
        [[region]]
        id = "sin"
        name = "Singapore"
        country = "SGP"
        currency = "sgd"
        public = ["127.0.0.1:8101", "127.0.0.1"]
        internal = []
        [[region]]
        id = "kul"
        country = "MY"
        currency = "MYR"
        public = ["127.0.0.1:8102"]
        internal = ["127.0.0.1:9102"]
    "#;
    let refused = Topology::parse(text).expect_err("many mistakes").to_string();
    let mistakes: Vec<&str> = refused.lines().collect();
    assert_eq!(mistakes.len(), 7, "{refused}");
    for (mistake, part) in mistakes.iter().zip([
        "region sin: `SGP`",
        "region sin: `sgd`",
        "region sin: `127.0.0.1` is not host:port",
        "region sin: `internal` needs at least one address",
        "region kul: `name` is missing",
        "home: `SIN`",
        "topology: `currency_default` is missing",
    ]) {
        assert!(mistake.starts_with(part), "{mistake} does not start with {part}");
    }
}

#[test]
fn every_pair_has_one_round_trip() {
    let change = |from: &str, to: &str| {
        let text = SHIPPED.replace(from, to);
        assert_ne!(text, SHIPPED);
        Topology::parse(&text).expect_err("a mistake").to_string()
    };
    assert_eq!(change("sin-kul = 5", ""), "the round trip between sin and kul is missing");
    assert_eq!(
        change("sin-kul = 5", "sin-kul = 0"),
        "round trip `sin-kul`: 0 is not from 1 to 1000 milliseconds"
    );
    assert_eq!(
        change("sin-kul = 5", "sin-kul = 5\nkul-sin = 6"),
        "the round trip between kul and sin is given twice"
            .replace("between kul and sin", "between sin and kul")
    );
    assert_eq!(
        change("sin-kul = 5", "sin-kul = 5\nsin-sin = 1"),
        "round trip `sin-sin`: the key is two different regions of this file, as in sin-kul"
    );
}

#[test]
fn the_same_region_or_address_twice_is_a_mistake() {
    let twice = SHIPPED.replace("id = \"kul\"", "id = \"sin\"");
    assert_eq!(Topology::parse(&twice).expect_err("a mistake").to_string(), "region sin is given twice");

    let shared = SHIPPED.replace("127.0.0.1:9102", "127.0.0.1:8101");
    assert_eq!(
        Topology::parse(&shared).expect_err("a mistake").to_string(),
        "region kul: address 127.0.0.1:8101 is given twice"
    );
}

#[test]
fn text_that_is_not_toml_has_one_mistake() {
    let refused = Topology::parse("home = ").expect_err("not TOML");
    assert_eq!(refused.mistakes().len(), 1);
    assert!(Topology::parse("").is_err());
    assert!(Topology::parse(&format!("surprise = 1\n{SHIPPED}")).is_err());
}

#[test]
fn region_ids_have_one_spelling() {
    for good in ["sin", "jkt", "ap2", "singapor"] {
        assert_eq!(id(good).as_str(), good);
        assert_eq!(format!("{:?} {:>9}", id(good), id(good)), format!("{good} {good:>9}"));
    }
    for bad in ["", "s", "SIN", "2ap", "ap-1", "singapore", "sín", "sin ", "a\0"] {
        assert!(bad.parse::<RegionId>().is_err(), "{bad:?}");
    }
    assert!(id("sg") < id("sgn") && id("jkt") < id("sin"));
}

#[test]
fn endpoints_are_host_and_port() {
    for good in ["127.0.0.1:8101", "[::1]:8101", "edge.sin.example:443", "localhost:1"] {
        assert_eq!(good.parse::<Endpoint>().expect("an endpoint").as_str(), good);
    }
    for bad in ["", "8101", "host", "host:", "host:0", "host:+1", "host:65536", "::1:80", "[::1:80", "a b:1"]
    {
        assert!(bad.parse::<Endpoint>().is_err(), "{bad:?}");
    }
    for bad in ["-a:1", "a..b:1", "a/b:1", "user@host:1"] {
        assert!(bad.parse::<Endpoint>().is_err(), "{bad:?}");
    }
}
