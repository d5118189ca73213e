//! Lists the first file of each folder, with one look at each folder that has not changed.

use std::os::fd::AsFd as _;
use std::time::SystemTime;

use opendal::Result;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::core::failure;
use super::name_lists::Version;
use super::sweep::Directory;
use super::{key, names};

/// The most folders that one call looks at.
const FOLDERS: usize = 4096;

/// The keys of first files, and the key to continue after, if more folders may follow.
type Found = (Vec<String>, Option<String>);

impl Directory {
    /// Lists the first file of folders directly under `prefix`, which ends in `/`, in byte order. Looks at `wanted`
    /// folders whose names sort after the key `after`. Fewer may have a file. Blocks.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub(in crate::storage) fn first_of_each(&self, prefix: &str, after: Option<&str>, wanted: usize) -> Result<Found> {
        let core = &*self.0;
        let (path, _) = key::split_prefix(prefix)?;
        let failed = |error| failure("list", prefix, error);
        let began = SystemTime::now();
        let read = names::read(core, None, path.trim_end_matches('/')).map_err(failed)?;
        let Some((directory, names)) = read else { return Ok((Vec::new(), None)) };
        let all = names.beginning_with("");
        let from = match after {
            Some(after) if after > prefix => after.strip_prefix(prefix).map_or(all.end, |rest| names.up_to(rest)),
            _ => 0,
        };
        let end = all.end.min(from + wanted.clamp(1, FOLDERS));
        let mut folders = Vec::with_capacity(end - from);
        let mut versions = Vec::with_capacity(end - from);
        for name in (from..end).filter_map(|index| names.get(index).strip_suffix('/')) {
            match rustix::fs::statat(&directory, name, AtFlags::empty()) {
                Ok(stat) => {
                    folders.push((name, None));
                    versions.push(Version::of(&stat));
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
        core.first_files.look_up(&versions, |index, file| folders[index].1 = Some(file.map(Box::from)));
        let mut new = Vec::new();
        for ((name, file), version) in folders.iter_mut().zip(versions) {
            if file.is_none() {
                let read = names::read(core, Some(directory.as_fd()), name).map_err(failed)?;
                let first = read.and_then(|(_, names)| names.files().next().map(Box::from));
                new.push((version, first.clone()));
                *file = Some(first);
            }
        }
        core.first_files.keep(new, began);
        let keys = folders.into_iter().filter_map(|(name, file)| Some(format!("{prefix}{name}/{}", file??))).collect();
        let next = (end < all.end).then(|| match names.get(end - 1).strip_suffix('/') {
            // `0` follows `/`, so everything in the folder sorts before this key
            Some(folder) => format!("{prefix}{folder}0"),
            None => format!("{prefix}{}", names.get(end - 1)),
        });
        Ok((keys, next))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::storage::disk::DiskOptions;
    use crate::storage::disk::core::Core;

    fn keys(directory: &Directory, after: Option<&str>, wanted: usize) -> Found {
        directory.first_of_each("tags/", after, wanted).unwrap()
    }

    #[test]
    fn the_first_files_are_listed_in_pages_and_folders_without_files_are_passed_over() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory(Arc::new(Core::open(root.path(), DiskOptions::default()).unwrap()));
        assert_eq!(keys(&directory, None, 10), (Vec::new(), None), "there is no such directory");
        for folder in ["a!", "a-b!", "b!", "c!", "d!"] {
            fs::create_dir_all(root.path().join("tags").join(folder)).unwrap();
        }
        for file in ["a!/2", "a!/1", "a-b!/1", "b!/9", "d!/3", "e"] {
            fs::write(root.path().join("tags").join(file), "").unwrap();
        }
        let (first, next) = keys(&directory, None, 2);
        assert_eq!(first, ["tags/a!/1", "tags/a-b!/1"]);
        let (second, next) = keys(&directory, next.as_deref(), 2);
        assert_eq!(second, ["tags/b!/9"], "c! has no file");
        assert_eq!(keys(&directory, next.as_deref(), 2), (vec!["tags/d!/3".to_owned()], None));
        assert_eq!(keys(&directory, Some("tags/a!~"), 1).0, ["tags/a-b!/1"]);
        assert_eq!(keys(&directory, Some("tags/d!~"), 1), (Vec::new(), None));
        assert_eq!(keys(&directory, Some("tagt"), 1), (Vec::new(), None));
        assert_eq!(keys(&directory, Some("taga"), 1).0, ["tags/a!/1"]);
    }

    #[test]
    fn a_folder_that_did_not_change_is_not_read_again_and_each_change_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let core = Arc::new(Core::open(root.path(), DiskOptions::default()).unwrap());
        let directory = Directory(core.clone());
        let file = |path: &str| root.path().join("tags").join(path);
        for folder in ["a!", "b!"] {
            fs::create_dir_all(file(folder)).unwrap();
            fs::write(file(folder).join("5"), "").unwrap();
        }
        let reads = || {
            let before = core.stats.directories_read();
            assert_eq!(keys(&directory, None, 10).0, ["tags/a!/5", "tags/b!/5"]);
            core.stats.directories_read() - before
        };
        assert_eq!(reads(), 3);
        let began = Instant::now();
        while reads() > 1 {
            assert!(began.elapsed() < Duration::from_mins(1), "they are read each time");
            std::thread::sleep(Duration::from_millis(100));
        }
        fs::write(file("a!/4"), "").unwrap();
        fs::remove_file(file("b!/5")).unwrap();
        assert_eq!(keys(&directory, None, 10).0, ["tags/a!/4"]);
        fs::remove_dir(file("b!")).unwrap();
        fs::create_dir(file("b!")).unwrap();
        fs::write(file("b!/6"), "").unwrap();
        assert_eq!(keys(&directory, None, 10).0, ["tags/a!/4", "tags/b!/6"]);
    }
}
