//! Joins the registry and its upstreams: a pull that finds nothing here asks an upstream, and keeps what that gives.
//!
//! A repository that is a cache has the same records as any other. No upstream can delete anything here: if no
//! upstream answers, a tag keeps the meaning that it has here.
//!
//! | file | content |
//! | --- | --- |
//! | `manifests` | manifests, by tag and digest |
//! | `cooldown` | the decision whether a manifest is held back, since it was first seen a short while ago |
//! | `held` | a manifest that is held back, and the refusal |
//! | `image` | whole images |
//! | `lists` | tags and referrers |
//! | `download` | the bytes of a blob on their way, and their readers |
//! | `receive` | the bytes of an upstream, at its pace |
//! | `worker` | the work of a download, in turn with other servers |
//! | `fetch` | the download of the server that has the turn |
//! | `senders` | the upstreams that a download asks next |
//! | `places` | the shares of hosts and clients in downloads and questions |
//! | `queue` | the wait of a download for its place |
//! | `room` | the memory of manifests that upstreams send |
//! | `turns` | one question at a time about one thing |

mod cooldown;
mod download;
mod error;
mod fetch;
mod held;
mod image;
mod lists;
mod manifests;
mod places;
mod queue;
mod receive;
mod room;
mod senders;
mod turns;
mod worker;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tracing::Instrument as _;

use self::{
    download::Download,
    manifests::{Confirmed, Failed},
    places::{Places, Tasks},
    turns::Turns,
    worker::Worker,
};
pub use self::{
    download::{DownloadStream, Pull},
    error::{Error, Result},
    held::Held,
    image::{Fetched, Wanted},
    manifests::ManifestPull,
    room::{TakeMemory, memory_enough},
};
use crate::{
    identity::Client,
    memory::Part,
    oci::{Digest, Name, Reference},
    registry::{Actor, Registry},
    telemetry::Metrics,
    upstream::{Answer, Cached, Kind, Unanswered, Upstream},
};

/// The time for which an upstream's word that something is not there is repeated.
const ABSENT: Duration = Duration::from_secs(10);
/// The time for which a manifest may leave because of another that led to it.
const LED: Duration = Duration::from_mins(1);
/// The time for which an upstream is not asked for a blob again whose bytes it sent wrong, if another one can be asked.
const WRONG: Duration = Duration::from_mins(10);

/// The reason for which requests are turned away whose client has too many downloads and questions, as metrics say it.
pub const TOO_MANY: &str = "too-many-downloads";

/// The settings of caches.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The time for which a download goes on although nobody waits for it.
    pub idle: Duration,
    /// The time in which the stream of an upstream must bring some bytes. Each stream takes a place that other downloads
    /// wait for.
    pub pace: Duration,
}

/// The place of an answer's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It was here.
    Hit,
    /// An upstream gave it.
    Miss,
    /// It was here, and no upstream could say whether it still holds.
    Stale,
}

impl Served {
    /// Returns the word in `X-Cache`, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
        }
    }
}

/// An answer of a cache.
#[derive(Clone, Debug)]
pub struct Answered<T> {
    /// The answer.
    pub value: T,
    /// The place of its content.
    pub served: Served,
    /// The host of the upstream that was asked and answered.
    pub upstream: Option<Arc<str>>,
}

impl<T> Answered<T> {
    /// Returns an answer that was here, and for which no upstream was asked.
    const fn hit(value: T) -> Self {
        Self { value, served: Served::Hit, upstream: None }
    }
}

/// The caches of upstreams, over one registry.
pub struct Mirror {
    registry: Arc<Registry>,
    metrics: Metrics,
    options: Options,
    downloads: Mutex<HashMap<(Name, Digest), Weak<Download>>>,
    places: Arc<Places>,
    tasks: Arc<Tasks>,
    turns: Turns<(Name, Reference)>,
    /// The times at which upstreams last told the meanings of tags.
    confirmed: Part<(Name, Reference), Confirmed>,
    /// The last questions without an answer.
    failed: Part<(Name, Reference), Failed>,
    /// Things that no upstream had a moment ago.
    absent: Part<(Name, Arc<str>), Arc<Unanswered>>,
    /// Manifests that other manifests led to a moment ago, with the earliest first-seen time among those.
    led: Part<(Name, Digest), u64>,
    /// The upstreams that sent wrong bytes for a blob a while ago.
    wrong: Part<(Name, Digest), Arc<[Arc<Upstream>]>>,
}

