//! Tests manifests that an upstream gave: their blobs and children come after them, or never.

use std::collections::HashSet;

use super::*;
use simple_registry::{
    records::{
        ManifestHeader,
        key::{BlobLink, Prefix},
    },
    registry::{CachedManifest, Restored},
};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn descriptor(media_type: &str, bytes: &[u8]) -> String {
    format!(r#"{{"mediaType":"{media_type}","size":{},"digest":"{}"}}"#, bytes.len(), sha256(bytes))
}

/// Returns an image whose config is `config`, with these layers.
fn image_of(config: &[u8], layers: &[&[u8]]) -> Bytes {
    let layers: Vec<String> = layers.iter().map(|layer| descriptor(LAYER, layer)).collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
        MediaType::OCI_MANIFEST,
        descriptor("application/vnd.oci.image.config.v1+json", config),
        layers.join(",")
    )
    .into()
}

fn index_of(media_type: &str, entries: &[&[u8]]) -> Bytes {
    let entries: Vec<String> = entries.iter().map(|entry| descriptor(media_type, entry)).collect();
    let kind = MediaType::OCI_INDEX;
    format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{}]}}"#, entries.join(",")).into()
}

fn cached(bytes: &Bytes, tag: Option<&str>) -> CachedManifest {
    let media_type = if bytes.windows(11).any(|part| part == b"\"manifests\"") {
        MediaType::OCI_INDEX
    } else {
        MediaType::OCI_MANIFEST
    };
    let tag = tag.map(|tag| tag.parse().unwrap());
    CachedManifest { digest: sha256(bytes), media_type: media_type.parse().unwrap(), bytes: bytes.clone(), tag }
}

async fn cache(server: &Registry, bytes: &Bytes, tag: Option<&str>) -> Digest {
    server.manifests.put_cached(&name(), &cached(bytes, tag), &Actor::default()).await.unwrap().digest
}

/// Stores a blob that an upstream gave.
async fn fetch(server: &Registry, bytes: &[u8]) -> Digest {
    let digest = push(server, bytes).await;
    server.blobs.link_to_cached(&name(), &digest, &Actor::default()).await.unwrap();
    digest
}

