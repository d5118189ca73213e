//! Learns the time of a bucket's server from the `Date` of each answer.

use http::{HeaderMap, header};
use opendal::{Buffer, HttpBody, HttpTransport, HttpTransporter};

use super::Clock;

/// A transport that tells a clock the time of each answer.
pub(super) struct Dated {
    pub(super) transport: HttpTransporter,
    pub(super) clock: Clock,
}

impl HttpTransport for Dated {
    async fn fetch(&self, request: http::Request<Buffer>) -> opendal::Result<http::Response<HttpBody>> {
        let asked = self.clock.asks();
        let answer = self.transport.fetch(request).await?;
        if let Some(at) = said(answer.headers()) {
            self.clock.store_answered(at, asked);
        }
        Ok(answer)
    }
}

/// Returns the time of an answer in milliseconds since 1970. Returns `None` if a cache gave the answer, which `Age`
/// shows.
fn said(headers: &HeaderMap) -> Option<u64> {
    if headers.contains_key(header::AGE) {
        return None;
    }
    let date = headers.get(header::DATE)?.to_str().ok()?;
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    u64::try_from(at.as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_unless_a_cache_gave_the_answer() {
        let mut headers = HeaderMap::new();
        assert_eq!(said(&headers), None);
        headers.insert(header::DATE, "Fri, 27 Nov 2026 12:50:33 GMT".parse().unwrap());
        assert_eq!(said(&headers), Some(1_795_783_833_000));
        headers.insert(header::AGE, "3".parse().unwrap());
        assert_eq!(said(&headers), None);
        headers.remove(header::AGE);
        headers.insert(header::DATE, "yesterday".parse().unwrap());
        assert_eq!(said(&headers), None);
    }
}
