//! An upstream in this process that answers as it is told, byte by byte.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    sync::Notify,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// A request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Method, path and query.
    pub(crate) line: String,
    /// Set if the client showed a certificate.
    pub(crate) has_certificate: bool,
    head: String,
}

impl Seen {
    /// Returns the value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let line =
            self.head.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.eq_ignore_ascii_case(name)));
        line.map(|(_, value)| value.trim())
    }
}

/// The act of the upstream after a request.
pub(crate) enum Reply {
    /// Sends these bytes.
    Bytes(Vec<u8>),
    /// Sends these bytes, then the same byte for ever, one at a time.
    Drip(Vec<u8>),
    /// Sends these bytes, waits until it is told to go on, and sends those.
    Pause(Vec<u8>, Arc<Notify>, Vec<u8>),
    /// Says nothing.
    Silence,
}

/// Makes an answer with a status, headers and a body, and its right length.
pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{}", body.len(), headers.concat());
    Reply::Bytes([format!("{head}\r\n").as_bytes(), body].concat())
}

/// The upstream; it listens until it is dropped.
pub(crate) struct Hostile {
    /// Its port on 127.0.0.1.
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    listening: JoinHandle<()>,
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Hostile {
    pub(crate) async fn start(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(None, reply).await
    }

    pub(crate) async fn start_with_tls(
        config: ServerConfig,
        reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(TlsAcceptor::from(Arc::new(config))), reply).await
    }

    async fn listen(tls: Option<TlsAcceptor>, reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (reply, noted) = (Arc::new(reply), Arc::clone(&seen));
        let listening = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, reply, noted) = (tls.clone(), Arc::clone(&reply), Arc::clone(&noted));
                tokio::spawn(async move {
                    let Some(tls) = tls else { return serve(stream, false, reply, noted).await };
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let has_certificate = stream.get_ref().1.peer_certificates().is_some();
                    serve(stream, has_certificate, reply, noted).await;
                });
            }
        });
        Self { port, seen, listening }
    }

    /// Returns the requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Returns method, path and query of each request so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

/// Serves one connection: several requests, if they come.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    has_certificate: bool,
    reply: Arc<impl Fn(&Seen) -> Reply>,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8(std::mem::take(&mut head)).unwrap();
        let line = text.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
        let request = Seen { line, has_certificate, head: text };
        seen.lock().unwrap().push(request.clone());
        match reply(&request) {
            Reply::Bytes(bytes) => {
                let is_cut = !is_whole(&request, &bytes);
                if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() || is_cut {
                    return;
                }
            }
            Reply::Drip(bytes) => {
                let mut sent = stream.write_all(&bytes).await;
                while sent.is_ok() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    sent = stream.write_all(b"x").await;
                }
                return;
            }
            Reply::Pause(first, go_on, rest) => {
                let sent = stream.write_all(&first).await;
                go_on.notified().await;
                if sent.is_err() || stream.write_all(&rest).await.is_err() {
                    return;
                }
            }
            Reply::Silence => std::future::pending().await,
        }
    }
}

/// Returns whether an answer is as long as its head says. A cut one ends its connection.
fn is_whole(request: &Seen, answer: &[u8]) -> bool {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    request.line.starts_with("HEAD") || length == Some(answer.len() - end)
}
