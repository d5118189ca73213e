//! Finds a blob copy to read from, and reads it.

use std::{ops::Range, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};

use super::{BlobCopy, BlobStream, Bytes, Copies, TURNS};
use crate::{
    oci::{Digest, Name},
    records::key::BlobKey,
    registry::{Error, Result},
    storage::{self, StorageError},
};

impl Copies {
    /// Returns a blob copy whose segments can be read.
    pub(in crate::registry) async fn readable(&self, name: &Name, digest: &Digest) -> Result<Arc<BlobCopy>> {
        if self.found.contains_key(digest) {
            self.damage.read_reports().await?;
        }
        match self.found.get(digest) {
            Some(copy) => Ok(copy),
            // boxed, since it is large and most requests do without
            None => Box::pin(self.find_readable(name, digest)).await,
        }
    }

    async fn find_readable(&self, name: &Name, digest: &Digest) -> Result<Arc<BlobCopy>> {
        let ticket = self.damage.ticket();
        let (mut copies, mut damage) = self.list(digest).await?;
        // scrub frees all copies but one, and that one may have come since the listing
        let mut turns = 0;
        let first = loop {
            for copy in copies.iter().filter(|copy| !self.corrupt.contains_key(&copy.id)) {
                if self.inspect(copy).await? != Bytes::Missing {
                    if self.damage.ticket() == ticket {
                        self.found.insert(*digest, Arc::clone(copy));
                    }
                    return Ok(Arc::clone(copy));
                }
            }
            turns += 1;
            let others = if turns < TURNS { self.relist_if_changed(digest, &copies).await? } else { None };
            let Some(others) = others else {
                self.forget_copies(digest, &copies);
                if let Some(damage) = damage {
                    return Err(damage.into());
                }
                break copies.into_iter().next().ok_or_else(|| Error::blob_unknown(name, digest))?;
            };
            (copies, damage) = others;
        };
        self.damage.found(digest).await;
        let key = BlobKey::Copy(first.id.clone()).of(digest);
        Err(StorageError::damaged("read", &key, "the bytes it names are gone, too short or corrupt").into())
    }

    /// Returns a blob copy as [`Copies::readable`] does, never from memory.
    pub(in crate::registry) async fn readable_afresh(&self, name: &Name, digest: &Digest) -> Result<Arc<BlobCopy>> {
        self.found.remove(digest);
        self.readable(name, digest).await
    }

    /// Reads the bytes of a range from the segments of a blob copy. The first segment is open when this returns.
    pub(in crate::registry) async fn open(&self, copy: &BlobCopy, range: Range<u64>) -> storage::Result<BlobStream> {
        let mut parts = copy.segments.iter().filter_map(|segment| {
            let start = range.start.max(segment.offset);
            let end = range.end.min(segment.offset + segment.size);
            (start < end).then(|| (segment.key(&copy.id), start - segment.offset..end - segment.offset))
        });
        let Some((key, first)) = parts.next() else { return Ok(Box::pin(stream::empty())) };
        let first = self.core.store.read(&key, first).await?;
        let rest: Vec<_> = parts.collect();
        if rest.is_empty() {
            return Ok(Box::pin(first));
        }
        let store = self.core.store.clone();
        let rest = stream::iter(rest).then(move |(key, range)| {
            let store = store.clone();
            async move { store.read(&key, range).await }
        });
        Ok(Box::pin(first.chain(rest.try_flatten())))
    }
}
