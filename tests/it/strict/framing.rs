//! Heads that two readers could read differently.

use crate::support::client::{Request, Response};
use crate::support::server::{Backend, Server};

/// Sends a head as it is, and reads the answer.
fn send(server: &Server, head: &str) -> Response {
    let mut connection = server.client().connect().expect("connect");
    connection.write(head.replace('\n', "\r\n").as_bytes()).expect("write");
    connection.read_response(&Request::get("/")).expect("an answer")
}

#[test]
fn a_head_that_a_proxy_could_read_otherwise_is_400() {
    let server = Server::start_plain(Backend::Directory, "");
    let post = "POST /v2/a/blobs/uploads/ HTTP/1.1\n";
    for head in [
        "GET /v2/ HTTP/1.1\n\n".to_owned(),
        "GET /v2/ HTTP/1.1\nHost: a\nHost: b\n\n".to_owned(),
        "GET /v2/ HTTP/1.1\nHost: a\nHost: a\n\n".to_owned(),
        "GET /v2/ HTTP/1.1\nHost: a b\n\n".to_owned(),
        "GET /v2/ HTTP/1.1\nHost: user@localhost\n\n".to_owned(),
        "GET /v2/ HTTP/1.0\nHost: localhost\nHost: localhost\n\n".to_owned(),
        "GET /healthz HTTP/1.1\n\n".to_owned(),
        "GET /v2/ HTTP/1.1\nHost: localhost\nAuthorization: Basic YTpi\nAuthorization: Basic YTpj\n\n".to_owned(),
        "GET /v2/ HTTP/1.1\nHost: localhost\nRange: bytes=0-1\nRange: bytes=1-2\n\n".to_owned(),
        format!("{post}Host: localhost\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n"),
        format!("{post}Host: localhost\nTransfer-Encoding: chunked, chunked\n\n0\n\n"),
        format!("{post}Host: localhost\nTransfer-Encoding: gzip, chunked\n\n0\n\n"),
        format!("{post}Host: localhost\nContent-Length: 0\nContent-Type: a/b\nContent-Type: c/d\n\n"),
        format!("{post}Host: localhost\nContent-Length: 0\nContent-Range: 0-1\nContent-Range: 1-2\n\n"),
    ] {
        let answer = send(&server, &head);
        let errors = answer.clone().expect_error(400, "UNSUPPORTED");
        assert!(!errors.is_empty());
        assert_eq!(answer.required("connection"), "close", "{head}");
    }
    for head in [
        "GET /v2/ HTTP/1.0\n\n",
        "GET /v2/ HTTP/1.1\nHost: \n\n",
        "GET /v2/ HTTP/1.1\nHost: [::1]:5000\n\n",
        "GET http://localhost/v2/ HTTP/1.1\nHost: localhost\n\n",
        "GET /healthz HTTP/1.1\nHost: a.example\n\n",
    ] {
        send(&server, head).expect(200);
    }
    send(&server, &format!("{post}Host: localhost\nTransfer-Encoding: Chunked\n\n0\n\n")).expect(202);
}
