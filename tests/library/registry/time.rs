//! Tests servers whose clocks stand still while that of the directory goes on. Files that were just written tell its
//! time.

use simple_registry::registry::Clock;

use super::*;

const LEASE: Duration = Duration::from_millis(400);

/// Returns a server of a machine that sleeps all the time.
fn sleeper(world: &World) -> Registry {
    let store = Store::over(world.operator(), None, Metrics::new()).with_clock(Clock::by_hand());
    World::server_on(&store, |options| options.lease = LEASE)
}

/// Removes all bytes, as scrub does while the server sleeps.
async fn sleep(world: &World) {
    for key in world.keys("data/").await {
        world.operator().delete(&key).await.unwrap();
    }
    tokio::time::sleep(LEASE).await;
}

#[tokio::test]
async fn an_upload_over_which_a_server_slept_is_looked_at_before_it_ends() {
    let world = World::new();
    let server = sleeper(&world);
    let begun = server.uploads.start(&name(), Algorithm::Sha256, "", &Actor::default()).await.unwrap();
    // so much that it is no part of the upload's state
    let content = vec![7; 100_000];
    let upload = |state| Upload { id: begun.id.clone(), state: Some(state) };
    let status = server.uploads.append(&name(), &upload(begun.state), chunk(&content)).await.unwrap();
    sleep(&world).await;
    let digest = sha256(&content);
    let done = server.uploads.complete(&name(), &upload(status.state), &digest, chunk(b""), &Actor::default()).await;
    assert!(matches!(done, Err(Error::UploadUnknown(_))), "bytes that are gone were answered 201: {done:?}");
}

#[tokio::test]
async fn a_blob_over_which_a_server_slept_is_looked_at_before_a_manifest_names_it() {
    let world = World::new();
    let server = sleeper(&world);
    let digest = push(&server, b"content").await;
    sleep(&world).await;
    let manifest = put(&server, &image(&digest, 7, "")).await;
    assert!(matches!(manifest, Err(Error::Missing { .. })), "names bytes that are gone: {manifest:?}");
}
