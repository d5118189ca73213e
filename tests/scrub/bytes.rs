//! Bytes: what nothing needs goes, what is needed stays and can be read, and what is wrong is told once.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use simple_registry::{
    action::{Upload, UploadId},
    config::Config,
    oci::{Algorithm, Digest, MediaType, Name, Reference},
    policy::Policy,
    registry::{By, Chunk, Clock, Error, Options, PutManifest, Registry, VerifyPulls},
    scrub::{self, Event, Finding, Observer, Outcome, Pass, Reason, Removal, Summary, What},
    storage::{Location, Store, layout},
    telemetry::Metrics,
};

const LEASE: Duration = Duration::from_secs(30);

struct World {
    directory: tempfile::TempDir,
    server: Registry,
}

/// What a run told.
#[derive(Default)]
struct Told {
    removals: Mutex<Vec<Removal>>,
    findings: Mutex<Vec<Finding>>,
}

impl Observer for Told {
    fn event(&self, event: &Event) -> Result<(), String> {
        match event.clone() {
            Event::Removal(removal) => self.removals.lock().unwrap().push(removal),
            Event::Finding(finding) => self.findings.lock().unwrap().push(finding),
        }
        Ok(())
    }

    fn progress(&self, _pass: Pass, _done: u64, _total: u64) {}
}

/// A run that has ended.
struct Ran {
    summary: Summary,
    removals: Vec<Removal>,
    findings: Vec<Finding>,
}

impl Ran {
    fn removed(&self) -> Vec<(What, Reason, u64)> {
        self.removals.iter().map(|removal| (removal.what, removal.reason, removal.size)).collect()
    }

    fn found(&self) -> Vec<Outcome> {
        self.findings.iter().map(|finding| finding.outcome).collect()
    }
}

async fn open(root: &Path) -> Store {
    let location = Location::Directory { root: root.to_owned(), durable: false, chunk: 1 << 16 };
    Store::open(&location, Metrics::new()).await.unwrap()
}

fn name() -> Name {
    "a/b".parse().unwrap()
}

fn by() -> By {
    By { identity: "ann".into(), request: "r1".into() }
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, bytes)
}

fn chunk(bytes: &[u8]) -> Chunk {
    let body = stream::iter([Ok(Bytes::copy_from_slice(bytes))]).boxed();
    Chunk { range: None, length: Some(bytes.len() as u64), body, progress: Arc::new(|| {}) }
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Self::server(directory.path()).await;
        Self { directory, server }
    }

    /// A server that remembers nothing of the others.
    async fn server(root: &Path) -> Registry {
        let options = Options {
            lease: LEASE,
            cache_ttl: Duration::ZERO,
            max_blob_size: 1 << 30,
            allow_missing_references: false,
            verify_pulls: VerifyPulls::OneIn(1),
            clock: Clock::default(),
        };
        Registry::new(open(root).await, options, Metrics::new())
    }

    fn root(&self) -> &Path {
        self.directory.path()
    }

    async fn push(&self, bytes: &[u8]) -> Digest {
        let digest = sha256(bytes);
        self.server.put_blob(&name(), &digest, chunk(bytes), &by()).await.unwrap();
        digest
    }

    /// An image of one blob.
    async fn image(&self, config: &Digest, size: usize) -> Digest {
        let bytes = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","size":{size},"digest":"{config}"}},"layers":[]}}"#,
            MediaType::OCI_MANIFEST
        );
        let put = PutManifest {
            reference: Reference::Tag("latest".parse().unwrap()),
            tags: vec![],
            media_type: None,
            bytes: bytes.into(),
        };
        self.server.put_manifest(&name(), &put, &by()).await.unwrap().digest
    }

    /// A blob that an image needs.
    async fn pushed(&self, bytes: &[u8]) -> Digest {
        let digest = self.push(bytes).await;
        self.image(&digest, bytes.len()).await;
        digest
    }

    fn keys(&self, beginning: &str) -> Vec<String> {
        let mut found = Vec::new();
        walk(self.root(), self.root(), &mut found);
        found.retain(|key| key.starts_with(beginning) && !key.starts_with(".tmp/"));
        found.sort();
        found
    }

    fn containing(&self, part: &str) -> Vec<String> {
        self.keys("").into_iter().filter(|key| key.contains(part)).collect()
    }

    /// Lets everything be older than a lease.
    fn age(&self) {
        for key in self.keys("") {
            self.age_one(&key);
        }
    }

    fn age_one(&self, key: &str) {
        let file = fs::File::options().write(true).open(self.root().join(key)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_hours(72)).unwrap();
    }

    /// What a server that was started just now reads.
    async fn read(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let server = Self::server(self.root()).await;
        let blob = server.blob(&name(), digest).await?;
        let stream = server.read_blob(&name(), &blob, None).await?;
        Ok(stream.map_ok(|chunk| chunk.to_vec()).try_concat().await?)
    }

    async fn scrub(&self, passes: &[Pass]) -> Ran {
        self.scrub_with(passes, |_| {}).await
    }

    async fn scrub_with(&self, passes: &[Pass], change: impl FnOnce(&mut scrub::Options)) -> Ran {
        let mut config = Config::default();
        config.scrub.upload_expiry = LEASE;
        config.scrub.grace = Duration::ZERO;
        config.scrub.trash = Duration::ZERO;
        let policy = Policy::build(&config, &[]).unwrap();
        let mut options = scrub::Options {
            dry_run: false,
            passes: passes.iter().copied().collect::<BTreeSet<_>>(),
            repository: None,
            verify_percent: 100,
            max_duration: None,
            clock: Clock::default(),
        };
        change(&mut options);
        let told = Arc::new(Told::default());
        let observer: Arc<dyn Observer> = Arc::<Told>::clone(&told);
        let store = open(self.root()).await;
        let summary = scrub::run(&store, &config, &policy, options, observer, Metrics::new()).await.unwrap();
        let removals = std::mem::take(&mut *told.removals.lock().unwrap());
        let findings = std::mem::take(&mut *told.findings.lock().unwrap());
        Ran { summary, removals, findings }
    }
}

