//! Reads versions of manifests: from memory, or from the store with a check of the digest.

use std::sync::Arc;

use super::{Registry, Result, manifests::StoredManifest};
use crate::{
    oci::Digest,
    records::{ManifestHeader, key::Version},
    storage::StorageError,
};

impl Registry {
    /// Returns a version from memory, unless another process found it damaged.
    pub(super) async fn known_version(&self, key: &str) -> Result<Option<Arc<StoredManifest>>> {
        if !self.versions.contains_key(key) {
            return Ok(None);
        }
        self.read_damage_reports().await?;
        Ok(self.versions.get(key))
    }

    /// Returns the version of a manifest under a key, or `None` if it is gone.
    ///
    /// # Errors
    /// Damage, if the bytes are not `digest`. Then this process forgets the digest.
    pub(super) async fn version(&self, digest: &Digest, key: &str) -> Result<Option<Arc<StoredManifest>>> {
        if let Some(stored) = self.known_version(key).await? {
            return Ok(Some(stored));
        }
        let ticket = self.known.ticket();
        let damaged = |what: String| StorageError::damaged("get", key, what);
        let check = |content| ManifestHeader::checked(digest, &content);
        let Some(read) = Box::pin(self.store.get_checked(key, check)).await? else { return Ok(None) };
        let (header, bytes) = match read {
            Ok(read) => read,
            Err(what) => {
                tracing::error!(%digest, key, what, "a stored manifest is damaged; push it again");
                self.found_damaged(digest).await;
                return Err(damaged(what).into());
            }
        };
        let ordinal =
            Version::at_end_of(key).ok_or_else(|| damaged("its name is not one of the layout".into()))?.ordinal;
        let stored = Arc::new(StoredManifest::new(*digest, header.media_type, bytes, ordinal, header.absent));
        if self.known.ticket() == ticket {
            self.versions.insert(key.to_owned(), Arc::clone(&stored));
        }
        Ok(Some(stored))
    }
}
