//! Chooses the watched directories and the events that matter.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// Links that are followed from one watched path.
const MOST_LINKS: usize = 16;

/// The watched directories. Says on its channel when something in them may concern a watched path.
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    paths: Arc<Mutex<BTreeSet<PathBuf>>>,
    directories: BTreeSet<PathBuf>,
}

impl Watch {
    pub(super) fn new(touched: mpsc::Sender<()>) -> Self {
        let paths: Arc<Mutex<BTreeSet<PathBuf>>> = Arc::default();
        let known = Arc::clone(&paths);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let matters = match event {
                Ok(event) => {
                    !matches!(event.kind, EventKind::Access(_))
                        && event.paths.iter().any(|path| {
                            concerns(path, &known.lock().unwrap_or_else(PoisonError::into_inner))
                        })
                        // events were lost: anything may have happened
                        || event.need_rescan()
                }
                Err(_) => true,
            };
            if matters {
                // full: it is known already that something happened
                let _ = touched.try_send(());
            }
        });
        let watcher = watcher
            .inspect_err(|error| tracing::error!(%error, "edits cannot be watched; SIGHUP reads the files again"))
            .ok();
        Self { watcher, paths, directories: BTreeSet::new() }
    }

    /// Watches these files and directories, and no others; whether there is a directory that was not watched before.
    pub(super) fn set(&mut self, paths: BTreeSet<PathBuf>) -> bool {
        let mut all = BTreeSet::new();
        for path in paths {
            follow(&path, &mut all);
        }
        let directories: BTreeSet<PathBuf> = all.iter().filter_map(|path| nearest_directory(path)).collect();
        *self.paths.lock().unwrap_or_else(PoisonError::into_inner) = all;
        let Some(watcher) = &mut self.watcher else { return false };
        for gone in self.directories.difference(&directories) {
            let _ = watcher.unwatch(gone);
        }
        for directory in &directories {
            // again also where it is watched: one that was removed and made anew is another directory
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                tracing::warn!(directory = %directory.display(), %error, "this directory cannot be watched; SIGHUP reads its files again");
            }
        }
        let more = !directories.is_subset(&self.directories);
        self.directories = directories;
        more
    }
}

/// Collects a path, made absolute, and every path that its links lead to.
fn follow(path: &Path, into: &mut BTreeSet<PathBuf>) {
    let Ok(mut path) = std::path::absolute(path) else { return };
    // a link anywhere on the way may be swapped
    for above in path.ancestors().skip(1).filter(|above| above.is_symlink()) {
        into.insert(above.to_owned());
    }
    for _ in 0..MOST_LINKS {
        if path.is_dir() {
            // names that appear in the directory matter, and so does the directory itself
            into.insert(path.join("*"));
        }
        let fresh = into.insert(path.clone());
        let Ok(target) = std::fs::read_link(&path) else { break };
        path = path.parent().map_or_else(|| target.clone(), |parent| parent.join(&target));
        if !fresh {
            break;
        }
    }
}

/// Returns the directory of a path, or the nearest existing one above.
fn nearest_directory(path: &Path) -> Option<PathBuf> {
    path.ancestors().skip(1).find(|above| above.is_dir()).map(Path::to_owned)
}

/// Returns true if an event at `path` may change the content of a watched path.
fn concerns(path: &Path, watched: &BTreeSet<PathBuf>) -> bool {
    let name = path.file_name().map(std::ffi::OsStr::as_encoded_bytes).unwrap_or_default();
    // the link that a mounted volume swaps
    if name.starts_with(b"..") {
        return true;
    }
    watched.iter().any(|watched| {
        watched.starts_with(path)
            || (watched.file_name().is_some_and(|name| name == "*")
                && watched.parent() == path.parent()
                && path.extension().is_some_and(|extension| extension == "toml"))
    })
}
