//! The ages of manifests of caches, by which rules and the cooldown decide.

use std::{path::PathBuf, sync::Arc, time::Duration};

use simple_registry::{mirror::Served, oci::Digest};

use super::{
    Error, Server, answer,
    manifests::{index, whole},
    world::{COOLDOWN, Exempt, HOUR, World, about, forget, silent, text},
};
use crate::support::sha256;

impl Server {
    /// Pulls a manifest. Returns the time by which rules judge it.
    async fn age(&self, reference: &str) -> u64 {
        let (digest, _) = self.pulled(reference).await;
        self.mirror.first_seen(&self.request(false), &reference.parse().unwrap(), &digest).await.unwrap()
    }

    async fn without_look_here(&self, reference: &str, exempt: Exempt<'_>) -> Result<(Digest, Served), Error> {
        let pull = self.request(false);
        let answered = self.mirror.manifest(&pull, &reference.parse().unwrap(), exempt).await?;
        Ok((answered.value.digest, answered.served))
    }
}

#[tokio::test]
async fn rules_judge_a_digest_by_what_leads_to_it() {
    let mut world = World::new().await;
    world.set(|namespace| namespace.cooldown = Duration::ZERO);
    let leaf = index(1, &[]);
    let inner = index(2, &[&leaf]);
    let outer = index(3, &[&inner]);
    let signature = about(&outer);
    let signed = format!("sha256-{}.sig", sha256(&outer).hex());
    let by_tag = index(4, &[]);
    for (tag, manifest) in
        [("latest", &outer), ("inner", &inner), ("leaf", &leaf), ("signed", &signature), (&signed, &by_tag)]
    {
        world.hub.has(tag, manifest);
    }
    let began = world.clock.time_ms();
    assert_eq!(world.server.age("latest").await, began);
    world.clock.advance(COOLDOWN);
    for manifest in [&inner, &leaf, &signature] {
        assert_eq!(world.server.age(&text(manifest)).await, began);
    }
    assert_eq!(world.server.age(&signed).await, began);
    // many clients find the digest by the tag, and ask for the digest
    assert_eq!(world.other().age(&text(&by_tag)).await, began);
    // another tag leads to nothing
    for tag in ["inner", "leaf", "signed"] {
        assert_eq!(world.server.age(tag).await, began + 72 * 3_600_000, "{tag}");
    }
}

fn record(world: &World, digest: &Digest) -> PathBuf {
    world.directory.path().join(format!("repos/hub/app!/first-seen/sha256/{}/at", digest.hex()))
}

#[tokio::test]
async fn a_manifest_that_was_here_before_keeps_its_age_where_only_the_bytes_tell_the_digest() {
    let mut world = World::new().await;
    let first = index(1, &[]);
    world.hub.on("latest", silent(first.clone()));
    world.set(|namespace| namespace.cooldown = Duration::ZERO);
    let began = world.clock.time_ms();
    world.server.pulled("latest").await;
    world.clock.advance(COOLDOWN);
    forget(&world);
    let other = world.other();
    assert_eq!(other.pulled("latest").await, (sha256(&first), Served::Miss));
    assert_eq!(other.seen(&sha256(&first)).await, Some(began));
}

#[tokio::test]
async fn a_manifest_that_was_here_before_keeps_its_age_if_another_tag_comes_to_mean_it() {
    let mut world = World::new().await;
    let first = index(1, &[]);
    world.hub.has("v1", &first);
    world.set(|namespace| namespace.cooldown = Duration::ZERO);
    let began = world.clock.time_ms();
    world.server.pulled("v1").await;
    world.clock.advance(HOUR);
    forget(&world);
    let mut other = world.other();
    Arc::get_mut(&mut other.cached.namespace).unwrap().cooldown = Duration::ZERO;
    world.hub.has("v1.0", &first);
    assert_eq!(other.pulled("v1.0").await, (sha256(&first), Served::Hit));
    // scrub frees the older version, which has the time too
    assert!(record(&world, &sha256(&first)).exists());
    assert_eq!(other.seen(&sha256(&first)).await, Some(began));
}

#[tokio::test]
async fn a_client_with_an_exception_gets_the_former_manifest_if_the_younger_cannot_be_had() {
    let world = World::new().await;
    let (old, new) = (index(1, &[]), index(2, &[]));
    world.has_old("latest", &old).await;
    let head = new.clone();
    world.hub.on("latest", move |seen| whole(seen, &head));
    world.hub.on(&text(&new), |_| answer(503, &[], b""));
    let exempt: Exempt<'_> = &|_, _| true;
    assert_eq!(world.server.pulled("latest").await, (sha256(&old), Served::Hit));
    assert_eq!(world.server.without_look_here("latest", exempt).await.unwrap(), (sha256(&old), Served::Stale));
    let mut strict = world.other();
    Arc::get_mut(&mut strict.cached.namespace).unwrap().stale_if_error = false;
    let refused = strict.without_look_here("latest", exempt).await.unwrap_err();
    assert!(matches!(refused, Error::Unanswered { .. }), "{refused:?}");
}
