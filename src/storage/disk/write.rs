//! Writes objects: a small object in one trip to the blocking pool, a long one block by block with the disk working
//! beside the stream.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use opendal::raw::oio;
use opendal::{Buffer, Error, ErrorKind, Metadata, Result};
use tokio::task::JoinHandle;

use crate::priority::spawn_blocking;

use super::core::{Core, blocking, failure, lost_task};
use super::sync;
use super::temporary::Temporary;

/// The bytes that are gathered before they are written. A writer holds at most two blocks: one being written, and one
/// growing.
const BLOCK: usize = 512 * 1024;

/// Pieces below this many bytes are copied together. Otherwise a body of tiny pieces would take more memory for the
/// pieces than for its bytes.
const SMALL_PIECE: usize = 16 * 1024;

/// The bytes after which a long body is synced while it streams, so that the sync at its end need not write all of it.
const EARLY_SYNC: usize = 32 * 1024 * 1024;

/// A block that is growing.
#[derive(Debug, Default)]
struct Block {
    pieces: Vec<Bytes>,
    small: BytesMut,
    length: usize,
}

impl Block {
    fn push(&mut self, piece: Bytes) {
        self.length += piece.len();
        if piece.len() < SMALL_PIECE {
            self.small.extend_from_slice(&piece);
        } else {
            self.flush_small();
            self.pieces.push(piece);
        }
    }

    fn flush_small(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(std::mem::take(&mut self.small).freeze());
        }
    }

    fn take(&mut self) -> Vec<Bytes> {
        self.flush_small();
        self.length = 0;
        std::mem::take(&mut self.pieces)
    }
}

/// The place of the bytes that have left memory.
#[derive(Debug)]
enum State {
    /// No bytes have left memory.
    Fresh,
    /// The file has them, in whole blocks.
    Idle(Temporary),
    /// A task is writing a block, and returns the file. If the task fails, it removes the file.
    Writing(JoinHandle<io::Result<Temporary>>),
    /// The writer is finished, aborted or failed, and takes no more bytes.
    Over,
}

/// A writer of one object. The object becomes visible during [`close`](oio::Write::close) and not earlier.
///
/// If the writer is dropped or aborted, nothing stays. The object may be visible after a `close` that was cancelled, or
/// that failed to sync directories.
#[derive(Debug)]
pub(super) struct DiskWriter {
    core: Arc<Core>,
    key: Arc<str>,
    exclusive: bool,
    block: Block,
    state: State,
    unsynced: usize,
    early_sync: Option<JoinHandle<io::Result<()>>>,
    /// True while bytes are taken in. A `write` that was cancelled has lost some of its bytes, so the remaining ones
    /// must not be published.
    torn: bool,
}

impl DiskWriter {
    pub(super) fn new(core: Arc<Core>, key: &str, exclusive: bool) -> Self {
        Self {
            core,
            key: key.into(),
            exclusive,
            block: Block::default(),
            state: State::Fresh,
            unsynced: 0,
            early_sync: None,
            torn: false,
        }
    }

    /// Waits for the block that is being written, and takes the file out. Returns `None` if no block was written yet.
    async fn settle(&mut self) -> Result<Option<Temporary>> {
        if let State::Writing(task) = &mut self.state {
            // Awaited in place, so that dropping this future loses nothing.
            let written = task.await;
            self.state = State::Over;
            let temporary = written.map_err(lost_task)?.map_err(|error| self.failed(error))?;
            self.state = State::Idle(temporary);
        }
        match std::mem::replace(&mut self.state, State::Over) {
            State::Fresh => Ok(None),
            State::Idle(temporary) => Ok(Some(temporary)),
            State::Writing(_) | State::Over => Err(self.over()),
        }
    }

    /// Waits for the sync in progress. Its failure fails the writer: the system reports a lost page only once, so the
    /// sync at the end would not report it again.
    async fn settle_sync(&mut self) -> Result<()> {
        let Some(task) = &mut self.early_sync else { return Ok(()) };
        let synced = task.await;
        self.early_sync = None;
        let outcome = synced.map_err(lost_task).and_then(|synced| synced.map_err(|error| self.failed(error)));
        if outcome.is_err() {
            self.discard();
        }
        outcome
    }

