//! Watches the socket of a connection: its pace, silent clients, long heads, and bytes that are not yet with the system.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

use super::{
    limits::Limits,
    shares::{Cut, Holder, Pace, Share},
};
use crate::identity::Client;

/// The bytes of a head that cost no share.
const USUAL_HEAD: u64 = 8 * 1024;
/// The most bytes of a head, for which a longer head than usual has a share.
pub(super) const LARGEST_HEAD: u32 = 64 * 1024;

/// The facts that a socket and the requests on it have in common.
pub(super) struct Wire {
    limits: Arc<Limits>,
    /// The client of this connection, which is an address.
    pub(super) holder: Holder,
    pace: Arc<Pace>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The bytes of the head that is coming in. None while a request is answered.
    head: Option<u64>,
    long_head: Option<Share>,
    /// The shares that the ends of answers hold until their last bytes are with the system.
    unsent: Vec<Box<dyn Send>>,
}

impl Wire {
    /// Creates the facts of a new connection.
    pub(super) fn new(limits: Arc<Limits>, client: Client, cut: Arc<Cut>) -> Arc<Self> {
        let pace = Arc::new(Pace::default());
        pace.waits();
        let holder = Holder { client, ends: Some((Arc::clone(&pace), cut)) };
        let state = State { head: Some(0), ..State::default() };
        Arc::new(Self { limits, holder, pace, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the whole head of a request is here.
    pub(super) fn head_came(&self) {
        let mut state = self.state();
        state.head = None;
        let share = state.long_head.take();
        drop(state);
        drop(share);
    }

    /// Notes that the next bytes belong to a head.
    pub(super) fn head_comes(&self) {
        self.state().head = Some(0);
    }

    /// Holds a value until all bytes that were written are with the system.
    pub(super) fn hold_until_sent(&self, value: impl Send + 'static) {
        self.state().unsent.push(Box::new(value));
    }

    /// Counts bytes that came. Returns false if they belong to a long head for which there is no memory.
    fn received(&self, bytes: u64) -> bool {
        self.pace.moved_and_waits(bytes);
        let mut state = self.state();
        let Some(head) = &mut state.head else { return true };
        *head += bytes;
        if *head <= USUAL_HEAD || state.long_head.is_some() {
            return true;
        }
        drop(state);
        let share = self.limits.head(&self.holder, LARGEST_HEAD.into());
        let has_share = share.is_some();
        self.state().long_head = share;
        has_share
    }

    fn sent(&self, bytes: usize) {
        self.pace.moved_and_waits(bytes as u64);
    }

    fn flushed(&self) {
        let unsent = std::mem::take(&mut self.state().unsent);
        drop(unsent);
    }
}

/// A connection on which a write without progress for a time is an error.
///
/// A read needs no such guard: hyper limits the time of a head, and `RequestBody` that of a body.
pub(super) struct NoStall {
    stream: TcpStream,
    wire: Arc<Wire>,
    silence: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl NoStall {
    /// Wraps a stream.
    pub(super) const fn new(stream: TcpStream, wire: Arc<Wire>, silence: Duration) -> Self {
        Self { stream, wire, silence, stalled: None }
    }

    /// Turns a wait that lasts too long into an error.
    fn watch<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let silence = self.silence;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        stalled
            .as_mut()
            .poll(context)
            .map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")))
    }

    /// Watches a write of some bytes.
    fn watch_write(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &polled {
            self.wire.sent(*bytes);
        }
        self.watch(context, polled)
    }
}

impl AsyncRead for NoStall {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let has_memory = self.wire.received((buffer.filled().len() - before) as u64);
        Poll::Ready(if has_memory { Ok(()) } else { Err(io::Error::other("too many clients send long heads at once")) })
    }
}

impl AsyncWrite for NoStall {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch_write(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.watch_write(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        if polled.is_ready() {
            self.wire.flushed();
        }
        self.watch(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
