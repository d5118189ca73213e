//! An image as retention rules see it.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

/// An image as retention policies see it: a tag of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `image.tag`. Empty: it has none, and is in no list of tags.
    pub tag: String,
    /// `image.digest`: of its manifest.
    pub digest: String,
    /// `image.media_type`: of its manifest.
    pub media_type: String,
    /// `image.size`: with its layers, in bytes.
    pub size: u64,
    /// `image.pushed_at`: when it was last pushed. None: not known, so that a rule which asks fails, and keeps.
    pub pushed_at: Option<Timestamp>,
    /// `image.last_pulled_at`: when it was last pulled, or pushed where it never was. None: not known, as above.
    pub last_pulled_at: Option<Timestamp>,
    /// `image.annotations`, shared by the tags of one manifest.
    pub annotations: Arc<BTreeMap<String, String>>,
    /// `image.immutable`: whether its tag keeps the meaning that it was first given. It stays unless a rule says so
    /// explicitly: where no rule names this variable, whatever the rules say.
    pub immutable: bool,
}
