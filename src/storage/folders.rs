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
    /// Lists the first object of about `wanted` folders directly under `prefix`, which ends in `/`; of at least one, if
    /// any follows. Begins with the folders whose names sort after the key `after`.
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
        let mut last = None;
        for entry in listed {
            let Some((folder, _)) = entry.key[prefix.len()..].split_once('/') else { continue };
            if last.as_deref() != Some(folder) {
                last = Some(folder.to_owned());
                found.keys.push(entry.key);
            }
        }
        // `0` follows `/`, so everything in the folder sorts before this key
        found.next = last.filter(|_| is_full).map(|last| format!("{prefix}{last}0"));
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
                    task.await.map_err(|_| failed("the directory does not answer"))?.map_err(|_| failed("cut off"))?
                })
                .await?;
            found = FirstOfEach { keys, next };
            if !found.keys.is_empty() || found.next.is_none() {
                return Ok(found);
            }
        }
    }
}
