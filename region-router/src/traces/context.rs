//! W3C Trace Context: the two headers that carry a trace from one process to the next.

use std::fmt::Write;

use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Bytes of `tracestate` that are passed on: the least that the standard asks for. More is left out.
const STATE_BYTES_MAX: usize = 512;
/// `version-trace-parent-flags`, in bytes.
const PARENT_BYTES: usize = 55;
const SAMPLED: u8 = 1;

/// The id of a trace. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub(super) [u8; 16]);

impl TraceId {
    pub(super) fn new() -> Self {
        Self(Uuid::new_v4().into_bytes())
    }

    /// The part of it that the standard wants to be random, as a number below 2^56.
    pub(super) fn random_part(self) -> u64 {
        let mut bytes = [0; 8];
        bytes[1..].copy_from_slice(&self.0[9..]);
        u64::from_be_bytes(bytes)
    }
}

impl std::fmt::Display for TraceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The id of a span. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(pub(super) u64);

impl SpanId {
    pub(super) fn new() -> Self {
        let bytes = Uuid::new_v4().into_bytes();
        let mut last = [0; 8];
        last.copy_from_slice(&bytes[8..]);
        Self(u64::from_be_bytes(last))
    }
}

impl std::fmt::Display for SpanId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a caller says of the trace that its request belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Incoming {
    pub(super) trace: TraceId,
    pub(super) parent: SpanId,
    pub(super) sampled: bool,
    pub(super) state: Option<HeaderValue>,
}

impl Incoming {
    /// Nothing, where the header is missing, repeated or malformed.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).into_iter();
        let value = values.next().filter(|_| values.next().is_none())?.as_bytes();
        let (known, rest) = value.split_at_checked(PARENT_BYTES)?;
        let is_later_version = &known[..2] != b"00";
        let well_formed = known[2] == b'-' && known[35] == b'-' && known[52] == b'-' && &known[..2] != b"ff";
        if !well_formed || !(rest.is_empty() || is_later_version && rest[0] == b'-') {
            return None;
        }
        hex(&known[..2])?;
        let trace = hex(&known[3..35]).filter(|id| *id != 0)?;
        let parent = hex(&known[36..52]).filter(|id| *id != 0)?;
        let flags = hex(&known[53..])?;
        Some(Self {
            trace: TraceId(trace.to_be_bytes()),
            parent: SpanId(u64::try_from(parent).ok()?),
            sampled: flags & u128::from(SAMPLED) != 0,
            state: state(headers),
        })
    }
}

/// All values of `tracestate`, as one.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(TRACESTATE).into_iter();
    let first = values.next()?;
    let mut joined = first.as_bytes().to_vec();
    for value in values {
        joined.extend_from_slice(b",");
        joined.extend_from_slice(value.as_bytes());
    }
    let fits = (1..=STATE_BYTES_MAX).contains(&joined.len()) && joined.is_ascii();
    fits.then(|| HeaderValue::from_bytes(&joined).ok()).flatten()
}

/// Puts a place in a trace into the headers of a request, in the place of any other.
pub(super) fn write(
    headers: &mut HeaderMap,
    trace: TraceId,
    parent: SpanId,
    sampled: bool,
    state: Option<&HeaderValue>,
) {
    let mut text = String::with_capacity(PARENT_BYTES);
    write!(text, "00-{trace}-{parent}-{:02x}", u8::from(sampled))
        .expect("a string takes what is written into it");
    headers.insert(TRACEPARENT, HeaderValue::try_from(text).expect("hexadecimal digits and dashes"));
    headers.remove(TRACESTATE);
    if let Some(state) = state {
        headers.insert(TRACESTATE, state.clone());
    }
}

/// A number in lower-case hexadecimal digits.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(values: &[(&'static str, &str)]) -> Option<Incoming> {
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(*name, HeaderValue::from_str(value).expect("a header value"));
        }
        Incoming::of(&headers)
    }

    #[test]
    fn a_place_in_a_trace_arrives_as_it_was_sent() {
        let state = HeaderValue::from_static("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
        for sampled in [false, true] {
            let (trace, parent) = (TraceId::new(), SpanId::new());
            let mut headers = HeaderMap::new();
            write(&mut headers, trace, parent, sampled, Some(&state));
            let arrived = Incoming::of(&headers);
            assert_eq!(arrived, Some(Incoming { trace, parent, sampled, state: Some(state.clone()) }));
        }
        let known = of(&[("traceparent", PARENT)]).expect("it is well formed");
        assert_eq!(known.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(known.parent.to_string(), "b7ad6b7169203331");
        assert!(known.sampled && known.state.is_none());
    }

    #[test]
    fn what_is_malformed_is_no_trace() {
        for wrong in [
            "",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0x-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(of(&[("traceparent", wrong)]), None, "{wrong}");
        }
        assert_eq!(of(&[("traceparent", PARENT), ("traceparent", PARENT)]), None);
        let later = PARENT.replacen("00", "cc", 1) + "-what-comes-later";
        assert!(of(&[("traceparent", &later)]).is_some(), "later versions begin as this one does");
    }

    #[test]
    fn a_state_that_is_too_long_is_left_out() {
        let long = "a=".to_owned() + &"b".repeat(STATE_BYTES_MAX);
        assert_eq!(of(&[("traceparent", PARENT), ("tracestate", &long)]).and_then(|found| found.state), None);
        let joined = of(&[("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")]);
        assert_eq!(joined.and_then(|found| found.state), Some(HeaderValue::from_static("a=1,b=2")));
    }
}
