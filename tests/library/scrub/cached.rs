//! Tests scrub on manifests that an upstream gave: what never came is no fault, and what came stays with its manifest.

use std::{fs, path::Path, process::Command, sync::Arc};

use bytes::Bytes;
use simple_registry::{
    action::Upload,
    config::{Config, Untagged},
    oci::{Algorithm, Digest, MediaType, Name, Reference},
    records::{Actor, ManifestHeader, key::Version},
    registry::{CachedManifest, Error, Registry, Restored},
    scrub::{Pass, Summary},
};

use crate::scrub::world::{
    Told, age, age_one, config, configuration, keys, name, push_blob, read, rejuvenate, scrub_with, server, sha256, tag,
};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

pub(super) fn hub() -> Name {
    name("hub/library/app")
}

fn descriptor(kind: &str, bytes: &[u8]) -> String {
    format!(r#"{{"mediaType":"{kind}","size":{},"digest":"{}"}}"#, bytes.len(), sha256(bytes))
}

pub(super) fn image(config: &str, layer: &str, more: &str) -> Bytes {
    let (kind, layer) = (MediaType::OCI_MANIFEST, descriptor(LAYER, layer.as_bytes()));
    let config = descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes());
    format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{config},"layers":[{layer}]{more}}}"#).into()
}

fn index(children: &[&Bytes]) -> Bytes {
    let children: Vec<String> = children.iter().map(|child| descriptor(MediaType::OCI_MANIFEST, child)).collect();
    let kind = MediaType::OCI_INDEX;
    format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{}]}}"#, children.join(",")).into()
}

pub(super) async fn cache(server: &Registry, bytes: &Bytes, name_of_tag: Option<&str>) -> Digest {
    let is_index = bytes.windows(11).any(|part| part == b"\"manifests\"");
    let media_type = if is_index { MediaType::OCI_INDEX } else { MediaType::OCI_MANIFEST }.parse().unwrap();
    let put = CachedManifest { digest: sha256(bytes), media_type, bytes: bytes.clone(), tag: name_of_tag.map(tag) };
    server.manifests.put_cached(&hub(), &put, &Actor::default()).await.unwrap().digest
}

/// Stores a blob that an upstream gave.
async fn fetch(server: &Registry, bytes: &str) -> Digest {
    let digest = push_blob(server, &hub(), bytes.as_bytes()).await;
    server.blobs.link_to_cached(&hub(), &digest, &Actor::default()).await.unwrap();
    digest
}

async fn is_there(root: &Path, manifest: &Digest) -> bool {
    server(root).await.manifests.get(&hub(), &Reference::Digest(*manifest)).await.is_ok()
}

