//! From text to [`Topology`]. Every step puts its mistakes into one list and goes on.

use std::collections::BTreeMap;

use serde::Deserialize;

use http::Uri;

use super::{CurrencyCode, Region, RegionId, Target, Targets, Topology, TopologyError, TopologyErrors};

/// Longer than any terrestrial round trip: a larger number is a slip of the keyboard.
const ROUND_TRIP_MS_MAX: u32 = 1000;

/// The file as written. Everything is optional, so that all that is missing can be told at once.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    home: Option<String>,
    currency_default: Option<String>,
    #[serde(default)]
    region: Vec<FileRegion>,
    #[serde(default)]
    round_trips_assumed_ms: BTreeMap<String, i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRegion {
    id: Option<String>,
    name: Option<String>,
    country: Option<String>,
    currency: Option<String>,
    public: Option<Vec<String>>,
    internal: Option<Vec<String>>,
    peers: Option<Vec<String>>,
    url: Option<String>,
}

pub(super) fn parse(text: &str) -> Result<Topology, TopologyErrors> {
    let file: File =
        toml::from_str(text).map_err(|error| TopologyError::Syntax { reason: error.to_string() })?;
    let mut mistakes = Vec::new();

    let written = file.region.len();
    let regions = regions(file.region, &mut mistakes);
    // A region with a mistake of its own is left out; what refers to it is not a second mistake.
    let complete = regions.len() == written;
    let round_trips_ms = round_trips(&file.round_trips_assumed_ms, &regions, complete, &mut mistakes);
    let home = home(file.home, &regions, complete, &mut mistakes);
    let currency_default = present("topology", "currency_default", file.currency_default, &mut mistakes)
        .and_then(|text| currency("currency_default", text, &mut mistakes));

    match (home, currency_default) {
        (Some(home), Some(currency_default)) if mistakes.is_empty() => {
            Ok(Topology { home, currency_default, regions, round_trips_ms })
        }
        _ => Err(TopologyErrors::of(mistakes)),
    }
}

fn home(
    written: Option<String>,
    regions: &[Region],
    complete: bool,
    mistakes: &mut Vec<TopologyError>,
) -> Option<usize> {
    let text = present("topology", "home", written, mistakes)?;
    let id = region_id("home", text, mistakes)?;
    let position = regions.iter().position(|region| region.id == id);
    if position.is_none() && complete {
        mistakes.push(TopologyError::RegionUnknown { id });
    }
    position
}

fn regions(written: Vec<FileRegion>, mistakes: &mut Vec<TopologyError>) -> Vec<Region> {
    if written.is_empty() {
        mistakes.push(TopologyError::NoRegions);
    }
    let mut regions: Vec<Region> = Vec::with_capacity(written.len());
    let mut targets_seen: Vec<Target> = Vec::new();
    for (n, region) in written.into_iter().enumerate() {
        let place = match &region.id {
            Some(id) => format!("region {id}"),
            None => format!("region number {}", n + 1),
        };
        let Some(region) = parse_region(&place, region, mistakes) else {
            continue;
        };
        if regions.iter().any(|other| other.id == region.id) {
            mistakes.push(TopologyError::RegionTwice { id: region.id });
            continue;
        }
        for target in region.public.iter().chain(region.internal.iter()).chain(region.peers.iter()) {
            if targets_seen.contains(target) {
                let endpoint = target.to_string();
                mistakes.push(TopologyError::EndpointTwice { place: place.clone(), endpoint });
            } else {
                targets_seen.push(target.clone());
            }
        }
        regions.push(region);
    }
    regions
}

fn parse_region(place: &str, written: FileRegion, mistakes: &mut Vec<TopologyError>) -> Option<Region> {
    let id = present(place, "id", written.id, mistakes).and_then(|text| region_id(place, text, mistakes));
    let name = present(place, "name", written.name, mistakes);
    let country = present(place, "country", written.country, mistakes).and_then(|text| {
        text.parse()
            .map_err(|reason| mistakes.push(TopologyError::Country { place: place.to_owned(), text, reason }))
            .ok()
    });
    let currency = present(place, "currency", written.currency, mistakes)
        .and_then(|text| currency(place, text, mistakes));
    let public = required_targets(place, "public", written.public, mistakes);
    let internal = required_targets(place, "internal", written.internal, mistakes);
    let peers = match written.peers {
        Some(written) => targets(place, "peers", written, mistakes),
        None => Some(Targets::default()),
    };
    let url = match written.url {
        Some(text) => url(place, text, mistakes).map(Some),
        None => Some(public.as_ref().and_then(Targets::first).map(|endpoint| format!("http://{endpoint}"))),
    };
    Some(Region {
        id: id?,
        name: name?,
        country: country?,
        currency: currency?,
        public: public?,
        internal: internal?,
        peers: peers?,
        url: url?,
    })
}

