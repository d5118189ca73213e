//! A close look at one copy of a digest's bytes.

use super::super::{Outcome, Result, ages::AgeThresholds, hash::hash_segments, notes::found, run::Run};
use crate::{
    action::UploadId,
    oci::Digest,
    records::{
        CopyRecord, SeenSegments,
        key::{DataKey, Key, Prefix, Suffix},
    },
    storage::Entry,
};

/// The state of the bytes of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::scrub) enum State {
    /// All bytes exist, without a mark.
    Sound,
    /// All bytes exist, under marks.
    Marked {
        /// True if all marks are older than a lease, so that their scrubs have ended.
        dead: bool,
    },
    /// There is a corruption note.
    Corrupt,
    /// The bytes do not match the blob copy, or it cannot be read. The text says how.
    Broken(String),
}

/// A copy of a digest's bytes.
#[derive(Clone, Debug)]
pub(in crate::scrub) struct Copy {
    pub(in crate::scrub) id: UploadId,
    /// The blob copy, the record that names the bytes.
    pub(in crate::scrub) entry: Entry,
    /// The content of the blob copy, if it can be read.
    pub(in crate::scrub) fact: Option<CopyRecord>,
    pub(in crate::scrub) state: State,
    /// All keys under `data/` of the upload.
    pub(super) seen: SeenSegments,
}

impl Copy {
    /// Returns the bytes that all keys of the upload take, whether the blob copy names them or not.
    pub(super) fn stored(&self) -> u64 {
        self.seen.entries.iter().map(|entry| entry.size).sum()
    }

    /// Returns the length of the blob by its blob copy, or 0 if that cannot be read.
    pub(in crate::scrub) fn size(&self) -> u64 {
        self.fact.as_ref().map_or(0, |fact| fact.size)
    }

    /// Returns whether the bytes hash to `digest`. Returns nothing if they are not all there. Reads wrong bytes once more,
    /// unless they have a corruption note: one read may go wrong where the bytes are right.
    pub(in crate::scrub) async fn hashes_to(&self, run: &Run<'_>, digest: &Digest) -> Result<Option<bool>> {
        let Some(fact) = &self.fact else { return Ok(None) };
        let is = async || {
            let found = hash_segments(&run.store, digest.algorithm(), &self.id, &fact.segments).await?;
            Ok(found.map(|found| found == *digest))
        };
        match is().await? {
            Some(false) if self.state != State::Corrupt => is().await,
            found => Ok(found),
        }
    }

    /// Returns the keys of the corruption notes.
    pub(in crate::scrub) fn notes(&self) -> Vec<&str> {
        self.seen.corruption_notes().collect()
    }

    /// Returns the old keys that are neither a segment of the copy nor a mark or note. Failed attempts left them.
    pub(super) fn left_over(&self, ages: AgeThresholds) -> impl Iterator<Item = &Entry> {
        let named: Vec<String> = self.fact.iter().flat_map(|fact| &fact.segments).map(|it| it.key(&self.id)).collect();
        self.seen.entries.iter().filter(move |entry| {
            let is_note = DataKey::is_mark(&entry.key) || DataKey::is_corrupt(&entry.key);
            !is_note && ages.is_old(entry) && !named.contains(&entry.key)
        })
    }
}

/// Looks at all copies of a digest, smallest id first: blob copies, then marks, then bytes.
pub(in crate::scrub) async fn look_all(run: &Run<'_>, ages: AgeThresholds, digest: &Digest) -> Result<Vec<Copy>> {
    let mut copies = Vec::new();
    for entry in run.store.list_all(&Prefix::Copies(digest).to_string()).await? {
        copies.extend(look(run, ages, entry).await?);
    }
    Ok(copies)
}

/// Looks at one copy. Returns nothing if its blob copy is gone.
pub(in crate::scrub) async fn look(run: &Run<'_>, ages: AgeThresholds, entry: Entry) -> Result<Option<Copy>> {
    let Some(id) = Key::copy(&entry.key).map(|(_, id)| id) else { return Ok(None) };
    let read =
        |content: bytes::Bytes| serde_json::from_slice::<CopyRecord>(&content).map_err(|error| error.to_string());
    let Some(fact) = run.store.get_checked(&entry.key, read).await? else { return Ok(None) };
    let seen = SeenSegments::look(&run.store, &id).await?;
    let state = judge(&id, fact.as_ref().map_err(String::as_str), &seen, ages);
    Ok(Some(Copy { id, entry, fact: fact.ok(), state, seen }))
}

