//! Leaves an upstream alone that fails or refuses, and finds out when it is well again.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use super::failure::Reason;
use http::{HeaderMap, header};

/// The failures in a row after which an upstream rests.
const FAILURES: u32 = 5;
/// The first rest. Each further one is twice as long.
const REST: Duration = Duration::from_secs(5);
/// The longest rest after failures.
const LONGEST_REST: Duration = Duration::from_mins(2);
/// The rest after a 429 that names no time, or after the last request of a limit.
const LIMITED: Duration = Duration::from_mins(1);
/// The longest rest that an upstream can ask for. Docker Hub counts over six hours.
const LONGEST_LIMIT: Duration = Duration::from_hours(6);

/// The known state of an upstream.
#[derive(Debug)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The failures since the last success.
    failures: u32,
    /// The documents that broke off or fell silent after their head, since the last whole one.
    broken_documents: u32,
    /// Set if the last failure was silence.
    was_silent: bool,
    /// The end of the rest after failures.
    rests_until: Option<Instant>,
    /// Set while one request finds out whether the upstream is well again.
    is_tried: bool,
    /// The end of the rest after a 429.
    limited_until: Option<Instant>,
    /// The requests that are left, as the upstream said last.
    remaining: Option<u64>,
}

/// The right to ask an upstream once. A drop without an outcome leaves the state as it was.
pub(super) struct Turn<'a> {
    health: &'a Health,
    is_trial: bool,
}

impl Health {
    pub(super) fn new() -> Self {
        Self(Mutex::default())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the right to ask.
    ///
    /// # Errors
    /// [`Reason::Limited`] and [`Reason::Resting`]. After a rest, one request goes first and the others still rest.
    pub(super) fn begin(&self, now: Instant) -> Result<Turn<'_>, Reason> {
        let mut state = self.lock();
        if let Some(until) = state.limited_until.filter(|until| *until > now) {
            return Err(Reason::Limited { retry_after: until - now });
        }
        let is_trial = match state.rests_until {
            None => false,
            Some(until) if until > now || state.is_tried => {
                return Err(Reason::Resting { was_silent: state.was_silent });
            }
            Some(_) => true,
        };
        state.is_tried = is_trial;
        Ok(Turn { health: self, is_trial })
    }

    /// Returns the requests that are left until the upstream refuses, as it said last.
    pub(super) fn remaining(&self) -> Option<u64> {
        self.lock().remaining
    }

    /// Returns whether the upstream rests after failures.
    pub(super) fn is_resting(&self) -> bool {
        self.lock().rests_until.is_some()
    }

    /// Notes the outcome of reading a document whose head has come.
    pub(super) fn note_document<T>(&self, outcome: &Result<T, Reason>, now: Instant) {
        let mut state = self.lock();
        match outcome {
            Ok(_) => state.broken_documents = 0,
            Err(reason) if reason.is_failure() => {
                state.broken_documents = state.broken_documents.saturating_add(1);
                let broken = state.broken_documents;
                state.rest_after(broken, reason, now);
            }
            Err(_) => {}
        }
    }

    /// Notes what the headers of an answer say of the upstream's limit.
    pub(super) fn note_limit(&self, headers: &HeaderMap, now: Instant) {
        let Some(remaining) = remaining(headers) else { return };
        let mut state = self.lock();
        state.remaining = Some(remaining);
        if remaining == 0 {
            state.limited_until = Some(now + LIMITED);
        }
    }
}

impl State {
    /// Begins a rest if there were so many failures in a row, of which `reason` is the last.
    fn rest_after(&mut self, failures: u32, reason: &Reason, now: Instant) {
        self.was_silent = reason.is_silence();
        if failures >= FAILURES {
            let times = 1 << (failures - FAILURES).min(10);
            self.rests_until = Some(now + (REST * times).min(LONGEST_REST));
        }
    }
}

