//! Operations beyond pushes and deletes: several tags at once, immutable tags, restores, reads.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;

use super::{Client, Rules, body};
use crate::{
    model_check::answers::{Ack, Promise},
    oci::{Algorithm, Digest, Name, Reference, Tag},
    registry::{CachedManifest, Error, Protection, PutManifest, Restored},
    scrub::Pass,
    storage::Moment,
};

fn put(bytes: &Bytes, first: &Tag, more: &[Tag]) -> PutManifest {
    let reference = Reference::Tag(first.clone());
    PutManifest { reference, tags: more.to_vec(), media_type: None, bytes: bytes.clone() }
}

impl Client {
    /// Records a promise that holds from here on.
    pub(in crate::model_check) fn promise(&self, promise: Promise) {
        self.answers().acked.push(Ack::Promise(promise));
    }

    /// Drops all answers but promises, since other processes may have ended them.
    pub(in crate::model_check) fn only_promises(&self) {
        self.take_back(|ack| !matches!(ack, Ack::Promise(_)));
    }

    /// Lets the server use another lease, as an edit of its configuration does.
    pub(in crate::model_check) async fn set_lease(&self, lease: Duration) {
        let by = self.begin("change the lease").await;
        let result = self.registry().lease().change(lease).await;
        self.done(&by, &result, []);
    }

    /// Records a failure.
    pub(in crate::model_check) fn wrong(&self, what: String) {
        self.answers().failed.push(what);
    }

    pub(in crate::model_check) async fn scrub_under(&self, rules: &Rules, passes: &[Pass]) {
        self.scrub_by(&rules.config, &rules.policy, passes).await;
    }

    /// Pushes a manifest under several tags in one request. `promises` returns what holds for each of them from then
    /// on.
    pub(in crate::model_check) async fn put_tags(
        &self,
        name: &Name,
        bytes: &Bytes,
        tags: &[Tag],
        promises: impl Fn(&Tag, Digest) -> Vec<Promise>,
    ) -> bool {
        let by = self.begin("push a manifest").await;
        let digest = Digest::of(Algorithm::Sha256, bytes);
        let (first, more) = tags.split_first().expect("there is a tag");
        let result = self.registry().manifests.put(name, &put(bytes, first, more), &by).await;
        let acks = tags.iter().flat_map(|tag| promises(tag, digest)).map(Ack::Promise);
        self.done(&by, &result, acks)
    }

    /// Gives an immutable tag its meaning. A refusal names the meaning of the tag, unless time has passed since
    /// `began`.
    pub(in crate::model_check) async fn put_once(
        &self,
        name: &Name,
        bytes: &Bytes,
        tag: &Tag,
        began: Moment,
        promises: impl Fn(Digest) -> Vec<Promise>,
    ) -> bool {
        let by = self.begin("push a manifest once").await;
        let digest = Digest::of(Algorithm::Sha256, bytes);
        let result = self.registry().manifests.put_under(name, &put(bytes, tag, &[]), &|_| true, &by).await;
        match &result {
            Err(Error::TagImmutable { digest: means, .. }) if *means == digest => {
                self.wrong(format!("{tag} is refused since it means what was pushed"));
            }
            Ok(_) | Err(Error::TagImmutable { .. }) => {}
            // only a push that waits for long gets another error
            Err(error) => self.must(!self.since(began).is_zero(), &format!("push an immutable tag: {error}")),
        }
        self.done(&by, &result, promises(digest).into_iter().map(Ack::Promise))
    }

    /// Deletes a tag that is immutable.
    pub(in crate::model_check) async fn delete_once(&self, name: &Name, tag: &Tag) -> bool {
        let by = self.begin("delete an immutable tag").await;
        let result = self.registry().tags.delete_under(name, tag, Protection::Immutable, &by).await;
        self.done(&by, &result, [])
    }

    /// Restores a tag or manifest. Returns the restored things, or nothing if the restore was refused.
    pub(in crate::model_check) async fn restore(&self, name: &Name, what: &Reference) -> Option<Vec<Restored>> {
        let by = self.begin("restore").await;
        let result = self.registry().restore(name, what, &by).await;
        let acks = result.iter().flat_map(|came| &came.restored).filter_map(|restored| match restored {
            Restored::Tag(tag, digest) => Some(Ack::Tag(name.clone(), tag.clone(), *digest)),
            Restored::Manifest(digest) if *what == Reference::Digest(*digest) && self.keeps => {
                Some(Ack::Manifest(name.clone(), *digest, None))
            }
            Restored::Manifest(_) | Restored::Blob(_) => None,
        });
        self.done(&by, &result, acks.collect::<Vec<_>>());
        result.ok().map(|came| came.restored)
    }

