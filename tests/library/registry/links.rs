//! Tests the blobs that a manifest gives its repository, from its push to its delete and back, and the bytes that it
//! keeps.

use super::*;
use simple_registry::records::{
    Actor,
    key::{ManifestKey, Ordinal, Prefix, Suffix, Version},
};

const FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn lenient(world: &World) -> Registry {
    world.server_with(|options| options.allow_missing_references = true)
}

fn descriptor(media_type: &str, bytes: &[u8], more: &str) -> String {
    let (digest, size) = (sha256(bytes), bytes.len());
    format!(r#"{{"mediaType":"{media_type}","size":{size},"digest":"{digest}"{more}}}"#)
}

fn cache(media_type: &str, entries: &[&[u8]]) -> Bytes {
    let entries: Vec<String> = entries.iter().map(|bytes| descriptor(LAYER, bytes, "")).collect();
    format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{}]}}"#, entries.join(",")).into()
}

async fn is_read(server: &Registry, digest: &Digest) -> bool {
    match server.blobs.get(&name(), digest).await {
        Ok(_) => true,
        Err(Error::BlobUnknown { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

/// Lets the grants of uploads end, as scrub does.
async fn end_grants(world: &World) {
    for key in world.keys("blobs/").await.iter().filter(|key| key.contains("/link.")) {
        world.operator().delete(key).await.unwrap();
    }
}

async fn delete_image_and_blob(server: &Registry, image: &Digest, blob: &Digest) {
    server.manifests.delete(&name(), image, &Actor::default()).await.unwrap();
    server.blobs.delete(&name(), blob, &Actor::default()).await.unwrap();
    assert!(!is_read(server, blob).await);
}

#[tokio::test]
async fn naming_a_deleted_blob_again_gives_no_right_to_it() {
    let world = World::new();
    for ttl in [Duration::ZERO, Duration::from_mins(1)] {
        let server = world.server_with(|options| {
            options.allow_missing_references = true;
            options.cache_ttl = ttl;
        });
        let config = push(&server, b"config").await;
        let bytes = image(&config, 6, "");
        let digest = put(&server, &bytes).await.unwrap();
        delete_image_and_blob(&server, &digest, &config).await;
        put(&server, &bytes).await.unwrap();
        assert!(!is_read(&server, &config).await);
        // nor is an index, which renews what it lists, a way to it
        put(&server, &index(&digest, bytes.len())).await.unwrap();
        assert!(!is_read(&server, &config).await);
        let strict = put(&world.server(ttl), &bytes).await;
        assert!(matches!(strict, Err(Error::Missing { .. })), "{strict:?}");
        server.manifests.delete(&name(), &sha256(index(&digest, bytes.len())), &Actor::default()).await.unwrap();
        server.manifests.delete(&name(), &digest, &Actor::default()).await.unwrap();
    }
}

#[tokio::test]
async fn when_a_link_has_ended_a_server_that_remembers_it_makes_no_new_one() {
    let world = World::new();
    let remembering = || world.server(Duration::from_mins(1));
    let (other, by) = (world.server(Duration::ZERO), Actor::default());
    let bytes = image(&sha256(b"config"), 6, "");
    let into: Name = "another".parse().unwrap();
    for (way, linked) in ["head", "mount", "manifest"].into_iter().flat_map(|way| [(way, false), (way, true)]) {
        let config = push(&other, b"config").await;
        let one = remembering();
        if linked {
            let more = image(&config, 6, r#","annotations":{"a":"b"}"#);
            put(&other, &more).await.unwrap();
            end_grants(&world).await;
            assert!(is_read(&one, &config).await);
            other.manifests.delete(&name(), &sha256(&more), &by).await.unwrap();
        } else {
            assert!(is_read(&one, &config).await);
            other.blobs.delete(&name(), &config, &by).await.unwrap();
        }
        match way {
            "head" => assert!(one.blobs.get_to_rely_on(&name(), &config, &by).await.is_err()),
            "mount" => assert_eq!(one.blobs.mount(&into, &config, Some(&name()), |_| true, &by).await.unwrap(), None),
            _ => assert!(put(&one, &bytes).await.is_err()),
        }
        assert!(!is_read(&other, &config).await, "{way}");
        assert!(other.blobs.get(&into, &config).await.is_err(), "{way}");
    }
}

#[tokio::test]
async fn a_blob_that_came_after_its_manifest_is_linked_by_the_next_push() {
    let world = World::new();
    let server = lenient(&world);
    let bytes = image(&sha256(b"config"), 6, "");
    let digest = put(&server, &bytes).await.unwrap();
    let config = push(&server, b"config").await;
    put(&server, &bytes).await.unwrap();
    end_grants(&world).await;
    assert!(is_read(&server, &config).await);
    server.manifests.delete(&name(), &digest, &Actor::default()).await.unwrap();
    assert!(!is_read(&server, &config).await, "a link ends with its manifest");
}

#[tokio::test]
async fn a_restore_gives_back_the_rights_that_the_delete_ended_and_no_others() {
    let world = World::new();
    let server = lenient(&world);
    let (config, by) = (push(&server, b"config").await, Actor::default());
    let bytes = image(&config, 6, "");
    let digest = put(&server, &bytes).await.unwrap();
    let restore = async |server: &Registry| {
        let came = server.restore(&name(), &Reference::Digest(digest), &Actor::default()).await.unwrap();
        assert_eq!(came.restored, [simple_registry::registry::Restored::Manifest(digest)]);
    };
    end_grants(&world).await;
    server.manifests.delete(&name(), &digest, &by).await.unwrap();
    assert!(!is_read(&server, &config).await);
    restore(&world.server(Duration::ZERO)).await;
    assert!(is_read(&server, &config).await);
    // in its next life it comes without the blob; also by a server that takes no such push
    server.manifests.delete(&name(), &digest, &by).await.unwrap();
    put(&server, &bytes).await.unwrap();
    for server in [&server, &world.server(Duration::ZERO)] {
        server.manifests.delete(&name(), &digest, &by).await.unwrap();
        restore(server).await;
        assert!(!is_read(server, &config).await);
    }
}

#[tokio::test]
async fn when_one_of_two_pushes_at_once_finds_a_blob_its_manifest_links_the_blob() {
    let world = World::new();
    let server = lenient(&world);
    let config = push(&server, b"config").await;
    let bytes = image(&config, 6, "");
    let digest = put(&server, &bytes).await.unwrap();
    end_grants(&world).await;
    let keys = world.keys(&Prefix::Manifest(&name(), &digest).to_string()).await;
    let ordinal = Version::at_end_of(&keys[0]).unwrap().ordinal;
    let header = format!(
        r#"{{"media_type":"{}","at":1,"by":{{"identity":"","request":""}},"absent":["{config}"]}}"#,
        MediaType::OCI_MANIFEST
    );
    let without = [header.as_bytes(), b"\n", &bytes].concat();
    let key = ManifestKey::Version(Version { ordinal, there: true }, Suffix(0)).of(&name(), &digest);
    world.operator().write(&key, without.clone()).await.unwrap();
    assert!(is_read(&server, &config).await, "a push that saw no blob came beside the one that did");
    let deleted = Ordinal(ordinal.0 + 1);
    world
        .operator()
        .write(&ManifestKey::Version(Version { ordinal: deleted, there: false }, Suffix(1)).of(&name(), &digest), "{}")
        .await
        .unwrap();
    let again =
        ManifestKey::Version(Version { ordinal: Ordinal(ordinal.0 + 2), there: true }, Suffix(1)).of(&name(), &digest);
    world.operator().write(&again, without).await.unwrap();
    assert!(!is_read(&server, &config).await, "what was linked before a delete is not");
}

#[tokio::test]
async fn a_foreign_layer_is_kept_where_it_was_pushed_and_is_not_needed_where_it_was_not() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let config = push(&server, b"config").await;
    let layer = descriptor(FOREIGN, b"layer", r#","urls":["https://example.com/l"]"#);
    let bytes: Bytes = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{layer}]}}"#,
        MediaType::OCI_MANIFEST,
        descriptor("application/vnd.oci.image.config.v1+json", b"config", "")
    )
    .into();
    put(&server, &bytes).await.unwrap();
    let layer = push(&server, b"layer").await;
    server.blobs.delete(&name(), &layer, &Actor::default()).await.unwrap();
    push(&server, b"layer").await;
    put(&server, &bytes).await.unwrap();
    let delete = server.blobs.delete(&name(), &layer, &Actor::default()).await;
    assert!(matches!(delete, Err(Error::Needed { .. })), "a standing manifest lists it: {delete:?}");
    end_grants(&world).await;
    assert!(is_read(&server, &layer).await && is_read(&server, &config).await);
}

#[tokio::test]
async fn an_index_of_blobs_is_taken_when_they_are_there_and_keeps_them() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let layers: [&[u8]; 2] = [b"one", b"two"];
    for media_type in [MediaType::OCI_INDEX, MediaType::DOCKER_LIST] {
        let bytes = cache(media_type, &layers);
        let refused = put(&server, &bytes).await;
        let Err(Error::Missing { missing, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(missing, layers.map(sha256));
        push(&server, layers[0]).await;
        let refused = put(&server, &bytes).await;
        assert!(matches!(refused, Err(Error::Missing { missing, .. }) if missing == [sha256(layers[1])]));
        push(&server, layers[1]).await;
        let digest = put(&server, &bytes).await.unwrap();
        end_grants(&world).await;
        for layer in layers {
            assert!(is_read(&server, &sha256(layer)).await);
        }
        server.manifests.delete(&name(), &digest, &Actor::default()).await.unwrap();
        assert!(!is_read(&server, &sha256(layers[0])).await);
        let came = server.restore(&name(), &Reference::Digest(digest), &Actor::default()).await.unwrap();
        assert_eq!((came.restored.len(), is_read(&server, &sha256(layers[0])).await), (1, true));
        server.manifests.delete(&name(), &digest, &Actor::default()).await.unwrap();
    }
}

#[tokio::test]
async fn an_entry_of_another_type_that_is_a_manifest_here_is_a_child() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let config = push(&server, b"config").await;
    let child = image(&config, 6, "");
    put(&server, &child).await.unwrap();
    put(&server, &cache(MediaType::OCI_INDEX, &[&child])).await.unwrap();
    let delete = server.manifests.delete(&name(), &sha256(&child), &Actor::default()).await;
    assert!(matches!(delete, Err(Error::Needed { .. })), "{delete:?}");
    assert!(!is_read(&server, &sha256(&child)).await, "it is no blob");
}
