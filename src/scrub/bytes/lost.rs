//! Lost manifests: a tag or an index names them, and the store has no version of them.
//!
//! Their pins are all that is known of what they list, so the pins stay. A backup or a push can bring the manifest alone
//! back, as long as its blobs are there.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tokio::sync::Mutex;

use super::{
    super::{
        Reason, Result,
        ages::AgeThresholds,
        repositories::{is_in_an_index, live_tags},
        run::Run,
    },
    rights::Fact,
};
use crate::{
    oci::{Digest, Name},
    records::key::BlobLink,
};

/// The number of digests, of all repositories together, that are remembered.
const MOST: usize = 1_000_000;

/// The manifests that the tags of repositories mean, of the repositories that this pass has asked about.
#[derive(Default)]
pub(super) struct Lost(Mutex<HashMap<Name, Arc<HashSet<Digest>>>>);

impl Lost {
    /// Keeps the pins of lost manifests. A pin of a manifest without any version is otherwise that of a push that failed.
    pub(super) async fn spare(
        &self,
        run: &Run<'_>,
        ages: AgeThresholds,
        facts: &[Fact],
        fates: &mut [Option<Reason>],
    ) -> Result<()> {
        for (fact, fate) in facts.iter().zip(fates) {
            if let (BlobLink::Pin(manifest), Some(Reason::Unreferenced)) = (fact.right, *fate)
                && (self.meant(run, ages, &fact.name).await?.contains(&manifest)
                    || is_in_an_index(run, &fact.name, &manifest).await?)
            {
                *fate = None;
            }
        }
        Ok(())
    }

    /// Returns the manifests that the tags of a repository mean.
    async fn meant(&self, run: &Run<'_>, ages: AgeThresholds, name: &Name) -> Result<Arc<HashSet<Digest>>> {
        // one after another: all of them may ask about one repository
        let mut known = self.0.lock().await;
        if let Some(meant) = known.get(name) {
            return Ok(Arc::clone(meant));
        }
        let meant: Arc<HashSet<Digest>> = Arc::new(live_tags(&run.store, ages, name).await?.into_keys().collect());
        let number: usize = known.values().map(|meant| meant.len()).sum();
        if number + known.len() >= MOST {
            known.clear();
        }
        known.insert(name.clone(), Arc::clone(&meant));
        Ok(meant)
    }
}
