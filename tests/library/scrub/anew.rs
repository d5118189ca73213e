//! Tests scrub on a cached manifest whose newest version links nothing from before.

use std::fs;

use bytes::Bytes;
use simple_registry::{records::ManifestHeader, scrub::Pass};

use super::cached::{cache, image, is_read, run, versions};
use crate::scrub::world::{age, age_one, config, push_blob, server, sha256};

#[tokio::test(flavor = "multi_thread")]
async fn the_repair_of_a_manifest_that_links_nothing_from_before_gives_no_blob_back() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = server(root).await;
    let (blob, hub) = (b"config", super::cached::hub());
    let digest = push_blob(&server, &hub, blob).await;
    let bytes = image("config", "layer", "");
    let manifest = cache(&server, &bytes, None).await;
    cache(&server, &bytes, None).await;
    // the second one was begun anew, when the config had gone; then its bytes rot
    let newest = root.join(versions(root, &manifest).into_iter().min().unwrap());
    let (mut header, rest) = ManifestHeader::split(&Bytes::from(fs::read(&newest).unwrap())).unwrap();
    (header.anew, header.absent) = (true, vec![digest, sha256(b"layer")]);
    let mut rotten = rest.to_vec();
    *rotten.last_mut().unwrap() ^= 1;
    fs::write(&newest, header.join(&rotten)).unwrap();
    age_one(&newest);
    // the link of the upload ends
    for key in crate::scrub::world::keys(root).iter().filter(|key| key.contains("/link.")) {
        fs::remove_file(root.join(key)).unwrap();
    }
    age(root);
    let (_, told) = run(root, &config(), &Pass::ALL).await;
    let says: Vec<String> = told.findings().into_iter().map(|finding| finding.says).collect();
    assert!(says.iter().any(|says| says.contains("a copy of its version before takes its place")), "{says:?}");
    let repaired = root.join(versions(root, &manifest).into_iter().min().unwrap());
    let (header, rest) = ManifestHeader::split(&Bytes::from(fs::read(repaired).unwrap())).unwrap();
    assert_eq!((header.anew, rest), (true, bytes));
    assert!(!is_read(root, &digest).await, "a version from before the new beginning links the config");
}
