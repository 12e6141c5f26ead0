//! Bodies: a request's is read whole, an answer's is passed on as it comes.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Sleep;

use super::answer::Problem;
use super::limits::Limits;
use super::proxy::Held;

/// Reads a request's body into memory, where it can be sent more than once.
pub(super) async fn read_whole(body: Incoming, limits: &Limits) -> Result<Bytes, Problem> {
    let bytes_max = limits.request_body_bytes_max;
    // Told before anything is read, and before the caller is asked to continue.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(Problem::BodyTooLarge { bytes_max });
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let collected = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(limits.request_body_deadline, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::BodyTooLarge { bytes_max }),
        Ok(Err(_)) => Err(Problem::BodyMalformed),
        Err(_) => Err(Problem::BodyTimeout),
    }
}

/// The body of an answer.
pub(super) enum AnswerBody {
    /// One of the front door's own.
    Whole(Full<Bytes>),
    /// A region's, as it comes.
    Streamed(Streamed),
}

/// A region's body on its way through. It holds the request's place in all counts of those in flight.
pub(super) struct Streamed {
    body: Incoming,
    stall_deadline: Duration,
    /// Set while nothing comes: an answer that is there already needs no timer.
    stall: Option<Pin<Box<Sleep>>>,
    _held: Held,
}

impl AnswerBody {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }

    pub(super) fn streamed(body: Incoming, stall_deadline: Duration, held: Held) -> Self {
        Self::Streamed(Streamed { body, stall_deadline, stall: None, _held: held })
    }
}

/// An answer that cannot be finished: the connection is closed, so that the caller sees it is not whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerBroken {
    #[error("the region's answer broke off")]
    BrokeOff(#[source] hyper::Error),
    #[error("the region's answer stopped half-way")]
    Stalled,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerBroken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerBroken>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|impossible| match impossible {}),
            Self::Streamed(streamed) => streamed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Streamed(streamed) => streamed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Streamed(streamed) => streamed.body.size_hint(),
        }
    }
}

impl Streamed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerBroken>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.stall = None;
                Poll::Ready(frame.map(|frame| frame.map_err(AnswerBroken::BrokeOff)))
            }
            Poll::Pending => {
                let deadline = self.stall_deadline;
                let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline)));
                stall.as_mut().poll(cx).map(|()| Some(Err(AnswerBroken::Stalled)))
            }
        }
    }
}
