//! Receives bodies. The next state of the session keeps a small chunk; anything else becomes a segment.

use std::sync::Arc;

use bytes::BytesMut;
use futures::StreamExt;

use super::{Added, Session, Uploads};
use crate::{
    oci::{Hasher, range::ContentRange},
    records::{
        Segment,
        key::{Suffix, UploadKey},
    },
    registry::{Body, Error, Result},
    storage::{Moment, ObjectWriter},
};

/// A body, with the range and length that the request announced.
pub struct Chunk {
    /// The range of the upload that the body is for, if the client named it.
    pub range: Option<ContentRange>,
    /// The length of the body in bytes, if the client named it.
    pub length: Option<u64>,
    /// The bytes.
    pub body: Body,
    /// A function that is called while bytes are read again after the body has arrived. Such reads may take long, and
    /// the calls show a timer that bytes move.
    pub progress: Progress,
}

/// A callback for progress; see [`Chunk::progress`].
pub type Progress = Arc<dyn Fn() + Send + Sync>;

impl Chunk {
    /// Returns a body without bytes.
    #[must_use]
    pub fn empty(progress: &Progress) -> Self {
        Self { range: None, length: Some(0), body: futures::stream::empty().boxed(), progress: Arc::clone(progress) }
    }
}

/// The largest number of chunks of an upload. Each is a state, and the blob copy of the upload names all segments.
const MOST_CHUNKS: u32 = 10_000;

/// The length in bytes below which a state keeps a chunk. All chunks between two full states then take less than 4 MiB.
///
/// Unit tests use a few bytes, and have chunks of both kinds.
const SMALL: usize = if cfg!(test) { 4 } else { 64 * 1024 };

/// The target of a chunk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The session's next state, if the chunk is small and that state keeps one; otherwise a segment.
    State,
    /// A segment, even of no more than the chunks that states kept: the upload ends.
    Segment,
}

/// Bytes of a body that are not visible yet.
pub(super) struct Received {
    pub(super) hasher: Option<Hasher>,
    pub(super) progress: Progress,
    /// Length of this body alone, in bytes.
    pub(super) length: u64,
    bytes: Bytes,
}

enum Bytes {
    None,
    Chunk(bytes::Bytes),
    Segment(Segment, ObjectWriter),
}

impl Received {
    /// Returns a body whose bytes are closed.
    pub(super) const fn closed(progress: Progress) -> Self {
        Self { hasher: None, progress, length: 0, bytes: Bytes::None }
    }

    /// Returns the addition to the session, for the time after the bytes are closed.
    pub(super) fn added(&self) -> Added {
        match &self.bytes {
            Bytes::None => Added::Nothing,
            Bytes::Chunk(bytes) => Added::Chunk(bytes.clone()),
            Bytes::Segment(segment, _) => Added::Segment(segment.clone()),
        }
    }

    pub(super) fn segment(&self) -> Option<Segment> {
        match &self.bytes {
            Bytes::Segment(segment, _) => Some(segment.clone()),
            Bytes::None | Bytes::Chunk(_) => None,
        }
    }

    /// Makes the bytes of a segment durable.
    pub(super) async fn close(self) -> Result<()> {
        match self.bytes {
            Bytes::Segment(_, writer) => Ok(writer.close().await?),
            Bytes::None | Bytes::Chunk(_) => Ok(()),
        }
    }
}

impl Uploads {
    /// Receives the bytes of a body. They follow those of the session, and stay invisible until a state names or keeps
    /// them.
    ///
    /// # Errors
    /// [`Error::SizeMismatch`], [`Error::TooLarge`], [`Error::TooManyChunks`], [`Error::Body`], and those of the store.
    pub(super) async fn receive(&self, session: &Session, mut chunk: Chunk, target: Target) -> Result<Received> {
        let limit = self.core.options.max_blob_size;
        let announced = chunk.length.or(chunk.range.map(ContentRange::length));
        if let (Some(range), Some(length)) = (chunk.range, chunk.length)
            && range.length() != length
        {
            return Err(Error::SizeMismatch { announced: range.length(), received: length });
        }
        if session.sequence >= MOST_CHUNKS && chunk.length != Some(0) {
            return Err(Error::TooManyChunks { limit: MOST_CHUNKS });
        }
        let too_large = Error::TooLarge { what: "blob", limit };
        let from = session.state.offset;
        if from.saturating_add(announced.unwrap_or(0)) > limit {
            return Err(too_large);
        }
        let mut hasher = session.hasher.clone();
        let (mut length, mut small) = (0_u64, BytesMut::new());
        let mut writer = match announced {
            Some(announced) if announced >= SMALL as u64 => Some(self.segment(session, Some(announced)).await?),
            _ => None,
        };
        let mut renewed = self.core.lease.start().await?;
        while let Some(bytes) = chunk.body.next().await {
            let bytes = bytes?;
            length += bytes.len() as u64;
            if from + length > limit {
                return Err(too_large);
            }
            if let Some(hasher) = hasher.as_mut() {
                hasher.update(&bytes);
            }
            if writer.is_none() && small.len() + bytes.len() >= SMALL {
                let (segment, mut object) = self.segment(session, announced).await?;
                object.write(std::mem::take(&mut small).freeze()).await?;
                writer = Some((segment, object));
            }
            match &mut writer {
                Some((_, object)) => object.write(bytes).await?,
                None => small.extend_from_slice(&bytes),
            }
            renewed = self.keep_alive(session, renewed).await?;
        }
        if let Some(announced) = announced.filter(|announced| *announced != length) {
            return Err(Error::SizeMismatch { announced, received: length });
        }
        let kept = session.state.kept.is_some();
        let bytes = match (writer, target) {
            (None, Target::State) if length == 0 => Bytes::None,
            (None, Target::Segment) if length == 0 && !kept => Bytes::None,
            // a copy, since the buffer may be twice as large
            (None, Target::State) if session.keeps_next() => Bytes::Chunk(bytes::Bytes::copy_from_slice(&small)),
            (writer, _) => {
                let (segment, mut object) = match writer {
                    Some(writer) => writer,
                    None => self.segment(session, Some(length)).await?,
                };
                object.write(small.freeze()).await?;
                Bytes::Segment(Segment { size: from + length - segment.offset, ..segment }, object)
            }
        };
        Ok(Received { hasher, progress: chunk.progress, length, bytes })
    }

    /// Begins the next segment with the chunks that states kept. `length` is the length of the bytes after those, if it
    /// is known.
    async fn segment(&self, session: &Session, length: Option<u64>) -> Result<(Segment, ObjectWriter)> {
        let offset = session.next_segment();
        let kept = session.state.offset - offset;
        let segment = Segment { offset, size: 0, attempt: Suffix::random() };
        let mut writer = self.core.store.writer(segment.key(&session.id), length.map(|length| kept + length));
        if kept > 0 {
            for bytes in self.kept_chunks(session).await? {
                writer.write(bytes).await?;
            }
        }
        Ok((segment, writer))
    }

    /// Renews the upload of a body that streams for long, by a sign of life every quarter of a lease. Returns the time
    /// of the last one.
    pub(super) async fn keep_alive(&self, session: &Session, renewed: Moment) -> Result<Moment> {
        if self.core.clock.since(renewed) < self.core.lease.at(renewed) / 4 {
            return Ok(renewed);
        }
        let now = self.core.lease.start().await?;
        self.core.store.put(&UploadKey::Alive(Suffix::random()).of(&session.id), Vec::new()).await?;
        Ok(now)
    }
}
