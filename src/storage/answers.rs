//! Checks a bucket's answers, so that a part of an answer never passes for the whole.
//!
//! A listing that ends early makes the remaining keys look absent. An ignored range gives other bytes than the caller
//! asked for. Both are temporary errors, which are retried.
//!
//! A 404 means an absent object only if it has the code of S3 for that. A bucket that is gone is 404 as well, and so is
//! the page of a proxy that finds no server behind it. Such a page may have status 200 as well: a write is confirmed only
//! with the entity tag of what was written.

use futures::stream;
use http::{Method, Request, Response, StatusCode, header};
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport, HttpTransporter, Result};

/// The error of a store that ignores ranges.
pub(super) const IGNORES_RANGE: &str = "the store answers a read of a range with the whole object";
/// The code of S3 for a bucket that does not exist.
pub(super) const NO_BUCKET: &str = "NoSuchBucket";
/// The codes of S3 for a single object, or a single multipart upload, that does not exist.
const ABSENT: [&str; 2] = ["NoSuchKey", "NoSuchUpload"];

/// An HTTP client of a bucket that checks answers.
pub(super) struct CheckedAnswers(pub(super) HttpTransporter);

impl HttpTransport for CheckedAnswers {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        let lists = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "list-type=2"));
        let range = request.headers().get(header::RANGE);
        let starts_later = range.is_some_and(|range| !range.as_bytes().starts_with(b"bytes=0-"));
        // a write that is answered 404 has failed, whatever the code
        let may_be_absent = !lists && matches!(*request.method(), Method::GET | Method::DELETE);
        let is_put = *request.method() == Method::PUT;
        let response = self.0.fetch(request).await?;
        if is_put && response.status() == StatusCode::OK && !response.headers().contains_key(header::ETAG) {
            return Err(wrong("the store confirms a write without an entity tag"));
        }
        if response.status() == StatusCode::NOT_FOUND && may_be_absent {
            let (response, text) = buffered(response).await?;
            return match code(&text) {
                Some(code) if ABSENT.contains(&code) => Ok(response),
                Some(NO_BUCKET) => Err(Error::new(ErrorKind::Unexpected, format!("{NO_BUCKET}: the bucket is gone"))),
                _ => Err(wrong("the store answers 404 without saying that there is no such key")),
            };
        }
        if response.status() != StatusCode::OK {
            return Ok(response);
        }
        if starts_later {
            return Err(wrong(IGNORES_RANGE));
        }
        if !lists {
            return Ok(response);
        }
        let (response, text) = buffered(response).await?;
        if is_whole(&text) { Ok(response) } else { Err(wrong("the store cut a listing off")) }
    }
}

/// Reads the body of an answer. Returns the same answer, and the text of its body.
async fn buffered(response: Response<HttpBody>) -> Result<(Response<HttpBody>, String)> {
    let (parts, mut body) = response.into_parts();
    let content = body.to_buffer().await?;
    let text = String::from_utf8_lossy(&content.to_bytes()).into_owned();
    let length = content.len() as u64;
    Ok((Response::from_parts(parts, HttpBody::new(stream::iter([Ok(content)]), Some(length))), text))
}

fn wrong(what: &'static str) -> Error {
    Error::new(ErrorKind::Unexpected, what).set_temporary()
}

/// Returns the code of an error of S3.
fn code(error: &str) -> Option<&str> {
    let (_, rest) = error.split_once("<Error")?.1.split_once("<Code>")?;
    rest.split_once("</Code>").map(|(code, _)| code.trim())
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
    fn an_error_of_s3_has_a_code_and_a_page_for_people_has_none() {
        let error = "<?xml version=\"1.0\"?>\n<Error>\n <Code>NoSuchKey</Code><Message>a</Message></Error>";
        assert_eq!(code(error), Some("NoSuchKey"));
        for other in ["", "404 page not found", "<html><Code>NoSuchKey</Code></html>", "<Error><Code>NoSuchKey"] {
            assert_eq!(code(other), None, "{other}");
        }
    }

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