/// Reports the bytes of a copy as corrupt, and then writes a corruption note, so that no server reads them any more.
pub(in crate::scrub) async fn note_corrupt(
    run: &Run<'_>,
    digest: &Digest,
    copy: &Copy,
    says: &str,
    outcome: Outcome,
) -> Result<()> {
    // the report comes first: if a run ends between the two, the next run reports the fault again
    found(run, &Prefix::Data(&copy.id).to_string(), says, outcome)?;
    run.put(&DataKey::Corrupt(Suffix::random()).of(&copy.id), Vec::new()).await?;
    run.report_damage(digest).await
}

fn judge(
    id: &UploadId,
    fact: std::result::Result<&CopyRecord, &str>,
    seen: &SeenSegments,
    ages: AgeThresholds,
) -> State {
    let fact = match fact {
        Ok(fact) => fact,
        Err(error) => return State::Broken(format!("the record of where its bytes are cannot be read: {error}")),
    };
    if let Some(says) = seen.fault(id, &fact.segments, fact.size) {
        return State::Broken(says);
    }
    if seen.corruption_notes().next().is_some() {
        return State::Corrupt;
    }
    let mut marks = seen.marks().peekable();
    if marks.peek().is_none() { State::Sound } else { State::Marked { dead: marks.all(|mark| ages.is_old(mark)) } }
}

#[cfg(test)]
mod tests {
    use super::{super::super::ages::tests::*, *};
    use crate::records::{Actor, Segment, key::Suffix};

    fn fact(sizes: &[u64]) -> CopyRecord {
        let mut offset = 0;
        let segments = sizes.iter().map(|size| {
            offset += size;
            Segment { offset: offset - size, size: *size, attempt: Suffix(10) }
        });
        let segments = segments.collect();
        CopyRecord { size: offset, segments, at: 0, by: Actor::default() }
    }

    fn keys(id: &UploadId, fact: &CopyRecord) -> Vec<Entry> {
        fact.segments.iter().map(|segment| entry(&segment.key(id), segment.size, 500)).collect()
    }

    fn seen(before: &[Entry], entries: &[Entry]) -> SeenSegments {
        SeenSegments::new(before.to_vec(), entries.to_vec())
    }

    #[test]
    fn a_copy_is_sound_with_every_segment_at_its_size() {
        let id = UploadId::random();
        let fact = fact(&[3, 4]);
        let all = keys(&id, &fact);
        let state = |keys: &[Entry]| judge(&id, Ok(&fact), &seen(&[], keys), AGES);
        assert_eq!(state(&all), State::Sound);
        assert!(matches!(state(&all[..1]), State::Broken(says) if says.contains("gone")));
        let mut short = all.clone();
        short[1].size = 3;
        assert!(matches!(state(&short), State::Broken(says) if says.contains("3 long instead of 4")));
        assert!(matches!(judge(&id, Err("eof"), &seen(&[], &all), AGES), State::Broken(says) if says.contains("eof")));
        let empty = CopyRecord { size: 0, segments: vec![], ..fact.clone() };
        assert_eq!(judge(&id, Ok(&empty), &seen(&[], &[]), AGES), State::Sound);
        let lying = CopyRecord { size: 9, ..fact.clone() };
        assert!(matches!(judge(&id, Ok(&lying), &seen(&[], &all), AGES), State::Broken(_)));
    }

    #[test]
    fn marks_are_dead_when_all_of_them_are_old() {
        let id = UploadId::random();
        let fact = fact(&[3]);
        let marks = |ages: &[u64]| {
            let mark = |(at, age): (u64, &u64)| entry(&DataKey::Mark(Suffix(at)).of(&id), 0, *age);
            let marks: Vec<Entry> = (0..).zip(ages).map(mark).collect();
            let keys: Vec<Entry> = marks.iter().cloned().chain(keys(&id, &fact)).collect();
            judge(&id, Ok(&fact), &seen(&marks, &keys), AGES)
        };
        assert_eq!(marks(&[500, 100]), State::Marked { dead: true });
        assert_eq!(marks(&[500, 99]), State::Marked { dead: false });
        let only_at_first =
            judge(&id, Ok(&fact), &seen(&[entry(&DataKey::Mark(Suffix(1)).of(&id), 0, 1)], &keys(&id, &fact)), AGES);
        assert_eq!(only_at_first, State::Marked { dead: false }, "a mark that went while the bytes were looked at");
        let note = entry(&DataKey::Corrupt(Suffix(0xa)).of(&id), 0, 1);
        let corrupt: Vec<Entry> = [note].into_iter().chain(keys(&id, &fact)).collect();
        assert_eq!(judge(&id, Ok(&fact), &seen(&[], &corrupt), AGES), State::Corrupt);
    }
}
