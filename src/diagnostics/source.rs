//! A file as it was read.

use std::{borrow::Cow, fmt, ops::Range, sync::OnceLock};

use super::{keys::Keys, mask};

/// A TOML file: its path and its text.
#[derive(Clone)]
pub struct Source {
    /// The path, as errors show it.
    pub name: String,
    /// The content of the file.
    pub text: String,
    /// Set for a file with secrets: the keys whose values errors may show.
    keys: Option<&'static Keys>,
    /// The ranges that errors must not show, found at the first error: a file may have thousands.
    hidden: OnceLock<Vec<Range<usize>>>,
}

impl Source {
    /// Returns a file whose whole text errors may show.
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), keys: None, hidden: OnceLock::new() }
    }

    /// Returns the same file, of which errors show no secret and no value of a key that is not among `keys`.
    pub(crate) fn hiding(self, keys: &'static Keys) -> Self {
        Self { keys: Some(keys), hidden: OnceLock::new(), ..self }
    }

    /// Returns the last part of the path.
    pub(crate) fn short_name(&self) -> &str {
        self.name.rsplit(['/', '\\']).next().unwrap_or(&self.name)
    }

    /// Returns the ranges of the text, in bytes, that errors must not show. `harmless` is a range that has no keys in it: an
    /// expression such as `a = "b"` looks like a key.
    pub(super) fn hidden(&self, harmless: &Range<usize>) -> Cow<'_, [Range<usize>]> {
        let Some(keys) = self.keys else { return Cow::default() };
        if harmless.is_empty() {
            return self.hidden.get_or_init(|| mask::hidden(&self.text, keys)).into();
        }
        let mut bytes = self.text.clone().into_bytes();
        bytes[harmless.clone()].fill(b'x');
        mask::hidden(&String::from_utf8_lossy(&bytes), keys).into()
    }
}

impl fmt::Debug for Source {
    /// Leaves the text out, which may have secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}
