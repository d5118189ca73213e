//! A file system that truly takes no more.

use std::path::Path;

use bytes::Bytes;
use simple_registry::action::Upload;
use simple_registry::oci::Algorithm;
use simple_registry::registry::Error;
use simple_registry::storage::FaultKind;

use crate::faults::layer::Faults;
use crate::faults::world::{
    ALONE, Image, World, by, chunk, has_blob, has_image, listed_tags, name, server_on, sha256, tagged,
};
use crate::support::{alone_in_short_files, passes};

/// Set in the child that the test starts.
const CHILD: &str = "FAULTS_TEST_CHILD_ROOT";

/// Returns more bytes than a file of the child may have.
fn too_long() -> Bytes {
    vec![7; 5 << 20].into()
}

/// Runs this test again in a child whose files cannot grow beyond 1 or 2 MiB.
#[test]
fn what_does_not_fit_is_told_to_be_too_much_and_leaves_the_rest_alone() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Ok(root) = std::env::var(CHILD) {
        return runtime.block_on(push_too_much(root.as_ref()));
    }
    let world = World::new();
    let this = concat!(module_path!(), "::what_does_not_fit_is_told_to_be_too_much_and_leaves_the_rest_alone");
    let mut child = alone_in_short_files(this, 2048);
    child.env(CHILD, world.directory.path());
    passes(child);
    runtime.block_on(async {
        let (server, image) = (world.server(ALONE), Image::new(1));
        world.expect_no_temporaries().await;
        assert!(has_image(&server, tagged("v1"), &image).await, "what the child has pushed");
        assert!(listed_tags(&server).await.contains("v1"));
        assert!(!has_blob(&server, &too_long()).await);
        // with room again, the same goes
        server.uploads.put_blob(&name(), &sha256(too_long()), chunk(&too_long()), &by()).await.unwrap();
        assert!(has_blob(&server, &too_long()).await);
    });
}

async fn push_too_much(root: &Path) {
    let (server, image) = (server_on(root, &Faults::default(), ALONE), Image::new(1));
    let large = too_long();
    let full = |error: &Error| matches!(error, Error::Storage(error) if error.kind == FaultKind::Full);

    let at_once = server.uploads.put_blob(&name(), &sha256(&large), chunk(&large), &by()).await.unwrap_err();
    assert!(full(&at_once), "{at_once:?}");

    let begun = server.uploads.start(&name(), Algorithm::Sha256, "", &by()).await.unwrap();
    let upload = Upload { id: begun.id, state: Some(begun.state) };
    let chunked = server.uploads.append(&name(), &upload, chunk(&large)).await.unwrap_err();
    assert!(full(&chunked), "{chunked:?}");
    assert!(!has_blob(&server, &large).await);
    // the upload stands where it was, and goes on in smaller chunks
    let status = server.uploads.status(&name(), &upload).await.unwrap();
    assert_eq!(status.offset, 0);
    let layer = &image.layers[0];
    server.uploads.append(&name(), &upload, chunk(&layer.slice(..200_000))).await.unwrap();
    let rest = chunk(&layer.slice(200_000..));
    let upload = Upload { id: upload.id, state: None };
    server.uploads.complete(&name(), &upload, &sha256(layer), rest, &by()).await.unwrap();
    for blob in [&image.config, &image.layers[1]] {
        server.uploads.put_blob(&name(), &sha256(blob), chunk(blob), &by()).await.unwrap();
    }
    server.manifests.put(&name(), &image.put("v1"), &by()).await.unwrap();
    assert!(has_image(&server, tagged("v1"), &image).await);
}
