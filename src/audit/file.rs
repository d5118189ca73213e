//! Appends to the file of the record, puts it aside in time, and opens it anew after it was moved away.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{CWD, RenameFlags, renameat_with};

/// The time between two looks at the path.
const LOOK: Duration = Duration::from_secs(1);
/// The time between two tries of a failing rotation, and between its warnings.
const ROTATE_AGAIN: Duration = Duration::from_mins(1);

/// An open file, with its limits and the times of its last look and rotation.
pub(super) struct Log {
    path: PathBuf,
    limits: Limits,
    open: Open,
    /// The time of the last look at the path.
    looked: Instant,
    /// The time of the last failed rotation.
    rotation_failed: Option<Instant>,
    /// The time in the name of the file that was put aside last; the next one's is later.
    put_aside: Timestamp,
    /// The bytes of all files that were put aside.
    aside: u64,
    /// True once the log has said that the files are about to reach their total size.
    has_warned: bool,
}

/// The limits of a file and of those that were put aside.
pub(super) struct Limits {
    pub(super) max_size: u64,
    /// Zero: no file is put aside for its age.
    pub(super) max_age: Duration,
    pub(super) keep: Keep,
    /// The most bytes of all files together.
    pub(super) max_total_size: Option<u64>,
}

/// The files put aside that stay.
pub(super) enum Keep {
    /// The files that were put aside within this time. Zero: all.
    Age(Duration),
    /// The newest.
    Newest(usize),
}

struct Open {
    file: File,
    /// Device and inode.
    id: (u64, u64),
    /// Not a device or a pipe, which cannot be rotated or cut off.
    regular: bool,
    len: u64,
    /// The time of the first line; none in an empty file.
    since: Option<Timestamp>,
    /// True if the file ends in the middle of a line. The next line then begins with a line break.
    torn: bool,
}

impl Log {
    /// Opens the file for appending, and creates it, for its owner alone, where there is none.
    pub(super) fn open(path: &Path, limits: Limits) -> io::Result<Self> {
        let open = Open::at(path)?;
        let mut log = Self {
            path: path.to_owned(),
            limits,
            open,
            looked: Instant::now(),
            rotation_failed: None,
            put_aside: Timestamp::UNIX_EPOCH,
            aside: 0,
            has_warned: false,
        };
        log.prune_or_warn();
        Ok(log)
    }

    /// Appends a line: when this returns, either all of it is in the file or nothing.
    pub(super) fn append(&mut self, line: &[u8], now: Timestamp) -> io::Result<()> {
        if self.looked.elapsed() >= LOOK {
            self.look()?;
        }
        if self.is_due(line.len(), now) {
            // another process may have done it a moment ago
            self.look()?;
        }
        if self.is_due(line.len(), now) {
            self.rotate(now);
        }
        self.check_total(line.len() as u64)?;
        self.open.append(line)?;
        self.open.since.get_or_insert(now);
        Ok(())
    }

    /// Sees whether the path still means the open file.
    fn look(&mut self) -> io::Result<()> {
        self.looked = Instant::now();
        match fs::metadata(&self.path) {
            Ok(found) if id(&found) == self.open.id => {
                // Tools that copy a log and truncate it tell nobody.
                if found.len() != self.open.len {
                    self.open = Open::at(&self.path)?;
                }
                Ok(())
            }
            _ => self.reopen(),
        }
    }

