//! A table of the objects under `data/`, with 32 bytes for each upload.

use super::super::ages::AgeThresholds;
use crate::{action::UploadId, records::key::DataKey, storage::Entry};

/// The objects of one upload, as a listing showed them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    id: u128,
    /// The bytes of all segments together.
    pub(super) bytes: u64,
    pub(super) segments: u16,
    /// The combined [`print`] of the names of the segments.
    names: u16,
    flags: u8,
    /// The number of digests that name the upload. There may be two after a power cut.
    named: u8,
    /// The number of those digests that nothing needs.
    unneeded: u8,
}

/// An object of the upload is younger than a lease.
const YOUNG: u8 = 1;
/// The upload has a mark, of any scrub.
const MARKED: u8 = 2;
/// The upload has a corruption note.
const CORRUPT: u8 = 4;

impl Row {
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns whether the upload matches a blob copy with these totals, and has neither a mark nor a corruption note.
    /// Such an upload needs no closer look.
    pub(super) fn is_plain(&self, bytes: u64, segments: usize, names: u16) -> bool {
        self.bytes == bytes
            && usize::from(self.segments) == segments
            && self.names == names
            && !self.has(MARKED)
            && !self.has(CORRUPT)
    }

    pub(super) fn id(&self) -> UploadId {
        from_number(self.id)
    }

    fn add(&mut self, entry: &Entry, ages: AgeThresholds) {
        if !ages.is_old(entry) {
            self.flags |= YOUNG;
        }
        if DataKey::is_mark(&entry.key) {
            self.flags |= MARKED;
        } else if DataKey::is_corrupt(&entry.key) {
            self.flags |= CORRUPT;
        } else {
            self.bytes += entry.size;
            // a blob copy with more segments than fit never matches, so it always gets a closer look
            self.segments = self.segments.saturating_add(1);
            self.names ^= print(&entry.key);
        }
    }
}

/// Returns a few bits of a hash of a name, to be combined by exclusive or. By them, scrub notices a damaged blob copy
/// that names segments that do not exist.
pub(super) fn print(key: &str) -> u16 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    u16::try_from(hasher.finish() >> 48).unwrap_or_default()
}

/// The rows of all uploads, in the order of their ids.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Row>);

impl Table {
    /// Adds a key of an upload. Keys have to come in the order of the ids.
    pub(super) fn add(&mut self, id: &UploadId, entry: &Entry, ages: AgeThresholds) {
        let number = number(id);
        if self.0.last().is_none_or(|row| row.id != number) {
            self.0.push(Row { id: number, ..Row::default() });
        }
        if let Some(row) = self.0.last_mut() {
            row.add(entry, ages);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, id: &UploadId) -> Option<&Row> {
        Some(&self.0[self.find(id)?])
    }

    /// Counts a digest that names the upload.
    pub(super) fn name(&mut self, id: &UploadId, needed: bool) {
        if let Some(at) = self.find(id) {
            let row = &mut self.0[at];
            row.named = row.named.saturating_add(1);
            row.unneeded = row.unneeded.saturating_add(u8::from(!needed));
        }
    }

    /// Returns whether several digests name the upload.
    pub(super) fn is_shared(&self, id: &UploadId) -> bool {
        self.get(id).is_some_and(|row| row.named > 1)
    }

    /// Returns whether a needed digest names the upload.
    pub(super) fn is_needed(&self, id: &UploadId) -> bool {
        self.get(id).is_some_and(|row| row.named > row.unneeded)
    }

    /// Returns whether the listing showed keys of the upload, and no digest names it.
    pub(super) fn is_unnamed(&self, id: &UploadId) -> bool {
        self.get(id).is_some_and(|row| row.named == 0)
    }

    pub(super) fn any_shared(&self) -> bool {
        self.0.iter().any(|row| row.named > 1)
    }

    /// Returns the uploads that no digest names and whose listed keys are all older than a lease.
    pub(super) fn silent(&self) -> impl Iterator<Item = &Row> {
        self.0.iter().filter(|row| row.named == 0 && !row.has(YOUNG))
    }

    /// Counts the uploads that no digest names and that have a key younger than a lease.
    pub(super) fn young(&self) -> u64 {
        self.0.iter().filter(|row| row.named == 0 && row.has(YOUNG)).count() as u64
    }

    fn find(&self, id: &UploadId) -> Option<usize> {
        let number = number(id);
        self.0.binary_search_by_key(&number, |row| row.id).ok()
    }
}

fn number(id: &UploadId) -> u128 {
    // an id is hyphenated and in lower case, so the numbers have the order of the keys
    id.to_string()
        .bytes()
        .filter_map(|byte| char::from(byte).to_digit(16))
        .fold(0, |number, digit| number << 4 | u128::from(digit))
}

fn from_number(number: u128) -> UploadId {
    let text = uuid::Uuid::from_u128(number).hyphenated().to_string();
    text.parse().unwrap_or_else(|_| unreachable!("an id is written as it is read"))
}

#[cfg(test)]
mod tests {
    use super::{super::super::ages::tests::*, *};
    use crate::records::key::Suffix;

