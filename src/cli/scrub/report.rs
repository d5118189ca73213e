//! Writes the report of a run, line by line as it happens, and its summary.

use std::{
    fmt::Write as _,
    fs::File,
    io,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use indicatif::{BinaryBytes, HumanDuration};
use serde::Serialize;

use super::{
    super::{format::Format, print},
    progress::Progress,
};
use crate::scrub::{Event, Finding, Later, Observer, Outcome, Pass, Removal, Summary};
use crate::telemetry::counted;

/// The report of one run.
#[derive(Debug)]
pub(super) struct Report {
    /// The destination of lines; `None` without `--report`.
    lines: Option<(String, Mutex<Lines>)>,
    format: Format,
    dry_run: bool,
    progress: Progress,
}

#[derive(Debug)]
enum Lines {
    File(File),
    Stdout,
}

/// The report's last line.
#[derive(Serialize)]
struct Last<'a> {
    event: &'static str,
    #[serde(flatten)]
    summary: &'a Summary,
}

impl Report {
    /// Begins the report in `file`, in place of what was in it.
    ///
    /// # Errors
    /// A sentence: the file cannot be written.
    pub(super) fn open(file: Option<&Path>, format: Format, dry_run: bool) -> Result<Self, String> {
        let lines = match file {
            None => None,
            Some(path) if path == Path::new("-") => Some(("standard output".to_owned(), Lines::Stdout)),
            Some(path) => {
                let name = path.display().to_string();
                let file = File::create(path).map_err(|error| format!("--report {name}: {error}"))?;
                Some((name, Lines::File(file)))
            }
        };
        let lines = lines.map(|(name, lines)| (name, Mutex::new(lines)));
        Ok(Self { lines, format, dry_run, progress: Progress::new() })
    }

    /// Ends the progress, after the last pass or a failure.
    pub(super) fn finish(&self) {
        self.progress.finish();
    }

    /// Writes the summary: as the report's last line, or to standard output where there is none.
    ///
    /// # Errors
    /// A sentence: it cannot be written.
    pub(super) fn summary(&self, summary: &Summary) -> Result<(), String> {
        let text = match self.format {
            Format::Json => print::json_line(&Last { event: "summary", summary }),
            Format::Text => text_of(summary),
        };
        if self.lines.is_some() {
            self.line(&text)
        } else {
            write(&mut io::stdout(), &text).map_err(|error| error.to_string())
        }
    }

    fn line(&self, line: &str) -> Result<(), String> {
        let Some((name, lines)) = &self.lines else { return Ok(()) };
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match &mut *lines {
            Lines::File(file) => write(file, line),
            Lines::Stdout => write(&mut io::stdout(), line),
        };
        outcome.map_err(|error| format!("--report {name}: {error}"))
    }
}

impl Observer for Report {
    fn event(&self, event: &Event) -> Result<(), String> {
        // problems go to standard error in any case: cron mails them
        if let Event::Finding(finding) = event
            && self.format == Format::Text
            && finding.outcome != Outcome::Known
        {
            self.progress.line(&finding_line(finding));
        }
        if self.lines.is_none() {
            return Ok(());
        }
        let line = match event {
            event if self.format == Format::Json => return self.line(&print::json_line(event)),
            Event::Removal(removal) => removal_line(if self.dry_run { "would remove" } else { "removed" }, removal),
            Event::Later(later) => later_line(later),
            Event::Finding(finding) => finding_line(finding),
        };
        self.line(&print::one_line(&line))
    }

    fn warning(&self, warning: &str) {
        self.progress.line(&format!("warning: {warning}"));
    }

    fn progress(&self, pass: Pass, done: u64, total: u64) {
        self.progress.at(pass, done, total);
    }
}

fn write(to: &mut impl io::Write, line: &str) -> io::Result<()> {
    to.write_all((print::lines(line) + "\n").as_bytes())?;
    to.flush()
}

fn later_line(later: &Later) -> String {
    let from = later
        .from
        .as_deref()
        .map_or_else(|| "at a time that is not known".to_owned(), |from| format!("from {from} on"));
    format!("{}; {from}", removal_line("would later remove", &later.removal))
}

