//! Accepts connections, speaks TLS, and ends connections that are silent or no longer trusted.

use std::{
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use hyper::{server::conn::http1, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

use super::{
    decisions::Decisions,
    peer::Peer,
    purpose::Purpose,
    request,
    service::Service,
    shares::{Cut, Streams},
    stream::{LARGEST_HEAD, NoStall, Wire},
};
use crate::telemetry::RequestId;

/// The most open connections at an address for metrics and health.
const SIDE_CONNECTIONS: usize = 256;
/// The time by which a body notices silence before the connection does.
const BODY_FIRST: Duration = Duration::from_secs(1);
/// The longest time of a TLS handshake.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(10);
/// The longest time that a client gets to read an alert.
const LONGEST_LINGER: Duration = Duration::from_secs(2);
/// The most bytes of a client that are thrown away meanwhile.
const MOST_DISCARDED: usize = 256 << 10;
/// The most requests at once on one connection of HTTP/2.
const MOST_STREAMS: u32 = 128;
/// The bytes that a client may send ahead on one stream of HTTP/2.
const STREAM_WINDOW: u32 = 1 << 20;
/// The bytes that a client may send ahead on all streams of one connection.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// The name by which TLS agrees on HTTP/2 (RFC 9113 section 3.1).
const ALPN_H2: &[u8] = b"h2";

/// Bound addresses, each with its purpose.
pub type Listeners = Vec<(TcpListener, Purpose)>;

/// Serves until `stop` turns true, then lets running requests end within the grace period.
pub async fn serve(service: Arc<Service>, listeners: Listeners, stop: watch::Receiver<bool>) {
    let serving = listeners
        .into_iter()
        .map(|(listener, purpose)| tokio::spawn(accept(Arc::clone(&service), listener, purpose, stop.clone())));
    futures::future::join_all(serving).await;
}

/// Accepts connections at one address until the server stops.
async fn accept(service: Arc<Service>, listener: TcpListener, purpose: Purpose, mut stop: watch::Receiver<bool>) {
    let most = if purpose == Purpose::Main { service.options.max_connections } else { SIDE_CONNECTIONS };
    let places = service.limits.connections(most);
    loop {
        let accepted = tokio::select! {
            // a closed channel is a stop as well
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // too many open files, for example: open connections go on, and a pause keeps this loop from spinning
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let cut = Arc::new(Cut::default());
        let wire = Wire::new(Arc::clone(&service.limits), client.ip().into(), Arc::clone(&cut));
        let Some(place) = places.take(&wire.holder, 1) else {
            service.metrics.record_rejected("too-many-connections");
            continue;
        };
        let _ = stream.set_nodelay(true);
        let connection = Box::pin(connection(Arc::clone(&service), purpose, stream, wire, client, stop.clone()));
        tokio::spawn(async move {
            match cut.scope(connection).await {
                Some(Err(error)) => tracing::debug!(%client, %error, "a connection ended with an error"),
                Some(Ok(())) => {}
                None => tracing::debug!(%client, "a connection was ended for another client"),
            }
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(service.options.grace, places.emptied()).await.is_err() {
        tracing::warn!("requests were still running at the end of the grace period and are broken off");
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves one connection.
async fn connection(
    service: Arc<Service>,
    purpose: Purpose,
    stream: TcpStream,
    wire: Arc<Wire>,
    client: SocketAddr,
    stop: watch::Receiver<bool>,
) -> Result<(), BoxError> {
    let snapshot = service.live.current();
    let silence = snapshot.config().server.query_timeout;
    let address = client.ip().to_canonical();
    let stream = NoStall::new(stream, Arc::clone(&wire), silence);
    let Some(tls) = snapshot.tls().filter(|_| purpose == Purpose::Main) else {
        drop(snapshot);
        return http1(service, Peer::plain(purpose, address, wire), stream, silence, stop).await;
    };
    let acceptor = TlsAcceptor::from(tls.server_config());
    let hint = tls.hint_without_certificate();
    drop(snapshot);
    // without a limit of their number: a silent client must not keep others from their handshakes
    let handshake = tokio::time::timeout(LONGEST_HANDSHAKE, acceptor.accept(stream).into_fallible()).await?;
    let stream = match handshake {
        Ok(stream) => stream,
        Err((error, stream)) => {
            refused(&service, address, &error, hint);
            linger(stream).await;
            return Err(error.into());
        }
    };
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
    if session.alpn_protocol() == Some(ALPN_H2) {
        http2(service, Peer::secure(purpose, address, wire, chain, true), stream, silence, stop).await
    } else {
        http1(service, Peer::secure(purpose, address, wire, chain, false), stream, silence, stop).await
    }
}

/// Closes a connection so that the client reads the alert of a failed handshake. In TLS 1.3 a client sends its request before it
/// hears of the failure. A socket that is closed with unread bytes resets the connection, and a reset overtakes the alert.
async fn linger(mut stream: NoStall) {
    let until_closed = async {
        stream.shutdown().await?;
        let mut discarded = [0; 4096];
        let mut left = MOST_DISCARDED;
        while left > 0 {
            match stream.read(&mut discarded).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        std::io::Result::Ok(())
    };
    // the client has gone, or does not go: either way there is nobody left to tell
    let _ = tokio::time::timeout(LONGEST_LINGER, until_closed).await;
}

/// Records a refused client certificate as a failed login. Other faults of a handshake are no decisions.
fn refused(service: &Service, client: IpAddr, error: &std::io::Error, hint: Option<String>) {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let Some(error @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)) = error else {
        return;
    };
    service.metrics.record_login(false);
    let why =
        hint.filter(|_| matches!(error, rustls::Error::NoCertificatesPresented)).unwrap_or_else(|| error.to_string());
    tracing::info!(%client, error = why, "a client certificate was refused in the handshake");
    let decisions = Decisions::new(&service.audit, &RequestId::fresh(), Purpose::Main);
    decisions.handshake(client, why);
    // no client is there to be told of a record that cannot be written; the next request is
    let _ = decisions.write(0);
}

/// Serves a connection of HTTP/1.1.
async fn http1<S>(
    service: Arc<Service>,
    peer: Peer,
    stream: S,
    silence: Duration,
    mut stop: watch::Receiver<bool>,
) -> Result<(), BoxError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = Arc::new(peer);
    let other = Arc::clone(&peer);
    let answer = service_fn(move |request| request::answer(Arc::clone(&service), Arc::clone(&other), request));
    let mut serving = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            // also how long a connection may be idle
            .header_read_timeout(silence)
            .max_buf_size(LARGEST_HEAD as usize)
            .half_close(false)
            .serve_connection(TokioIo::new(stream), answer)
    );
    let mut ending = false;
    loop {
        tokio::select! {
            ended = serving.as_mut() => return Ok(ended?),
            () = end(&mut stop, &peer), if !ending => {
                ending = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Serves a connection of HTTP/2. Ends it when nothing is under way, or when the client reads nothing.
async fn http2<S>(
    service: Arc<Service>,
    peer: Peer,
    stream: S,
    silence: Duration,
    mut stop: watch::Receiver<bool>,
) -> Result<(), BoxError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let peer = Arc::new(peer);
    let other = Arc::clone(&peer);
    let answer = service_fn(move |request| request::answer(Arc::clone(&service), Arc::clone(&other), request));
    let mut serving = pin!(
        http2::Builder::new(Streams)
            .timer(TokioTimer::new())
            .max_concurrent_streams(MOST_STREAMS)
            .max_header_list_size(LARGEST_HEAD)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(silence)
            .keep_alive_timeout(silence)
            .serve_connection(TokioIo::new(stream), answer)
    );
    let mut ending = false;
    // looks in a row that found no answer under way
    let mut idle = 0;
    let mut look = tokio::time::interval(silence / 2);
    loop {
        tokio::select! {
            ended = serving.as_mut() => return Ok(ended?),
            () = end(&mut stop, &peer), if !ending => {
                ending = true;
                serving.as_mut().graceful_shutdown();
            }
            _ = look.tick() => {
                if peer.is_stalled(silence + BODY_FIRST) {
                    return Err("the client reads nothing of an answer".into());
                }
                if !peer.is_idle(silence) {
                    idle = 0;
                    continue;
                }
                // first a graceful end; a client that neither speaks nor reads does not see that
                idle += 1;
                if idle > 2 {
                    return Err("the client does not go though nothing is under way".into());
                }
                ending = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Waits until the connection is to end after its requests: the server stops, or the client is no longer trusted.
async fn end(stop: &mut watch::Receiver<bool>, peer: &Peer) {
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = peer.closing() => {}
    }
}
