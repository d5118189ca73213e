//! The upstreams of one repository, asked in order.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{
    answers::{BlobStream, Described, FetchedManifest, Room, TagPage},
    failure::{Kind, Reason, Unanswered},
    source::Upstream,
};
use crate::oci::{Descriptor, Digest, Name, Reference};

/// The longest time for all upstreams together to begin an answer, over all questions of one pull. Clients wait for 30 s
/// or more.
const TOGETHER: Duration = Duration::from_secs(25);

/// The upstreams of one repository, in the order in which they are asked.
#[derive(Clone, Debug)]
pub struct Upstreams {
    all: Vec<Arc<Upstream>>,
    /// The time for all of them to begin an answer.
    together: Duration,
    /// The pull whose questions share that time. `None`: each question has it for itself.
    pull: Option<Arc<OnePull>>,
}

/// The questions of one pull.
#[derive(Debug)]
struct OnePull {
    /// The end of their time.
    until: Instant,
    /// The upstreams that were silent. They are asked last, so that they do not use up the time.
    silent: Mutex<Vec<Arc<Upstream>>>,
}

/// An answer, and the upstream that gave it.
#[derive(Debug)]
pub struct Answer<T> {
    /// The host of the upstream.
    pub upstream: Arc<str>,
    /// The answer.
    pub value: T,
    /// The time until the answer began.
    pub took: Duration,
    /// The hosts of upstreams that were asked before, and their reasons to give none.
    pub before: Unanswered,
}

impl Upstreams {
    /// Takes upstreams in the order in which they are asked.
    #[must_use]
    pub fn new(upstreams: Vec<Arc<Upstream>>) -> Self {
        Self { all: upstreams, together: TOGETHER, pull: None }
    }

    /// Gives all of them together another time than 25 s to begin an answer.
    #[must_use]
    pub fn within(mut self, together: Duration) -> Self {
        self.together = together;
        self
    }

    /// Returns these upstreams for one pull: all questions to them share the time, which begins now.
    #[must_use]
    pub fn for_one_pull(&self) -> Self {
        let pull = OnePull { until: Instant::now() + self.together, silent: Mutex::default() };
        Self { pull: Some(Arc::new(pull)), ..self.clone() }
    }

