//! Reads manifests back.

use bytes::Bytes;

use super::{
    super::{Outcome, Result, notes::found},
    Content,
};
use crate::{
    oci::{Digest, Name},
    records::{
        ManifestHeader,
        key::{Key, ManifestKey, Prefix, RepositoryKey, Version},
    },
    storage::Entry,
};

/// Returns the repository, manifest and version of a key.
pub(super) fn thing(key: &str) -> Option<(Name, Digest, Version)> {
    match Key::parse(key)? {
        Key::Repository(name, RepositoryKey::Manifest(digest, ManifestKey::Version(version, _))) => {
            Some((name, digest, version))
        }
        _ => None,
    }
}

impl Content<'_> {
    /// Reads the newest version of a manifest back. Writes a damaged one again from another version that is whole, or
    /// notes the damage.
    pub(super) async fn manifest(&self, entry: Entry) -> Result<()> {
        let run = self.run;
        let Some((name, digest, _)) = thing(&entry.key) else { return Ok(()) };
        if !run.covers(&name) {
            return Ok(());
        }
        let check = |content: Bytes| match ManifestHeader::checked(&digest, &content) {
            Ok(_) => Ok(content.len() as u64),
            Err(what) => Err((what, content)),
        };
        let Some(read) = run.store.get_checked(&entry.key, check).await? else { return Ok(()) };
        let (what, damaged) = match read {
            Ok(length) => {
                self.verified(length);
                return Ok(());
            }
            Err(damaged) => damaged,
        };
        self.verified(damaged.len() as u64);
        let mut same_life = true;
        for other in run.store.list_all(&Prefix::Manifest(&name, &digest).to_string()).await? {
            let Some(version) = Version::at_end_of(&other.key) else { continue };
            same_life &= version.there;
            if !version.there || other.key == entry.key {
                continue;
            }
            let Some(content) = run.store.get(&other.key).await? else { continue };
            if ManifestHeader::checked(&digest, &content).is_ok()
                && let Some(content) = with_record_of(&damaged, content, same_life)
            {
                let says =
                    format!("manifest {name}@{digest} was damaged: {what}; it is written again from another version");
                found(run, &entry.key, &says, Outcome::Repaired)?;
                // under its own key, as it was: a newer version would hide a delete that is under way
                return run.put(&entry.key, content).await;
            }
        }
        let says = format!("manifest {name}@{digest} is damaged: {what}; push it again");
        self.notes.wrong(run, &entry.key, &says).await?;
        run.report_damage(&digest).await
    }
}

/// Returns the replacement of a damaged version: the manifest's bytes from another version, with the header of the
/// damaged one if that can be read. Otherwise returns the other version, if it is of the same life. A version from
/// before the last delete may record links that the repository does not have now.
fn with_record_of(damaged: &Bytes, other: Bytes, same_life: bool) -> Option<Bytes> {
    match (ManifestHeader::split(damaged), ManifestHeader::split(&other)) {
        (Ok((header, _)), Ok((_, bytes))) => Some(header.join(&bytes).into()),
        _ if same_life => Some(other),
        _ => None,
    }
}
