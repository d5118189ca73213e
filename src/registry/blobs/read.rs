//! Reads blobs.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use futures::TryStreamExt;

use super::{Blob, Blobs};
use crate::{
    oci::{Digest, Name},
    registry::{
        Error, Result, VerifyPulls,
        copies::{BlobCopy, BlobStream},
    },
    storage::FaultKind,
};

impl Blobs {
    /// Returns a stream of a blob's bytes: of `range`, or all. The first segment is open already, so most errors come
    /// before the stream.
    ///
    /// # Errors
    /// Damage, if the bytes are gone or too short.
    pub async fn read(&self, name: &Name, blob: &Blob, range: Option<Range<u64>>) -> Result<BlobStream> {
        let whole = range.is_none();
        let range = range.unwrap_or(0..blob.size);
        // a remembered blob copy whose segments are gone is looked up again before any error
        let mut copy = self.copies.readable(name, &blob.digest).await?;
        let stream = match self.copies.open(&copy, range.clone()).await {
            Ok(stream) => stream,
            Err(error) if error.kind == FaultKind::Damaged => {
                // boxed, since it is large and most requests do without
                let (again, stream) = Box::pin(self.read_again(name, &blob.digest, range)).await?;
                copy = again;
                stream
            }
            Err(error) => return Err(error.into()),
        };
        let selected = match self.core.options.verify_pulls {
            VerifyPulls::None => false,
            VerifyPulls::OneIn(n) => self.pulls.fetch_add(1, Ordering::Relaxed).is_multiple_of(n.max(1)),
        };
        let (damage, digest) = (Arc::clone(&self.damage), blob.digest);
        let stream: BlobStream = Box::pin(stream.inspect_err(move |error| {
            // the next pull looks for a whole copy instead of failing at the same byte, and a push may heal the blob
            if error.kind == FaultKind::Damaged {
                damage.forget(&digest);
            }
        }));
        Ok(if whole && selected { self.copies.verified(stream, copy, blob.digest) } else { stream })
    }

    /// Looks again for bytes that a read found gone or too short. Reports damage if they still are: a read may fail
    /// once although the bytes are right.
    async fn read_again(&self, name: &Name, digest: &Digest, range: Range<u64>) -> Result<(Arc<BlobCopy>, BlobStream)> {
        let again = async {
            let copy = self.copies.readable_afresh(name, digest).await?;
            let stream = self.copies.open(&copy, range).await?;
            Ok((copy, stream))
        };
        let again = again.await;
        if again.as_ref().is_err_and(Error::is_damage) {
            // all memory of the digest may be gone already, and then `Damage::found` reports nothing
            self.damage.found(digest).await;
            self.damage.try_to_report(digest).await;
        }
        again
    }
}