impl Mirror {
    /// Creates the caches of a registry.
    #[must_use]
    pub fn new(registry: &Arc<Registry>, options: Options, metrics: Metrics) -> Arc<Self> {
        let weigh = |(name, reference): &(Name, Reference), _: &Confirmed| {
            name.as_str().len() + reference.to_string().len() + 200
        };
        let weigh_failed = |(name, reference): &(Name, Reference), _: &Failed| {
            name.as_str().len() + reference.to_string().len() + 1_000
        };
        let weigh_absent =
            |(name, what): &(Name, Arc<str>), _: &Arc<Unanswered>| name.as_str().len() + what.len() + 1_000;
        let weigh_wrong =
            |(name, _): &(Name, Digest), all: &Arc<[Arc<Upstream>]>| name.as_str().len() + 200 + 8 * all.len();
        let memory = registry.memory();
        Arc::new(Self {
            registry: Arc::clone(registry),
            metrics,
            options,
            downloads: Mutex::default(),
            places: Places::new(),
            tasks: Tasks::new(),
            turns: Turns::default(),
            confirmed: Part::new(memory, weigh),
            failed: Part::new(memory, weigh_failed).for_time(ABSENT),
            absent: Part::new(memory, weigh_absent).for_time(ABSENT),
            led: Part::new(memory, |(name, _): &(Name, Digest), _: &u64| name.as_str().len() + 100).for_time(LED),
            wrong: Part::new(memory, weigh_wrong).for_time(WRONG),
        })
    }

    /// Begins to download a blob that the repository does not have, or joins the download that is under way.
    ///
    /// # Errors
    /// [`Error::Unanswered`] if the upstreams said a moment ago that they do not have it. [`Error::Busy`] if the client has
    /// begun too many others.
    pub fn pull(
        self: &Arc<Self>,
        cached: &Cached,
        name: &Name,
        digest: &Digest,
        by: &Actor,
        client: Client,
    ) -> Result<Pull> {
        self.unless_absent(name, &what_blob(digest))?;
        let mut downloads = self.downloads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(download) = downloads.get(&(name.clone(), *digest)).and_then(Weak::upgrade) {
            return Ok(download.reader(client));
        }
        let task = self.tasks.begin(client).ok_or_else(|| self.busy())?;
        let download = Download::new(name, digest);
        downloads.insert((name.clone(), *digest), Arc::downgrade(&download));
        let pull = download.reader(client);
        let worker = Worker::new(self, cached, &download, by, client);
        let ending = Ending(Arc::clone(self), download);
        tokio::spawn(async move {
            let (_ending, _task) = (ending, task);
            worker.run().await;
        });
        Ok(pull)
    }

    /// Returns the size of a blob that the repository does not have, in bytes, as an upstream says it. `None` if it
    /// does not say it.
    ///
    /// # Errors
    /// [`Error::Unanswered`] and [`Error::Busy`].
    pub async fn blob_size(
        self: &Arc<Self>,
        cached: &Cached,
        name: &Name,
        digest: &Digest,
        client: Client,
    ) -> Result<Answered<Option<u64>>> {
        self.unless_absent(name, &what_blob(digest))?;
        let (mirror, cached, name, wanted) = (Arc::clone(self), cached.clone(), name.clone(), *digest);
        let question = async move {
            let size = mirror.counted(cached.namespace.upstreams.blob_size(&cached.rest, &wanted).await);
            size.map_err(|unanswered| mirror.refused(&name, what_blob(&wanted), unanswered))
        };
        let size = self.in_own_task(client, question).await??;
        Ok(Answered { value: size.value, served: Served::Miss, upstream: Some(size.upstream) })
    }

