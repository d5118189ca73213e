//! `[[test]]` of a retention policy: images, and which of them are to stay.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use toml::{Spanned, de::DeValue};

use super::{
    among,
    table::{Reading, Table},
    test::{Case, Test},
};
use crate::policy::retention::Image;

/// The time of a test that states none: 2026-01-01T00:00:00Z, in seconds.
const NOW: i64 = 1_767_225_600;

/// Most images in all tests of one policy: its tests are run at each reload.
pub const MAX_IMAGES: usize = 1000;

/// How many tags are looked at for what one may have been meant as.
const MOST_SUGGESTED: usize = 20;

/// What a test of a retention policy asks.
#[derive(Debug)]
pub(in crate::policy) struct RetentionCase {
    pub(in crate::policy) now: Timestamp,
    pub(in crate::policy) images: Vec<Image>,
    /// The tags of those that are to stay.
    pub(in crate::policy) keep: BTreeSet<String>,
}

pub(super) fn read(reading: &Reading<'_>, table: &mut Table<'_>, name: String) -> Test {
    let mut span = table.span.clone();
    let now = time(reading, table, "now").unwrap_or_else(|| Timestamp::from_second(NOW).unwrap_or_default());
    let (mut images, mut tags) = (Vec::new(), BTreeSet::new());
    let tables = table.tables("images");
    if table.value("images").is_none() {
        table.missing("images", "[{ tag = \"v1\", pushed_at = 2026-01-31T12:00:00Z }]");
    }
    for mut entry in tables {
        let tag = entry.required("tag", "\"v1\"");
        if let Some(tag) = &tag
            && !tags.insert(tag.text.clone())
        {
            let says = format!("two images have the tag \"{}\"", tag.text);
            reading.refuse(&tag.span, says, "a tag is of one image: give one of them another");
        }
        images.push(image(reading, &mut entry, tag.map(|tag| tag.text).unwrap_or_default()));
        entry.finish();
    }
    let mut keep = BTreeSet::new();
    match table.table("expect", "{ keep = [\"v1\"] }") {
        Some(mut expect) => {
            span = expect.span.clone();
            match expect.texts("keep", "[\"v1\"]") {
                Some(kept) => {
                    for tag in kept.iter().filter(|tag| !tags.contains(&tag.text)) {
                        let known: Vec<&str> = tags.iter().take(MOST_SUGGESTED).map(String::as_str).collect();
                        let says = format!("no image of the test has the tag \"{}\"", tag.text);
                        reading.refuse(&tag.span, says, among(&tag.text, &known));
                    }
                    keep = kept.into_iter().map(|tag| tag.text).collect();
                }
                None if expect.value("keep").is_none() => expect.missing("keep", "[\"v1\"]"),
                None => {}
            }
            expect.finish();
        }
        None => table.missing("expect", "{ keep = [\"v1\"] }"),
    }
    Test { name, span, case: Case::Retention(RetentionCase { now, images, keep }) }
}

/// One of the images. One that was never pulled since it was pushed has been so then.
fn image(reading: &Reading<'_>, entry: &mut Table<'_>, tag: String) -> Image {
    let mut text = |key, example| entry.text(key, example).map(|text| text.text).unwrap_or_default();
    let digest = text("digest", "\"sha256:...\"");
    let media_type = text("media_type", "\"application/vnd.oci.image.manifest.v1+json\"");
    let pushed_at = time(reading, entry, "pushed_at");
    Image {
        tag,
        digest,
        media_type,
        size: size(reading, entry),
        pushed_at,
        last_pulled_at: time(reading, entry, "last_pulled_at").or(pushed_at),
        annotations: annotations(reading, entry).into(),
        immutable: entry.flag("immutable").unwrap_or(false),
    }
}

fn refuse(reading: &Reading<'_>, value: &Spanned<DeValue<'_>>, key: &str, wanted: &str, example: &str) {
    let help = format!("write for example `{key} = {example}`");
    reading.refuse(&value.span(), format!("`{key}` must be {wanted}"), help);
}

fn time(reading: &Reading<'_>, table: &mut Table<'_>, key: &'static str) -> Option<Timestamp> {
    let value = table.value(key)?;
    let time = match value.get_ref() {
        DeValue::Datetime(time) => time.to_string().parse().ok(),
        _ => None,
    };
    if time.is_none() {
        let wanted = "a date and time with its offset from UTC, without quotes";
        refuse(reading, value, key, wanted, "2026-01-31T12:00:00Z");
    }
    time
}

fn size(reading: &Reading<'_>, table: &mut Table<'_>) -> u64 {
    let Some(value) = table.value("size") else { return 0 };
    let size = match value.get_ref() {
        DeValue::Integer(size) => {
            i64::from_str_radix(size.as_str(), size.radix()).ok().and_then(|size| u64::try_from(size).ok())
        }
        _ => None,
    };
    if size.is_none() {
        refuse(reading, value, "size", "a number of bytes", "1048576");
    }
    size.unwrap_or_default()
}

fn annotations(reading: &Reading<'_>, table: &mut Table<'_>) -> BTreeMap<String, String> {
    const EXAMPLE: &str = "{ \"org.opencontainers.image.version\" = \"1.2.3\" }";
    let mut annotations = BTreeMap::new();
    let Some(value) = table.value("annotations") else { return annotations };
    let DeValue::Table(entries) = value.get_ref() else {
        refuse(reading, value, "annotations", "a table of texts", EXAMPLE);
        return annotations;
    };
    for (key, value) in entries {
        match value.get_ref() {
            DeValue::String(text) => {
                annotations.insert(key.get_ref().to_string(), text.to_string());
            }
            _ => refuse(reading, value, "annotations", "a table of texts", EXAMPLE),
        }
    }
    annotations
}
