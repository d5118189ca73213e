//! Tags and referrers of caches.

use std::collections::HashSet;

use super::{Answered, Mirror, Result, Served};
use crate::{
    action::{Page, ReferrerPlace},
    oci::{Descriptor, Digest, Name, Tag},
    registry::{self, Listed, MAX_PAGE},
    upstream::Cached,
};

impl Mirror {
    /// Returns a page of tags: those of the upstream, or those that are here if no upstream answers.
    ///
    /// # Errors
    /// [`super::Error::Unanswered`] if no upstream answers and nothing is here.
    pub async fn tags(&self, cached: &Cached, name: &Name, page: &Page<String>) -> Result<Answered<Listed<Tag>>> {
        let wanted = page.n.unwrap_or(MAX_PAGE).min(MAX_PAGE);
        let answer = cached.namespace.upstreams.tags(&cached.rest, wanted, page.last.as_deref()).await;
        match self.counted(answer) {
            Ok(answer) => {
                let value = Listed { entries: answer.value.tags, more: answer.value.more };
                Ok(Answered { value, served: Served::Miss, upstream: Some(answer.upstream) })
            }
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
    /// Those of the store. If no upstream answers, those that are here are the answer, even if there are none: clients that
    /// copy an image ask for the referrers of each manifest, and most have none.
    pub async fn referrers(&self, cached: &Cached, name: &Name, subject: &Digest) -> Result<Answered<Vec<Descriptor>>> {
        let (served, upstream, mut all) = match self
            .counted(cached.namespace.upstreams.referrers(&cached.rest, subject).await)
        {
            Ok(answer) => (Served::Miss, Some(answer.upstream), answer.value),
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