fn removal_line(verb: &str, removal: &Removal) -> String {
    let mut line = format!("{verb} {}", removal.what.as_str());
    let name = removal.repository.as_ref().map_or("", |name| name.as_str());
    let _ = match (&removal.reference, removal.digest) {
        (Some(reference), Some(digest)) => write!(line, " {name}:{reference} ({digest})"),
        (Some(reference), None) => write!(line, " {name}:{reference}"),
        (None, Some(digest)) => write!(line, " {name}@{digest}"),
        (None, None) => write!(line, " {name}"),
    };
    let _ = write!(line, ": {}", removal.reason.as_str());
    if let Some(policy) = &removal.policy {
        let _ = write!(line, " by {policy}");
    }
    if removal.size > 0 {
        let _ = write!(line, ", {}", BinaryBytes(removal.size));
    }
    line
}

fn finding_line(finding: &Finding) -> String {
    let outcome = match finding.outcome {
        Outcome::Repaired => "repaired",
        Outcome::Quarantined => "a note stands beside it",
        Outcome::Known => "known: a note stands beside it",
        Outcome::DryRun => "a run without --dry-run sees to it",
    };
    format!("wrong: {} [{}; {outcome}]", finding.says, finding.key)
}

/// Returns the noun for one of the things of [`Summary::seen`].
fn one_of(things: &str) -> &str {
    match things {
        "repositories" => "repository",
        things => things.trim_end_matches('s'),
    }
}

/// Returns the summary for people.
fn text_of(summary: &Summary) -> String {
    let mut text = format!("scrub {}", summary.run);
    if summary.dry_run {
        text.push_str(" (dry run: nothing was changed)");
    }
    if let Some(why) = &summary.failed {
        let _ = write!(text, "\n  failed: {why}\n  until then:");
    }
    if summary.out_of_time {
        text.push_str("\n  the time is over; a later run does the rest");
    }
    if let Some(lease) = &summary.lease_in_force {
        let lasts = HumanDuration(Duration::from_secs(lease.seconds));
        let _ =
            write!(text, "\n  lease in force: {lasts}, until {} at least; scrub.upload_expiry is shorter", lease.until);
    }
    let seen: Vec<_> = summary.seen.iter().map(|(what, number)| counted(*number, one_of(what))).collect();
    if !seen.is_empty() {
        let _ = write!(text, "\n  looked at: {}", seen.join(", "));
    }
    let removed = if summary.dry_run { "would remove" } else { "removed" };
    for (what, reasons) in &summary.removed {
        for (reason, count) in reasons {
            let _ = write!(text, "\n  {removed}: {} ({})", counted(count.number, what.noun()), reason.as_str());
            if count.bytes > 0 {
                let _ = write!(text, ", {}", BinaryBytes(count.bytes));
            }
        }
    }
    for (what, reasons) in &summary.later {
        for (reason, number) in reasons {
            let _ = write!(text, "\n  would later remove: {} ({})", counted(*number, what.noun()), reason.as_str());
        }
    }
    if !summary.later.is_empty() {
        text.push_str("; --report shows each and when");
    }
    let freed = if summary.dry_run { "would free" } else { "freed" };
    let _ = write!(text, "\n  {freed}: {} ({})", BinaryBytes(summary.freed), counted(summary.freed, "byte"));
    if summary.verified.number > 0 || summary.content_left {
        let (blobs, bytes) = (counted(summary.verified.number, "blob"), BinaryBytes(summary.verified.bytes));
        let left = if summary.content_left { "; the next run goes on from there" } else { "" };
        let _ = write!(text, "\n  read back: {blobs}, {bytes}{left}");
    }
    let found: Vec<_> = summary
        .findings
        .iter()
        .map(|(outcome, number)| format!("{number} {}", outcome.as_str().replace('_', " ")))
        .collect();
    let _ = write!(text, "\n  wrong: {}", if found.is_empty() { "nothing".to_owned() } else { found.join(", ") });
    let mut unjudged = Vec::new();
    if summary.too_young > 0 {
        unjudged.push(format!("{} too young to judge", counted(summary.too_young, "object")));
    }
    if summary.not_read > 0 {
        unjudged.push(format!("{} not read", summary.not_read));
    }
    if !unjudged.is_empty() {
        let _ = write!(text, "\n  not judged: {}", unjudged.join(", "));
    }
    text
}
