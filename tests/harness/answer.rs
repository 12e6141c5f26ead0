use reqwest::header::HeaderMap;
use serde_json::Value;

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was asked, for messages.
    pub asked: String,
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as it came.
    pub body: Vec<u8>,
}

impl Answer {
    /// The JSON of an answer with this status.
    #[track_caller]
    pub fn is(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        self.json()
    }

    /// The JSON of a 200.
    #[track_caller]
    pub fn ok(&self) -> Value {
        self.is(200)
    }

    /// The JSON; null where there is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self}"))
    }

    /// The problem document of this status and code, complete as RFC 9457 and the contract have it.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let problem = self.any_problem();
        assert_eq!((self.status, problem["code"].as_str()), (status, Some(code)), "{self}");
        problem
    }

    /// A complete problem document, whatever it is about.
    #[track_caller]
    pub fn any_problem(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self}");
        let problem = self.json();
        for field in ["type", "title", "detail", "code", "request_id"] {
            let text = problem[field].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "the problem has no {field}: {self}");
        }
        let code = problem["code"].as_str().unwrap_or_default();
        let snake = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        assert!(code.bytes().all(snake), "the code is lower snake case: {self}");
        assert_eq!(problem["status"], self.status, "{self}");
        problem
    }

    /// A header that has to be there.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.find_header(name).unwrap_or_else(|| panic!("no header {name}: {self}"))
    }

    /// A header that may be there.
    pub fn find_header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The version of the cart that the answer is of, without the cart's tag.
    #[track_caller]
    pub fn version(&self) -> String {
        let seen = self.header("cart-version");
        let (version, tag) = seen.rsplit_once('.').unwrap_or_default();
        assert!(version.contains('.') && !tag.is_empty(), "epoch.version.tag: {self}");
        version.to_owned()
    }

    /// The tag of the document.
    #[track_caller]
    pub fn tag(&self) -> String {
        let tag = self.header("etag");
        let strong = tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"');
        assert!(strong, "a strong tag: {self}");
        tag.to_owned()
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} was answered {}\n{:#?}\n", self.asked, self.status, self.headers)?;
        f.write_str(&String::from_utf8_lossy(&self.body))
    }
}
