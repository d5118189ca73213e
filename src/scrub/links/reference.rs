//! Checks of tags and referrers, which name manifests.

use super::{Group, Links};
use crate::{
    oci::{Descriptor, Digest, Name},
    records::{
        ManifestRecords,
        key::{Ordinal, Prefix, Referrer, RepositoryKey, Suffix, TagVersion, Version},
    },
    scrub::Result,
    storage::Entry,
};

/// The state of a manifest, seen from a record that names a version of it.
enum StateSince {
    /// It exists, and has since that version.
    Stands,
    /// It was deleted after that version, longer than a lease ago.
    Gone,
    /// The store has neither a version nor a tombstone that explains its absence.
    Nothing,
    /// A push or a delete may be under way.
    Unsure,
}

impl Links<'_, '_> {
    /// Returns the state of a manifest for a record that names its version `since`.
    async fn standing(&self, name: &Name, digest: &Digest, since: Ordinal) -> Result<StateSince> {
        let records = ManifestRecords::read(&self.run.store, name, *digest).await?;
        if records.pending_deletes.iter().any(|entry| !self.is_old(entry)) {
            return Ok(StateSince::Unsure);
        }
        let end = records.last_tombstone().filter(|(_, ordinal)| *ordinal > since);
        Ok(match (records.versions.first(), end) {
            (None, _) => StateSince::Nothing,
            (_, Some((end, _))) if self.is_old(end) => StateSince::Gone,
            (Some((_, newest)), None) if newest.there => StateSince::Stands,
            // deleted at or before the named version: the version that the push wrote was lost
            (Some((newest, _)), None) if self.is_old(newest) => StateSince::Nothing,
            (Some(_), _) => StateSince::Unsure,
        })
    }

    /// Checks that the newest version of a tag leads to an existing manifest, or is a tombstone.
    pub(super) async fn tag(&self, name: &Name, group: &Group) -> Result<()> {
        let mut newest: Option<(&Entry, TagVersion)> = None;
        let mut of = None;
        for entry in group {
            match RepositoryKey::tag_version(name, &entry.key) {
                None => self.unknown(entry).await?,
                Some((tag, version)) if newest.is_none() => {
                    newest = Some((entry, version));
                    of = Some(tag);
                }
                Some(_) => {}
            }
        }
        let (Some((entry, version)), Some(tag)) = (newest, of) else { return Ok(()) };
        let Some((digest, since)) = version.target else { return Ok(()) };
        let standing = self.standing(name, &digest, since).await?;
        // a push writes the manifest first, so a manifest without versions was lost, however young the tag is
        let is_lost = matches!(standing, StateSince::Nothing) && self.run.store.size(&entry.key).await?.is_some();
        if !is_lost && !self.is_judged(entry) {
            return Ok(());
        }
        match standing {
            StateSince::Stands | StateSince::Unsure => Ok(()),
            StateSince::Nothing => {
                let says = format!(
                    "tag {name}:{tag} names manifest {digest}, which is not in the store; push the image again, or delete \
                     the tag"
                );
                self.wrong(&entry.key, &says).await
            }
            StateSince::Gone => {
                let old = |claim: &Entry| self.is_old(claim);
                let run = self.run;
                if !run.options.dry_run && !run.registry.tags.end(name, &tag, Some(version), &old, &run.by).await? {
                    return Ok(());
                }
                let says =
                    format!("tag {name}:{tag} was listed though its manifest {digest} was deleted; it is gone now");
                self.repaired(&entry.key, &says)
            }
        }
    }

    /// Checks that the manifest of a referrer exists. Writes a tombstone of the referrer otherwise.
    pub(super) async fn referrer(&self, name: &Name, group: &Group) -> Result<()> {
        let mut newest: Option<(&Entry, Referrer, Version)> = None;
        for entry in group {
            match RepositoryKey::referrer(name, &entry.key) {
                None => self.unknown(entry).await?,
                Some((referrer, version)) => {
                    newest.get_or_insert((entry, referrer, version));
                }
            }
        }
        let Some((entry, referrer, version)) = newest.filter(|(.., version)| version.there) else { return Ok(()) };
        let Referrer { subject, manifest } = referrer;
        let gone = match self.standing(name, &manifest, version.ordinal).await? {
            StateSince::Stands | StateSince::Unsure => false,
            // as for a tag: a push writes the manifest first, so the manifest was lost, however young the entry is
            StateSince::Nothing => self.run.store.size(&entry.key).await?.is_some(),
            StateSince::Gone => self.is_judged(entry),
        };
        if !gone {
            return Ok(());
        }
        let ordinal = Ordinal::after(Some(version.ordinal), 0);
        let key = referrer.version(name, Version { ordinal, there: false }, Suffix::random());
        let says = format!(
            "manifest {manifest} of {name} was listed among the referrers of {subject} and is not there; it is listed \
             no more"
        );
        self.repaired(&key, &says)?;
        self.run.put(&key, self.stamp()).await
    }

    /// Compares the newest referrer of a manifest with the descriptor that it should have.
    pub(super) async fn is_listed(&self, name: &Name, subject: &Digest, wanted: &Descriptor) -> Result<Listed> {
        let prefix = Prefix::Referrer(name, subject, &wanted.digest).to_string();
        let listed = self.run.store.list(&prefix, None, 1).await?;
        let Some(entry) = listed.into_iter().next() else { return Ok(Listed::Not) };
        let Some(version) = Version::at_end_of(&entry.key) else { return Ok(Listed::Yes) };
        if !version.there {
            return Ok(if self.is_old(&entry) { Listed::Gone(entry) } else { Listed::Unsure });
        }
        // if scrub freed it as superseded meanwhile, there is a newer one, which is young
        let is = |content: bytes::Bytes| match serde_json::from_slice::<Descriptor>(&content) {
            Ok(descriptor) if descriptor == *wanted => Ok(()),
            _ => Err(()),
        };
        Ok(match self.run.store.get_checked(&entry.key, is).await? {
            None => Listed::Unsure,
            Some(Ok(())) => Listed::Yes,
            Some(Err(())) => Listed::Otherwise(entry),
        })
    }
}

/// The state of a manifest among the referrers of its subject.
pub(super) enum Listed {
    /// It is listed as it should be.
    Yes,
    /// A delete may be under way.
    Unsure,
    /// There is no entry.
    Not,
    /// This entry is a tombstone, older than a lease.
    Gone(Entry),
    /// This entry has another descriptor, or cannot be read.
    Otherwise(Entry),
}
