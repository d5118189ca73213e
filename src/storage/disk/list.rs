//! Lists keys in byte order, and reads only as far as the caller pulls, or one batch ahead in a long listing.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use opendal::raw::{OpList, oio};
use opendal::{Error, ErrorKind, MetadataBuilder, Result};
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;
use tokio::task::JoinHandle;

use crate::priority::spawn_blocking;

use super::core::{Core, failure, lost_task, stat_metadata};
use super::key;
use super::name_lists::Names;
use super::names;

/// The entries that the first trip to the blocking pool fetches if the caller gives no limit.
const FIRST_BATCH: usize = 16;
/// The factor by which each batch is larger than the one before.
const GROWTH: usize = 4;
/// The size up to which batches grow.
const LARGEST_BATCH: usize = 256;
/// The largest first batch, for a caller that gives a limit: a page of 1,000 and a little more.
const LARGEST_LIMIT: usize = 1280;
/// The most directories that one trip reads. Otherwise a trip through directories without entries could last for ever.
const DIRECTORIES: usize = 4096;

/// A directory on the way down.
#[derive(Debug)]
struct Level {
    /// The open directory, from which its files are looked up, and not from the root for each name. If somebody removes
    /// the directory meanwhile, it was empty; files under the same name were then created after the listing began.
    directory: OwnedFd,
    names: Arc<Names>,
    next: usize,
    end: usize,
    /// The length of the walk's path up to this directory, in bytes.
    depth: usize,
}

/// A walk over a tree, on the blocking pool.
#[derive(Debug)]
struct Walk {
    core: Arc<Core>,
    /// The beginning of the names in the first directory.
    beginning: String,
    after: Option<String>,
    recursive: bool,
    /// The path of the current directory, which ends in `/` or is empty for the root. A name in that directory may
    /// follow.
    path: String,
    levels: Vec<Level>,
    started: bool,
}

impl Walk {
    /// Adds up to `wanted` entries. Returns true if there are no more.
    ///
    /// After an error the walk is still at the place of the error, so the same call can be repeated.
    fn fill(&mut self, entries: &mut VecDeque<oio::Entry>, wanted: usize) -> Result<bool> {
        if !self.started {
            let beginning = std::mem::take(&mut self.beginning);
            let level = self.enter(&beginning);
            self.beginning = beginning;
            self.levels.extend(level?);
            self.started = true;
        }
        let mut read = 0;
        while entries.len() < wanted && read < DIRECTORIES {
            let Some(level) = self.levels.last() else { return Ok(true) };
            self.path.truncate(level.depth);
            if level.next == level.end {
                self.levels.pop();
                continue;
            }
            let name = level.names.get(level.next);
            self.path.push_str(name);
            let mut below = None;
            if !name.ends_with('/') {
                entries.extend(self.file(level)?);
            } else if self.recursive {
                below = self.enter("")?;
                read += 1;
            } else {
                entries.push_back(oio::Entry::new(&self.path, MetadataBuilder::dir().build()));
            }
            if let Some(level) = self.levels.last_mut() {
                level.next += 1;
            }
            self.levels.extend(below);
        }
        Ok(false)
    }

    /// Reads the directory at `path`: its names that begin with `beginning` and may lead to keys after `after`. Returns
    /// `None` if there is no such directory, or no such key in it.
    fn enter(&self, beginning: &str) -> Result<Option<Level>> {
        let depth = self.path.len();
        let after = match self.after.as_deref() {
            Some(after) if after >= &*self.path => match after.strip_prefix(&*self.path) {
                Some(rest) => Some(rest),
                // All keys that begin with this path come before `after`.
                None => return Ok(None),
            },
            _ => None,
        };
        let above = self.levels.last();
        let path = &self.path[above.map_or(0, |above| above.depth)..];
        let path = path.strip_suffix('/').unwrap_or(path);
        let read = names::read(&self.core, above.map(|above| above.directory.as_fd()), path);
        let Some((directory, names)) = read.map_err(|error| failure("list", &self.path, error))? else {
            return Ok(None);
        };
        let range = names.beginning_with(beginning);
        let mut next = range.start;
        if let Some(after) = after {
            let behind = names.up_to(after);
            // The directory that contains `after` sorts before it, and may hold later keys.
            let within = self.recursive && behind > 0 && {
                let last = names.get(behind - 1);
                last.ends_with('/') && after.starts_with(last)
            };
            next = next.max(behind - usize::from(within)).min(range.end);
        }
        Ok(Some(Level { directory, names, next, end: range.end, depth }))
    }

