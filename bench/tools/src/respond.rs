//! A bare hyper responder: the same answer to every request. It is the limit of what a server on hyper can do here.

use crate::args::{Args, Failure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::net::TcpListener;

pub fn run(args: &Args) -> Result<(), Failure> {
    let body = Bytes::from(std::fs::read(args.text("body")?)?);
    let mut headers = HeaderMap::new();
    for header in args.all("header") {
        let (key, value) = header.split_once(':').ok_or_else(|| format!("{header:?} is not a header"))?;
        headers.append(HeaderName::from_bytes(key.as_bytes())?, HeaderValue::from_str(value.trim())?);
    }
    let listen = args.text("listen")?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(listen, Arc::new(headers), body))
}

async fn serve(listen: &str, headers: Arc<HeaderMap>, body: Bytes) -> Result<(), Failure> {
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (headers, body) = (Arc::clone(&headers), body.clone());
        tokio::spawn(async move {
            let service = service_fn(move |_: Request<hyper::body::Incoming>| {
                let mut answer = Response::new(Full::new(body.clone()));
                *answer.headers_mut() = (*headers).clone();
                async move { Ok::<_, Infallible>(answer) }
            });
            // A client that leaves is the end of a turn, nothing to report.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
