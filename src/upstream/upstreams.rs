//! The upstreams of one repository, asked in order.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{
    answers::{BlobStream, Described, FetchedManifest, TagPage},
    failure::{Kind, Reason, Unanswered},
    source::Upstream,
};
use crate::oci::{Descriptor, Digest, Name, Reference};

/// The longest time for all upstreams together to begin an answer. Clients wait for 30 s or more.
const TOGETHER: Duration = Duration::from_secs(25);

/// The upstreams of one repository, in the order in which they are asked.
#[derive(Clone, Debug)]
pub struct Upstreams(Vec<Arc<Upstream>>);

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
        Self(upstreams)
    }

    /// Returns true if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the host of each, in order.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|upstream| upstream.host())
    }

    /// Asks for a manifest without its bytes. `rest` is the repository's name below its namespace.
    ///
    /// # Errors
    /// [`Unanswered`] if no upstream gave an answer that counts.
    pub async fn describe(&self, rest: &str, reference: &Reference) -> Result<Answer<Described>, Unanswered> {
        self.ask(rest, |upstream, name| async move { upstream.describe(&name, reference).await }).await
    }

    /// Fetches a manifest of at most `most` bytes.
    ///
    /// # Errors
    /// [`Unanswered`] if no upstream gave an answer that counts.
    pub async fn manifest(
        &self,
        rest: &str,
        reference: &Reference,
        most: u64,
    ) -> Result<Answer<FetchedManifest>, Unanswered> {
        self.ask(rest, |upstream, name| async move { upstream.fetch(&name, reference, most).await }).await
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

    /// Asks one upstream after the other until one gives an answer that counts, or the time for all is over.
    async fn ask<T, F: Future<Output = Result<T, Reason>>>(
        &self,
        rest: &str,
        question: impl Fn(Arc<Upstream>, Name) -> F,
    ) -> Result<Answer<T>, Unanswered> {
        let until = Instant::now() + TOGETHER;
        let mut unanswered = Unanswered::default();
        for upstream in &self.0 {
            let began = Instant::now();
            let outcome = match upstream.repository(rest) {
                None => Err(Reason::NotFound),
                Some(name) => match timeout_at(until, question(Arc::clone(upstream), name)).await {
                    Ok(outcome) => outcome,
                    Err(_) => Err(Reason::Silent(TOGETHER)),
                },
            };
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
