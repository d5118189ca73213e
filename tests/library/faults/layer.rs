//! An opendal layer that counts the operations of the directory below it and spoils the one that it is told to.

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use opendal::raw::{
    Layer, OpCompose, OpCopy, OpCreateDir, OpDelete, OpList, OpPresign, OpRead, OpRename, OpStat, OpWrite, RpCreateDir,
    RpPresign, RpRead, RpRename, RpStat, Service, ServiceInfo, Servicer, oio,
};
use opendal::{Buffer, BytesRange, Capability, Error, ErrorKind, Metadata, OperationContext, Result};
use tokio::sync::Notify;

/// A fault of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not done, and that is said.
    Fails,
    /// The same, of the kind that is worth another try.
    Hiccups,
    /// It is not done, for there is no space. Writes alone.
    Full,
    /// It is done, and an error is said.
    Lost,
    /// It is begun and given up, as a timeout does; worth another try.
    TimesOut,
    /// It is not begun, and there is never an answer.
    Stalls,
    /// It is done, and there is never an answer.
    Silent,
    /// It is done once all works again.
    Waits,
    /// The content ends too early, as if that were its end. Reads alone.
    Cut,
    /// The content has a wrong bit. Reads of segments and manifests alone, since other records have no digest.
    Rots,
}

/// The operations that go wrong, with their fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) fault: Fault,
    /// The operation, from 0, among those that the fault can happen to.
    pub(crate) nth: usize,
    /// From that operation on; otherwise that one alone.
    pub(crate) lasting: bool,
}

/// The kind of an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Write,
    Content,
    Other,
}

#[derive(Debug, Default)]
struct State {
    plan: Option<Plan>,
    seen: usize,
    hits: Vec<String>,
    begun: Vec<String>,
}

/// The layer, and the handle on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    state: Arc<Mutex<State>>,
    stalled: Arc<Notify>,
    healed: Arc<Notify>,
}

impl Faults {
    /// Begins to count.
    pub(crate) fn arm(&self, plan: Plan) {
        *self.state() = State { plan: Some(plan), ..State::default() };
    }

    /// Lets all operations work that begin from here on.
    pub(crate) fn heal(&self) {
        self.state().plan = None;
        self.healed.notify_waiters();
    }

    /// Returns the operations that went wrong since the last plan.
    pub(crate) fn hits(&self) -> Vec<String> {
        self.state().hits.clone()
    }

    /// Returns all operations since the last plan, in the order in which they began.
    pub(crate) fn begun(&self) -> Vec<String> {
        self.state().begun.clone()
    }

    /// Returns when there is an operation that never answers, or waits.
    pub(crate) async fn stalled(&self) {
        self.stalled.notified().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Returns the fault of the operation that is about to begin.
    fn next(&self, kind: Kind, what: &str, key: &str) -> Option<Fault> {
        let mut state = self.state();
        let plan = state.plan?;
        state.begun.push(format!("{what} {key}"));
        let concerned = match plan.fault {
            Fault::Full => kind == Kind::Write,
            Fault::Cut => kind == Kind::Content,
            Fault::Rots => kind == Kind::Content && (key.starts_with("data/") || key.contains("/manifests/")),
            _ => true,
        };
        if !concerned {
            return None;
        }
        let nth = state.seen;
        state.seen += 1;
        let hit = if plan.lasting { nth >= plan.nth } else { nth == plan.nth };
        hit.then(|| {
            state.hits.push(format!("{what} {key}"));
            plan.fault
        })
    }

    async fn run<T>(&self, kind: Kind, what: &str, key: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        match self.next(kind, what, key) {
            Some(fault) => self.spoil(fault, work).await,
            None => work.await,
        }
    }

    async fn spoil<T>(&self, fault: Fault, work: impl Future<Output = Result<T>>) -> Result<T> {
        let error = Error::new(ErrorKind::Unexpected, "a fault of the test");
        match fault {
            Fault::Fails => Err(error),
            Fault::Hiccups => Err(error.set_temporary()),
            Fault::Full => Err(error.set_source(std::io::Error::from(std::io::ErrorKind::StorageFull))),
            Fault::Lost => {
                // whatever it was: "there is no such object" is lost as well
                let _ = work.await;
                Err(error)
            }
            Fault::TimesOut => match futures::poll!(pin!(work)) {
                Poll::Ready(done) => done,
                Poll::Pending => Err(error.set_temporary()),
            },
            Fault::Stalls => self.never_answer().await,
            Fault::Silent => {
                let _ = work.await;
                self.never_answer().await
            }
            Fault::Waits => {
                let healed = self.healed.notified();
                self.stalled.notify_one();
                healed.await;
                work.await
            }
            // spoilt by who reads
            Fault::Cut | Fault::Rots => work.await,
        }
    }

    async fn never_answer<T>(&self) -> Result<T> {
        self.stalled.notify_one();
        pending().await
    }

    /// Reads content, and says whether it must be taken for the end.
    async fn content(
        &self,
        what: &str,
        key: &str,
        work: impl Future<Output = Result<Buffer>>,
    ) -> Result<(Buffer, bool)> {
        let Some(fault) = self.next(Kind::Content, what, key) else { return Ok((work.await?, false)) };
        let read = self.spoil(fault, work).await?;
        Ok(match fault {
            Fault::Cut => (read.slice(..read.len() / 2), true),
            Fault::Rots => {
                let mut bytes = read.to_vec();
                if let Some(last) = bytes.last_mut() {
                    *last ^= 1;
                }
                (bytes.into(), false)
            }
            _ => (read, false),
        })
    }

    fn around<T>(&self, inner: T, key: &str) -> Faulty<T> {
        Faulty { inner, faults: self.clone(), key: key.to_owned(), ended: false }
    }
}

impl Layer for Faults {
    fn apply_service(&self, inner: Servicer) -> Servicer {
        Arc::new(FaultyService { inner, faults: self.clone() })
    }
}

#[derive(Debug)]
struct FaultyService {
    inner: Servicer,
    faults: Faults,
}

/// A reader, writer and so on of the directory.
struct Faulty<T> {
    inner: T,
    faults: Faults,
    key: String,
    ended: bool,
}

impl Service for FaultyService {
    type Reader = Faulty<oio::Reader>;
    type Writer = Faulty<oio::Writer>;
    type Lister = Faulty<oio::Lister>;
    type Deleter = Faulty<oio::Deleter>;
    type Copier = oio::Copier;
    type Composer = oio::Composer;

