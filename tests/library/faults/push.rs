//! Pushes.

use std::cell::RefCell;

use bytes::Bytes;
use simple_registry::action::Upload;
use simple_registry::oci::range::ContentRange;
use simple_registry::oci::{Algorithm, Reference};
use simple_registry::registry::{Chunk, Error, UploadStatus};

use crate::faults::layer::{Fault, Plan};
use crate::faults::world::{
    Client, Failure, Image, ONE_OF_TWO, World, by, chunk, every_operation, expect_outcome, has_blob, has_image,
    listed_tags, name, sha256, tagged,
};

/// The requests that were acknowledged to a client.
#[derive(Default)]
struct Told {
    blobs: RefCell<Vec<Bytes>>,
}

fn at(status: &UploadStatus) -> Upload {
    Upload { id: status.id.clone(), state: Some(status.state) }
}

/// Pushes the image, each of its blobs in another way; ends at the first failure.
async fn push(client: &Client, image: &Image, told: &Told) -> Result<(), Failure> {
    let (name, by) = (name(), by());
    let digest = sha256(&image.config);
    client.request(client.server().uploads.put_blob(&name, &digest, chunk(&image.config), &by)).await?;
    told.blobs.borrow_mut().push(image.config.clone());
    for (layer, with_the_end) in image.layers.iter().zip([false, true]) {
        let begun = client.request(client.server().uploads.start(&name, Algorithm::Sha256, "", &by)).await?;
        let (first, second) = (layer.slice(..layer.len() - 300), layer.slice(layer.len() - 300..));
        let mut status = client.request(client.server().uploads.append(&name, &at(&begun), chunk(&first))).await?;
        let mut last = second.clone();
        if !with_the_end {
            status = client.request(client.server().uploads.append(&name, &at(&status), chunk(&second))).await?;
            last = Bytes::new();
        }
        let (upload, digest) = (at(&status), sha256(layer));
        client.request(client.server().uploads.complete(&name, &upload, &digest, chunk(&last), &by)).await?;
        told.blobs.borrow_mut().push(layer.clone());
    }
    client.request(client.server().manifests.put(&name, &image.put("v1"), &by)).await?;
    Ok(())
}

/// Pushes with a fault at one operation, heals, looks, and pushes again, at the same servers or after a restart. Returns whether there
/// was such an operation.
async fn push_with(plan: Plan, servers: usize, restart: bool) -> bool {
    let (world, image, told) = (World::new(), Image::new(1), Told::default());
    let mut client = world.client(servers);
    world.faults.arm(plan);
    let pushed = push(&client, &image, &told).await;
    world.faults.heal();
    let hits = world.faults.hits();
    expect_outcome(plan, &hits, &pushed);
    let fresh = world.server(ONE_OF_TWO);
    for server in client.servers.iter().chain([&fresh]) {
        let listed = listed_tags(server).await;
        let there = has_image(server, tagged("v1"), &image).await;
        assert!(there || pushed.is_err(), "{plan:?}: {hits:?}: acknowledged, and not there");
        assert_eq!(there, listed.contains("v1"), "{plan:?}: {hits:?}");
        has_image(server, Reference::Digest(image.digest()), &image).await;
        for blob in image.blobs() {
            let there = has_blob(server, blob).await;
            assert!(there || !told.blobs.borrow().contains(blob), "{plan:?}: {hits:?}: acknowledged, and not there");
        }
    }
    if restart {
        client = world.client(servers);
    }
    let again = push(&client, &image, &told).await;
    assert!(again.is_ok(), "{plan:?}: {hits:?}: the same push again: {again:?}");
    for server in client.servers.iter().chain([&fresh, &world.server(ONE_OF_TWO)]) {
        assert!(has_image(server, tagged("v1"), &image).await, "{plan:?}: {hits:?}");
        assert!(listed_tags(server).await.contains("v1"), "{plan:?}: {hits:?}");
    }
    if !matches!(plan.fault, Fault::Stalls | Fault::Silent) {
        world.expect_no_temporaries().await;
    }
    !hits.is_empty()
}

fn every_push(fault: Fault, lasting: bool) {
    let least = if fault == Fault::Cut { 0 } else { 30 };
    for (servers, restart) in [(1, false), (2, true)] {
        every_operation(least, |nth| push_with(Plan { fault, nth, lasting }, servers, restart));
    }
}

#[test]
fn a_push_survives_an_operation_that_fails() {
    every_push(Fault::Fails, false);
}

