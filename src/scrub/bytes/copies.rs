//! A close look at one copy of a digest's bytes.

use super::super::{Outcome, Result, ages::Ages, notes::found, run::Run};
use crate::{
    action::UploadId,
    oci::Digest,
    registry::facts::PlaceFact,
    storage::{Entry, layout},
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
    Rotten,
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
    pub(in crate::scrub) fact: Option<PlaceFact>,
    pub(in crate::scrub) state: State,
    /// All keys under `data/` of the upload.
    pub(super) keys: Vec<Entry>,
}

impl Copy {
    /// Returns the bytes that all keys of the upload take, whether the blob copy names them or not.
    pub(super) fn stored(&self) -> u64 {
        self.keys.iter().map(|entry| entry.size).sum()
    }

    /// Returns the length of the blob by its blob copy, or 0 if that cannot be read.
    pub(in crate::scrub) fn size(&self) -> u64 {
        self.fact.as_ref().map_or(0, |fact| fact.size)
    }

    /// Returns the keys of the corruption notes.
    pub(in crate::scrub) fn notes(&self) -> Vec<&str> {
        self.keys.iter().map(|entry| entry.key.as_str()).filter(|key| layout::is_rotten(&self.id, key)).collect()
    }

    /// Returns the old keys that are neither a segment of the copy nor a mark or note. Failed attempts left them.
    pub(super) fn left_over(&self, ages: Ages) -> impl Iterator<Item = &Entry> {
        let named: Vec<String> = self.fact.iter().flat_map(|fact| &fact.segments).map(|it| it.key(&self.id)).collect();
        self.keys.iter().filter(move |entry| {
            let is_note = layout::is_mark(&self.id, &entry.key) || layout::is_rotten(&self.id, &entry.key);
            !is_note && ages.is_old(entry) && !named.contains(&entry.key)
        })
    }
}

/// Looks at all copies of a digest, smallest id first: blob copies, then marks, then bytes.
pub(in crate::scrub) async fn look_all(run: &Run<'_>, ages: Ages, digest: &Digest) -> Result<Vec<Copy>> {
    let mut copies = Vec::new();
    for entry in run.store.list_all(&layout::places(digest)).await? {
        copies.extend(look(run, ages, entry).await?);
    }
    Ok(copies)
}

/// Looks at one copy. Returns nothing if its blob copy is gone.
pub(in crate::scrub) async fn look(run: &Run<'_>, ages: Ages, entry: Entry) -> Result<Option<Copy>> {
    let Some(id) = layout::place_id(&entry.key) else { return Ok(None) };
    let read = |content: bytes::Bytes| serde_json::from_slice::<PlaceFact>(&content).map_err(|error| error.to_string());
    let Some(fact) = run.store.get_checked(&entry.key, read).await? else { return Ok(None) };
    let prefix = layout::data(&id);
    let mut keys = run.store.list_all(&prefix).await?;
    let marked: Vec<Entry> = keys.iter().filter(|entry| layout::is_mark(&id, &entry.key)).cloned().collect();
    if !run.store.ordered_listings() {
        // a directory is not read at one moment: scrub must see the bytes after the marks
        keys = run.store.list_all(&prefix).await?;
    }
    let state = judge(&id, fact.as_ref().map_err(String::as_str), &marked, &keys, ages);
    Ok(Some(Copy { id, entry, fact: fact.ok(), state, keys }))
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
    found(run, &layout::data(&copy.id), says, outcome)?;
    run.put(&layout::rotten(&copy.id, &layout::attempt()), Vec::new()).await?;
    run.report_damage(digest).await
}

fn judge(
    id: &UploadId,
    fact: std::result::Result<&PlaceFact, &str>,
    marked: &[Entry],
    keys: &[Entry],
    ages: Ages,
) -> State {
    let fact = match fact {
        Ok(fact) => fact,
        Err(error) => return State::Broken(format!("the record of where its bytes are cannot be read: {error}")),
    };
    if let Some(says) = difference(id, fact, keys) {
        return State::Broken(says);
    }
    if keys.iter().any(|entry| layout::is_rotten(id, &entry.key)) {
        return State::Rotten;
    }
    let marks = || marked.iter().chain(keys).filter(|entry| layout::is_mark(id, &entry.key));
    if marks().next().is_some() { State::Marked { dead: marks().all(|mark| ages.is_old(mark)) } } else { State::Sound }
}

