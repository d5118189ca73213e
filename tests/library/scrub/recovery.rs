//! The page about damage, `docs/how-to/recover-from-damage.md`, step by step on stores that were damaged at random.

use std::fs;

use crate::scrub::world::{age, copy, full, keys, name, push_blob, read, rejuvenate, scrub_with, server};
use simple_registry::{
    oci::{Digest, Reference},
    records::Actor,
    registry::{PutManifest, Registry},
    scrub::{Outcome, Pass},
};

/// Images as their pushers have them: repository, manifest and blobs, children before their index.
struct Pushed {
    repository: &'static str,
    tag: String,
    manifest: bytes::Bytes,
    blobs: Vec<Vec<u8>>,
}

const TAGS: [(&str, &[&str]); 2] = [("team/app", &["v1", "v2", "moved", "multi", "fixed"]), ("other", &["latest"])];

/// Returns all images that the tags of a sound store name.
async fn pushed(server: &Registry) -> Vec<Pushed> {
    let mut images = Vec::new();
    for (repository, tags) in TAGS {
        let of = name(repository);
        for tag in tags {
            let stored = server.manifests.get(&of, &Reference::Tag(tag.parse().unwrap())).await.unwrap();
            let manifest = simple_registry::oci::Manifest::parse(Some(&stored.media_type), &stored.bytes).unwrap();
            let mut blobs = Vec::new();
            for blob in &manifest.blobs {
                blobs.push(bytes_of(server, &of, &blob.digest).await);
            }
            images.push(Pushed { repository, tag: (*tag).to_owned(), manifest: stored.bytes.clone(), blobs });
        }
    }
    // an index after what it lists
    images.sort_by_key(|image| image.blobs.is_empty());
    images
}

async fn bytes_of(server: &Registry, of: &simple_registry::oci::Name, digest: &Digest) -> Vec<u8> {
    use futures::TryStreamExt as _;
    let blob = server.blobs.get(of, digest).await.unwrap();
    let stream = server.blobs.read(of, &blob, None).await.unwrap();
    stream.map_ok(|chunk| chunk.to_vec()).try_concat().await.unwrap()
}

/// Pushes an image as clients do: what a `HEAD` says is there is not pushed.
async fn push(server: &Registry, image: &Pushed) {
    let (of, by) = (name(image.repository), Actor::default());
    for blob in &image.blobs {
        let digest = crate::scrub::world::sha256(blob);
        if server.blobs.get_to_rely_on(&of, &digest, &by).await.is_err() {
            assert_eq!(push_blob(server, &of, blob).await, digest);
        }
    }
    let tags = vec![image.tag.parse().unwrap()];
    let reference = Reference::Digest(crate::scrub::world::sha256(&image.manifest));
    let put = PutManifest { reference, tags, media_type: None, bytes: image.manifest.clone() };
    server.manifests.put(&of, &put, &by).await.unwrap();
}

/// Numbers that look random and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((self.0 >> 33) % most as u64).unwrap()
    }
}