    /// Opens the path anew. On an error the open file stays in use, unless it was deleted.
    fn reopen(&mut self) -> io::Result<()> {
        match Open::at(&self.path) {
            Ok(open) => self.open = open,
            Err(error) if self.open.file.metadata().is_ok_and(|metadata| metadata.nlink() > 0) => {
                self.warn_of_rotation("opened anew", &error);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn is_due(&self, more: usize, now: Timestamp) -> bool {
        let Limits { max_size, max_age, .. } = self.limits;
        let Some(since) = self.open.since.filter(|_| self.open.regular) else { return false };
        let too_large = self.open.len.saturating_add(more as u64) > max_size;
        let max_age = SignedDuration::try_from(max_age).unwrap_or(SignedDuration::MAX);
        let too_old = !max_age.is_zero() && now.duration_since(since) >= max_age;
        let just_failed = self.rotation_failed.is_some_and(|failed| failed.elapsed() < ROTATE_AGAIN);
        (too_large || too_old) && !just_failed
    }

    /// Puts the file aside and begins another one. Warns of a failure and tries again later; meanwhile the open file
    /// stays in use.
    fn rotate(&mut self, now: Timestamp) {
        let outcome = self.put_aside(now).and_then(|()| Open::at(&self.path));
        match outcome {
            Ok(open) => {
                self.open = open;
                self.rotation_failed = None;
                self.prune_or_warn();
            }
            Err(error) => self.warn_of_rotation("put aside", &error),
        }
    }

    fn warn_of_rotation(&mut self, what: &str, error: &io::Error) {
        if self.rotation_failed.is_none_or(|failed| failed.elapsed() >= ROTATE_AGAIN) {
            self.rotation_failed = Some(Instant::now());
            tracing::warn!(
                file = %self.path.display(), %error,
                "the audit file could not be {what}; lines go on to the one that is open, and it is tried again"
            );
        }
    }

    /// Gives the file a name of its own that nothing has.
    fn put_aside(&mut self, now: Timestamp) -> io::Result<()> {
        let millisecond = SignedDuration::from_millis(1);
        let mut time = now.max(self.put_aside.saturating_add(millisecond).unwrap_or(now));
        loop {
            let mut name = self.path.clone().into_os_string();
            name.push(time_of(time));
            match rename_to_new(&self.path, Path::new(&name)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    time = time.saturating_add(millisecond).map_err(io::Error::other)?;
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    self.put_aside = time;
                    return Ok(());
                }
            }
        }
    }

    /// Refuses a line that would make all files together larger than they may be. Warns before.
    fn check_total(&mut self, more: u64) -> io::Result<()> {
        let Some(most) = self.limits.max_total_size else { return Ok(()) };
        if self.aside + self.open.len + more > most {
            // somebody may have made room
            self.prune()?;
        }
        let total = self.aside + self.open.len + more;
        if total > most {
            let says = "the files have reached audit.max_total_size; move or delete old ones, or raise it";
            return Err(io::Error::new(io::ErrorKind::StorageFull, says));
        }
        let is_near = total > most / 5 * 4;
        if is_near && !self.has_warned {
            tracing::warn!(
                file = %self.path.display(), total, max_total_size = most,
                "the audit record has reached 80% of audit.max_total_size; at 100% audit.on_error decides"
            );
        }
        self.has_warned = is_near;
        Ok(())
    }

    fn prune_or_warn(&mut self) {
        if let Err(error) = self.prune() {
            tracing::warn!(file = %self.path.display(), %error, "old files of the audit record could not be deleted");
        }
    }

    /// Deletes the files that were put aside and need not stay; nothing that has another name. Measures the others.
    fn prune(&mut self) -> io::Result<()> {
        let (Some(name), Some(dir)) = (self.path.file_name(), self.path.parent()) else { return Ok(()) };
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let mut aside = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?.file_name();
            let time = entry.as_encoded_bytes().strip_prefix(name.as_encoded_bytes());
            if time.and_then(|time| time.strip_prefix(b".")).is_some_and(is_time) {
                aside.push(entry);
            }
        }
        aside.sort();
        let surplus = match self.limits.keep {
            Keep::Age(Duration::ZERO) => 0,
            Keep::Age(age) => {
                let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
                let oldest = Timestamp::now().checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH);
                let mut oldest_name = name.to_owned();
                oldest_name.push(time_of(oldest));
                aside.partition_point(|name| *name < oldest_name)
            }
            Keep::Newest(number) => aside.len().saturating_sub(number),
        };
        let (old, others) = aside.split_at(surplus);
        old.iter().try_for_each(|name| fs::remove_file(dir.join(name)))?;
        self.aside = others.iter().filter_map(|name| fs::metadata(dir.join(name)).ok()).map(|found| found.len()).sum();
        Ok(())
    }
}

/// Returns the end of the name of a file that is put aside at a time.
fn time_of(time: Timestamp) -> String {
    time.strftime(".%Y%m%dT%H%M%S%.3fZ").to_string()
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        // Reading is for the file's first line and its last byte.
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let metadata = file.metadata()?;
        let regular = metadata.is_file();
        let mut open = Self { file, id: id(&metadata), regular, len: metadata.len(), since: None, torn: false };
        if regular && open.len > 0 {
            open.since = Some(first_time(&open.file).or_else(|| begun(&metadata)).unwrap_or_else(Timestamp::now));
            let mut last = [0];
            open.file.seek(SeekFrom::End(-1))?;
            open.file.read_exact(&mut last)?;
            open.torn = last != *b"\n";
        }
        Ok(open)
    }

    /// Appends a line with one write, unless the system takes less at a time. Cuts off the part of a line that
    /// failed.
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let whole;
        let bytes = if self.torn {
            whole = [b"\n", line].concat();
            &whole
        } else {
            line
        };
        match write_all(&self.file, bytes) {
            Ok(()) => {
                self.torn = false;
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err((written, error)) => {
                let cut = written == 0 || self.cut_off(written as u64).is_ok();
                // Something that cannot be cut off, such as a pipe, keeps the half line, and the next one begins afresh.
                self.torn |= !cut;
                Err(error)
            }
        }
    }

    /// Removes the last bytes of the file, by its length now, which another process may have changed.
    fn cut_off(&self, bytes: u64) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        match len.checked_sub(bytes) {
            Some(len) if self.regular => self.file.set_len(len),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Writes everything, or says how much was written before an error.
pub(super) fn write_all(mut file: &File, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return Err((written, io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((written, error)),
        }
    }
    Ok(())
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Returns the time in the first line.
fn first_time(mut file: &File) -> Option<Timestamp> {
    const BEFORE: &[u8] = br#"{"time":""#;
    let mut beginning = [0; BEFORE.len() + "0000-00-00T00:00:00.000Z".len()];
    file.seek(SeekFrom::Start(0)).ok()?;
    file.read_exact(&mut beginning).ok()?;
    str::from_utf8(beginning.strip_prefix(BEFORE)?).ok()?.parse().ok()
}

/// Returns the creation time of a foreign file, or else its modification time.
fn begun(metadata: &Metadata) -> Option<Timestamp> {
    metadata.created().or_else(|_| metadata.modified()).ok()?.try_into().ok()
}

/// Renames without ever replacing anything.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot promise it. No other process puts this file aside, so to look first does as well.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            if to.symlink_metadata().is_ok() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::rename(from, to)
        }
        outcome => outcome.map_err(io::Error::from),
    }
}

/// Returns true for the end of a name that [`Log::put_aside`] gives: `20260131T093000.123Z`.
fn is_time(name: &[u8]) -> bool {
    const LIKE: &[u8] = b"00000000T000000.000Z";
    let fits = |(byte, like): (&u8, &u8)| if *like == b'0' { byte.is_ascii_digit() } else { byte == like };
    name.len() == LIKE.len() && name.iter().zip(LIKE).all(fits)
}
