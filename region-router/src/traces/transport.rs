//! One message to the collector: by HTTP with protobuf, by gRPC, and to a file as JSON.
//!
//! A gRPC call without streams is one POST over HTTP/2 whose body has five bytes before the message, and whose status
//! comes after the answer. That is all that is needed of gRPC here.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use rustls::{ClientConfig, RootCertStore};

use super::settings::{Endpoint, Protocol, Settings};
use crate::causes::chain;

/// Of an answer: a collector says how many spans it has refused, and why.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Before a gRPC message: whether it is compressed, and its length.
const GRPC_PREFIX_BYTES: usize = 5;
const GRPC_STATUS: &str = "grpc-status";
const GRPC_OK: &str = "0";
/// Of gRPC's codes, those that the protocol says to try again: cancelled, deadline exceeded, resource exhausted,
/// aborted, out of range, unavailable, data loss.
const GRPC_AGAIN: [&str; 7] = ["1", "4", "8", "10", "11", "14", "15"];

pub(super) struct Transport {
    collector: Option<Collector>,
    file: Option<File>,
}

struct Collector {
    endpoint: Endpoint,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// It may be another time.
    #[error("{0}")]
    Later(String),
    /// This one never will be.
    #[error("{0}")]
    Never(String),
}

impl Transport {
    pub(super) fn open(settings: &Settings) -> std::io::Result<Self> {
        let append = |path| OpenOptions::new().create(true).append(true).open(path);
        let file = settings.file.as_ref().map(append).transpose()?;
        let collector = settings.endpoint.clone().map(Collector::new).transpose()?;
        Ok(Self { collector, file })
    }

    /// Sends a message; returns how many spans of it were refused.
    pub(super) async fn send(&mut self, message: &ExportTraceServiceRequest) -> Result<u64, SendError> {
        if let Some(file) = &mut self.file {
            // In one piece: other processes may write to the same file.
            let mut line =
                serde_json::to_vec(message).map_err(|error| SendError::Never(error.to_string()))?;
            line.push(b'\n');
            file.write_all(&line).map_err(|error| SendError::Never(error.to_string()))?;
        }
        match &self.collector {
            Some(collector) => collector.send(message).await,
            None => Ok(0),
        }
    }
}

impl Collector {
    fn new(endpoint: Endpoint) -> std::io::Result<Self> {
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(endpoint.timeout));
        http.enforce_http(false);
        let (tls, ring) = (HttpsConnectorBuilder::new(), rustls::crypto::ring::default_provider());
        let tls = if endpoint.uri.scheme() == Some(&Scheme::HTTPS) {
            tls.with_provider_and_native_roots(ring)?
        } else {
            // A machine without certificates of authorities can send to a collector without TLS.
            let config =
                ClientConfig::builder_with_provider(Arc::new(ring)).with_safe_default_protocol_versions();
            let config =
                config.map_err(std::io::Error::other)?.with_root_certificates(RootCertStore::empty());
            tls.with_tls_config(config.with_no_client_auth())
        };
        let connector = match endpoint.protocol {
            Protocol::Http => tls.https_or_http().enable_http1().wrap_connector(http),
            Protocol::Grpc => tls.https_or_http().enable_http2().wrap_connector(http),
        };
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_only(endpoint.protocol == Protocol::Grpc)
            .build(connector);
        Ok(Self { endpoint, client })
    }

    async fn send(&self, message: &ExportTraceServiceRequest) -> Result<u64, SendError> {
        let answered = tokio::time::timeout(self.endpoint.timeout, async {
            let answer = self.client.request(self.request(message)).await;
            let answer = answer.map_err(|error| SendError::Later(chain(&error)))?;
            match self.endpoint.protocol {
                Protocol::Http => read_http(answer).await,
                Protocol::Grpc => read_grpc(answer).await,
            }
        });
        answered
            .await
            .unwrap_or_else(|_| Err(SendError::Later("the collector did not answer in time".to_owned())))
    }

    fn request(&self, message: &ExportTraceServiceRequest) -> Request<Full<Bytes>> {
        let length = message.encoded_len();
        let mut body = BytesMut::with_capacity(GRPC_PREFIX_BYTES + length);
        let media_type = match self.endpoint.protocol {
            Protocol::Http => "application/x-protobuf",
            Protocol::Grpc => {
                body.put_u8(0);
                body.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
                "application/grpc"
            }
        };
        message.encode(&mut body).expect("memory takes what is written into it");
        let mut request = Request::new(Full::new(body.freeze()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.uri.clone();
        request.headers_mut().clone_from(&self.endpoint.headers);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        if self.endpoint.protocol == Protocol::Grpc {
            request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        }
        request
    }
}

async fn read_http(answer: Response<Incoming>) -> Result<u64, SendError> {
    let status = answer.status();
    let refused = format!("the collector answered {status}");
    match status {
        StatusCode::OK => {}
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => return Err(SendError::Later(refused)),
        _ => return Err(SendError::Never(refused)),
    }
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    // It has taken the message. What it says beside that cannot be read, and changes nothing.
    Ok(body.map_or(0, |body| refused_spans(&body.to_bytes())))
}

async fn read_grpc(answer: Response<Incoming>) -> Result<u64, SendError> {
    if answer.status() != StatusCode::OK {
        return Err(SendError::Later(format!("the collector answered {}", answer.status())));
    }
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| SendError::Later(format!("the answer broke off: {error}")))?;
    // An answer that has no message has its status among the headers.
    let trailers = body.trailers().cloned().unwrap_or_default();
    let status = grpc_status(&trailers).or_else(|| grpc_status(&parts.headers)).unwrap_or_default();
    let refused = format!("the collector answered gRPC status {status:?}");
    match status.as_str() {
        GRPC_OK => {
            let bytes = body.to_bytes();
            Ok(bytes.get(GRPC_PREFIX_BYTES..).map_or(0, refused_spans))
        }
        status if GRPC_AGAIN.contains(&status) => Err(SendError::Later(refused)),
        _ => Err(SendError::Never(refused)),
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(GRPC_STATUS)?.to_str().ok()?.to_owned())
}

fn refused_spans(bytes: &[u8]) -> u64 {
    let answer = ExportTraceServiceResponse::decode(bytes).unwrap_or_default();
    answer.partial_success.map_or(0, |partly| u64::try_from(partly.rejected_spans).unwrap_or(0))
}
