//! Tags and referrers of caches.

use std::{collections::HashSet, sync::Arc};

use super::{Answered, Mirror, Result, Served};
use crate::{
    action::{Page, ReferrerPlace},
    identity::Client,
    oci::{Descriptor, Digest, Name, Tag},
    registry::{self, Listed, MAX_PAGE},
    upstream::Cached,
};

impl Mirror {
    /// Returns a page of tags: those of the upstream, or those that are here if no upstream answers.
    ///
    /// # Errors
    /// [`super::Error::Unanswered`] if no upstream answers and nothing is here, or `stale_if_error` is off. [`super::Error::Busy`].
    pub async fn tags(
        self: &Arc<Self>,
        cached: &Cached,
        name: &Name,
        page: &Page<String>,
        client: Client,
    ) -> Result<Answered<Listed<Tag>>> {
        let (asked, wanted, last) = (cached.clone(), page.n.unwrap_or(MAX_PAGE).min(MAX_PAGE), page.last.clone());
        let mirror = Arc::clone(self);
        let question =
            async move { mirror.counted(asked.namespace.upstreams.tags(&asked.rest, wanted, last.as_deref()).await) };
        match self.in_own_task(client, question).await? {
            Ok(answer) => {
                let value = Listed { entries: answer.value.tags, more: answer.value.more };
                Ok(Answered { value, served: Served::Miss, upstream: Some(answer.upstream) })
            }
            Err(unanswered) if !cached.namespace.stale_if_error => Err(self.refused(name, "tag".into(), unanswered)),
            Err(unanswered) => match self.registry.tags.list(name, page).await {
                Ok(value) => Ok(Answered { value, served: Served::Stale, upstream: None }),
                Err(registry::Error::NameUnknown(_)) => Err(self.refused(name, "tag".into(), unanswered)),
                Err(error) => Err(error.into()),
            },
        }
    }

    /// Returns all referrers of a manifest: those of the upstream, and those that are here.
    ///
    /// # Errors
    /// Those of the store, and [`super::Error::Busy`]. If no upstream answers, those that are here are the answer, even if there
    /// are none: clients that copy an image ask for the referrers of each manifest, and most have none. With
    /// `stale_if_error` off it is [`super::Error::Unanswered`].
    pub async fn referrers(
        self: &Arc<Self>,
        cached: &Cached,
        name: &Name,
        subject: &Digest,
        client: Client,
    ) -> Result<Answered<Vec<Descriptor>>> {
        let (mirror, asked, wanted) = (Arc::clone(self), cached.clone(), *subject);
        let question = async move { mirror.counted(asked.namespace.upstreams.referrers(&asked.rest, &wanted).await) };
        let (served, upstream, mut all) = match self.in_own_task(client, question).await? {
            Ok(answer) => (Served::Miss, Some(answer.upstream), answer.value),
            Err(unanswered) if !cached.namespace.stale_if_error => {
                return Err(self.refused(name, format!("list of referrers of {subject}").into(), unanswered));
            }
            Err(unanswered) => {
                tracing::info!(%name, %subject, %unanswered, "no upstream lists referrers; those of the cache are listed");
                (Served::Stale, None, Vec::new())
            }
        };
        let mut known: HashSet<Digest> = all.iter().map(|descriptor| descriptor.digest).collect();
        let mut page = Page::<ReferrerPlace>::default();
        loop {
            let here = self.registry.referrers.list(name, subject, None, &page).await?;
            for descriptor in here.descriptors {
                if known.insert(descriptor.digest) {
                    all.push(Descriptor::clone(&descriptor));
                }
            }
            match here.next {
                Some(next) => page.last = Some(next),
                None => break,
            }
        }
        Ok(Answered { value: all, served, upstream })
    }
}
