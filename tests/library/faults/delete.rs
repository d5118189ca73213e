//! Deletes: of a tag, a manifest and a blob.

use simple_registry::oci::{Digest, Reference};
use simple_registry::registry::{Actor, Error, Registry};

use crate::faults::layer::{Fault, Plan};
use crate::faults::world::{
    Image, ONE_OF_TWO, World, by, chunk, every_operation, expect_outcome, has_blob, has_image, listed_tags, name,
    sha256, tagged,
};

/// The thing to delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Tag,
    /// With two tags, while a third one means another image.
    Manifest,
    /// Of the layer that no other image has, when its manifest is gone.
    Blob,
}

/// All faults that a delete can meet.
const FAULTS: [(Fault, bool); 7] = [
    (Fault::Fails, false),
    (Fault::Fails, true),
    (Fault::Hiccups, false),
    (Fault::Lost, false),
    (Fault::TimesOut, false),
    (Fault::Stalls, false),
    (Fault::Silent, false),
];

async fn put(server: &Registry, image: &Image, tags: &[&str]) {
    for blob in image.blobs() {
        server.uploads.put_blob(&name(), &sha256(blob), chunk(blob), &by()).await.unwrap();
    }
    for tag in tags {
        server.manifests.put(&name(), &image.put(tag), &by()).await.unwrap();
    }
}

async fn delete(server: &Registry, target: Target, image: &Image) -> Result<(), Error> {
    match target {
        Target::Tag => server.tags.delete(&name(), &"v1".parse().unwrap(), &by()).await,
        Target::Manifest => server.manifests.delete(&name(), &image.digest(), &by()).await,
        Target::Blob => server.blobs.delete(&name(), &sha256(&image.layers[0]), &Actor::default()).await,
    }
}

/// Returns whether the target is there. Fails the test unless everything else is.
async fn is_there(server: &Registry, target: Target, image: &Image, kept: &Image) -> bool {
    assert!(has_image(server, tagged("kept"), kept).await, "another image");
    let digest: Digest = image.digest();
    match target {
        Target::Tag => {
            assert!(has_image(server, Reference::Digest(digest), image).await, "the image of a deleted tag");
            assert!(has_image(server, tagged("v2"), image).await, "another tag of it");
            has_image(server, tagged("v1"), image).await
        }
        Target::Manifest => {
            let there = has_image(server, Reference::Digest(digest), image).await;
            for tag in ["v1", "v2"] {
                assert!(there || !has_image(server, tagged(tag), image).await, "{tag} of a deleted manifest");
            }
            there
        }
        Target::Blob => has_blob(server, &image.layers[0]).await,
    }
}

/// Deletes with a fault at one operation, heals, looks, and deletes again, at the same server or after a restart. Returns whether there
/// was such an operation.
async fn delete_with(plan: Plan, target: Target, restart: bool) -> bool {
    let (world, image, kept) = (World::new(), Image::new(1), Image::new(2));
    let mut client = world.client(1);
    put(client.server(), &image, &["v1", "v2"]).await;
    put(client.server(), &kept, &["kept"]).await;
    if target == Target::Blob {
        client.server().manifests.delete(&name(), &image.digest(), &by()).await.unwrap();
    }
    // so that all of it is remembered
    assert!(is_there(client.server(), target, &image, &kept).await);

    world.faults.arm(plan);
    let deleted = client.request(delete(client.server(), target, &image)).await;
    world.faults.heal();
    let hits = world.faults.hits();
    expect_outcome(plan, &hits, &deleted);
    let fresh = world.server(ONE_OF_TWO);
    let there = is_there(&fresh, target, &image, &kept).await;
    listed_tags(&fresh).await;
    assert!(!there || deleted.is_err(), "{plan:?}: {hits:?}: {target:?} is acknowledged to be deleted, and there");
    let here = is_there(client.server(), target, &image, &kept).await;
    assert_eq!(
        here, there,
        "{plan:?}: {hits:?}: {target:?} in the memory of the server that was hit, and in the store"
    );

    if restart {
        client = world.client(1);
    }
    match delete(client.server(), target, &image).await {
        Ok(()) => {}
        Err(Error::ManifestUnknown { .. } | Error::BlobUnknown { .. }) if !there => {}
        Err(error) => panic!("{plan:?}: {hits:?}: the same again: {error:?}"),
    }
    for server in [client.server(), &fresh, &world.server(ONE_OF_TWO)] {
        assert!(!is_there(server, target, &image, &kept).await, "{plan:?}: {hits:?}: {target:?} is deleted, and there");
        listed_tags(server).await;
    }
    !hits.is_empty()
}

fn every_delete(target: Target, least: usize) {
    for (fault, lasting) in FAULTS {
        for restart in [false, true] {
            every_operation(least, |nth| delete_with(Plan { fault, nth, lasting }, target, restart));
        }
    }
}

#[test]
fn deleting_a_tag_survives_any_fault() {
    every_delete(Target::Tag, 3);
}

#[test]
fn deleting_a_manifest_survives_any_fault() {
    every_delete(Target::Manifest, 8);
}

#[test]
fn deleting_a_blob_survives_any_fault() {
    every_delete(Target::Blob, 3);
}

/// Readers rely on this order: who sees a tag, and no delete of its manifest that has begun, knows that the delete will see the tag.
#[tokio::test]
async fn a_delete_of_a_manifest_says_that_it_begins_then_looks_for_its_tags_then_ends() {
    let (world, image) = (World::new(), Image::new(1));
    let server = world.server(ONE_OF_TWO);
    put(&server, &image, &["v1"]).await;
    world.faults.arm(Plan { fault: Fault::Fails, nth: usize::MAX, lasting: false });
    delete(&server, Target::Manifest, &image).await.unwrap();
    let begun = world.faults.begun();
    let at = |what: &str, part: &str| {
        begun.iter().position(|operation| operation.starts_with(what) && operation.contains(part)).unwrap()
    };
    let order = [at("close", "/pending-delete."), at("list", "!/tags/"), at("close", ".not"), at("close", ".rm.")];
    assert!(order.is_sorted(), "{order:?} of {begun:#?}");
}