/// Returns the difference between the bytes and the blob copy in a few words, if there is one.
fn difference(id: &UploadId, fact: &PlaceFact, keys: &[Entry]) -> Option<String> {
    let mut offset = 0;
    for segment in &fact.segments {
        if segment.offset != offset {
            return Some("the segments in the record of its bytes do not follow each other".to_owned());
        }
        offset += segment.size;
        let key = segment.key(id);
        match keys.binary_search_by(|entry| entry.key.as_str().cmp(&key)) {
            Err(_) => return Some(format!("its bytes under {key} are gone")),
            Ok(at) if keys[at].size != segment.size => {
                let (found, size) = (keys[at].size, segment.size);
                return Some(format!("its bytes under {key} are {found} long instead of {size}"));
            }
            Ok(_) => {}
        }
    }
    (offset != fact.size)
        .then(|| format!("the record of its bytes says {} bytes, and its segments have {offset}", fact.size))
}

#[cfg(test)]
mod tests {
    use super::{super::super::ages::tests::*, *};
    use crate::registry::{By, facts::Segment};

    fn fact(sizes: &[u64]) -> PlaceFact {
        let mut offset = 0;
        let segments = sizes.iter().map(|size| {
            offset += size;
            Segment { offset: offset - size, size: *size, attempt: "a".into() }
        });
        let segments = segments.collect();
        PlaceFact { size: offset, segments, at: 0, by: By::default() }
    }

    fn keys(id: &UploadId, fact: &PlaceFact) -> Vec<Entry> {
        fact.segments.iter().map(|segment| entry(&segment.key(id), segment.size, 500)).collect()
    }

    #[test]
    fn a_copy_is_sound_with_every_segment_at_its_size() {
        let id = UploadId::random();
        let fact = fact(&[3, 4]);
        let all = keys(&id, &fact);
        let state = |keys: &[Entry]| judge(&id, Ok(&fact), &[], keys, AGES);
        assert_eq!(state(&all), State::Sound);
        assert!(matches!(state(&all[..1]), State::Broken(says) if says.contains("gone")));
        let mut short = all.clone();
        short[1].size = 3;
        assert!(matches!(state(&short), State::Broken(says) if says.contains("3 long instead of 4")));
        assert!(matches!(judge(&id, Err("eof"), &[], &all, AGES), State::Broken(says) if says.contains("eof")));
        let empty = PlaceFact { size: 0, segments: vec![], ..fact.clone() };
        assert_eq!(judge(&id, Ok(&empty), &[], &[], AGES), State::Sound);
        let lying = PlaceFact { size: 9, ..fact.clone() };
        assert!(matches!(judge(&id, Ok(&lying), &[], &all, AGES), State::Broken(_)));
    }

    #[test]
    fn marks_are_dead_when_all_of_them_are_old() {
        let id = UploadId::random();
        let fact = fact(&[3]);
        let marks = |ages: &[u64]| {
            let marks: Vec<Entry> =
                ages.iter().enumerate().map(|(at, age)| entry(&layout::mark(&id, &at.to_string()), 0, *age)).collect();
            let keys: Vec<Entry> = marks.iter().cloned().chain(keys(&id, &fact)).collect();
            judge(&id, Ok(&fact), &marks, &keys, AGES)
        };
        assert_eq!(marks(&[500, 100]), State::Marked { dead: true });
        assert_eq!(marks(&[500, 99]), State::Marked { dead: false });
        let only_at_first = judge(&id, Ok(&fact), &[entry(&layout::mark(&id, "a"), 0, 1)], &keys(&id, &fact), AGES);
        assert_eq!(only_at_first, State::Marked { dead: false }, "a mark that went while the bytes were looked at");
        let note = entry(&layout::rotten(&id, "a"), 0, 1);
        let rotten: Vec<Entry> = [note].into_iter().chain(keys(&id, &fact)).collect();
        assert_eq!(judge(&id, Ok(&fact), &[], &rotten, AGES), State::Rotten);
    }
}
