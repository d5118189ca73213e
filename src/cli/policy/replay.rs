//! Decides recorded requests again.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, BufRead, BufReader, Read as _},
    path::Path,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::print;
use crate::{
    diagnostics,
    identity::Facts,
    policy::{Decision, Effect, FirstSeen, Now, Policy, Request},
    telemetry::counted,
};

/// The longest line of a record, in bytes.
const LONGEST: u64 = 1 << 20;

/// The fields of a line of the record that a replay needs.
#[derive(Deserialize)]
struct Line {
    event: String,
    /// The time of recording.
    #[serde(default)]
    time: Option<String>,
    /// The time that rules saw, if one asked for it.
    #[serde(default)]
    decided_at: Option<String>,
    #[serde(default)]
    identity: Option<Facts>,
    #[serde(default)]
    request: Option<Request>,
    /// The number of tags that the request changed, if the line names only some of them.
    #[serde(default)]
    tag_count: Option<usize>,
    /// True if the owner of the request's upload was not looked for.
    #[serde(default)]
    upload_owner_unknown: bool,
    /// The image of a cache, if its digest became known.
    #[serde(default)]
    image: Option<Image>,
    /// The upstream that answered.
    #[serde(default)]
    upstream: Option<String>,
    #[serde(default)]
    decision: Option<Effect>,
    #[serde(default)]
    policy: Option<String>,
    #[serde(default)]
    rule: Option<String>,
}

/// An image of a cache.
#[derive(Deserialize)]
struct Image {
    first_seen_at: Option<Timestamp>,
}

/// The decisions that would change.
#[derive(Debug, Default, Serialize)]
pub(super) struct Replay {
    /// The number of decisions that were made again.
    decided: usize,
    /// The number of those that come out otherwise.
    changed: usize,
    /// The number of lines that are no decisions, such as logins.
    skipped: usize,
    /// The number of decisions that cannot be made again: a rule asks for all tags of a push, and the record names some of
    /// them; a rule asks for the owner of an upload that no request had looked up; or a rule asks for the age of an image
    /// that the record lacks.
    undecidable: usize,
    /// Requests that change in the same way, the most frequent first.
    changes: Vec<Change>,
}

/// Requests that change in the same way.
#[derive(Debug, Serialize)]
struct Change {
    was: Effect,
    was_by: String,
    becomes: Effect,
    becomes_by: String,
    count: usize,
    /// The first of these requests, in words.
    example: String,
    line: usize,
}

impl Replay {
    /// Reads a record, `-` for standard input, and decides each request in it under `policy`.
    pub(super) fn read(path: &Path, policy: &Policy) -> Result<Self, String> {
        if path == Path::new("-") {
            return Self::decide(io::stdin().lock(), "standard input", policy);
        }
        let name = print::one_line(&path.display().to_string());
        let file = diagnostics::open_plain(path)
            .map_err(|error| format!("error: {name} cannot be read: {error}\nhelp: name the file of `[audit]`"))?;
        Self::decide(BufReader::new(file), &name, policy)
    }