fn walk(root: &Path, at: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(root, &path, found);
        } else {
            found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        }
    }
}

fn directories(at: &Path) -> usize {
    let below = fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    below.map(|path| 1 + directories(&path)).sum()
}

const GARBAGE: &[Pass] = &[Pass::Garbage];
const ALL: &[Pass] = &Pass::ALL;

#[tokio::test]
async fn a_blob_that_nothing_needs_goes_once_it_is_old() {
    let world = World::new().await;
    let needed = world.pushed(b"needed").await;
    world.push(b"not needed").await;
    assert_eq!(world.scrub(GARBAGE).await.removed(), [], "all of it is young");
    world.age();
    let ran = world.scrub(GARBAGE).await;
    assert_eq!(ran.removed(), [(What::Blob, Reason::Unreferenced, 10)]);
    assert_eq!(ran.removals[0].digest, Some(sha256(b"not needed")));
    assert!(ran.summary.freed > 10 && ran.findings.is_empty());
    assert_eq!(world.keys("data/").len(), 1);
    assert_eq!(world.keys("blobs/").len(), 2, "a place and a pin");
    assert_eq!(world.read(&needed).await.unwrap(), b"needed");
}

#[tokio::test]
async fn a_dry_run_tells_what_would_go_and_changes_nothing() {
    let world = World::new().await;
    world.pushed(b"needed").await;
    world.push(b"not needed").await;
    let begun = world.server.start_upload(&name(), Algorithm::Sha256, &by()).await.unwrap();
    world.server.append(&name(), &Upload { id: begun.id, state: None }, chunk(b"half")).await.unwrap();
    world.age();
    let before = world.keys("");
    let dry = world.scrub_with(ALL, |options| options.dry_run = true).await;
    assert_eq!(world.keys(""), before);
    let wet = world.scrub(ALL).await;
    assert_eq!(dry.removed(), wet.removed());
    assert_eq!(dry.removals.len(), 2);
    assert_eq!(dry.summary.freed, wet.summary.freed);
}

