//! `simple-registry restore`: brings back what was deleted, beside servers that run.

use clap::Args;

use super::store;
use crate::{
    config::Config,
    oci::{Name, Reference},
    registry::By,
    storage::layout,
};

/// What to bring back.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The repository and what was deleted from it: `team/app@sha256:...` (a manifest or blob) or `team/app:v1`
    #[arg(value_name = "REPOSITORY@DIGEST|REPOSITORY:TAG", value_parser = named)]
    what: (Name, Reference),
    #[command(flatten)]
    pub(super) place: store::Place,
}

fn named(text: &str) -> Result<(Name, Reference), String> {
    let (name, reference) = text
        .split_once('@')
        .map(|(name, digest)| {
            Ok((name, Reference::Digest(digest.parse().map_err(|error| format!("{digest}: {error}"))?)))
        })
        .or_else(|| {
            let (name, tag) = text.rsplit_once(':')?;
            Some(tag.parse().map(|tag| (name, Reference::Tag(tag))).map_err(|error| format!("{tag}: {error}")))
        })
        .ok_or("write <repository>@<digest>, or <repository>:<tag>")??;
    Ok((name.parse().map_err(|error| format!("{name} is no repository: {error}"))?, reference))
}

/// Brings it back, and prints what came.
///
/// # Errors
/// What to tell the person who asked.
pub(super) fn run(restore: &Restore, config: &Config) -> Result<(), String> {
    let (name, reference) = &restore.what;
    store::with_registry(config, async |registry| {
        let by = By { identity: "restore".to_owned(), request: layout::attempt() };
        let restored = registry.restore(name, reference, &by).await.map_err(|error| error.to_string())?;
        if restored.is_empty() {
            println!("nothing to restore: {reference} is there in {name}");
        }
        for restored in restored {
            println!("restored in {name}: {restored}");
        }
        Ok(())
    })
}
