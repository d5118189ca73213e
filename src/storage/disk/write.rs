//! Writing an object: small ones in one trip to the blocking pool, long ones block by block with the disk at work beside the
//! stream.

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

/// The bytes that are gathered before they are written. A writer holds two blocks at most: one being written, one growing.
const BLOCK: usize = 512 * 1024;

/// Pieces below this are copied together: a body of tiny pieces would otherwise take more memory for them than for its bytes.
const SMALL_PIECE: usize = 16 * 1024;

/// The bytes after which a long body is synced while it streams, so that its end does not wait for all of it.
const EARLY_SYNC: usize = 32 * 1024 * 1024;

/// The block that is growing.
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

/// Where the bytes that left memory are.
#[derive(Debug)]
enum State {
    /// Nothing has left memory.
    Fresh,
    /// In the file, whole blocks.
    Idle(Temporary),
    /// A block is being written. The file comes back with it; a failure removes it there.
    Writing(JoinHandle<io::Result<Temporary>>),
    /// Finished, aborted or failed: the writer takes no more.
    Over,
}

/// Writes one object, visible once [`close`](oio::Write::close) is done and not before it began. Dropped or aborted it leaves
/// nothing. A `close` that fails while directories are synced, or is cancelled, may have made the object visible.
#[derive(Debug)]
pub(super) struct DiskWriter {
    core: Arc<Core>,
    key: Arc<str>,
    exclusive: bool,
    block: Block,
    state: State,
    unsynced: usize,
    early_sync: Option<JoinHandle<io::Result<()>>>,
    /// Set while bytes are taken in: a `write` that was cancelled has lost some of them, and what is left must not be published.
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

    /// Waits for the block on its way and takes the file out. `None` where nothing was written yet.
    async fn settle(&mut self) -> Result<Option<Temporary>> {
        if let State::Writing(task) = &mut self.state {
            // Awaited in place, so that being cancelled here loses nothing.
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

    /// Waits for the sync on its way. Its failure is the writer's: the system reports a lost page once, so the sync at the end
    /// would not say it again.
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
            // Not more than one at a time: a stream faster than the disk is slowed to it here, and not at its end.
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

    /// Forgets what was written, without waiting for its removal.
    fn discard(&mut self) {
        self.block = Block::default();
        // A block on its way comes back to nobody, and its file is removed where that happens.
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
        // A failed block has removed its file by itself.
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

/// Writes the rest, syncs the file, gives it its name, and syncs the directories.
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