#[tokio::test]
async fn bytes_that_a_user_deleted_go_in_their_name() {
    let world = World::new().await;
    let digest = world.push(b"content").await;
    world.server.delete_blob(&name(), &digest, &by()).await.unwrap();
    world.age();
    let ran = world.scrub(GARBAGE).await;
    assert_eq!(ran.removed(), [(What::Blob, Reason::Deleted, 7)]);
    assert_eq!(ran.removals[0].deleted.as_ref().unwrap().by.identity, "ann");
}

#[tokio::test]
async fn of_many_pins_of_a_manifest_one_stays() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    world.image(&digest, 7).await;
    world.age();
    world.image(&digest, 7).await;
    assert_eq!(world.containing("/pin.").len(), 3);
    world.scrub(GARBAGE).await;
    assert_eq!(world.containing("/pin.").len(), 2, "the newest old one and the young one");
    world.age();
    world.scrub(GARBAGE).await;
    assert_eq!(world.containing("/pin.").len(), 1);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
}

#[tokio::test]
async fn a_pin_without_a_manifest_holds_for_a_lease() {
    let world = World::new().await;
    let digest = world.push(b"content").await;
    world.age();
    let store = open(world.root()).await;
    let pin = layout::pin(&digest, &name(), &sha256(b"a manifest that never came"), "0");
    store.put(&pin, "{}").await.unwrap();
    assert_eq!(world.scrub(GARBAGE).await.removed(), []);
    world.age();
    assert_eq!(world.scrub(GARBAGE).await.removed(), [(What::Blob, Reason::Unreferenced, 7)]);
    assert_eq!(world.keys("blobs/"), [""; 0]);
}

#[tokio::test]
async fn of_two_copies_the_smaller_id_stays() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    world.push(b"content").await;
    let places = world.containing("/at.");
    world.age();
    let ran = world.scrub(GARBAGE).await;
    assert_eq!(ran.removed(), [(What::Copy, Reason::Duplicate, 7)]);
    assert_eq!(world.containing("/at."), places[..1]);
    assert_eq!(world.keys("data/").len(), 1);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
    assert_eq!(world.scrub(ALL).await.removed(), []);
}

#[tokio::test]
async fn a_rotten_copy_does_not_stay_for_its_smaller_id() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    world.push(b"content").await;
    let id = layout::place_id(&world.containing("/at.")[0]).unwrap();
    let bytes = &world.keys(&layout::data(&id))[0];
    fs::write(world.root().join(bytes), b"cOntent").unwrap();
    world.age();
    let ran = world.scrub(GARBAGE).await;
    assert_eq!(ran.removed(), []);
    assert_eq!(ran.found(), [Outcome::Repaired]);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
    world.age();
    let ran = world.scrub(ALL).await;
    assert_eq!(ran.removed(), [(What::Copy, Reason::Duplicate, 7)]);
    assert_eq!(ran.found(), []);
    assert_eq!(world.keys("data/").len(), 1);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
}

#[tokio::test]
async fn the_mark_of_a_scrub_that_died_is_mended_and_its_bytes_go() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    let id = layout::place_id(&world.containing("/at.")[0]).unwrap();
    let store = open(world.root()).await;
    store.put(&layout::mark(&id, "0123456789abcdef"), Vec::new()).await.unwrap();
    world.scrub(GARBAGE).await;
    assert_eq!(world.containing("/at.").len(), 1, "the mark is young, and its scrub may be at work");
    world.age();
    assert_eq!(world.scrub(GARBAGE).await.found(), [Outcome::Repaired]);
    assert_eq!(world.containing("/at.").len(), 2);
    world.age();
    let ran = world.scrub(GARBAGE).await;
    assert_eq!(ran.removed(), [(What::Copy, Reason::Duplicate, 7)]);
    assert_eq!(world.keys("data/").len(), 1, "the marked bytes are gone, and the mark");
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
    assert_eq!(world.scrub(ALL).await.found(), []);
}

