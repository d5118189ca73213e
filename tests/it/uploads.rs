//! Torn and racing uploads: always the right bytes, or a clear error.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::Rng;

use crate::support::client::{Request, Response};
use crate::support::content::{Image, sha256, unique};
use crate::support::repo::{Repo, chunk, finish};

/// Returns the number of bytes of an upload by an answer's `Range`. `0-0` can mean none or one, so these tests begin with more.
#[track_caller]
fn offset(response: &Response) -> usize {
    let range = response.required("range");
    let last = range.strip_prefix("0-").and_then(|last| last.parse::<usize>().ok());
    last.unwrap_or_else(|| panic!("{range} is not 0-<last>")) + 1
}

/// Goes on with an upload by what the registry says of it, until it is closed.
#[track_caller]
fn resume(repo: &Repo, location: &str, data: &[u8]) {
    // a server may still be noticing that a client went away, and say another offset afterwards
    for _ in 0..20 {
        let status = repo.send(Request::get(location)).expect(204);
        let (at, mut location) = (offset(&status), status.location());
        assert!(at <= data.len(), "{at} bytes of {}", data.len());
        if at < data.len() {
            let response = repo.send(chunk(&location, at, &data[at..]));
            if response.status == 416 {
                continue;
            }
            location = response.expect(202).location();
        }
        repo.send(finish(&location, &sha256(data))).expect(201);
        return;
    }
    panic!("the upload's offset never held still");
}

fn a_cut_patch_is_resumed_from_the_status(repo: &Repo) {
    for round in 0..8 {
        let data = unique(300_000);
        let location = repo.send(chunk(&repo.start_upload(), 0, &data[..1000])).expect(202).location();
        let cut = rand::rng().random_range(1000..data.len());
        let torn = chunk(&location, 1000, &data[1000..]);
        let mut connection = repo.client.connect().expect("connect");
        connection.write_head(&torn).expect("write");
        connection.write(&data[1000..cut]).expect("write");
        if round % 2 == 0 {
            // half closed, so that the server has read all that there is when it answers
            connection.finish_writing().expect("close");
            let _ = connection.read_response(&torn);
        }
        drop(connection);
        resume(repo, &location, &data);
        assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data, "cut at {cut}");
    }
}

fn a_cut_chunked_patch_adds_no_wrong_bytes(repo: &Repo) {
    let data = unique(300_000);
    let location = repo.send(chunk(&repo.start_upload(), 0, &data[..1000])).expect(202).location();
    let mut connection = repo.client.connect().expect("connect");
    connection.write_head(&Request::patch(&location).chunked()).expect("write");
    // a chunk that says more than comes
    connection.write(b"20000\r\n").expect("write");
    connection.write(&data[1000..50_000]).expect("write");
    drop(connection);
    resume(repo, &location, &data);
    assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
}

fn a_cut_final_put_can_be_repeated(repo: &Repo) {
    let data = unique(200_000);
    let location = repo.send(chunk(&repo.start_upload(), 0, &data[..1000])).expect(202).location();
    let last = finish(&location, &sha256(&data)).body(&data[1000..]);
    let mut connection = repo.client.connect().expect("connect");
    connection.write_head(&last).expect("write");
    connection.write(&data[1000..100_000]).expect("write");
    drop(connection);
    repo.get_blob(&sha256(&data)).expect(404);
    resume(repo, &location, &data);
    assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
}

fn a_cut_single_post_stores_nothing(repo: &Repo) {
    let data = unique(200_000);
    let path = repo.path(&format!("blobs/uploads/?digest={}", sha256(&data)));
    let mut connection = repo.client.connect().expect("connect");
    connection.write_head(&Request::post(&path).body(data.clone())).expect("write");
    connection.write(&data[..100_000]).expect("write");
    drop(connection);
    repo.get_blob(&sha256(&data)).expect(404);
    repo.send(Request::post(&path).body(data.clone())).expect(201);
    assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
}

fn a_patch_without_length_or_range_is_accepted_as_docker_sends_it(repo: &Repo) {
    let data = unique(1_500_000);
    let response = repo.send(Request::patch(repo.start_upload()).body(data.clone()).chunked()).expect(202);
    assert_eq!(offset(&response), data.len());
    repo.send(finish(&response.location(), &sha256(&data))).expect(201);
    assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
}