    /// Returns the entry for the file at `path` in `level`. Returns `None` if the file has vanished since its directory
    /// was read.
    fn file(&self, level: &Level) -> Result<Option<oio::Entry>> {
        match rustix::fs::statat(&level.directory, &self.path[level.depth..], AtFlags::empty()) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode).is_file() => {
                Ok(Some(oio::Entry::new(&self.path, stat_metadata(&stat))))
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(failure("list", &self.path, errno.into())),
        }
    }
}

/// The result of a trip to the blocking pool.
type Batch = (Box<Walk>, VecDeque<oio::Entry>, Result<bool>);

#[derive(Debug)]
enum State {
    Idle(Box<Walk>),
    Reading(JoinHandle<Batch>),
    Ended,
    /// The task failed and the walk is lost. The lister must not end here, since its end would pass for the listing's
    /// end.
    Lost,
}

/// A lister of the keys that begin with a prefix. It fetches batches of growing size.
#[derive(Debug)]
pub(super) struct DiskLister {
    state: State,
    ready: VecDeque<oio::Entry>,
    error: Option<Error>,
    batch: usize,
    /// True if the caller gave no limit.
    is_endless: bool,
}

impl DiskLister {
    pub(super) fn new(core: Arc<Core>, prefix: &str, options: &OpList) -> Result<Self> {
        let (directory, beginning) = key::split_prefix(prefix)?;
        let walk = Walk {
            core,
            beginning: beginning.to_owned(),
            after: options.start_after().map(str::to_owned),
            recursive: options.recursive(),
            path: directory.to_owned(),
            levels: Vec::new(),
            started: false,
        };
        let batch = options.limit().map_or(FIRST_BATCH, |limit| limit.clamp(1, LARGEST_LIMIT));
        Ok(Self {
            state: State::Idle(Box::new(walk)),
            ready: VecDeque::new(),
            error: None,
            batch,
            is_endless: options.limit().is_none(),
        })
    }

    fn fetch(batch: usize, mut walk: Box<Walk>) -> JoinHandle<Batch> {
        spawn_blocking(move || {
            let mut entries = VecDeque::with_capacity(batch.min(LARGEST_BATCH));
            let outcome = walk.fill(&mut entries, batch);
            (walk, entries, outcome)
        })
    }
}

impl oio::List for DiskLister {
    async fn next(&mut self) -> Result<Option<oio::Entry>> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Ok(Some(entry));
            }
            if let Some(error) = self.error.take() {
                return Err(error);
            }
            self.state = match std::mem::replace(&mut self.state, State::Lost) {
                State::Idle(walk) => {
                    let task = Self::fetch(self.batch, walk);
                    self.batch = self.batch.saturating_mul(GROWTH).min(LARGEST_BATCH.max(self.batch));
                    State::Reading(task)
                }
                State::Reading(task) => {
                    self.state = State::Reading(task);
                    self.receive().await?
                }
                State::Ended => {
                    self.state = State::Ended;
                    return Ok(None);
                }
                State::Lost => {
                    return Err(Error::new(
                        ErrorKind::Unexpected,
                        "the listing was lost when reading a directory failed",
                    ));
                }
            };
        }
    }
}

impl DiskLister {
    /// Receives the batch that is being read. Waits in place, so that dropping this future loses nothing.
    async fn receive(&mut self) -> Result<State> {
        let State::Reading(task) = &mut self.state else { return Ok(State::Lost) };
        let received = task.await;
        self.state = State::Lost;
        let (walk, entries, outcome) = received.map_err(lost_task)?;
        self.ready = entries;
        Ok(match outcome {
            Ok(true) => State::Ended,
            // a caller that came this far reads on, and the disk works meanwhile
            Ok(false) if self.is_endless && self.batch == LARGEST_BATCH => {
                State::Reading(Self::fetch(self.batch, walk))
            }
            Ok(false) => State::Idle(walk),
            Err(error) => {
                self.error = Some(error);
                State::Idle(walk)
            }
        })
    }
}
