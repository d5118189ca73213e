//! Tells clients and the log whether a cache asked its upstreams.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Response};

use crate::mirror::{Answered, Served};

const CACHE: HeaderName = HeaderName::from_static("x-cache");

/// The way in which a cache answered.
#[derive(Clone, Debug)]
pub(super) struct FromCache {
    pub(super) served: Served,
    /// The host of the upstream that was asked and answered.
    pub(super) upstream: Option<Arc<str>>,
}

impl FromCache {
    /// Returns that of an answer for which no upstream was asked.
    pub(super) const fn hit() -> Self {
        Self { served: Served::Hit, upstream: None }
    }

    /// Returns that of an answer of a cache, and its value.
    pub(super) fn of<T>(answered: Answered<T>) -> (T, Self) {
        let Answered { value, served, upstream } = answered;
        (value, Self { served, upstream })
    }

    /// Adds `X-Cache` to an answer, and these facts for the log.
    pub(super) fn tell<B>(self, response: &mut Response<B>) {
        response.headers_mut().insert(CACHE, HeaderValue::from_static(self.served.as_str()));
        response.extensions_mut().insert(self);
    }
}
