//! A record, replayed under the policies that made it, shows no change.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::world::{PASSWORD, WORLD};
use super::{EVERYBODY, Who, actions};
use crate::record::{new_file, replay, text_of};
use crate::support::client::{Client, Request};
use crate::support::repo::finish;

const NAMESPACES: [&str; 8] = ["everyone", "nobody", "people", "ci", "both", "not-ci", "tagged", "unheard-of"];

/// Returns a client with a token for one scope.
fn with_scope(client: &Client, scope: &str) -> Client {
    let token = client.send(Request::get(format!("/token?scope={scope}"))).expect(200).json();
    WORLD.anonymous().with_token(token["token"].as_str().unwrap())
}

fn clients() -> Vec<Client> {
    let everybody = EVERYBODY.into_iter().filter(|who| !who.is_refused_in_the_handshake()).map(Who::client);
    let ana = WORLD.anonymous().with_password("ana", PASSWORD);
    let scopes = ["repository:tagged/app:pull", "repository:people/app:push,delete", "registry:catalog:*"];
    let limited = scopes.into_iter().flat_map(|scope| [&ana, &WORLD.with(&WORLD.ci)].map(|of| with_scope(of, scope)));
    everybody.chain(limited).collect()
}

/// Requests of every action, those about no repository, and pushes of several tags.
fn requests(namespace: &str) -> Vec<Request> {
    let manifest = |reference: &str, tags: &str| {
        Request::put(format!("/v2/{namespace}/app/manifests/{reference}?{tags}")).body("{}")
    };
    let digest = format!("sha256:{}", "0".repeat(64));
    let many: Vec<String> = (0..30).map(|at| format!("tag=t{at}")).collect();
    let own = ["/v2/", "/v2/_catalog", "/metrics", "/v2/not/there"].into_iter().map(Request::get);
    let pushes = [
        ("x", "tag=v1"),
        ("v1", "tag=x"),
        (&*digest, "tag=a&tag=b"),
        (&digest, "tag=a&tag=v1"),
        ("a", &many.join("&")),
    ];
    let pushes = pushes.map(|(reference, tags)| manifest(reference, tags));
    actions(namespace).into_iter().map(|(_, request)| request).chain(own).chain(pushes).collect()
}

#[test]
fn every_recorded_decision_replays_without_a_change() {
    let clients = clients();
    let kinds = requests("x").len();
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config { cases: 600, ..Config::default() }, rng);
    let choice = (0..clients.len(), prop::sample::select(&NAMESPACES[..]), 0..kinds);
    runner
        .run(&choice, |(client, namespace, kind)| {
            clients[client].send(requests(namespace).swap_remove(kind));
            Ok(())
        })
        .unwrap();
    // uploads that others go on with
    for beginner in &clients {
        let begun = beginner.send(Request::post("/v2/tagged/app/blobs/uploads/"));
        if begun.status == 202 {
            for other in &clients {
                other.send(Request::get(begun.location()));
            }
            beginner.send(finish(&begun.location(), &crate::support::content::sha256(b"")));
        }
    }
    // other tests go on writing to the same record
    let text = text_of(WORLD.setting("audit", "file").as_ref());
    let whole = &text[..=text.rfind('\n').unwrap()];
    assert!(whole.lines().count() > 600 && whole.contains("\"tag_count\":31"), "{} lines", whole.lines().count());
    let copy = new_file();
    std::fs::write(&copy, whole).unwrap();
    let (code, says) = replay(&WORLD.server, &copy);
    assert_eq!(code, Some(0), "nothing was edited, and yet: {says}");
}
