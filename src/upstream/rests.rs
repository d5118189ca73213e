//! The rests of an upstream that fails or refuses.

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, header};

/// The failures in a row after which an upstream rests.
pub(super) const FAILURES: u32 = 5;
/// The first rest. Each further one is twice as long.
pub(super) const REST: Duration = Duration::from_secs(5);
/// The longest rest after failures.
const LONGEST_REST: Duration = Duration::from_mins(2);

/// The rest after a 429 that names no time, or after the last request of a limit.
pub(super) const LIMITED: Duration = Duration::from_mins(1);
/// The longest rest that an upstream can ask for. Docker Hub counts over six hours.
pub(super) const LONGEST_LIMIT: Duration = Duration::from_hours(6);

/// Returns whether a rest has not ended.
pub(super) fn is_later(until: Option<Instant>, now: Instant) -> bool {
    until.is_some_and(|until| until > now)
}

/// Returns the rest after so many failures in a row.
pub(super) fn rest(failures: u32) -> Option<Duration> {
    let times = 1 << failures.checked_sub(FAILURES)?.min(10);
    Some((REST * times).min(LONGEST_REST))
}

/// Returns the time after which a refused client may come again, from `Retry-After` (RFC 9110, section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Duration {
    let text = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::trim);
    let until = |date: &str| {
        let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
        Some(SystemTime::from(date).duration_since(SystemTime::now()).unwrap_or_default())
    };
    let asked = text.and_then(|text| text.parse().ok().map(Duration::from_secs).or_else(|| until(text)));
    asked.unwrap_or(LIMITED).clamp(Duration::from_secs(1), LONGEST_LIMIT)
}