/// Damages a few objects: bytes, manifests and records.
fn damage(root: &std::path::Path, random: &mut Random) -> Vec<String> {
    let at_risk = |key: &String| {
        key.starts_with("data/") || key.starts_with("blobs/") || (key.contains("!/manifests/") && key.contains(".put."))
    };
    let all: Vec<String> = keys(root).into_iter().filter(at_risk).collect();
    let mut done = Vec::new();
    for _ in 0..=random.below(4) {
        let key = &all[random.below(all.len())];
        let path = root.join(key);
        let Ok(mut bytes) = fs::read(&path) else { continue };
        let what = random.below(4);
        match what {
            0 => bytes.truncate(bytes.len() / 2),
            1 => bytes.clear(),
            2 if !bytes.is_empty() => {
                let at = random.below(bytes.len());
                bytes[at] ^= 1;
            }
            _ => {
                fs::remove_file(&path).unwrap();
                done.push(format!("removed {key}"));
                continue;
            }
        }
        fs::write(&path, bytes).unwrap();
        done.push(format!("{} {key}", ["cut", "emptied", "flipped a bit of"][what]));
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_steps_of_the_page_the_store_is_whole() {
    let first: u64 = std::env::var("DAMAGE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let number = std::env::var("DAMAGE_SEEDS").ok().and_then(|number| number.parse().ok()).unwrap_or(30);
    let sound = full().await;
    let images = pushed(&server(sound.path()).await).await;
    for seed in first..first + number {
        for young in [false, true] {
            let store = copy(sound.path());
            let root = store.path();
            if young {
                rejuvenate(root);
            }
            let done = damage(root, &mut Random(seed));
            let told = format!("DAMAGE_SEED={seed} DAMAGE_SEEDS=1, young: {young}: {done:?}");
            if !young {
                age(root);
            }
            // "let scrub repair what it can", then "push the image again"
            scrub_with(root, &crate::scrub::world::config(), |_| {})
                .await
                .unwrap_or_else(|error| panic!("{told}: {error}"));
            let client = server(root).await;
            for image in &images {
                push(&client, image).await;
            }
            for image in &images {
                let of = name(image.repository);
                let tag = Reference::Tag(image.tag.parse().unwrap());
                let seen =
                    server(root).await.manifests.get(&of, &tag).await.unwrap_or_else(|error| panic!("{told}: {error}"));
                assert_eq!(seen.bytes, image.manifest, "{told}");
                for blob in &image.blobs {
                    let digest = crate::scrub::world::sha256(blob);
                    let read = read(&server(root).await, &of, &digest).await;
                    assert_eq!(read.unwrap_or_else(|error| panic!("{told}: {error}")), digest);
                }
            }
            // faults that are left were known before, and belong to no image
            age(root);
            let (summary, after) = scrub_with(root, &crate::scrub::world::config(), |_| {}).await.unwrap();
            let wrong: Vec<_> = after.news().into_iter().filter(|news| news.outcome != Outcome::Repaired).collect();
            assert!(wrong.is_empty() && summary.is_clean(), "{told}: {wrong:?}");
        }
    }
}

#[tokio::test]
async fn scrub_reports_damage_whatever_its_age_and_counts_objects_that_are_too_young() {
    let sound = full().await;
    let store = copy(sound.path());
    let root = store.path();
    for key in keys(root) {
        let path = root.join(&key);
        let mut bytes = fs::read(&path).unwrap();
        if key.starts_with("data/") && bytes.len() > 1 {
            bytes.truncate(bytes.len() - 1);
        }
        fs::write(&path, bytes).unwrap();
    }
    for passes in [&[Pass::Links][..], &[Pass::Content], &Pass::ALL] {
        let at = copy(root);
        rejuvenate(at.path());
        let (summary, told) = scrub_with(at.path(), &crate::scrub::world::config(), |options| {
            options.passes = passes.iter().copied().collect();
        })
        .await
        .unwrap();
        let bad = told.findings().iter().filter(|finding| finding.outcome == Outcome::Quarantined).count();
        assert!(bad >= 8, "{passes:?}: each blob that a manifest needs: {:?}", told.findings());
        assert!(!summary.is_clean());
        assert!(summary.too_young > 0 || !passes.contains(&Pass::Links), "{passes:?}: {summary:?}");
        let stored = |root: &std::path::Path| -> Vec<String> {
            keys(root).into_iter().filter(|key| key.starts_with("data/") && !key.contains('!')).collect()
        };
        assert_eq!(stored(at.path()), stored(root), "{passes:?}: nothing young is freed");
    }
}

#[tokio::test]
async fn scrub_tells_of_a_key_that_is_none_of_the_layout_whatever_its_age() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    crate::scrub::world::push_image(&server(root).await, &name("team/app"), "one", &["v1"], None).await;
    let strange = ["blobs/what", "catalog/what", "repos/team/app!/what/it", "repos/what", "uploads/what"];
    let store = crate::scrub::world::store(root).await;
    for key in strange {
        store.put(key, Vec::new()).await.unwrap();
    }
    let (_, told) = scrub_with(root, &crate::scrub::world::config(), |options| options.passes = [Pass::Links].into())
        .await
        .unwrap();
    let mut found: Vec<String> = told.news().into_iter().map(|finding| finding.key).collect();
    found.sort();
    assert_eq!(found, strange);
}
