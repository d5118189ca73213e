//! Whether what repositories name is there; what is missing and can be derived is written again.

use super::{Result, run::Run};

pub(super) async fn run(run: &Run<'_>) -> Result<()> {
    let _ = run;
    Ok(())
}
