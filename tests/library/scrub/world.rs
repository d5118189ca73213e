//! A small store in a directory that has every kind of object, what clients see of it, and time that passes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::TryStreamExt as _;
use simple_registry::{
    action::{Page, Upload},
    config::Config,
    memory::Memory,
    oci::{Algorithm, Digest, MediaType, Name, Reference, Tag},
    policy::Policy,
    records::Actor,
    registry::{Options, PutManifest, Registry, VerifyPulls},
    scrub::{self, Event, Finding, Observer, Outcome, Pass, Removal, Summary},
    storage::{Location, Store},
    telemetry::Metrics,
};

pub(crate) use crate::support::{chunk, sha256};

/// The lease of servers and scrubs in these tests.
const LEASE: Duration = Duration::from_secs(10);
/// The age that [`age`] gives to objects: longer than a lease and than any grace, shorter than the trash.
const AGO: Duration = Duration::from_hours(72);

/// Opens the store in `root`.
pub(crate) async fn store(root: &Path) -> Store {
    let location = Location::Directory { root: root.to_owned(), durable: false, chunk: 1 << 16 };
    Store::open(&location, &Memory::new(64 << 20), Metrics::new()).await.unwrap()
}

/// Returns a server without caches on the store in `root`.
pub(crate) async fn server(root: &Path) -> Registry {
    server_with(root, |_| {}).await
}

/// Returns a server on the store in `root` with other options.
pub(crate) async fn server_with(root: &Path, change: impl FnOnce(&mut Options)) -> Registry {
    server_on(store(root).await, change)
}

/// Returns a server on an open store.
pub(crate) fn server_on(store: Store, change: impl FnOnce(&mut Options)) -> Registry {
    let mut options = Options {
        lease: LEASE,
        cache_ttl: Duration::ZERO,
        max_blob_size: 1 << 30,
        allow_missing_references: false,
        verify_pulls: VerifyPulls::OneIn(1),
    };
    change(&mut options);
    Registry::new(store, options, Metrics::new())
}

/// Returns the configuration of scrub.
pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.scrub.upload_expiry = LEASE;
    config.scrub.grace = Duration::ZERO;
    config
}

/// Returns the paths of all files below `root`, relative to `root`.
pub(crate) fn keys(root: &Path) -> Vec<String> {
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
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.retain(|key| !key.starts_with(".tmp/"));
    found.sort();
    found
}

/// Returns all files below `root` with their content.
pub(crate) fn content(root: &Path) -> BTreeMap<String, Vec<u8>> {
    keys(root).into_iter().map(|key| (key.clone(), fs::read(root.join(key)).unwrap())).collect()
}

/// Lets time pass for everything that is in the store.
pub(crate) fn age(root: &Path) {
    for key in keys(root) {
        age_one(&root.join(key));
    }
}

/// Makes everything that is in the store as if it had been written just now.
pub(crate) fn rejuvenate(root: &Path) {
    for key in keys(root) {
        let file = fs::File::options().write(true).open(root.join(key)).unwrap();
        file.set_modified(SystemTime::now()).unwrap();
    }
}

pub(crate) fn age_one(path: &Path) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - AGO).unwrap();
}

/// Copies the store in `root`.
pub(crate) fn copy(root: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for key in keys(root) {
        let to = copy.path().join(&key);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(root.join(&key), &to).unwrap();
        age_one(&to);
    }
    copy
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

pub(crate) async fn push_blob(server: &Registry, to: &Name, bytes: &[u8]) -> Digest {
    let digest = sha256(bytes);
    server.uploads.put_blob(to, &digest, chunk(bytes), &Actor::default()).await.unwrap();
    digest
}

/// Pushes an image of one config and one layer, which are `what`, under `tags`.
pub(crate) async fn push_image(
    server: &Registry,
    to: &Name,
    what: &str,
    tags: &[&str],
    subject: Option<&Digest>,
) -> Digest {
    let (config, layer) = (format!("{{\"config\":\"{what}\"}}"), format!("the layer of {what}").repeat(100));
    let mut blobs = Vec::new();
    for (kind, bytes) in
        [("application/vnd.oci.image.config.v1+json", &config), ("application/vnd.oci.image.layer.v1.tar", &layer)]
    {
        let digest = push_blob(server, to, bytes.as_bytes()).await;
        blobs.push(format!(r#"{{"mediaType":"{kind}","size":{},"digest":"{digest}"}}"#, bytes.len()));
    }
    let subject = subject.map_or(String::new(), |subject| {
        format!(r#","subject":{{"mediaType":"{}","size":1,"digest":"{subject}"}}"#, MediaType::OCI_MANIFEST)
    });
    let kind = MediaType::OCI_MANIFEST;
    let bytes =
        format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{},"layers":[{}]{subject}}}"#, blobs[0], blobs[1]);
    put(server, to, &bytes, tags).await
}

/// Pushes an index over one manifest.
pub(crate) async fn push_index(server: &Registry, to: &Name, child: &Digest, tags: &[&str]) -> Digest {
    let size = server.manifests.get(to, &Reference::Digest(*child)).await.unwrap().bytes.len();
    let (kind, of) = (MediaType::OCI_INDEX, MediaType::OCI_MANIFEST);
    let bytes = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{{"mediaType":"{of}","size":{size},"digest":"{child}"}}]}}"#
    );
    put(server, to, &bytes, tags).await
}