/// The slow one began first and ends last: by then its offset is taken.
fn when_two_patches_have_one_offset_the_later_to_end_is_416(repo: &Repo) {
    let (data, other) = (unique(40_000), unique(30_000));
    let location = repo.send(chunk(&repo.start_upload(), 0, &data[..10_000])).expect(202).location();
    let slow = chunk(&location, 10_000, &other);
    let mut connection = repo.client.connect().expect("connect");
    connection.write_head(&slow).expect("write");
    connection.write(&other[..15_000]).expect("write");
    repo.send(chunk(&location, 10_000, &data[10_000..])).expect(202);
    let written = connection.write(&other[15_000..]);
    let response =
        connection.read_response(&slow).unwrap_or_else(|error| panic!("no answer: {error}, {written:?}")).expect(416);
    assert_eq!(offset(&response), data.len());
    repo.send(finish(&location, &sha256(&data))).expect(201);
    assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
}

fn when_many_patches_have_one_offset_exactly_one_wins(repo: &Repo) {
    for _ in 0..5 {
        let first = unique(1000);
        let location = repo.send(chunk(&repo.start_upload(), 0, &first)).expect(202).location();
        let racers: Vec<_> = (0..8).map(|_| unique(20_000)).collect();
        let barrier = Barrier::new(racers.len());
        let race = |data: &Vec<u8>| {
            barrier.wait();
            repo.send(chunk(&location, 1000, data)).status
        };
        let statuses: Vec<_> = std::thread::scope(|scope| {
            let running: Vec<_> = racers.iter().map(|data| scope.spawn(|| race(data))).collect();
            running.into_iter().map(|thread| thread.join().expect("a racer")).collect()
        });
        let winners: Vec<_> = (0..racers.len()).filter(|index| statuses[*index] == 202).collect();
        assert_eq!(winners.len(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| *status == 202 || *status == 416), "{statuses:?}");
        let data = [first, racers[winners[0]].clone()].concat();
        repo.send(finish(&location, &sha256(&data))).expect(201);
        assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
    }
}

/// A close takes the bytes that are there. The running PATCH comes too late, and cannot change the blob.
fn a_final_put_during_a_patch_completes_the_bytes_before_it(repo: &Repo) {
    let data = unique(10_000);
    let location = repo.send(chunk(&repo.start_upload(), 0, &data)).expect(202).location();
    let running = chunk(&location, 10_000, &unique(20_000));
    let mut connection = repo.client.connect().expect("connect");
    connection.write_head(&running).expect("write");
    connection.write(&unique(10_000)).expect("write");
    repo.send(finish(&location, &sha256(&data))).expect(201);
    let written = connection.write(&unique(10_000));
    let response = connection.read_response(&running).unwrap_or_else(|error| panic!("no answer: {error}, {written:?}"));
    assert!([404, 416].contains(&response.status), "\n{response:?}");
    assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
}

fn a_final_put_for_bytes_in_transit_is_refused_and_the_patch_can_end(repo: &Repo) {
    let data = unique(40_000);
    let location = repo.send(chunk(&repo.start_upload(), 0, &data[..10_000])).expect(202).location();
    let running = chunk(&location, 10_000, &data[10_000..]);
    let mut connection = repo.client.connect().expect("connect");
    connection.write_head(&running).expect("write");
    connection.write(&data[10_000..30_000]).expect("write");
    repo.send(finish(&location, &sha256(&data))).expect_error(400, "DIGEST_INVALID");
    let _ = connection.write(&data[30_000..]);
    // whether a refused close ends the session is the registry's choice; nothing wrong comes of either
    let response = connection.read_response(&running).expect("an answer");
    match response.status {
        202 => {
            repo.send(finish(&location, &sha256(&data))).expect(201);
            assert_eq!(repo.get_blob(&sha256(&data)).expect(200).body, data);
        }
        404 | 416 => drop(repo.get_blob(&sha256(&data)).expect(404)),
        _ => panic!("\n{response:?}"),
    }
}

