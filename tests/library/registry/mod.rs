//! Races between several servers on one store, and what a stranger may make one hold in memory.

mod cached;
mod conditional;
mod links;
mod once;
mod restore;
mod sessions;
mod time;

use std::time::Duration;

use crate::support::{chunk, sha256};
use bytes::Bytes;
use futures::TryStreamExt as _;
use opendal::Operator;
use simple_registry::{
    action::{Page, Upload},
    oci::{Algorithm, Digest, MediaType, Name, Reference, Tag},
    records::{
        Actor,
        key::{ManifestKey, Ordinal, Prefix, RepositoryKey, Suffix, TagVersion, Version},
    },
    registry::{Error, Options, PutManifest, Registry, VerifyPulls},
    storage::{
        Store,
        disk::{self, DiskOptions},
    },
    telemetry::Metrics,
};

/// One store and what the tests do to it behind the servers' backs.
struct World {
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn operator(&self) -> Operator {
        disk::operator(self.directory.path(), DiskOptions { durable: false, ..DiskOptions::default() }).unwrap()
    }

    /// Returns a server that shares nothing with others, like another process.
    fn server(&self, cache_ttl: Duration) -> Registry {
        self.server_with(|options| options.cache_ttl = cache_ttl)
    }

    fn server_with(&self, change: impl FnOnce(&mut Options)) -> Registry {
        Self::server_over(self.operator(), change)
    }

    fn server_over(operator: Operator, change: impl FnOnce(&mut Options)) -> Registry {
        Self::server_on(&Store::over(operator, None, Metrics::new()), change)
    }

    fn server_on(store: &Store, change: impl FnOnce(&mut Options)) -> Registry {
        let mut options = Options {
            lease: Duration::from_hours(24),
            cache_ttl: Duration::ZERO,
            max_blob_size: 1 << 30,
            allow_missing_references: false,
            verify_pulls: VerifyPulls::None,
        };
        change(&mut options);
        Registry::new(store.clone(), options, Metrics::new())
    }

    async fn keys(&self, prefix: &str) -> Vec<String> {
        let listed = self.operator().list_with(prefix).recursive(true).await.unwrap();
        listed.into_iter().filter(|entry| entry.metadata().is_file()).map(|entry| entry.path().to_owned()).collect()
    }
}

fn name() -> Name {
    "a/b".parse().unwrap()
}

async fn push(server: &Registry, bytes: &[u8]) -> Digest {
    let digest = sha256(bytes);
    server.uploads.put_blob(&name(), &digest, chunk(bytes), &Actor::default()).await.unwrap();
    digest
}

fn image(config: &Digest, size: usize, more: &str) -> Bytes {
    let config =
        format!(r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","size":{size},"digest":"{config}"}}"#);
    format!(r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[]{more}}}"#, MediaType::OCI_MANIFEST)
        .into()
}

async fn put(server: &Registry, bytes: &Bytes) -> Result<Digest, Error> {
    let digest = sha256(bytes);
    let put =
        PutManifest { reference: Reference::Digest(digest), tags: vec![], media_type: None, bytes: bytes.clone() };
    server.manifests.put(&name(), &put, &Actor::default()).await.map(|put| put.digest)
}

#[tokio::test]
async fn a_server_that_takes_up_another_ones_upload_looks_at_the_bytes_that_it_did_not_see_alive() {
    let world = World::new();
    let (one, other) = (world.server(Duration::ZERO), world.server(Duration::ZERO));
    let begun = one.uploads.start(&name(), Algorithm::Sha256, "", &Actor::default()).await.unwrap();
    let upload = |state| Upload { id: begun.id.clone(), state: Some(state) };
    // as long as a chunk that is no part of its state
    let first = vec![b'x'; 70_000];
    let status = one.uploads.append(&name(), &upload(begun.state), chunk(&first)).await.unwrap();
    // the client was silent for longer than a lease, and scrub is freeing the upload while it comes back
    for key in world.keys("data/").await {
        world.operator().delete(&key).await.unwrap();
    }
    let outcome = match other.uploads.append(&name(), &upload(status.state), chunk(b"second")).await {
        Ok(status) => {
            let (at, digest) = (upload(status.state), sha256([&first[..], b"second"].concat()));
            other.uploads.complete(&name(), &at, &digest, chunk(b""), &Actor::default()).await.map(drop)
        }
        Err(error) => Err(error),
    };
    assert!(matches!(outcome, Err(Error::UploadUnknown(_))), "bytes that are gone were answered 201: {outcome:?}");
}

