//! Problem documents for what the HTTP library refuses by itself, below every router: a request that it cannot read,
//! or that is larger than it reads. It answers with a status and an empty body; here that becomes a problem document
//! with a code and the limits.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use serde_json::json;
use uuid::Uuid;

/// Header lines of a request; it is the library's own limit, set here so that it can be named.
pub const HEADER_LINES_MAX: usize = 100;

/// A connection whose bare refusals become problem documents.
#[derive(Debug)]
pub struct Explained<S> {
    stream: S,
    head_bytes_max: usize,
    /// What is still to be written in place of a refusal, and how much of it was.
    instead: Option<(Vec<u8>, usize)>,
}

impl<S> Explained<S> {
    /// Wraps a connection of a server that reads at most `head_bytes_max` bytes of request line and headers.
    pub fn new(stream: S, head_bytes_max: usize) -> Self {
        Self { stream, head_bytes_max, instead: None }
    }

    /// The problem in place of a refusal, where these bytes are one. What the server itself answers has a request id.
    fn explain(&self, head: &[u8]) -> Option<Vec<u8>> {
        let status = head.strip_prefix(b"HTTP/1.1 ").or_else(|| head.strip_prefix(b"HTTP/1.0 "))?;
        let (status, title, code, detail) = match status.get(..3)? {
            b"400" => (
                400,
                "Bad Request",
                "request_malformed",
                "the request line, the headers or the length of the body cannot be read as HTTP/1.1"
                    .to_owned(),
            ),
            b"414" => (
                414,
                "URI Too Long",
                "target_too_long",
                format!("the request line and the headers have at most {} bytes", self.head_bytes_max),
            ),
            b"431" => (
                431,
                "Request Header Fields Too Large",
                "headers_too_large",
                format!(
                    "a request has at most {HEADER_LINES_MAX} header lines, and {} bytes in its request line and \
                     headers",
                    self.head_bytes_max
                ),
            ),
            _ => return None,
        };
        let head = std::str::from_utf8(head).ok().filter(|head| head.ends_with("\r\n\r\n"))?;
        if head.contains("\r\nx-request-id:") || !head.contains("\r\ncontent-length: 0\r\n") {
            return None;
        }
        let request_id = Uuid::new_v4().simple();
        let body = json!({
            "type": format!("urn:troli:problem:{code}"), "title": title, "status": status, "detail": detail,
            "code": code, "retry": "never", "request_id": request_id.to_string(),
        });
        let body = body.to_string();
        let answer = format!(
            "HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
             cache-control: no-store\r\nx-content-type-options: nosniff\r\nx-request-id: {request_id}\r\n\
             connection: close\r\n\r\n{body}",
            body.len(),
        );
        Some(answer.into_bytes())
    }
}

impl<S: Write + Unpin> Explained<S> {
    /// Writes what stands in place of a refusal; ready when all of it is written.
    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((answer, written)) = &mut self.instead {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &answer[*written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => *written += more,
            }
            if *written == answer.len() {
                self.instead = None;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Read + Unpin> Read for Explained<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: Write + Unpin> Write for Explained<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.instead.is_none() {
            let Some(answer) = self.explain(buf) else {
                return Pin::new(&mut self.stream).poll_write(cx, buf);
            };
            self.instead = Some((answer, 0));
        }
        // While this is pending, the same bytes come again.
        ready!(self.poll_instead(cx))?;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut parts = bufs.iter().filter(|part| !part.is_empty());
        match (parts.next(), parts.next()) {
            (Some(only), None) => self.poll_write(cx, only),
            _ => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(head: &str) -> Option<String> {
        let answer = Explained::new((), 65536).explain(head.as_bytes())?;
        Some(String::from_utf8(answer).expect("text"))
    }

    #[test]
    fn a_bare_refusal_becomes_a_problem_with_the_limits() {
        let bare =
            "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let problem = explain(bare).expect("a refusal");
        let (head, body) = problem.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body["code"], "headers_too_large");
        assert!(
            body["detail"].as_str().is_some_and(|detail| detail.contains("65536") && detail.contains("100"))
        );
    }

    #[test]
    fn what_the_server_answers_stays() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\nx-request-id: a\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 7\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        ] {
            assert_eq!(explain(answer), None, "{answer}");
        }
    }
}
