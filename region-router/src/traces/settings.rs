//! The standard variables of OpenTelemetry, as far as they are about traces.

use std::path::PathBuf;
use std::time::Duration;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use uuid::Uuid;

use super::TraceId;

/// A file that traces are written to as well, one message of OTLP in JSON a line.
pub const ENV_FILE: &str = "TROLI_TRACES_FILE";

/// One export, as OpenTelemetry has it. Requests do not wait for it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Spans that wait to be sent, at most: more are dropped, and counted.
const QUEUE_SPANS_MAX: usize = 2048;
/// Spans of one message.
const BATCH_SPANS_MAX: usize = 512;
/// The longest that a span waits for others to be sent with.
const DELAY: Duration = Duration::from_secs(5);
/// Where a collector on this machine listens.
const HTTP_DEFAULT: &str = "http://localhost:4318";
const GRPC_DEFAULT: &str = "http://localhost:4317";
const HTTP_PATH: &str = "/v1/traces";
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Where traces go, and which.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) endpoint: Option<Endpoint>,
    pub(super) file: Option<PathBuf>,
    pub(super) sampler: Sampler,
    pub(super) resource: Vec<(String, String)>,
    pub(super) queue_spans_max: usize,
    pub(super) batch_spans_max: usize,
    pub(super) delay: Duration,
}

/// Where traces are sent.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) protocol: Protocol,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http,
    Grpc,
}

/// Which traces are sent. What failed or was slow is sent by every one of them but `always_off`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// The caller's own decision holds, where it has made one.
    parent_based: bool,
    /// Of 2^56 traces.
    of_2_56: u64,
}

impl Sampler {
    const ALL: u64 = 1 << 56;

    /// Whether a trace is sampled, by its id and by what the caller has decided.
    pub(super) fn takes(&self, id: TraceId, by_caller: Option<bool>) -> bool {
        match by_caller {
            Some(sampled) if self.parent_based => sampled,
            _ => id.random_part() < self.of_2_56,
        }
    }
}

impl Settings {
    /// Reads the environment of this process, which runs a service, in a region where it has one.
    pub fn of_process(service: &str, region: Option<&str>) -> Result<Option<Self>, Vec<String>> {
        let instance = Uuid::new_v4().to_string();
        let mut defaults = vec![
            ("service.name", service),
            ("service.namespace", "troli"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", instance.as_str()),
        ];
        defaults.extend(region.map(|region| ("cloud.region", region)));
        Self::load(|name| std::env::var(name).ok(), &defaults)
    }

    /// Reads the variables; nothing, where no traces are sent. `defaults` are attributes of the resource that the
    /// variables may replace. The mistakes do not repeat what may be secret.
    pub(super) fn load(
        var: impl Fn(&str) -> Option<String>,
        defaults: &[(&str, &str)],
    ) -> Result<Option<Self>, Vec<String>> {
        let mut read = Read { var: &var, mistakes: Vec::new() };
        let endpoint = read.endpoint();
        let sampler = read.sampler();
        let resource = read.resource(defaults);
        let queue_spans_max = read.number("OTEL_BSP_MAX_QUEUE_SIZE").unwrap_or(QUEUE_SPANS_MAX);
        let batch_spans_max = read.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE").unwrap_or(BATCH_SPANS_MAX);
        let delay = read.milliseconds("OTEL_BSP_SCHEDULE_DELAY").unwrap_or(DELAY);
        let file = read.text(ENV_FILE).map(PathBuf::from);
        let is_off = read.text("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        if !read.mistakes.is_empty() {
            return Err(read.mistakes);
        }
        let Some(sampler) = sampler else { return Ok(None) };
        if is_off || (endpoint.is_none() && file.is_none()) {
            return Ok(None);
        }
        Ok(Some(Self { endpoint, file, sampler, resource, queue_spans_max, batch_spans_max, delay }))
    }
}

struct Read<'a> {
    var: &'a dyn Fn(&str) -> Option<String>,
    mistakes: Vec<String>,
}