#[tokio::test]
async fn an_upload_that_went_silent_goes_and_one_that_is_alive_stays() {
    let world = World::new().await;
    let mut uploads = Vec::new();
    for _ in 0..2 {
        let begun = world.server.start_upload(&name(), Algorithm::Sha256, &by()).await.unwrap();
        let upload = Upload { id: begun.id, state: Some(begun.state) };
        world.server.append(&name(), &upload, chunk(b"half of it")).await.unwrap();
        uploads.push(upload);
    }
    world.age();
    let store = open(world.root()).await;
    store.put(&layout::upload_alive(&uploads[1].id, "0"), Vec::new()).await.unwrap();
    let ran = world.scrub(&[Pass::Uploads]).await;
    assert_eq!(ran.removed(), [(What::Upload, Reason::Expired, 10)]);
    assert_eq!(ran.removals[0].reference, Some(uploads[0].id.to_string()));
    assert_eq!(ran.removals[0].repository, Some(name()));
    assert_eq!(world.containing(&uploads[0].id.to_string()), [""; 0]);
    assert_eq!(world.keys(&layout::data(&uploads[1].id)).len(), 1);
}

#[tokio::test]
async fn sessions_without_bytes_and_completed_ones_go() {
    let world = World::new().await;
    let silent = world.server.start_upload(&name(), Algorithm::Sha256, &by()).await.unwrap();
    let begun = world.server.start_upload(&name(), Algorithm::Sha256, &by()).await.unwrap();
    let upload = Upload { id: begun.id, state: Some(begun.state) };
    let digest = sha256(b"content");
    world.server.complete_upload(&name(), &upload, &digest, chunk(b"content"), &by()).await.unwrap();
    world.image(&digest, 7).await;
    world.age();
    let ran = world.scrub(&[Pass::Uploads]).await;
    assert_eq!(ran.removed(), [(What::Upload, Reason::Expired, 0)]);
    assert_eq!(ran.removals[0].reference, Some(silent.id.to_string()));
    assert_eq!(world.keys("uploads/"), [""; 0]);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
}

#[tokio::test]
async fn bytes_that_no_fact_names_go_also_beside_those_of_a_blob() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    let id = layout::place_id(&world.containing("/at.")[0]).unwrap();
    let store = open(world.root()).await;
    let lost = UploadId::random();
    store.put(&layout::segment(&lost, 0, "0123456789abcdef"), "lost").await.unwrap();
    store.put(&layout::segment(&id, 0, "0123456789abcdef"), "failed").await.unwrap();
    assert_eq!(world.scrub(ALL).await.removed(), []);
    assert_eq!(world.keys("data/").len(), 3);
    world.age();
    let ran = world.scrub(ALL).await;
    assert_eq!(ran.removed(), [(What::Blob, Reason::Unreferenced, 4)]);
    assert_eq!(world.keys("data/").len(), 1);
    assert_eq!(ran.found(), []);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
}

#[tokio::test]
async fn bytes_that_two_digests_name_stay_while_one_is_needed() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    let place = &world.containing("/at.")[0];
    let id = layout::place_id(place).unwrap();
    let other = Digest::of(Algorithm::Sha512, b"content");
    let store = open(world.root()).await;
    store.put(&layout::place(&other, &id), fs::read(world.root().join(place)).unwrap()).await.unwrap();
    world.age();
    assert_eq!(world.scrub(GARBAGE).await.removed(), []);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
    for key in world.containing("/in/") {
        fs::remove_file(world.root().join(key)).unwrap();
    }
    assert_eq!(world.scrub(GARBAGE).await.removed(), [(What::Blob, Reason::Unreferenced, 7)]);
    assert_eq!(world.keys("data/"), [""; 0]);
    assert_eq!(world.keys("blobs/"), [""; 0]);
}

#[tokio::test]
async fn bytes_that_are_gone_are_noted_until_they_are_pushed_again() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    world.age();
    fs::remove_file(world.root().join(&world.keys("data/")[0])).unwrap();
    let passes = [Pass::Garbage, Pass::Uploads, Pass::Links];
    let ran = world.scrub(&passes).await;
    let of_bytes = |ran: &Ran| -> Vec<Finding> {
        ran.findings.iter().filter(|finding| finding.key.starts_with("blobs/")).cloned().collect()
    };
    assert_eq!(of_bytes(&ran).len(), 1);
    assert_eq!(of_bytes(&ran)[0].outcome, Outcome::Quarantined);
    let says = &of_bytes(&ran)[0].says;
    assert!(says.contains(&digest.to_string()) && says.contains("a/b") && says.contains("push it again"), "{says}");
    assert!(!ran.summary.is_clean());
    let ran = world.scrub(&passes).await;
    assert_eq!(of_bytes(&ran)[0].outcome, Outcome::Known);
    assert_eq!(world.keys("quarantine/blobs/").len(), 1);
    world.push(b"content").await;
    world.age();
    let ran = world.scrub(&passes).await;
    assert_eq!(of_bytes(&ran)[0].outcome, Outcome::Repaired);
    assert_eq!(ran.removed(), [(What::Copy, Reason::Duplicate, 0)]);
    assert_eq!(world.keys("quarantine/"), [""; 0]);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
}

