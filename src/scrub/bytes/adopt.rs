//! Writes blob copies that were lost or damaged again, from the bytes themselves.
//!
//! A manifest needs a digest without a usable blob copy, and there are bytes that no blob copy names: scrub reads and
//! hashes these. Only damage leads to this.

use std::collections::HashSet;

use super::{
    super::{Outcome, Pass, Result, hash::hash_segments, notes::found},
    Context,
    facts::is_linked,
};
use crate::{
    action::UploadId,
    oci::{Algorithm, Digest},
    records::{
        CopyRecord, Segment, json,
        key::{BlobKey, DataKey, Prefix},
    },
    storage::Entry,
};

/// Looks for needed digests among the bytes that no blob copy names.
pub(super) async fn run(context: &Context<'_>) -> Result<()> {
    if !context.does(Pass::Links) && !context.does(Pass::Garbage) && !context.does(Pass::Uploads) {
        return Ok(());
    }
    let ids: Vec<UploadId> = context.table.silent().map(super::table::Row::id).collect();
    let mut homeless = HashSet::new();
    for digest in context.found.homeless.iter().filter(|_| !ids.is_empty()) {
        // a digest that never came to a cached manifest is not lost
        if is_linked(context.run, digest).await? {
            homeless.insert(*digest);
        }
    }
    for id in ids {
        if homeless.is_empty() {
            break;
        }
        if let Some(digest) = context.adopt(&id, &homeless).await? {
            homeless.remove(&digest);
        }
    }
    Ok(())
}

impl Context<'_> {
    /// Hashes the bytes of an upload, and writes the blob copy again if they are a wanted digest. Returns that digest.
    pub(super) async fn adopt(&self, id: &UploadId, wanted: &HashSet<Digest>) -> Result<Option<Digest>> {
        let keys = self.run.store.list_all(&Prefix::Data(id).to_string()).await?;
        let noted = |entry: &Entry| DataKey::is_mark(&entry.key) || DataKey::is_corrupt(&entry.key);
        if keys.iter().any(noted) || !keys.iter().all(|entry| self.ages.is_old(entry)) {
            return Ok(None);
        }
        let Some(segments) = chain(&keys) else { return Ok(None) };
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = hash_segments(&self.run.store, algorithm, id, &segments).await?;
            let Some(digest) = digest.filter(|digest| wanted.contains(digest)) else { continue };
            let number = segments.len();
            let size = segments.iter().map(|segment| segment.size).sum();
            let fact = CopyRecord { size, segments, at: self.ages.at(), by: self.run.by.clone() };
            let key = BlobKey::Copy(id.clone()).of(&digest);
            self.run.put(&key, json(&fact)).await?;
            // the reference first, then the look: another scrub may be freeing the bytes
            let again = self.run.store.list_all(&Prefix::Data(id).to_string()).await?;
            if again.iter().any(noted) || chain(&again).is_none_or(|again| again.len() != number) {
                return Ok(None);
            }
            self.adopted.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(id.clone());
            let says = format!("the record of where the bytes of blob {digest} are was damaged; it is written again");
            found(self.run, &key, &says, Outcome::Repaired)?;
            return Ok(Some(digest));
        }
        Ok(None)
    }
}

/// Returns the segments of an upload if they follow each other from offset 0 without a gap. Otherwise returns nothing.
fn chain(keys: &[Entry]) -> Option<Vec<Segment>> {
    let mut end = 0;
    let mut segments = Vec::with_capacity(keys.len());
    for entry in keys {
        let DataKey::Segment(offset, attempt) = DataKey::at_end_of(&entry.key)? else { return None };
        if offset != end {
            return None;
        }
        end += entry.size;
        segments.push(Segment { offset, size: entry.size, attempt });
    }
    (!segments.is_empty()).then_some(segments)
}

#[cfg(test)]
mod tests {
    use super::{super::super::ages::tests::*, *};
    use crate::records::key::Suffix;

    #[test]
    fn only_segments_one_behind_the_other_are_a_chain() {
        let id = UploadId::random();
        let at = |offset, size| entry(&DataKey::Segment(offset, Suffix(0xa)).of(&id), size, 500);
        let chained = chain(&[at(0, 3), at(3, 4)]).unwrap();
        assert_eq!(chained.iter().map(|segment| (segment.offset, segment.size)).collect::<Vec<_>>(), [(0, 3), (3, 4)]);
        assert!(chain(&[at(0, 3), at(4, 4)]).is_none());
        assert!(chain(&[at(1, 3)]).is_none());
        assert!(chain(&[]).is_none());
        assert!(chain(&[entry(&(Prefix::Data(&id).to_string() + "x"), 3, 500)]).is_none());
    }
}
