//! Leaves an upstream alone that fails or refuses, and finds out when it is well again.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::HeaderMap;

use super::{
    failure::Reason,
    rests::{LIMITED, is_later, rest},
    streams::Streams,
};
use crate::oci::Digest;

/// The kind of a question. Registries limit kinds apart: Docker Hub counts each `GET` of a manifest, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// A `HEAD` of a manifest.
    Look,
    /// A `GET` of a manifest.
    Manifest,
    /// A blob.
    Blob,
    /// The size of a blob. Broken streams say nothing of it.
    Size,
    /// The rest of a blob whose beginning is here. It is asked for although streams of blobs broke lately: readers
    /// wait for it, and it costs an upstream less than the whole.
    Rest,
    /// Tags or referrers.
    List,
}

impl Ask {
    /// Returns the place of the kind's limit.
    const fn limit(self) -> usize {
        match self {
            Self::Look => 0,
            Self::Manifest => 1,
            Self::Blob | Self::Rest | Self::Size => 2,
            Self::List => 3,
        }
    }

    /// Returns the kinds that a 429 to this kind limits. A client that may not look may not fetch.
    const fn limited_with(self) -> &'static [Self] {
        match self {
            Self::Look => &[Self::Look, Self::Manifest],
            Self::Manifest => &[Self::Manifest],
            Self::Blob | Self::Rest | Self::Size => &[Self::Blob],
            Self::List => &[Self::List],
        }
    }
}

/// The number of kinds.
const KINDS: usize = Ask::List as usize + 1;
/// The kinds with a limit.
const ALL: [Ask; 4] = [Ask::Look, Ask::Manifest, Ask::Blob, Ask::List];

/// The known state of one host for one login. All upstreams with both share it.
#[derive(Debug)]
pub(super) struct Health(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The failures of each kind since its last success: an upstream may answer one kind and be silent to another.
    failures: [u32; KINDS],
    /// The documents that broke off or fell silent after their head, since the last whole one.
    broken_documents: u32,
    /// Set if the last failure was silence.
    was_silent: bool,
    /// The end of the rest after failures.
    rests_until: Option<Instant>,
    /// Set while one request finds out whether the upstream is well again.
    is_tried: bool,
    /// The end of the rest of each kind after a 429.
    limited_until: [Option<Instant>; ALL.len()],
    /// The streams of blobs.
    streams: Streams,
    /// The requests that are left, as the upstream said last.
    remaining: Option<u64>,
}

/// The right to ask an upstream once. A drop without an outcome leaves the state as it was.
pub(super) struct Turn<'a> {
    health: &'a Health,
    ask: Ask,
    is_trial: bool,
    /// Set if the stream that is asked for finds out whether streams are good again.
    is_stream_trial: bool,
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
    pub(super) fn begin(&self, ask: Ask, now: Instant) -> Result<Turn<'_>, Reason> {
        let mut state = self.lock();
        if let Some(until) = state.limited_until[ask.limit()].filter(|until| *until > now) {
            return Err(Reason::Limited { retry_after: until - now });
        }
        let may_stream = ask != Ask::Blob || state.streams.may_begin(now);
        if !may_stream {
            return Err(Reason::Resting { was_silent: false });
        }
        let is_trial = match state.rests_until {
            None => false,
            Some(until) if until > now || state.is_tried => {
                return Err(Reason::Resting { was_silent: state.was_silent });
            }
            Some(_) => true,
        };
        state.is_tried = is_trial;
        let is_stream_trial = ask == Ask::Blob && state.streams.begin(now);
        Ok(Turn { health: self, ask, is_trial, is_stream_trial })
    }

    /// Returns the requests that are left until the upstream refuses, as it said last.
    pub(super) fn remaining(&self) -> Option<u64> {
        self.lock().remaining
    }

    /// Returns whether the upstream rests after failures.
    pub(super) fn is_resting(&self) -> bool {
        let state = self.lock();
        state.rests_until.is_some() || state.streams.is_resting()
    }

    /// Notes the outcome of reading a document whose head has come.
    pub(super) fn note_document<T>(&self, outcome: &Result<T, Reason>, now: Instant) {
        let mut state = self.lock();
        match outcome {
            Ok(_) => state.broken_documents = 0,
            Err(reason) if reason.is_failure() && !is_later(state.rests_until, now) => {
                state.broken_documents = state.broken_documents.saturating_add(1);
                let broken = state.broken_documents;
                state.rest_after(broken, reason, now);
            }
            Err(_) => {}
        }
    }

    /// Notes whether a stream of a blob brought all of its bytes, and the right ones. Bytes often come from another host
    /// than manifests, so broken streams keep nobody from those.
    pub(super) fn note_stream(&self, blob: &Digest, is_good: bool, now: Instant) {
        self.lock().streams.note(blob, is_good, now);
    }

    /// Notes that the login is limited, so that nothing can be asked for.
    pub(super) fn limit_all(&self, retry_after: Duration, now: Instant) {
        self.lock().limit(&ALL, now + retry_after);
    }

    /// Notes what the headers of an answer say of the upstream's limit.
    pub(super) fn note_limit(&self, headers: &HeaderMap, now: Instant) {
        let Some(remaining) = remaining(headers) else { return };
        let mut state = self.lock();
        state.remaining = Some(remaining);
        if remaining == 0 {
            state.limit(&[Ask::Manifest], now + LIMITED);
        }
    }
}