impl Read<'_> {
    /// A variable that is set to nothing is as good as not set.
    fn text(&self, name: &str) -> Option<String> {
        (self.var)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// A variable of traces alone, or the one of all signals.
    fn either(&self, name: &str) -> Option<String> {
        self.text(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"))
            .or_else(|| self.text(&format!("OTEL_EXPORTER_OTLP_{name}")))
    }

    fn wrong(&mut self, name: &str, why: &str) {
        self.mistakes.push(format!("{name}: {why}"));
    }

    fn number(&mut self, name: &str) -> Option<usize> {
        let text = self.text(name)?;
        let number = text.parse().ok().filter(|number| *number > 0);
        if number.is_none() {
            self.wrong(name, &format!("`{text}` is not a number above 0"));
        }
        number
    }

    fn milliseconds(&mut self, name: &str) -> Option<Duration> {
        let number = self.number(name)?;
        Some(Duration::from_millis(u64::try_from(number).unwrap_or(u64::MAX)))
    }

    fn endpoint(&mut self) -> Option<Endpoint> {
        let exporter = self.text("OTEL_TRACES_EXPORTER");
        match exporter.as_deref() {
            None | Some("otlp") => {}
            Some("none") => return None,
            Some(other) => {
                self.wrong("OTEL_TRACES_EXPORTER", &format!("otlp or none, not `{other}`"));
                return None;
            }
        }
        let protocol = match self.either("PROTOCOL").as_deref() {
            None | Some("http/protobuf") => Protocol::Http,
            Some("grpc") => Protocol::Grpc,
            Some(other) => {
                self.wrong("OTEL_EXPORTER_OTLP_PROTOCOL", &format!("http/protobuf or grpc, not `{other}`"));
                return None;
            }
        };
        let of_traces = self.text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let of_all = self.text("OTEL_EXPORTER_OTLP_ENDPOINT");
        let base = match (&of_traces, &of_all, protocol) {
            (Some(text), _, _) | (None, Some(text), _) => text,
            // Without an exporter or an endpoint that is named, nothing is sent.
            _ if exporter.is_none() => return None,
            (_, _, Protocol::Http) => HTTP_DEFAULT,
            (_, _, Protocol::Grpc) => GRPC_DEFAULT,
        };
        let uri = target(base, protocol, of_traces.is_some());
        if uri.is_none() {
            self.wrong("OTEL_EXPORTER_OTLP_ENDPOINT", "not a URL such as http://127.0.0.1:4318");
        }
        self.refuse_what_is_not_supported();
        let headers = self.headers();
        let timeout = self.timeout();
        Some(Endpoint { protocol, uri: uri?, headers, timeout })
    }

    fn timeout(&mut self) -> Duration {
        let names = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
        let set = names.into_iter().find(|name| self.text(name).is_some());
        set.and_then(|name| self.milliseconds(name)).unwrap_or(TIMEOUT)
    }

    /// What would otherwise be left out without a word.
    fn refuse_what_is_not_supported(&mut self) {
        if self.either("COMPRESSION").is_some_and(|text| text != "none") {
            self.wrong("OTEL_EXPORTER_OTLP_COMPRESSION", "only none is supported");
        }
        for name in ["CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"] {
            if self.either(name).is_some() {
                let name = format!("OTEL_EXPORTER_OTLP_{name}");
                self.wrong(
                    &name,
                    "not supported: the collector's certificate is checked by the system's authorities",
                );
            }
        }
    }

    fn headers(&mut self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in self.pairs("OTEL_EXPORTER_OTLP_HEADERS", self.either("HEADERS")) {
            match (HeaderName::try_from(&name), HeaderValue::try_from(value)) {
                (Ok(name), Ok(mut value)) => {
                    value.set_sensitive(true);
                    headers.insert(name, value);
                }
                _ => self.wrong("OTEL_EXPORTER_OTLP_HEADERS", "not name=value pairs of HTTP headers"),
            }
        }
        headers
    }

    fn resource(&mut self, defaults: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut attributes: Vec<(String, String)> =
            defaults.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut set =
            |name: String, value: String| match attributes.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => *known = value,
                None => attributes.push((name, value)),
            };
        let given = self.text("OTEL_RESOURCE_ATTRIBUTES");
        for (name, value) in self.pairs("OTEL_RESOURCE_ATTRIBUTES", given) {
            set(name, value);
        }
        if let Some(name) = self.text("OTEL_SERVICE_NAME") {
            set("service.name".to_owned(), name);
        }
        attributes
    }

    /// `name=value` pairs with commas between them, the values percent-encoded (W3C Baggage).
    fn pairs(&mut self, variable: &str, text: Option<String>) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        let text = text.unwrap_or_default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let pair = part.split_once('=').map(|(name, value)| (name.trim(), decoded(value.trim())));
            match pair {
                Some((name, Some(value))) if !name.is_empty() => pairs.push((name.to_owned(), value)),
                _ => self.wrong(variable, "not name=value pairs with commas between them"),
            }
        }
        pairs
    }

    fn sampler(&mut self) -> Option<Sampler> {
        let name = self.text("OTEL_TRACES_SAMPLER").unwrap_or_else(|| "parentbased_always_on".to_owned());
        let (parent_based, rule) = match name.strip_prefix("parentbased_") {
            Some(rule) => (true, rule),
            None => (false, name.as_str()),
        };
        let of_2_56 = match rule {
            "always_on" => Sampler::ALL,
            // By its caller alone.
            "always_off" if parent_based => 0,
            "always_off" => return None,
            "traceidratio" => self.ratio(),
            _ => {
                self.wrong(
                    "OTEL_TRACES_SAMPLER",
                    &format!("`{name}` is none of always_on, always_off and traceidratio, or these after parentbased_"),
                );
                0
            }
        };
        Some(Sampler { parent_based, of_2_56 })
    }

    fn ratio(&mut self) -> u64 {
        let text = self.text("OTEL_TRACES_SAMPLER_ARG").unwrap_or_else(|| "1".to_owned());
        let Some(ratio) = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio)) else {
            self.wrong("OTEL_TRACES_SAMPLER_ARG", &format!("`{text}` is not a number from 0 to 1"));
            return 0;
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "it is between 0 and 2^56"
        )]
        let of_2_56 = (ratio * Sampler::ALL as f64) as u64;
        of_2_56
    }
}