pub(super) async fn is_read(root: &Path, digest: &Digest) -> bool {
    match read(&server(root).await, &hub(), digest).await {
        Ok(read) => read == *digest,
        Err(Error::BlobUnknown { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

pub(super) async fn run(root: &Path, config: &Config, passes: &[Pass]) -> (Summary, Arc<Told>) {
    let passes = passes.iter().copied().collect();
    scrub_with(root, config, |options| options.passes = passes).await.unwrap()
}

/// Runs scrubs of all kinds, each after everything has become old. Returns their findings.
async fn scrubbed(root: &Path, config: &Config) -> Vec<String> {
    let mut said = Vec::new();
    let single = Pass::ALL.map(|pass| vec![pass]);
    for passes in single.into_iter().chain([Pass::ALL.to_vec(), Pass::ALL.to_vec()]) {
        age(root);
        let (_, told) = run(root, config, &passes).await;
        said.extend(told.findings().into_iter().map(|finding| finding.says));
    }
    said
}

fn nothing() -> Vec<String> {
    Vec::new()
}

pub(super) fn versions(root: &Path, manifest: &Digest) -> Vec<String> {
    let of_manifest = |key: &String| key.contains("/manifests/") && key.contains(&manifest.hex());
    keys(root).into_iter().filter(of_manifest).filter(|key| Version::at_end_of(key).is_some()).collect()
}

fn forgetful() -> Config {
    let mut config = config();
    config.scrub.trash = config.scrub.upload_expiry;
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_came_to_a_cached_manifest_is_no_fault_and_what_came_stays() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = server(root).await;
    let (child, never) = (image("config", "layer", ""), image("another config", "another layer", ""));
    let subject = format!(r#","subject":{}"#, descriptor(MediaType::OCI_MANIFEST, b"a subject that was never pulled"));
    let list = cache(&server, &index(&[&child, &never]), Some("latest")).await;
    let signature = cache(&server, &image("signature", "payload", &subject), Some("signature")).await;
    let (summary, told) = run(root, &config(), &Pass::ALL).await;
    assert_eq!((told.findings().len(), summary.too_young), (0, 2), "its tags are young: {:?}", told.findings());
    assert_eq!(scrubbed(root, &config()).await, nothing());
    let beside = tempfile::tempdir().unwrap();
    let file = configuration(beside.path(), root, "");
    let mut scrub = Command::new(env!("CARGO_BIN_EXE_simple-registry"));
    let output = scrub.args(["-c", file.to_str().unwrap(), "scrub"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let came = cache(&server, &child, None).await;
    let config_blob = fetch(&server, "config").await;
    assert_eq!(scrubbed(root, &config()).await, nothing());
    assert!(!keys(root).iter().any(|key| key.contains("/link.")), "{:?}", keys(root));
    for manifest in [list, signature, came] {
        assert!(is_there(root, &manifest).await);
    }
    assert!(is_read(root, &config_blob).await && !is_read(root, &sha256("layer")).await);
    let layer = fetch(&server, "layer").await;
    assert_eq!(scrubbed(root, &config()).await, nothing());
    assert!(is_read(root, &config_blob).await && is_read(root, &layer).await);
    assert_eq!(versions(root, &came).len(), 1, "scrub frees the records that newer ones outdate");
    let header = fs::read(root.join(&versions(root, &came)[0])).unwrap().into();
    let (header, _) = ManifestHeader::split(&header).unwrap();
    assert!(header.cached && header.absent.is_empty());
    let summary = run(root, &config(), &Pass::ALL).await.0;
    assert_eq!(summary.seen["manifests"], 3, "a child that never came is none");
}

#[tokio::test]
async fn a_blob_that_no_cached_manifest_lists_goes_and_one_whose_manifest_is_deleted_goes_after_the_trash() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let (server, by) = (server(root).await, Actor::default());
    let digest = cache(&server, &image("config", "layer", ""), Some("latest")).await;
    let (kept, orphan) = (fetch(&server, "config").await, fetch(&server, "nothing lists it").await);
    let stored = |digest: &Digest| keys(root).iter().any(|key| key.contains(&digest.hex()));
    assert_eq!(scrubbed(root, &forgetful()).await, nothing());
    assert!(!stored(&orphan) && is_read(root, &kept).await);
    server.manifests.delete(&hub(), &digest, &by).await.unwrap();
    assert!(!is_read(root, &kept).await);
    scrubbed(root, &forgetful()).await;
    assert!(!stored(&kept) && !stored(&digest) && !keys(root).iter().any(|key| key.starts_with("data/")));
    cache(&server, &image("config", "layer", ""), Some("latest")).await;
    fetch(&server, "config").await;
    assert_eq!(scrubbed(root, &forgetful()).await, nothing());
    assert!(is_read(root, &kept).await && is_there(root, &digest).await);
}

#[tokio::test]
async fn a_blob_whose_server_stopped_before_it_was_linked_is_linked_by_scrub() {
    for passes in [vec![Pass::Garbage], vec![Pass::Links], Pass::ALL.to_vec()] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let server = server(root).await;
        cache(&server, &image("config", "layer", ""), Some("latest")).await;
        let blob = push_blob(&server, &hub(), b"config").await;
        for _ in 0..3 {
            age(root);
            let (_, told) = run(root, &config(), &passes).await;
            assert_eq!(told.findings().len(), 0, "{:?}", told.findings());
            assert!(is_read(root, &blob).await);
        }
        assert_eq!(scrubbed(root, &config()).await, nothing());
        assert!(is_read(root, &blob).await && !keys(root).iter().any(|key| key.contains("/link.")));
    }
}

#[tokio::test]
async fn a_young_manifest_beside_old_links_loses_none_of_them() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = server(root).await;
    let bytes = image("config", "layer", "");
    let digest = cache(&server, &bytes, Some("latest")).await;
    let (config_blob, layer) = (fetch(&server, "config").await, push_blob(&server, &hub(), b"layer").await);
    age(root);
    cache(&server, &bytes, Some("again")).await;
    for passes in [&[Pass::Garbage][..], &[Pass::Links], &Pass::ALL] {
        for key in versions(root, &digest) {
            age_one(&root.join(key));
        }
        let (_, told) = run(root, &config(), passes).await;
        assert_eq!(told.findings().len(), 0, "{:?}", told.findings());
        assert!(is_read(root, &config_blob).await && is_read(root, &layer).await);
        // all links are old, and the manifest is young
        age(root);
        for key in versions(root, &digest) {
            let content = fs::read(root.join(&key)).unwrap();
            fs::write(root.join(&key), content).unwrap();
        }
        let (_, told) = run(root, &config(), passes).await;
        assert_eq!(told.findings().len(), 0, "{:?}", told.findings());
        assert!(is_read(root, &config_blob).await && is_read(root, &layer).await);
    }
    assert_eq!(scrubbed(root, &config()).await, nothing());
    assert!(is_read(root, &config_blob).await && is_read(root, &layer).await);
}

#[tokio::test]
async fn scrub_gives_a_cached_manifest_no_access_to_another_repositorys_blob() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let (server, private, by) = (server(root).await, name("private"), Actor::default());
    let secret = push_blob(&server, &private, b"secret").await;
    let put = image("secret", "secret", "");
    crate::scrub::world::put(&server, &private, std::str::from_utf8(&put).unwrap(), &["v1"]).await;
    let hostile = image("config", "secret", "");
    let entries =
        [descriptor(LAYER, b"secret"), descriptor(LAYER, &hostile), descriptor(MediaType::OCI_MANIFEST, &hostile)];
    let kind = MediaType::OCI_INDEX;
    let list: Bytes =
        format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{}]}}"#, entries.join(",")).into();
    for life in 0..2 {
        let digest = cache(&server, &hostile, Some("latest")).await;
        let listed = cache(&server, &list, Some("list")).await;
        fetch(&server, "config").await;
        assert_eq!(scrubbed(root, &config()).await, nothing());
        for blob in [secret, sha256(&hostile)] {
            assert!(!is_read(root, &blob).await);
            let head = server.blobs.get_to_rely_on(&hub(), &blob, &by).await;
            assert!(matches!(head, Err(Error::BlobUnknown { .. })), "{life}: {head:?}");
        }
        assert!(is_read(root, &sha256("config")).await);
        server.manifests.delete(&hub(), &listed, &by).await.unwrap();
        server.manifests.delete(&hub(), &digest, &by).await.unwrap();
        scrubbed(root, &config()).await;
    }
    assert!(read(&server, &private, &secret).await.is_ok());
}

