//! Writes structured logs: text for a person at a terminal, and otherwise one JSON object a line.

use std::env;
use std::fmt::{self, Debug, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use tracing::Metadata;
use tracing::field::Field;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, Targets, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::{Layer, Registry};

use super::TelemetryError;

/// The destination of log lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard error.
    #[default]
    Stderr,
    /// Standard output.
    Stdout,
    /// This file, appended to and created when it is missing; its directory must exist.
    File(PathBuf),
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// [`LogFormat::Text`] on a terminal, [`LogFormat::Json`] otherwise.
    #[default]
    Auto,
    /// Text for people: time, level, target, message, fields; with colours on a terminal.
    Text,
    /// One JSON object a line: `timestamp` (RFC 3339, UTC), `level`, `target`, `message` and the fields beside them.
    Json,
}

/// The settings of logs. The environment never changes which lines are logged. `NO_COLOR` (<https://no-color.org>)
/// removes the colours from text on a terminal.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The destination.
    pub output: LogOutput,
    /// The form.
    pub format: LogFormat,
    /// Selects the lines to log: a level (`off`, `error`, `warn`, `info`, `debug`, `trace`), or several parts
    /// separated by commas. Each part is a level or `target=level`, and the part with the longest fitting target
    /// decides.
    pub level: String,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { output: LogOutput::default(), format: LogFormat::default(), level: "info".to_owned() }
    }
}

/// Returns the layer that writes events as lines. The layer never switches a span on.
pub(super) fn layer(options: &LogOptions) -> Result<Box<dyn Layer<Registry> + Send + Sync>, TelemetryError> {
    let filter = levels(&options.level)?.and(filter_fn(is_wanted));
    let file = open(&options.output)?;
    let terminal = file.is_terminal();
    let text = match options.format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(Lines { file, text }).log_internal_errors(false);
    Ok(if text {
        let colours = terminal && env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        let fields = debug_fn(write_text_field).delimited(" ");
        lines.fmt_fields(fields).with_ansi(colours).with_filter(filter).boxed()
    } else {
        let json = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
        json.with_filter(filter).boxed()
    })
}

/// Events alone; and not the tracing library's error about a shutdown that took too long, which `Guard` tells as the
/// warning that it is.
fn is_wanted(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && metadata.name() != "BatchSpanProcessor.Shutdown.Timeout"
}

/// Parses [`LogOptions::level`].
///
/// Stricter than the parser it uses, which takes a misspelt level for the name of a target and then logs nothing.
fn levels(level: &str) -> Result<Targets, TelemetryError> {
    // The exporter's library speaks of every batch; its failures are told by `traces`, and seldom.
    let mut targets = Targets::new()
        .with_target("opentelemetry", LevelFilter::ERROR)
        .with_target("opentelemetry_sdk", LevelFilter::WARN);
    for part in level.split(',').map(str::trim) {
        let refuse = || TelemetryError::LogLevel { level: level.to_owned(), part: part.to_owned() };
        let (target, level) = match part.split_once('=') {
            Some((target, level)) => (Some(target.trim()), level.trim()),
            None => (None, part),
        };
        let level = named_level(level).ok_or_else(refuse)?;
        targets = match target {
            None => targets.with_default(level),
            Some(target) if is_target(target) => targets.with_target(target, level),
            Some(_) => return Err(refuse()),
        };
    }
    Ok(targets)
}

fn named_level(name: &str) -> Option<LevelFilter> {
    const LEVELS: [(&str, LevelFilter); 6] = [
        ("off", LevelFilter::OFF),
        ("error", LevelFilter::ERROR),
        ("warn", LevelFilter::WARN),
        ("info", LevelFilter::INFO),
        ("debug", LevelFilter::DEBUG),
        ("trace", LevelFilter::TRACE),
    ];
    LEVELS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, level)| *level)
}

fn is_target(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-:".contains(&byte))
}

fn open(output: &LogOutput) -> Result<File, TelemetryError> {
    match output {
        LogOutput::Stderr => duplicate(io::stderr(), "standard error"),
        LogOutput::Stdout => duplicate(io::stdout(), "standard output"),
        LogOutput::File(path) => append_to(path),
    }
}

/// Duplicates the descriptor of a standard stream. `io::stdout` would buffer, and could split a line in two writes.
fn duplicate(stream: impl AsFd, name: &'static str) -> Result<File, TelemetryError> {
    let duplicate = stream.as_fd().try_clone_to_owned();
    duplicate.map(File::from).map_err(|source| TelemetryError::LogStream { stream: name, source })
}

fn append_to(path: &Path) -> Result<File, TelemetryError> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.map_err(|source| TelemetryError::LogFile { path: path.to_owned(), source })
}

/// Writes each formatted event as one line with one `write(2)`, so that lines of several threads never mix.
struct Lines {
    file: File,
    /// Text has been escaped field by field, JSON is here.
    text: bool,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Lines {
    /// Takes one whole line. Never fails: a log that cannot be written (a closed pipe, a full disk) must not take the
    /// request with it, and there is nowhere left to say so.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let escaped = if self.text { None } else { escape_rest_of_controls(line) };
        let _lost = (&self.file).write_all(escaped.as_deref().map_or(line, str::as_bytes));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes `name=value`, or the bare value of the message, for people.
///
/// It escapes every control character before it adds colours. Otherwise a value from a request could forge a line, or
/// command the terminal of a reader.
fn write_text_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> fmt::Result {
    if field.name() != "message" {
        write!(writer, "{field}=")?;
    }
    write!(Escaping { writer }, "{value:?}")
}

struct Escaping<'a, 'w> {
    writer: &'a mut Writer<'w>,
}

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(char::is_control) {
            let (before, from) = rest.split_at(at);
            let mut characters = from.chars();
            let escaped = characters.next().map(char::escape_default);
            write!(self.writer, "{before}{}", escaped.into_iter().flatten().collect::<String>())?;
            rest = characters.as_str();
        }
        self.writer.write_str(rest)
    }
}

/// Escapes the control characters that JSON may leave as they are, and a terminal may obey: DEL and U+0080 to U+009F.
/// `None` where there is none, as nearly always.
fn escape_rest_of_controls(line: &[u8]) -> Option<String> {
    const DELETE: u8 = 0x7f;
    /// The first byte of U+0080 to U+00BF in UTF-8.
    const MAYBE_CONTROL: u8 = 0xc2;
    if !line.iter().any(|byte| [DELETE, MAYBE_CONTROL].contains(byte)) {
        return None;
    }
    let mut escaped = String::with_capacity(line.len() + 16);
    for character in str::from_utf8(line).ok()?.chars() {
        if character.is_control() && character != '\n' {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    Some(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn a_level_is_a_level_or_a_target_with_one() {
        let levels = levels("WARN, hyper=debug,simple_registry::http=off").unwrap();
        assert!(levels.would_enable("anything", &Level::WARN));
        assert!(!levels.would_enable("anything", &Level::INFO));
        assert!(levels.would_enable("hyper::proto", &Level::DEBUG));
        assert!(!levels.would_enable("simple_registry::http", &Level::ERROR));
    }

    #[test]
    fn a_misspelt_level_is_refused_and_named() {
        for (level, part) in
            [("inof", "inof"), ("", ""), ("info,", ""), ("info,hyper=loud", "hyper=loud"), ("=info", "=info")]
        {
            let error = levels(level).expect_err(level).to_string();
            assert!(error.contains(&format!("`{part}` is neither")), "{error}");
        }
    }
}