/// Pushes a manifest.
pub(crate) async fn put(server: &Registry, to: &Name, bytes: &str, tags: &[&str]) -> Digest {
    let reference = Reference::Digest(sha256(bytes));
    let tags = tags.iter().map(|text| tag(text)).collect();
    let put = PutManifest { reference, tags, media_type: None, bytes: Bytes::copy_from_slice(bytes.as_bytes()) };
    server.manifests.put(to, &put, &Actor::default()).await.unwrap().digest
}

/// Makes a store that has every kind of object which servers write. All of it is old.
pub(crate) async fn full() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let server = server(root).await;
    let (app, other, by) = (name("team/app"), name("other"), Actor::default());
    let image = push_image(&server, &app, "one", &["v1", "moved"], None).await;
    push_image(&server, &app, "two", &["v2", "moved"], None).await;
    push_image(&server, &app, "signature", &[], Some(&image)).await;
    push_index(&server, &app, &image, &["multi"]).await;
    // a tag that was deleted, a manifest that was, and a referrer that was
    push_image(&server, &app, "three", &["gone"], None).await;
    server.tags.delete(&app, &tag("gone"), &by).await.unwrap();
    let dead = push_image(&server, &app, "four", &["dead"], Some(&image)).await;
    server.manifests.delete(&app, &dead, &by).await.unwrap();
    // a blob that is in two repositories, and one that was deleted from one
    let layer = sha256("the layer of one".repeat(100).as_bytes());
    assert!(server.blobs.mount(&other, &layer, Some(&app), |_| true, &by).await.unwrap().is_some());
    let left = push_blob(&server, &other, b"to be deleted").await;
    server.blobs.delete(&other, &left, &by).await.unwrap();
    push_image(&server, &other, "five", &["latest"], None).await;
    // scrub moves former meanings of tags into history; then the server records pulls
    age(root);
    scrub(root, false).await.unwrap();
    server.pulls.note(&app, &Reference::Tag(tag("v1")), &image);
    server.pulls.record().await.unwrap();
    let bytes = server.manifests.get(&app, &Reference::Digest(image)).await.unwrap().bytes.clone();
    let again = PutManifest { reference: Reference::Tag(tag("fixed")), tags: vec![], media_type: None, bytes };
    server.manifests.put_under(&app, &again, &|_| true, &by).await.unwrap();
    push_image(&server, &app, "two", &["moved", "gone"], None).await;
    server.tags.delete(&app, &tag("gone"), &by).await.unwrap();
    let left = push_blob(&server, &other, b"to be deleted as well").await;
    server.blobs.delete(&other, &left, &by).await.unwrap();
    // an upload that went silent
    let begun = server.uploads.start(&app, Algorithm::Sha256, "", &by).await.unwrap();
    let upload = Upload { id: begun.id, state: Some(begun.state) };
    server.uploads.append(&app, &upload, chunk(b"half of it")).await.unwrap();
    age(root);
    directory
}

/// Returns the view of clients: for each question the answer, or the reason why there is none.
pub(crate) async fn view(root: &Path) -> BTreeMap<String, String> {
    let server = server(root).await;
    let mut view = BTreeMap::new();
    let mut saw = |what: String, outcome: Result<String, simple_registry::registry::Error>| {
        let outcome = outcome.unwrap_or_else(|error| match error {
            simple_registry::registry::Error::Storage(_) => "damaged".to_owned(),
            _ => "absent".to_owned(),
        });
        view.insert(what, outcome);
    };
    let page = || Page { n: None, last: None };
    let catalog = server.catalog.list(&Page { n: None, last: None }, &[""], |_| true).await;
    saw("catalog".to_owned(), catalog.map(|listed| format!("{:?}", listed.entries)));
    for (repository, tags) in
        [("team/app", &["v1", "v2", "moved", "multi", "gone", "dead", "fixed"][..]), ("other", &["latest"])]
    {
        let of = name(repository);
        let listed = server.tags.list(&of, &Page { n: None, last: None }).await;
        saw(format!("tags of {repository}"), listed.map(|listed| format!("{:?}", listed.entries)));
        for text in tags {
            let manifest = server.manifests.get(&of, &Reference::Tag(tag(text))).await;
            saw(format!("{repository}:{text}"), manifest.map(|manifest| manifest.digest.to_string()));
        }
    }
    let app = name("team/app");
    for what in ["one", "two", "signature", "three", "four"] {
        for bytes in [format!("{{\"config\":\"{what}\"}}"), format!("the layer of {what}").repeat(100)] {
            let digest = sha256(&bytes);
            saw(
                format!("blob {digest} of {what}"),
                read(&server, &app, &digest).await.map(|digest| digest.to_string()),
            );
        }
    }
    let image = server.manifests.get(&app, &Reference::Tag(tag("v1"))).await.map(|manifest| manifest.digest);
    if let Ok(image) = image {
        let referrers = server.referrers.list(&app, &image, None, &page()).await;
        saw("referrers".to_owned(), referrers.map(|referrers| format!("{:?}", referrers.descriptors)));
    }
    view
}

