//! Manifests of caches, by tag and by digest.

use std::{sync::Arc, time::Duration};

use tracing::Instrument as _;

use super::{
    Answered, Error, Mirror, Result, Served,
    held::{Held, Waiting},
    room::{TakeMemory, Taken},
};
use crate::{
    identity::Client,
    oci::{Digest, Name, Reference, Tag},
    registry::{self, Actor, CachedManifest, StoredManifest},
    upstream::{Cached, FetchedManifest, Kind, Upstreams},
};

/// The last word of upstreams about a tag.
#[derive(Clone, Copy, Debug)]
pub(super) struct Confirmed {
    /// The time since boot when an upstream was asked, and answered.
    asked: Duration,
    /// The manifest that the tag means upstream, if it was held back.
    waits: Option<Digest>,
}

/// A manifest for any client, and the manifest that clients with an exception get in its place.
type Found = (Answered<Arc<StoredManifest>>, Option<Arc<Waiting>>);

/// The answer of upstreams about a tag.
enum Meaning {
    /// A manifest that may leave.
    Of(Answered<Arc<StoredManifest>>),
    /// One that is held back, and the upstream that named it.
    Waits(Arc<Waiting>, Arc<str>),
}

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
    /// Takes the memory of a manifest that is fetched.
    pub memory: TakeMemory,
    /// Tells whether a tag is immutable.
    pub immutable: Arc<dyn Fn(&Tag) -> bool + Send + Sync>,
    /// The author of the records.
    pub by: Actor,
    /// The client that asks.
    pub client: Client,
}

