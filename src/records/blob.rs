//! Blob copies and segments.

use serde::{Deserialize, Serialize};

use super::{
    Actor,
    key::{DataKey, Prefix, Suffix},
};
use crate::{
    action::UploadId,
    storage::{Entry, Result, Store},
};

/// A segment: one object of an upload's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Offset of its first byte in the upload.
    pub offset: u64,
    /// Its length in bytes.
    pub size: u64,
    /// The attempt that wrote the segment. Its key is made of the offset and the attempt.
    pub attempt: Suffix,
}

impl Segment {
    /// The memory that a segment takes, in bytes, roughly.
    pub const WEIGHT: usize = 80;

    /// Returns the key of this segment in upload `id`.
    #[must_use]
    pub fn key(&self, id: &UploadId) -> String {
        DataKey::Segment(self.offset, self.attempt).of(id)
    }
}

/// The content of a blob copy: some segments are a digest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CopyRecord {
    /// Their length in bytes, all together.
    pub size: u64,
    /// The segments, in order.
    pub segments: Vec<Segment>,
    /// The time of the write, in milliseconds since 1970.
    pub at: u64,
    /// The author of the upload.
    pub by: Actor,
}

/// The objects of an upload under `data/`, as a look saw them: the marks before the segments.
#[derive(Clone, Debug)]
pub struct SeenSegments {
    /// All objects: marks, corruption notes and segments.
    pub entries: Vec<Entry>,
    /// The marks that went while the segments were looked at.
    gone_marks: Vec<Entry>,
}

impl SeenSegments {
    /// Looks at the objects of an upload.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn look(store: &Store, id: &UploadId) -> Result<Self> {
        let prefix = Prefix::Data(id).to_string();
        let entries = store.list_all(&prefix).await?;
        if store.ordered_listings() {
            return Ok(Self { entries, gone_marks: Vec::new() });
        }
        // a directory is not read at one moment: the segments must be seen after the marks were
        Ok(Self::new(entries, store.list_all(&prefix).await?))
    }

    /// Joins two listings of an upload, in the order in which they were read.
    #[must_use]
    pub fn new(before: Vec<Entry>, entries: Vec<Entry>) -> Self {
        let is_gone = |mark: &Entry| entries.iter().all(|entry| entry.key != mark.key);
        let gone_marks = before.into_iter().filter(|entry| DataKey::is_mark(&entry.key) && is_gone(entry)).collect();
        Self { entries, gone_marks }
    }

    /// Returns the marks.
    pub fn marks(&self) -> impl Iterator<Item = &Entry> {
        self.gone_marks.iter().chain(&self.entries).filter(|entry| DataKey::is_mark(&entry.key))
    }

    /// Returns the keys of the corruption notes.
    pub fn corruption_notes(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.key.as_str()).filter(|key| DataKey::is_corrupt(key))
    }

    /// Returns the difference between the segments of a blob copy and what is there, in a few words, if there is one.
    #[must_use]
    pub fn fault(&self, id: &UploadId, segments: &[Segment], size: u64) -> Option<String> {
        let mut offset = 0;
        for segment in segments {
            if segment.offset != offset {
                return Some("the segments in the record of its bytes do not follow each other".to_owned());
            }
            offset += segment.size;
            let key = segment.key(id);
            // a listing is in the order of its keys, so a search is cheap; an upload of 10,000 chunks must not cost
            // their square
            match self.entries.binary_search_by(|entry| entry.key.as_str().cmp(&key)) {
                Err(_) => return Some(format!("its bytes under {key} are gone")),
                Ok(at) if self.entries[at].size != segment.size => {
                    let (found, size) = (self.entries[at].size, segment.size);
                    return Some(format!("its bytes under {key} are {found} long instead of {size}"));
                }
                Ok(_) => {}
            }
        }
        (offset != size).then(|| format!("the record of its bytes says {size} bytes, and its segments have {offset}"))
    }
}
