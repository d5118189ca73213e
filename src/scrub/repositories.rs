//! What is garbage in a repository: superseded versions, manifests that nothing needs, facts without readers.

use super::{Result, run::Run};

pub(super) async fn run(run: &Run<'_>) -> Result<()> {
    let _ = run;
    Ok(())
}