#[tokio::test]
async fn a_fact_that_is_lost_is_written_again_from_the_bytes() {
    for damage in ["removed", "emptied"] {
        let world = World::new().await;
        let begun = world.server.start_upload(&name(), Algorithm::Sha256, &by()).await.unwrap();
        let mut upload = Upload { id: begun.id, state: Some(begun.state) };
        for part in [b"first ", b"second"] {
            let status = world.server.append(&name(), &upload, chunk(part)).await.unwrap();
            upload.state = Some(status.state);
        }
        let digest = sha256(b"first second");
        world.server.complete_upload(&name(), &upload, &digest, chunk(b""), &by()).await.unwrap();
        world.image(&digest, 12).await;
        let place = world.root().join(&world.containing("/at.")[0]);
        match damage {
            "removed" => fs::remove_file(&place).unwrap(),
            _ => fs::write(&place, b"").unwrap(),
        }
        world.age();
        let ran = world.scrub(&[Pass::Garbage, Pass::Uploads, Pass::Links]).await;
        assert!(ran.found().contains(&Outcome::Repaired), "{damage}: {:?}", ran.findings);
        assert_eq!(ran.removed(), [], "{damage}");
        assert_eq!(world.read(&digest).await.unwrap(), b"first second", "{damage}");
        assert_eq!(world.scrub(ALL).await.found(), [], "{damage}");
    }
}

#[tokio::test]
async fn rot_is_found_noted_and_never_served() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    let bytes = world.root().join(&world.keys("data/")[0]);
    fs::write(&bytes, b"cOntent").unwrap();
    world.age();
    let ran = world.scrub(&[Pass::Content]).await;
    assert_eq!(ran.found(), [Outcome::Quarantined]);
    let says = &ran.findings[0].says;
    assert!(says.contains(&digest.to_string()) && says.contains("a/b") && says.contains("push it again"), "{says}");
    assert!(world.read(&digest).await.is_err());
    assert_eq!(world.scrub(ALL).await.found().into_iter().filter(|found| *found != Outcome::Known).count(), 0);
    // what was rotten only to a controller that failed
    fs::write(&bytes, b"content").unwrap();
    assert_eq!(world.scrub(&[Pass::Content]).await.found(), [Outcome::Repaired]);
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
}

#[tokio::test]
async fn a_rotten_copy_is_not_read_where_there_is_another() {
    let world = World::new().await;
    let digest = world.pushed(b"content").await;
    world.push(b"content").await;
    let id = layout::place_id(&world.containing("/at.")[0]).unwrap();
    fs::write(world.root().join(&world.keys(&layout::data(&id))[0]), b"cOntent").unwrap();
    let ran = world.scrub(&[Pass::Content]).await;
    assert_eq!(ran.found(), [Outcome::Repaired]);
    assert_eq!(ran.summary.verified.number, 3, "both, and the manifest");
    assert_eq!(world.read(&digest).await.unwrap(), b"content");
    assert_eq!(world.scrub(&[Pass::Content]).await.found(), []);
}

#[tokio::test]
async fn a_check_without_time_goes_on_the_next_time() {
    let world = World::new().await;
    let mut rotten = 0;
    for number in 0..5_u8 {
        world.pushed(&[number]).await;
    }
    for key in world.keys("data/") {
        fs::write(world.root().join(&key), b"x").unwrap();
    }
    let mut runs = 0;
    loop {
        let ran = world.scrub_with(&[Pass::Content], |options| options.max_duration = Some(Duration::ZERO)).await;
        rotten += ran.found().iter().filter(|found| **found == Outcome::Quarantined).count();
        assert!(ran.summary.content_left);
        assert_eq!(world.keys("scrub/content/").len(), 1, "one cursor");
        runs += 1;
        if rotten == 5 {
            break;
        }
        assert!(runs < 20, "it does not come around");
    }
    let ran = world.scrub(&[Pass::Content]).await;
    assert!(!ran.summary.content_left);
    assert_eq!(world.keys("scrub/"), [""; 0]);
}