#[test]
fn a_push_survives_a_directory_that_goes_away() {
    every_push(Fault::Fails, true);
}

#[test]
fn a_push_survives_an_operation_that_fails_and_works_the_next_time() {
    every_push(Fault::Hiccups, false);
}

#[test]
fn a_push_survives_a_directory_that_is_full_for_a_moment() {
    every_push(Fault::Full, false);
}

#[test]
fn a_push_survives_a_directory_that_is_full() {
    every_push(Fault::Full, true);
}

#[test]
fn a_push_survives_a_lost_answer() {
    every_push(Fault::Lost, false);
}

#[test]
fn a_push_survives_an_operation_that_times_out() {
    every_push(Fault::TimesOut, false);
}

#[test]
fn a_push_survives_a_client_that_leaves_a_stalled_directory() {
    every_push(Fault::Stalls, false);
}

#[test]
fn a_push_survives_a_client_that_leaves_before_the_answer() {
    every_push(Fault::Silent, false);
}

#[test]
fn a_push_survives_facts_that_are_read_cut_short() {
    every_push(Fault::Cut, false);
}

/// Uploads a blob by two chunks and a last one, and goes on after a failure from where the server says that the upload stands, as
/// clients do. Returns whether the fault met anything.
async fn resume_with(plan: Plan, servers: usize) -> bool {
    let (world, image) = (World::new(), Image::new(1));
    let (client, name, by) = (world.client(servers), name(), by());
    let layer = &image.layers[0];
    let ends = [270_000, 290_000, layer.len()];
    let begun = client.server().uploads.start(&name, Algorithm::Sha256, "", &by).await.unwrap();
    world.faults.arm(plan);
    let mut upload = at(&begun);
    let mut offset = 0;
    for (start, end) in [(0, ends[0]), (ends[0], ends[1])] {
        if offset >= end {
            continue;
        }
        assert_eq!(offset, start, "{plan:?}: {:?}", world.faults.hits());
        let piece = layer.slice(start..end);
        match client.request(client.server().uploads.append(&name, &upload, chunk(&piece))).await {
            Ok(status) => (upload, offset) = (at(&status), end),
            failed => {
                world.faults.heal();
                expect_outcome(plan, &world.faults.hits(), &failed);
                // one that was given up may still be done a moment later: then the client is told so
                let mut status = client.server().uploads.status(&name, &upload).await.unwrap();
                if status.offset == start as u64 {
                    status = match client.server().uploads.append(&name, &at(&status), chunk(&piece)).await {
                        Ok(status) => status,
                        Err(Error::OutOfOrder { .. }) => client.server().uploads.status(&name, &upload).await.unwrap(),
                        Err(error) => panic!("{plan:?}: {:?}: {error:?}", world.faults.hits()),
                    };
                }
                assert_eq!(status.offset, end as u64, "{plan:?}: {:?}", world.faults.hits());
                (upload, offset) = (at(&status), end);
            }
        }
    }
    let last = || {
        let bytes = layer.slice(ends[1]..);
        let range = ContentRange { first: ends[1] as u64, last: ends[2] as u64 - 1 };
        Chunk { range: Some(range), ..chunk(&bytes) }
    };
    let digest = sha256(layer);
    let complete = || client.server().uploads.complete(&name, &upload, &digest, last(), &by);
    let mut done = client.request(complete()).await;
    if done.is_err() {
        world.faults.heal();
        expect_outcome(plan, &world.faults.hits(), &done);
        done = client.request(complete()).await;
    }
    world.faults.heal();
    let hits = world.faults.hits();
    assert!(matches!(&done, Ok(blob) if blob.size == layer.len() as u64), "{plan:?}: {hits:?}: {done:?}");
    // and once more, as after an answer that was lost between server and client
    let repeated = complete().await;
    assert!(repeated.is_ok(), "{plan:?}: {hits:?}: {repeated:?}");
    for server in client.servers.iter().chain([&world.server(ONE_OF_TWO)]) {
        assert!(has_blob(server, layer).await, "{plan:?}: {hits:?}");
    }
    !hits.is_empty()
}

#[test]
fn an_upload_goes_on_after_any_fault_from_where_the_server_says_that_it_stands() {
    for fault in [Fault::Fails, Fault::Full, Fault::Lost, Fault::TimesOut, Fault::Stalls, Fault::Silent] {
        for servers in [1, 2] {
            every_operation(10, |nth| resume_with(Plan { fault, nth, lasting: false }, servers));
        }
    }
}
