//! An S3 server in this process: in memory, authenticated, strict where Amazon is strict (part sizes, part order, entity tags,
//! `If-None-Match`), counted, and able to fail on request.
//!
//! `SIMPLE_REGISTRY_TEST_S3` names a real server to use in its place, see [`external_endpoint`].

mod faults;
mod service;
mod sign;
mod store;
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::{AbortHandle, JoinSet};

pub(crate) use faults::{Fault, Late};
use faults::{Gate, Request};
pub(crate) use store::Quirk;
use store::State;

/// The only key that the in-process server knows, and the one that a real server is asked to know.
pub(crate) const ACCESS_KEY: &str = "minioadmin";
/// The secret to [`ACCESS_KEY`].
pub(crate) const SECRET_KEY: &str = "minioadmin";
/// The region that requests are signed for.
pub(crate) const REGION: &str = "us-east-1";
/// The smallest part but the last that S3 takes.
pub(crate) const MIN_PART: usize = 5 * 1024 * 1024;

/// The threads that every in-process S3 server runs on; apart from the tests', which block.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("start the S3 server's threads")
});

/// Returns the real S3 server to test on, if `SIMPLE_REGISTRY_TEST_S3` names one.
pub(crate) fn external_endpoint() -> Option<String> {
    std::env::var("SIMPLE_REGISTRY_TEST_S3").ok().filter(|endpoint| !endpoint.is_empty())
}

/// Makes `bucket` at `endpoint` through the S3 API.
pub(crate) fn create_bucket(endpoint: &str, bucket: &str) {
    sign::create_bucket(endpoint, bucket);
}

/// A running in-process S3 server; it stops, and what it holds is gone, when this is dropped.
pub(crate) struct S3 {
    endpoint: String,
    state: Arc<Mutex<State>>,
    gate: Arc<Gate>,
    accepting: AbortHandle,
}

impl S3 {
    /// Starts a server on a free port of 127.0.0.1, without any bucket.
    pub(crate) fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let gate = Arc::new(Gate::default());
        let mut builder = S3ServiceBuilder::new(service::Service { state: Arc::clone(&state) });
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let listener = RUNTIME.block_on(TcpListener::bind("127.0.0.1:0")).expect("bind the S3 server");
        let endpoint = format!("http://{}", listener.local_addr().expect("the S3 server's address"));
        let accepting = accept(listener, builder.build(), Arc::clone(&state), Arc::clone(&gate));
        let accepting = RUNTIME.spawn(accepting).abort_handle();
        Self { endpoint, state, gate, accepting }
    }

    /// Returns the address of the server, `http://127.0.0.1:<port>`.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Asks `decide` for the fault of each request from now on, by the name of the S3 operation (`PutObject`) and the key.
    pub(crate) fn fail(&self, decide: impl FnMut(&str, &str) -> Option<Fault> + Send + 'static) {
        self.gate.set(Some(Box::new(decide)));
    }

    /// Makes the server deviate from S3 in this way from now on; `None`: not at all.
    pub(crate) fn quirk(&self, quirk: Option<Quirk>) {
        self.state.lock().expect("state").quirk = quirk;
    }

    /// Lets everything work from now on. Stalled requests stay stalled.
    pub(crate) fn heal(&self) {
        self.gate.set(None);
    }

    /// Lets all go on that [`Fault::Hold`] holds, now and later.
    pub(crate) fn release(&self) {
        self.gate.release();
    }

    /// Returns the numbers of requests that [`Fault::Late`] has kept and that were carried out since.
    pub(crate) fn late(&self) -> Late {
        self.gate.late()
    }

    /// Steps this server's clock forward, which no other clock does.
    pub(crate) fn step_clock(&self, by: Duration) {
        self.state.lock().expect("state").ahead += by;
    }

    /// Steps this server's clock back, which no other clock does.
    pub(crate) fn step_clock_back(&self, by: Duration) {
        self.state.lock().expect("state").behind += by;
    }

    /// Returns the number of requests by the name of the S3 operation, with the refused and stalled ones.
    pub(crate) fn requests(&self) -> BTreeMap<&'static str, usize> {
        self.gate.requests()
    }

    /// Runs `work` while the server has no bucket.
    pub(crate) fn without_buckets<T>(&self, work: impl FnOnce() -> T) -> T {
        let buckets = std::mem::take(&mut self.state.lock().expect("state").buckets);
        let done = work();
        self.state.lock().expect("state").buckets = buckets;
        done
    }

    /// Returns the number of multipart uploads that were begun and neither completed nor aborted.
    pub(crate) fn open_multiparts(&self) -> usize {
        self.state.lock().expect("state").uploads.len()
    }

    /// Keys and sizes of the objects of `bucket`, in key order.
    pub(crate) fn objects(&self, bucket: &str) -> Vec<(String, usize)> {
        let state = self.state.lock().expect("state");
        state.buckets.get(bucket).into_iter().flatten().map(|(key, object)| (key.clone(), object.data.len())).collect()
    }

    /// Returns the number of bytes of objects and parts that came in. Copies inside of the server do not count.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.state.lock().expect("state").bytes_written
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, s3: S3Service, state: Arc<Mutex<State>>, gate: Arc<Gate>) {
    // dropped with this future, which ends every connection
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (s3, state, gate) = (s3.clone(), Arc::clone(&state), Arc::clone(&gate));
        let handle = hyper::service::service_fn(move |request: Request| {
            let (s3, state, gate) = (s3.clone(), Arc::clone(&state), Arc::clone(&gate));
            async move { gate.pass(&s3, &state, request).await }
        });
        connections.spawn(async move {
            // a cut answer and a client that went away end here too: neither is this server's failure
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), handle).await;
        });
        while connections.try_join_next().is_some() {}
    }
}