async fn is_read(server: &Registry, digest: &Digest) -> bool {
    let relied = server.blobs.get_to_rely_on(&name(), digest, &Actor::default()).await;
    match server.blobs.get(&name(), digest).await {
        Ok(_) => {
            relied.unwrap();
            true
        }
        Err(Error::BlobUnknown { .. }) => {
            assert!(matches!(relied, Err(Error::BlobUnknown { .. })), "{relied:?}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

/// Lets the links of uploads end, as scrub does.
async fn end_grants(world: &World) {
    for key in world.keys("blobs/").await.iter().filter(|key| key.contains("/link.")) {
        world.operator().delete(key).await.unwrap();
    }
}

async fn meant(server: &Registry, tag: &str) -> Option<Digest> {
    server.manifests.get(&name(), &Reference::Tag(tag.parse().unwrap())).await.ok().map(|manifest| manifest.digest)
}

#[tokio::test]
async fn a_cached_manifest_is_served_before_its_blobs_and_keeps_each_blob_that_comes() {
    for ttl in [Duration::ZERO, Duration::from_mins(1)] {
        let world = World::new();
        let (server, other) = (world.server(ttl), world.server(Duration::ZERO));
        let bytes = image_of(b"config", &[b"one", b"two"]);
        let digest = cache(&server, &bytes, Some("latest")).await;
        assert_eq!(meant(&server, "latest").await, Some(digest));
        assert_eq!(server.manifests.get(&name(), &Reference::Digest(digest)).await.unwrap().bytes, bytes);
        for blob in [&b"config"[..], b"one", b"two"] {
            assert!(!is_read(&server, &sha256(blob)).await);
        }
        fetch(&server, b"one").await;
        fetch(&server, b"config").await;
        end_grants(&world).await;
        for server in [&server, &other] {
            assert!(is_read(server, &sha256(b"one")).await && is_read(server, &sha256(b"config")).await);
            assert!(!is_read(server, &sha256(b"two")).await, "it never came");
        }
        let delete = server.blobs.delete(&name(), &sha256(b"one"), &Actor::default()).await;
        assert!(matches!(delete, Err(Error::Needed { .. })), "{delete:?}");
        server.manifests.delete(&name(), &digest, &Actor::default()).await.unwrap();
        // HEAD by one that may push has renewed the links of uploads
        end_grants(&world).await;
        assert!(!is_read(&other, &sha256(b"one")).await, "a link ends with its manifest");
    }
}

#[tokio::test]
async fn a_cached_manifest_that_names_another_repositorys_blob_gives_no_access_to_it() {
    let world = World::new();
    let (server, by) = (world.server(Duration::ZERO), Actor::default());
    let private: Name = "private".parse().unwrap();
    let secret = sha256(b"secret");
    server.uploads.put_blob(&private, &secret, chunk(b"secret"), &by).await.unwrap();
    let bytes = image_of(b"config", &[b"secret"]);
    let index = index_of(LAYER, &[b"secret", b"config", &bytes]);
    for _ in 0..2 {
        cache(&server, &bytes, Some("latest")).await;
        cache(&server, &index, Some("list")).await;
        assert!(!is_read(&server, &secret).await);
        fetch(&server, b"config").await;
        assert!(!is_read(&server, &secret).await, "another blob came");
        server.blobs.link_to_cached(&name(), &secret, &by).await.unwrap();
        assert!(!is_read(&server, &secret).await, "a word about a blob that did not come");
    }
    let restored = server.restore(&name(), &Reference::Digest(secret), &by).await;
    assert!(matches!(restored, Err(Error::GoneForGood { .. })), "{restored:?}");
    let mounted = server.blobs.mount(&"thief".parse().unwrap(), &secret, Some(&name()), |_| true, &by).await;
    assert_eq!(mounted.unwrap(), None);
    let deleted = server.blobs.delete(&name(), &secret, &by).await;
    assert!(matches!(deleted, Err(Error::BlobUnknown { .. })), "{deleted:?}");
    // nor does a life of the manifest after its delete and restore
    server.manifests.delete(&name(), &sha256(&index), &by).await.unwrap();
    server.manifests.delete(&name(), &sha256(&bytes), &by).await.unwrap();
    server.restore(&name(), &Reference::Digest(sha256(&index)), &by).await.unwrap();
    assert_eq!(meant(&server, "latest").await, None);
    assert!(!is_read(&server, &secret).await && is_read(&server, &sha256(b"config")).await);
    assert!(server.blobs.get(&private, &secret).await.is_ok());
}

#[tokio::test]
async fn of_two_blobs_that_come_at_once_both_are_linked() {
    let world = World::new();
    let (one, other) = (world.server(Duration::ZERO), world.server(Duration::ZERO));
    let digest = cache(&one, &image_of(b"config", &[b"layer"]), None).await;
    let versions = Prefix::Manifest(&name(), &digest).to_string();
    let before = world.keys(&versions).await;
    fetch(&one, b"config").await;
    let link = world.keys(&versions).await.into_iter().find(|key| !before.contains(key)).unwrap();
    let content = world.operator().read(&link).await.unwrap();
    world.operator().delete(&link).await.unwrap();
    // the other server sees nothing of the first link, which lands afterwards
    fetch(&other, b"layer").await;
    world.operator().write(&link, content).await.unwrap();
    end_grants(&world).await;
    for server in [&one, &other, &world.server(Duration::ZERO)] {
        assert!(is_read(server, &sha256(b"config")).await && is_read(server, &sha256(b"layer")).await);
    }
}

#[tokio::test]
async fn each_of_a_hundred_blobs_is_linked_by_a_record_of_its_own() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let layers: Vec<Vec<u8>> = (0..100_u8).map(|layer| vec![layer]).collect();
    let digest =
        cache(&server, &image_of(b"config", &layers.iter().map(Vec::as_slice).collect::<Vec<_>>()), None).await;
    for layer in &layers {
        fetch(&server, layer).await;
    }
    let versions = world.keys(&Prefix::Manifest(&name(), &digest).to_string()).await;
    assert_eq!(versions.iter().collect::<HashSet<_>>().len(), 101);
    let newest = versions.iter().min().unwrap();
    let content = world.operator().read(newest).await.unwrap().to_bytes();
    let (header, _) = ManifestHeader::split(&content).unwrap();
    assert!(header.cached);
    assert_eq!(header.absent, [sha256(b"config")], "the newest record has all links");
    end_grants(&world).await;
    for layer in &layers {
        assert!(is_read(&server, &sha256(layer)).await);
    }
}

#[tokio::test]
async fn a_manifest_that_is_cached_again_keeps_its_links() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let bytes = image_of(b"config", &[b"layer"]);
    let digest = cache(&server, &bytes, Some("one")).await;
    fetch(&server, b"config").await;
    end_grants(&world).await;
    cache(&server, &bytes, Some("two")).await;
    assert_eq!((meant(&server, "one").await, meant(&server, "two").await), (Some(digest), Some(digest)));
    assert!(is_read(&server, &sha256(b"config")).await);
    fetch(&server, b"layer").await;
    end_grants(&world).await;
    cache(&server, &bytes, None).await;
    end_grants(&world).await;
    let newest = world.keys(&Prefix::Manifest(&name(), &digest).to_string()).await.into_iter().min().unwrap();
    let content = world.operator().read(&newest).await.unwrap().to_bytes();
    assert_eq!(ManifestHeader::split(&content).unwrap().0.absent, []);
    assert!(is_read(&server, &sha256(b"config")).await && is_read(&server, &sha256(b"layer")).await);
}

#[tokio::test]
async fn a_blob_that_came_before_its_cached_manifest_belongs_to_it() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    push(&server, b"layer").await;
    cache(&server, &image_of(b"config", &[b"layer"]), None).await;
    end_grants(&world).await;
    assert!(is_read(&server, &sha256(b"layer")).await);
}

#[tokio::test]
async fn a_blob_that_was_deleted_here_keeps_its_own_link_when_it_comes_again() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let digest = cache(&server, &image_of(b"config", &[]), None).await;
    fetch(&server, b"config").await;
    server.manifests.delete(&name(), &digest, &Actor::default()).await.unwrap();
    server.blobs.delete(&name(), &sha256(b"config"), &Actor::default()).await.unwrap();
    cache(&server, &image_of(b"config", &[]), None).await;
    assert!(!is_read(&server, &sha256(b"config")).await, "a user deleted it");
    fetch(&server, b"config").await;
    assert!(is_read(&server, &sha256(b"config")).await);
}

