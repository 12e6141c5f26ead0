use std::net::IpAddr;

use super::{Countries, Country, nearest_to};
use crate::decision::RoundTrip;
use crate::topology::{RegionId, Topology};

fn shipped() -> Topology {
    Topology::parse(include_str!("../../../deploy/topology.toml")).expect("the shipped topology")
}

fn country(countries: &Countries, address: &str) -> Option<String> {
    let address: IpAddr = address.parse().expect("an address");
    countries.country_of(address).map(|country| country.to_string())
}

#[test]
fn built_in_table_knows_well_known_networks_of_all_six() {
    for (address, expected) in [
        ("165.21.83.88", "SG"),        // Singtel
        ("2001:c10::1", "SG"),         // Singtel
        ("175.136.0.1", "MY"),         // Telekom Malaysia
        ("36.64.0.1", "ID"),           // Telkom Indonesia
        ("171.96.0.1", "TH"),          // True
        ("113.160.0.1", "VN"),         // VNPT
        ("112.198.0.1", "PH"),         // Globe
        ("::ffff:165.21.83.88", "SG"), // as a dual-stack listener sees it
    ] {
        assert_eq!(country(&Countries::BuiltIn, address).as_deref(), Some(expected), "{address}");
    }
}

#[test]
fn addresses_of_elsewhere_and_of_nowhere_are_unknown() {
    for address in [
        "1.1.1.1",
        "203.0.113.7",
        "127.0.0.1",
        "10.1.2.3",
        "192.168.1.1",
        "172.16.0.1",
        "169.254.1.1",
        "100.64.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "::",
        "::1",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "2001:db8::1",
        "2600::1",
        "::ffff:127.0.0.1",
    ] {
        assert_eq!(country(&Countries::BuiltIn, address), None, "{address}");
    }
}

#[test]
fn regions_are_ordered_by_round_trip_from_the_origin() {
    let topology = shipped();
    let order = |origin: &str| -> Vec<String> {
        let origin = RoundTrip { region: origin.parse().expect("a region id"), ms: 0 };
        nearest_to(&topology, &[origin]).iter().map(RegionId::to_string).collect()
    };
    assert_eq!(order("sin"), ["sin", "kul", "jkt", "sgn", "bkk", "mnl"]);
    assert_eq!(order("sgn"), ["sgn", "bkk", "kul", "sin", "mnl", "jkt"]);
    assert_eq!(order("mnl"), ["mnl", "sgn", "bkk", "sin", "kul", "jkt"]);
    // jkt and bkk are equally far from kul: the file's order decides.
    assert_eq!(order("kul"), ["kul", "sin", "sgn", "jkt", "bkk", "mnl"]);
    assert!(order("nrt").is_empty());
}

#[test]
fn a_country_has_one_spelling() {
    assert_eq!("SG".parse::<Country>().expect("a country").as_str(), "SG");
    for bad in ["", "S", "sg", "SGP", "S1", "Š"] {
        assert!(bad.parse::<Country>().is_err(), "{bad:?}");
    }
}

#[test]
fn mmdb_of_every_maker_gives_the_country() {
    let layouts: [&[u8]; 3] = [
        // {"country": {"iso_code": "TH"}}
        b"\xe1\x47country\xe1\x48iso_code\x42TH",
        // {"country_code": "TH"}
        b"\xe1\x4ccountry_code\x42TH",
        // {"country": "TH"}
        b"\xe1\x47country\x42TH",
    ];
    for layout in layouts {
        let countries = Countries::from_mmdb(mmdb_of_1_2_0_0_16(layout)).expect("a database");
        assert_eq!(country(&countries, "1.2.3.4").as_deref(), Some("TH"));
        assert_eq!(country(&countries, "1.3.3.4"), None);
        assert_eq!(country(&countries, "127.0.0.1"), None);
        assert_eq!(country(&countries, "2001:c10::1"), None, "an IPv4 database asked for an IPv6 address");
    }
    let nameless = Countries::from_mmdb(mmdb_of_1_2_0_0_16(b"\xe0")).expect("a database");
    assert_eq!(country(&nameless, "1.2.3.4"), None);
}

#[test]
fn bytes_that_are_no_mmdb_are_refused() {
    assert!(Countries::from_mmdb(Vec::new()).is_err());
    assert!(Countries::from_mmdb(vec![0xab; 4096]).is_err());
}

#[test]
fn a_database_file_is_followed_and_a_broken_one_changes_nothing() {
    let path = std::env::temp_dir().join(format!("troli-{}.mmdb", uuid::Uuid::new_v4()));
    let save = |bytes: &[u8]| std::fs::write(&path, bytes).expect("written");
    assert!(Countries::open(&path).is_err(), "not there");
    save(&mmdb_of_1_2_0_0_16(b"\xe1\x47country\x42TH"));
    let countries = Countries::open(&path).expect("a database");
    let Countries::File(file) = &countries else { panic!("{countries:?}") };
    let found = || {
        file.look();
        country(&countries, "1.2.3.4")
    };
    assert_eq!(found().as_deref(), Some("TH"));
    assert_eq!(countries.locate("1.2.3.4".parse().expect("an address")).prefix_len, 16);

    save(b"half a file");
    assert_eq!(found().as_deref(), Some("TH"));
    save(&mmdb_of_1_2_0_0_16(b"\xe1\x4ccountry_code\x42ID"));
    assert_eq!(found().as_deref(), Some("ID"));
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(found().as_deref(), Some("ID"));
}

/// A database with one entry, for 1.2.0.0/16 (MaxMind DB file format 2.0).
fn mmdb_of_1_2_0_0_16(entry: &[u8]) -> Vec<u8> {
    const NODES: u32 = 16;
    const NOT_FOUND: u32 = NODES;
    const FIRST_ENTRY: u32 = NODES + 16;
    let prefix = 0x0102_u16;
    let mut file = Vec::new();
    for node in 0..NODES {
        let next = if node + 1 < NODES { node + 1 } else { FIRST_ENTRY };
        let bit = prefix >> (15 - node) & 1;
        let records = if bit == 0 { [next, NOT_FOUND] } else { [NOT_FOUND, next] };
        for record in records {
            file.extend_from_slice(&record.to_be_bytes()[1..]);
        }
    }
    file.extend_from_slice(&[0; 16]);
    file.extend_from_slice(entry);
    file.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    file.extend_from_slice(b"\xe9");
    file.extend_from_slice(b"\x5bbinary_format_major_version\xa1\x02");
    file.extend_from_slice(b"\x5bbinary_format_minor_version\xa0");
    file.extend_from_slice(b"\x4bbuild_epoch\x00\x02");
    file.extend_from_slice(b"\x4ddatabase_type\x44test");
    file.extend_from_slice(b"\x4bdescription\xe0");
    file.extend_from_slice(b"\x4aip_version\xa1\x04");
    file.extend_from_slice(b"\x49languages\x00\x04");
    file.extend_from_slice(b"\x4anode_count\xc1\x10");
    file.extend_from_slice(b"\x4brecord_size\xa1\x18");
    file
}