    /// Returns these upstreams but for some, in the same pull.
    #[must_use]
    pub fn without<'a>(&self, some: impl IntoIterator<Item = &'a Arc<Upstream>>) -> Self {
        let some: Vec<_> = some.into_iter().collect();
        let mut others = self.clone();
        others.all.retain(|one| !some.iter().any(|other| Arc::ptr_eq(one, other)));
        others
    }

    /// Returns true if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Returns the host of each, in order.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|upstream| upstream.host())
    }

    /// Asks for a manifest without its bytes. `rest` is the repository's name below its namespace.
    ///
    /// # Errors
    /// [`Unanswered`] if no upstream gave an answer that counts.
    pub async fn describe(&self, rest: &str, reference: &Reference) -> Result<Answer<Described>, Unanswered> {
        self.ask(rest, |upstream, name| async move { upstream.describe(&name, reference).await }).await
    }

    /// Fetches a manifest that has room.
    ///
    /// # Errors
    /// [`Unanswered`] if no upstream gave an answer that counts.
    pub async fn manifest(
        &self,
        rest: &str,
        reference: &Reference,
        room: &dyn Room,
    ) -> Result<Answer<FetchedManifest>, Unanswered> {
        self.ask(rest, |upstream, name| async move { upstream.fetch(&name, reference, room).await }).await
    }

    /// Asks for the size of a blob in bytes, which an upstream may leave unsaid.
    ///
    /// # Errors
    /// [`Unanswered`] if no upstream gave an answer that counts.
    pub async fn blob_size(&self, rest: &str, digest: &Digest) -> Result<Answer<Option<u64>>, Unanswered> {
        self.ask(rest, |upstream, name| async move { upstream.blob_size(&name, digest).await }).await
    }

    /// Fetches a blob from the offset `from` on. The stream may begin earlier.
    ///
    /// # Errors
    /// [`Unanswered`] if no upstream gave an answer that counts.
    pub async fn blob(&self, rest: &str, digest: &Digest, from: u64) -> Result<Answer<BlobStream>, Unanswered> {
        self.ask(rest, |upstream, name| async move { upstream.blob(&name, digest, from).await }).await
    }

    /// Fetches a page of tags: `n` tags after `last`. An upstream may keep to neither, so the page may be any tags.
    ///
    /// # Errors
    /// [`Unanswered`] if no upstream gave an answer that counts.
    pub async fn tags(&self, rest: &str, n: usize, last: Option<&str>) -> Result<Answer<TagPage>, Unanswered> {
        self.ask(rest, |upstream, name| async move { upstream.tags(&name, n, last).await }).await
    }

    /// Fetches the referrers of a manifest. An upstream that has none answers with an empty list.
    ///
    /// # Errors
    /// [`Unanswered`] if no upstream gave an answer that counts.
    pub async fn referrers(&self, rest: &str, subject: &Digest) -> Result<Answer<Vec<Descriptor>>, Unanswered> {
        // another upstream may have the image that this one does not have
        let found = |upstream: Arc<Upstream>, name: Name| async move {
            let found = upstream.referrers(&name, subject).await?;
            if found.is_empty() { Err(Reason::NotFound) } else { Ok(found) }
        };
        match self.ask(rest, found).await {
            Err(before) if before.reasons.iter().all(|(_, reason)| *reason == Reason::NotFound) => {
                let upstream = before.reasons.first().map_or("", |(host, _)| host).into();
                Ok(Answer { upstream, value: Vec::new(), took: Duration::ZERO, before: Unanswered::default() })
            }
            answer => answer,
        }
    }

    /// Returns those of these upstreams that are among some, in the same pull.
    #[must_use]
    pub fn only(&self, some: &[Arc<Upstream>]) -> Self {
        let mut these = self.clone();
        these.all.retain(|one| some.iter().any(|other| Arc::ptr_eq(one, other)));
        these
    }

    /// Returns the upstreams in the order in which to ask now, and the end of their time.
    fn order(&self) -> (Vec<&Arc<Upstream>>, Instant) {
        let Some(pull) = &self.pull else { return (self.all.iter().collect(), Instant::now() + self.together) };
        let silent = pull.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let was_silent = |one: &&Arc<Upstream>| silent.iter().any(|other| Arc::ptr_eq(one, other));
        let (last, mut order): (Vec<_>, Vec<_>) = self.all.iter().partition(was_silent);
        order.extend(last);
        (order, pull.until)
    }

    fn note_silence(&self, upstream: &Arc<Upstream>) {
        if let Some(pull) = &self.pull {
            pull.silent.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(upstream));
        }
    }

    /// Asks one upstream after the other until one gives an answer that counts, or the time for all is over.
    async fn ask<T, F: Future<Output = Result<T, Reason>>>(
        &self,
        rest: &str,
        question: impl Fn(Arc<Upstream>, Name) -> F,
    ) -> Result<Answer<T>, Unanswered> {
        let (order, until) = self.order();
        let mut unanswered = Unanswered::default();
        for upstream in order {
            let began = Instant::now();
            let outcome = match upstream.repository(rest) {
                None => Err(Reason::NotFound),
                Some(_) if began >= until => Err(Reason::NotAsked),
                Some(name) => match timeout_at(until, question(Arc::clone(upstream), name)).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(Reason::Silent(until - began)),
                },
            };
            if matches!(outcome, Err(Reason::Silent(_))) {
                self.note_silence(upstream);
            }
            match outcome {
                Ok(value) => {
                    // only people can mend that, and the answer of another upstream would hide it
                    if unanswered.kind() == Kind::Configuration {
                        tracing::error!(%rest, %unanswered, "an upstream refuses the configured credentials; another one answered");
                    }
                    let (upstream, took) = (upstream.host().into(), began.elapsed());
                    return Ok(Answer { upstream, value, took, before: unanswered });
                }
                Err(reason) => unanswered.reasons.push((upstream.host().to_owned(), reason)),
            }
        }
        Err(unanswered)
    }
}
