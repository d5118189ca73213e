//! Lists the first object of each folder: of each tag its newest version, for example.

use super::{Result, Store, disk::Directory, open::STEP};

/// The most objects that one request to a bucket lists.
const PAGE: usize = 1000;

/// The keys of the first objects of folders, in byte order.
#[derive(Clone, Debug, Default)]
pub struct FirstOfEach {
    /// The keys.
    pub keys: Vec<String>,
    /// The key to continue after, if more folders may follow.
    pub next: Option<String>,
}

impl Store {
    /// Lists the first object of about `wanted` folders directly under `prefix`, which ends in `/`. Begins with the
    /// folders whose names sort after the key `after`. The list may be empty although folders follow: then it has the
    /// key to continue after.
    ///
    /// # Errors
    /// Those of the store, and a listing that is out of order.
    pub async fn first_of_each(&self, prefix: &str, after: Option<&str>, wanted: usize) -> Result<FirstOfEach> {
        if let Some(directory) = &self.inner.directory {
            return self.first_of_each_in(directory, prefix, after, wanted).await;
        }
        // a few more objects than folders, for the later objects of a folder
        let limit = (wanted + wanted / 16 + 1).min(PAGE);
        let listed = self.list(prefix, after, limit).await?;
        let is_full = listed.len() == limit;
        let mut found = FirstOfEach::default();
        for entry in listed {
            let Some((folder, _)) = entry.key[prefix.len()..].split_once('/') else {
                found.next = Some(entry.key);
                continue;
            };
            // `0` follows `/`, so everything in the folder sorts before this key
            let after = Some(format!("{prefix}{folder}0"));
            if found.next != after {
                found.next = after;
                found.keys.push(entry.key);
            }
        }
        if !is_full {
            found.next = None;
        }
        Ok(found)
    }

    async fn first_of_each_in(
        &self,
        directory: &Directory,
        prefix: &str,
        after: Option<&str>,
        wanted: usize,
    ) -> Result<FirstOfEach> {
        let mut found = FirstOfEach { keys: Vec::new(), next: after.map(str::to_owned) };
        loop {
            let (directory, path, after) = (directory.clone(), prefix.to_owned(), found.next.take());
            let work = move || directory.first_of_each(&path, after.as_deref(), wanted);
            let (keys, next) = self
                .observe("list", prefix, async {
                    let task = tokio::time::timeout(STEP, crate::priority::spawn_blocking(work));
                    let failed = |what: &'static str| opendal::Error::new(opendal::ErrorKind::Unexpected, what);
                    task.await
                        .map_err(|_| failed("the directory does not answer"))?
                        .map_err(|_| failed("the listing was broken off"))?
                })
                .await?;
            found = FirstOfEach { keys, next };
            if !found.keys.is_empty() || found.next.is_none() {
                return Ok(found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{memory::Memory, storage::disk, telemetry::Metrics};

    #[tokio::test]
    async fn objects_beside_the_folders_hide_no_folder() {
        let root = tempfile::tempdir().unwrap();
        for key in ["a", "b", "c", "c!/1", "c!/2", "c!0", "d", "d!/1", "e", "f", "g"] {
            let file = root.path().join("tags").join(key);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let options = disk::DiskOptions::default;
        // the first store is read as a bucket is
        let as_bucket = Store::over(disk::operator(root.path(), options()).unwrap(), None, Metrics::new());
        let (operator, directory) = disk::operator_with_directory(root.path(), options()).unwrap();
        let clock = crate::storage::Clock::default();
        let as_directory =
            Store::with_directory(operator, clock, None, Some(directory), Memory::new(0), Metrics::new());
        for store in [as_bucket, as_directory] {
            for wanted in 1..=4 {
                let (mut keys, mut after) = (Vec::new(), None);
                loop {
                    let found = store.first_of_each("tags/", after.as_deref(), wanted).await.unwrap();
                    keys.extend(found.keys);
                    after = found.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(keys, ["tags/c!/1", "tags/d!/1"], "{wanted} at a time");
            }
        }
    }
}
