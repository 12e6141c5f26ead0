//! `Host`, which HTTP lays on every server to check (RFC 9112 §3.2).

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Version};

/// Whether a request has one `Host` that names a host, perhaps with a port. HTTP/1.0 may leave it out, and HTTP/2
/// says it elsewhere.
pub fn host_is_valid(headers: &HeaderMap, version: Version) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => version != Version::HTTP_11,
        (Some(host), None) => host.to_str().is_ok_and(names_a_host),
        (Some(_), Some(_)) => false,
    }
}

fn names_a_host(text: &str) -> bool {
    let Ok(authority) = text.parse::<Authority>() else { return false };
    let rest = text.strip_prefix(authority.host());
    let port_is_valid = |rest: &str| match rest.strip_prefix(':') {
        Some(port) => {
            port.bytes().all(|byte| byte.is_ascii_digit()) && (port.is_empty() || port.parse::<u16>().is_ok())
        }
        None => rest.is_empty(),
    };
    !authority.host().is_empty() && rest.is_some_and(port_is_valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_perhaps_with_a_port() {
        for right in ["cart.example", "127.0.0.1:8080", "[::1]", "[::1]:8080", "localhost:", "a-b.c_d"] {
            assert!(names_a_host(right), "{right}");
        }
        for wrong in
            ["", " ", "a b", "a/b", "u@a", "a:b", "a:99999", "http://a", "[::1", "a?b", "a#b", "a\"b", ":80"]
        {
            assert!(!names_a_host(wrong), "{wrong}");
        }
    }

    #[test]
    fn there_is_one() {
        let headers = |hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(HOST, http::HeaderValue::from_static(host));
            }
            headers
        };
        assert!(host_is_valid(&headers(&["a"]), Version::HTTP_11));
        assert!(!host_is_valid(&headers(&[]), Version::HTTP_11));
        assert!(!host_is_valid(&headers(&["a", "a"]), Version::HTTP_11));
        assert!(host_is_valid(&headers(&[]), Version::HTTP_10));
        assert!(!host_is_valid(&headers(&["a", "b"]), Version::HTTP_10));
    }
}