    /// Stores a manifest that an upstream gave.
    pub(in crate::model_check) async fn put_cached(&self, name: &Name, bytes: &Bytes, tag: Option<&Tag>) -> bool {
        let by = self.begin("cache a manifest").await;
        let digest = Digest::of(Algorithm::Sha256, bytes);
        let kind = if bytes.windows(11).any(|part| part == b"\"manifests\"") { "index" } else { "manifest" };
        let media_type = format!("application/vnd.oci.image.{kind}.v1+json").parse().expect("a media type");
        let put = CachedManifest { digest, media_type, bytes: bytes.clone(), tag: tag.cloned() };
        let result = self.registry().manifests.put_cached(name, &put, &by).await;
        self.done(&by, &result, tag.map(|tag| Ack::Tag(name.clone(), tag.clone(), digest)))
    }

    /// Stores a blob that an upstream gave, and links it to the manifests that were cached without it.
    pub(in crate::model_check) async fn fetch(&self, name: &Name, bytes: &Bytes) -> bool {
        self.put_blob(name, bytes).await && self.link(name, &Digest::of(Algorithm::Sha256, bytes)).await
    }

    /// Links a blob to the manifests that were cached without it.
    pub(in crate::model_check) async fn link(&self, name: &Name, blob: &Digest) -> bool {
        let by = self.begin("link a blob").await;
        let result = self.registry().blobs.link_to_cached(name, blob, &by).await;
        self.done(&by, &result, [])
    }

    /// Reads a blob to its end. Returns nothing if the read fails.
    pub(in crate::model_check) async fn pull_blob(&self, name: &Name, digest: &Digest) -> Option<Vec<u8>> {
        let by = self.begin("pull a blob").await;
        let read = async {
            let blob = self.registry().blobs.get(name, digest).await?;
            let stream = self.registry().blobs.read(name, &blob, None).await?;
            let pieces: Vec<Bytes> = stream.try_collect().await?;
            Ok(pieces.concat())
        };
        let result: crate::registry::Result<Vec<u8>> = read.await;
        let mut answers = self.answers();
        answers.log.push(match &result {
            Ok(_) => format!("{}: done", by.identity),
            Err(error) => format!("{}: {error}", by.identity),
        });
        result.ok()
    }

    /// Returns the meanings of a tag, newest first.
    pub(in crate::model_check) async fn history(&self, name: &Name, tag: &Tag) -> Option<Vec<Option<Digest>>> {
        let by = self.begin("ask what a tag meant").await;
        let result = self.registry().tags.history(name, tag, 100, None).await;
        let done = self.done(&by, &result, []);
        let entries = result.ok().filter(|_| done)?;
        Some(entries.into_iter().map(|entry| entry.target.map(|(digest, _)| digest)).collect())
    }

    /// Deletes a tag or manifest. `promises` hold from then on.
    pub(in crate::model_check) async fn delete(
        &self,
        name: &Name,
        what: &Reference,
        promises: impl IntoIterator<Item = Promise>,
    ) -> bool {
        let by = self.begin("delete").await;
        let result = match what {
            Reference::Tag(tag) => self.registry().tags.delete(name, tag, &by).await,
            Reference::Digest(digest) => self.registry().manifests.delete(name, digest, &by).await,
        };
        self.done(&by, &result, promises.into_iter().map(Ack::Promise))
    }

    /// Deletes a blob that no other process gives the repository again.
    pub(in crate::model_check) async fn delete_blob_for_good(&self, name: &Name, digest: &Digest) -> bool {
        let by = self.begin("delete a blob").await;
        let result = self.registry().blobs.delete(name, digest, &by).await;
        self.done(&by, &result, [Ack::Promise(Promise::Lacks(name.clone(), *digest))])
    }

    /// Pushes bytes, and promises a sound copy as long as the repository has the blob.
    pub(in crate::model_check) async fn put_sound_blob(&self, name: &Name, bytes: &Bytes) -> bool {
        let by = self.begin("push a blob").await;
        let digest = Digest::of(Algorithm::Sha256, bytes);
        let result = self.registry().uploads.put_blob(name, &digest, body(bytes), &by).await;
        self.done(&by, &result, [Ack::Promise(Promise::Sound(name.clone(), digest))])
    }
}