#[tokio::test]
async fn a_cached_manifest_whose_descriptors_have_other_sizes_is_stored_as_it_is() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    push(&server, b"config").await;
    let child = image(&sha256(b"config"), 99, "");
    cache(&server, &child, None).await;
    let bytes = index(&sha256(&child), 5);
    let digest = cache(&server, &bytes, Some("latest")).await;
    assert_eq!(meant(&server, "latest").await, Some(digest));
    // a checked blob has a remembered size
    server.blobs.get_to_rely_on(&name(), &sha256(b"config"), &Actor::default()).await.unwrap();
    cache(&server, &image(&sha256(b"config"), 98, ""), None).await;
    assert_eq!(server.blobs.get(&name(), &sha256(b"config")).await.unwrap().size, 6);
}

#[tokio::test]
async fn an_immutable_tag_keeps_its_first_meaning_whatever_the_upstream_says() {
    let world = World::new();
    let (server, by) = (world.server(Duration::ZERO), Actor::default());
    let put = async |bytes: &Bytes| {
        server.manifests.put_cached_under(&name(), &cached(bytes, Some("v1")), &|_| true, &by).await
    };
    let (first, second) = (image_of(b"config", &[]), image_of(b"config", &[b"layer"]));
    put(&first).await.unwrap();
    let refused = put(&second).await;
    assert!(matches!(&refused, Err(Error::TagImmutable { digest, .. }) if *digest == sha256(&first)), "{refused:?}");
    assert_eq!(meant(&server, "v1").await, Some(sha256(&first)));
    put(&first).await.unwrap();
    let keys = world.keys(&Prefix::Manifest(&name(), &sha256(&second)).to_string()).await;
    assert_eq!(keys, Vec::<String>::new(), "nothing was stored of the refused one");
}

