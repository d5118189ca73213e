//! Pulls: an error or the right bytes, never "not there" and never less.

use std::time::Duration;

use simple_registry::action::Page;
use simple_registry::oci::Reference;
use simple_registry::registry::{Error, VerifyPulls};

use crate::faults::layer::{Fault, Plan};
use crate::faults::world::{
    ALONE, Image, ONE_OF_TWO, Setting, World, by, chunk, every_operation, expect_outcome, has_image, name, pull_blob,
    sha256, tagged,
};

/// Pulls with a fault at one operation. Returns whether there was such an operation.
async fn pull_with(plan: Plan, setting: Setting) -> bool {
    let (world, image) = (World::new(), Image::new(1));
    let pusher = world.server(ONE_OF_TWO);
    for blob in image.blobs() {
        pusher.uploads.put_blob(&name(), &sha256(blob), chunk(blob), &by()).await.unwrap();
    }
    pusher.manifests.put(&name(), &image.put("v1"), &by()).await.unwrap();

    // one that remembers nothing, so that the store is asked
    let client = world.client(1);
    let server = world.server(setting);
    let mut met = Vec::new();
    let mut seen = |hits: Vec<String>| {
        let new = hits[met.len()..].to_vec();
        met = hits;
        new
    };
    world.faults.arm(plan);
    for reference in [tagged("v1"), Reference::Digest(image.digest())] {
        let found = client.request(server.manifests.get(&name(), &reference)).await;
        expect_outcome(plan, &seen(world.faults.hits()), &found);
        assert!(found.is_err() || found.is_ok_and(|found| found.bytes == image.manifest));
    }
    let page = Page { n: None, last: None };
    let listed = client.request(server.tags.list(&name(), &page)).await;
    expect_outcome(plan, &seen(world.faults.hits()), &listed);
    assert!(listed.is_err() || listed.is_ok_and(|listed| listed.entries.len() == 1), "a shorter list");
    for blob in image.blobs() {
        let read = client.request(pull_blob(&server, &sha256(blob))).await;
        expect_outcome(plan, &seen(world.faults.hits()), &read);
        assert!(read.is_err() || read.is_ok_and(|read| read == *blob), "{plan:?}: bytes that are not the blob's");
    }
    world.faults.heal();

    let hits = world.faults.hits();
    if plan.fault == Fault::Rots {
        // what was once seen rotten is not served again, by any server, until it is pushed again
        for blob in image.blobs() {
            match pull_blob(&server, &sha256(blob)).await {
                Ok(read) => assert!(read == *blob),
                Err(Error::Storage(_)) => {}
                Err(error) => panic!("{plan:?}: {hits:?}: {error:?}"),
            }
            server.uploads.put_blob(&name(), &sha256(blob), chunk(blob), &by()).await.unwrap();
        }
    }
    for server in [&server, &world.server(ONE_OF_TWO)] {
        assert!(has_image(server, tagged("v1"), &image).await, "{plan:?}: {hits:?}");
    }
    !hits.is_empty()
}

fn every_pull(fault: Fault, lasting: bool, setting: Setting, least: usize) {
    every_operation(least, |nth| pull_with(Plan { fault, nth, lasting }, setting));
}

#[test]
fn a_pull_from_a_directory_that_fails_is_an_error_and_never_absence() {
    for setting in [ALONE, ONE_OF_TWO] {
        every_pull(Fault::Fails, false, setting, 15);
        every_pull(Fault::Fails, true, setting, 15);
        every_pull(Fault::Lost, false, setting, 15);
    }
}

#[test]
fn a_pull_goes_on_after_what_works_the_next_time() {
    every_pull(Fault::Hiccups, false, ALONE, 15);
    every_pull(Fault::TimesOut, false, ALONE, 15);
}

#[test]
fn a_pull_that_was_left_harms_none_after_it() {
    every_pull(Fault::Stalls, false, ALONE, 15);
    every_pull(Fault::Silent, false, ALONE, 15);
}

#[test]
fn a_pull_is_never_shorter() {
    for setting in [ALONE, ONE_OF_TWO] {
        every_pull(Fault::Cut, false, setting, 8);
        every_pull(Fault::Cut, true, setting, 8);
    }
}

#[test]
fn a_pull_that_is_hashed_never_ends_with_wrong_bytes() {
    let hashed = Setting { cache_ttl: Duration::ZERO, verify_pulls: VerifyPulls::OneIn(1) };
    every_pull(Fault::Rots, false, hashed, 5);
}

/// A pull lists the copies of a blob, another copy comes, and scrub frees the listed ones.
#[tokio::test]
async fn a_copy_that_goes_at_any_operation_of_a_pull_while_another_came_is_no_404() {
    let blob = Image::new(1).layers[0].clone();
    let digest = sha256(&blob);
    let mut operations = 0;
    for nth in 0.. {
        let world = World::new();
        let root = world.directory.path().to_owned();
        let pusher = world.server(ALONE);
        pusher.uploads.put_blob(&name(), &digest, chunk(&blob), &by()).await.unwrap();
        let old = files(&root, &["blobs", "data"], &|path| !path.contains("/in/"));
        let server = world.server(ALONE);
        world.faults.arm(Plan { fault: Fault::Waits, nth, lasting: false });
        let pull = pull_blob(&server, &digest);
        let replace = async {
            world.faults.stalled().await;
            // the other works at once, beside the operation that waits
            pusher.uploads.put_blob(&name(), &digest, chunk(&blob), &by()).await.unwrap();
            // the fact first, then the bytes
            for file in &old {
                std::fs::remove_file(file).unwrap();
            }
            world.faults.heal();
        };
        let (mut pull, mut replace) = (std::pin::pin!(pull), std::pin::pin!(replace));
        let read = tokio::select! {
            biased;
            () = &mut replace => pull.await,
            read = &mut pull => {
                assert_eq!(read.unwrap(), blob);
                break;
            }
        };
        operations += 1;
        let hits = world.faults.hits();
        assert_eq!(read.unwrap_or_else(|error| panic!("{hits:?}: {error}")), blob, "{hits:?}");
    }
    assert!(operations > 4, "{operations} operations");
}

/// Returns the files below some directories for whose path `is` holds, in the order of their names.
fn files(root: &std::path::Path, below: &[&str], is: &dyn Fn(&str) -> bool) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut left: Vec<_> = below.iter().rev().map(|name| root.join(name)).collect();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            let mut inside: Vec<_> = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            inside.sort();
            left.extend(inside.into_iter().rev());
        } else if is(&path.to_string_lossy()) {
            found.push(path);
        }
    }
    found
}
