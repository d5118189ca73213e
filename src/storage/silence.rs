//! Sends the requests to a bucket, and bounds the silence of its server instead of the duration of a request.
//!
//! A part of a large object may take minutes on a slow way. As long as its bytes move, the request goes on.

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use http::{Method, Request, Response};
use hyper::body::{Body, Frame, SizeHint};
use opendal::{
    Buffer, Error, ErrorKind, HttpBody, HttpTransport, Result,
    raw::{parse_content_encoding, parse_content_length},
};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

/// The bytes of a request that are handed to the connection at a time.
const PIECE: usize = 64 * 1024;
/// The bytes at the end of a request that the system may still hold when the connection has taken them.
const UNSEEN: u64 = 1024 * 1024;
/// The slowest way, in bytes per second, on which those bytes have time to arrive.
const SLOWEST: u64 = 64 * 1024;

static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(reqwest::Client::new);

/// An HTTP client of a bucket that gives a request up when nothing of it moves for this time.
pub(super) struct BoundedSilence(pub(super) Duration);

impl HttpTransport for BoundedSilence {
    async fn fetch(&self, request: Request<Buffer>) -> Result<Response<HttpBody>> {
        let limit = self.0;
        let (head, body) = request.into_parts();
        let is_head = head.method == Method::HEAD;
        let sent = Arc::new(Sent::new(body.len()));
        let mut sending = CLIENT.request(head.method, head.uri.to_string()).headers(head.headers).version(head.version);
        if !body.is_empty() {
            sending = sending.body(reqwest::Body::wrap(Watched::new(body, &sent)));
        }
        let mut received = sent.until_silent(limit, sending.send()).await?.map_err(failed)?;
        // the length of a body that is decoded on the way is another one
        let is_plain = !is_head && parse_content_encoding(received.headers())?.is_none();
        let length = if is_plain { parse_content_length(received.headers())? } else { None };
        let mut answer = Response::builder().status(received.status()).version(received.version()).extension(head.uri);
        if let Some(headers) = answer.headers_mut() {
            std::mem::swap(headers, received.headers_mut());
        }
        let stream = received.bytes_stream().map_ok(Buffer::from).map_err(failed);
        let stream = stream.try_filter(|piece| std::future::ready(!piece.is_empty()));
        let body = Received { stream: SyncStream(Mutex::new(Box::pin(stream))), limit, timer: None };
        answer.body(HttpBody::new(body, length)).map_err(|error| unexpected("read the answer").set_source(error))
    }
}

fn unexpected(what: &str) -> Error {
    Error::new(ErrorKind::Unexpected, what)
}

fn failed(error: reqwest::Error) -> Error {
    let is_temporary = error.is_request() || error.is_body() || error.is_decode();
    unexpected("the request to the bucket failed").with_temporary(is_temporary).set_source(error.without_url())
}

fn silent(limit: Duration) -> Error {
    unexpected(&format!("no byte moved for {} s", limit.as_secs())).set_temporary()
}

/// The progress of the body of a request.
struct Sent {
    length: u64,
    began: Instant,
    state: Mutex<State>,
}

struct State {
    /// The bytes that the connection has not taken.
    left: usize,
    moved: Instant,
}

impl Sent {
    fn new(length: usize) -> Self {
        let now = Instant::now();
        Self { length: length as u64, began: now, state: Mutex::new(State { left: length, moved: now }) }
    }

    fn took(&self, bytes: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.left = state.left.saturating_sub(bytes);
        state.moved = Instant::now();
    }

    /// Returns the time since which nothing moves.
    ///
    /// The system tells nothing of the bytes that it holds. So the last ones get the time that all before them took, or
    /// that a slow way takes for them.
    fn silent_since(&self) -> Instant {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.left > 0 {
            return state.moved;
        }
        let unseen = Duration::from_secs(self.length.min(UNSEEN) / SLOWEST);
        state.moved + unseen.max(state.moved - self.began)
    }

    /// Waits for the answer, until nothing moves for `limit`.
    async fn until_silent<T>(&self, limit: Duration, answer: impl Future<Output = T>) -> Result<T> {
        let mut answer = pin!(answer);
        let mut deadline = self.silent_since() + limit;
        loop {
            if let Ok(answer) = timeout_at(deadline, &mut answer).await {
                return Ok(answer);
            }
            deadline = self.silent_since() + limit;
            if deadline <= Instant::now() {
                return Err(silent(limit));
            }
        }
    }
}