pub(crate) async fn read(
    server: &Registry,
    of: &Name,
    digest: &Digest,
) -> Result<Digest, simple_registry::registry::Error> {
    let blob = server.blobs.get(of, digest).await?;
    let stream = server.blobs.read(of, &blob, None).await?;
    let bytes = stream.map_ok(|chunk| chunk.to_vec()).try_concat().await?;
    Ok(sha256(&bytes))
}

/// The events and the progress that a run reported.
#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<Event>>, Mutex<Vec<(Pass, u64, u64)>>);

impl Observer for Told {
    fn event(&self, event: &Event) -> Result<(), String> {
        self.0.lock().unwrap().push(event.clone());
        Ok(())
    }

    fn progress(&self, pass: Pass, done: u64, total: u64) {
        self.1.lock().unwrap().push((pass, done, total));
    }
}

impl Told {
    /// Returns the progress that a pass reported: each time the number done and the estimated total.
    pub(crate) fn progress_of(&self, pass: Pass) -> Vec<(u64, u64)> {
        let said = self.1.lock().unwrap();
        said.iter().filter(|(of, ..)| *of == pass).map(|(_, done, total)| (*done, *total)).collect()
    }

    pub(crate) fn removals(&self) -> Vec<Removal> {
        let events = self.0.lock().unwrap();
        events
            .iter()
            .filter_map(|event| if let Event::Removal(removal) = event { Some(removal.clone()) } else { None })
            .collect()
    }

    pub(crate) fn findings(&self) -> Vec<Finding> {
        let events = self.0.lock().unwrap();
        events
            .iter()
            .filter_map(|event| if let Event::Finding(finding) = event { Some(finding.clone()) } else { None })
            .collect()
    }

    /// Returns the findings that no earlier run has reported.
    pub(crate) fn news(&self) -> Vec<Finding> {
        self.findings().into_iter().filter(|finding| finding.outcome != Outcome::Known).collect()
    }
}

/// Scrubs with all passes.
pub(crate) async fn scrub(root: &Path, dry_run: bool) -> Result<(Summary, Arc<Told>), scrub::Failed> {
    scrub_with(root, &config(), |options| options.dry_run = dry_run).await
}

/// Scrubs by this configuration, with all passes unless `change` says otherwise.
pub(crate) async fn scrub_with(
    root: &Path,
    config: &Config,
    change: impl FnOnce(&mut scrub::Options),
) -> Result<(Summary, Arc<Told>), scrub::Failed> {
    scrub_on(&store(root).await, config, change).await
}

/// Scrubs a store that is open.
pub(crate) async fn scrub_on(
    store: &Store,
    config: &Config,
    change: impl FnOnce(&mut scrub::Options),
) -> Result<(Summary, Arc<Told>), scrub::Failed> {
    let told = Arc::new(Told::default());
    let observer = Arc::<Told>::clone(&told);
    let summary = scrub_before(observer, store, config, change).await?;
    Ok((summary, told))
}

/// Scrubs a store that is open, and reports to `observer`.
pub(crate) async fn scrub_before(
    observer: Arc<dyn Observer>,
    store: &Store,
    config: &Config,
    change: impl FnOnce(&mut scrub::Options),
) -> Result<Summary, scrub::Failed> {
    let policy = Policy::build(config, &[]).unwrap();
    let mut options = scrub::Options {
        dry_run: false,
        passes: Pass::ALL.into_iter().collect(),
        repository: None,
        verify_percent: 100,
        max_duration: None,
    };
    change(&mut options);
    scrub::run(store, config, &policy, options, observer, Metrics::new()).await
}

/// Writes a configuration file for a store in `root`.
pub(crate) fn configuration(beside: &Path, root: &Path, more: &str) -> PathBuf {
    let file = beside.join("config.toml");
    fs::write(
        &file,
        format!(
            "[storage.fs]\nroot_dir = \"{}\"\n[scrub]\nupload_expiry = \"10s\"\ngrace = \"0s\"\n{more}",
            root.display()
        ),
    )
    .unwrap();
    file
}
