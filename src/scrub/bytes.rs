//! Bytes and the facts about them: what nothing needs is freed; what a fact names must be there.

use super::{Result, run::Run};

pub(super) async fn run(run: &Run<'_>) -> Result<()> {
    let _ = run;
    Ok(())
}