    fn info(&self) -> ServiceInfo {
        self.inner.info()
    }

    fn capability(&self) -> Capability {
        self.inner.capability()
    }

    async fn create_dir(&self, context: &OperationContext, path: &str, args: OpCreateDir) -> Result<RpCreateDir> {
        self.inner.create_dir(context, path, args).await
    }

    async fn stat(&self, context: &OperationContext, path: &str, args: OpStat) -> Result<RpStat> {
        self.faults.run(Kind::Other, "stat", path, self.inner.stat(context, path, args)).await
    }

    fn read(&self, context: &OperationContext, path: &str, args: OpRead) -> Result<Self::Reader> {
        Ok(self.faults.around(self.inner.read(context, path, args)?, path))
    }

    fn write(&self, context: &OperationContext, path: &str, args: OpWrite) -> Result<Self::Writer> {
        Ok(self.faults.around(self.inner.write(context, path, args)?, path))
    }

    fn delete(&self, context: &OperationContext) -> Result<Self::Deleter> {
        Ok(self.faults.around(self.inner.delete(context)?, ""))
    }

    fn list(&self, context: &OperationContext, path: &str, args: OpList) -> Result<Self::Lister> {
        Ok(self.faults.around(self.inner.list(context, path, args)?, path))
    }

    fn copy(&self, context: &OperationContext, from: &str, to: &str, args: OpCopy) -> Result<Self::Copier> {
        self.inner.copy(context, from, to, args)
    }

    fn compose(&self, context: &OperationContext, to: &str, args: OpCompose) -> Result<Self::Composer> {
        self.inner.compose(context, to, args)
    }

    async fn rename(&self, context: &OperationContext, from: &str, to: &str, args: OpRename) -> Result<RpRename> {
        self.inner.rename(context, from, to, args).await
    }

    async fn presign(&self, context: &OperationContext, path: &str, args: OpPresign) -> Result<RpPresign> {
        self.inner.presign(context, path, args).await
    }
}

impl oio::Read for Faulty<oio::Reader> {
    async fn open(&self, range: BytesRange) -> Result<(RpRead, Box<dyn oio::ReadStreamDyn>)> {
        let (answer, stream) = self.faults.run(Kind::Other, "open", &self.key, self.inner.open(range)).await?;
        Ok((answer, Box::new(self.faults.around(stream, &self.key))))
    }

    async fn read(&self, range: BytesRange) -> Result<(RpRead, Buffer)> {
        let mut answer = None;
        let work = async {
            let (read, content) = self.inner.read(range).await?;
            answer = Some(read);
            Ok(content)
        };
        let (content, _) = self.faults.content("read", &self.key, work).await?;
        Ok((answer.expect("content comes with it"), content))
    }
}

impl oio::ReadStream for Faulty<Box<dyn oio::ReadStreamDyn>> {
    async fn read(&mut self) -> Result<Buffer> {
        if self.ended {
            return Ok(Buffer::new());
        }
        let (content, ended) = self.faults.content("read a block of", &self.key, self.inner.read()).await?;
        self.ended = ended;
        Ok(content)
    }
}

impl oio::Write for Faulty<oio::Writer> {
    async fn write(&mut self, content: Buffer) -> Result<()> {
        self.faults.run(Kind::Write, "write", &self.key, self.inner.write(content)).await
    }

    async fn close(&mut self) -> Result<Metadata> {
        self.faults.run(Kind::Write, "close", &self.key, self.inner.close()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.faults.run(Kind::Other, "abort", &self.key, self.inner.abort()).await
    }
}

impl oio::List for Faulty<oio::Lister> {
    async fn next(&mut self) -> Result<Option<oio::Entry>> {
        self.faults.run(Kind::Other, "list", &self.key, self.inner.next()).await
    }
}

impl oio::Delete for Faulty<oio::Deleter> {
    async fn delete(&mut self, path: &str, args: OpDelete) -> Result<()> {
        path.clone_into(&mut self.key);
        self.inner.delete(path, args).await
    }

    async fn close(&mut self) -> Result<()> {
        self.faults.run(Kind::Other, "delete", &self.key, self.inner.close()).await
    }
}