fn a_final_put_that_is_repeated_after_a_lost_answer_is_201_again(repo: &Repo) {
    let data = unique(50_000);
    let digest = sha256(&data);
    let location = repo.send(chunk(&repo.start_upload(), 0, &data)).expect(202).location();
    for _ in 0..3 {
        let response = repo.send(finish(&location, &digest)).expect(201);
        assert_eq!(repo.send(Request::get(response.location())).expect(200).body, data);
    }
    // with the body in it too, as a monolithic push repeats it
    let location = repo.start_upload();
    for _ in 0..3 {
        repo.send(finish(&location, &digest).body(data.clone())).expect(201);
    }
}

fn a_blob_pushed_by_50_clients_at_once_exists_for_all(repo: &Repo) {
    let data = unique(200_000);
    let digest = sha256(&data);
    let barrier = Barrier::new(50);
    std::thread::scope(|scope| {
        for number in 0..50 {
            let repo = if number % 2 == 0 { repo.clone() } else { repo.sibling(&format!("c{number}")) };
            let (data, digest, barrier) = (&data, &digest, &barrier);
            scope.spawn(move || {
                barrier.wait();
                repo.push_blob(data);
                assert_eq!(repo.get_blob(digest).expect(200).body, *data);
            });
        }
    });
}

fn a_tag_moved_by_20_writers_is_whole_in_every_pull(repo: &Repo) {
    let images: Vec<_> = (0..20).map(|_| Image::new(&[2000])).collect();
    let digests: Vec<_> = images.iter().map(|image| image.manifest.digest()).collect();
    repo.push_image("moving", &images[0]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut pulls = 0;
                    while !done.load(Ordering::Relaxed) {
                        let digest = repo.pull_image("moving");
                        assert!(digests.contains(&digest), "{digest} was never pushed under this tag");
                        pulls += 1;
                    }
                    pulls
                })
            })
            .collect();
        let writers: Vec<_> = images
            .iter()
            .map(|image| {
                scope.spawn(|| {
                    repo.push_blobs(image);
                    for _ in 0..5 {
                        repo.push_manifest("moving", &image.manifest);
                    }
                })
            })
            .collect();
        let written: Vec<_> = writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        // the readers stop whatever became of the writers
        done.store(true, Ordering::Relaxed);
        assert!(written.iter().all(Result::is_ok), "a writer failed");
        assert!(readers.into_iter().all(|reader| reader.join().expect("a reader") > 0));
    });
    assert_eq!(repo.tags(""), ["moving"]);
    // a push that comes after all others is what the tag means, whatever happened at once before
    let last = repo.push_image("moving", &Image::new(&[100]));
    assert_eq!(repo.pull_image("moving"), last);
}

fn a_tag_pushed_and_deleted_at_once_ends_pushed_or_deleted(repo: &Repo) {
    let image = Image::new(&[500]);
    repo.push_image("kept", &image);
    for _ in 0..10 {
        repo.push_manifest("v1", &image.manifest);
        let barrier = Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                barrier.wait();
                let status = repo.send(Request::delete(repo.manifest_path("v1"))).status;
                assert!([202, 404].contains(&status), "{status}");
            });
            barrier.wait();
            repo.push_manifest("v1", &image.manifest);
        });
        let listed = repo.tags("").contains(&"v1".to_owned());
        match repo.get_manifest("v1").status {
            200 => assert!(listed, "it can be pulled and is not listed"),
            404 => assert!(!listed, "it is listed and cannot be pulled"),
            status => panic!("{status}"),
        }
        assert_eq!(repo.pull_image("kept"), image.manifest.digest());
    }
}

crate::support::on_each_backend!(shared:
    a_cut_patch_is_resumed_from_the_status,
    a_cut_chunked_patch_adds_no_wrong_bytes,
    a_cut_final_put_can_be_repeated,
    a_cut_single_post_stores_nothing,
    a_patch_without_length_or_range_is_accepted_as_docker_sends_it,
    when_two_patches_have_one_offset_the_later_to_end_is_416,
    when_many_patches_have_one_offset_exactly_one_wins,
    a_final_put_during_a_patch_completes_the_bytes_before_it,
    a_final_put_for_bytes_in_transit_is_refused_and_the_patch_can_end,
    a_final_put_that_is_repeated_after_a_lost_answer_is_201_again,
    a_blob_pushed_by_50_clients_at_once_exists_for_all,
    a_tag_moved_by_20_writers_is_whole_in_every_pull,
    a_tag_pushed_and_deleted_at_once_ends_pushed_or_deleted,
);
