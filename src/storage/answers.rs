//! Checks a bucket's answers, so that a part of an answer never passes for the whole.
//!
//! A listing that ends early makes the remaining keys look absent. An ignored range gives other bytes than the caller
//! asked for. Both are temporary errors, which are retried.

use futures::stream;
use http::{Request, Response, StatusCode, header};
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport, HttpTransporter, Result};

/// The error of a store that ignores ranges.
pub(super) const IGNORES_RANGE: &str = "the store answers a read of a range with the whole object";

/// An HTTP client of a bucket that checks answers.
pub(super) struct CheckedAnswers(pub(super) HttpTransporter);

impl HttpTransport for CheckedAnswers {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        let lists = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "list-type=2"));
        let range = request.headers().get(header::RANGE);
        let starts_later = range.is_some_and(|range| !range.as_bytes().starts_with(b"bytes=0-"));
        let response = self.0.fetch(request).await?;
        if response.status() != StatusCode::OK {
            return Ok(response);
        }
        if starts_later {
            return Err(wrong(IGNORES_RANGE));
        }
        if !lists {
            return Ok(response);
        }
        let (parts, mut body) = response.into_parts();
        let text = body.to_buffer().await?;
        if !is_whole(&String::from_utf8_lossy(&text.to_bytes())) {
            return Err(wrong("the store cut a listing off"));
        }
        let length = text.len() as u64;
        Ok(Response::from_parts(parts, HttpBody::new(stream::iter([Ok(text)]), Some(length))))
    }
}

fn wrong(what: &'static str) -> Error {
    Error::new(ErrorKind::Unexpected, what).set_temporary()
}

/// Returns true if a page of a listing is complete, and has the token of the next page if there is one.
fn is_whole(page: &str) -> bool {
    let says = |element: &str| page.contains(element);
    let goes_on = says("<IsTruncated>true</IsTruncated>");
    let next = says("<NextContinuationToken>") && !says("<NextContinuationToken></NextContinuationToken>");
    page.trim_end().ends_with("</ListBucketResult>") && (!goes_on || next)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: &str = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents></Contents></ListBucketResult>\n";

    #[test]
    fn a_page_of_a_listing_is_whole_with_its_end_and_the_token_of_the_next_page() {
        assert!(is_whole(LAST));
        assert!((0..LAST.trim_end().len()).all(|end| !is_whole(&LAST[..end])), "a page that was cut off anywhere");
        assert!(!is_whole("<html><body>Please log in</body></html>"));
        let more = LAST.replace("false", "true");
        assert!(!is_whole(&more));
        let with = |token: &str| more.replace("<Contents>", &format!("{token}<Contents>"));
        assert!(is_whole(&with("<NextContinuationToken>abc</NextContinuationToken>")));
        assert!(!is_whole(&with("<NextContinuationToken></NextContinuationToken>")));
    }
}
