//! HTTP/2, which TLS agrees on: many requests on one connection, and the limits that one connection has.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::shared::certificates::Authority;
use crate::support::client::Client;
use crate::support::content::{Image, sha256, unique};
use crate::support::repo::Repo;
use crate::support::server::{Backend, Server};

struct World {
    server: Server,
    authority: Authority,
}

struct Connection {
    requests: SendRequest<Full<Bytes>>,
    ended: JoinHandle<()>,
}

impl World {
    fn new(settings: &str) -> Self {
        let authority = Authority::new("ours");
        let directory = tempfile::tempdir().expect("a directory").keep();
        let (certificate, key) = authority.server().write(&directory, "server");
        fs::write(directory.join("authority.pem"), authority.pem()).expect("write");
        let tls = format!("[server.tls]\nserver_certificate_bundle = {certificate:?}\nserver_private_key = {key:?}\n");
        Self { server: Server::start_plain(Backend::Directory, &(settings.to_owned() + "\n" + &tls)), authority }
    }

    fn http1(&self) -> Client {
        self.server.client().with_tls(self.authority.client_config(None))
    }

    async fn secure(&self) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        self.secure_from(1).await
    }

    /// Connects from an address of the loopback network.
    async fn secure_from(&self, last: u8) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
        let mut config = (*self.authority.client_config(None)).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, last], 0).into()).expect("an address of our own");
        let stream = socket.connect(self.server.address().parse().unwrap()).await.expect("connect");
        let name = ServerName::try_from("127.0.0.1").expect("a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        stream
    }

    async fn connect(&self, window: u32) -> Connection {
        self.connect_from(1, window).await
    }

    async fn connect_from(&self, last: u8, window: u32) -> Connection {
        let stream = self.secure_from(last).await;
        let (requests, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake(TokioIo::new(stream))
            .await
            .expect("HTTP/2");
        Connection { requests, ended: tokio::spawn(async move { drop(connection.await) }) }
    }

    fn uri(&self, path: &str) -> String {
        format!("https://{}{path}", self.server.address())
    }
}

