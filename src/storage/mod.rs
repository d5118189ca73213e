//! Reads and writes one store, a directory or a bucket, through one opendal `Operator`.
//!
//! An object is written once under its own key and never changed. The module `records` defines the keys, and `registry`
//! gives them their meaning.

mod answers;
mod clock;
mod dated;
pub mod disk;
mod error;
mod folders;
mod keys;
pub(crate) mod mutation;
mod open;
mod order;
mod probe;
mod silence;
mod skew;
mod stream;
mod write;

use std::{future::Future, ops::Range, sync::Arc, time::Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use opendal::{Buffer, ErrorKind, Metadata, Operator};
use tracing::Instrument as _;

use self::order::Ascending;
pub use self::{
    clock::{Clock, Moment, Reading},
    disk::Swept,
    error::{FaultKind, StorageError},
    folders::FirstOfEach,
    keys::{CLOCKS, FORMAT, NoSuffix, PROBES, ROOTS, Suffix, UNSYNCED, parse_hex},
    open::{Location, OpenError},
    skew::Skew,
    stream::ObjectStream,
    write::ObjectWriter,
};
use crate::{memory::Memory, telemetry::Metrics};

/// A result of storage.
pub type Result<T> = std::result::Result<T, StorageError>;

/// An object that a listing found.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The length in bytes.
    pub size: u64,
    /// The time of the write by the store's clock, in milliseconds since 1970; 0 if the backend does not tell it. For
    /// an object written in parts, this may be the time of the beginning.
    pub modified: u64,
}

impl Entry {
    fn of(entry: &opendal::Entry) -> Self {
        let metadata = entry.metadata();
        let modified = metadata.last_modified().map_or(0, |at| at.into_inner().as_millisecond());
        Self {
            key: entry.path().to_owned(),
            size: metadata.content_length(),
            modified: u64::try_from(modified).unwrap_or(0),
        }
    }
}

/// A store, cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Clone, Debug)]
struct Inner {
    operator: Operator,
    clock: Clock,
    metrics: Metrics,
    memory: Arc<Memory>,
    /// True if a listing reads keys in their order, so that marks that are listed before bytes were read before them.
    /// S3 listings are consistent, so this holds for a bucket. It does not hold for a directory, which is read name by
    /// name.
    ordered_listings: bool,
    /// The least bytes of a part of a multipart upload; `None` for a backend that takes a stream as it comes.
    part_size: Option<usize>,
    /// The directory; `None` for a bucket.
    directory: Option<disk::Directory>,
    /// The permits of [`write::AHEAD`].
    ahead: Arc<tokio::sync::Semaphore>,
}

impl Store {
    /// Returns the clock that measures leases: this machine's clocks, and what this process saw of the store's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Returns the memory of this process.
    #[must_use]
    pub fn memory(&self) -> &Arc<Memory> {
        &self.inner.memory
    }

    /// Returns the same store with another clock, for tests.
    #[must_use]
    pub fn with_clock(&self, clock: Clock) -> Self {
        Self { inner: Arc::new(Inner { clock, ..(*self.inner).clone() }) }
    }

    /// Tells the clock the time of a write, if the backend returns that time. A directory does. `asked` is the time of
    /// [`Clock::asks`] before the write.
    fn wrote(&self, metadata: &Metadata, asked: u64) {
        let at = metadata.last_modified().and_then(|at| u64::try_from(at.into_inner().as_millisecond()).ok());
        if let Some(at) = at.filter(|at| *at > 0) {
            self.inner.clock.store_answered(at, asked);
        }
    }

    /// Returns whether a listing shows the marks that existed when it read the bytes beside them.
    #[must_use]
    pub fn ordered_listings(&self) -> bool {
        self.inner.ordered_listings
    }