#[tokio::test]
async fn a_child_that_comes_after_its_index_stays_and_goes_with_the_index() {
    for untagged in [Untagged::Keep, Untagged::Delete] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let (server, by) = (server(root).await, Actor::default());
        let mut config = config();
        config.scrub.untagged = untagged;
        config.scrub.untagged_grace = config.scrub.upload_expiry;
        let (child, never) = (image("config", "layer", ""), image("another config", "another layer", ""));
        let inner = index(&[&child, &never]);
        let list = cache(&server, &index(&[&inner]), Some("latest")).await;
        assert_eq!(scrubbed(root, &config).await, nothing());
        let inner = cache(&server, &inner, None).await;
        assert_eq!(scrubbed(root, &config).await, nothing());
        let child = cache(&server, &child, None).await;
        let blob = fetch(&server, "config").await;
        assert_eq!(scrubbed(root, &config).await, nothing());
        assert!(is_there(root, &child).await && is_there(root, &inner).await && is_read(root, &blob).await);
        let delete = server.manifests.delete(&hub(), &child, &by).await;
        assert!(matches!(delete, Err(Error::Needed { .. })), "{delete:?}");
        server.manifests.delete(&hub(), &list, &by).await.unwrap();
        assert_eq!(scrubbed(root, &config).await, nothing());
        assert!(!is_there(root, &child).await && !is_there(root, &inner).await && !is_read(root, &blob).await);
        let came = server.restore(&hub(), &Reference::Tag(tag("latest")), &by).await.unwrap();
        assert_eq!(came.restored[1..], [child, inner, list].map(Restored::Manifest));
        assert_eq!(scrubbed(root, &config).await, nothing());
        assert!(is_there(root, &child).await && is_read(root, &blob).await);
        server.manifests.delete(&hub(), &list, &by).await.unwrap();
        let config = Config {
            scrub: simple_registry::config::Scrub { trash: config.scrub.upload_expiry, ..config.scrub },
            ..config
        };
        for _ in 0..3 {
            scrubbed(root, &config).await;
        }
        let left: Vec<String> = keys(root).into_iter().filter(|key| key.contains("/manifests/")).collect();
        assert_eq!(left, nothing(), "index references of what never came go as well");
    }
}