/// The URL that messages are sent to. `as_it_is`: the path of HTTP is in it.
fn target(base: &str, protocol: Protocol, as_it_is: bool) -> Option<Uri> {
    let mut parts = base.parse::<Uri>().ok()?.into_parts();
    if !(parts.scheme == Some(Scheme::HTTP) || parts.scheme == Some(Scheme::HTTPS))
        || parts.authority.is_none()
    {
        return None;
    }
    let path = parts.path_and_query.as_ref().map_or("/", PathAndQuery::path).trim_end_matches('/');
    let path = match protocol {
        Protocol::Grpc => GRPC_PATH.to_owned(),
        Protocol::Http if as_it_is && path.is_empty() => "/".to_owned(),
        Protocol::Http if as_it_is => path.to_owned(),
        Protocol::Http => format!("{path}{HTTP_PATH}"),
    };
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Option<Settings>, Vec<String>> {
        let var = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Settings::load(var, &[("service.name", "troli-test"), ("cloud.region", "sin")])
    }

    fn endpoint(variables: &[(&str, &str)]) -> Endpoint {
        load(variables).expect("no mistakes").expect("traces are sent").endpoint.expect("to an endpoint")
    }

    #[test]
    fn nothing_is_sent_unless_it_is_asked_for() {
        for off in [
            &[] as &[(&str, &str)],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), ("OTEL_SDK_DISABLED", "TRUE")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), ("OTEL_TRACES_EXPORTER", "none")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"), ("OTEL_TRACES_SAMPLER", "always_off")],
        ] {
            assert!(load(off).expect("no mistakes").is_none(), "{off:?}");
        }
    }

    #[test]
    fn an_endpoint_is_made_as_the_standard_says() {
        for (variables, uri) in [
            (&[("OTEL_TRACES_EXPORTER", "otlp")] as &[_], "http://localhost:4318/v1/traces"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c/otlp/")], "https://c/otlp/v1/traces"),
            (&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:1/here")], "http://c:1/here"),
            (&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:1")], "http://c:1/"),
            (
                &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
                "http://c:4317/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            ),
        ] {
            assert_eq!(endpoint(variables).uri, uri, "{variables:?}");
        }
        let with_headers = endpoint(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x-tenant = shop "),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
        ]);
        assert_eq!(with_headers.headers["api-key"], "a b");
        assert_eq!(with_headers.headers["x-tenant"], "shop");
        assert_eq!(with_headers.timeout, Duration::from_millis(250));
    }

    #[test]
    fn what_all_spans_have_in_common_can_be_replaced() {
        let settings = load(&[
            ("OTEL_TRACES_EXPORTER", "otlp"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "deployment.environment.name=staging,cloud.region=ap%2D1,service.name=no",
            ),
            ("OTEL_SERVICE_NAME", "cart"),
        ]);
        let resource = settings.expect("no mistakes").expect("traces are sent").resource;
        let expected =
            [("service.name", "cart"), ("cloud.region", "ap-1"), ("deployment.environment.name", "staging")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(resource, expected);
    }

    #[test]
    fn a_sampler_takes_what_its_name_says() {
        let sampler = |name: &str, ratio: &str| {
            let variables = [
                ("OTEL_TRACES_EXPORTER", "otlp"),
                ("OTEL_TRACES_SAMPLER", name),
                ("OTEL_TRACES_SAMPLER_ARG", ratio),
            ];
            load(&variables).expect("no mistakes").expect("traces are sent").sampler
        };
        let (low, high) = (TraceId([0; 16]), TraceId([255; 16]));
        for (name, ratio, asked, expected) in [
            ("always_on", "", Some(false), [true, true]),
            ("traceidratio", "0.5", Some(true), [true, false]),
            ("traceidratio", "1", None, [true, true]),
            ("traceidratio", "0", None, [false, false]),
            ("parentbased_always_on", "", None, [true, true]),
            ("parentbased_always_on", "", Some(false), [false, false]),
            ("parentbased_always_off", "", None, [false, false]),
            ("parentbased_always_off", "", Some(true), [true, true]),
            ("parentbased_traceidratio", "0.5", None, [true, false]),
            ("parentbased_traceidratio", "0.5", Some(true), [true, true]),
        ] {
            let sampler = sampler(name, ratio);
            let taken = [low, high].map(|id| sampler.takes(id, asked));
            assert_eq!(taken, expected, "{name} {ratio} {asked:?}");
        }
    }

    #[test]
    fn every_mistake_is_told_and_no_secret() {
        let told = load(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "api key=secret,secret"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
            ("OTEL_RESOURCE_ATTRIBUTES", "words"),
        ])
        .expect_err("these are mistakes");
        for name in [
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "OTEL_EXPORTER_OTLP_HEADERS",
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "OTEL_EXPORTER_OTLP_COMPRESSION",
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "OTEL_TRACES_SAMPLER",
            "OTEL_BSP_MAX_QUEUE_SIZE",
            "OTEL_RESOURCE_ATTRIBUTES",
        ] {
            assert!(told.iter().any(|line| line.starts_with(&format!("{name}: "))), "{name}: {told:?}");
        }
        assert!(!told.iter().any(|line| line.contains("secret")), "{told:?}");
        for (name, value) in
            [("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"), ("OTEL_TRACES_EXPORTER", "zipkin")]
        {
            let told = load(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"), (name, value)]);
            assert_eq!(told.err().map(|told| told.len()), Some(1), "{name}");
        }
    }
}
