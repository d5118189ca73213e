//! Groups of neighbours in a listing.

use std::pin::Pin;

use futures::{Stream, TryStreamExt as _, stream};

use crate::storage::{Entry, Result};

/// The function that returns the group of a key, if there is one.
type GroupOf<K> = Box<dyn Fn(&str) -> Option<K> + Send + Sync>;

/// The objects of a listing, one group of neighbours at a time. Leaves out objects without a group.
pub struct Groups<K> {
    listing: Pin<Box<dyn Stream<Item = Result<Entry>> + Send>>,
    of: GroupOf<K>,
    next: Option<(K, Entry)>,
}

impl<K: PartialEq> Groups<K> {
    /// Groups a listing by what `of` returns for a key.
    pub fn new(
        listing: impl Stream<Item = Result<Entry>> + Send + 'static,
        of: impl Fn(&str) -> Option<K> + Send + Sync + 'static,
    ) -> Self {
        Self { listing: Box::pin(listing), of: Box::new(of), next: None }
    }

    /// Returns the next group.
    ///
    /// # Errors
    /// Those of the listing.
    pub async fn next(&mut self) -> Result<Option<(K, Vec<Entry>)>> {
        let mut group: Option<(K, Vec<Entry>)> = self.next.take().map(|(key, entry)| (key, vec![entry]));
        while let Some(entry) = self.listing.try_next().await? {
            let Some(key) = (self.of)(&entry.key) else { continue };
            match &mut group {
                None => group = Some((key, vec![entry])),
                Some((of, entries)) if *of == key => entries.push(entry),
                Some(_) => {
                    self.next = Some((key, entry));
                    break;
                }
            }
        }
        Ok(group)
    }
}

impl<K: PartialEq + Send> Groups<K> {
    /// Returns the groups as a stream.
    pub fn stream(self) -> impl Stream<Item = Result<(K, Vec<Entry>)>> + Send {
        stream::try_unfold(self, |mut groups| async move { Ok(groups.next().await?.map(|group| (group, groups))) })
    }
}
