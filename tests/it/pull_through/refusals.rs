//! The answers of a cache whose upstreams refuse, fail, or say nothing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::support::client::Request;
use crate::support::content::Image;
use crate::support::server::{Backend, Server};

/// Starts an upstream that answers every request so, or never if the answer is empty.
pub(super) fn upstream(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for mut stream in listener.incoming().flatten() {
            read_head(&mut stream);
            if answer.is_empty() {
                silent.push(stream);
            } else {
                let _ = write!(stream, "HTTP/1.1 {answer}\r\nconnection: close\r\n\r\n");
            }
        }
    });
    address
}

fn read_head(stream: &mut TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|length| length == 1) {
        head.push(byte[0]);
    }
}

/// Returns the settings of a namespace with one more upstream.
pub(super) fn cache(namespace: &str, address: SocketAddr, keys: &str) -> String {
    format!("[[repository.{namespace}.upstream]]\nurl = \"http://{address}/v2\"\n{keys}\n")
}

const LOGIN: &str = "username = 'ana'\npassword = 'secret'";
const BASIC: &str = "401 x\r\ncontent-length: 0\r\nwww-authenticate: Basic realm=\"hub\"";

#[test]
fn each_refusal_of_an_upstream_has_its_status_and_says_why() {
    let cases = [
        ("absent", "404 x\r\ncontent-length: 0", "", 404, "MANIFEST_UNKNOWN", "127.0.0.1: 404"),
        ("closed", BASIC, "", 404, "MANIFEST_UNKNOWN", "401, no access to this repository"),
        ("login", BASIC, LOGIN, 502, "UNAVAILABLE", "it refuses the configured credentials"),
        ("limited", "429 x\r\ncontent-length: 0\r\nretry-after: 3000", "", 429, "TOOMANYREQUESTS", "429"),
        ("failing", "503 x\r\ncontent-length: 0", "", 502, "UNAVAILABLE", "127.0.0.1: 503"),
        ("portal", "200 x\r\ncontent-length: 0\r\ncontent-type: text/html", "", 502, "UNAVAILABLE", "a web page"),
        ("silent", "", "timeout = '300ms'", 504, "UNAVAILABLE", "no answer within"),
    ];
    let settings = cases.map(|(namespace, answer, keys, ..)| cache(namespace, upstream(answer), keys)).concat();
    let server = Server::start_plain(Backend::Directory, &settings);
    for (namespace, _, _, status, code, words) in cases {
        let target = format!("/v2/{namespace}/app/manifests/v1");
        let answer = server.client().send(Request::get(target));
        let retry_after: Option<u64> = answer.header("retry-after").map(|seconds| seconds.parse().unwrap());
        let errors = answer.expect_error(status, code);
        let message = errors[0]["message"].as_str().unwrap();
        assert!(message.contains(words), "{namespace}: {message}");
        assert_eq!(retry_after.is_some_and(|seconds| (2000..=3000).contains(&seconds)), status == 429, "{namespace}");
    }
    server.wait_for_line(0, &["ERROR", "an upstream refuses the configured credentials", "login/app"]);
}

#[test]
fn refused_credentials_are_logged_although_another_upstream_answers() {
    let hub = Server::start_plain(Backend::Directory, "");
    let image = Image::new(&[10]);
    let digest = hub.repo("app").push_image("v1", &image);
    let next = format!("[[repository.hub.upstream]]\nurl = \"http://{}/v2\"\n", hub.address());
    let server = Server::start_plain(Backend::Directory, &(cache("hub", upstream(BASIC), LOGIN) + &next));
    assert_eq!(server.repo("hub/app").pull_image("v1"), digest);
    server.wait_for_line(0, &["ERROR", "an upstream refuses the configured credentials; another one answered"]);
}