#[tokio::test]
async fn an_old_location_at_a_server_that_remembers_it_does_not_fail_the_upload() {
    let world = World::new();
    let (one, other) = (world.server(Duration::ZERO), world.server(Duration::ZERO));
    let begun = one.uploads.start(&name(), Algorithm::Sha256, "", &Actor::default()).await.unwrap();
    let upload = Upload { id: begun.id, state: Some(begun.state) };
    other.uploads.append(&name(), &upload, chunk(b"content")).await.unwrap();
    let done = one.uploads.complete(&name(), &upload, &sha256(b"content"), chunk(b""), &Actor::default()).await;
    assert_eq!(done.unwrap().size, 7);
}

#[tokio::test]
async fn a_blob_deleted_by_another_server_is_gone_here_too() {
    let world = World::new();
    let (one, other) = (world.server(Duration::ZERO), world.server(Duration::ZERO));
    let digest = push(&one, b"content").await;
    other.blobs.delete(&name(), &digest, &Actor::default()).await.unwrap();
    assert!(matches!(one.blobs.get(&name(), &digest).await, Err(Error::BlobUnknown { .. })), "read");
    let head = one.blobs.get_to_rely_on(&name(), &digest, &Actor::default()).await;
    assert!(matches!(head, Err(Error::BlobUnknown { .. })), "told a pusher that it need not be pushed: {head:?}");
    let manifest = put(&one, &image(&digest, 7, "")).await;
    assert!(matches!(manifest, Err(Error::Missing { .. })), "named in a manifest: {manifest:?}");
}

#[tokio::test]
async fn what_a_deleted_manifest_alone_gave_a_right_to_is_gone_at_once() {
    let world = World::new();
    let server = world.server(Duration::from_mins(1));
    let digest = push(&server, b"content").await;
    let manifest = put(&server, &image(&digest, 7, "")).await.unwrap();
    // scrub has freed the grant long since, and another process serves
    for key in world.keys("blobs/").await.iter().filter(|key| key.contains("/link.")) {
        world.operator().delete(key).await.unwrap();
    }
    let server = world.server(Duration::from_mins(1));
    server.blobs.get(&name(), &digest).await.unwrap();
    server.manifests.delete(&name(), &manifest, &Actor::default()).await.unwrap();
    let read = server.blobs.get(&name(), &digest).await;
    assert!(matches!(read, Err(Error::BlobUnknown { .. })), "read from a memory older than the deletion: {read:?}");
}

#[tokio::test]
async fn bytes_that_are_lost_in_the_middle_are_looked_up_afresh_the_next_time() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let begun = server.uploads.start(&name(), Algorithm::Sha256, "", &Actor::default()).await.unwrap();
    let upload = |state| Upload { id: begun.id.clone(), state: Some(state) };
    let (first, second) = (vec![b'x'; 70_000], b"second");
    let whole = [&first[..], second].concat();
    let status = server.uploads.append(&name(), &upload(begun.state), chunk(&first)).await.unwrap();
    let digest = sha256(&whole);
    let upload = upload(status.state);
    let done = server.uploads.complete(&name(), &upload, &digest, chunk(second), &Actor::default()).await;
    let blob = done.unwrap();
    let damaged = world.keys("data/").await;
    push(&world.server(Duration::ZERO), &whole).await; // a sound copy, by another server
    world.operator().delete(damaged.last().unwrap()).await.unwrap();
    let read = async || -> Result<Vec<Bytes>, String> {
        let stream = server.blobs.read(&name(), &blob, None).await.map_err(|error| error.to_string())?;
        stream.try_collect().await.map_err(|error| error.to_string())
    };
    let first = read().await;
    assert!(first.is_err(), "what is short is broken off: {first:?}");
    assert_eq!(read().await.unwrap().concat(), whole);
}

fn index(child: &Digest, size: usize) -> Bytes {
    let child = format!(r#"{{"mediaType":"{}","size":{size},"digest":"{child}"}}"#, MediaType::OCI_MANIFEST);
    format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{child}]}}"#, MediaType::OCI_INDEX).into()
}

