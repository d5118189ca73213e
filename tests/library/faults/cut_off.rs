//! Stores that were cut off at any storage operation of a push or of a delete: scrub brings them back to what a push that ended, or
//! never began, would have left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use simple_registry::action::Upload;
use simple_registry::config::{Config, Untagged};
use simple_registry::memory::Memory;
use simple_registry::oci::{Algorithm, MediaType, Reference};
use simple_registry::policy::Policy;
use simple_registry::registry::{Error, PutManifest, Registry};
use simple_registry::scrub::{self, Event, Observer, Options, Outcome, Pass};
use simple_registry::storage::{Location, Store};
use simple_registry::telemetry::Metrics;

use crate::faults::layer::{Fault, Plan};
use crate::faults::world::{
    ALONE, Image, World, by, chunk, every_operation, has_image, listed_tags, name, sha256, tagged,
};

/// Longer than any lease of the tests.
const LONG_AGO: Duration = Duration::from_hours(24 * 400);

/// An index of the image, and a signature of the index: with them a push writes every kind of key.
struct Pushed {
    image: Image,
    index: PutManifest,
    signature: PutManifest,
}

impl Pushed {
    fn new(seed: u64) -> Self {
        let image = Image::new(seed);
        let manifest = &image.manifest;
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","size":{},"digest":"{}"}}]}}"#,
            MediaType::OCI_INDEX,
            MediaType::OCI_MANIFEST,
            manifest.len(),
            sha256(manifest)
        );
        let signature = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","artifactType":"a/b","config":{{"mediaType":"a/b","size":{},"digest":"{}"}},"layers":[],"subject":{{"mediaType":"{}","size":{},"digest":"{}"}}}}"#,
            MediaType::OCI_MANIFEST,
            image.config.len(),
            sha256(&image.config),
            MediaType::OCI_INDEX,
            index.len(),
            sha256(index.as_bytes())
        );
        let put = |reference, bytes: String| PutManifest { reference, media_type: None, ..put_of(bytes.into_bytes()) };
        let of_digest = Reference::Digest(sha256(signature.as_bytes()));
        Self { index: put(tagged("v1"), index), signature: put(of_digest, signature), image }
    }
}

fn put_of(bytes: Vec<u8>) -> PutManifest {
    let mut put = Image::new(0).put("unused");
    put.bytes = bytes.into();
    put
}

/// Pushes blobs in each way there is, the image by its digest, its index under a tag, and a signature.
async fn push(server: &Registry, pushed: &Pushed) -> Result<(), Error> {
    let image = &pushed.image;
    let begun = server.uploads.start(&name(), Algorithm::Sha256, "", &by()).await?;
    let mut upload = Upload { id: begun.id, state: Some(begun.state) };
    // small ones, which states keep, before and after a large one
    let (layer, ends) = (&image.layers[0], [100, 1000, 150_000, 160_000]);
    for (start, end) in [0].into_iter().chain(ends).zip(ends) {
        upload.state = Some(server.uploads.append(&name(), &upload, chunk(&layer.slice(start..end))).await?.state);
    }
    let two = layer.slice(ends[3]..);
    server.uploads.complete(&name(), &upload, &sha256(&image.layers[0]), chunk(&two), &by()).await?;
    for blob in [&image.config, &image.layers[1]] {
        server.uploads.put_blob(&name(), &sha256(blob), chunk(blob), &by()).await?;
    }
    let mut put = image.put("unused");
    put.reference = Reference::Digest(image.digest());
    server.manifests.put(&name(), &put, &by()).await?;
    server.manifests.put(&name(), &pushed.index, &by()).await?;
    server.manifests.put(&name(), &pushed.signature, &by()).await?;
    Ok(())
}

/// The effect of a request on the store.
#[derive(Clone, Copy, Debug)]
enum Work {
    Push,
    DeleteTag,
    DeleteManifest,
    DeleteBlob,
}

async fn work(server: &Registry, work: Work, pushed: &Pushed) -> Result<(), Error> {
    match work {
        Work::Push => push(server, pushed).await,
        Work::DeleteTag => server.tags.delete(&name(), &"v1".parse().unwrap(), &by()).await,
        Work::DeleteManifest => {
            server.manifests.delete(&name(), &sha256(&pushed.index.bytes), &by()).await?;
            server.manifests.delete(&name(), &pushed.image.digest(), &by()).await
        }
        Work::DeleteBlob => {
            // one object in each copy: which of the two stays is by chance
            let left = &pushed.image.layers[1];
            server.uploads.put_blob(&"faults/other".parse().unwrap(), &sha256(left), chunk(left), &by()).await?;
            server.blobs.delete(&"faults/other".parse().unwrap(), &sha256(left), &by()).await
        }
    }
}

struct Silent;

impl Observer for Silent {
    fn event(&self, event: &Event) -> Result<(), String> {
        match event {
            Event::Finding(finding) if finding.outcome != Outcome::Repaired => {
                Err(format!("nothing is wrong in it that cannot be repaired: {finding:?}"))
            }
            _ => Ok(()),
        }
    }

    fn progress(&self, _: Pass, _: u64, _: u64) {}
}

/// Lets time pass: everything in a store is older by that.
fn age(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            age(&entry.path());
        }
        let file = fs::File::open(entry.path()).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.set_modified(modified - LONG_AGO).unwrap();
    }
}