/// The body of a request. It notes each piece that the connection takes.
struct Watched {
    rest: Buffer,
    piece: Bytes,
    left: u64,
    sent: Arc<Sent>,
}

impl Watched {
    fn new(body: Buffer, sent: &Arc<Sent>) -> Self {
        Self { left: body.len() as u64, rest: body, piece: Bytes::new(), sent: Arc::clone(sent) }
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        while self.piece.is_empty() {
            match Iterator::next(&mut self.rest) {
                Some(piece) => self.piece = piece,
                None => return Poll::Ready(None),
            }
        }
        let length = self.piece.len().min(PIECE);
        let taken = self.piece.split_to(length);
        self.left -= length as u64;
        self.sent.took(length);
        Poll::Ready(Some(Ok(Frame::data(taken))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

type Pieces = Pin<Box<dyn Stream<Item = Result<Buffer>> + Send>>;

/// A stream that only its owner polls, so threads may share it.
struct SyncStream(Mutex<Pieces>);

/// The body of an answer.
struct Received {
    stream: SyncStream,
    limit: Duration,
    /// The end of the silence that is allowed, while somebody waits for bytes.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stream for Received {
    type Item = Result<Buffer>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let limit = self.limit;
        let stream = self.stream.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Poll::Ready(next) = stream.poll_next_unpin(context) {
            self.timer = None;
            return Poll::Ready(next);
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
        timer.as_mut().poll(context).map(|()| Some(Err(silent(limit))))
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::BodyExt as _;
    use tokio::time::sleep;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_millis(500);
    const PIECES: usize = 8;

    /// Sends a body to a server that takes so many pieces of it, with a pause before each, and then answers or is
    /// silent. Returns the number of bytes taken.
    async fn send(takes: usize) -> Result<usize> {
        let body = Buffer::from(vec![1; PIECES * PIECE]);
        let sent = Arc::new(Sent::new(body.len()));
        let mut watched = Watched::new(body, &sent);
        let server = async move {
            let mut bytes = 0;
            for _ in 0..takes {
                sleep(PAUSE).await;
                bytes += watched.frame().await.unwrap().unwrap().into_data().unwrap().len();
            }
            if !watched.is_end_stream() {
                std::future::pending::<()>().await;
            }
            bytes
        };
        sent.until_silent(LIMIT, server).await
    }

    /// Receives a body from a server that sends so many pieces, with a pause before each, and is silent if there are
    /// more. Returns the number of bytes received.
    async fn receive(sends: usize) -> Result<usize> {
        let pieces = stream::unfold(0, move |number| async move {
            if number == sends && sends < PIECES {
                std::future::pending::<()>().await;
            }
            sleep(PAUSE).await;
            (number < PIECES).then(|| (Ok(Buffer::from(vec![0; 10])), number + 1))
        });
        let body = Received { stream: SyncStream(Mutex::new(Box::pin(pieces))), limit: LIMIT, timer: None };
        HttpBody::new(body, None).to_buffer().await.map(|body| body.len())
    }

    #[tokio::test]
    async fn a_request_and_an_answer_that_move_slowly_are_not_given_up() {
        let (taken, received) = tokio::join!(send(PIECES), receive(PIECES));
        assert_eq!((taken.unwrap(), received.unwrap()), (PIECES * PIECE, PIECES * 10));
    }

    #[tokio::test]
    async fn a_server_that_takes_or_sends_no_more_is_given_up_and_tried_again() {
        let (taken, received) = tokio::join!(send(2), receive(2));
        for error in [taken.unwrap_err(), received.unwrap_err()] {
            assert!(error.is_temporary() && error.to_string().contains("no byte moved"), "{error}");
        }
    }

    #[tokio::test]
    async fn the_last_bytes_get_the_time_that_those_before_them_took() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let silent_since = |length: u64, left, began: u32| {
            Sent { length, began: now - second * began, state: Mutex::new(State { left, moved: now }) }.silent_since()
        };
        assert_eq!(silent_since(1000, 0, 0), now, "a record");
        assert_eq!(silent_since(8 << 20, 1, 60), now, "bytes are left");
        assert_eq!(silent_since(8 << 20, 0, 60), now + 60 * second);
        assert_eq!(silent_since(8 << 20, 0, 0), now + 16 * second, "the system took all at once");
    }
}