    /// Hands the full block to the blocking pool.
    async fn spill(&mut self) -> Result<()> {
        if self.unsynced >= EARLY_SYNC && self.core.options.durable {
            // One sync at a time: a stream that is faster than the disk is slowed down here, and does not wait at its
            // end.
            self.settle_sync().await?;
        }
        let temporary = self.settle().await?;
        if let Some(temporary) = &temporary
            && self.unsynced >= EARLY_SYNC
            && self.core.options.durable
        {
            let (core, file) = (self.core.clone(), temporary.file());
            self.unsynced = 0;
            self.early_sync = Some(spawn_blocking(move || {
                core.stats.count_file_sync();
                file.sync_data()
            }));
        }
        self.unsynced += self.block.length;
        let pieces = self.block.take();
        let core = self.core.clone();
        self.state = State::Writing(spawn_blocking(move || {
            let mut temporary = match temporary {
                Some(temporary) => temporary,
                None => Temporary::create(core)?,
            };
            temporary.write(&pieces)?;
            Ok(temporary)
        }));
        Ok(())
    }

    async fn take_in(&mut self, bytes: Buffer) -> Result<()> {
        for mut piece in bytes {
            while !piece.is_empty() {
                if self.block.length == BLOCK {
                    self.spill().await?;
                }
                let room = BLOCK - self.block.length;
                self.block.push(piece.split_to(room.min(piece.len())));
            }
        }
        Ok(())
    }

    /// Discards what was written, without waiting for the removal of the file.
    fn discard(&mut self) {
        self.block = Block::default();
        // If a task is writing a block, nobody takes its result, and dropping the result removes the file.
        if let State::Idle(temporary) = std::mem::replace(&mut self.state, State::Over)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn_blocking(move || drop(temporary));
        }
    }

    fn failed(&self, error: io::Error) -> Error {
        failure("write", &self.key, error)
    }

    fn over(&self) -> Error {
        let message = format!("cannot write {:?}: its writer has failed or was closed before; begin anew", self.key);
        Error::new(ErrorKind::Unexpected, message)
    }
}

impl oio::Write for DiskWriter {
    async fn write(&mut self, bytes: Buffer) -> Result<()> {
        if self.torn || matches!(self.state, State::Over) {
            return Err(self.over());
        }
        self.torn = true;
        self.take_in(bytes).await?;
        self.torn = false;
        Ok(())
    }

    async fn close(&mut self) -> Result<Metadata> {
        if self.torn {
            return Err(self.over());
        }
        self.settle_sync().await?;
        let temporary = self.settle().await?;
        let pieces = self.block.take();
        let (core, key, exclusive) = (self.core.clone(), self.key.clone(), self.exclusive);
        blocking(move || finish(&core, &key, temporary, &pieces, exclusive)).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.torn = true;
        self.block = Block::default();
        // A failed write has removed its file already.
        if let Ok(Some(temporary)) = self.settle().await {
            blocking(move || {
                drop(temporary);
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

impl Drop for DiskWriter {
    fn drop(&mut self) {
        self.discard();
    }
}

/// Writes the rest, syncs the file, gives it its name, and syncs the directories. With `exclusive`, an existing object
/// is an error.
fn finish(
    core: &Arc<Core>,
    key: &str,
    temporary: Option<Temporary>,
    rest: &[Bytes],
    exclusive: bool,
) -> Result<Metadata> {
    let failed = |error| failure("write", key, error);
    let mut temporary = match temporary {
        Some(temporary) => temporary,
        None => Temporary::create(core.clone()).map_err(failed)?,
    };
    temporary.write(rest).map_err(failed)?;
    if core.options.is_durable(key) {
        core.stats.count_file_sync();
        temporary.file().sync_data().map_err(failed)?;
    }
    let metadata = temporary.publish(key, exclusive).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists if exclusive => {
            Error::new(ErrorKind::ConditionNotMatch, format!("cannot create {key:?}: it exists already"))
        }
        _ => failed(error),
    })?;
    sync::sync_name(core, key).map_err(failed)?;
    Ok(metadata)
}
