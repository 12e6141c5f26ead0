use crate::topology::RegionId;

/// The request header in which a caller tells the round trips it has measured, for example `sin=12,jkt=31`.
pub const ROUND_TRIPS_HEADER: &str = "troli-round-trips";

/// More regions than there will be; a longer list is not a measurement.
const REGIONS_MAX: usize = 32;

/// Slower than any network; a larger number is not a measurement.
const ROUND_TRIP_MS_MAX: u32 = 60_000;

/// The round trip between a caller and a region, as the caller has measured it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// To which region.
    pub region: RegionId,
    /// Milliseconds.
    pub ms: u32,
}

/// The text is not a list of round trips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("round trips are at most 32 regions with milliseconds from 0 to 60000, for example sin=12,jkt=31")]
pub struct RoundTripsMalformed;

/// Reads `region=milliseconds[,…]`. Whether there are such regions is not asked here: a caller may know of one
/// that this topology has lost.
///
/// # Errors
/// When the text is anything else, or names a region twice.
pub fn parse_round_trips(text: &str) -> Result<Vec<RoundTrip>, RoundTripsMalformed> {
    let mut round_trips: Vec<RoundTrip> = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (region, ms) = part.split_once('=').ok_or(RoundTripsMalformed)?;
        let region = region.parse().map_err(|_| RoundTripsMalformed)?;
        let digits = ms.bytes().all(|byte| byte.is_ascii_digit());
        let ms: u32 = ms.parse().map_err(|_| RoundTripsMalformed)?;
        let twice = round_trips.iter().any(|other| other.region == region);
        if !digits || twice || ms > ROUND_TRIP_MS_MAX || round_trips.len() == REGIONS_MAX {
            return Err(RoundTripsMalformed);
        }
        round_trips.push(RoundTrip { region, ms });
    }
    Ok(round_trips)
}