    fn id(text: &str) -> UploadId {
        text.parse().unwrap()
    }

    const ONE: &str = "0a000000-0000-4000-8000-00000000000f";
    const TWO: &str = "f0000000-0000-4000-8000-000000000001";

    #[test]
    fn a_row_takes_32_bytes_and_knows_its_id() {
        assert_eq!(size_of::<Row>(), 32);
        for text in [ONE, TWO] {
            assert_eq!(from_number(number(&id(text))).to_string(), text);
        }
        assert!(number(&id(ONE)) < number(&id(TWO)));
    }

    #[test]
    fn marks_and_notes_are_no_bytes() {
        let mut table = Table::default();
        let (one, two) = (id(ONE), id(TWO));
        table.add(&one, &entry(&DataKey::Segment(0, Suffix(0xa)).of(&one), 7, 500), AGES);
        table.add(&one, &entry(&DataKey::Segment(7, Suffix(0xb)).of(&one), 5, 500), AGES);
        table.add(&two, &entry(&DataKey::Mark(Suffix(0xcd)).of(&two), 0, 500), AGES);
        table.add(&two, &entry(&DataKey::Segment(0, Suffix(0xa)).of(&two), 9, 500), AGES);
        assert_eq!(table.len(), 2);
        let names = |id, offsets: &[u64]| {
            offsets
                .iter()
                .zip([Suffix(0xa), Suffix(0xb)])
                .fold(0, |all, (at, name)| all ^ print(&DataKey::Segment(*at, name).of(id)))
        };
        let (both, other) = (names(&one, &[0, 7]), names(&two, &[0]));
        assert!(table.get(&one).unwrap().is_plain(12, 2, both));
        assert!(!table.get(&one).unwrap().is_plain(12, 1, both));
        assert!(!table.get(&one).unwrap().is_plain(12, 2, names(&one, &[0, 8])), "another name");
        assert!(!table.get(&two).unwrap().is_plain(9, 1, other), "marked");
    }

    #[test]
    fn what_one_of_two_digests_needs_is_needed() {
        let mut table = Table::default();
        let one = id(ONE);
        table.add(&one, &entry(&DataKey::Segment(0, Suffix(0xa)).of(&one), 7, 500), AGES);
        assert_eq!(table.silent().count(), 1);
        table.name(&one, false);
        assert!(!table.is_shared(&one) && !table.is_needed(&one));
        assert_eq!(table.silent().count(), 0);
        table.name(&one, true);
        assert!(table.is_shared(&one) && table.is_needed(&one));
    }

    #[test]
    fn what_is_young_is_not_silent() {
        let mut table = Table::default();
        let one = id(ONE);
        table.add(&one, &entry(&DataKey::Segment(0, Suffix(0xa)).of(&one), 7, 99), AGES);
        assert_eq!(table.silent().count(), 0);
    }
}