impl Mirror {
    /// Returns the manifest that a tag or digest means, if it is here, no upstream needs to be asked, and nothing is held
    /// back. `None` too if only a look at other manifests tells whether it is held back.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn manifest_here(
        &self,
        pull: &ManifestPull,
        reference: &Reference,
    ) -> Result<Option<Answered<Arc<StoredManifest>>>> {
        let found = match reference {
            Reference::Digest(digest) => self.digest_here(pull, digest).await,
            Reference::Tag(tag) if self.is_about_another(pull, tag) => Ok(None),
            Reference::Tag(tag) => self.tag_here(pull, tag, self.registry.clock().since_boot()).await,
        };
        match found {
            Ok(Some((answered, None))) => Ok(Some(answered)),
            Ok(_) | Err(Error::Held(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the manifest that a tag or digest means, from an upstream if need be. The question to the upstream goes on
    /// if the caller leaves: others wait for its outcome, and it tells whether the upstream answers at all.
    ///
    /// `exempt` tells whether the client may have what a tag or digest means before its cooldown is over, by the time at
    /// which that was first seen, in milliseconds since 1970. No tag moves for it.
    ///
    /// # Errors
    /// [`Error::Unanswered`] if it is not here, and no upstream gives it. [`Error::Busy`] if it is not here, and the client
    /// has too many questions. [`Error::Held`] if it is younger than the repository's cooldown.
    pub async fn manifest(
        self: &Arc<Self>,
        pull: &ManifestPull,
        reference: &Reference,
        exempt: &(dyn Fn(&Reference, u64) -> bool + Sync),
    ) -> Result<Answered<Arc<StoredManifest>>> {
        let found = self.ask(pull, reference, false).await;
        let (waits, at_hand) = match &found {
            Ok((_, waits)) => (waits.as_ref(), None),
            Err(Error::Held(held)) => (Some(&held.waiting), held.answered.as_ref()),
            Err(_) => (None, None),
        };
        if let Some(waiting) = waits.filter(|it| it.leads.iter().any(|(reference, seen)| exempt(reference, *seen))) {
            if let Some(answered) = at_hand {
                return Ok(answered.clone());
            }
            match self.ask(pull, &Reference::Digest(waiting.digest), true).await {
                // the tag may have moved since, and this manifest be gone
                Err(Error::Unanswered { unanswered, .. }) if unanswered.kind() == Kind::NotFound => {}
                Err(error @ (Error::Unanswered { .. } | Error::Busy))
                    if pull.cached.namespace.stale_if_error
                        && let Ok((answered, _)) = &found =>
                {
                    tracing::warn!(name = %pull.name, %reference, %error, "the younger manifest is not given; the former one is");
                    return Ok(Answered { served: Served::Stale, ..answered.clone() });
                }
                young => return young.map(|(answered, _)| answered),
            }
        }
        found.map(|(answered, _)| answered)
    }

    /// Finds a manifest in a task of its own. `young` gives a digest before its cooldown is over.
    async fn ask(self: &Arc<Self>, pull: &ManifestPull, reference: &Reference, young: bool) -> Result<Found> {
        let began = self.registry.clock().since_boot();
        let turn = self.turns.take((pull.name.clone(), reference.clone())).await;
        let (mirror, pull, reference) = (Arc::clone(self), pull.clone(), reference.clone());
        let question = async move {
            let _turn = turn;
            match &reference {
                Reference::Digest(digest) => mirror.by_digest(&pull, digest, began, young).await,
                Reference::Tag(tag) => mirror.by_tag(&pull, tag, began).await,
            }
        };
        tokio::spawn(question.in_current_span())
            .await
            .unwrap_or_else(|_| Err(Error::Unfinished("its task ended".to_owned())))
    }

    /// Returns a manifest that is here. A damaged one counts as absent, so that an upstream heals it.
    pub(super) async fn stored(&self, name: &Name, reference: &Reference) -> Result<Option<Arc<StoredManifest>>> {
        match self.registry.manifests.get(name, reference).await {
            Ok(manifest) => Ok(Some(manifest)),
            Err(registry::Error::ManifestUnknown { .. }) => Ok(None),
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn by_digest(&self, pull: &ManifestPull, digest: &Digest, began: Duration, young: bool) -> Result<Found> {
        let reference = Reference::Digest(*digest);
        let answered = if let Some(manifest) = self.stored(&pull.name, &reference).await? {
            Answered::hit(manifest)
        } else {
            let key = (pull.name.clone(), reference.clone());
            let question = Box::pin(async {
                let (fetched, upstream, _room) = self.fetch(pull, &pull.cached.namespace.upstreams, &reference).await?;
                self.keep(pull, fetched, None, Served::Miss, upstream).await
            });
            self.unless_failed(pull.client, key, began, question).await?
        };
        let held = if young { None } else { self.held_by_digest(pull, digest).await? };
        match held {
            Some(waiting) => Err(Held { answered: Some(answered), ..pull.held(&reference, &waiting, None) }.into()),
            None => Ok((answered, None)),
        }
    }

    async fn digest_here(&self, pull: &ManifestPull, digest: &Digest) -> Result<Option<Found>> {
        let reference = Reference::Digest(*digest);
        let Some(manifest) = self.stored(&pull.name, &reference).await? else { return Ok(None) };
        let may_leave = self.may_leave_at_once(pull, digest).await?;
        Ok(may_leave.then(|| (Answered::hit(manifest), None)))
    }

    /// Returns the manifest that a tag means here, for a request of a time, if that holds without a question.
    async fn tag_here(&self, pull: &ManifestPull, tag: &Tag, began: Duration) -> Result<Option<Found>> {
        let key = (pull.name.clone(), Reference::Tag(tag.clone()));
        let trust = pull.cached.namespace.manifest_ttl;
        // an answer of the upstream counts for all requests that came before it; an immutable tag keeps its meaning anyway
        let waits = match self.confirmed.get(&key) {
            Some(Confirmed { asked, waits }) if asked + trust > began || asked > began => waits,
            _ if (pull.immutable)(tag) => None,
            _ => return Ok(None),
        };
        let waiting = match waits {
            Some(digest) => match self.held_by_tag(pull, tag, &digest, false).await? {
                Some(waiting) => Some(waiting),
                // its time has come, so the tag moves
                None => return Ok(None),
            },
            None => None,
        };
        match (self.stored(&pull.name, &key.1).await?, waiting) {
            (None, None) => Ok(None),
            (known, waiting) => {
                let manifest = self.former(pull, tag, known, waiting.as_ref()).await?;
                Ok(Some((Answered::hit(manifest), waiting)))
            }
        }
    }

    async fn by_tag(&self, pull: &ManifestPull, tag: &Tag, began: Duration) -> Result<Found> {
        if let Some(found) = self.tag_here(pull, tag, began).await? {
            return Ok(found);
        }
        let (key, reference) = ((pull.name.clone(), Reference::Tag(tag.clone())), Reference::Tag(tag.clone()));
        let known = self.stored(&pull.name, &reference).await?;
        let asked = self.registry.clock().since_boot();
        let question = Box::pin(self.ask_for_tag(pull, tag, known.as_ref()));
        let answer = self.unless_failed(pull.client, key.clone(), began, question).await;
        let unanswered = match &answer {
            Err(Error::Unanswered { unanswered, .. }) => Some(unanswered.to_string()),
            Err(error @ Error::Busy) => Some(error.to_string()),
            _ => None,
        };
        if let (Some(unanswered), Some(value), true) = (unanswered, &known, pull.cached.namespace.stale_if_error) {
            tracing::warn!(name = %pull.name, %tag, %unanswered, "the tag is answered from the cache; no upstream gives it");
            let value = self.former(pull, tag, Some(Arc::clone(value)), None).await?;
            return Ok((Answered { value, served: Served::Stale, upstream: None }, None));
        }
        let answer = answer?;
        let waits = if let Meaning::Waits(waiting, _) = &answer { Some(waiting.digest) } else { None };
        self.confirmed.insert(key, Confirmed { asked, waits });
        match answer {
            Meaning::Of(answered) => Ok((answered, None)),
            Meaning::Waits(waiting, upstream) => {
                let value = self.former(pull, tag, known, Some(&waiting)).await?;
                Ok((Answered { value, served: Served::Hit, upstream: Some(upstream) }, Some(waiting)))
            }
        }
    }

    /// Returns the manifest that a tag means here, while another waits or no upstream answers.
    ///
    /// # Errors
    /// [`Error::Held`] if that is held back too, or if the tag is not here.
    async fn former(
        &self,
        pull: &ManifestPull,
        tag: &Tag,
        known: Option<Arc<StoredManifest>>,
        waiting: Option<&Arc<Waiting>>,
    ) -> Result<Arc<StoredManifest>> {
        let reference = Reference::Tag(tag.clone());
        let held = match &known {
            Some(known) => self.held_by_tag(pull, tag, &known.digest, true).await?,
            None => None,
        };
        match (known, waiting, held) {
            (Some(known), _, None) => Ok(known),
            (_, Some(waiting), held) => Err(pull.held(&reference, waiting, held.as_ref()).into()),
            (_, None, Some(held)) => Err(pull.held(&reference, &held, None).into()),
            (None, None, None) => Err(registry::Error::manifest_unknown(&pull.name, reference).into()),
        }
    }

    /// Asks, unless a question about the same thing ended without an answer since `began`. Otherwise each of many clients
    /// would wait for a silent upstream after the other.
    ///
    /// # Errors
    /// [`Error::Busy`] if the client has too many questions.
    async fn unless_failed<T>(
        &self,
        client: Client,
        key: (Name, Reference),
        began: Duration,
        question: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if let Some((ended, error)) = self.failed.get(&key)
            && ended > began
        {
            return Err(error);
        }
        let _task = self.tasks.begin(client).ok_or_else(|| self.busy())?;
        let answer = question.await;
        if let Err(error @ Error::Unanswered { .. }) = &answer {
            self.failed.insert(key, (self.registry.clock().since_boot(), error.clone()));
        }
        answer
    }

    /// Asks the upstreams what a tag means, and fetches that if it is not here and not held back.
    async fn ask_for_tag(
        &self,
        pull: &ManifestPull,
        tag: &Tag,
        known: Option<&Arc<StoredManifest>>,
    ) -> Result<Meaning> {
        let reference = Reference::Tag(tag.clone());
        let what = what_manifest(&reference);
        self.unless_absent(&pull.name, &what)?;
        let upstreams = &pull.cached.namespace.upstreams.for_one_pull();
        // a HEAD, since some upstreams count each GET
        let described = self.counted(upstreams.describe(&pull.cached.rest, &reference).await);
        let described = described.map_err(|unanswered| self.refused(&pull.name, what, unanswered))?;
        let upstream = described.upstream;
        let Some(digest) = described.value.digest else {
            return self.fetch_tag(pull, upstreams, tag).await;
        };
        let by_digest = Reference::Digest(digest);
        let known = known.filter(|known| known.digest == digest);
        let here = match known {
            Some(known) => Some(Arc::clone(known)),
            None => self.stored(&pull.name, &by_digest).await?,
        };
        if let Some(waiting) = self.held_upstream(pull, tag, &digest, here.is_some()).await? {
            return Ok(Meaning::Waits(waiting, upstream));
        }
        match here {
            Some(value) if known.is_some() => {
                Ok(Meaning::Of(Answered { value, served: Served::Hit, upstream: Some(upstream) }))
            }
            Some(here) => {
                let (media_type, bytes) = (here.media_type.clone(), here.bytes.clone());
                let manifest = CachedManifest { digest, media_type, bytes, tag: None };
                // before a newer version makes scrub free the one that tells the time
                self.registry.first_seen.note(&pull.name, &digest, true, &pull.by).await?;
                self.keep(pull, manifest, Some(tag), Served::Hit, upstream).await.map(Meaning::Of)
            }
            None => match self.fetch(pull, upstreams, &by_digest).await {
                // the tag may have moved since, and its former manifest be gone
                Err(Error::Unanswered { unanswered, .. }) if unanswered.kind() == Kind::NotFound => {
                    self.fetch_tag(pull, upstreams, tag).await
                }
                fetched => {
                    let (fetched, upstream, _room) = fetched?;
                    self.keep(pull, fetched, Some(tag), Served::Miss, upstream).await.map(Meaning::Of)
                }
            },
        }
    }

    /// Fetches what a tag means, where only the bytes tell the digest.
    async fn fetch_tag(&self, pull: &ManifestPull, upstreams: &Upstreams, tag: &Tag) -> Result<Meaning> {
        let (fetched, upstream, _room) = self.fetch(pull, upstreams, &Reference::Tag(tag.clone())).await?;
        match self.held_upstream(pull, tag, &fetched.digest, false).await? {
            Some(waiting) => Ok(Meaning::Waits(waiting, upstream)),
            None => self.keep(pull, fetched, Some(tag), Served::Miss, upstream).await.map(Meaning::Of),
        }
    }

    /// Fetches a manifest, and records when it was first seen.
    async fn fetch(
        &self,
        pull: &ManifestPull,
        upstreams: &Upstreams,
        reference: &Reference,
    ) -> Result<(CachedManifest, Arc<str>, Taken)> {
        let what = what_manifest(reference);
        self.unless_absent(&pull.name, &what)?;
        let room = Taken::new(pull.largest, &pull.memory);
        let fetched = upstreams.manifest(&pull.cached.rest, reference, &room).await;
        let fetched = self.counted(fetched).map_err(|unanswered| self.refused(&pull.name, what, unanswered))?;
        let FetchedManifest { digest, media_type, bytes, .. } = fetched.value;
        // what a tag means may be here
        let is_here = matches!(reference, Reference::Tag(_));
        self.registry.first_seen.note(&pull.name, &digest, is_here, &pull.by).await?;
        Ok((CachedManifest { digest, media_type, bytes, tag: None }, fetched.upstream, room))
    }

    /// Keeps a manifest that an upstream gave, and returns it as it is kept. If `tag` is given, it means the manifest then.
    async fn keep(
        &self,
        pull: &ManifestPull,
        manifest: CachedManifest,
        tag: Option<&Tag>,
        served: Served,
        upstream: Arc<str>,
    ) -> Result<Answered<Arc<StoredManifest>>> {
        let (manifest, upstream) = (CachedManifest { tag: tag.cloned(), ..manifest }, Some(upstream));
        match self.registry.manifests.put_cached_under(&pull.name, &manifest, &*pull.immutable, &pull.by).await {
            Ok(_) => {}
            // the tag keeps its first meaning here
            Err(registry::Error::TagImmutable { tag, .. }) => {
                let value = self.registry.manifests.get(&pull.name, &Reference::Tag(tag.clone())).await?;
                let value = self.former(pull, &tag, Some(value), None).await?;
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
