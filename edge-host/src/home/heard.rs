//! A connection that notes when something last came over it: any byte is a sign of life, also where the answer to a
//! ping waits behind a megabyte of carts.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Before a silence is believed: what came while this process stood still is read first.
const GRACE: Duration = Duration::from_millis(100);

/// When something was last heard.
#[derive(Clone, Debug)]
pub(super) struct Ear {
    start: Instant,
    /// Milliseconds after the start.
    heard_ms: Arc<AtomicU64>,
}

impl Ear {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), heard_ms: Arc::default() }
    }

    /// For how long nothing has come.
    pub(super) fn silence(&self) -> Duration {
        self.start.elapsed().saturating_sub(Duration::from_millis(self.heard_ms.load(Ordering::Relaxed)))
    }

    /// Waits until nothing has come for so long.
    pub(super) async fn silent_for(&self, silence: Duration) {
        loop {
            let left = silence.saturating_sub(self.silence());
            if !left.is_zero() {
                tokio::time::sleep(left).await;
                continue;
            }
            tokio::time::sleep(GRACE).await;
            if self.silence() >= silence {
                return;
            }
        }
    }

    fn heard(&self) {
        let now_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard_ms.store(now_ms, Ordering::Relaxed);
    }
}

/// A stream that is listened to.
pub(super) struct Heard<S> {
    stream: S,
    ear: Ear,
}

impl<S> Heard<S> {
    pub(super) fn new(stream: S, ear: Ear) -> Self {
        Self { stream, ear }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.ear.heard();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn whatever_comes_ends_a_silence() {
        let (mut far, near) = duplex(64);
        let ear = Ear { start: Instant::now() - Duration::from_secs(60), heard_ms: Arc::default() };
        let mut near = Heard::new(near, ear.clone());
        assert!(ear.silence() >= Duration::from_secs(60));
        far.write_all(b"x").await.expect("there is room");
        near.read_exact(&mut [0]).await.expect("it is there");
        assert!(ear.silence() < Duration::from_secs(30));
        near.write_all(b"y").await.expect("there is room");
        ear.silent_for(Duration::ZERO).await;
    }
}
