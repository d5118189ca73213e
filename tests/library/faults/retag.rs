//! A tag that moves from one image to another.

use simple_registry::registry::Registry;

use crate::faults::layer::{Fault, Plan};
use crate::faults::world::{
    Image, ONE_OF_TWO, World, by, chunk, every_operation, expect_outcome, has_image, name, sha256, tagged,
};

/// Returns the one of two images that the tag means. Fails the test unless that image is whole.
async fn meant(server: &Registry, images: &[Image; 2]) -> usize {
    let stored = server.manifests.get(&name(), &tagged("v1")).await.unwrap();
    let which = usize::from(stored.digest == images[1].digest());
    assert!(has_image(server, tagged("v1"), &images[which]).await);
    which
}

/// Moves the tag with a fault at one operation, heals, looks, and moves it again. Returns whether there was such an operation.
async fn move_with(plan: Plan) -> bool {
    let (world, images) = (World::new(), [Image::new(1), Image::new(2)]);
    let client = world.client(1);
    for image in &images {
        for blob in image.blobs() {
            client.server().uploads.put_blob(&name(), &sha256(blob), chunk(blob), &by()).await.unwrap();
        }
    }
    client.server().manifests.put(&name(), &images[0].put("v1"), &by()).await.unwrap();
    // so that it is remembered
    assert_eq!(meant(client.server(), &images).await, 0);

    world.faults.arm(plan);
    let moved = client.request(client.server().manifests.put(&name(), &images[1].put("v1"), &by())).await;
    world.faults.heal();
    let hits = world.faults.hits();
    expect_outcome(plan, &hits, &moved);
    let stored = meant(&world.server(ONE_OF_TWO), &images).await;
    assert!(stored == 1 || moved.is_err(), "{plan:?}: {hits:?}: acknowledged, and not done");
    let remembered = meant(client.server(), &images).await;
    assert_eq!(remembered, stored, "{plan:?}: {hits:?}: in the memory of the server that was hit, and in the store");

    client.server().manifests.put(&name(), &images[1].put("v1"), &by()).await.unwrap();
    for server in [client.server(), &world.server(ONE_OF_TWO)] {
        assert_eq!(meant(server, &images).await, 1, "{plan:?}: {hits:?}");
    }
    !hits.is_empty()
}

#[test]
fn moving_a_tag_survives_any_fault() {
    let once = [Fault::Fails, Fault::Full, Fault::Lost, Fault::Stalls, Fault::Silent].map(|fault| (fault, false));
    for (fault, lasting) in once.into_iter().chain([(Fault::Fails, true)]) {
        every_operation(8, |nth| move_with(Plan { fault, nth, lasting }));
    }
}
