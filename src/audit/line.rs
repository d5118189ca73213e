//! Writes a line of the record: one JSON object.

use std::io::{self, Write};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use crate::identity::Facts;

/// One decision. A line has its fields in this order, after `time`. A field that is `None` is written as `null`.
///
/// `R` is a request as policies see it. Policy tests and `policy replay` read the same form.
#[derive(Debug, Serialize)]
pub struct Line<'a, R> {
    /// The kind of the decision.
    pub event: Event,
    /// The id that the answer and the log carry.
    pub request_id: &'a str,
    /// The facts about the client.
    pub identity: &'a Facts,
    /// The request.
    pub request: &'a R,
    /// The number of tags that the request changes. Only written if the request changes tags that its path does not
    /// name; the request's list has the first ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag_count: Option<usize>,
    /// True if the owner of the request's upload was not looked for: no rule asked for the owner. Only written if it is
    /// true; the request's owner is empty then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub upload_owner_unknown: bool,
    /// The image of a cache. Only written for pulls of manifests for which the digest became known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<SeenImage<'a>>,
    /// True if a rule waited for the age of the image, and the request ended before. Only written if it is true.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub provisional: bool,
    /// The way in which a cache answered: `hit`, `miss` or `stale`. Only written for answers of caches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<&'a str>,
    /// The host of the upstream that was asked and answered. Only written if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<&'a str>,
    /// The time that rules saw as `now()`. Only written if a rule asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<&'a str>,
    /// `allow`, `deny`, `would_deny` or `not_covered`.
    pub decision: &'a str,
    /// The policy that decided: a file's name, or a table of the configuration.
    pub policy: Option<&'a str>,
    /// The rule in that policy; `None` if its default decided.
    pub rule: Option<&'a str>,
    /// The SHA-256 of that policy's text in lower-case hex.
    pub policy_sha256: Option<&'a str>,
    /// The message for the client, or the reason why a login failed.
    pub message: Option<&'a str>,
    /// The HTTP status of the answer.
    pub status: u16,
}

/// An image of a cache.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct SeenImage<'a> {
    /// The digest of its manifest.
    pub digest: &'a str,
    /// The time at which this registry first saw it, as RFC 3339 writes it. `None`: not known.
    pub first_seen_at: Option<&'a str>,
}

/// The kind of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A request that was decided by policy.
    Decision,
    /// A ping without credentials, answered 401 so that the client logs in. Policy made no decision.
    Challenge,
    /// A password, token or certificate that was not accepted, or a token that was given for one.
    Login,
}

/// One deletion. A line has its fields in this order, after `time`. A field that is `None` is written as `null`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Deletion<'a> {
    /// The run of scrub that removed the thing.
    pub run: &'a str,
    /// The kind of the removed thing, such as `tag`.
    pub what: &'a str,
    /// The reason, such as `retention`.
    pub reason: &'a str,
    /// The repository, if the thing belongs to one.
    pub repository: Option<&'a str>,
    /// The tag, or the upload's id.
    pub reference: Option<&'a str>,
    /// The digest of the thing, or the digest that a tag means.
    pub digest: Option<&'a str>,
    /// The freed bytes.
    pub size: u64,
    /// The policy in which no rule matched.
    pub policy: Option<&'a str>,
    /// Always `None`: scrub removes only images that no rule keeps.
    pub rule: Option<&'a str>,
    /// The SHA-256 of that policy's text in lower-case hex.
    pub policy_sha256: Option<&'a str>,
    /// The identity of the request, or the earlier run, that deleted the thing.
    pub by: Option<&'a str>,
    /// The id of that request or run.
    pub request_id: Option<&'a str>,
    /// The time of that deletion, as RFC 3339 writes it.
    pub deleted_at: Option<&'a str>,
}

/// A [`Deletion`] with its event in front.
#[derive(Debug, Serialize)]
pub(super) struct Deleted<'a> {
    pub(super) event: &'static str,
    #[serde(flatten)]
    pub(super) deletion: &'a Deletion<'a>,
}

/// The line that stands for missing lines.
#[derive(Debug, Serialize)]
pub(super) struct Gap<'a> {
    pub(super) event: &'static str,
    /// The time at which the first line was lost, in the form of all lines.
    pub(super) since: &'a str,
    /// The number of lost lines.
    pub(super) lost: u64,
    /// The last error of the system.
    pub(super) cause: &'a str,
}

/// The begin of a line. The time has a fixed width, so that the writer fills it in at the last moment.
const BEGINNING: &[u8] = br#"{"time":"0000-00-00T00:00:00.000Z""#;
const TIME: std::ops::Range<usize> = 9..33;

/// Writes a line with its end into `buffer`, in place of what was in it, but not the time.
pub(super) fn format(buffer: &mut Vec<u8>, fields: &impl Serialize) -> io::Result<()> {
    buffer.clear();
    buffer.extend_from_slice(BEGINNING);
    fields.serialize(&mut Serializer::with_formatter(&mut *buffer, Visible))?;
    // The brace that the fields begin with.
    buffer[BEGINNING.len()] = b',';
    buffer.push(b'\n');
    Ok(())
}

/// Returns a time as lines have it.
pub(super) fn time(now: Timestamp) -> [u8; TIME.end - TIME.start] {
    let mut time = [b'0'; TIME.end - TIME.start];
    // A slice takes what fits; years have four digits until 9999, and jiff ends there.
    let _ = write!(&mut time[..], "{now:.3}");
    time
}

/// Fills in the time.
pub(super) fn stamp(line: &mut [u8], time: &[u8; TIME.end - TIME.start]) {
    line[TIME].copy_from_slice(time);
}

/// Compact JSON without control characters. JSON allows some (DEL, and U+0080 to U+009F) that could command the
/// terminal of a reader.
struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some((at, control)) = rest.char_indices().find(|(_, character)| character.is_control()) {
            write!(writer, "{}\\u{:04x}", &rest[..at], u32::from(control))?;
            rest = &rest[at + control.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}