    fn decide(mut record: impl BufRead, name: &str, policy: &Policy) -> Result<Self, String> {
        let mut replay = Self::default();
        let mut changes: BTreeMap<(usize, String, usize, String), Change> = BTreeMap::new();
        let mut number = 0;
        loop {
            number += 1;
            let line = next_line(&mut record);
            let line = line.map_err(|error| format!("error: {name}:{number}: the line cannot be read: {error}"))?;
            let Some(line) = line else { break };
            if line.trim().is_empty() {
                continue;
            }
            let wrong = |why: &str| {
                let why = print::one_line(why);
                format!(
                    "error: {name}:{number}: no line of the record of decisions: {why}\nhelp: replay a file that `[audit]` wrote"
                )
            };
            let line: Line = serde_json::from_str(&line).map_err(|error| wrong(&error.to_string()))?;
            if line.event != "decision" {
                replay.skipped += 1;
                continue;
            }
            let (Some(identity), Some(request), Some(was)) = (line.identity, line.request, line.decision) else {
                return Err(wrong("a decision has `identity`, `request` and `decision`"));
            };
            let is_cut = line.tag_count.is_some_and(|count| count > request.tags.len());
            let lacks_tags = is_cut && request.action == "put-manifest" && policy.uses_tags(&request.namespace);
            let name = request.namespace.parse();
            let lacks_owner = line.upload_owner_unknown && name.is_ok_and(|name| policy.asks_for_upload_owner(&name));
            if lacks_tags || lacks_owner {
                replay.undecidable += 1;
                continue;
            }
            let time = line.decided_at.or(line.time);
            let time = time.and_then(|time| time.parse::<Timestamp>().ok());
            let time = Now::at(time.ok_or_else(|| wrong("a decision has a `time`"))?);
            let first_seen = line.image.map(|image| image.first_seen_at.map_or(FirstSeen::Unknown, FirstSeen::At));
            let now = policy.decide(&identity, &request, request.times(&time, first_seen));
            if now.provisional {
                replay.undecidable += 1;
                continue;
            }
            replay.decided += 1;
            if now.effect == was {
                continue;
            }
            replay.changed += 1;
            let (was_by, becomes_by) = (by(line.policy.as_deref(), line.rule.as_deref()), by_of(&now));
            let key = (was as usize, was_by.clone(), now.effect as usize, becomes_by.clone());
            let change = changes.entry(key).or_insert_with(|| Change {
                was,
                was_by,
                becomes: now.effect,
                becomes_by,
                count: 0,
                example: example(&identity, &request, line.upstream.as_deref()),
                line: number,
            });
            change.count += 1;
        }
        replay.changes = changes.into_values().collect();
        replay.changes.sort_by_key(|change| std::cmp::Reverse(change.count));
        Ok(replay)
    }

    /// Returns true if every decision comes out as it was recorded.
    pub(super) const fn changes_nothing(&self) -> bool {
        self.changed == 0
    }
}

/// Reads a line of up to [`LONGEST`] bytes. Returns `None` at the end.
fn next_line(record: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    if record.take(LONGEST).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    if line.len() as u64 == LONGEST && !line.ends_with('\n') {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {LONGEST} bytes")));
    }
    Ok(Some(line))
}

fn by(policy: Option<&str>, rule: Option<&str>) -> String {
    match (policy, rule) {
        (Some(policy), Some(rule)) => format!("rule {rule} of {policy}"),
        (Some(policy), None) => format!("default of {policy}"),
        (None, _) => "no policy".to_owned(),
    }
}

fn by_of(decision: &Decision) -> String {
    by(decision.by.as_ref().map(|by| by.policy.as_str()), decision.rule.as_deref())
}

/// Describes a request in a few words: client, action and thing, and the upstream that answered.
fn example(identity: &Facts, request: &Request, upstream: Option<&str>) -> String {
    let certificate = &identity.certificate;
    let who = [identity.username.as_str()]
        .into_iter()
        .chain(certificate.common_names.iter().chain(&certificate.uris).map(String::as_str))
        .chain([certificate.fingerprint.as_str()])
        .find(|name| !name.is_empty())
        .unwrap_or("anonymous");
    let what = if request.reference.is_empty() { &request.digest } else { &request.reference };
    let separator = if what.contains(':') { "@" } else { ":" };
    let what = if what.is_empty() { String::new() } else { format!("{separator}{what}") };
    let from = upstream.map(|host| format!(" from {host}")).unwrap_or_default();
    format!("{who}: {} {}{what}{from}", request.action, request.namespace).trim_end().to_owned()
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            let Change { was, was_by, becomes, becomes_by, count, example, line } = change;
            let (was_by, becomes_by) = (print::one_line(was_by), print::one_line(becomes_by));
            writeln!(f, "{count:>6}  {} ({was_by}) -> {} ({becomes_by})", was.as_str(), becomes.as_str())?;
            writeln!(f, "        line {line}: {}", print::one_line(example))?;
        }
        if !self.changes.is_empty() {
            writeln!(f)?;
        }
        let skipped = match self.skipped as u64 {
            0 => String::new(),
            count => format!("; {} skipped", counted(count, "other line")),
        };
        let undecidable = match self.undecidable {
            0 => String::new(),
            count => {
                format!(
                    "; {count} not decided again: a rule asks for what the record lacks: tags, an upload's owner, or an image's age"
                )
            }
        };
        writeln!(
            f,
            "{} of {} would change{skipped}{undecidable}",
            self.changed,
            counted(self.decided as u64, "decision")
        )
    }
}