    /// Returns the error of a download that no upstream answered.
    fn unanswered(&self, download: &Download, unanswered: Unanswered) -> Error {
        self.refused(&download.name, what_blob(&download.digest), unanswered)
    }

    /// Forgets a download, unless a newer one has taken its place.
    fn forget(&self, download: &Arc<Download>) {
        self.forget_if(download, || true);
    }

    /// Forgets a download if it has no reader. Returns whether it did.
    fn forget_unread(&self, download: &Arc<Download>) -> bool {
        self.forget_if(download, || !download.has_readers())
    }

    fn forget_if(&self, download: &Arc<Download>, is_so: impl FnOnce() -> bool) -> bool {
        let key = (download.name.clone(), download.digest);
        // readers are added under this lock
        let mut downloads = self.downloads.lock().unwrap_or_else(PoisonError::into_inner);
        let forgets = is_so();
        if forgets && downloads.get(&key).is_some_and(|known| known.as_ptr() == Arc::as_ptr(download)) {
            downloads.remove(&key);
        }
        forgets
    }

    /// Asks upstreams in a task of its own, which goes on if the caller leaves. So an upstream that is silent for longer
    /// than each client waits is known to be silent.
    ///
    /// # Errors
    /// [`Error::Busy`] if the client has too many such tasks.
    async fn in_own_task<T: Send + 'static>(
        &self,
        client: Client,
        question: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let task = self.tasks.begin(client).ok_or_else(|| self.busy())?;
        let question = async move {
            let _task = task;
            question.await
        };
        let outcome = tokio::spawn(question.in_current_span()).await;
        outcome.map_err(|_| Error::Unfinished("its task ended".to_owned()))
    }

    /// Counts a request that is turned away, since its client has too many tasks.
    fn busy(&self) -> Error {
        self.metrics.record_rejected(TOO_MANY);
        Error::Busy
    }

    /// Counts a question to upstreams.
    fn counted<T>(
        &self,
        outcome: std::result::Result<Answer<T>, Unanswered>,
    ) -> std::result::Result<Answer<T>, Unanswered> {
        let unanswered = match &outcome {
            Ok(answer) => {
                self.metrics.record_upstream(&answer.upstream, "answered", Some(answer.took));
                &answer.before
            }
            Err(unanswered) => unanswered,
        };
        for (host, reason) in &unanswered.reasons {
            self.metrics.record_upstream(host, reason.as_str(), None);
        }
        outcome
    }

    /// Checks that no upstream said a moment ago that a thing is not there.
    ///
    /// # Errors
    /// [`Error::Unanswered`] if they said so.
    fn unless_absent(&self, name: &Name, what: &Arc<str>) -> Result<()> {
        match self.absent.get(&(name.clone(), Arc::clone(what))) {
            Some(unanswered) => Err(Error::Unanswered { name: name.clone(), what: Arc::clone(what), unanswered }),
            None => Ok(()),
        }
    }

    /// Returns the error of a question that no upstream answered, and remembers for a moment that something is absent.
    fn refused(&self, name: &Name, what: Arc<str>, unanswered: Unanswered) -> Error {
        let unanswered = Arc::new(unanswered);
        match unanswered.kind() {
            Kind::NotFound => self.absent.insert((name.clone(), Arc::clone(&what)), Arc::clone(&unanswered)),
            Kind::Configuration => {
                tracing::error!(%name, %what, %unanswered, "an upstream refuses the configured credentials");
            }
            Kind::Limited | Kind::Busy | Kind::Silent | Kind::Unavailable => {
                tracing::warn!(%name, %what, %unanswered, "no upstream answers");
            }
        }
        Error::Unanswered { name: name.clone(), what, unanswered }
    }
}

/// Ends a download whose task ends without a word, so that no reader waits for ever.
struct Ending(Arc<Mirror>, Arc<Download>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.forget(&self.1);
        self.1.end(Err(Error::Unfinished("its task ended".to_owned())));
    }
}

/// Names a blob in messages.
fn what_blob(digest: &Digest) -> Arc<str> {
    format!("blob {digest}").into()
}
