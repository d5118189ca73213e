//! Whole images, as `prefetch` and `refresh` fetch them.

use std::sync::Arc;

use simple_registry::mirror::{Fetched, ManifestPull, Wanted, memory_enough};

use super::{Error, Hostile, Reply, Server, answer, blob, by, client, content, gets, manifests::whole, name};
use crate::support::sha256;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Returns a manifest of one blob that stands for its config and its layer.
fn image(blob: &[u8]) -> Vec<u8> {
    let of =
        |media_type| format!(r#"{{"mediaType":"{media_type}","digest":"{}","size":{}}}"#, sha256(blob), blob.len());
    let (config, layer) =
        (of("application/vnd.oci.image.config.v1+json"), of("application/vnd.oci.image.layer.v1.tar"));
    format!(r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{config},"layers":[{layer}]}}"#).into_bytes()
}

fn index(number: usize, children: &[&[u8]]) -> Vec<u8> {
    let entry =
        |child: &&[u8]| format!(r#"{{"mediaType":"{MANIFEST}","digest":"{}","size":{}}}"#, sha256(child), child.len());
    let entries: Vec<String> = children.iter().map(entry).collect();
    let (entries, note) = (entries.join(","), format!(r#""annotations":{{"number":"{number}"}}"#));
    format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{entries}],{note}}}"#).into_bytes()
}

/// Returns the thing that a request is about, by digest; `latest` is the first one.
fn asked<'a>(line: &str, all: &'a [Vec<u8>]) -> Option<&'a Vec<u8>> {
    let reference = line.rsplit('/').next().unwrap();
    if reference == "latest" { all.first() } else { all.iter().find(|one| sha256(one).to_string() == reference) }
}

/// Answers with a manifest, whose media type its content says, or with a blob.
fn reply(line: &str, seen: &super::Seen, all: &[Vec<u8>]) -> Reply {
    match asked(line, all) {
        None => answer(404, &[], b"{}"),
        Some(bytes) if line.contains("/blobs/") => blob(seen, bytes),
        Some(bytes) if bytes.windows(INDEX.len()).any(|part| part == INDEX.as_bytes()) => whole(seen, bytes),
        Some(bytes) => answer(200, &[("content-type", MANIFEST)], bytes),
    }
}

async fn fetch(server: &Server, wanted: Wanted) -> Result<Fetched, Error> {
    let pull = ManifestPull {
        cached: server.cached.clone(),
        name: name(),
        largest: 1 << 20,
        memory: memory_enough(),
        immutable: Arc::new(|_| false),
        by: by(),
        client: client(1),
    };
    server.mirror.image(&pull, &"latest".parse().unwrap(), &wanted, |_| {}).await
}

#[tokio::test]
async fn an_image_without_a_child_and_a_blob_comes_but_for_these() {
    let directory = tempfile::tempdir().unwrap();
    let (layer, lost_layer) = (content(50_000, 1), content(50_000, 2));
    let (right, lost, broken) = (image(&layer), image(b"lost"), image(&lost_layer));
    let all = vec![index(0, &[&lost, &right, &broken]), right, broken, layer.clone()];
    let hub = Hostile::start(move |seen| reply(&seen.line, seen, &all)).await;
    let server = Server::start(directory.path(), &[hub.port]);
    let fetched = fetch(&server, Wanted::default()).await.unwrap();
    assert_eq!((fetched.manifests, fetched.blobs), (3, 1), "{fetched:?}");
    let missing = fetched.missing.join("; ");
    for digest in [sha256(&lost), sha256(&lost_layer)] {
        assert!(missing.contains(&format!("{digest} here, and its upstreams do not give it")), "{missing}");
    }
    assert!(fetched.missing.len() == 2 && server.has(&sha256(&layer)).await, "{missing}");
}

#[tokio::test]
async fn a_chain_of_referrers_is_followed_for_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let all: Vec<Vec<u8>> = (0..20).map(|number| index(number, &[])).collect();
    let hub = Hostile::start(move |seen| {
        let Some(subject) = seen.line.split_once("/referrers/").map(|(_, subject)| subject) else {
            return reply(&seen.line, seen, &all);
        };
        // each refers to the one before it
        let at = all.iter().position(|one| sha256(one).to_string() == subject).unwrap();
        answer(200, &[], &index(100, &[&all[at + 1]]))
    })
    .await;
    let server = Server::start(directory.path(), &[hub.port]);
    let fetched = fetch(&server, Wanted { referrers: true, ..Wanted::default() }).await.unwrap();
    assert_eq!(fetched.manifests, 5);
    assert!(fetched.missing.len() == 1 && fetched.missing[0].contains("the end of a chain of 4"), "{fetched:?}");
}

#[tokio::test]
async fn a_blob_that_one_upstream_sends_wrong_comes_from_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let (layer, wrong) = (content(50_000, 3), content(50_000, 4));
    let all = vec![image(&layer), layer.clone()];
    let lying =
        Hostile::start(
            move |seen| {
                if seen.line.contains("/blobs/") { blob(seen, &wrong) } else { answer(404, &[], b"{}") }
            },
        )
        .await;
    let hub = Hostile::start(move |seen| reply(&seen.line, seen, &all)).await;
    let server = Server::start(directory.path(), &[lying.port, hub.port]);
    let fetched = fetch(&server, Wanted::default()).await.unwrap();
    assert_eq!((fetched.blobs, fetched.missing.len()), (1, 0), "{fetched:?}");
    assert_eq!((gets(&lying), gets(&hub)), (1, 1));
}
