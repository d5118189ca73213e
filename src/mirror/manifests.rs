//! Manifests of caches, by tag and by digest.

use std::{sync::Arc, time::Duration};

use tracing::Instrument as _;

use super::{Answered, Error, Mirror, Result, Served};
use crate::{
    oci::{Digest, Name, Reference, Tag},
    registry::{self, Actor, CachedManifest, StoredManifest},
    upstream::{Cached, FetchedManifest, Kind, Upstreams},
};

/// The time since boot when an upstream was last asked for the meaning of a tag, and answered.
pub(super) type Asked = Duration;

/// A question without an answer: the time since boot at its end, and the error.
pub(super) type Failed = (Duration, Error);

/// A request for a manifest of a cache.
#[derive(Clone)]
pub struct ManifestPull {
    /// The upstreams.
    pub cached: Cached,
    /// The repository.
    pub name: Name,
    /// The largest size of a manifest that is fetched, in bytes.
    pub largest: u64,
    /// Tells whether a tag is immutable.
    pub immutable: Arc<dyn Fn(&Tag) -> bool + Send + Sync>,
    /// The author of the records.
    pub by: Actor,
}

impl Mirror {
    /// Returns the manifest that a tag or digest means, if it is here and no upstream needs to be asked.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn manifest_here(
        &self,
        pull: &ManifestPull,
        reference: &Reference,
    ) -> Result<Option<Answered<Arc<StoredManifest>>>> {
        if let Reference::Tag(tag) = reference
            && !self.is_trusted(pull, tag, self.registry.clock().since_boot())
        {
            return Ok(None);
        }
        Ok(self.stored(&pull.name, reference).await?.map(Answered::hit))
    }

    /// Returns the manifest that a tag or digest means, from an upstream if need be. The question to the upstream goes on
    /// if the caller leaves: others wait for its outcome, and it tells whether the upstream answers at all.
    ///
    /// # Errors
    /// [`Error::Unanswered`] if it is not here, and no upstream gives it.
    pub async fn manifest(
        self: &Arc<Self>,
        pull: &ManifestPull,
        reference: &Reference,
    ) -> Result<Answered<Arc<StoredManifest>>> {
        let began = self.registry.clock().since_boot();
        let turn = self.turns.take((pull.name.clone(), reference.clone())).await;
        let (mirror, pull, reference) = (Arc::clone(self), pull.clone(), reference.clone());
        let question = async move {
            let _turn = turn;
            match &reference {
                Reference::Digest(digest) => mirror.by_digest(&pull, digest, began).await,
                Reference::Tag(tag) => mirror.by_tag(&pull, tag, began).await,
            }
        };
        tokio::spawn(question.in_current_span())
            .await
            .unwrap_or_else(|_| Err(Error::Unfinished("its task ended".to_owned())))
    }

    /// Returns a manifest that is here. A damaged one counts as absent, so that an upstream heals it.
    async fn stored(&self, name: &Name, reference: &Reference) -> Result<Option<Arc<StoredManifest>>> {
        match self.registry.manifests.get(name, reference).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(registry::Error::ManifestUnknown { .. }) => Ok(None),
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn by_digest(
        &self,
        pull: &ManifestPull,
        digest: &Digest,
        began: Duration,
    ) -> Result<Answered<Arc<StoredManifest>>> {
        let reference = Reference::Digest(*digest);
        if let Some(manifest) = self.stored(&pull.name, &reference).await? {
            return Ok(Answered::hit(manifest));
        }
        let key = (pull.name.clone(), reference.clone());
        let upstreams = &pull.cached.namespace.upstreams;
        self.unless_failed(key, began, Box::pin(self.fetch(pull, upstreams, &reference, None))).await
    }

    /// Returns whether the meaning that a tag has here holds for a request of a time, without a question.
    fn is_trusted(&self, pull: &ManifestPull, tag: &Tag, began: Duration) -> bool {
        let (key, trust) = ((pull.name.clone(), Reference::Tag(tag.clone())), pull.cached.namespace.manifest_ttl);
        // an answer of the upstream counts for all requests that came before it; an immutable tag keeps its meaning anyway
        (pull.immutable)(tag) || self.confirmed.get(&key).is_some_and(|asked| asked + trust > began || asked > began)
    }

    async fn by_tag(&self, pull: &ManifestPull, tag: &Tag, began: Duration) -> Result<Answered<Arc<StoredManifest>>> {
        let (key, reference) = ((pull.name.clone(), Reference::Tag(tag.clone())), Reference::Tag(tag.clone()));
        let known = self.stored(&pull.name, &reference).await?;
        if let Some(value) = known.clone()
            && self.is_trusted(pull, tag, began)
        {
            return Ok(Answered::hit(value));
        }
        let asked = self.registry.clock().since_boot();
        let question = Box::pin(self.ask_for_tag(pull, tag, known.as_ref()));
        let answer = self.unless_failed(key.clone(), began, question).await;
        if let (Err(Error::Unanswered { unanswered, .. }), Some(value), true) =
            (&answer, known, pull.cached.namespace.stale_if_error)
        {
            tracing::warn!(name = %pull.name, %tag, %unanswered, "the tag is answered from the cache; no upstream gives it");
            return Ok(Answered { value, served: Served::Stale, upstream: None });
        }
        let answer = answer?;
        self.confirmed.insert(key, asked);
        Ok(answer)
    }

    /// Asks, unless a question about the same thing ended without an answer since `began`. Otherwise each of many clients
    /// would wait for a silent upstream after the other.
    async fn unless_failed<T>(
        &self,
        key: (Name, Reference),
        began: Duration,
        question: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if let Some((ended, error)) = self.failed.get(&key)
            && ended > began
        {
            return Err(error);
        }
        let answer = question.await;
        if let Err(error @ Error::Unanswered { .. }) = &answer {
            self.failed.insert(key, (self.registry.clock().since_boot(), error.clone()));
        }
        answer
    }

    /// Asks the upstreams what a tag means, and fetches that if it is not here.
    async fn ask_for_tag(
        &self,
        pull: &ManifestPull,
        tag: &Tag,
        known: Option<&Arc<StoredManifest>>,
    ) -> Result<Answered<Arc<StoredManifest>>> {
        let reference = Reference::Tag(tag.clone());
        let what = what_manifest(&reference);
        self.unless_absent(&pull.name, &what)?;
        let upstreams = &pull.cached.namespace.upstreams.for_one_pull();
        // a HEAD, since some upstreams count each GET
        let described = self.counted(upstreams.describe(&pull.cached.rest, &reference).await);
        let described = described.map_err(|unanswered| self.refused(&pull.name, what, unanswered))?;
        let Some(digest) = described.value.digest else {
            return self.fetch(pull, upstreams, &reference, Some(tag)).await;
        };
        let upstream = Some(described.upstream);
        if let Some(known) = known.filter(|known| known.digest == digest) {
            return Ok(Answered { value: Arc::clone(known), served: Served::Hit, upstream });
        }
        let by_digest = Reference::Digest(digest);
        if let Some(here) = self.stored(&pull.name, &by_digest).await? {
            let manifest = CachedManifest {
                digest,
                media_type: here.media_type.clone(),
                bytes: here.bytes.clone(),
                tag: Some(tag.clone()),
            };
            return self.keep(pull, manifest, Served::Hit, upstream).await;
        }
        match self.fetch(pull, upstreams, &by_digest, Some(tag)).await {
            // the tag may have moved since, and its former manifest be gone
            Err(Error::Unanswered { unanswered, .. }) if unanswered.kind() == Kind::NotFound => {
                self.fetch(pull, upstreams, &reference, Some(tag)).await
            }
            fetched => fetched,
        }
    }

    /// Fetches a manifest and keeps it.
    async fn fetch(
        &self,
        pull: &ManifestPull,
        upstreams: &Upstreams,
        reference: &Reference,
        tag: Option<&Tag>,
    ) -> Result<Answered<Arc<StoredManifest>>> {
        let what = what_manifest(reference);
        self.unless_absent(&pull.name, &what)?;
        let fetched = upstreams.manifest(&pull.cached.rest, reference, pull.largest).await;
        let fetched = self.counted(fetched).map_err(|unanswered| self.refused(&pull.name, what, unanswered))?;
        let FetchedManifest { digest, media_type, bytes, .. } = fetched.value;
        let manifest = CachedManifest { digest, media_type, bytes, tag: tag.cloned() };
        self.keep(pull, manifest, Served::Miss, Some(fetched.upstream)).await
    }

    /// Keeps a manifest that an upstream gave, and returns it as it is kept.
    async fn keep(
        &self,
        pull: &ManifestPull,
        manifest: CachedManifest,
        served: Served,
        upstream: Option<Arc<str>>,
    ) -> Result<Answered<Arc<StoredManifest>>> {
        let reference = manifest.tag.clone().map_or(Reference::Digest(manifest.digest), Reference::Tag);
        match self.registry.manifests.put_cached_under(&pull.name, &manifest, &*pull.immutable, &pull.by).await {
            Ok(_) => {}
            // the tag keeps its first meaning here
            Err(registry::Error::TagImmutable { .. }) => {
                let value = self.registry.manifests.get(&pull.name, &reference).await?;
                return Ok(Answered { value, served: Served::Hit, upstream });
            }
            Err(error) => return Err(error.into()),
        }
        // by digest: the tag may have moved again
        let value = self.registry.manifests.get(&pull.name, &Reference::Digest(manifest.digest)).await?;
        Ok(Answered { value, served, upstream })
    }
}

/// Names a manifest in messages.
fn what_manifest(reference: &Reference) -> Arc<str> {
    format!("manifest {reference}").into()
}
