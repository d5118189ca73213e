//! Tests scrub on the links between manifests and blobs: a repair gives no right, and the blobs that a manifest lists
//! are kept.

use std::{fs, path::Path};

use crate::scrub::world::{age, config, keys, name, push_blob, put, scrub_with, server, server_with, sha256};
use simple_registry::{
    config::Config,
    oci::{Digest, MediaType, Name, Reference},
    records::{
        Actor,
        key::{ManifestKey, Ordinal, Suffix, Version},
    },
    registry::{Error, Registry},
    scrub::Pass,
};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn app() -> Name {
    name("team/app")
}

/// Returns a configuration in which manifests may name absent blobs.
fn lax() -> Config {
    let mut config = config();
    config.allow_missing_references = true;
    config
}

async fn lenient(root: &Path) -> Registry {
    server_with(root, |options| options.allow_missing_references = true).await
}

fn descriptor(kind: &str, bytes: &[u8], more: &str) -> String {
    format!(r#"{{"mediaType":"{kind}","size":{},"digest":"{}"{more}}}"#, bytes.len(), sha256(bytes))
}

/// Returns an image of a config and, if given, a foreign layer.
fn image(config: &[u8], foreign: Option<&[u8]>) -> String {
    let kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let layer = foreign.map(|bytes| descriptor(kind, bytes, r#","urls":["https://example.com/l"]"#));
    let (of, config) = (MediaType::OCI_MANIFEST, descriptor("application/vnd.oci.image.config.v1+json", config, ""));
    let layers = layer.unwrap_or_default();
    format!(r#"{{"schemaVersion":2,"mediaType":"{of}","config":{config},"layers":[{layers}]}}"#)
}

async fn is_read(root: &Path, digest: &Digest) -> bool {
    match server(root).await.blobs.get(&app(), digest).await {
        Ok(_) => true,
        Err(Error::BlobUnknown { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Scrubs twice, each time after everything has become old. Returns the findings of the last time.
async fn scrubbed(root: &Path, config: &Config) -> Vec<String> {
    let mut said = Vec::new();
    for _ in 0..2 {
        age(root);
        let (_, told) = scrub_with(root, config, |_| {}).await.unwrap();
        said = told.findings().into_iter().map(|finding| finding.says).collect();
    }
    said
}

#[tokio::test]
async fn a_repair_gives_no_right_to_what_a_manifest_only_names() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = lenient(root).await;
    let secret = push_blob(&server, &name("secret"), b"top secret").await;
    put(&server, &name("secret"), &image(b"top secret", None), &["v1"]).await;
    put(&server, &app(), &image(b"top secret", None), &["x"]).await;
    assert_eq!(scrubbed(root, &lax()).await, Vec::<String>::new());
    assert!(!is_read(root, &secret).await);
    let said = scrubbed(root, &config()).await;
    assert!(said.len() == 1 && said[0].contains(&format!("of team/app needs {secret}, which")), "{said:?}");
    assert!(!is_read(root, &secret).await);
    assert!(server.blobs.get(&name("secret"), &secret).await.is_ok());
}

#[tokio::test]
async fn a_pin_that_was_lost_is_written_again_where_its_push_found_the_blob() {
    for config in [config(), lax()] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let blob = push_blob(&server(root).await, &app(), b"config").await;
        put(&server(root).await, &app(), &image(b"config", None), &["v1"]).await;
        assert_eq!(scrubbed(root, &config).await, Vec::<String>::new());
        let pins: Vec<String> = keys(root).into_iter().filter(|key| key.contains("/pin.")).collect();
        assert_eq!(pins.len(), 1);
        fs::remove_file(root.join(&pins[0])).unwrap();
        let (_, told) = scrub_with(root, &config, |_| {}).await.unwrap();
        assert!(told.findings()[0].says.contains("did not protect its blob"), "{:?}", told.findings());
        assert_eq!(scrubbed(root, &config).await, Vec::<String>::new());
        assert!(is_read(root, &blob).await);
    }
}

#[tokio::test]
async fn a_foreign_layer_and_blobs_in_an_index_stay_as_long_as_a_manifest_lists_them() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = server(root).await;
    let mut blobs = Vec::new();
    for bytes in [&b"config"[..], b"foreign", b"layer", b"cacheconfig"] {
        blobs.push(push_blob(&server, &app(), bytes).await);
    }
    put(&server, &app(), &image(b"config", Some(b"foreign")), &["windows"]).await;
    let mut caches = Vec::new();
    for kind in [MediaType::OCI_INDEX, MediaType::DOCKER_LIST] {
        let config = descriptor("application/vnd.buildkit.cacheconfig.v0", b"cacheconfig", "");
        let entries = [descriptor(LAYER, b"layer", ""), config].join(",");
        let bytes = format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{entries}]}}"#);
        caches.push(put(&server, &app(), &bytes, &[kind.rsplit('.').next().unwrap().trim_end_matches("+json")]).await);
    }
    assert_eq!(scrubbed(root, &config()).await, Vec::<String>::new());
    assert!(!keys(root).iter().any(|key| key.contains("/link.")));
    for blob in &blobs {
        assert!(is_read(root, blob).await, "{blob}");
    }
    for cache in &caches {
        server.manifests.delete(&app(), cache, &Actor::default()).await.unwrap();
    }
    assert_eq!(scrubbed(root, &config()).await, Vec::<String>::new());
    assert!(!is_read(root, &blobs[2]).await);
    assert!(keys(root).iter().any(|key| key.contains(&blobs[2].hex())), "the trash keeps it");
    server.restore(&app(), &Reference::Digest(caches[1]), &Actor::default()).await.unwrap();
    assert!(is_read(root, &blobs[2]).await);
    let mut trash = config();
    trash.scrub.trash = trash.scrub.upload_expiry;
    server.manifests.delete(&app(), &caches[1], &Actor::default()).await.unwrap();
    for _ in 0..3 {
        scrubbed(root, &trash).await;
    }
    assert!(!keys(root).iter().any(|key| key.contains(&blobs[2].hex())), "all of it goes with its index");
    assert!(is_read(root, &blobs[1]).await);
}

#[tokio::test]
async fn when_a_blob_is_pushed_after_the_manifest_that_lists_it_scrub_keeps_the_blob() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = lenient(root).await;
    let needed = put(&server, &app(), &image(b"config", Some(b"foreign")), &["v1"]).await;
    age(root);
    let (config_blob, layer) =
        (push_blob(&server, &app(), b"config").await, push_blob(&server, &app(), b"foreign").await);
    assert_eq!(scrubbed(root, &config()).await, Vec::<String>::new());
    assert!(is_read(root, &config_blob).await && is_read(root, &layer).await);
    assert!(!keys(root).iter().any(|key| key.contains("/link.")));
    let delete = server.blobs.delete(&app(), &layer, &Actor::default()).await;
    assert!(matches!(delete, Err(Error::Needed { .. })), "{delete:?}");
    server.manifests.delete(&app(), &needed, &Actor::default()).await.unwrap();
    assert!(!is_read(root, &layer).await);
}

#[tokio::test]
async fn when_a_manifest_is_deleted_and_pushed_without_its_blob_scrub_frees_the_blob() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = lenient(root).await;
    let (bytes, by) = (image(b"config", None), Actor::default());
    let blob = push_blob(&server, &app(), b"config").await;
    let digest = put(&server, &app(), &bytes, &["v1"]).await;
    server.manifests.delete(&app(), &digest, &by).await.unwrap();
    server.blobs.delete(&app(), &blob, &by).await.unwrap();
    put(&server, &app(), &bytes, &["v1"]).await;
    let mut config = lax();
    config.scrub.trash = config.scrub.upload_expiry;
    for _ in 0..3 {
        assert_eq!(scrubbed(root, &config).await, Vec::<String>::new());
        assert!(!is_read(root, &blob).await);
    }
    assert!(!keys(root).iter().any(|key| key.starts_with("data/") || key.contains("/pin.")), "{:?}", keys(root));
    assert!(server.manifests.get(&app(), &Reference::Digest(digest)).await.is_ok());
}