/// Fills the table of every pair, in both directions.
fn round_trips(
    written: &BTreeMap<String, i64>,
    regions: &[Region],
    complete: bool,
    mistakes: &mut Vec<TopologyError>,
) -> Vec<u32> {
    let width = regions.len();
    let position = |code: &str| regions.iter().position(|region| region.id.as_str() == code);
    let mut table: Vec<Option<u32>> = vec![None; width * width];
    for (key, &ms) in written {
        let pair = key.split_once('-').and_then(|(a, b)| Some((position(a)?, position(b)?)));
        let Some((a, b)) = pair.filter(|(a, b)| a != b) else {
            if complete {
                mistakes.push(TopologyError::RoundTripKey { key: key.clone() });
            }
            continue;
        };
        let Some(in_range) = u32::try_from(ms).ok().filter(|ms| (1..=ROUND_TRIP_MS_MAX).contains(ms)) else {
            mistakes.push(TopologyError::RoundTripRange { key: key.clone(), ms, max: ROUND_TRIP_MS_MAX });
            // A number is there, so it is not missing as well.
            table[a * width + b] = Some(0);
            table[b * width + a] = Some(0);
            continue;
        };
        if table[a * width + b].is_some() {
            mistakes.push(TopologyError::RoundTripTwice { a: regions[a].id, b: regions[b].id });
        }
        table[a * width + b] = Some(in_range);
        table[b * width + a] = Some(in_range);
    }
    for a in 0..width {
        for b in a + 1..width {
            if table[a * width + b].is_none() {
                mistakes.push(TopologyError::RoundTripMissing { a: regions[a].id, b: regions[b].id });
            }
        }
    }
    table.into_iter().map(Option::unwrap_or_default).collect()
}

fn present<T>(
    place: &str,
    field: &'static str,
    written: Option<T>,
    mistakes: &mut Vec<TopologyError>,
) -> Option<T> {
    if written.is_none() {
        mistakes.push(TopologyError::FieldMissing { place: place.to_owned(), field });
    }
    written
}

fn region_id(place: &str, text: String, mistakes: &mut Vec<TopologyError>) -> Option<RegionId> {
    text.parse()
        .map_err(|reason| mistakes.push(TopologyError::RegionId { place: place.to_owned(), text, reason }))
        .ok()
}

fn currency(place: &str, text: String, mistakes: &mut Vec<TopologyError>) -> Option<CurrencyCode> {
    text.parse()
        .map_err(|reason| mistakes.push(TopologyError::Currency { place: place.to_owned(), text, reason }))
        .ok()
}

fn required_targets(
    place: &str,
    field: &'static str,
    written: Option<Vec<String>>,
    mistakes: &mut Vec<TopologyError>,
) -> Option<Targets> {
    let written = present(place, field, written, mistakes)?;
    targets(place, field, written, mistakes)
}

fn targets(
    place: &str,
    field: &'static str,
    written: Vec<String>,
    mistakes: &mut Vec<TopologyError>,
) -> Option<Targets> {
    if written.is_empty() {
        mistakes.push(TopologyError::NoEndpoints { place: place.to_owned(), field });
        return None;
    }
    let count = written.len();
    let mut targets: Vec<Target> = Vec::with_capacity(count);
    for text in written {
        match text.parse() {
            Ok(target) => targets.push(target),
            Err(reason) => mistakes.push(TopologyError::Target { place: place.to_owned(), reason }),
        }
    }
    (targets.len() == count).then_some(Targets::from(targets))
}

/// A scheme and an authority, to which a path is appended as it is.
fn url(place: &str, text: String, mistakes: &mut Vec<TopologyError>) -> Option<String> {
    let base = text.strip_suffix('/').unwrap_or(&text);
    let well_formed = base.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && uri.path_and_query().is_none_or(|rest| rest.as_str() == "/")
    });
    if !well_formed || base.ends_with('/') {
        mistakes.push(TopologyError::Url { place: place.to_owned(), text });
        return None;
    }
    Some(base.to_owned())
}
