//! Uploads that are read before they end: the downloads of other servers.

use std::ops::Range;

use super::{Chunk, End, Uploads, complete::Completer};
use crate::{
    action::{Upload, UploadId},
    oci::{Digest, Name},
    records::Actor,
    registry::{Blob, BlobStream, Error, Result, UploadStatus},
};

/// The progress of an upload, for others than its client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadView {
    /// The status.
    pub status: UploadStatus,
    /// The number of bytes that can be read.
    pub readable: u64,
    /// The end of the upload, if it is over.
    pub end: Option<UploadEnd>,
}

/// The end of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadEnd {
    /// Its bytes have this digest.
    Completed(Digest),
    /// It was cancelled.
    Cancelled,
}

impl Uploads {
    /// Looks at an upload, as it is stored. Returns `None` if there is no trace of it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn view(&self, name: &Name, id: &UploadId) -> Result<Option<UploadView>> {
        let session = match self.session_as_stored(name, id).await {
            Err(Error::UploadUnknown(_)) => return Ok(None),
            other => other?,
        };
        let end = session.state.end.map(|end| match end {
            End::Completed(digest) => UploadEnd::Completed(digest),
            End::Cancelled => UploadEnd::Cancelled,
        });
        Ok(Some(UploadView { status: session.status(), readable: session.next_segment(), end }))
    }

    /// Returns the largest size of a blob, in bytes.
    #[must_use]
    pub fn largest(&self) -> u64 {
        self.core.options.max_blob_size
    }

    /// Completes an upload as [`Uploads::complete`] does, for a caller that has shown the bytes of `chunk` to readers
    /// before.
    ///
    /// # Errors
    /// As [`Uploads::complete`]; and [`Error::OutOfOrder`] if other bytes than these ended the upload.
    pub async fn complete_shown(
        &self,
        name: &Name,
        upload: &Upload,
        digest: &Digest,
        chunk: Chunk,
        by: &Actor,
    ) -> Result<Blob> {
        self.complete_as(name, upload, digest, chunk, Completer::Reader, by).await
    }

    /// Reads bytes of an upload that [`Uploads::view`] showed. They are not checked against any digest.
    ///
    /// # Errors
    /// [`Error::UploadUnknown`], and those of the store.
    pub async fn read(&self, name: &Name, id: &UploadId, range: Range<u64>) -> Result<BlobStream> {
        let remembered = self.sessions.get(id).filter(|session| session.state.repository == *name);
        let session = match remembered.filter(|session| session.next_segment() >= range.end) {
            Some(session) => session,
            None => self.session_as_stored(name, id).await?,
        };
        Ok(self.copies.open(&session.copy(), range).await?)
    }
}
