//! Runs `simple-registry restore`: brings deleted things back, beside running servers.

use clap::Args;
use serde_json::{Value, json};

use super::{format::Format, print, store};
use crate::{
    config::Config,
    oci::{Name, Reference},
    registry::{Actor, Restoration, Restored},
    storage::Suffix,
};

/// Options of `restore`.
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The repository and what was deleted from it: `team/app@sha256:...` (a manifest or blob) or `team/app:v1`
    #[arg(value_name = "REPOSITORY@DIGEST|REPOSITORY:TAG", value_parser = named)]
    what: (Name, Reference),
    #[command(flatten)]
    pub(super) place: store::Place,
    /// The form of the output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Parses `<repository>@<digest>`, or `<repository>:<tag>`.
pub(super) fn named(text: &str) -> Result<(Name, Reference), String> {
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

/// Restores the thing, and prints what came back. Tells of things that went with it and did not come back, without a failure.
///
/// # Errors
/// A sentence for the person who asked.
pub(super) fn run(restore: &Restore, config: &Config) -> Result<(), String> {
    let (name, reference) = &restore.what;
    store::with_registry(config, async |registry| {
        let by = Actor { identity: "restore".to_owned(), request: Suffix::random().to_string() };
        let came = registry.restore(name, reference, &by).await.map_err(|error| error.to_string())?;
        match restore.format {
            Format::Json => print::json(&as_json(name, &came)),
            Format::Text => tell(name, reference, &came),
        }
        Ok(())
    })
}

fn tell(name: &Name, reference: &Reference, came: &Restoration) {
    if came.restored.is_empty() {
        print::line(format_args!("nothing to restore: {reference} is there in {name}"));
    }
    for restored in &came.restored {
        print::line(format_args!("restored in {name}: {restored}"));
    }
    for lost in &came.lost {
        print::error_line(format_args!("not restored in {name}: {}: {}", lost.what, lost.why));
    }
}

fn as_json(name: &Name, came: &Restoration) -> Value {
    let restored = |restored: &Restored| match restored {
        Restored::Tag(tag, digest) => json!({ "kind": "tag", "tag": tag, "digest": digest }),
        Restored::Manifest(digest) => json!({ "kind": "manifest", "digest": digest }),
        Restored::Blob(digest) => json!({ "kind": "blob", "digest": digest }),
    };
    let lost: Vec<Value> =
        came.lost.iter().map(|lost| json!({ "reference": lost.what.to_string(), "why": lost.why })).collect();
    json!({ "name": name, "restored": came.restored.iter().map(restored).collect::<Vec<_>>(), "not_restored": lost })
}
