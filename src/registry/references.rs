//! References to digests. A look at the copies of a digest takes a reference, so no code looks before it has written one.

use super::{Registry, Result, attempt::Attempt};
use crate::{
    oci::{Digest, Name},
    records::key::{BlobLink, Suffix},
    storage::mutation::{Mutation, mutated},
};

/// A digest whose reference is in the store. A scrub that marks its segments from now on sees the reference.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(super) struct Referenced<'a>(&'a Digest);

impl<'a> Referenced<'a> {
    /// Takes the word of the caller that an older reference to the digest stands.
    pub(super) const fn before(digest: &'a Digest) -> Self {
        Self(digest)
    }

    pub(super) const fn digest(self) -> &'a Digest {
        self.0
    }
}

impl Registry {
    /// Writes a blob link: `name` has `digest`.
    pub(super) async fn write_link<'a>(
        &self,
        name: &Name,
        digest: &'a Digest,
        attempt: &Attempt<'_>,
    ) -> Result<Referenced<'a>> {
        self.write_reference(name, digest, BlobLink::Link, attempt.suffix, attempt).await
    }

    /// Writes a pin: `manifest` of `name` lists `digest`.
    pub(super) async fn write_pin<'a>(
        &self,
        name: &Name,
        digest: &'a Digest,
        manifest: &Digest,
        attempt: &Attempt<'_>,
    ) -> Result<Referenced<'a>> {
        let suffix = if mutated(Mutation::SharedPins) { Suffix(0) } else { attempt.suffix };
        self.write_reference(name, digest, BlobLink::Pin(*manifest), suffix, attempt).await
    }

    async fn write_reference<'a>(
        &self,
        name: &Name,
        digest: &'a Digest,
        link: BlobLink,
        suffix: Suffix,
        attempt: &Attempt<'_>,
    ) -> Result<Referenced<'a>> {
        self.store.put(&link.of(digest, name, suffix), self.provenance(attempt.by)).await?;
        Ok(Referenced(digest))
    }
}