/// Runs scrub, each time over a store in which everything is old, until there is nothing left to do.
async fn scrub(directory: &Path) {
    let mut config = Config::default();
    config.scrub.untagged = Untagged::Delete;
    let policy = Policy::build(&config, &[]).unwrap();
    fs::write(directory.join("format"), "{\"layout\":2}\n").unwrap();
    let location = Location::Directory { root: directory.to_owned(), durable: false, chunk: 64 * 1024 };
    let store = Store::open(&location, &Memory::new(64 << 20), Metrics::new()).await.unwrap();
    let mut before = keys(directory);
    for _ in 0..8 {
        age(directory);
        let options = Options {
            dry_run: false,
            passes: Pass::ALL.into(),
            repository: None,
            verify_percent: 100,
            max_duration: None,
        };
        let done = scrub::run(&store, &config, &policy, options, Arc::new(Silent), Metrics::new()).await;
        done.unwrap_or_else(|error| panic!("{error}"));
        let after = keys(directory);
        if after == before {
            return;
        }
        before = after;
    }
    panic!("scrub after scrub there is something left to do: {before:#?}");
}

/// Returns the keys of a store, and its empty directories.
fn keys(directory: &Path) -> BTreeSet<String> {
    fn walk(below: &Path, root: &Path, found: &mut BTreeSet<String>) {
        let entries: Vec<PathBuf> = fs::read_dir(below).unwrap().map(|entry| entry.unwrap().path()).collect();
        if entries.is_empty() && below.parent() != Some(root) {
            found.insert(format!("{}/", below.strip_prefix(root).unwrap().display()));
        }
        for path in entries {
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                found.insert(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(directory, directory, &mut found);
    // what scrub remembers of its own runs is no garbage, nor is its wish for a lease
    found.retain(|key| !key.starts_with("scrub/") && !key.starts_with("leases/"));
    found
}

/// Returns the number of keys of each kind. A kind is a key without its random and counted parts.
fn shape(keys: &BTreeSet<String>) -> BTreeMap<String, usize> {
    let mut shape = BTreeMap::new();
    for key in keys {
        // what a tag meant before is kept for its own time
        if key.contains("!/history/") {
            continue;
        }
        // a claim stays until the next version of its tag or manifest: its writer may write yet
        if key.contains("!/tag-claims/") || key.contains("!/manifest-claims/") {
            continue;
        }
        let is_random = |part: &str| part.len() >= 16 && part.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
        let plain: Vec<String> = key
            .split('/')
            .map(|part| {
                part.split('.')
                    .map(|word| if is_random(word) && word.len() != 64 { "*" } else { word })
                    .collect::<Vec<_>>()
                    .join(".")
            })
            .collect();
        let mut key = plain.join("/");
        if let Some(rest) = key.strip_prefix("data/") {
            key = format!("data/*{}", &rest[2..]);
        }
        *shape.entry(key).or_default() += 1;
    }
    shape
}

/// Returns the scrubbed shapes of a store in which the request ended, and of one in which it never began.
async fn right_ends(of: Work) -> Vec<BTreeMap<String, usize>> {
    let mut ends = Vec::new();
    for done in [false, true] {
        let (world, pushed) = (World::new(), Pushed::new(1));
        let server = world.server(ALONE);
        if !matches!(of, Work::Push) {
            push(&server, &pushed).await.unwrap();
        }
        if done {
            work(&server, of, &pushed).await.unwrap();
        }
        scrub(world.directory.path()).await;
        ends.push(shape(&keys(world.directory.path())));
    }
    ends
}

/// Cuts the request off at one of its operations, scrubs, and looks; whether there was such an operation.
async fn cut_off_at(nth: usize, of: Work, ends: &[BTreeMap<String, usize>]) -> bool {
    let (world, pushed) = (World::new(), Pushed::new(1));
    let server = world.server(ALONE);
    if !matches!(of, Work::Push) {
        push(&server, &pushed).await.unwrap();
    }
    world.faults.arm(Plan { fault: Fault::Fails, nth, lasting: true });
    let outcome = work(&server, of, &pushed).await;
    let hits = world.faults.hits();
    world.faults.heal();
    assert_eq!(outcome.is_err(), !hits.is_empty(), "{of:?}, {nth}: {outcome:?}, {hits:?}");
    scrub(world.directory.path()).await;
    let fresh = world.server(ALONE);
    let found = shape(&keys(world.directory.path()));
    let tags = listed_tags(&fresh).await;
    if tags.contains("v1") {
        assert!(has_image(&fresh, Reference::Digest(pushed.image.digest()), &pushed.image).await, "{of:?}, {nth}");
    }
    // of a push, an index may stand whose signature never came
    let whole = ends.contains(&found) || matches!(of, Work::Push) && tags.contains("v1") && is_within(&found, &ends[1]);
    assert!(
        whole,
        "{of:?} cut off at operation {nth}, {:?}, leaves {found:#?}\nand not one of {ends:#?}",
        hits.first()
    );
    !hits.is_empty()
}

fn is_within(found: &BTreeMap<String, usize>, end: &BTreeMap<String, usize>) -> bool {
    found.iter().all(|(key, count)| end.get(key).is_some_and(|most| count <= most))
}

fn leaves_no_garbage(of: Work, least: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ends = runtime.block_on(right_ends(of));
    every_operation(least, |nth| cut_off_at(nth, of, &ends));
}

#[test]
fn a_push_that_was_cut_off_leaves_no_garbage() {
    leaves_no_garbage(Work::Push, 40);
}

#[test]
fn a_delete_of_a_tag_that_was_cut_off_leaves_no_garbage() {
    leaves_no_garbage(Work::DeleteTag, 4);
}

#[test]
fn a_delete_of_a_manifest_that_was_cut_off_leaves_no_garbage() {
    leaves_no_garbage(Work::DeleteManifest, 10);
}

#[test]
fn a_delete_of_a_blob_that_was_cut_off_leaves_no_garbage() {
    leaves_no_garbage(Work::DeleteBlob, 5);
}
