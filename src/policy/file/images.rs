//! `[[test]]` of a retention policy: images, and which of them are to stay.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use jiff::Timestamp;

use super::names::among;
use crate::{
    diagnostics::{
        Node, Table, Value,
        rule::{self, Rule},
    },
    policy::image::Image,
};

/// The time of a test that states none: 2026-01-01T00:00:00Z, in seconds.
const NOW: i64 = 1_767_225_600;

/// The number of tags that an unknown tag is compared with.
const MOST_SUGGESTED: usize = 20;

/// The question of a test of a retention policy, and the answer that it expects.
#[derive(Debug)]
pub(in crate::policy) struct RetentionCase {
    pub(in crate::policy) now: Timestamp,
    pub(in crate::policy) images: Vec<Image>,
    /// The tags of those that are to stay.
    pub(in crate::policy) keep: BTreeSet<String>,
}

/// Reads a test of a retention policy. Returns the place of what it expects too.
pub(super) fn read(table: &mut Table<'_>) -> (Range<usize>, RetentionCase) {
    let now = now(table);
    let (mut images, mut tags) = (Vec::new(), BTreeSet::new());
    if table.entry("images").is_none() {
        table.missing("images", "[{ tag = \"v1\", pushed_at = 2026-01-31T12:00:00Z }]");
    }
    for mut entry in table.list("images") {
        let image = image(&mut entry);
        if entry.entry("tag").is_some() && !tags.insert(image.tag.clone()) {
            let says = format!("two images have the tag \"{}\"", image.tag);
            entry.refuse("tag", says, "a tag is of one image: give one of them another");
        }
        images.push(image);
        entry.finish();
    }
    let mut keep = BTreeSet::new();
    if table.entry("expect").is_none() {
        table.missing("expect", "{ keep = [\"v1\"] }");
    }
    let mut expect = table.table("expect");
    let known = tags.clone();
    let tag = rule::checked_text("a text", move |tag| {
        let some: Vec<&str> = known.iter().take(MOST_SUGGESTED).map(String::as_str).collect();
        let says = || format!("is wrong: no image of the test has the tag \"{tag}\"");
        known.contains(tag).then(|| tag.to_owned()).ok_or_else(|| (says(), among(tag, &some)))
    });
    keep.extend(expect.required("keep", "[\"v1\"]", &rule::list("a list of texts", usize::MAX, tag)));
    let span = expect.span().or(table.span()).unwrap_or_default();
    expect.finish();
    (span, RetentionCase { now, images, keep })
}

/// Reads the time of a test.
pub(super) fn now(table: &mut Table<'_>) -> Timestamp {
    table.optional("now", DATE, &time()).unwrap_or_else(|| Timestamp::from_second(NOW).unwrap_or_default())
}

/// Reads one of the images. Without a time of its own, the last pull was the push.
fn image(entry: &mut Table<'_>) -> Image {
    let tag = entry.required("tag", "\"v1\"", &rule::any_text());
    let pushed_at = entry.optional("pushed_at", DATE, &time());
    let media_type = "\"application/vnd.oci.image.manifest.v1+json\"";
    Image {
        tag,
        digest: entry.optional("digest", "\"sha256:...\"", &rule::any_text()).unwrap_or_default(),
        media_type: entry.optional("media_type", media_type, &rule::any_text()).unwrap_or_default(),
        size: entry.optional("size", "1048576", &size()).unwrap_or_default(),
        pushed_at,
        last_pulled_at: entry.optional("last_pulled_at", DATE, &time()).or(pushed_at),
        annotations: entry.optional("annotations", ANNOTATIONS, &annotations()).unwrap_or_default().into(),
        immutable: entry.key("immutable", "false", &rule::flag()),
    }
}

/// Examples of values.
pub(super) const DATE: &str = "2026-01-31T12:00:00Z";
const ANNOTATIONS: &str = "{ \"org.opencontainers.image.version\" = \"1.2.3\" }";

/// Accepts a date and time.
pub(super) fn time() -> Rule<Timestamp> {
    Rule::new("a date and time with its offset from UTC, without quotes", |value| match value {
        Value::Date(date) => date.parse().ok(),
        _ => None,
    })
}

/// Accepts a number of bytes.
fn size() -> Rule<u64> {
    Rule::new("a number of bytes", |value| match value {
        Value::Integer(size) => size.and_then(|size| u64::try_from(size).ok()),
        _ => None,
    })
}

/// Accepts a table of texts.
fn annotations() -> Rule<BTreeMap<String, String>> {
    Rule::new("a table of texts", |value| {
        let Value::Table(entries) = value else { return None };
        let text = |(key, node): (&String, &Node)| match &node.value {
            Value::Text(text) => Some((key.clone(), text.clone())),
            _ => None,
        };
        entries.iter().map(text).collect()
    })
}
