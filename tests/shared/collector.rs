//! A small OTLP receiver: HTTP/1.1, protobuf bodies, everything kept.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// The receiver; it listens until it is dropped.
pub(crate) struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
    _runtime: Runtime,
}

#[derive(Default)]
struct Received {
    /// Method, path and content type of each request.
    heads: Vec<(String, String, String)>,
    spans: Vec<ResourceSpans>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Received::default()));
        let shared = Arc::clone(&received);
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request| receive(request, Arc::clone(&shared)));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { address, received, _runtime: runtime }
    }

    /// Returns the base URL of the receiver.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns method, path and content type of each request so far.
    pub(crate) fn heads(&self) -> Vec<(String, String, String)> {
        self.received.lock().unwrap().heads.clone()
    }

    /// Returns each resource that spans came from.
    pub(crate) fn resources(&self) -> Vec<Vec<KeyValue>> {
        let received = self.received.lock().unwrap();
        received.spans.iter().map(|spans| spans.resource.clone().unwrap().attributes).collect()
    }

    /// Returns all spans so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let received = self.received.lock().unwrap();
        let scopes = received.spans.iter().flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }
}

async fn receive(
    request: Request<Incoming>,
    received: Arc<Mutex<Received>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let content_type = request.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let head = (request.method().to_string(), request.uri().to_string(), content_type.unwrap_or_default());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let export = ExportTraceServiceRequest::decode(body).unwrap();
    let mut received = received.lock().unwrap();
    received.heads.push(head);
    received.spans.extend(export.resource_spans);
    let answer = ExportTraceServiceResponse::default().encode_to_vec();
    Ok(Response::builder().header("content-type", "application/x-protobuf").body(Full::new(answer.into())).unwrap())
}

/// Returns the text of an attribute.
pub(crate) fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    match value {
        Value::StringValue(text) => Some(text),
        other => panic!("{key} is {other:?}"),
    }
}
