//! One HTTP/1.1 connection that costs next to nothing, because the load runs beside what it measures: a request
//! goes out as the bytes that it is, and of an answer only what is looked at is read.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// More headers than an answer of anybody here has.
const HEADERS_MAX: usize = 48;
/// To begin with; an answer of five lines fits.
const BUFFER_BYTES: usize = 8 * 1024;
/// A longer answer is a mistake.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A connection that is kept, and opened anew when it has broken.
pub(crate) struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
    filled: usize,
}

/// What came back.
pub(crate) struct Answer<'a> {
    /// The status.
    pub(crate) status: u16,
    /// `Cart-Version`.
    pub(crate) version: Option<Version>,
    /// The body.
    pub(crate) body: &'a [u8],
}

/// `epoch.version`, which compares as versions do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u64);

struct Head {
    status: u16,
    version: Option<Version>,
    bytes: usize,
    body_bytes: usize,
}

impl Connection {
    /// A connection that is opened when it is first used.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, stream: None, buffer: vec![0; BUFFER_BYTES], filled: 0 }
    }

    /// Opens it, so that the first request does not have to.
    pub(crate) async fn open(&mut self) -> io::Result<()> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        if self.stream.is_none() {
            self.open().await?;
        }
        match self.try_exchange(request).await {
            Ok(head) => {
                let body = &self.buffer[head.bytes..head.bytes + head.body_bytes];
                Ok(Answer { status: head.status, version: head.version, body })
            }
            Err(error) => {
                self.stream = None;
                Err(error)
            }
        }
    }

    async fn try_exchange(&mut self, request: &[u8]) -> io::Result<Head> {
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        stream.write_all(request).await?;
        self.filled = 0;
        let head = loop {
            self.fill().await?;
            if let Some(head) = read_head(&self.buffer[..self.filled])? {
                break head;
            }
        };
        while self.filled < head.bytes + head.body_bytes {
            self.fill().await?;
        }
        Ok(head)
    }

    async fn fill(&mut self) -> io::Result<()> {
        if self.filled == self.buffer.len() {
            if self.filled >= ANSWER_BYTES_MAX {
                return Err(malformed("the answer has no end"));
            }
            self.buffer.resize(self.filled * 2, 0);
        }
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        match stream.read(&mut self.buffer[self.filled..]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => {
                self.filled += bytes;
                Ok(())
            }
        }
    }
}

/// The head of an answer, when all of it is there.
fn read_head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).map_err(|_| malformed("the answer is not HTTP"))?;
    let httparse::Status::Complete(length) = parsed else { return Ok(None) };
    let mut head =
        Head { status: response.code.unwrap_or_default(), version: None, bytes: length, body_bytes: 0 };
    let mut has_length = false;
    for header in response.headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            head.body_bytes =
                number(header.value).ok_or_else(|| malformed("a content-length is a number"))?;
            has_length = true;
        } else if header.name.eq_ignore_ascii_case("cart-version") {
            head.version = version(header.value);
        }
    }
    if has_length { Ok(Some(head)) } else { Err(malformed("the answer has no content-length")) }
}

/// Of `epoch.version.tag`; the connection knows of which cart it is.
fn version(text: &[u8]) -> Option<Version> {
    let mut parts = std::str::from_utf8(text).ok()?.split('.');
    Some(Version(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn number(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