impl Turn<'_> {
    /// Notes the outcome of the request.
    pub(super) fn note<T>(self, outcome: &Result<T, Reason>, now: Instant) {
        let mut state = self.health.lock();
        match outcome {
            Err(reason) if reason.is_failure() => {
                state.failures = state.failures.saturating_add(1);
                let failures = state.failures;
                state.rest_after(failures, reason, now);
            }
            Err(Reason::Limited { retry_after }) => state.limited_until = Some(now + *retry_after),
            _ => {
                state.failures = 0;
                state.rests_until = None;
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.is_trial {
            self.health.lock().is_tried = false;
        }
    }
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

/// Returns the requests that are left, from `RateLimit-Remaining` as Docker Hub sends it: `76;w=21600`.
fn remaining(headers: &HeaderMap) -> Option<u64> {
    headers.get("ratelimit-remaining")?.to_str().ok()?.split(';').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESTING: Reason = Reason::Resting { was_silent: false };

    fn ask(health: &Health, outcome: &Result<(), Reason>, now: Instant) {
        health.begin(now).ok().unwrap().note(outcome, now);
    }

    #[test]
    fn an_upstream_that_fails_rests_and_is_tried_by_one_request() {
        let health = Health::new();
        let mut now = Instant::now();
        let fails = || Err(Reason::Status(502));
        for _ in 0..FAILURES {
            ask(&health, &fails(), now);
        }
        assert_eq!(health.begin(now).err(), Some(RESTING));
        now += REST;
        let trial = health.begin(now).ok().unwrap();
        assert_eq!(health.begin(now).err(), Some(RESTING), "one request tries");
        trial.note(&fails(), now);
        now += REST;
        assert_eq!(health.begin(now).err(), Some(RESTING), "the second rest is longer");
        now += REST;
        drop(health.begin(now).ok().unwrap());
        assert!(health.is_resting(), "a trial without an outcome tells nothing");
        ask(&health, &Ok(()), now);
        assert!(!health.is_resting());
        ask(&health, &fails(), now);
        assert!(health.begin(now).is_ok(), "the count begins anew");
    }

    #[test]
    fn an_upstream_that_rests_counts_as_silent_if_silence_was_its_last_failure() {
        let health = Health::new();
        let now = Instant::now();
        for _ in 1..FAILURES {
            ask(&health, &Err(Reason::Status(502)), now);
        }
        ask(&health, &Err(Reason::Silent(REST)), now);
        assert_eq!(health.begin(now).err(), Some(Reason::Resting { was_silent: true }));
    }

    #[test]
    fn refusals_are_no_failures() {
        let health = Health::new();
        let now = Instant::now();
        for reason in [Reason::NotFound, Reason::Denied(401), Reason::Status(400)] {
            for _ in 0..2 * FAILURES {
                ask(&health, &Err(reason.clone()), now);
            }
        }
        assert!(health.begin(now).is_ok());
    }

    #[test]
    fn an_upstream_that_refuses_further_requests_is_left_alone_as_long_as_it_says() {
        let health = Health::new();
        let now = Instant::now();
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, "120".parse().unwrap());
        ask(&health, &Err(Reason::Limited { retry_after: retry_after(&headers) }), now);
        let limited = |at: Instant| health.begin(at).err();
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(limited(at(119)), Some(Reason::Limited { retry_after: Duration::from_secs(1) }));
        assert_eq!(limited(at(120)), None);
        headers.insert("ratelimit-remaining", "0;w=21600".parse().unwrap());
        health.note_limit(&headers, at(120));
        assert_eq!(limited(at(120)), Some(Reason::Limited { retry_after: LIMITED }));
        headers.insert("ratelimit-remaining", "76;w=21600".parse().unwrap());
        health.note_limit(&headers, at(120));
        assert_eq!(health.remaining(), Some(76));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let of = |text: &str| retry_after(&HeaderMap::from_iter([(header::RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(of("30"), Duration::from_secs(30));
        assert_eq!(of("999999999"), LONGEST_LIMIT);
        assert_eq!(of("-1"), LIMITED);
        assert_eq!(of("soon"), LIMITED);
        assert_eq!(of("Fri, 27 Nov 2020 12:50:33 GMT"), Duration::from_secs(1));
        assert_eq!(of("Fri, 27 Nov 2099 12:50:33 GMT"), LONGEST_LIMIT);
        assert_eq!(retry_after(&HeaderMap::new()), LIMITED);
    }
}
