//! Connections: accepting them, their time limits, and their end at shutdown.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::Sleep,
};

use super::{Service, request};

/// Connections that are open at once on one address; more wait to be accepted.
const MOST_CONNECTIONS: usize = 20_000;

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The registry.
    Main,
    /// Health or metrics alone.
    Side {
        /// It answers `/healthz` and `/readyz`.
        health: bool,
        /// It answers `/metrics`.
        metrics: bool,
    },
}

/// Bound addresses, each with its purpose.
pub type Listeners = Vec<(TcpListener, Purpose)>;

/// Serves until `stop` turns true, then lets running requests end within the grace period.
pub async fn serve(service: Arc<Service>, listeners: Listeners, stop: watch::Receiver<bool>) {
    let serving = listeners
        .into_iter()
        .map(|(listener, purpose)| tokio::spawn(accept(Arc::clone(&service), listener, purpose, stop.clone())));
    futures::future::join_all(serving).await;
}

async fn accept(service: Arc<Service>, listener: TcpListener, purpose: Purpose, mut stop: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            // a closed channel is a stop as well
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (listener.accept().await, place)
            } => accepted,
        };
        let (stream, client, place) = match accepted {
            (Ok((stream, client)), Ok(place)) => (stream, client, place),
            (Err(error), _) => {
                // too many open files, say: what is open goes on, and a pause keeps this from spinning
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            (_, Err(_)) => break,
        };
        let _ = stream.set_nodelay(true);
        let connection = connection(Arc::clone(&service), purpose, stream, client);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%client, %error, "a connection ended with an error");
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(service.options.grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still running at the end of the grace period and are broken off");
    }
}

fn connection(
    service: Arc<Service>,
    purpose: Purpose,
    stream: TcpStream,
    client: SocketAddr,
) -> http1::Connection<
    TokioIo<NoStall>,
    impl hyper::service::HttpService<
        hyper::body::Incoming,
        ResBody = super::body::Body,
        Error = std::convert::Infallible,
        Future: Send,
    >,
> {
    let silence = service.options.query_timeout;
    let ip = client.ip().to_canonical();
    let answer = service_fn(move |http_request| request::answer(Arc::clone(&service), purpose, ip, http_request));
    http1::Builder::new()
        .timer(TokioTimer::new())
        // also how long a connection may be idle
        .header_read_timeout(silence)
        .half_close(false)
        .serve_connection(TokioIo::new(NoStall::new(stream, silence)), answer)
}

/// A stream whose reader may not stall for ever: a write that makes no progress for that long is an error.
///
/// Reading needs no such guard here: a head has its time limit in hyper, a body in `RequestBody`.
struct NoStall {
    stream: TcpStream,
    silence: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl NoStall {
    const fn new(stream: TcpStream, silence: Duration) -> Self {
        Self { stream, silence, stalled: None }
    }

    fn watch<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let silence = self.silence;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        stalled
            .as_mut()
            .poll(context)
            .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")))
    }
}

impl tokio::io::AsyncRead for NoStall {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl tokio::io::AsyncWrite for NoStall {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.watch(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
