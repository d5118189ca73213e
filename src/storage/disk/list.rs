//! Listing keys in byte order, read no further than the listing is pulled.

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
use super::names::{self, Names};

/// How many entries the first trip to the blocking pool fetches where no limit is given, and by what it grows up to how many.
const FIRST_BATCH: usize = 16;
const GROWTH: usize = 4;
const LARGEST_BATCH: usize = 256;
/// The largest first batch for a caller that says it wants so many: a page of 1,000 and a little.
const LARGEST_LIMIT: usize = 1280;
/// How many directories one trip reads at most: those that hold nothing would otherwise make it last for ever.
const DIRECTORIES: usize = 4096;

/// One directory on the way down.
#[derive(Debug)]
struct Level {
    /// The open directory. Its files are looked up from here, not from the root for each name. If it is removed
    /// meanwhile, it was empty; files under the same name then came after the begin of the listing.
    directory: OwnedFd,
    names: Arc<Names>,
    next: usize,
    end: usize,
    /// How much of the walk's path is this directory.
    depth: usize,
}

/// The walk over a tree, on the blocking pool.
#[derive(Debug)]
struct Walk {
    core: Arc<Core>,
    /// The prefix of names in the first directory.
    beginning: String,
    after: Option<String>,
    recursive: bool,
    /// The directory that is walked, ending in `/` or empty for the root, perhaps with a name of its behind it.
    path: String,
    levels: Vec<Level>,
    started: bool,
}

impl Walk {
    /// Adds up to `wanted` entries. Says whether there are no more. After an error it goes on where the error was, so that the
    /// same call can be tried again.
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

    /// Reads the directory at `path`, as far as its names begin with `beginning` and lie behind `after`. `None` where there is none.
    fn enter(&self, beginning: &str) -> Result<Option<Level>> {
        let depth = self.path.len();
        let after = match self.after.as_deref() {
            Some(after) if after >= &*self.path => match after.strip_prefix(&*self.path) {
                Some(rest) => Some(rest),
                // All that begins with this path comes before.
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
            // The directory that `after` lies in comes before it, and may hold more.
            let within = self.recursive && behind > 0 && {
                let last = names.get(behind - 1);
                last.ends_with('/') && after.starts_with(last)
            };
            next = next.max(behind - usize::from(within)).min(range.end);
        }
        Ok(Some(Level { directory, names, next, end: range.end, depth }))
    }

    /// Returns the entry for the file at `path` in `level`. `None` if the file has vanished since its directory was
    /// read.
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
    /// The walk was lost with its task; the end must not be mistaken for the listing's.
    Lost,
}

/// Lists the keys that begin with a prefix, fetching them in batches that grow.
#[derive(Debug)]
pub(super) struct DiskLister {
    state: State,
    ready: VecDeque<oio::Entry>,
    error: Option<Error>,
    batch: usize,
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
        Ok(Self { state: State::Idle(Box::new(walk)), ready: VecDeque::new(), error: None, batch })
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
    /// Waits for the batch on its way, in place, so that being cancelled here loses nothing.
    async fn receive(&mut self) -> Result<State> {
        let State::Reading(task) = &mut self.state else { return Ok(State::Lost) };
        let received = task.await;
        self.state = State::Lost;
        let (walk, entries, outcome) = received.map_err(lost_task)?;
        self.ready = entries;
        Ok(match outcome {
            Ok(true) => State::Ended,
            Ok(false) => State::Idle(walk),
            Err(error) => {
                self.error = Some(error);
                State::Idle(walk)
            }
        })
    }
}
