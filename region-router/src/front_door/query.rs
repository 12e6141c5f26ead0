//! The `region` parameter: read here, and not passed on.

/// The query parameter that names a region.
const REGION: &str = "region";

/// Splits a request target (path and query) into the region it names and the target without that
/// parameter. Everything else stays byte for byte. Of several values the first counts; none is passed on.
pub(super) fn take_region(target: &str) -> (Option<&str>, Option<String>) {
    let Some((path, query)) = target.split_once('?') else {
        return (None, None);
    };
    let mut region = None;
    let mut kept: Vec<&str> = Vec::new();
    let mut taken = false;
    for pair in query.split('&') {
        match pair.split_once('=').unwrap_or((pair, "")) {
            (REGION, value) => {
                region = region.or(Some(value));
                taken = true;
            }
            _ => kept.push(pair),
        }
    }
    if !taken {
        return (None, None);
    }
    let rest = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    (region, Some(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(target: &str, region: Option<&str>, rest: Option<&str>) {
        let (found, left) = take_region(target);
        assert_eq!((found, left.as_deref()), (region, rest), "{target}");
    }

    #[test]
    fn a_target_that_names_no_region_is_left_alone() {
        for target in ["/", "/v1/items", "/v1/items?", "/v1/items?limit=2&&cursor=%3d", "/region=sin"] {
            check(target, None, None);
        }
        check("/v1/items?regional=sin&REGION=sin&%72egion=sin", None, None);
    }

    #[test]
    fn the_region_is_taken_and_the_rest_stays() {
        check("/v1/items?region=sin", Some("sin"), Some("/v1/items"));
        check("/v1/items?region=sin&limit=2", Some("sin"), Some("/v1/items?limit=2"));
        check("/v1/items?a=%2F+&region=jkt&b=?&&c", Some("jkt"), Some("/v1/items?a=%2F+&b=?&&c"));
        check("/v1/items?region", Some(""), Some("/v1/items"));
    }

    #[test]
    fn the_first_of_several_counts_and_none_is_passed_on() {
        check("/x?region=sin&a=1&region=jkt", Some("sin"), Some("/x?a=1"));
    }
}