impl State {
    fn limit(&mut self, kinds: &[Ask], until: Instant) {
        for kind in kinds {
            let known = &mut self.limited_until[kind.limit()];
            *known = Some(known.map_or(until, |known| known.max(until)));
        }
    }

    /// Begins a rest if there were so many failures in a row, of which `reason` is the last.
    fn rest_after(&mut self, failures: u32, reason: &Reason, now: Instant) {
        self.was_silent = reason.is_silence();
        if let Some(rest) = rest(failures) {
            self.rests_until = Some(now + rest);
        }
    }
}

impl Turn<'_> {
    /// Notes the outcome of the request.
    pub(super) fn note<T>(mut self, outcome: &Result<T, Reason>, now: Instant) {
        // the stream itself tells more, once it ends
        self.is_stream_trial &= outcome.is_err();
        let mut state = self.health.lock();
        match outcome {
            // requests that began before the rest tell nothing new
            Err(reason) if reason.is_failure() && is_later(state.rests_until, now) => {}
            Err(reason) if reason.is_failure() => {
                let failures = state.failures[self.ask as usize].saturating_add(1);
                state.failures[self.ask as usize] = failures;
                state.rest_after(failures, reason, now);
            }
            Err(Reason::Limited { retry_after }) => state.limit(self.ask.limited_with(), now + *retry_after),
            _ => {
                state.failures[self.ask as usize] = 0;
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
        if self.is_stream_trial {
            self.health.lock().streams.try_again();
        }
    }
}

/// Returns the requests that are left, from `RateLimit-Remaining` as Docker Hub sends it: `76;w=21600`.
fn remaining(headers: &HeaderMap) -> Option<u64> {
    headers.get("ratelimit-remaining")?.to_str().ok()?.split(';').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::{
        super::rests::{FAILURES, LONGEST_LIMIT, REST, retry_after},
        *,
    };
    use crate::oci::Algorithm;

    const RESTING: Reason = Reason::Resting { was_silent: false };

    fn ask(health: &Health, outcome: &Result<(), Reason>, now: Instant) {
        ask_for(health, Ask::Look, outcome, now);
    }

    fn ask_for(health: &Health, kind: Ask, outcome: &Result<(), Reason>, now: Instant) {
        health.begin(kind, now).ok().unwrap().note(outcome, now);
    }

    #[test]
    fn an_upstream_that_fails_rests_and_is_tried_by_one_request() {
        let health = Health::new();
        let mut now = Instant::now();
        let fails = || Err(Reason::Status(502));
        for _ in 0..FAILURES {
            ask(&health, &fails(), now);
        }
        assert_eq!(health.begin(Ask::Look, now).err(), Some(RESTING));
        now += REST;
        let trial = health.begin(Ask::Look, now).ok().unwrap();
        assert_eq!(health.begin(Ask::Look, now).err(), Some(RESTING), "one request tries");
        trial.note(&fails(), now);
        now += REST;
        assert_eq!(health.begin(Ask::Look, now).err(), Some(RESTING), "the second rest is longer");
        now += REST;
        drop(health.begin(Ask::Look, now).ok().unwrap());
        assert!(health.is_resting(), "a trial without an outcome tells nothing");
        ask(&health, &Ok(()), now);
        assert!(!health.is_resting());
        ask(&health, &fails(), now);
        assert!(health.begin(Ask::Look, now).is_ok(), "the count begins anew");
    }

    #[test]
    fn answers_of_one_kind_do_not_hide_the_failures_of_another() {
        let health = Health::new();
        let now = Instant::now();
        for _ in 0..FAILURES {
            ask(&health, &Ok(()), now);
            ask_for(&health, Ask::Manifest, &Err(Reason::Silent(REST)), now);
        }
        assert_eq!(health.begin(Ask::Manifest, now).err(), Some(Reason::Resting { was_silent: true }));
    }

    #[test]
    fn an_upstream_that_rests_counts_as_silent_if_silence_was_its_last_failure() {
        let health = Health::new();
        let now = Instant::now();
        for _ in 1..FAILURES {
            ask(&health, &Err(Reason::Status(502)), now);
        }
        ask(&health, &Err(Reason::Silent(REST)), now);
        assert_eq!(health.begin(Ask::Look, now).err(), Some(Reason::Resting { was_silent: true }));
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
        assert!(health.begin(Ask::Look, now).is_ok());
    }

    #[test]
    fn an_upstream_that_refuses_further_requests_is_left_alone_as_long_as_it_says() {
        let health = Health::new();
        let now = Instant::now();
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, "120".parse().unwrap());
        ask(&health, &Err(Reason::Limited { retry_after: retry_after(&headers) }), now);
        let limited = |at: Instant| health.begin(Ask::Manifest, at).err();
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(limited(at(119)), Some(Reason::Limited { retry_after: Duration::from_secs(1) }));
        assert_eq!(limited(at(120)), None);
        headers.insert("ratelimit-remaining", "0;w=21600".parse().unwrap());
        health.note_limit(&headers, at(120));
        assert_eq!(limited(at(120)), Some(Reason::Limited { retry_after: LIMITED }));
        for other in [Ask::Look, Ask::Blob, Ask::List] {
            assert!(health.begin(other, at(120)).is_ok(), "{other:?} does not count");
        }
        headers.insert("ratelimit-remaining", "76;w=21600".parse().unwrap());
        health.note_limit(&headers, at(120));
        assert_eq!(health.remaining(), Some(76));
    }

    #[test]
    fn a_refusal_limits_the_kind_that_was_refused_and_what_costs_more() {
        let now = Instant::now();
        let limited_by = |kind: Ask| {
            let health = Health::new();
            ask_for(&health, kind, &Err(Reason::Limited { retry_after: LIMITED }), now);
            ALL.into_iter().filter(|kind| health.begin(*kind, now).is_err()).collect::<Vec<_>>()
        };
        assert_eq!(limited_by(Ask::Manifest), [Ask::Manifest]);
        assert_eq!(limited_by(Ask::Look), [Ask::Look, Ask::Manifest]);
        assert_eq!(limited_by(Ask::Blob), [Ask::Blob]);
        assert_eq!(limited_by(Ask::List), [Ask::List]);
        let health = Health::new();
        health.limit_all(LIMITED, now);
        assert!(ALL.into_iter().all(|kind| health.begin(kind, now).is_err()));
        let health = Health::new();
        let behind = Reason::LimitedBehind { host: "cdn.example".to_owned(), retry_after: LIMITED };
        ask_for(&health, Ask::Blob, &Err(behind), now);
        assert!(health.begin(Ask::Blob, now).is_ok(), "the limit is another host's");
    }

    #[test]
    fn broken_streams_keep_new_blobs_away_and_nothing_else() {
        let health = Health::new();
        let mut now = Instant::now();
        let blob = |number: u32| Digest::of(Algorithm::Sha256, number.to_string().as_bytes());
        for _ in 0..2 * FAILURES {
            health.note_stream(&blob(0), false, now);
        }
        assert!(health.begin(Ask::Blob, now).is_ok(), "one damaged blob keeps nobody from others");
        for number in 1..2 * FAILURES {
            health.note_stream(&blob(number), false, now);
        }
        assert_eq!(health.begin(Ask::Blob, now).err(), Some(RESTING));
        assert!(health.is_resting());
        for other in [Ask::Look, Ask::Manifest, Ask::List, Ask::Rest, Ask::Size] {
            assert!(health.begin(other, now).is_ok(), "{other:?}");
        }
        now += REST;
        assert!(health.begin(Ask::Blob, now).is_ok(), "streams that broke in the rest made it no longer");
        ask_for(&health, Ask::Blob, &Ok(()), now);
        assert_eq!(health.begin(Ask::Blob, now).err(), Some(RESTING), "one stream tries");
        assert!(health.begin(Ask::Blob, now + REST).is_ok(), "its readers may have left");
        health.note_stream(&blob(0), false, now);
        now += REST;
        assert_eq!(health.begin(Ask::Blob, now).err(), Some(RESTING), "the second rest is longer");
        health.note_stream(&blob(0), true, now);
        assert!(health.begin(Ask::Blob, now).is_ok() && !health.is_resting());
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
