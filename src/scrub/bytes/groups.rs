//! Groups the listed keys under `blobs/` by digest.

use std::pin::Pin;

use futures::{Stream, StreamExt, stream};

use super::super::Result;
use crate::{
    oci::Digest,
    records::key::{Key, Owner, Prefix},
    storage::{Entry, StorageError},
};

/// Records about one digest.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) digest: Digest,
    /// The blob copies. The last part of a digest has all of them.
    pub(super) places: Vec<Entry>,
    /// The links, unlinks and pins of repositories.
    pub(super) rights: Vec<Entry>,
    /// True if parts of the digest came before.
    pub(super) later: bool,
    /// True if this is the last part of the digest.
    pub(super) last: bool,
}

/// An item of the listing.
#[derive(Debug)]
pub(super) enum Item {
    Digest(Group),
    /// A key that is none of the layout's.
    Strange(Entry),
}

/// The number of records of repositories about one digest that a part holds. A part may hold more pins of one manifest.
const MOST: usize = 4096;

/// Groups a listing of [`Prefix::Blobs`]. A digest with very many records comes in parts, each of which ends between
/// the pins of two manifests.
pub(super) fn groups(
    entries: impl Stream<Item = std::result::Result<Entry, StorageError>> + Send,
) -> impl Stream<Item = Result<Item>> + Send {
    groups_of(entries, MOST)
}

fn groups_of(
    entries: impl Stream<Item = std::result::Result<Entry, StorageError>> + Send,
    most: usize,
) -> impl Stream<Item = Result<Item>> + Send {
    let grouping = Grouping { entries: Box::pin(entries), open: None, waiting: None, most };
    stream::try_unfold(grouping, |mut grouping| async move { Ok(grouping.next().await?.map(|item| (item, grouping))) })
}

struct Grouping<S> {
    entries: Pin<Box<S>>,
    open: Option<Group>,
    /// The item that follows the one that was returned last.
    waiting: Option<Item>,
    most: usize,
}

impl<S: Stream<Item = std::result::Result<Entry, StorageError>>> Grouping<S> {
    async fn next(&mut self) -> Result<Option<Item>> {
        if let Some(item) = self.waiting.take() {
            return Ok(Some(item));
        }
        while let Some(entry) = self.entries.next().await.transpose()? {
            if let Some(item) = self.take(entry) {
                return Ok(Some(item));
            }
        }
        Ok(self.close(true).map(Item::Digest))
    }

    /// Adds an entry, and returns the item that it completes.
    fn take(&mut self, entry: Entry) -> Option<Item> {
        let Some(digest) = Owner::digest(&entry.key) else { return Some(Item::Strange(entry)) };
        let mut complete = None;
        if self.open.as_ref().is_some_and(|open| open.digest != digest) {
            complete = self.close(true);
        }
        if self.open.as_ref().is_some_and(|open| open.rights.len() >= self.most && !same(open.rights.last(), &entry)) {
            complete = self.close(false);
        }
        let later = complete.as_ref().is_some_and(|complete| !complete.last);
        let places = match complete.as_mut() {
            Some(complete) if later => std::mem::take(&mut complete.places),
            _ => Vec::new(),
        };
        let open = self.open.get_or_insert_with(|| Group { digest, places, rights: Vec::new(), later, last: true });
        let mut strange = None;
        if Key::copy(&entry.key).is_some() {
            open.places.push(entry);
        } else if Prefix::AllLinks(&digest).has(&entry.key) {
            open.rights.push(entry);
        } else {
            strange = Some(Item::Strange(entry));
        }
        match complete {
            Some(complete) => {
                self.waiting = strange;
                Some(Item::Digest(complete))
            }
            None => strange,
        }
    }

    fn close(&mut self, last: bool) -> Option<Group> {
        let mut group = self.open.take()?;
        group.last = last;
        Some(group)
    }
}

/// Returns whether two keys are pins by one manifest in one repository.
fn same(before: Option<&Entry>, entry: &Entry) -> bool {
    let link = Key::link(&entry.key);
    link.is_some() && before.is_some_and(|before| Key::link(&before.key) == link)
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;
    use crate::records::key::{BlobKey, BlobLink, Suffix};
    use crate::{
        action::UploadId,
        oci::{Algorithm, Name},
    };

    fn digest(text: &str) -> Digest {
        Digest::of(Algorithm::Sha256, text.as_bytes())
    }

    /// Describes the groups of these keys, in a word each.
    async fn told(mut keys: Vec<String>, most: usize) -> Vec<String> {
        keys.sort();
        let entries = keys.into_iter().map(|key| Ok(Entry { key, size: 0, modified: 1 }));
        let items = groups_of(stream::iter(entries), most);
        let told = items.map_ok(|item| match item {
            Item::Digest(Group { places, rights, later, last, .. }) => {
                format!(
                    "{} {}{}{}",
                    places.len(),
                    rights.len(),
                    if later { " later" } else { "" },
                    if last { "" } else { " more" }
                )
            }
            Item::Strange(entry) => entry.key,
        });
        told.try_collect().await.unwrap()
    }

    #[tokio::test]
    async fn facts_of_one_digest_come_together() {
        let (one, name) = (digest("one"), "a/b".parse::<Name>().unwrap());
        let place = |digest: &Digest| BlobKey::Copy(UploadId::random()).of(digest);
        let keys = vec![place(&one), BlobLink::Link.of(&one, &name, Suffix(1)), place(&digest("two")), place(&one)];
        let mut told = told(keys, 10).await;
        told.sort();
        assert_eq!(told, ["1 0", "2 1"]);
    }

    #[tokio::test]
    async fn a_digest_that_many_need_is_cut_between_manifests_and_its_places_come_last() {
        let (one, name) = (digest("one"), "a/b".parse::<Name>().unwrap());
        let (first, second) = (digest("first").min(digest("second")), digest("first").max(digest("second")));
        let mut keys = vec![BlobKey::Copy(UploadId::random()).of(&one)];
        keys.extend((0..5).map(|attempt| BlobLink::Pin(first).of(&one, &name, Suffix(attempt))));
        keys.extend((0..2).map(|attempt| BlobLink::Pin(second).of(&one, &name, Suffix(attempt))));
        assert_eq!(told(keys, 2).await, ["0 5 more", "1 2 later"]);
    }

    #[tokio::test]
    async fn what_is_no_key_of_the_layout_is_given_apart() {
        let one = digest("one");
        let stray = BlobKey::Copy(UploadId::random()).of(&one) + "x";
        let keys = vec![BlobKey::Copy(UploadId::random()).of(&one), stray.clone(), "blobs/what".to_owned()];
        let mut told = told(keys, 10).await;
        told.sort();
        let mut expected = vec!["1 0".to_owned(), stray, "blobs/what".to_owned()];
        expected.sort();
        assert_eq!(told, expected);
    }
}