#[tokio::test]
async fn a_large_blob_of_several_segments_is_hashed_as_a_whole() {
    let world = World::new().await;
    let begun = world.server.start_upload(&name(), Algorithm::Sha256, &by()).await.unwrap();
    let mut upload = Upload { id: begun.id, state: Some(begun.state) };
    let part = vec![7_u8; 300_000];
    for _ in 0..4 {
        let status = world.server.append(&name(), &upload, chunk(&part)).await.unwrap();
        upload.state = Some(status.state);
    }
    let digest = sha256(&part.repeat(4));
    world.server.complete_upload(&name(), &upload, &digest, chunk(b""), &by()).await.unwrap();
    let ran = world.scrub(&[Pass::Content]).await;
    assert_eq!((ran.findings.len(), ran.summary.verified.bytes), (0, 1_200_000));
    let last = world.root().join(world.keys("data/").last().unwrap());
    let mut bytes = fs::read(&last).unwrap();
    bytes[299_999] ^= 1;
    fs::write(&last, bytes).unwrap();
    assert_eq!(world.scrub(&[Pass::Content]).await.found(), [Outcome::Quarantined]);
}

#[tokio::test]
async fn a_rotten_manifest_is_written_again_from_another_version() {
    let world = World::new().await;
    let digest = world.push(b"content").await;
    let manifest = world.image(&digest, 7).await;
    let flip = |key: &str| {
        let path = world.root().join(key);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    };
    world.image(&digest, 7).await;
    let versions = world.containing(".put.");
    flip(&versions[0]);
    assert_eq!(world.scrub(&[Pass::Content]).await.found(), [Outcome::Repaired]);
    let server = World::server(world.root()).await;
    server.manifest(&name(), &Reference::Digest(manifest)).await.unwrap();
    for key in &versions {
        flip(key);
    }
    assert_eq!(world.scrub(&[Pass::Content]).await.found(), [Outcome::Quarantined]);
    assert_eq!(world.scrub(&[Pass::Content]).await.found(), [Outcome::Known]);
}

#[tokio::test]
async fn what_is_no_key_of_the_layout_is_told_once_and_stays() {
    let world = World::new().await;
    let strange = ["blobs/what", "data/what/is/this", "uploads/what/0"];
    for key in strange {
        let path = world.root().join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"what").unwrap();
    }
    world.age();
    let ran = world.scrub(&[Pass::Garbage, Pass::Links]).await;
    assert_eq!(ran.found(), [Outcome::Quarantined; 3]);
    let ran = world.scrub(&[Pass::Garbage, Pass::Links]).await;
    assert_eq!(ran.found(), [Outcome::Known; 3]);
    assert!(strange.iter().all(|key| world.root().join(key).exists()));
}

/// Lets the directories below be three days old.
fn old(at: &Path) {
    for path in fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        old(&path);
        fs::File::open(&path).unwrap().set_modified(SystemTime::now() - Duration::from_hours(72)).unwrap();
    }
}

#[tokio::test]
async fn directories_that_are_empty_go_and_what_was_left_behind() {
    let world = World::new().await;
    world.push(b"content").await;
    let left = world.root().join(".tmp/0123456789abcdef-0");
    fs::write(&left, b"left behind").unwrap();
    world.age();
    fs::File::open(&left).unwrap().set_modified(SystemTime::now() - Duration::from_hours(72)).unwrap();
    world.scrub(GARBAGE).await;
    assert!(!left.exists());
    assert!(directories(world.root()) > 2, "directories that became empty just now stay");
    old(world.root());
    let ran = world.scrub(GARBAGE).await;
    assert!(ran.summary.removed[&What::Housekeeping][&Reason::Empty].number > 5);
    assert_eq!(directories(world.root()), 3, ".tmp, and those of the clock, which was just written to");
    world.pushed(b"content").await;
}
