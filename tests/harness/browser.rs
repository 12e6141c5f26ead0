use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::{GroupedChild, repository, scratch};

/// How long a command of the browser may take, with all the requests that a page makes in it.
const COMMAND_PATIENCE: Duration = Duration::from_secs(60);

/// A Chromium with an empty profile and no window, driven over its pipe by the DevTools protocol. It ends with
/// the test.
pub struct Browser {
    pipe: Mutex<Pipe>,
    log: PathBuf,
    _process: GroupedChild,
    /// The last to go.
    _directory: TempDir,
}

/// A page of a browser.
pub struct Page<'a> {
    browser: &'a Browser,
    session: String,
}

/// A request of a page: `fetch(path, {method, headers, body})` and nothing else, so the browser's cache and
/// cookies take part.
#[derive(Clone, Debug)]
pub struct Fetch(Value);

/// What `fetch` gave to the page.
#[derive(Clone, Debug, Deserialize)]
pub struct Fetched {
    /// The request, for messages.
    pub asked: String,
    /// The status that the page sees: 200 also where the browser was answered 304.
    pub status: u16,
    /// The `ETag`, where there is one.
    pub etag: Option<String>,
    /// The body.
    pub body: String,
    /// Bytes that came over the network, without those of the headers.
    pub transferred: u64,
}

struct Pipe {
    commands: ChildStdin,
    messages: BufReader<ChildStdout>,
    last_id: u64,
}

impl Browser {
    /// Starts it.
    pub async fn start() -> Self {
        let directory = scratch("browser");
        let log = directory.path().join("log");
        let mut command = Command::new(repository().join("tests/harness/chromium"));
        command.arg(directory.path().join("profile"));
        command.stderr(File::create(&log).expect("the browser's directory can be written to"));
        let mut process = GroupedChild::start_dialogue(command).expect("the browser's script runs");
        let child = process.child();
        let (commands, messages) = (child.stdin.take(), child.stdout.take());
        let pipe = Pipe {
            commands: commands.expect("its input is a pipe"),
            messages: BufReader::new(messages.expect("its output is a pipe")),
            last_id: 0,
        };
        let browser = Self { pipe: Mutex::new(pipe), log, _process: process, _directory: directory };
        browser.command(None, "Browser.getVersion", json!({})).await;
        browser
    }

    /// Opens a page and waits until it has loaded.
    pub async fn open(&self, url: &str) -> Page<'_> {
        let target = self.command(None, "Target.createTarget", json!({ "url": "about:blank" })).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.command(None, "Target.attachToTarget", attach).await;
        let session = attached["sessionId"].as_str().expect("a session has an id").to_owned();
        self.command(Some(&session), "Page.enable", json!({})).await;
        let navigated = self.command(Some(&session), "Page.navigate", json!({ "url": url })).await;
        assert_eq!(navigated["errorText"], Value::Null, "{url}");
        let mut pipe = self.pipe.lock().await;
        let loaded = |message: &Value| message["method"] == "Page.loadEventFired";
        self.in_time(&format!("{url} loads"), pipe.message(loaded)).await;
        Page { browser: self, session }
    }

    async fn command(&self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        let mut pipe = self.pipe.lock().await;
        pipe.last_id += 1;
        let id = pipe.last_id;
        let mut command = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        let answer = async {
            pipe.send(&command).await?;
            pipe.message(|message| message["id"] == id).await
        };
        let mut answer = self.in_time(method, answer).await;
        assert_eq!(answer["error"], Value::Null, "{method}");
        answer["result"].take()
    }

    async fn in_time<T>(&self, what: &str, work: impl Future<Output = std::io::Result<T>>) -> T {
        let failure = match timeout(COMMAND_PATIENCE, work).await {
            Ok(Ok(done)) => return done,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer in {COMMAND_PATIENCE:?}"),
        };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        panic!("the browser failed at {what}: {failure}. Its log:\n{log}");
    }
}

impl Pipe {
    async fn send(&mut self, command: &Value) -> std::io::Result<()> {
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).await
    }

    /// The first message that is wanted. Those before it are events that nobody has asked for.
    async fn message(&mut self, wanted: impl Fn(&Value) -> bool) -> std::io::Result<Value> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            self.messages.read_until(0, &mut bytes).await?;
            if bytes.pop() != Some(0) {
                return Err(std::io::Error::other("it has ended"));
            }
            let message = serde_json::from_slice(&bytes)?;
            if wanted(&message) {
                return Ok(message);
            }
        }
    }
}

impl Page<'_> {
    /// Calls a JavaScript function with JSON, and waits for what it, or its promise, returns.
    pub async fn call(&self, function: &str, argument: &Value) -> Value {
        let expression = format!("({function})({argument})");
        let parameters = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut evaluated = self.browser.command(Some(&self.session), "Runtime.evaluate", parameters).await;
        assert_eq!(evaluated["exceptionDetails"], Value::Null, "the page threw an exception");
        evaluated["result"]["value"].take()
    }

    /// Fetches one after the other.
    pub async fn fetch_all(&self, requests: &[Fetch]) -> Vec<Fetched> {
        let requests: Value = requests.iter().map(|request| request.0.clone()).collect();
        let fetched = self.call(include_str!("fetch_all.js"), &requests).await;
        serde_json::from_value(fetched).expect("the script returns what was fetched")
    }

    /// Fetches one.
    pub async fn fetch(&self, request: Fetch) -> Fetched {
        let mut fetched = self.fetch_all(&[request]).await;
        fetched.pop().expect("one request has one answer")
    }
}

impl Fetch {
    /// A read.
    pub fn get(path: impl Into<String>) -> Self {
        Self(json!({ "method": "GET", "path": path.into(), "headers": {} }))
    }

    /// A write under a new idempotency key.
    pub fn write(method: &str, path: impl Into<String>, body: &Value) -> Self {
        let headers = json!({ "Content-Type": "application/json", "Idempotency-Key": crate::fresh_key() });
        let body = if body.is_null() { Value::Null } else { body.to_string().into() };
        Self(json!({ "method": method, "path": path.into(), "headers": headers, "body": body }))
    }

    /// With this token.
    pub fn with_token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// With this header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.0["headers"][name] = value.into();
        self
    }
}

impl Fetched {
    /// The JSON of a success.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert!(matches!(self.status, 200 | 201), "{self:#?}");
        self.json()
    }

    /// The JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:#?}"))
    }

    /// Whether the body came out of the browser's cache, after the server said that it still holds.
    pub fn was_revalidated(&self) -> bool {
        self.transferred == 0 && !self.body.is_empty()
    }
}