#[tokio::test]
async fn an_index_keeps_its_children_and_brings_none_back() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let config = push(&server, b"{}").await;
    let bytes = image(&config, 2, "");
    let child = put(&server, &bytes).await.unwrap();
    let parent = put(&server, &index(&child, bytes.len())).await.unwrap();
    let by = Actor::default();
    let delete = server.manifests.delete(&name(), &child, &by).await;
    assert!(matches!(delete, Err(Error::Needed { .. })), "{delete:?}");
    server.manifests.delete(&name(), &parent, &by).await.unwrap();
    server.manifests.delete(&name(), &child, &by).await.unwrap();
    let again = put(&server, &index(&child, bytes.len())).await;
    assert!(matches!(again, Err(Error::Missing { .. })), "{again:?}");
    let lenient = world.server_with(|options| options.allow_missing_references = true);
    put(&lenient, &index(&child, bytes.len())).await.unwrap();
    let gone = server.manifests.get(&name(), &Reference::Digest(child)).await;
    assert!(matches!(gone, Err(Error::ManifestUnknown { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_page_of_referrers_is_bounded_by_bytes_and_every_page_moves_on() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let config = push(&server, b"{}").await;
    let subject = sha256(b"subject");
    let mut all = std::collections::BTreeSet::new();
    for number in 0..40 {
        let text = format!("{number}{}", "x".repeat(200_000));
        let more = format!(
            r#","subject":{{"mediaType":"{}","size":7,"digest":"{subject}"}},"annotations":{{"a":"{text}"}}"#,
            MediaType::OCI_MANIFEST
        );
        all.insert(put(&server, &image(&config, 2, &more)).await.unwrap());
    }
    let mut page = Page { n: None, last: None };
    let mut seen = Vec::new();
    loop {
        let found = server.referrers.list(&name(), &subject, None, &page).await.unwrap();
        let size = serde_json::to_vec(&found.descriptors.iter().map(AsRef::as_ref).collect::<Vec<_>>()).unwrap().len();
        assert!(size <= 4 << 20, "{size}");
        // and no page is much smaller than it may be
        assert!(found.next.is_none() || size > (4 << 20) - 210_000, "{size}");
        seen.extend(found.descriptors.iter().map(|descriptor| descriptor.digest));
        match found.next {
            Some(next) => page.last = Some(next),
            None => break,
        }
    }
    assert!(seen.len() == all.len() && seen.iter().all(|digest| all.contains(digest)));
    // one at a time comes to the same
    let mut page = Page { n: Some(1), last: None };
    let mut count = 0;
    loop {
        let found = server.referrers.list(&name(), &subject, None, &page).await.unwrap();
        count += found.descriptors.len();
        match found.next {
            Some(next) => page.last = Some(next),
            None => break,
        }
    }
    assert_eq!(count, all.len());
}

/// Signatures and scans pile up, and some clients read one page alone.
#[tokio::test]
async fn a_page_holds_all_referrers_that_fit_in_it() {
    let world = World::new();
    let server = world.server(Duration::ZERO);
    let config = push(&server, b"{}").await;
    let subject = sha256(b"subject");
    for number in 0..1100 {
        let more = format!(
            r#","subject":{{"mediaType":"{}","size":7,"digest":"{subject}"}},"annotations":{{"n":"{number}"}}"#,
            MediaType::OCI_MANIFEST
        );
        put(&server, &image(&config, 2, &more)).await.unwrap();
    }
    let found = server.referrers.list(&name(), &subject, None, &Page::default()).await.unwrap();
    assert_eq!((found.descriptors.len(), found.next), (1100, None));
}

#[tokio::test]
async fn what_a_push_costs_does_not_depend_on_the_repositories_beside_it() {
    let world = World::new();
    let empty: Bytes = format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, MediaType::OCI_INDEX).into();
    let put = PutManifest {
        reference: Reference::Tag("latest".parse().unwrap()),
        tags: vec![],
        media_type: None,
        bytes: empty,
    };
    let push = async |server: &Registry, repository: &str| {
        server.manifests.put(&repository.parse().unwrap(), &put, &Actor::default()).await.unwrap();
    };
    for repository in 0..20 {
        push(&world.server(Duration::ZERO), &format!("flat/r{repository}")).await;
    }
    let options = DiskOptions { durable: false, ..DiskOptions::default() };
    let (operator, stats) = disk::operator_with_stats(world.directory.path(), options).unwrap();
    let server = World::server_over(operator, |_| {});
    push(&server, "flat/new").await;
    assert_eq!(
        stats.directories_read(),
        0,
        "a new repository has no directory to read, and others' are none of its business"
    );
    // nor does it where this server knows nothing of the repository yet
    let page = Page { n: None, last: None };
    assert_eq!(server.tags.list(&"flat/r7".parse().unwrap(), &page).await.unwrap().entries.len(), 1);
    assert_eq!(stats.directories_read(), 3, "its place in the catalog, its tags, and the one of them");
    let unknown = server.tags.list(&"flat/unknown".parse().unwrap(), &page).await;
    assert!(matches!(unknown, Err(Error::NameUnknown(_))), "{unknown:?}");
    assert_eq!(stats.directories_read(), 3);
    // and each is listed once
    let all = server.catalog.list(&Page { n: None, last: None }, &[""], |_| true).await.unwrap();
    assert_eq!(all.entries.len(), 21);
}

async fn by_tag(server: &Registry, tag: &str) -> Option<Digest> {
    match server.manifests.get(&name(), &Reference::Tag(tag.parse().unwrap())).await {
        Ok(found) => Some(found.digest),
        Err(Error::ManifestUnknown { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn put_tagged(server: &Registry, tag: &str, bytes: &Bytes) -> Digest {
    let reference = Reference::Tag(tag.parse().unwrap());
    let put = PutManifest { reference, tags: vec![], media_type: None, bytes: bytes.clone() };
    server.manifests.put(&name(), &put, &Actor::default()).await.unwrap().digest
}

#[tokio::test]
async fn a_tag_that_was_looked_at_before_is_what_other_servers_made_of_it() {
    let world = World::new();
    let (one, other) = (world.server(Duration::ZERO), world.server(Duration::ZERO));
    let by = Actor::default();
    let config = push(&one, b"{}").await;
    let bytes = [image(&config, 2, ""), image(&config, 2, r#","annotations":{"a":"b"}"#)];
    let first = put_tagged(&other, "v1", &bytes[0]).await;
    put_tagged(&other, "v2", &bytes[0]).await;
    for _ in 0..2 {
        assert_eq!((by_tag(&one, "v1").await, by_tag(&one, "v2").await), (Some(first), Some(first)));
    }
    let second = put_tagged(&other, "v1", &bytes[1]).await;
    assert_eq!((by_tag(&one, "v1").await, by_tag(&one, "v2").await), (Some(second), Some(first)));
    other.tags.delete(&name(), &"v2".parse().unwrap(), &by).await.unwrap();
    assert_eq!((by_tag(&one, "v1").await, by_tag(&one, "v2").await), (Some(second), None));
    other.manifests.delete(&name(), &second, &by).await.unwrap();
    assert_eq!(by_tag(&one, "v1").await, None);
    put(&other, &bytes[1]).await.unwrap();
    assert_eq!(by_tag(&one, "v1").await, None, "a tag stays dead when its manifest comes again");
    put_tagged(&other, "v1", &bytes[1]).await;
    for _ in 0..2 {
        assert_eq!(by_tag(&one, "v1").await, Some(second));
    }
}

/// A push and a delete of the same manifest, by two other servers, step by step: the delete looks for tags, the push writes its tag, the
/// delete ends. So that tag is dead without a newer version that says so, and whoever read it in between must find out.
#[tokio::test]
async fn a_tag_that_was_written_while_its_manifest_was_being_deleted_is_dead() {
    let world = World::new();
    let (one, operator) = (world.server(Duration::ZERO), world.operator());
    let config = push(&one, b"{}").await;
    let digest = put(&one, &image(&config, 2, "")).await.unwrap();
    let keys = world.keys(&Prefix::Manifest(&name(), &digest).to_string()).await;
    let version = keys.iter().find_map(|key| Version::at_end_of(key));
    let (old, new) = (version.unwrap().ordinal, Ordinal(version.unwrap().ordinal.0 + 1));
    operator.write(&ManifestKey::PendingDelete(new, Suffix(1)).of(&name(), &digest), "{}").await.unwrap();
    let tag = TagVersion { ordinal: Ordinal(1), target: Some((digest, old)) };
    operator.write(&RepositoryKey::Tag("v1".parse().unwrap(), tag).of(&name()), "{}").await.unwrap();
    for _ in 0..2 {
        assert_eq!(by_tag(&one, "v1").await, Some(digest));
    }
    let end = ManifestKey::Version(Version { ordinal: new, there: false }, Suffix(1)).of(&name(), &digest);
    operator.write(&end, "{}").await.unwrap();
    assert_eq!(by_tag(&one, "v1").await, None);
}

/// The same with more in the manifest's history than a first look at it sees.
#[tokio::test]
async fn a_delete_that_has_begun_is_seen_behind_a_long_history() {
    let world = World::new();
    let (one, operator) = (world.server(Duration::ZERO), world.operator());
    let config = push(&one, b"{}").await;
    let bytes = image(&config, 2, "");
    let mut digest = sha256(&bytes);
    for _ in 0..30 {
        digest = put(&one, &bytes).await.unwrap();
    }
    let keys = world.keys(&Prefix::Manifest(&name(), &digest).to_string()).await;
    let old = keys.iter().find_map(|key| Version::at_end_of(key)).unwrap().ordinal;
    let new = Ordinal(old.0 + 1);
    operator.write(&ManifestKey::PendingDelete(new, Suffix(1)).of(&name(), &digest), "{}").await.unwrap();
    let tag = TagVersion { ordinal: Ordinal(1), target: Some((digest, old)) };
    operator.write(&RepositoryKey::Tag("v1".parse().unwrap(), tag).of(&name()), "{}").await.unwrap();
    for _ in 0..2 {
        assert_eq!(by_tag(&one, "v1").await, Some(digest));
    }
    let end = ManifestKey::Version(Version { ordinal: new, there: false }, Suffix(1)).of(&name(), &digest);
    operator.write(&end, "{}").await.unwrap();
    assert_eq!(by_tag(&one, "v1").await, None);
}
