//! Puts a manifest: references first, then a look at the content that they need, then the manifest, then its tags.
//!
//! A crash anywhere leaves garbage for scrub, never a tag that cannot be pulled.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;

use super::Manifests;
use crate::{
    oci::{Algorithm, Descriptor, Digest, Manifest, MediaType, Name, Reference, Tag},
    records::{
        Actor,
        key::{ManifestKey, Prefix, Version},
    },
    registry::{
        Error, Result,
        blobs::Linked,
        claims::Order,
        core::Attempt,
        several,
        tags::{Condition, Conditional},
        versions::StoredManifest,
    },
    storage::mutation::{Mutation, mutated},
};

/// A manifest as a client pushes it.
#[derive(Clone, Debug)]
pub struct PutManifest {
    /// The tag or digest of the request's path.
    pub reference: Reference,
    /// Further tags, beside the one of the path.
    pub tags: Vec<Tag>,
    /// Its media type as the request names it.
    pub media_type: Option<MediaType>,
    /// Its bytes.
    pub bytes: Bytes,
}

/// The outcome of a push.
#[derive(Clone, Debug)]
pub struct Put {
    /// The manifest's digest.
    pub digest: Digest,
    /// Its subject, if it has one. The manifest is among the referrers of the subject now.
    pub subject: Option<Digest>,
}

/// The tags that a push writes, and the limits of a restore.
#[derive(Clone, Debug, Default)]
pub(in crate::registry) struct PutOptions {
    /// Immutable tags.
    pub(in crate::registry) once: Vec<Tag>,
    /// Other tags.
    pub(in crate::registry) free: Vec<Tag>,
    /// The tag of the request, if it is written under a condition.
    pub(in crate::registry) conditional: Option<Conditional>,
    /// Set for a restore: the digests that the manifest did not link before it was deleted. It comes back with the same
    /// links.
    pub(in crate::registry) before: Option<Vec<Digest>>,
    /// Set if an upstream gave the manifest: the content that it names may come later, or never.
    pub(in crate::registry) cached: bool,
    /// Set if an attempt before was too slow: see `ManifestHeader::anew`.
    pub(in crate::registry) anew: bool,
}

impl Manifests {
    /// Stores a manifest and makes its tags mean it. No tag is immutable.
    ///
    /// # Errors
    /// As [`Manifests::put_under`].
    pub async fn put(&self, name: &Name, put: &PutManifest, by: &Actor) -> Result<Put> {
        self.put_under(name, put, &|_| false, by).await
    }

    /// Stores a manifest and makes its tags mean it; `immutable` tells of each tag whether it is immutable.
    ///
    /// # Errors
    /// [`Error::TagImmutable`] if an immutable tag means another manifest. If another push gave that tag its meaning at
    /// the same time, other tags of this push may have moved already.
    pub async fn put_under(
        &self,
        name: &Name,
        put: &PutManifest,
        immutable: &(dyn Fn(&Tag) -> bool + Sync),
        by: &Actor,
    ) -> Result<Put> {
        self.put_if(name, put, &Condition::default(), immutable, by).await
    }

    /// Stores a manifest as [`Manifests::put_under`] does, if a condition on its reference holds.
    ///
    /// # Errors
    /// [`Error::Condition`] if the condition does not hold when the tag is written.
    pub async fn put_if(
        &self,
        name: &Name,
        put: &PutManifest,
        condition: &Condition,
        immutable: &(dyn Fn(&Tag) -> bool + Sync),
        by: &Actor,
    ) -> Result<Put> {
        let algorithm = match &put.reference {
            Reference::Digest(digest) => digest.algorithm(),
            Reference::Tag(_) => Algorithm::Sha256,
        };
        let digest = Digest::of(algorithm, &put.bytes);
        let mut tags = put.tags.clone();
        match &put.reference {
            Reference::Digest(expected) if *expected != digest => {
                return Err(Error::DigestMismatch { expected: Box::new(*expected), computed: Box::new(digest) });
            }
            Reference::Digest(_) => {}
            Reference::Tag(tag) if tags.contains(tag) => {}
            Reference::Tag(tag) => tags.push(tag.clone()),
        }
        let manifest = Manifest::parse(put.media_type.as_ref(), &put.bytes)?;
        self.check_condition(name, &put.reference, condition).await?;
        let conditional = match &put.reference {
            Reference::Tag(tag) if !condition.is_none() => {
                tags.retain(|other| other != tag);
                Some(Conditional { tag: tag.clone(), condition: condition.clone(), immutable: immutable(tag) })
            }
            _ => None,
        };
        let (once, free): (Vec<Tag>, Vec<Tag>) = tags.into_iter().partition(|tag| immutable(tag));
        let options = PutOptions { once, free, conditional, ..PutOptions::default() };
        self.put_unless_refused(name, &manifest, digest, put.bytes.clone(), &options, by).await
    }