#[tokio::test]
async fn what_came_to_a_cached_manifest_and_is_lost_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = server(root).await;
    let (child, never) = (image("config", "layer", ""), image("another config", "another layer", ""));
    cache(&server, &index(&[&child, &never]), Some("latest")).await;
    let child = cache(&server, &child, None).await;
    fetch(&server, "config").await;
    // scrub records that the child has come
    age(root);
    run(root, &config(), &[Pass::Links]).await;
    let remove = |what: &dyn Fn(&String) -> bool| {
        for key in keys(root).into_iter().filter(what) {
            fs::remove_file(root.join(key)).unwrap();
        }
    };
    let copied = crate::scrub::world::copy(root);
    let lost = sha256("config");
    for key in keys(copied.path()).into_iter().filter(|key| key.contains("/copy.") || key.starts_with("data/")) {
        fs::remove_file(copied.path().join(key)).unwrap();
    }
    let (_, told) = run(copied.path(), &config(), &[Pass::Links]).await;
    let said: Vec<String> = told.findings().into_iter().map(|finding| finding.says).collect();
    assert!(said.len() == 1 && said[0].contains(&format!("needs {lost}, which")), "{said:?}");
    remove(&|key| key.contains("/manifests/") && key.contains(&child.hex()) && Version::at_end_of(key).is_some());
    age(root);
    let (_, told) = run(root, &config(), &[Pass::Links]).await;
    let said: Vec<String> = told.findings().into_iter().map(|finding| finding.says).collect();
    assert!(said.len() == 1 && said[0].contains(&format!("needs {child}, which")), "{said:?}");
}

#[tokio::test]
async fn a_damaged_cached_manifest_is_written_again_with_its_links_and_as_a_cached_one() {
    for (pass, cut) in [(Pass::Content, "}"), (Pass::Links, "}")] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let server = server(root).await;
        let digest = cache(&server, &image("config", "layer", ""), Some("latest")).await;
        let blob = fetch(&server, "config").await;
        age(root);
        let newest = &versions(root, &digest)[0];
        let whole = fs::read(root.join(newest)).unwrap();
        fs::write(root.join(newest), whole.strip_suffix(cut.as_bytes()).unwrap()).unwrap();
        age(root);
        let (_, told) = run(root, &config(), &[pass]).await;
        assert_eq!(told.findings().len(), 1, "{:?}", told.findings());
        assert_eq!(scrubbed(root, &config()).await, nothing());
        let header = fs::read(root.join(&versions(root, &digest)[0])).unwrap().into();
        let (header, _) = ManifestHeader::split(&header).unwrap();
        assert!(header.cached && header.absent == [sha256("layer")], "{header:?}");
        assert!(is_read(root, &blob).await);
    }
}

#[tokio::test]
async fn pins_of_absent_blobs_outlive_a_delete_of_their_cached_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let (server, by) = (server(root).await, Actor::default());
    let bytes = image("config", "layer", "");
    let digest = cache(&server, &bytes, Some("latest")).await;
    server.manifests.delete(&hub(), &digest, &by).await.unwrap();
    cache(&server, &bytes, Some("latest")).await;
    assert_eq!(scrubbed(root, &forgetful()).await, nothing());
    let blob = fetch(&server, "config").await;
    for key in keys(root).into_iter().filter(|key| key.contains("/link.")) {
        fs::remove_file(root.join(key)).unwrap();
    }
    assert!(is_read(root, &blob).await);
    assert_eq!(scrubbed(root, &forgetful()).await, nothing());
    assert!(is_read(root, &blob).await);
}

#[tokio::test]
async fn the_segments_of_a_download_that_stopped_go_after_a_lease_and_are_taken_for_no_lost_blob() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let (server, by) = (server(root).await, Actor::default());
    cache(&server, &image("config", "layer", ""), Some("latest")).await;
    let begun = server.uploads.start(&hub(), Algorithm::Sha256, "", &by).await.unwrap();
    let upload = Upload { id: begun.id, state: Some(begun.state) };
    // all its bytes have come, and nobody has said that they are the blob
    let bytes = "layer".repeat(20_000);
    let status = server.uploads.append(&hub(), &upload, crate::scrub::world::chunk(bytes.as_bytes())).await.unwrap();
    assert!(status.offset > 0);
    let listing = image("config", &bytes, "");
    cache(&server, &listing, Some("large")).await;
    run(root, &config(), &Pass::ALL).await;
    assert!(keys(root).iter().any(|key| key.starts_with("data/")));
    rejuvenate(root);
    run(root, &config(), &Pass::ALL).await;
    assert!(keys(root).iter().any(|key| key.starts_with("data/")), "it is younger than a lease");
    assert_eq!(scrubbed(root, &config()).await, nothing());
    assert!(!keys(root).iter().any(|key| key.starts_with("data/")), "{:?}", keys(root));
}

#[tokio::test]
async fn the_link_of_a_download_that_did_not_end_is_no_sign_that_its_blob_came() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = server(root).await;
    cache(&server, &image("config", "layer", ""), Some("latest")).await;
    let blob = push_blob(&server, &hub(), b"config").await;
    // an upload writes the link before it ends
    for key in keys(root).into_iter().filter(|key| key.contains("/copy.") || key.starts_with("data/")) {
        fs::remove_file(root.join(key)).unwrap();
    }
    assert_eq!(scrubbed(root, &config()).await, nothing());
    fetch(&server, "config").await;
    assert_eq!(scrubbed(root, &config()).await, nothing());
    assert!(is_read(root, &blob).await);
}
