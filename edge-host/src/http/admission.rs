//! Admits requests of the public listener. Each address has a share of the requests in progress, and a request counts
//! among all of them only when its whole body has arrived.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use region_router::admission::Share;
use tokio::sync::OwnedSemaphorePermit;

use super::Listener;
use super::extract::{BODY_BYTES_MAX, client_of, read};
use super::problem::ApiError;

/// For the body of a request to arrive: 64 KiB at the pace of the slowest mobile networks.
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// An answer of more bytes keeps its request's places until it is written: a caller that does not read it holds that
/// much memory. Smaller ones mostly fit into the socket's buffer.
const ANSWER_BYTES_HELD_MIN: u64 = 64 * 1024;

/// A request's places in the counts of those in progress: of its address, and of all.
pub(super) type Held = (Option<Share>, OwnedSemaphorePermit);

/// Counts a request by its address, and reads its body; at the other listeners it does nothing.
pub(super) async fn admit(
    listener: &Listener,
    request: Request,
) -> Result<(Option<Share>, Request), ApiError> {
    let Some(shares) = &listener.open.shares else {
        return Ok((None, request));
    };
    let address = client_of(request.extensions(), request.headers(), &listener.api);
    let share = shares.take_unless_trusted(address, &listener.api.config.trusted_proxies);
    let share = share.map_err(|_| ApiError::TooManyAtOnce)?;
    if request.body().is_end_stream() {
        return Ok((share, request));
    }
    let (parts, body) = request.into_parts();
    let whole = read(Request::new(body), BODY_BYTES_MAX);
    let whole = tokio::time::timeout(BODY_DEADLINE, whole).await.map_err(|_| ApiError::BodyTimeout)??;
    Ok((share, Request::from_parts(parts, Body::from(whole))))
}

/// Keeps the places of a request whose answer is large, until that is written or given up.
pub(super) fn hold(response: Response, held: Held) -> Response {
    if response.body().size_hint().lower() < ANSWER_BYTES_HELD_MIN {
        return response;
    }
    response.map(|body| Body::new(HeldBody { body, _held: held }))
}

struct HeldBody {
    body: Body,
    _held: Held,
}

impl HttpBody for HeldBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
