use std::time::{SystemTime, UNIX_EPOCH};

/// The text of an environment variable that is set and not empty.
pub fn text_setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// The number of an environment variable; underscores may group its digits.
pub fn number_setting(name: &str) -> Option<u64> {
    text_setting(name).map(|text| {
        text.replace('_', "").parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}"))
    })
}

/// The same as a size.
pub fn size_setting(name: &str) -> Option<usize> {
    number_setting(name).map(|number| usize::try_from(number).expect("it fits"))
}

/// Another seed in each run, so that a hundred runs look into a hundred corners.
pub fn any_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    u64::from(since.subsec_nanos()) ^ (since.as_secs() << 20) & 0xffff_ffff
}
