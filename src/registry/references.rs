//! References to digests. A look at the copies of a digest takes a reference, so no code looks before it has written one.

use super::{Result, core::Attempt};
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

impl Attempt<'_> {
    /// Writes a blob link: `name` has `digest`.
    pub(super) async fn write_link<'a>(&self, name: &Name, digest: &'a Digest) -> Result<Referenced<'a>> {
        self.write_reference(name, digest, BlobLink::Link, self.suffix).await
    }

    /// Writes a pin: `manifest` of `name` lists `digest`.
    pub(super) async fn write_pin<'a>(
        &self,
        name: &Name,
        digest: &'a Digest,
        manifest: &Digest,
    ) -> Result<Referenced<'a>> {
        let suffix = if mutated(Mutation::SharedPins) { Suffix(0) } else { self.suffix };
        self.write_reference(name, digest, BlobLink::Pin(*manifest), suffix).await
    }

    async fn write_reference<'a>(
        &self,
        name: &Name,
        digest: &'a Digest,
        link: BlobLink,
        suffix: Suffix,
    ) -> Result<Referenced<'a>> {
        self.core.store.put(&link.of(digest, name, suffix), self.provenance()).await?;
        Ok(Referenced(digest))
    }
}