#[tokio::test]
async fn bytes_that_are_not_the_digest_or_no_manifest_are_not_stored() {
    let world = World::new();
    let (server, by) = (world.server(Duration::ZERO), Actor::default());
    let wrong = CachedManifest { digest: sha256(b"x"), ..cached(&image_of(b"config", &[]), Some("latest")) };
    let refused = server.manifests.put_cached(&name(), &wrong, &by).await;
    assert!(matches!(refused, Err(Error::DigestMismatch { .. })), "{refused:?}");
    let refused = server.manifests.put_cached(&name(), &cached(&"<html>".into(), Some("latest")), &by).await;
    assert!(matches!(refused, Err(Error::ManifestInvalid(_))), "{refused:?}");
    assert_eq!(world.keys("repos/").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_child_that_comes_after_its_cached_index_is_needed_by_the_index() {
    let world = World::new();
    let (server, by) = (world.server(Duration::ZERO), Actor::default());
    let (child, never) = (image_of(b"config", &[]), image_of(b"another", &[]));
    let bytes = index_of(MediaType::OCI_MANIFEST, &[&child, &never]);
    let digest = cache(&server, &bytes, Some("latest")).await;
    let asked = server.manifests.get(&name(), &Reference::Digest(sha256(&never))).await;
    assert!(matches!(asked, Err(Error::ManifestUnknown { .. })), "{asked:?}");
    cache(&server, &child, None).await;
    let delete = server.manifests.delete(&name(), &sha256(&child), &by).await;
    assert!(matches!(&delete, Err(Error::Needed { needed_by, .. }) if *needed_by == [digest]), "{delete:?}");
    server.manifests.delete(&name(), &digest, &by).await.unwrap();
    server.manifests.delete(&name(), &sha256(&child), &by).await.unwrap();
    let came = server.restore(&name(), &Reference::Digest(digest), &by).await.unwrap();
    assert_eq!(came.restored, [Restored::Manifest(sha256(&child)), Restored::Manifest(digest)]);
}

#[tokio::test]
async fn an_index_of_layers_keeps_each_layer_that_comes() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    cache(&server, &index_of(LAYER, &[b"one", b"two"]), Some("cache")).await;
    fetch(&server, b"one").await;
    end_grants(&world).await;
    assert!(is_read(&server, &sha256(b"one")).await && !is_read(&server, &sha256(b"two")).await);
}

#[tokio::test]
async fn a_deleted_copy_comes_back_by_the_next_pull_or_by_a_restore_with_the_links_that_it_had() {
    let world = World::new();
    let (server, by) = (world.server(Duration::ZERO), Actor::default());
    let bytes = image_of(b"config", &[b"layer"]);
    let digest = cache(&server, &bytes, Some("latest")).await;
    fetch(&server, b"config").await;
    end_grants(&world).await;
    server.manifests.delete(&name(), &digest, &by).await.unwrap();
    assert_eq!(meant(&server, "latest").await, None);
    // the bytes of the layer came to another repository meanwhile
    server.uploads.put_blob(&"other".parse().unwrap(), &sha256(b"layer"), chunk(b"layer"), &by).await.unwrap();
    let came = server.restore(&name(), &Reference::Tag("latest".parse().unwrap()), &by).await.unwrap();
    assert_eq!(came.restored, [Restored::Tag("latest".parse().unwrap(), digest), Restored::Manifest(digest)]);
    assert!(is_read(&server, &sha256(b"config")).await && !is_read(&server, &sha256(b"layer")).await);
    end_grants(&world).await;
    server.manifests.delete(&name(), &digest, &by).await.unwrap();
    cache(&server, &bytes, Some("latest")).await;
    assert_eq!(meant(&server, "latest").await, Some(digest));
    assert!(!is_read(&server, &sha256(b"config")).await, "its bytes come anew");
    let pins = world.keys(&Prefix::Pins(&sha256(b"config"), &name(), &digest).to_string()).await;
    assert!(pins.iter().all(|key| matches!(BlobLink::at_end_of(key), Some(BlobLink::Pin(_)))));
    fetch(&server, b"config").await;
    end_grants(&world).await;
    assert!(is_read(&server, &sha256(b"config")).await);
}

#[tokio::test]
async fn a_cached_manifest_is_restored_although_bytes_that_it_had_are_gone() {
    let world = World::new();
    let (server, by) = (world.server(Duration::ZERO), Actor::default());
    let digest = cache(&server, &image_of(b"config", &[]), None).await;
    fetch(&server, b"config").await;
    server.manifests.delete(&name(), &digest, &by).await.unwrap();
    for key in [world.keys("data/").await, world.keys("blobs/").await].concat() {
        if !key.contains("/in/") {
            world.operator().delete(&key).await.unwrap();
        }
    }
    let server = world.server(Duration::ZERO);
    let came = server.restore(&name(), &Reference::Digest(digest), &by).await.unwrap();
    assert_eq!(came.restored, [Restored::Manifest(digest)]);
    end_grants(&world).await;
    assert!(!is_read(&server, &sha256(b"config")).await);
    fetch(&server, b"config").await;
    end_grants(&world).await;
    assert!(is_read(&server, &sha256(b"config")).await);
}