    /// Stores a manifest, unless one of its immutable tags means another.
    pub(super) async fn put_unless_refused(
        &self,
        name: &Name,
        manifest: &Manifest,
        digest: Digest,
        bytes: Bytes,
        options: &PutOptions,
        by: &Actor,
    ) -> Result<Put> {
        // the first check, before anything is written; `Tags::write_once` checks again
        several(options.once.iter().map(|tag| self.tags.refuse_other_meaning(name, tag, &digest)).collect()).await?;
        self.put_with_retry(name, manifest, digest, bytes, options, by).await?;
        Ok(Put { digest, subject: manifest.subject })
    }

    /// Stores a manifest. An attempt that took too long may rely on content that is gone, so it is made once more, as a
    /// new attempt.
    pub(in crate::registry) async fn put_with_retry(
        &self,
        name: &Name,
        manifest: &Manifest,
        digest: Digest,
        bytes: Bytes,
        options: &PutOptions,
        by: &Actor,
    ) -> Result<()> {
        // a pushed manifest that misses something by then is refused; a cached one counts as pushed anew
        let second = PutOptions { anew: options.cached, ..options.clone() };
        for again in [false, true] {
            let attempt = self.core.begin(by).await?;
            let options = if again { &second } else { options };
            match self.attempt_put(name, manifest, digest, bytes.clone(), options, &attempt).await {
                Err(Error::TooSlow) => {}
                Ok(()) if attempt.was_slow() && !mutated(Mutation::SlowPushDoesNotLookAgain) => {}
                result => return result,
            }
        }
        Err(Error::TooSlow)
    }

    async fn attempt_put(
        &self,
        name: &Name,
        manifest: &Manifest,
        digest: Digest,
        bytes: Bytes,
        options: &PutOptions,
        attempt: &Attempt<'_>,
    ) -> Result<()> {
        let (before, cached) = (options.before.as_deref(), options.cached);
        let Linked { mut missing, others, entries } =
            self.blobs.pin_blobs(name, manifest, &digest, before, cached, attempt).await?;
        let children = || manifest.children.iter().filter(|child| !entries.contains(&child.digest));
        // children are looked at before their index references are written, as blobs are before their pins; a child
        // that is deleted later is seen below. A child of a cached index finds its reference whenever it comes
        let all = cached && !mutated(Mutation::CachedChildrenNotReferenced);
        let stand = several(children().map(async |it| Ok(all || self.stands(name, &it.digest).await?)).collect());
        let (here, absent): (Vec<_>, Vec<_>) = children().zip(stand.await?).partition(|(_, stands)| *stands);
        missing.extend(absent.into_iter().map(|(child, _)| child.digest));
        self.refuse_missing(name, manifest, missing.clone(), options)?;
        let children = here.iter().map(|(child, _)| self.reference_child(name, child, &digest, cached, attempt));
        let gone: HashSet<Digest> = several(children.collect()).await?.into_iter().flatten().collect();
        self.refuse_missing(name, manifest, gone.iter().copied().collect(), options)?;
        self.catalog.add(name, attempt.by).await?;
        let same = if mutated(Mutation::NoNewVersion) { self.versions.newest(name, &digest).await? } else { None };
        let same = same.filter(|(_, version)| version.there).map(|(_, version)| version.ordinal);
        let ordinal = match same {
            Some(ordinal) => ordinal,
            None => self.core.claim_next(Order::Manifest(name, &digest), None, attempt.by).await?,
        };
        // scrub may have freed the pins by now, and the bytes with them: then no manifest may exist that needs them
        attempt.in_time()?;
        let size = bytes.len() as u64;
        let absent: BTreeSet<Digest> = missing.into_iter().chain(others).chain(gone.iter().copied()).collect();
        let absent = absent.into_iter().collect();
        let stored = StoredManifest::new(digest, manifest.media_type.clone(), bytes, ordinal, absent);
        let stored = StoredManifest { cached, anew: options.anew, ..stored };
        if same.is_none() {
            self.versions.put(name, manifest, stored, attempt).await?;
        }
        self.referrers.add(name, manifest, (digest, size), ordinal, attempt).await?;
        // after the index exists: a delete of a child that did not see the index then meets a version that it did not
        // see
        let children = here.iter().filter(|(child, _)| !gone.contains(&child.digest));
        let children = children.map(|(child, _)| self.renew_child(name, child, attempt));
        let missing = several(children.collect()).await?.into_iter().flatten().collect();
        self.refuse_missing(name, manifest, missing, options)?;
        // tags first that can be refused
        let target = Some((digest, ordinal));
        if let Some(conditional) = &options.conditional {
            self.tags.write_if(name, conditional, target, attempt).await?;
        }
        several(options.once.iter().map(|tag| self.tags.write_once(name, tag, target, attempt)).collect()).await?;
        several(options.free.iter().map(|tag| self.tags.write(name, tag, target, attempt)).collect()).await?;
        Ok(())
    }

