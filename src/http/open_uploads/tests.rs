use std::net::IpAddr;

use super::*;

const SILENCE: Duration = Duration::from_mins(1);

fn count(address: usize, identity: usize, repository: usize) -> Arc<OpenUploads> {
    OpenUploads::new(UploadBounds { address, identity, repository })
}

fn address(last: u8) -> Client {
    IpAddr::from([10, 0, 0, last]).into()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Begins an upload. Returns its id, or the owner of too many uploads.
fn begin(uploads: &Arc<OpenUploads>, client: Client, repository: &str) -> Result<UploadId, FullOwner> {
    match uploads.reserve(client, &name(repository), SILENCE, Instant::now()) {
        Reserved::Place(place) => {
            let id = UploadId::random();
            place.begun(&UploadStatus { id: id.clone(), state: 0, offset: 0 });
            Ok(id)
        }
        Reserved::Silent(_, full) | Reserved::Full(full) => Err(full.owner),
    }
}

/// Returns the upload that gives way to another one of this client, once all have been silent for long.
fn gives_way(uploads: &Arc<OpenUploads>, client: Client, repository: &str) -> Option<UploadId> {
    match uploads.reserve(client, &name(repository), SILENCE, Instant::now() + SILENCE) {
        Reserved::Silent(silent, _) => Some(silent.upload().unwrap().0),
        Reserved::Place(_) | Reserved::Full(_) => None,
    }
}

#[test]
fn an_address_an_identity_and_a_repository_have_bounds_of_their_own() {
    let uploads = count(2, 3, 4);
    let of = |last: u8| -> Client { format!("2001:db8::{last}").parse::<IpAddr>().unwrap().into() };
    begin(&uploads, of(1), "a").unwrap();
    begin(&uploads, of(2), "a").unwrap();
    assert_eq!(begin(&uploads, of(3), "b"), Err(FullOwner::Address), "a network of 64 bits is one address");
    for repository in ["a", "b", "b"] {
        begin(&uploads, Client::Identity(1), repository).unwrap();
    }
    assert_eq!(begin(&uploads, Client::Identity(1), "b"), Err(FullOwner::Identity));
    begin(&uploads, address(1), "a").unwrap();
    assert_eq!(begin(&uploads, address(1), "a"), Err(FullOwner::Repository(name("a"))));
    begin(&uploads, address(1), "b").unwrap();
}

#[test]
fn an_upload_that_is_over_makes_room_and_a_request_without_an_end_does_not() {
    let uploads = count(1, 1, 10);
    let id = begin(&uploads, address(1), "a").unwrap();
    drop(uploads.work_on(address(1), &name("a"), &id));
    assert_eq!(begin(&uploads, address(1), "a"), Err(FullOwner::Address));
    uploads.work_on(address(1), &name("a"), &id).is_over();
    let Reserved::Place(place) = uploads.reserve(address(1), &name("a"), SILENCE, Instant::now()) else {
        panic!("there is room again")
    };
    assert_eq!(begin(&uploads, address(1), "a"), Err(FullOwner::Address), "the place is taken until the upload begins");
    drop(place);
    begin(&uploads, address(1), "a").unwrap();
}

#[test]
fn the_longest_silent_upload_gives_way_and_none_that_a_request_works_on() {
    let uploads = count(3, 1, 10);
    let [first, second, third] = [(); 3].map(|()| begin(&uploads, address(1), "a").unwrap());
    assert_eq!(begin(&uploads, address(1), "a"), Err(FullOwner::Address), "none has been silent for long");
    let work = uploads.work_on(address(1), &name("a"), &first);
    assert_eq!(gives_way(&uploads, address(1), "a"), Some(second.clone()));
    // looking at it made it the last one; so did the end of the work
    assert_eq!(gives_way(&uploads, address(1), "a"), Some(third.clone()));
    drop(work);
    assert_eq!(gives_way(&uploads, address(1), "a"), Some(second));
    // two requests at once look at different uploads
    let look = || uploads.reserve(address(1), &name("a"), SILENCE, Instant::now() + SILENCE);
    let (Reserved::Silent(one, _), Reserved::Silent(other, _)) = (look(), look()) else { panic!("all are silent") };
    assert_eq!([one.upload().unwrap().0, other.upload().unwrap().0], [third, first]);
}

#[test]
fn a_request_that_outlasts_its_upload_does_not_end_the_work_of_another() {
    let uploads = count(1, 1, 10);
    let id = begin(&uploads, address(1), "a").unwrap();
    let work = || uploads.work_on(address(1), &name("a"), &id);
    let (outlasts, ends) = (work(), work());
    ends.is_over();
    // a repeated final request counts the upload again
    let repeats = work();
    drop((outlasts, ends));
    assert_eq!(gives_way(&uploads, address(1), "a"), None, "a request works on it");
    drop(repeats);
    assert_eq!(gives_way(&uploads, address(1), "a"), Some(id));
}

#[test]
fn in_a_full_repository_the_client_that_has_most_gives_way() {
    let uploads = count(10, 10, 3);
    let single = begin(&uploads, address(1), "a").unwrap();
    let of_greedy = begin(&uploads, address(2), "a").unwrap();
    begin(&uploads, address(2), "a").unwrap();
    assert_eq!(gives_way(&uploads, address(3), "a"), Some(of_greedy));
    assert_ne!(gives_way(&uploads, address(1), "a"), Some(single));
}

#[test]
fn an_upload_of_another_process_counts_once_a_request_names_it() {
    let uploads = count(1, 1, 10);
    drop(uploads.work_on(address(1), &name("a"), &UploadId::random()));
    assert_eq!(begin(&uploads, address(1), "a"), Err(FullOwner::Address));
}

#[test]
fn nothing_is_kept_of_uploads_that_are_over() {
    let uploads = count(10, 10, 10);
    for id in [(); 5].map(|()| begin(&uploads, address(1), "a").unwrap()) {
        uploads.work_on(address(1), &name("a"), &id).is_over();
    }
    let state = uploads.lock();
    assert!(state.uploads.is_empty() && state.groups.is_empty());
}
