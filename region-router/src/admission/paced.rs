use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::{ANSWER_WRITE_BYTES_MIN, ANSWER_WRITE_DEADLINE};

/// How fast the peer of a connection reads at least.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// For `bytes_min` bytes, from the moment that the socket takes no more.
    pub deadline: Duration,
    /// What has to be written in that time.
    pub bytes_min: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Self { deadline: ANSWER_WRITE_DEADLINE, bytes_min: ANSWER_WRITE_BYTES_MIN }
    }
}

/// A stream whose writes fail with [`io::ErrorKind::TimedOut`] when the peer reads too slowly. Reads and writes
/// that need not wait cost nothing more.
#[derive(Debug)]
pub struct Paced<S> {
    inner: S,
    pace: Pace,
    /// Since a write had to wait.
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    deadline: Pin<Box<Sleep>>,
    written: usize,
}

impl<S> Paced<S> {
    /// Holds the peer of a stream to a pace.
    pub fn new(inner: S, pace: Pace) -> Self {
        Self { inner, pace, waiting: None }
    }

    fn settle(&mut self, polled: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Ok(count)) => {
                if let Some(waiting) = &mut self.waiting {
                    waiting.written += count;
                    if waiting.written >= self.pace.bytes_min {
                        self.waiting = None;
                    }
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let deadline = self.pace.deadline;
                let waiting = self.waiting.get_or_insert_with(|| Waiting {
                    deadline: Box::pin(tokio::time::sleep(deadline)),
                    written: 0,
                });
                waiting.deadline.as_mut().poll(cx).map(|()| {
                    Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads its answer too slowly"))
                })
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let paced = self.get_mut();
        let polled = Pin::new(&mut paced.inner).poll_write(cx, buf);
        paced.settle(polled, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let paced = self.get_mut();
        let polled = Pin::new(&mut paced.inner).poll_write_vectored(cx, bufs);
        paced.settle(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let paced = self.get_mut();
        let polled = Pin::new(&mut paced.inner).poll_flush(cx).map_ok(|()| 0);
        paced.settle(polled, cx).map_ok(|_| ())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let paced = self.get_mut();
        let polled = Pin::new(&mut paced.inner).poll_shutdown(cx).map_ok(|()| 0);
        paced.settle(polled, cx).map_ok(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What a pipe holds before a write has to wait.
    const BUFFER: usize = 1024;

    fn pace(deadline: Duration) -> Pace {
        Pace { deadline, bytes_min: BUFFER }
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_given_up() {
        let (ours, _theirs) = tokio::io::duplex(BUFFER);
        let mut ours = Paced::new(ours, pace(Duration::from_millis(50)));
        ours.write_all(&[0; BUFFER]).await.expect("it fits");
        let error = ours.write_all(&[0; 1]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_peer_that_reads_byte_by_byte_is_given_up() {
        let (ours, mut theirs) = tokio::io::duplex(BUFFER);
        let mut ours = Paced::new(ours, pace(Duration::from_millis(100)));
        let reads = async {
            // Far less than the least in the time that there is.
            while theirs.read_u8().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let body = [0; 4 * BUFFER];
        tokio::select! {
            written = ours.write_all(&body) => {
                assert_eq!(written.expect_err("too slow").kind(), io::ErrorKind::TimedOut);
            }
            () = reads => panic!("the peer reads as long as there is somebody"),
        }
    }

    #[tokio::test]
    async fn a_peer_that_reads_gets_everything() {
        let (ours, mut theirs) = tokio::io::duplex(BUFFER);
        let mut ours = Paced::new(ours, Pace::default());
        let writes = async {
            ours.write_all(&[7; 100 * BUFFER]).await.expect("read");
            drop(ours);
        };
        let mut read = Vec::new();
        let (_, all) = tokio::join!(writes, theirs.read_to_end(&mut read));
        assert_eq!(all.expect("read"), 100 * BUFFER);
    }
}
