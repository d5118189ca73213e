//! Runs `simple-registry history`: the meanings of a tag, read from the store itself.

use clap::Args;
use serde_json::json;

use super::{format::Format, print, store};
use crate::{
    config::Config,
    oci::{Name, Tag},
    records::TagEntry,
    registry::Registry,
};

/// Entries that are read at a time.
const PAGE: usize = 1000;

/// Options of `history`.
#[derive(Debug, Args)]
pub(super) struct History {
    /// The repository and the tag, such as `team/app:v1`
    #[arg(value_name = "REPOSITORY:TAG", value_parser = tagged)]
    of: (Name, Tag),
    #[command(flatten)]
    pub(super) place: store::Place,
    /// The form of the output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

fn tagged(text: &str) -> Result<(Name, Tag), String> {
    let (name, tag) = text.rsplit_once(':').ok_or("write <repository>:<tag>, such as team/app:v1")?;
    let name = name.parse().map_err(|error| format!("{name} is no repository: {error}"))?;
    Ok((name, tag.parse().map_err(|error| format!("{tag} is no tag: {error}"))?))
}

/// Prints the whole history, newest first.
///
/// # Errors
/// A sentence for the person who asked.
pub(super) fn run(history: &History, config: &Config) -> Result<(), String> {
    let (name, tag) = &history.of;
    store::with_registry(config, async |registry| {
        let entries = read(registry, name, tag).await?;
        if entries.is_empty() {
            return Err(format!("nothing is known of a tag {tag} in {name}; look for its name in the list of tags"));
        }
        match history.format {
            Format::Json => print::json(&as_json(name, tag, &entries)),
            Format::Text => entries.iter().for_each(|entry| print::line(as_text(entry))),
        }
        Ok(())
    })
}

async fn read(registry: &Registry, name: &Name, tag: &Tag) -> Result<Vec<TagEntry>, String> {
    let mut entries: Vec<TagEntry> = Vec::new();
    loop {
        let last = entries.last().map(|entry| entry.ordinal);
        let page = registry.tags.history(name, tag, PAGE, last).await.map_err(|error| error.to_string())?;
        let whole = page.len() < PAGE;
        entries.extend(page);
        if whole {
            return Ok(entries);
        }
    }
}

fn as_json(name: &Name, tag: &Tag, entries: &[TagEntry]) -> serde_json::Value {
    let entry = |entry: &TagEntry| {
        json!({
            "digest": entry.target.map(|(digest, _)| digest),
            "from": store::rfc3339(entry.at),
            "by": entry.by.identity,
            "request_id": entry.by.request,
            "ordinal": entry.ordinal,
        })
    };
    json!({ "name": name, "tag": tag, "history": entries.iter().map(entry).collect::<Vec<_>>() })
}

fn as_text(entry: &TagEntry) -> String {
    let meant = entry.target.map_or_else(|| "gone".to_owned(), |(digest, _)| digest.to_string());
    // a digest and a time have the same length in every line, but for what a time may leave out
    format!("{:<30} {meant:<71} {} ({})", store::rfc3339(entry.at), entry.by.identity, entry.by.request)
}