    /// Checks that nothing is missing, unless that is allowed. A restore may miss what the manifest did not link
    /// before. A cached manifest may miss anything.
    ///
    /// # Errors
    /// [`Error::Missing`], with the digests in the order of the manifest.
    fn refuse_missing(
        &self,
        name: &Name,
        manifest: &Manifest,
        mut missing: Vec<Digest>,
        options: &PutOptions,
    ) -> Result<()> {
        missing.retain(|digest| !options.before.as_ref().is_some_and(|absent| absent.contains(digest)));
        if missing.is_empty() || options.cached || self.core.options.allow_missing_references {
            return Ok(());
        }
        let order: HashMap<Digest, usize> =
            manifest.blobs.iter().chain(&manifest.children).enumerate().map(|(at, it)| (it.digest, at)).collect();
        missing.sort_by_key(|digest| order.get(digest).copied());
        Err(Error::Missing { name: name.clone(), missing })
    }

    /// Checks a condition before anything is written.
    ///
    /// # Errors
    /// [`Error::Condition`] if it does not hold.
    async fn check_condition(&self, name: &Name, reference: &Reference, condition: &Condition) -> Result<()> {
        if condition.is_none() {
            return Ok(());
        }
        let meant = match reference {
            Reference::Tag(tag) => self.tags.meant_digest(name, tag).await?,
            Reference::Digest(digest) => self.versions.standing(name, digest).await?.map(|_| *digest),
        };
        condition.check(name, reference, meant)
    }

    async fn stands(&self, name: &Name, digest: &Digest) -> Result<bool> {
        match self.versions.standing(name, digest).await {
            Ok(standing) => Ok(standing.is_some()),
            // a damaged child counts as missing, so that the client pushes it again
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes the index reference from `parent` to a child, then looks for the child. Returns the child's digest if the
    /// child does not exist or is damaged.
    ///
    /// # Errors
    /// [`Error::DescriptorSize`] if the child has another size than its descriptor, unless the index is `cached`.
    async fn reference_child(
        &self,
        name: &Name,
        child: &Descriptor,
        parent: &Digest,
        cached: bool,
        attempt: &Attempt<'_>,
    ) -> Result<Option<Digest>> {
        let key = ManifestKey::IndexReference(*parent, attempt.suffix).of(name, &child.digest);
        self.core.store.put(&key, attempt.provenance()).await?;
        let stored = match self.versions.standing_afresh(name, &child.digest).await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(Some(child.digest)),
            Err(error) if error.is_damage() => return Ok(Some(child.digest)),
            Err(error) => return Err(error),
        };
        let size = stored.bytes.len() as u64;
        if size != child.size && !cached {
            return Err(Error::DescriptorSize { digest: child.digest, said: child.size, found: size });
        }
        Ok(None)
    }

    /// Writes a new version of an index's child. So a scrub that is about to retire the child loses, and so does a
    /// delete that did not see the index. Returns the child's digest if no version is left that could be written again.
    async fn renew_child(&self, name: &Name, child: &Descriptor, attempt: &Attempt<'_>) -> Result<Option<Digest>> {
        // a few: the newest version may be a tombstone of a moment ago
        const LOOK: usize = 8;
        if mutated(Mutation::ChildrenNotRenewed) {
            return Ok(None);
        }
        let order = Order::Manifest(name, &child.digest);
        let listed = self.core.store.list(&Prefix::Manifest(name, &child.digest).to_string(), None, LOOK).await?;
        let newest = listed.first().and_then(|entry| Version::at_end_of(&entry.key)).map(|version| version.ordinal);
        for entry in listed.iter().filter(|entry| Version::at_end_of(&entry.key).is_some_and(|version| version.there)) {
            let stored = match self.versions.read(&child.digest, &entry.key).await {
                Ok(Some(stored)) => stored,
                Ok(None) => continue,
                Err(error) if error.is_damage() => continue,
                Err(error) => return Err(error),
            };
            let manifest = Manifest::parse(Some(&stored.media_type), &stored.bytes)?;
            let ordinal = match self.core.claim_after(order, newest, None, attempt.by).await? {
                Some(ordinal) => ordinal,
                None => self.core.claim_next(order, None, attempt.by).await?,
            };
            attempt.claimed_in_time()?;
            let size = stored.bytes.len() as u64;
            let renewed = StoredManifest { ordinal, anew: false, ..stored.as_ref().clone() };
            self.versions.put(name, &manifest, renewed, attempt).await?;
            self.referrers.add(name, &manifest, (child.digest, size), ordinal, attempt).await?;
            return Ok(None);
        }
        Ok(Some(child.digest))
    }
}
