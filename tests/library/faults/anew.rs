//! A cached manifest that is stored so slowly that scrub frees the blobs under it. The bytes come back, but to another
//! repository.

use std::time::Duration;

use bytes::Bytes;
use opendal::Operator;
use simple_registry::{
    oci::{Digest, MediaType},
    records::{
        ManifestHeader,
        key::{Prefix, Version},
    },
    registry::{CachedManifest, Clock, Error, Options, Registry, VerifyPulls},
    storage::{
        Store,
        disk::{self, DiskOptions},
    },
    telemetry::Metrics,
};

use crate::faults::{
    layer::{Fault, Plan},
    world::{ONE_OF_TWO, World, by, chunk, name, sha256},
};

const LEASE: Duration = Duration::from_hours(24);
const CONFIG: &[u8] = b"config";

fn operator(world: &World) -> Operator {
    disk::operator(world.directory.path(), DiskOptions { durable: false, ..DiskOptions::default() }).unwrap()
}

fn image() -> Bytes {
    let (digest, size) = (sha256(CONFIG), CONFIG.len());
    let config =
        format!(r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","size":{size},"digest":"{digest}"}}"#);
    format!(r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[]}}"#, MediaType::OCI_MANIFEST).into()
}

/// Frees each blob, and gives its bytes to another repository.
async fn free_blobs(world: &World) {
    for folder in ["blobs/", "data/"] {
        for entry in operator(world).list_with(folder).recursive(true).await.unwrap() {
            if entry.metadata().is_file() {
                operator(world).delete(entry.path()).await.unwrap();
            }
        }
    }
    let private = "private".parse().unwrap();
    let other = world.server(ONE_OF_TWO);
    other.uploads.put_blob(&private, &sha256(CONFIG), chunk(&Bytes::from_static(CONFIG)), &by()).await.unwrap();
}

/// Caches an image whose config is here. Before its `nth` operation the server waits for a lease, in which the config
/// goes. Returns the headers of the versions, newest first, or `None` if there are fewer operations.
async fn cache_slowly(nth: usize) -> Option<Vec<ManifestHeader>> {
    let (world, clock) = (World::new(), Clock::by_hand_alone());
    let store = Store::over(operator(&world).layer(world.faults.clone()), None, Metrics::new());
    let options = Options {
        lease: LEASE,
        cache_ttl: Duration::ZERO,
        max_blob_size: 1 << 30,
        allow_missing_references: false,
        verify_pulls: VerifyPulls::None,
    };
    let server = Registry::new(store.with_clock(clock.clone()), options, Metrics::new());
    server.uploads.put_blob(&name(), &sha256(CONFIG), chunk(&Bytes::from_static(CONFIG)), &by()).await.unwrap();
    let (bytes, media_type) = (image(), MediaType::OCI_MANIFEST.parse().unwrap());
    let manifest = CachedManifest { digest: sha256(&bytes), media_type, bytes, tag: Some("latest".parse().unwrap()) };
    world.faults.arm(Plan { fault: Fault::Waits, nth, lasting: false });
    let mut has_waited = false;
    {
        let caching = async {
            let done = server.manifests.put_cached(&name(), &manifest, &by()).await;
            assert!(matches!(done, Ok(_) | Err(Error::TooSlow)), "{nth}: {done:?}");
        };
        let scrub = async {
            world.faults.stalled().await;
            has_waited = true;
            clock.advance(LEASE);
            free_blobs(&world).await;
            world.faults.heal();
            std::future::pending::<()>().await;
        };
        tokio::select! { () = caching => {}, () = scrub => {} }
    }
    if !has_waited {
        return None;
    }
    let read = world.server(ONE_OF_TWO).blobs.get(&name(), &sha256(CONFIG)).await;
    assert!(matches!(read, Err(Error::BlobUnknown { .. })), "{nth}: a repository has the blob of another: {read:?}");
    Some(headers(&world, &manifest.digest).await)
}

async fn headers(world: &World, manifest: &Digest) -> Vec<ManifestHeader> {
    let versions = Prefix::Manifest(&name(), manifest).to_string();
    let mut headers = Vec::new();
    for entry in operator(world).list_with(&versions).recursive(true).await.unwrap() {
        if Version::at_end_of(entry.path()).is_some() {
            let content = operator(world).read(entry.path()).await.unwrap().to_bytes();
            headers.push(ManifestHeader::split(&content).unwrap().0);
        }
    }
    headers
}

#[tokio::test]
async fn a_cached_manifest_that_took_too_long_links_nothing_from_before() {
    let mut begun_anew = 0;
    for nth in 0.. {
        let Some(headers) = Box::pin(cache_slowly(nth)).await else {
            assert!(nth > 5, "{nth}");
            break;
        };
        if let [newest, older @ ..] = &headers[..]
            && older.iter().any(|header| header.absent.is_empty())
        {
            assert!(newest.anew, "{nth}: {headers:?}");
            assert_eq!(newest.absent, [sha256(CONFIG)], "{nth}");
            begun_anew += 1;
        }
    }
    assert!(begun_anew > 0, "a version from before the wait names the config as its own");
}