#[tokio::test]
async fn a_manifest_written_again_from_its_former_life_links_nothing_of_that() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = lenient(root).await;
    let (bytes, by) = (image(b"config", None), Actor::default());
    let blob = push_blob(&server, &app(), b"config").await;
    let digest = put(&server, &app(), &bytes, &["v1"]).await;
    server.manifests.delete(&app(), &digest, &by).await.unwrap();
    server.blobs.delete(&app(), &blob, &by).await.unwrap();
    put(&server, &app(), &bytes, &["v1"]).await;
    let newest = keys(root).into_iter().find(|key| key.contains("/manifests/") && key.contains(".put.")).unwrap();
    let whole = fs::read(root.join(&newest)).unwrap();
    let damaged = whole.strip_suffix(b"}").unwrap();
    let content = async || {
        age(root);
        scrub_with(root, &lax(), |options| options.passes = [Pass::Content].into()).await.unwrap().1
    };
    fs::write(root.join(&newest), damaged).unwrap();
    content().await;
    assert_eq!(fs::read(root.join(&newest)).unwrap(), whole);
    assert!(!is_read(root, &blob).await);
    // if its own record is lost as well, scrub has nothing to write it from
    fs::write(root.join(&newest), "{").unwrap();
    let told = content().await;
    assert!(told.findings().iter().any(|finding| finding.says.contains("push it again")), "{:?}", told.findings());
    assert_eq!(fs::read(root.join(&newest)).unwrap(), b"{");
}

