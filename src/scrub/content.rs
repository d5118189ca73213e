//! Whether bytes are what they were: they are read back and hashed.

mod hash;

use super::{Result, bytes::Copy, run::Run};
use crate::oci::Digest;

/// Whether the bytes of a copy are `digest`; nothing where they are not all there.
pub(super) async fn hash(run: &Run<'_>, digest: &Digest, copy: &Copy) -> Result<Option<bool>> {
    let Some(fact) = &copy.fact else { return Ok(None) };
    let found = hash::hash(&run.store, digest.algorithm(), hash::keys(&copy.id, &fact.segments)).await?;
    Ok(found.map(|found| found == *digest))
}

pub(super) async fn run(run: &Run<'_>) -> Result<()> {
    let _ = run;
    Ok(())
}
