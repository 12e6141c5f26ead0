//! One attempt to ask home, in the trace of the request that it is made for.

use std::net::SocketAddr;

use region_router::traces::{Kind, Span};

use super::super::edges::SendError;
use super::{Answer, Question};

/// By the conventions of OpenTelemetry for calls, and for HTTP, which it is made by.
pub(super) fn span(question: &Question, edge: SocketAddr) -> Span {
    let name = format!("troli.Home/{}", question.topic.name());
    Span::new(Kind::Client, name.clone())
        .with("rpc.system.name", "troli")
        .with("rpc.method", name)
        .with("http.request.method", question.method.to_string())
        .with("server.address", edge.ip().to_string())
        .with("server.port", edge.port())
}

/// What has become of it.
pub(super) fn ended<E>(sent: &Result<Result<Answer, SendError>, E>, span: &mut Span) {
    match sent {
        Ok(Ok((status, _))) => {
            span.note("http.response.status_code", status.as_u16());
            if status.is_server_error() {
                span.fail(status.as_str().to_owned());
            }
        }
        Ok(Err(_)) => span.fail("broken"),
        Err(_) => span.fail("timeout"),
    }
}
