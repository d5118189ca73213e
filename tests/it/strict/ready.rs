//! `/readyz` and the gauge of troubles.

use crate::support::client::Request;
use crate::support::server::{Backend, Server};

fn text(server: &Server, path: &str, status: u16) -> String {
    String::from_utf8(server.client().send(Request::get(path)).expect(status).body).expect("UTF-8")
}

/// Starts a server whose record of decisions is on a full device.
fn with_a_full_record(on_error: &str) -> Server {
    let server = Server::start_plain(
        Backend::Directory,
        &format!(
            "[audit]\nfile = \"/dev/full\"\non_error = \"{on_error}\"\n[observability.metrics]\nlisten = \"main\"\n"
        ),
    );
    server.client().send(Request::get("/v2/a/tags/list"));
    server
}

#[test]
fn a_server_is_not_ready_only_while_it_refuses_pulls() {
    let server = with_a_full_record("deny");
    assert!(server.client().send(Request::get("/readyz")).status == 503);
    let server = with_a_full_record("continue");
    let ready = text(&server, "/readyz", 200);
    assert!(ready.starts_with("ready\nwarning: the record of decisions cannot be written"), "{ready}");
    let metrics = text(&server, "/metrics", 200);
    assert!(metrics.contains("simple_registry_trouble{kind=\"record\"} 1\n"), "{metrics}");
    assert!(metrics.contains("simple_registry_trouble{kind=\"store-full\"} 0\n"), "{metrics}");
}

#[test]
fn a_server_without_troubles_counts_each_kind_as_zero() {
    let server = Server::start_plain(Backend::Directory, "");
    assert_eq!(text(&server, "/readyz", 200), "ready\n");
    let metrics = text(&server, "/metrics", 200);
    for kind in ["record", "reload-hangs", "reload-refused", "store-full", "store-read-only"] {
        assert!(metrics.contains(&format!("simple_registry_trouble{{kind=\"{kind}\"}} 0\n")), "{kind}: {metrics}");
    }
}