#[tokio::test]
async fn when_scrub_frees_the_version_that_links_a_blob_the_blob_stays_linked() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = lenient(root).await;
    let bytes = image(b"config", None);
    let blob = push_blob(&server, &app(), b"config").await;
    let digest = put(&server, &app(), &bytes, &["v1"]).await;
    let version = keys(root).iter().find_map(|key| Version::at_end_of(key)).unwrap();
    let header = format!(
        r#"{{"media_type":"{}","at":1,"by":{{"identity":"","request":""}},"absent":["{blob}"]}}"#,
        MediaType::OCI_MANIFEST
    );
    // a push that began before the blob came, and ended after the one that found it
    let later =
        ManifestKey::Version(Version { ordinal: Ordinal(version.ordinal.0 + 1), there: true }, Suffix::random())
            .of(&app(), &digest);
    fs::write(root.join(&later), [header.as_bytes(), b"\n", bytes.as_bytes()].concat()).unwrap();
    for _ in 0..3 {
        scrubbed(root, &lax()).await;
        assert!(is_read(root, &blob).await);
    }
    let versions = keys(root).into_iter().filter(|key| key.contains("/manifests/") && key.contains(".put."));
    assert_eq!(versions.count(), 1);
}

#[tokio::test]
async fn a_scrub_for_garbage_alone_keeps_a_blob_that_was_pushed_after_the_manifest_that_lists_it() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = lenient(root).await;
    let manifest = put(&server, &app(), &image(b"config", Some(b"foreign")), &["v1"]).await;
    let listed = [push_blob(&server, &app(), b"config").await, push_blob(&server, &app(), b"foreign").await];
    let elsewhere = push_blob(&server, &name("team/other"), b"foreign too").await;
    let orphan = push_blob(&server, &app(), b"nobody lists it").await;
    let garbage = async || {
        for _ in 0..2 {
            age(root);
            scrub_with(root, &config(), |options| options.passes = [Pass::Garbage].into()).await.unwrap();
        }
    };
    garbage().await;
    assert!(is_read(root, &listed[0]).await && is_read(root, &listed[1]).await);
    let stored = |digest: &Digest| keys(root).iter().any(|key| key.contains(&digest.hex()));
    assert!(!stored(&orphan) && !stored(&elsewhere), "{:?}", keys(root));
    server.manifests.delete(&app(), &manifest, &Actor::default()).await.unwrap();
    garbage().await;
    assert!(!stored(&listed[0]) && !stored(&listed[1]), "{:?}", keys(root));
}