impl Connection {
    async fn send(&self, request: Request<Full<Bytes>>) -> (u16, http::HeaderMap, Bytes) {
        let answer = self.requests.clone().send_request(request).await.expect("an answer");
        let (parts, body) = answer.into_parts();
        (parts.status.as_u16(), parts.headers, body.collect().await.expect("a whole answer").to_bytes())
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

fn request(method: &str, uri: String, body: &[u8]) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(uri).body(Full::new(Bytes::copy_from_slice(body))).expect("a request")
}

#[test]
fn a_host_that_differs_from_the_authority_is_400() {
    let world = World::new("");
    run(async {
        let connection = world.connect(65_535).await;
        let address = world.server.address();
        for (host, status) in [(address, 200), ("other.example", 400)] {
            let request =
                Request::get(world.uri("/v2/")).header("host", host).body(Full::default()).expect("a request");
            assert_eq!(connection.send(request).await.0, status, "{host}");
        }
    });
}

#[test]
fn a_blob_is_pushed_in_chunks_and_pulled_by_many_requests_at_once() {
    let world = World::new("");
    let (one, two) = (unique(300_000), unique(200_000));
    let whole = [one.clone(), two.clone()].concat();
    let digest = sha256(&whole);
    run(async {
        let connection = world.connect(1 << 20).await;
        let (status, headers, _) = connection.send(request("POST", world.uri("/v2/a/blobs/uploads/"), b"")).await;
        assert_eq!(status, 202);
        let at = |headers: &http::HeaderMap| world.uri(headers["location"].to_str().unwrap());
        let (status, headers, _) = connection.send(request("PATCH", at(&headers), &one)).await;
        assert_eq!((status, headers["range"].to_str().unwrap()), (202, "0-299999"));
        let location = format!("{}&digest={digest}", at(&headers));
        let (status, _, body) = connection.send(request("PUT", location, &two)).await;
        assert_eq!(status, 201, "{body:?}");
        let pulls = (0..100).map(|_| connection.send(request("GET", world.uri(&format!("/v2/a/blobs/{digest}")), b"")));
        for (status, _, body) in futures::future::join_all(pulls).await {
            assert_eq!(status, 200);
            assert!(body == whole, "other bytes came");
        }
    });
}

#[test]
fn an_answer_to_head_has_the_length_of_get_and_no_body() {
    let world = World::new("");
    let image = Image::new(&[10]);
    Repo::new(world.http1(), "a").push_image("v1", &image);
    let referrers = format!("/v2/a/referrers/{}", image.manifest.digest());
    run(async {
        let paths = ["/v2/", "/v2/_catalog", "/v2/a/tags/list", "/v2/a/_history/v1", &referrers, "/v2/a/manifests/v1"];
        for path in [&paths[..], &["/healthz", "/readyz"]].concat() {
            let connection = world.connect(1 << 20).await;
            let (_, of_get, whole) = connection.send(request("GET", world.uri(path), b"")).await;
            let (status, of_head, body) = connection.send(request("HEAD", world.uri(path), b"")).await;
            assert_eq!((status, &body[..]), (200, &b""[..]), "{path}");
            assert_eq!(of_head["content-length"], of_get["content-length"], "{path}");
            assert_eq!(of_head["content-length"], whole.len().to_string(), "{path}");
        }
        let connection = world.connect(1 << 20).await;
        let (status, _, body) = connection.send(request("HEAD", world.uri("/v2/a/manifests/v2"), b"")).await;
        assert_eq!((status, &body[..]), (404, &b""[..]));
    });
}

#[test]
fn connections_of_stalled_readers_and_idle_clients_are_closed() {
    let world = World::new("[server]\nquery_timeout = \"1s\"\n");
    let digest = Repo::new(world.http1(), "a").push_blob(&unique(4_000_000));
    run(async {
        let stalls = world.connect(1000).await;
        let blob = request("GET", world.uri(&format!("/v2/a/blobs/{digest}")), b"");
        let answer = stalls.requests.clone().send_request(blob).await.expect("the head of an answer");
        let idle = world.connect(1000).await;
        let began = Instant::now();
        // both ends are known by the connection ending, so there is nothing to be early for
        let patience = Duration::from_secs(20);
        tokio::time::timeout(patience, stalls.ended).await.expect("the stalled connection ends").unwrap();
        tokio::time::timeout(patience, idle.ended).await.expect("the idle connection ends").unwrap();
        assert!(began.elapsed() >= Duration::from_millis(900), "it was not given its time");
        drop(answer);
    });
}

#[test]
fn a_client_that_is_silent_after_the_handshake_is_disconnected() {
    use tokio::io::AsyncReadExt as _;
    let world = World::new("[server]\nquery_timeout = \"1s\"\n");
    run(async {
        let mut stream = world.secure().await;
        let mut bytes = Vec::new();
        // it ends, in whatever way; what came before is the server's settings
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await;
        assert!(ended.is_ok(), "the connection stays open");
    });
}

#[test]
fn a_stop_waits_for_requests_and_not_for_open_connections() {
    let mut world = World::new("");
    let connection = run(async {
        let connection = world.connect(1 << 20).await;
        let (status, _, _) = connection.send(request("GET", world.uri("/v2/"), b"")).await;
        assert_eq!(status, 200);
        connection
    });
    let began = Instant::now();
    assert!(world.server.terminate().success());
    assert!(began.elapsed() < Duration::from_secs(20), "it waited for an idle connection: {:?}", began.elapsed());
    drop(connection);
}

#[test]
fn streams_that_stall_on_every_transfer_give_way_one_by_one() {
    let world = World::new("max_concurrent_transfers = 4");
    let repo = Repo::new(world.http1(), "a");
    let large = repo.push_blob(&unique(4_000_000));
    let small = repo.push_blob(&unique(1000));
    run(async {
        let stalls = world.connect_from(2, 1000).await;
        let mut answers = Vec::new();
        for _ in 0..4 {
            let blob = request("GET", world.uri(&format!("/v2/a/blobs/{large}")), b"");
            answers.push(stalls.requests.clone().send_request(blob).await.expect("the head of an answer"));
        }
        let other = world.connect(1 << 20).await;
        let (status, _, body) = other.send(request("GET", world.uri(&format!("/v2/a/blobs/{small}")), b"")).await;
        assert_eq!((status, body.len()), (200, 1000));
        // the connection and its other streams go on
        let (status, _, _) = stalls.send(request("GET", world.uri("/v2/"), b"")).await;
        assert_eq!(status, 200);
        let metrics = world.http1().send(crate::support::client::Request::get("/metrics")).expect(200).body;
        let line = "simple_registry_shares_given_up_total{pool=\"transfers\"} 1\n";
        assert!(String::from_utf8(metrics).unwrap().contains(line));
    });
}

#[test]
fn the_last_bytes_of_a_stream_count_until_the_client_has_them() {
    let world = World::new("max_concurrent_transfers = 2");
    let blob = Repo::new(world.http1(), "a").push_blob(&unique(100_000));
    run(async {
        let stalls = world.connect(1000).await;
        let get = || request("GET", world.uri(&format!("/v2/a/blobs/{blob}")), b"");
        let mut answers = Vec::new();
        for _ in 0..2 {
            answers.push(stalls.requests.clone().send_request(get()).await.expect("the head of an answer"));
        }
        // the whole blob is one piece, which waits in the memory of the server
        let (status, _, _) = stalls.send(get()).await;
        assert_eq!(status, 503);
        for answer in answers {
            assert_eq!(answer.into_body().collect().await.expect("a whole answer").to_bytes().len(), 100_000);
        }
        let (status, _, body) = stalls.send(get()).await;
        assert_eq!((status, body.len()), (200, 100_000));
    });
}
