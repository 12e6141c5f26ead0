//! What the environment says beside the settings: variables that nothing reads, how the log is written, and where
//! traces go.

use region_router::traces;

use crate::config::SETTINGS;
use crate::telemetry;

/// What all our variables begin with.
const PREFIX: &str = "TROLI_";
/// Of the log; they are not settings of an edge alone.
const LOG: [&str; 4] =
    [telemetry::ENV_LOG_FILTER, telemetry::ENV_LOG_FORMAT, telemetry::ENV_LOG_READS, traces::ENV_FILE];
/// Settings that are secrets themselves. The others name files, or have a password in a URL at most.
const SECRETS: [&str; 1] = ["TROLI_JWT_HS256_SECRET"];
/// What the log has in place of a secret.
const HIDDEN: &str = "…";
/// Variables of other commands, and of the servers that are started from the same environment.
const OF_OTHERS: [&str; 3] = ["TROLI_PROMOTE_URL", "TROLI_OLD_PRIMARY_URL", "TROLI_MYSQL_"];

/// Every mistake in these variables that reading the settings does not find.
pub fn mistakes(variables: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (name, value) in variables.filter(|(name, _)| name.starts_with(PREFIX)) {
        let is_known = SETTINGS.iter().any(|setting| setting.name == name)
            || LOG.contains(&name.as_str())
            || OF_OTHERS.iter().any(|other| name.starts_with(other));
        if !is_known {
            mistakes.push(format!("{name}: there is no such setting"));
        } else if name == telemetry::ENV_LOG_FILTER {
            mistakes.extend(telemetry::filter(&value).err().map(|wrong| format!("{name}: {wrong}")));
        } else if name == telemetry::ENV_LOG_FORMAT && !matches!(value.as_str(), "json" | "text") {
            mistakes.push(format!("{name}: json or text, not {value}"));
        } else if name == telemetry::ENV_LOG_READS {
            mistakes.extend(telemetry::reads_one_in(&value).err().map(|wrong| format!("{name}: {wrong}")));
        }
    }
    mistakes.sort();
    mistakes
}

/// The settings that differ from their defaults, for the log: without secrets, and without the passwords in URLs.
pub fn shown(get: impl Fn(&str) -> Option<String>) -> String {
    let set = SETTINGS.iter().filter_map(|setting| Some((setting.name, get(setting.name)?)));
    let shown = set.filter(|(_, value)| !value.is_empty()).map(|(name, value)| {
        let is_secret = SECRETS.contains(&name);
        format!("{name}={}", if is_secret { HIDDEN.to_owned() } else { without_passwords(&value) })
    });
    shown.collect::<Vec<_>>().join(" ")
}

/// A value with `…` in place of what stands between `//` and `@`, but for the user's name.
fn without_passwords(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else { return value.to_owned() };
    let Some((account, hosts)) = rest.rsplit_once('@') else { return value.to_owned() };
    let user = account.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}:{HIDDEN}@{hosts}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(variables: &[(&str, &str)]) -> Vec<String> {
        mistakes(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn what_nothing_reads_is_a_mistake() {
        let known = [
            ("TROLI_REGION", "sin"),
            ("TROLI_LOG", "info"),
            ("TROLI_MYSQL_BUFFER_POOL", "1G"),
            ("HOME", "/"),
        ];
        assert_eq!(told(&known), [""; 0]);
        let unknown = told(&[("TROLI_CACHE_ULR", "memory:"), ("TROLI_", "")]);
        assert_eq!(
            unknown,
            ["TROLI_: there is no such setting", "TROLI_CACHE_ULR: there is no such setting"]
        );
    }

    #[test]
    fn settings_are_shown_without_secrets() {
        let set = [
            ("TROLI_REGION", "sin"),
            ("TROLI_DATABASE_URL", "mysql://troli:pa@ss:word@10.0.0.1:3306,10.0.0.2/troli?ssl-mode=REQUIRED"),
            ("TROLI_CACHE_URL", "rediss://:word@10.0.0.3:6379"),
            ("TROLI_JWT_HS256_SECRET", "word"),
            ("TROLI_MMDB", ""),
        ];
        let get = |name: &str| set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        assert_eq!(
            shown(get),
            "TROLI_REGION=sin \
             TROLI_DATABASE_URL=mysql://troli:…@10.0.0.1:3306,10.0.0.2/troli?ssl-mode=REQUIRED \
             TROLI_CACHE_URL=rediss://:…@10.0.0.3:6379 TROLI_JWT_HS256_SECRET=…"
        );
    }

    #[test]
    fn a_filter_of_the_log_that_lets_nothing_through_by_mistake_is_one() {
        for good in
            ["info", "WARN", "info,edge_host=debug", "edge_host::feed=trace", "off", "", "[request]=debug"]
        {
            assert_eq!(told(&[("TROLI_LOG", good)]), [""; 0], "{good}");
        }
        for wrong in ["inf", "info,edge_host", "edge_host=loud", "=,="] {
            assert_eq!(told(&[("TROLI_LOG", wrong)]).len(), 1, "{wrong}");
        }
        assert_eq!(told(&[("TROLI_LOG_FORMAT", "xml")]), ["TROLI_LOG_FORMAT: json or text, not xml"]);
    }
}