    /// Returns the whole of an object; `None` if there is no such object.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        self.observe("get", key, async {
            match self.inner.operator.read(key).await {
                Ok(content) => Ok(Some(content.to_bytes())),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Reads an object for `check`, and once more by another request if `check` refuses the content.
    ///
    /// A bit of a sound object may flip on the way. So no caller treats an object as damaged after a single read.
    pub async fn get_checked<T, E>(
        &self,
        key: &str,
        check: impl Fn(Bytes) -> std::result::Result<T, E>,
    ) -> Result<Option<std::result::Result<T, E>>> {
        let Some(content) = self.get(key).await? else { return Ok(None) };
        match check(content) {
            Ok(read) => Ok(Some(Ok(read))),
            // boxed, since the future is large and hardly ever needed
            Err(_) => Ok(Box::pin(self.get(key)).await?.map(check)),
        }
    }

    /// Writes an object, which is durable when this returns. The key must belong to this attempt alone.
    pub async fn put(&self, key: &str, content: impl Into<Bytes>) -> Result<()> {
        self.put_buffer(key, content.into().into()).await
    }

    async fn put_buffer(&self, key: &str, content: Buffer) -> Result<()> {
        self.observe("put", key, async {
            let asked = self.inner.clock.asks();
            self.inner.operator.write(key, content).await.map(|written| self.wrote(&written, asked))
        })
        .await
    }

    /// Writes an object if the key has none. Returns whether this call wrote it.
    ///
    /// `content` must belong to this attempt alone, by the attempt's random suffix. A write that is repeated after a
    /// lost answer meets its own object, and recognizes it by the content.
    pub async fn create_new(&self, key: &str, content: impl Into<Bytes>) -> Result<bool> {
        let content = content.into();
        self.observe("create", key, async {
            let asked = self.inner.clock.asks();
            match self.inner.operator.write_with(key, content.clone()).if_not_exists(true).await {
                Ok(written) => {
                    self.wrote(&written, asked);
                    Ok(true)
                }
                Err(error) if matches!(error.kind(), ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists) => {
                    match self.inner.operator.read(key).await {
                        Ok(there) => Ok(there.to_bytes() == content),
                        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
                        Err(error) => Err(error),
                    }
                }
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Deletes an object. An absent object is no error.
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.observe("delete", key, self.inner.operator.delete(key)).await
    }

    /// Returns the length of an object in bytes; `None` if there is no such object.
    pub async fn size(&self, key: &str) -> Result<Option<u64>> {
        if self.inner.part_size.is_some() {
            // the answer to a `HEAD` has no body, so its 404 may be about a bucket that is gone
            let listed = self.list(key, None, 1).await?;
            return Ok(listed.into_iter().find(|entry| entry.key == key).map(|entry| entry.size));
        }
        self.observe("stat", key, async {
            match self.inner.operator.stat(key).await {
                Ok(metadata) => Ok(Some(metadata.content_length())),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Lists at most `limit` objects under `prefix` in the order of their keys, beginning after the key `after`.
    ///
    /// # Errors
    /// Those of the store, and a listing that is out of order.
    pub async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>> {
        self.observe("list", prefix, async {
            // a bucket returns 1,000 keys a request; a directory reads ahead in steps of the limit
            let step = if self.inner.ordered_listings { 1000 } else { 10_000 };
            let mut listing = self.inner.operator.lister_with(prefix).recursive(true).limit(limit.min(step));
            if let Some(after) = after {
                listing = listing.start_after(after);
            }
            let files = listing.await?.try_filter(|entry| std::future::ready(entry.metadata().is_file()));
            files.map_ok(|entry| Entry::of(&entry)).take(limit).try_collect::<Vec<Entry>>().await
        })
        .await
        .and_then(|entries| {
            let mut ascending = Ascending::new(prefix, after);
            entries.into_iter().map(|entry| ascending.next(entry)).collect()
        })
    }

    /// Lists all objects under `prefix`, for prefixes that are known to hold few.
    pub async fn list_all(&self, prefix: &str) -> Result<Vec<Entry>> {
        self.list(prefix, None, usize::MAX).await
    }

    /// Streams all objects under `prefix` in the order of their keys, for prefixes that hold more than fits into
    /// memory. Reads only as far as the caller pulls, and of a directory up to one batch more.
    ///
    /// The stream has every object that exists throughout. It may lack an object that is created or deleted meanwhile.
    /// It ends at the first error; a key that does not come after the previous one is an error.
    pub fn scan(&self, prefix: &str) -> impl Stream<Item = Result<Entry>> + Send + use<> {
        self.scan_after(prefix, None)
    }

    /// Streams as [`Store::scan`], beginning after the key `after`.
    pub fn scan_after(&self, prefix: &str, after: Option<&str>) -> impl Stream<Item = Result<Entry>> + Send + use<> {
        let (store, prefix, after) = (self.clone(), prefix.to_owned(), after.map(str::to_owned));
        let first = async move {
            let mut listing = store.inner.operator.lister_with(&prefix).recursive(true);
            if let Some(after) = &after {
                listing = listing.start_after(after);
            }
            let listing = store.observe("list", &prefix, listing.into_future()).await?;
            let files = listing.try_filter(|entry| std::future::ready(entry.metadata().is_file()));
            let mut ascending = Ascending::new(&prefix, after.as_deref());
            let error = move |error| StorageError::from_opendal("list", &prefix, error);
            Ok(files.map_err(error).map(move |entry| ascending.next(Entry::of(&entry?))))
        };
        futures::stream::once(first).try_flatten()
    }

    /// Removes garbage that has no keys. A bucket has none.
    ///
    /// In a directory, this removes empty directories of the layout that did not change since `before_ms`. It also
    /// removes temporary files that did not change for a day. Both times are milliseconds since 1970 by the store's
    /// clock.
    pub async fn sweep(&self, before_ms: u64, now_ms: u64) -> Result<Swept> {
        let Some(directory) = self.inner.directory.clone() else { return Ok(Swept::default()) };
        let swept = crate::priority::spawn_blocking(move || directory.sweep(&ROOTS, before_ms, now_ms)).await;
        let swept = swept.unwrap_or_else(|lost| Err(std::io::Error::other(lost)));
        swept.map_err(|error| {
            let error = opendal::Error::new(ErrorKind::Unexpected, error.to_string()).set_source(error);
            StorageError::from_opendal("sweep", "", error)
        })
    }

    /// Learns the store's time, and tells it to the clock of this store.
    ///
    /// A bucket tells its time with each answer, so this sends no request to a bucket. A directory tells its time by a
    /// temporary file, which is removed at once.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn hear_time(&self) -> Result<()> {
        if self.inner.ordered_listings {
            return Ok(());
        }
        let Some(directory) = self.inner.directory.clone() else {
            // an operator of a test, which returns the time of each write
            let key = format!("{CLOCKS}{}", Suffix::random());
            self.put(&key, Vec::new()).await?;
            return self.delete(&key).await;
        };
        let asked = self.inner.clock.asks();
        let told = crate::priority::spawn_blocking(move || directory.time_ms()).await;
        let at = told.unwrap_or_else(|lost| Err(std::io::Error::other(lost))).map_err(|error| {
            let error = opendal::Error::new(ErrorKind::Unexpected, error.to_string()).set_source(error);
            StorageError::from_opendal("time", "", error)
        })?;
        self.inner.clock.store_answered(at, asked);
        Ok(())
    }

    /// Returns the store's own time in milliseconds since 1970: the time of an object that this writes, lists and
    /// deletes.
    ///
    /// # Errors
    /// Those of the store, and a store that does not tell when an object was written.
    pub async fn now(&self) -> Result<u64> {
        let key = format!("{CLOCKS}{}", Suffix::random());
        self.put(&key, Vec::new()).await?;
        let entry = self.list(&key, None, 1).await?.into_iter().next();
        self.delete(&key).await?;
        match entry.filter(|entry| entry.modified > 0) {
            Some(entry) => Ok(entry.modified),
            None => Err(StorageError::damaged("list", &key, "the store does not say when an object was written")),
        }
    }

    /// Returns the bytes `range` of an object that is known to have them, as a stream of chunks.
    ///
    /// If the object is too short, the stream ends with an error. It never ends early without an error.
    pub async fn read(&self, key: &str, range: Range<u64>) -> Result<ObjectStream> {
        let left = range.end - range.start;
        let (stream, first) = self
            .observe("read", key, async {
                let reader = self.inner.operator.reader_with(key).content_length_hint(range.end).await?;
                let mut stream = reader.into_stream(range).await?;
                // awaited here, so that a missing object is an error before the answer begins
                let first = if left == 0 { None } else { stream.try_next().await? };
                Ok((stream, first))
            })
            .await?;
        Ok(ObjectStream { stream, chunk: first.unwrap_or_default(), left, key: key.to_owned() })
    }

    /// Returns a writer for an object that comes as a stream. `length` is the number of its bytes, if it is known.
    #[must_use]
    pub fn writer(&self, key: String, length: Option<u64>) -> ObjectWriter {
        ObjectWriter::new(self.clone(), key, length)
    }

    async fn observe<T>(
        &self,
        operation: &'static str,
        key: &str,
        work: impl Future<Output = opendal::Result<T>>,
    ) -> Result<T> {
        let began = Instant::now();
        let span = tracing::info_span!(target: crate::telemetry::SPAN_TARGET, "storage", operation, key);
        let result = work.instrument(span).await.map_err(|error| StorageError::from_opendal(operation, key, error));
        self.inner.metrics.record_storage(
            operation,
            began.elapsed(),
            result.as_ref().err().map(|error| error.kind.as_str()),
        );
        result
    }
}
